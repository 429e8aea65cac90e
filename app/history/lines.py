"""Text and values on their way into the database: what none can take, one line, a conversation's title."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from i18n.text import strip_controls

__all__ = ["LONGEST_TITLE", "is_plain", "one_line", "storable", "storable_values", "title_of"]

LONGEST_TITLE: Final = 200
_TITLE_LENGTH: Final = 60
"""Characters of a title made from a question: one line of the sidebar."""
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def title_of(question: str) -> str:
    """Title of a conversation: the beginning of its first question, cut between words."""
    line = one_line(question)
    if len(line) <= _TITLE_LENGTH:
        return line
    cut = line[: _TITLE_LENGTH + 1].rpartition(" ")[0] or line[:_TITLE_LENGTH]
    return f"{cut[:_TITLE_LENGTH]}…"


def one_line(text: str) -> str:
    """Text on one line, without marks of direction."""
    return " ".join(strip_controls(storable(text)).split())


def storable(text: str) -> str:
    """Text without what no database takes: NUL, and halves of characters a browser may send."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable_values(value: Any) -> Any:
    """Values as JSON takes them everywhere: texts storable, and nothing for a number that is none."""
    if isinstance(value, dict):
        return {storable(str(name)): storable_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable_values(item) for item in value]
    if isinstance(value, str):
        return storable(value)
    return value if is_plain(value) else None


def is_plain(value: Any) -> bool:
    """Whether every number among values is one: neither infinite nor none at all."""
    if isinstance(value, dict):
        return all(is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)
