"""The promises of :class:`engine.backend.Backend` as checks that every backend runs.

A test module subclasses :class:`BackendContract` and gives it a ``subject`` fixture.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from engine.backend import Backend
from engine.errors import BackendUnavailableError, EngineError
from engine.messages import (
    Delta,
    Event,
    Finished,
    GenerationOptions,
    Loading,
    Message,
    Queued,
    Reading,
    Started,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Subject:
    """A backend, and conversations it is known to treat in a certain way."""

    backend: Backend
    arabic: Sequence[Message]
    """Answered in Arabic."""
    arabic_answer: str
    long: Sequence[Message]
    """Answered with many more than three tokens if nobody stops it."""
    refused: Sequence[Message]
    """Cannot be answered."""
    fresh: Callable[[], Backend]
    """Makes another backend, which the check closes."""
    patience_s: float = 10.0
    """A new question is answered within this time of a stop."""


def said(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def without_waiting(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Loading | Queued | Reading)]


class BackendContract:
    """What a session relies on."""

    def test_it_is_a_backend_with_a_name(self, subject: Subject) -> None:
        """The seam's methods are there, and the name is not empty."""
        assert isinstance(subject.backend, Backend)
        assert subject.backend.name

    def test_one_final_event_comes_last(self, subject: Subject) -> None:
        """Started once, then pieces, then exactly one final event whose counts and times make sense."""
        events = without_waiting(list(subject.backend.stream(subject.arabic, GenerationOptions())))

        assert isinstance(events[0], Started)
        assert all(isinstance(event, Delta) for event in events[1:-1])
        last = events[-1]
        assert isinstance(last, Finished)
        assert last.reason == "complete"
        assert last.usage.completion_tokens > 0
        assert 0 <= (last.timings.first_token_s or 0) <= last.timings.total_s

    def test_the_joined_pieces_are_the_text(self, subject: Subject) -> None:
        """No piece is empty, and Arabic arrives letter by letter without a broken one."""
        events = list(subject.backend.stream(subject.arabic, GenerationOptions()))

        assert all(event.text for event in events if isinstance(event, Delta))
        assert said(events) == subject.arabic_answer
        assert all("\ufffd" not in event.text for event in events if isinstance(event, Delta))

    def test_the_same_seed_gives_the_same_answer(self, subject: Subject) -> None:
        """Also when sampling."""
        options = GenerationOptions(max_new_tokens=12, temperature=0.8, seed=3)
        answers = [said(list(subject.backend.stream(subject.long, options))) for _ in range(2)]

        assert answers[0] == answers[1] != ""

    def test_the_token_limit_is_obeyed(self, subject: Subject) -> None:
        """The answer is cut, and the final event says why."""
        last = list(subject.backend.stream(subject.long, GenerationOptions(max_new_tokens=3)))[-1]

        assert isinstance(last, Finished)
        assert last.reason == "length"
        assert last.usage.completion_tokens == 3

    def test_closing_stops_the_work(self, subject: Subject) -> None:
        """A stream closed in mid-answer gives nothing more, and the next question is answered soon."""
        stream = subject.backend.stream(subject.long, GenerationOptions(max_new_tokens=400))
        for event in stream:
            if isinstance(event, Delta):
                break
        began = time.monotonic()
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)

        again = list(subject.backend.stream(subject.arabic, GenerationOptions()))

        assert isinstance(again[-1], Finished)
        assert time.monotonic() - began < subject.patience_s

    def test_what_cannot_be_answered_is_refused_first(self, subject: Subject) -> None:
        """The error comes before any event that tells of computing, and the next question works."""
        stream = subject.backend.stream(subject.refused, GenerationOptions())
        before: list[Event] = []
        with pytest.raises(EngineError):
            before.extend(stream)

        assert without_waiting(before) == []
        assert list(subject.backend.stream(subject.arabic, GenerationOptions()))

    def test_two_streams_at_once_do_not_mix(self, subject: Subject) -> None:
        """Pieces of two answers read in turn belong to their own."""
        first = subject.backend.stream(subject.arabic, GenerationOptions())
        second = subject.backend.stream(subject.arabic, GenerationOptions())
        events: tuple[list[Event], list[Event]] = ([], [])
        while not (events[0] and isinstance(events[0][-1], Finished)):
            events[0].append(next(first))
            if not (events[1] and isinstance(events[1][-1], Finished)):
                events[1].append(next(second))
        events[1].extend(second)

        assert [said(part) for part in events] == [subject.arabic_answer] * 2

    def test_a_closed_backend_says_so(self, subject: Subject) -> None:
        """Work after close is refused; closing twice is harmless."""
        backend = subject.fresh()
        backend.close()
        backend.close()

        with pytest.raises(BackendUnavailableError, match="closed"):
            next(backend.stream(subject.arabic, GenerationOptions()))
