"""One line of what ``bimedix2 doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "Level"]

Level = Literal["ok", "note", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A text of the catalogue with its values, and how bad it is."""

    level: Level
    key: str
    values: dict[str, object] = field(default_factory=dict)
