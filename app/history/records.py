"""Values of the history: what is stored about a conversation, independent of any database.

Times are aware and in UTC. Ids are random and unguessable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "END_STATES",
    "FEEDBACK_REASONS",
    "Answer",
    "AnswerState",
    "EndState",
    "Feedback",
    "FeedbackReason",
    "ImageRecord",
    "Language",
    "SearchHit",
    "StoredView",
    "Thread",
    "ThreadSummary",
    "Turn",
]

EndState = Literal["complete", "length", "stopped", "time_limit", "failed", "interrupted"]
"""``complete``: the model ended its answer. ``length``, ``time_limit``: cut at a limit. ``stopped``: by the
user. ``failed``: an error, see ``error_key``. ``interrupted``: the process died while it was written."""

AnswerState = Literal["streaming", EndState]

END_STATES: tuple[EndState, ...] = get_args(EndState)

FeedbackReason = Literal["wrong_side", "wrong_finding", "wrong_language", "not_grounded", "other"]
"""``not_grounded``: said without regard to the image."""

Language = Literal["en", "ar"]

FEEDBACK_REASONS: tuple[FeedbackReason, ...] = get_args(FeedbackReason)


@dataclass(frozen=True, slots=True)
class StoredView:
    """What was on screen when a question was asked."""

    images: tuple[str, ...]
    """Digests of the images it shows, each once."""
    view: dict[str, Any]
    """The view as JSON; whoever draws it gives it its meaning."""
    render_digest: str
    """Digest of the pixels the model was given."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a question; a question answered again has several."""

    id: str
    text: str
    state: AnswerState
    backend: str
    """What answered."""
    language: str
    """Language the question was asked in, ``en`` or ``ar``."""
    usage: dict[str, Any] | None
    """Token counts and durations in seconds, as given at the end."""
    error_key: str | None
    """Catalogue key of what went wrong."""
    error_values: dict[str, Any] | None
    started: datetime
    finished: datetime | None
    """``None`` while it is being written."""
    translation_of: str | None = None
    """Id of the answer this one says in the other language."""
    grounding: dict[str, Any] | None = None
    """How much it depends on its image: ``difference``, ``level`` and ``sentences``; ``None`` if not
    measured."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, what it was about, and its answers, oldest first."""

    id: str
    position: int
    """From 0."""
    question: str
    views: tuple[StoredView, ...]
    answers: tuple[Answer, ...]
    created: datetime


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """A conversation in a list."""

    id: str
    title: str
    created: datetime
    updated: datetime
    turn_count: int
    pinned: bool = False
    """Pinned ones come first."""
    tags: tuple[str, ...] = ()
    patient: str | None = None
    """Pseudonym of the patient its images are of, where it is known."""
    study: str | None = None
    """Pseudonym of the study its first image belongs to, where it is known."""


@dataclass(frozen=True, slots=True)
class Thread:
    """A whole conversation."""

    id: str
    title: str
    created: datetime
    updated: datetime
    turns: tuple[Turn, ...]
    answer_language: Language | None = None
    """Language every answer is asked for in; ``None``: that of the question."""
    patient: str | None = None
    study: str | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image somebody opened; its pixels lie elsewhere, under its digest."""

    digest: str
    owner: str
    label: str
    """Neutral and generated, e.g. ``CT Chest``; never a file name."""
    created: datetime
    patient: str | None = None
    """Pseudonyms of patient and study, where they are known."""
    study: str | None = None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A question or an answer that meets a query."""

    owner: str
    number: int
    """Place in the order of all messages, by time."""
    thread_id: str
    title: str
    """Of its conversation."""
    turn_id: str
    answer_id: str | None
    """``None``: the question itself."""
    created: datetime
    excerpt: str
    """Part of the original text, unchanged, with the first match in it."""
    offset: int
    """Where the excerpt begins in the original text, in characters."""
    marks: tuple[tuple[int, int], ...]
    """Matches in the excerpt, as (start, end) in characters."""
    is_cut: tuple[bool, bool]
    """Whether text was left out before and after the excerpt."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a reader found wrong with an answer."""

    reasons: tuple[FeedbackReason, ...]
    text: str
    created: datetime
