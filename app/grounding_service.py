"""How much a stored answer depends on its image: measured after it was shown, kept with it.

In: an owner and the ids of an answer. Out: the value the page shows and the history keeps. A measurement
takes about as long as reading the conversation once more, so it gives way at once: a new question of the
same owner ends it, and so does whoever asked for it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.conversation import answer_in, messages, until
from app.history.lines import is_plain
from engine.backend import MeasuresGrounding
from engine.errors import PromptTooLongError
from engine.messages import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from app.history.records import Answer, Turn
    from app.history.store import HistoryStore
    from engine.grounding import ImageDependence
    from engine.messages import ImagePart
    from viewers.shown import Shown

__all__ = ["GroundingService"]

_JUDGED = ("complete", "length", "stopped", "time_limit")
"""States of answers that are judged: what was said is the model's own, to its end or not."""


class GroundingService:
    """Measures answers of the history.

    Parameters
    ----------
    store : HistoryStore
        Where the answers are, and where the results are kept.
    backend : object
        What answered; one that cannot measure (:class:`engine.backend.MeasuresGrounding`) gives ``None``.
    pictures : callable
        Draws what was on an owner's screen, as the model was given it.
    adapter_of : callable
        Adapter that gave an answer, from the words stored with it; raises ``LookupError`` if it was
        another model, which nobody can ask any more.
    words : callable
        What the model was told of a view beside its pixels, in the language of the answer.
    """

    def __init__(
        self,
        store: HistoryStore,
        backend: object,
        pictures: Callable[[str, Shown], Sequence[ImagePart]],
        adapter_of: Callable[[str], str | None],
        words: Callable[[str, Shown, str], str] = lambda _owner, _shown, _language: "",
    ) -> None:
        self._store = store
        self._backend = backend
        self._pictures = pictures
        self._adapter_of = adapter_of
        self._words = words
        self._lock = threading.Lock()
        self._running: dict[str, set[threading.Event]] = {}

    def of(
        self, owner: str, thread_id: str, answer_id: str, stopped: Callable[[], bool] = bool
    ) -> dict[str, Any] | None:
        """Return an answer's value, measured now if it was not before.

        Parameters
        ----------
        owner, thread_id, answer_id : str
            An ended answer.
        stopped : callable
            Asked between pieces of work; once it returns ``True`` the work ends.

        Returns
        -------
        dict or None
            ``difference`` (nats a token), ``level`` and ``sentences``; ``None`` if it was stopped, if the
            answer had no image or no text, is a translation, or if what answered cannot tell.

        Raises
        ------
        ThreadNotFoundError, AnswerNotFoundError
            If the answer is not there for this owner.
        EngineError
            If the model fails.
        """
        thread = self._store.load(owner, thread_id)
        turn, answer = answer_in(thread, answer_id)
        if answer.grounding is not None:
            return answer.grounding
        backend = self._backend
        if not isinstance(backend, MeasuresGrounding) or not _is_judged(answer):
            return None
        try:
            adapter = self._adapter_of(answer.backend)
        except LookupError:
            return None
        with self._stoppable(owner) as stop:
            turns = until(thread.turns, turn.id)
            found = self._measure(
                lambda said: backend.image_dependence(said, lambda: stop.is_set() or stopped(), adapter),
                owner,
                turns,
                answer,
            )
        if found is None:
            return None
        value = asdict(found) | {"sentences": [asdict(sentence) for sentence in found.sentences]}
        if not is_plain(value):
            return None  # a server whose likelihoods are no numbers has measured nothing
        self._store.keep_grounding(owner, answer_id, value)
        return value

    def stop(self, owner: str) -> None:
        """End this owner's measurements: something more urgent is to be computed."""
        with self._lock:
            for stop in self._running.get(owner, ()):
                stop.set()

    def close(self) -> None:
        """End all measurements."""
        with self._lock:
            for stops in self._running.values():
                for stop in stops:
                    stop.set()

    def _measure(
        self,
        ask: Callable[[list[Message]], ImageDependence | None],
        owner: str,
        turns: Sequence[Turn],
        answer: Answer,
    ) -> ImageDependence | None:
        """Ask with what the model was given: the oldest turns left out until the conversation fits."""
        for left_out in range(len(turns)):
            asked = messages(
                turns,
                left_out,
                answer.language,
                lambda view: self._pictures(owner, view),
                lambda view, language: self._words(owner, view, language),
            )
            if not any(message.images for message in asked):
                return None
            try:
                return ask([*asked, Message.of("assistant", answer.text)])
            except PromptTooLongError:
                if left_out == len(turns) - 1:
                    raise
        return None

    @contextmanager
    def _stoppable(self, owner: str) -> Iterator[threading.Event]:
        stop = threading.Event()
        with self._lock:
            self._running.setdefault(owner, set()).add(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._running[owner].discard(stop)
                if not self._running[owner]:
                    del self._running[owner]


def _is_judged(answer: Answer) -> bool:
    return answer.state in _JUDGED and bool(answer.text.strip()) and answer.translation_of is None
