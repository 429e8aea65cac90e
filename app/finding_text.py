"""Sentences of findings in a reader's language, with the reason a file was left out in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from i18n.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viewers.findings import Finding

__all__ = ["finding_text", "values_in_words"]

_SAID: Final = frozenset({"attribute", "expected", "found", "part", "quantity", "reason"})
"""Values the viewers fill with words of their own; others are numbers, or names of files."""
_NO_WORD: Final = re.compile(r"[^a-z0-9]+")


def finding_text(found: Finding, language: str) -> str:
    """Return a finding's sentence."""
    return Catalogue().text(found.key, language, **values_in_words(found.values, language))


def values_in_words(values: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Put values that are an error's key, or words of the viewers, into the reader's language.

    What has no words in the catalogue (numbers, names of codecs and attributes) stays as it is.
    """
    return {
        name: _in_words(value, language) if name in _SAID and isinstance(value, str) else value
        for name, value in values.items()
    }


def _in_words(value: str, language: str) -> str:
    if value.startswith("viewers."):
        key = f"left_out.{value.removeprefix('viewers.')}"
    else:
        key = f"words.{_NO_WORD.sub('_', value.lower()).strip('_')}"
    try:
        return Catalogue().text(key, language)
    except LookupError:
        return value
