"""The form of an archive's record: every entry, its type and its bounds; nothing more and nothing less."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from app.errors import ArchiveError
from app.history.records import END_STATES, FEEDBACK_REASONS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["checked"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_.]{0,99}")
_DIGEST: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_DEEPEST: Final = 20


def checked(value: Any) -> dict[str, Any]:
    """Check a record and turn its times into times.

    Raises
    ------
    ArchiveError
        Naming the first entry that is not as it should be.
    """
    record: dict[str, Any] = _RECORD(_today(value) if value.get("version") == 1 else value, "record")
    known = {image["digest"] for image in record["images"]}
    for turn in record["thread"]["turns"]:
        for view in turn["views"]:
            if not known.issuperset(view["images"]):
                raise _wrong("views.images", "an image the archive does not hold")
        for number, answer in enumerate(turn["answers"]):
            original = answer["translation_of"]
            if original is not None and not 0 <= original < number:
                raise _wrong("answers.translation_of", "an earlier answer of its turn")
    if len(known) != len(record["images"]):
        raise _wrong("images", "one twice")
    return record


def _today(value: Any) -> Any:
    """Write a record of version 1 as one of version 2; what is not as it should be is left to the check."""
    try:
        turns = [_turn_today(turn) for turn in value["thread"]["turns"]]
        return {**value, "thread": {**value["thread"], "answer_language": None, "turns": turns}}
    except (TypeError, KeyError, AttributeError) as error:
        raise _wrong("record", "as in version 1") from error


def _turn_today(turn: Any) -> Any:
    views = [{**{n: v for n, v in view.items() if n != "image"}, "images": [view["image"]]}
             for view in turn["views"]]  # fmt: skip
    answers = [
        {**answer, "translation_of": None, "feedback": None, "grounding": None} for answer in turn["answers"]
    ]
    return {**turn, "views": views, "answers": answers}


def _wrong(entry: str, expected: str) -> ArchiveError:
    return ArchiveError(
        found=f"the entry {entry} in a wrong form ({expected})", expected="as it was exported"
    )


def _shape(**entries: Callable[[Any, str], Any]) -> Callable[[Any, str], dict[str, Any]]:
    def check(value: Any, entry: str) -> dict[str, Any]:
        if not isinstance(value, dict) or value.keys() != entries.keys():
            raise _wrong(entry, ", ".join(entries))
        return {name: of(value[name], f"{entry}.{name}") for name, of in entries.items()}

    return check


def _list(of: Callable[[Any, str], Any], most: int) -> Callable[[Any, str], list[Any]]:
    def check(value: Any, entry: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise _wrong(entry, f"a list of at most {most}")
        return [of(item, f"{entry}.{number}") for number, item in enumerate(value)]

    return check


def _text(most: int) -> Callable[[Any, str], str]:
    def check(value: Any, entry: str) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise _wrong(entry, f"a text of at most {most} characters")
        return value

    return check


def _like(pattern: re.Pattern[str]) -> Callable[[Any, str], str]:
    def check(value: Any, entry: str) -> str:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise _wrong(entry, pattern.pattern)
        return value

    return check


def _one_of(*allowed: object) -> Callable[[Any, str], Any]:
    def check(value: Any, entry: str) -> Any:
        if not any(value is item or (isinstance(value, str) and value == item) for item in allowed):
            raise _wrong(entry, ", ".join(map(str, allowed)))
        return value

    return check


def _or_none(of: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, entry: None if value is None else of(value, entry)


def _time(value: Any, entry: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None and 1970 <= moment.year < 9999:
            # one to come would stand first for ever, and never grow old
            return min(moment.astimezone(UTC), datetime.now(UTC))
    except (TypeError, ValueError):
        pass
    raise _wrong(entry, "a time with its zone")


def _json(value: Any, entry: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not _is_plain(value, _DEEPEST):
        raise _wrong(entry, f"names and values, at most {_DEEPEST} deep")
    return value


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value can be stored: not too deep, texts a database takes, numbers that stay numbers."""
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(_is_plain(name, depth) and _is_plain(item, depth - 1) for name, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item, depth - 1) for item in value)
    if isinstance(value, str):
        return _UNSTORABLE.search(value) is None
    return not isinstance(value, int | float) or abs(value) < 2**63


def _number(most: int) -> Callable[[Any, str], int]:
    def check(value: Any, entry: str) -> int:
        if type(value) is not int or not 0 <= value <= most:
            raise _wrong(entry, f"a number from 0 to {most}")
        return value

    return check


def _format(value: Any, _entry: str) -> Any:
    return value  # compared before anything else is looked at


_VIEW: Final = _shape(images=_list(_like(_DIGEST), 64), view=_json, render_digest=_like(_DIGEST))
_FEEDBACK: Final = _shape(
    reasons=_list(_one_of(*FEEDBACK_REASONS), len(FEEDBACK_REASONS)), text=_text(10_000), created=_time
)
_ANSWER: Final = _shape(
    text=_text(1_000_000),
    state=_one_of(*END_STATES),
    backend=_like(re.compile(r"[^\x00-\x1f\ud800-\udfff]{0,255}")),
    language=_one_of("en", "ar"),
    usage=_or_none(_json),
    error_key=_or_none(_like(_NAME)),
    error_values=_or_none(_json),
    started=_time,
    finished=_time,
    translation_of=_or_none(_number(1000)),
    feedback=_or_none(_FEEDBACK),
    grounding=_or_none(_json),
)
_TURN: Final = _shape(
    question=_text(1_000_000), created=_time, views=_list(_VIEW, 64), answers=_list(_ANSWER, 1000)
)
_THREAD: Final = _shape(
    title=_text(200),
    created=_time,
    updated=_time,
    answer_language=_or_none(_one_of("en", "ar")),
    tags=_list(_text(40), 20),
    turns=_list(_TURN, 100_000),
)


def _sums(value: Any, entry: str) -> dict[str, Any]:
    """Check the files of an image or of a slide, each with its SHA-256."""
    if not isinstance(value, dict) or frozenset(value) not in _FILES:
        raise _wrong(entry, "the files of an image or a slide")
    return {name: _like(_SHA256)(of, f"{entry}.{name}") for name, of in value.items()}


_SLIDE: Final = frozenset({"slide.json", "tiles.bin", "index.bin"})
_FILES: Final = frozenset({frozenset({"image.json", "frames.npy"}), _SLIDE, _SLIDE | {"profile.icc"}})
_IMAGE: Final = _shape(digest=_like(_DIGEST), label=_text(200), sha256=_sums)
_RECORD: Final = _shape(format=_format, version=_format, thread=_THREAD, images=_list(_IMAGE, 100_000))
