"""A model in this process: prefill, decode, sampling, stop, streaming detokeniser.

In: messages. Out: events, in whole characters. Work is done in the thread that reads the stream, one
piece at a time: a chunk of the prompt or one token of the answer. Between pieces another stream may take
its turn, so that two readers share the model fairly, and closing a stream stops it at once.
It knows nothing of chat templates (``engine.prompt``) or of files (``engine.checkpoint``).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.cache import PrefixCache, places_of
from engine.detokenise import detokeniser
from engine.errors import AdapterUnknownError, BackendUnavailableError
from engine.messages import Delta, Finished, Queued, Reading, Started, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from engine.grounding import ImageDependence
    from engine.loaded import LoadedModel
    from engine.messages import Event, FinishReason, GenerationOptions, ImagePart, Message
    from engine.prompt import Rendered

__all__ = ["LocalBackend"]

_MIB = 1024 * 1024
_PLACE_POLL_S = 0.2
_REMEMBERED_ANSWERS = 1024


class KeyValueState:
    """Keys and values of a prompt, as :class:`engine.cache.PrefixCache` keeps them."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    @property
    def length(self) -> int:
        """Places read."""
        return int(self.cache.get_seq_length())

    @property
    def bytes(self) -> int:
        """Memory of all layers, in bytes."""
        return sum(
            tensor.numel() * tensor.element_size()
            for layer in self.cache.layers
            if layer.is_initialized
            for tensor in (layer.keys, layer.values)
        )

    def copy(self, length: int) -> KeyValueState:
        """Return an independent state of the first ``length`` places."""
        from transformers import DynamicCache

        data = [
            (layer.keys[..., :length, :].clone(), layer.values[..., :length, :].clone())
            for layer in self.cache.layers
        ]
        return KeyValueState(DynamicCache(ddp_cache_data=data))


