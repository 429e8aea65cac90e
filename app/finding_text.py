"""Sentences of findings in a reader's language, with the reason a file was left out in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from i18n.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viewers.findings import Finding

__all__ = ["finding_text", "values_in_words"]


def finding_text(found: Finding, language: str) -> str:
    """Return a finding's sentence."""
    return Catalogue().text(found.key, language, **values_in_words(found.values, language))


def values_in_words(values: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Replace a reason that is an error's key by a few words; what has none stays as it is."""
    reason = str(values.get("reason", ""))
    if not reason.startswith("viewers."):
        return dict(values)
    try:
        words = Catalogue().text(f"left_out.{reason.removeprefix('viewers.')}", language)
    except LookupError:
        return dict(values)
    return {**values, "reason": words}
