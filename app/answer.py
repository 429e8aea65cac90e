"""One answer on its way from the backend into the database and to the reader, in that order."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from app.errors import AppError, NotFoundError
from engine.errors import EngineError
from engine.messages import Delta, Finished, Loading, Queued, Reading
from viewers.errors import ViewerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.history.records import EndState
    from app.history.store import HistoryStore
    from engine.messages import Event, LoadStage

__all__ = ["AnswerUpdate", "Run", "Stop"]

_UPDATE_INTERVAL_S = 0.125
"""Eight updates a second: what a reader notices, and what a page can draw in a long conversation."""


class Stop(threading.Event):
    """Set to end an answer within one token; says in which state it is left."""

    state: EndState = "stopped"
    """``stopped`` by its reader, or ``interrupted`` by the end of the application."""


@dataclass(frozen=True, slots=True)
class AnswerUpdate:
    """An answer as it stands now; everything in it is in the database already."""

    thread_id: str
    turn_id: str
    answer_id: str
    text: str
    state: str
    """``streaming`` or an end state: complete, length, stopped, time_limit, failed, interrupted."""
    place_in_queue: int = 0
    """Above 0 while others are answered first."""
    loading: LoadStage | None = None
    """Stage of the model's loading, while it is not ready."""
    read_share: float = 0.0
    """Share of the load, then of the prompt the model has read, 0 to 1; of interest until the first text."""
    seconds_left: float | None = None
    """Estimate until the model is loaded, then until the first text, from the pace on this machine;
    ``None`` when there is none."""
    translation_of: str | None = None
    """Id of the answer this one says in the other language."""
    turns_left_out: int = 0
    """Oldest turns the model was not given, because the conversation no longer fits its context."""
    error: Exception | None = None


class Run:
    """One answer on its way into the database and to the reader, in that order."""

    def __init__(
        self,
        store: HistoryStore,
        thread_id: str,
        turn_id: str,
        answer_id: str,
        translation_of: str | None = None,
    ) -> None:
        self._store = store
        self.thread_id, self.turn_id, self.answer_id = thread_id, turn_id, answer_id
        self._translation_of = translation_of
        self._pieces: list[str] = []
        self._finished = False
        self.turns_left_out = 0
        self.usage: dict[str, object] = {}
        """Counts and times of an answer the model itself ended."""

    @property
    def text(self) -> str:
        """All that was said so far."""
        return "".join(self._pieces)

    def update(self, state: str = "streaming", **more: Any) -> AnswerUpdate:
        """Tell how the answer stands."""
        return AnswerUpdate(
            self.thread_id,
            self.turn_id,
            self.answer_id,
            self.text,
            state,
            translation_of=self._translation_of,
            turns_left_out=self.turns_left_out,
            **more,
        )

    def follow(self, events: Iterator[Event], stop: Stop) -> Iterator[AnswerUpdate]:
        """Store and pass on events, joined to a pace a page can draw; the first piece goes at once."""
        shown_at = 0.0
        for event in events:
            if isinstance(event, Finished):
                yield self.finish(event.reason, {**asdict(event.usage), **asdict(event.timings)})
                return
            if isinstance(event, Delta):
                self._pieces.append(event.text)
            if stop.is_set():
                yield self.finish(stop.state)
                return
            if (
                isinstance(event, Loading | Queued | Reading)
                or time.monotonic() - shown_at >= _UPDATE_INTERVAL_S
            ):
                self._store.grow(self.answer_id, self.text)
                yield self.update(**_progress(event))
                shown_at = time.monotonic() if self._pieces else 0.0
        raise EngineError(reason="the backend ended without a final event")

    def finish(self, state: EndState, usage: dict[str, object] | None = None) -> AnswerUpdate:
        """Store the end of the answer, once."""
        if not self._finished:
            self._finished = True
            self.usage = usage or {}
            self._store.finish(self.answer_id, self.text, state, usage=usage)
        return self.update(state)

    def fail(self, error: Exception) -> AnswerUpdate:
        """Store why the answer ended; one deleted meanwhile has nowhere to be stored."""
        known = isinstance(error, EngineError | ViewerError | AppError)
        key, values = (error.key, error.values) if known else ("app.unexpected", {})  # type: ignore[attr-defined]
        with suppress(NotFoundError):
            self._store.finish(
                self.answer_id,
                self.text,
                "failed",
                error_key=key,
                error_values={name: str(value) for name, value in values.items()},
            )
        return self.update("failed", error=error)


def _progress(event: Event) -> dict[str, Any]:
    """Tell how far the work is before the first text."""
    if isinstance(event, Loading):
        share = event.fraction or 0.0
        return {"loading": event.stage, "read_share": share, "seconds_left": event.seconds_left}
    if isinstance(event, Queued):
        return {"place_in_queue": event.place}
    if isinstance(event, Reading):
        share = event.tokens_read / event.prompt_tokens
        return {"read_share": share, "seconds_left": event.seconds_left}
    return {}