class LocalBackend:
    """Answers with a :class:`engine.checkpoint.LoadedModel`.

    Parameters
    ----------
    loaded : LoadedModel
        The model; this object alone calls it from now on.
    display_name : str, optional
        What answers, for the page and the history; the model's own name by default.
    prefill_chunk : int
        Prompt tokens read between two moments at which a stream can be stopped or another can take its
        turn. 256 keeps that below a second for 8B on a GPU and for small models on a CPU.
    cache_bytes : int
        Memory for keys and values of earlier turns: 8B needs 128 KiB a token in bfloat16.
    feature_bytes : int
        Memory for projected image features, 4.7 MB an image for 8B in bfloat16.
    active_streams : int
        Streams that share the model; further ones wait and are told their place.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        display_name: str | None = None,
        prefill_chunk: int = 256,
        cache_bytes: int = 2048 * _MIB,
        feature_bytes: int = 256 * _MIB,
        active_streams: int = 4,
    ) -> None:
        self._name = display_name or loaded.name
        self._device = _Computer(loaded, prefill_chunk, cache_bytes, feature_bytes)
        self._gate = _Gate(active_streams)

    @property
    def name(self) -> str:
        """What answers."""
        return self._name

    def use_adapter(self, name: str | None) -> None:
        """Answer with this adapter from the next question on; answers being written keep theirs.

        Parameters
        ----------
        name : str or None
            An adapter attached to the model (:class:`engine.adapters.Adapters`); ``None`` is the base.

        Raises
        ------
        KeyError
            If no adapter of that name is attached.
        """
        self._device.loaded.adapters.key(name)
        self._device.adapter = name

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """Attached adapters, for :meth:`use_adapter`."""
        return self._device.loaded.adapters.names

    def attach_adapter(self, folder: Path, name: str | None = None, *, any_base: bool = False) -> str:
        """Attach an adapter between two tokens; see :meth:`engine.adapters.Adapters.attach`."""
        with self._device.alone():
            return self._device.loaded.adapters.attach(folder, name, any_base=any_base)

    def detach_adapter(self, name: str) -> None:
        """Take an adapter off; answers being written with it end with an error.

        Raises
        ------
        KeyError
            If no adapter of that name is attached.
        """
        with self._device.alone():
            self._device.loaded.adapters.detach(name)
            if self._device.adapter == name:
                self._device.adapter = None

    def close(self) -> None:
        """Refuse further work and free the caches; a running stream ends at its next token."""
        self._device.close()

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Answer the last user message; see :class:`engine.backend.Backend`.

        Raises
        ------
        PromptTooLongError, ConversationShapeError
            Before any computing.
        BackendUnavailableError
            If the backend was closed, or memory ran out.
        """
        self._device.check_open()
        adapter = self._device.chosen(options.adapter)
        renderer = self._device.loaded.renderer
        rendered = renderer.render(messages, answer_ids=self._device.answers)
        room = renderer.answer_room(len(rendered.ids), options.max_new_tokens)
        arrived = time.monotonic()
        ticket = self._gate.enter()
        try:
            while (place := self._gate.wait(ticket)) > 0:
                yield Queued(place)
            queued_s = time.monotonic() - arrived
            yield Started(len(rendered.ids))
            images = {image.digest: image for message in messages for image in message.images}
            run = _Run(self._device, rendered, images, options, room, adapter=adapter)
            yield from run.events(queued_s)
        finally:
            self._gate.leave(ticket)

    def log_likelihoods(
        self,
        messages: Sequence[Message],
        stopped: Callable[[], bool] = bool,
        adapter: str | None = None,
    ) -> list[tuple[int, float]] | None:
        """Tell how likely the model finds the last answer of a conversation.

        Parameters
        ----------
        messages : sequence of Message
            Ends with the assistant message to be judged.
        stopped : callable
            Asked between pieces of work; once it returns ``True`` the work ends.
        adapter : str, optional
            Adapter to judge with, as in :class:`engine.messages.GenerationOptions`.

        Returns
        -------
        list of (token id, log-likelihood) or None
            One entry for each token of the answer and its end of turn, natural logarithm; ``None`` when
            stopped.

        Raises
        ------
        ConversationShapeError, PromptTooLongError, BackendUnavailableError
            As :meth:`stream`.
        """
        self._device.check_open()
        renderer = self._device.loaded.renderer
        rendered = renderer.render(messages, for_training=True, answer_ids=self._device.answers)
        renderer.answer_room(len(rendered.ids) - 1, 1)
        images = {image.digest: image for message in messages for image in message.images}
        return _Scoring(self._device, rendered, images, self._device.chosen(adapter)).run(stopped)

    def image_dependence(
        self,
        messages: Sequence[Message],
        stopped: Callable[[], bool] = bool,
        adapter: str | None = None,
    ) -> ImageDependence | None:
        """Tell how much the last answer depends on its image; see :func:`engine.grounding.measure`."""
        from engine.grounding import measure

        return measure(self, messages, stopped, adapter)

    def text_of(self, ids: Sequence[int]) -> str:
        """Text of token ids, control tokens left out."""
        return self._device.loaded.renderer.decode(ids)


