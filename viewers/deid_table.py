"""What becomes of each attribute by table E.1-1 of DICOM PS3.15, edition 2026c.

dicom-anonymizer lists the table; here its choices become one action for each attribute.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DUMMY", "Rules", "rules"]

_RULES: Final = "dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c"
_ACTIONS: Final = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    # Where the table leaves a choice by the object's kind: a value that keeps any object valid.
    "Z_D_TAGS": "D",
    "X_Z_TAGS": "Z",
    "X_D_TAGS": "D",
    "X_Z_D_TAGS": "D",
    "X_Z_U_STAR_TAGS": "keep items",
}
DUMMY: Final[Mapping[str, Any]] = {
    "AE": "ANONYMOUS",
    "AS": "000Y",
    "CS": "ANONYMIZED",
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "FD": 0.0,
    "FL": 0.0,
    "IS": "0",
    "LO": "ANONYMIZED",
    "LT": "ANONYMIZED",
    "PN": "ANONYMIZED",
    "SH": "ANONYMIZED",
    "SL": 0,
    "SS": 0,
    "ST": "ANONYMIZED",
    "TM": "000000",
    "UC": "ANONYMIZED",
    "UL": 0,
    "US": 0,
    "UT": "ANONYMIZED",
}
"""By value representation, what stands for a value that must not be empty."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Actions by attribute: X removed, Z emptied, D replaced, U a UID; none for what is not listed."""

    exact: Mapping[int, str]
    masked: tuple[tuple[int, int, str], ...]
    """Tag, mask and action for repeating groups."""

    def action(self, tag: int) -> str:
        """Return what becomes of an attribute; empty when the table does not list it."""
        found = self.exact.get(tag)
        return found or next((act for value, mask, act in self.masked if tag & mask == value & mask), "")


@functools.cache
def rules() -> Rules:
    """Read the table, once."""
    table = importlib.import_module(_RULES)
    exact, masked = {}, []
    for name, action in _ACTIONS.items():
        for entry in getattr(table, name):
            if len(entry) == 2:
                exact[entry[0] << 16 | entry[1]] = action
            else:
                group, element, group_mask, element_mask = entry
                masked.append((group << 16 | element, group_mask << 16 | element_mask, action))
    return Rules(exact, tuple(masked))
