"""A model in this process: messages in, events out.

Work is done in the thread that reads the stream, one piece at a time: a chunk of the prompt or one token
of the answer. Between pieces another stream may take its turn, so that two readers share the model fairly;
tokens of answers that are written at the same time are computed together. Closing a stream stops it at once.
It knows nothing of chat templates (``engine.prompt``) or of files (``engine.checkpoint``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.answering import Answer, Scoring
from engine.computer import Computer
from engine.messages import Queued, Started
from engine.scheduler import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from engine.grounding import ImageDependence
    from engine.loaded import LoadedModel
    from engine.messages import Event, GenerationOptions, Message

__all__ = ["LocalBackend"]

_MIB = 1024 * 1024


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
    together : int
        Most answers whose next tokens are computed in one pass; 1 computes each alone.
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
        together: int = 8,
    ) -> None:
        self._name = display_name or loaded.name
        self._device = Computer(loaded, prefill_chunk, cache_bytes, feature_bytes, together)
        self._gate = Gate(active_streams)

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
            run = Answer(self._device, rendered, images, options, room, adapter=adapter)
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
        return Scoring(self._device, rendered, images, self._device.chosen(adapter)).run(stopped)

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
