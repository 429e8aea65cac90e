"""One answer: the prompt read in chunks, tokens sampled, text given in whole letters; or one judged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.cache import places_of
from engine.detokenise import detokeniser
from engine.keys_values import KeyValueState
from engine.messages import Delta, Finished, Reading, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

    from engine.computer import Computer
    from engine.messages import Event, FinishReason, GenerationOptions, ImagePart
    from engine.prompt import Rendered

__all__ = ["Answer", "Scoring"]


class Answer:
    """An answer being computed, in the thread that reads its events."""

    def __init__(
        self,
        computer: Computer,
        rendered: Rendered,
        images: Mapping[str, ImagePart],
        options: GenerationOptions,
        room: int,
        *,
        adapter: str | None,
    ) -> None:
        self._computer = computer
        self._rendered = rendered
        self._images = images
        self._options = options
        self._room = room
        self._places = places_of(rendered)
        self._adapter = adapter
        self._key = computer.loaded.adapters.key(self._adapter)
        state = computer.states.take(self._key, self._places)
        self._reused = state.length if state else 0
        self._state = state or KeyValueState()
        self._answer: list[int] = []
        self._shown: list[str] = []
        self._logits: torch.Tensor | None = None

    def events(self, queued_s: float) -> Iterator[Event]:
        """Read, write, and give back to the cache what was read."""
        began = time.monotonic()
        first_token_s: float | None = None
        reason: FinishReason = "length"
        try:
            yield from self._prefill(began)
            if self._logits is None:
                reason = "time_limit"
            for text, ended in self._decode() if self._logits is not None else ():
                elapsed = time.monotonic() - began
                first_token_s = elapsed if first_token_s is None else first_token_s
                if text:
                    self._shown.append(text)
                    yield Delta(text)
                limit = self._options.time_limit_s
                if ended or (limit is not None and elapsed - first_token_s > limit):
                    reason = "complete" if ended else "time_limit"
                    break
        finally:
            self._computer.turns.leave(self)
            self._keep()
        usage = Usage(len(self._rendered.ids), len(self._answer), self._reused)
        yield Finished(reason, usage, Timings(queued_s, first_token_s, time.monotonic() - began))

    def _prefill(self, began: float) -> Iterator[Event]:
        """Read what the cache does not hold, in chunks; without logits when time ran out before the end."""
        total, stop = len(self._rendered.ids), self._reused
        limit = self._options.first_token_limit_s
        while stop < total:
            if limit is not None and self._logits is not None and time.monotonic() - began > limit:
                self._logits = None
                return
            start, stop = stop, min(stop + self._computer.chunk_for(self), total)
            with self._computer.turn(self._adapter):
                embeddings = self._computer.embed_prompt(self._rendered, self._images, start, stop)
                self._logits = self._computer.logits(embeddings, self._state)
            pace = (time.monotonic() - began) / (stop - self._reused)
            yield Reading(stop, total, pace * (total - stop))

    def _decode(self) -> Iterator[tuple[str, bool]]:
        """Yield the text each new token completes, and whether the answer ended with it."""
        import torch

        loaded = self._computer.loaded
        stream = detokeniser(loaded.tokenizer)
        generator = torch.Generator(device=loaded.device).manual_seed(self._options.seed)
        for number in range(self._room):
            if number:
                self._logits = self._computer.next_logits(self, self._adapter, self._answer[-1], self._state)
            token = self._sample(generator)
            if token in loaded.stop_ids:
                yield "", True
                return
            self._answer.append(token)
            yield stream.step(token), False

    def _sample(self, generator: torch.Generator) -> int:
        import torch

        logits = self._logits
        if logits is None:
            raise RuntimeError("sampling before the prompt was read")
        if self._options.temperature == 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / self._options.temperature, dim=-1)
        ordered, ids = probabilities.sort(descending=True)
        # a token stays while what stands before it has not reached top_p: the first always stays
        ordered[ordered.cumsum(0) - ordered >= self._options.top_p] = 0
        return int(ids[torch.multinomial(ordered, 1, generator=generator)])

    def _keep(self) -> None:
        """Give what was read back to the cache, under the ids really fed."""
        import numpy as np

        fed = np.concatenate([self._places, np.array(self._answer, np.int64)])[: self._state.length]
        if len(fed):
            self._computer.states.put(self._key, fed, self._state)
            self._computer.remember("".join(self._shown), self._answer)


class Scoring:
    """How likely an answer is, read in chunks like a prompt."""

    def __init__(
        self,
        computer: Computer,
        rendered: Rendered,
        images: Mapping[str, ImagePart],
        adapter: str | None,
    ) -> None:
        self._computer = computer
        self._rendered = rendered
        self._images = images
        self._adapter = adapter
        self._key = computer.loaded.adapters.key(self._adapter)
        # the answer judged is the last run of learned tokens
        self._end = len(rendered.ids)
        self._start = self._end - rendered.loss_mask[::-1].index(False)

    def run(self, stopped: Callable[[], bool]) -> list[tuple[int, float]] | None:
        """Return one (token id, log-likelihood) for each token of the answer; ``None`` when stopped."""
        prompt = places_of(self._rendered)[: self._start]
        state = self._computer.states.take(self._key, prompt) or KeyValueState()
        scores: list[tuple[int, float]] = []
        stop = state.length
        while stop < self._end - 1:
            if stopped():
                return None
            start, stop = stop, min(stop + self._computer.chunk_for(self), self._end - 1)
            with self._computer.turn(self._adapter):
                embeddings = self._computer.embed_prompt(self._rendered, self._images, start, stop)
                hidden = self._computer.hidden(embeddings, [state])[0]
                scores += self._scores(hidden, start)
        return scores

    def _scores(self, hidden: torch.Tensor, start: int) -> list[tuple[int, float]]:
        """Log-likelihoods of the answer's tokens that follow the positions just read."""
        import torch

        first = max(start, self._start - 1)
        after = self._rendered.ids[first + 1 : start + len(hidden) + 1]
        if not after:
            return []
        logits = self._computer.loaded.model.lm_head(hidden[first - start :]).float()
        chosen = torch.tensor(after, device=logits.device)[:, None]
        values = torch.log_softmax(logits, dim=-1).gather(1, chosen)[:, 0]
        return list(zip(after, values.tolist(), strict=True))
