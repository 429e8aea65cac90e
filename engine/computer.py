"""A loaded model with its caches, computing one thing at a time.

In: token ids, images, and the states of conversations. Out: hidden states and logits. It knows nothing
of answers as such (``engine.answering``), and of fairness only that there are turns (``engine.scheduler``).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.cache import PrefixCache
from engine.errors import AdapterUnknownError, BackendUnavailableError
from engine.keys_values import KeyValueState, Step, use_streams
from engine.scheduler import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from engine.loaded import LoadedModel
    from engine.messages import ImagePart
    from engine.prompt import Rendered

__all__ = ["Computer", "Token"]

_REMEMBERED_ANSWERS = 1024
_CHUNK_BESIDE_OTHERS = 64
"""Prompt tokens read at once while somebody else's answer is being written."""

Token = tuple[str | None, int, KeyValueState]
"""A token to be read behind a state, and the adapter to read it with."""


class Computer:
    """The model, its caches and the turns in which it is used.

    Parameters
    ----------
    loaded : LoadedModel
        Its language model is made to attend and multiply for several conversations at once.
    chunk : int
        Prompt tokens read at once.
    cache_bytes, feature_bytes : int
        Memory for keys and values, and for image features, of earlier questions.
    together : int
        Most answers whose tokens are computed at once.
    """

    def __init__(
        self, loaded: LoadedModel, chunk: int, cache_bytes: int, feature_bytes: int, together: int
    ) -> None:
        import torch

        from engine.few_rows import use_few_rows

        use_streams(loaded.model.model.language_model)
        use_few_rows(loaded.model)
        self.loaded = loaded
        self.chunk = chunk
        self.states: PrefixCache[KeyValueState] = PrefixCache(cache_bytes)
        self.answers: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        """Ids of the newest answers by their text; a conversation brings its answers back as text."""
        self.adapter = loaded.adapters.active
        """The adapter that questions asked from now on are answered with."""
        self.turns: Turns[Token, torch.Tensor] = Turns(self._next, together)
        self._suppressed = torch.tensor(loaded.suppressed_ids, dtype=torch.int64, device=loaded.device)
        self._features: OrderedDict[tuple[str, str, bool], torch.Tensor] = OrderedDict()
        self._feature_bytes = feature_bytes
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
        """Refuse further work, forget what was read."""
        self._closed = True
        self.states.clear()

    def check_open(self) -> None:
        """Raise ``BackendUnavailableError`` once it was closed."""
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
        with self.turns.alone():
            self.check_open()
            yield

    @contextmanager
    def turn(self, adapter: str | None) -> Iterator[None]:
        """Use the model alone, with this adapter, for one piece of work."""
        with self.turns.alone(), self._ready(adapter):
            yield

    @contextmanager
    def _ready(self, adapter: str | None) -> Iterator[None]:
        import torch

        with torch.inference_mode():
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

    def chunk_for(self, owner: object) -> int:
        """Prompt tokens to be read at once: fewer while others, who must wait for it, are writing."""
        return min(self.chunk, _CHUNK_BESIDE_OTHERS) if self.turns.others_write(owner) else self.chunk

    def next_logits(
        self, owner: object, adapter: str | None, token: int, state: KeyValueState
    ) -> torch.Tensor:
        """Read one token behind a state, along with those of other answers; logits as :meth:`logits`."""
        return self.turns.together(adapter, owner, (adapter, token, state))

    def _next(self, tokens: Sequence[Token]) -> Sequence[torch.Tensor]:
        import torch

        with self._ready(tokens[0][0]):
            ids = torch.tensor([[token] for _, token, _ in tokens], device=self.loaded.device)
            embeddings = self.loaded.model.get_input_embeddings()(ids)
            hidden = self.hidden(embeddings, [state for _, _, state in tokens])
            return list(self._heads(hidden[:, -1]))

    def image_features(self, image: ImagePart, *, coarse: bool = False) -> torch.Tensor:
        """Projected features of one image, shape (image tokens, hidden size), cached by content hash.

        The adapter is part of the key: it may bring a projector of its own.
        """
        key = (self.loaded.cache_key, image.digest, coarse)
        cached = self._features.get(key)
        if cached is not None:
            self._features.move_to_end(key)
            return cached
        features = self.loaded.image_features(image, coarse=coarse)
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
        """Embeddings of a piece of a prompt, image features spliced in, shape (1, tokens, hidden size)."""
        embeddings = self.embed(rendered.ids[start:stop])
        for slot in rendered.image_slots:
            a, b = max(slot.start, start), min(slot.start + slot.length, stop)
            if a < b:
                features = self.image_features(images[slot.digest], coarse=slot.coarse)
                if features.shape[0] != slot.length:
                    raise ValueError(f"{slot.length} image tokens, but {features.shape[0]} image features")
                piece = features[a - slot.start : b - slot.start]
                embeddings[0, a - start : b - start] = piece.to(embeddings)
        return embeddings

    def hidden(self, embeddings: torch.Tensor, states: Sequence[KeyValueState]) -> torch.Tensor:
        """Run the language model over new places of one or several conversations.

        Parameters
        ----------
        embeddings : tensor, shape (conversations, places, hidden size)
        states : sequence of KeyValueState
            What was read before, one for each conversation; counts the new places afterwards.

        Returns
        -------
        tensor, shape (conversations, places, hidden size)
            Last hidden states.
        """
        step = Step(states, embeddings.shape[1])
        output = self.loaded.model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=step.positions(embeddings.device),
            # four dimensions are taken for a mask made already; the step makes its own
            attention_mask=embeddings.new_zeros(1, 1, 1, 1),
            past_key_values=step,
            use_cache=True,
        )
        step.done()
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def logits(self, embeddings: torch.Tensor, state: KeyValueState) -> torch.Tensor:
        """Logits of the token after the last position of one conversation, shape (vocabulary,), float32."""
        return self._heads(self.hidden(embeddings, [state])[:, -1])[0]

    def _heads(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.loaded.model.lm_head(hidden).float()
        return logits.index_fill_(-1, self._suppressed, float("-inf"))


def _memory_ran_out(error: Exception) -> bool:
    """Tell an allocation that failed from another error; torch's CPU allocator raises a bare RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )
