"""Text on its way into the database: what none can take, one line, the title of a conversation."""

from __future__ import annotations

import re
from typing import Final

from i18n.text import strip_controls

__all__ = ["LONGEST_TITLE", "one_line", "storable", "title_of"]

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
