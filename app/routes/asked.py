"""Values of a search as they stand in an address: untrusted text in, checked values out."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

from app.history.records import FeedbackReason

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["LONGEST_QUERY", "moment", "one_of", "reason"]

LONGEST_QUERY: Final = 500


def one_of(value: object, known: Collection[str]) -> str:
    """Return a value that is one of those known.

    Raises
    ------
    ValueError
    """
    if value not in known:
        raise ValueError(f"expected one of {', '.join(known)}")
    return str(value)


def reason(value: str | None) -> FeedbackReason | Literal["any"] | None:
    """Reason a judgement was given for; raises as :func:`one_of`."""
    if not value:
        return None
    known = ("any", *get_args(FeedbackReason))
    return cast("FeedbackReason | Literal['any']", one_of(value, known))


def moment(value: str | None) -> datetime | None:
    """Read a moment; one without a time zone could be any of 26 hours.

    Raises
    ------
    ValueError
    """
    if not value:
        return None
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError("expected a time with its zone")
    return found