class _Computer:
    """The model, its caches and the one lock around them."""

    def __init__(self, loaded: LoadedModel, chunk: int, cache_bytes: int, feature_bytes: int) -> None:
        self.loaded = loaded
        self.chunk = chunk
        self.states: PrefixCache[KeyValueState] = PrefixCache(cache_bytes)
        self.answers: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        """Ids of the newest answers by their text; a conversation brings its answers back as text."""
        self.adapter = loaded.adapters.active
        """The adapter that questions asked from now on are answered with."""
        self._features: OrderedDict[tuple[str, str], torch.Tensor] = OrderedDict()
        self._feature_bytes = feature_bytes
        self._lock = _FairLock()
        self._closed = False

    def chosen(self, adapter: str | None) -> str | None:
        """Name of the adapter a question asks for, ``None`` for the base.

        Raises
        ------
        AdapterUnknownError
            If none of that name is attached.
        """
        if adapter is None:
            return self.adapter
        names = self.loaded.adapters.names
        if adapter and adapter not in names:
            expected = ", ".join(names) or "none"
            raise AdapterUnknownError(source=self.loaded.name, found=adapter, expected=expected)
        return adapter or None

    def close(self) -> None:
        self._closed = True
        self.states.clear()

    def check_open(self) -> None:
        if self._closed:
            raise BackendUnavailableError(reason="it was closed")

    def remember(self, text: str, answer: Sequence[int]) -> None:
        """Keep the ids of an answer, under the text that was shown, for the conversation's next turn."""
        if text:
            self.answers[text] = tuple(answer)
        while len(self.answers) > _REMEMBERED_ANSWERS:
            self.answers.popitem(last=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Change the model while nobody computes with it."""
        with self._lock:
            self.check_open()
            yield

    @contextmanager
    def turn(self, adapter: str | None) -> Iterator[None]:
        """Use the model alone, with this adapter, for one piece of work."""
        import torch

        with self._lock, torch.inference_mode():
            self.check_open()
            if self.loaded.adapters.active != adapter:
                if adapter is not None and adapter not in self.loaded.adapters.names:
                    raise BackendUnavailableError(reason="its adapter was taken off")
                self.loaded.adapters.use(adapter)
            try:
                yield
            except (MemoryError, RuntimeError) as error:
                if not _memory_ran_out(error):
                    raise
                self.states.clear()
                raise BackendUnavailableError(reason="memory ran out") from error

    def image_features(self, image: ImagePart) -> torch.Tensor:
        """Projected features of one image, shape (image tokens, hidden size), cached by content hash.

        The adapter is part of the key: it may bring a projector of its own.
        """
        key = (self.loaded.cache_key, image.digest)
        cached = self._features.get(key)
        if cached is not None:
            self._features.move_to_end(key)
            return cached
        features = self.loaded.image_features(image)
        self._features[key] = features
        while sum(f.numel() * f.element_size() for f in self._features.values()) > self._feature_bytes:
            self._features.popitem(last=False)
        return features

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """Token embeddings, shape (1, tokens, hidden size)."""
        import torch

        embeddings: torch.Tensor = self.loaded.model.get_input_embeddings()(
            torch.tensor([list(ids)], device=self.loaded.device)
        )
        return embeddings

    def embed_prompt(
        self, rendered: Rendered, images: Mapping[str, ImagePart], start: int, stop: int
    ) -> torch.Tensor:
        """Embeddings of a piece of a prompt, image features spliced in."""
        embeddings = self.embed(rendered.ids[start:stop])
        for slot in rendered.image_slots:
            a, b = max(slot.start, start), min(slot.start + slot.length, stop)
            if a < b:
                features = self.image_features(images[slot.digest])
                if features.shape[0] != slot.length:
                    raise ValueError(f"{slot.length} image tokens, but {features.shape[0]} image features")
                piece = features[a - slot.start : b - slot.start]
                embeddings[0, a - start : b - start] = piece.to(embeddings)
        return embeddings

    def hidden(self, embeddings: torch.Tensor, state: KeyValueState) -> torch.Tensor:
        """Run the language model; last hidden states, shape (tokens, hidden size)."""
        output = self.loaded.model.model.language_model(
            inputs_embeds=embeddings, past_key_values=state.cache, use_cache=True
        )
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden

    def logits(self, embeddings: torch.Tensor, state: KeyValueState) -> torch.Tensor:
        """Logits of the token after the last position, shape (vocabulary,), float32."""
        logits: torch.Tensor = self.loaded.model.lm_head(self.hidden(embeddings, state)[-1:])[0].float()
        logits[list(self.loaded.suppressed_ids)] = float("-inf")
        return logits

    def empty_state(self) -> KeyValueState:
        """State of a conversation of which nothing was read."""
        from transformers import DynamicCache

        return KeyValueState(DynamicCache(config=self.loaded.model.config.get_text_config()))


class _Run:
    """One answer being computed."""

    def __init__(
        self,
        computer: _Computer,
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
        self._state = state or computer.empty_state()
        self._whole = True
        self._answer: list[int] = []
        self._shown: list[str] = []
        self._logits: torch.Tensor | None = None

    def events(self, queued_s: float) -> Iterator[Event]:
        began = time.monotonic()
        first_token_s: float | None = None
        reason: FinishReason = "length"
        try:
            yield from self._prefill()
            for text, ended in self._decode():
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
            self._keep()
        usage = Usage(len(self._rendered.ids), len(self._answer), self._reused)
        yield Finished(reason, usage, Timings(queued_s, first_token_s, time.monotonic() - began))

    def _prefill(self) -> Iterator[Event]:
        """Read what the cache does not hold, in chunks."""
        total, began = len(self._rendered.ids), time.monotonic()
        for start in range(self._reused, total, self._computer.chunk):
            stop = min(start + self._computer.chunk, total)
            with self._computer.turn(self._adapter):
                self._step(self._computer.embed_prompt(self._rendered, self._images, start, stop))
            pace = (time.monotonic() - began) / (stop - self._reused)
            yield Reading(stop, total, pace * (total - stop))

    def _step(self, embeddings: torch.Tensor) -> None:
        # an error inside a forward pass leaves layers of different lengths: such a state is not kept
        self._whole = False
        self._logits = self._computer.logits(embeddings, self._state)
        self._whole = True

    def _decode(self) -> Iterator[tuple[str, bool]]:
        """Yield the text each new token completes, and whether the answer ended with it."""
        import torch

        loaded = self._computer.loaded
        stream = detokeniser(loaded.tokenizer)
        generator = torch.Generator(device=loaded.device).manual_seed(self._options.seed)
        for number in range(self._room):
            if number:
                with self._computer.turn(self._adapter):
                    self._step(self._computer.embed(self._answer[-1:]))
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
        if self._whole and len(fed):
            self._computer.states.put(self._key, fed, self._state)
            self._computer.remember("".join(self._shown), self._answer)


class _Scoring:
    """How likely an answer is, read in chunks like a prompt."""

    def __init__(
        self,
        computer: _Computer,
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
        prompt = places_of(self._rendered)[: self._start]
        state = self._computer.states.take(self._key, prompt) or self._computer.empty_state()
        scores: list[tuple[int, float]] = []
        for start in range(state.length, self._end - 1, self._computer.chunk):
            if stopped():
                return None
            stop = min(start + self._computer.chunk, self._end - 1)
            with self._computer.turn(self._adapter):
                embeddings = self._computer.embed_prompt(self._rendered, self._images, start, stop)
                hidden = self._computer.hidden(embeddings, state)
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


def _memory_ran_out(error: Exception) -> bool:
    """Tell an allocation that failed from another error; torch's CPU allocator raises a bare RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


class _FairLock:
    """A lock that is given in the order it was asked for, so that streams alternate."""

    def __init__(self) -> None:
        self._waiting: deque[threading.Event] = deque()
        self._held = False
        self._guard = threading.Lock()

    def __enter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False


class _Gate:
    """Admits a number of streams at once, the others in order of arrival."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tickets: list[object] = []
        self._changed = threading.Condition()

    def enter(self) -> object:
        with self._changed:
            ticket = object()
            self._tickets.append(ticket)
            return ticket

    def wait(self, ticket: object) -> int:
        """Wait a moment; 0 when admitted, else the place among those waiting, 1 being next."""
        with self._changed:
            place = self._place(ticket)
            if place > 0:
                self._changed.wait(_PLACE_POLL_S)
                place = self._place(ticket)
            return place

    def _place(self, ticket: object) -> int:
        return max(0, self._tickets.index(ticket) + 1 - self._capacity)

    def leave(self, ticket: object) -> None:
        with self._changed:
            self._tickets.remove(ticket)
            self._changed.notify_all()
