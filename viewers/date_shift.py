"""Dates moved into the past, so that a patient's days stay apart as they were.

References
----------
DICOM PS3.15 E.3.6 (modified dates); PS3.5 6.2 (DA, DT, TM).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

__all__ = ["moved"]

_TIME_OF_DAY: Final = r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?"
_DAY: Final = r"([0-9]{4})([0-9]{2})([0-9]{2})"
_TIME: Final = re.compile(_TIME_OF_DAY, re.ASCII)
_DATE: Final = re.compile(f"{_DAY}()", re.ASCII)
_DATE_TIME: Final = re.compile(rf"{_DAY}((?:{_TIME_OF_DAY})?(?:[+-](?:0\d|1[0-4])[0-5]\d)?)", re.ASCII)
"""Forms of the values TM, DA and DT (PS3.5 6.2); what has none of them may be anything."""


def moved(text: str, vr: str, days: int) -> str:
    """Return a date so many days earlier; a time of day stays, and what is neither becomes empty.

    Parameters
    ----------
    text : str
        One value of an element.
    vr : str
        ``DA``, ``DT`` or ``TM``.
    """
    text = text.strip(" \0")
    if vr == "TM":
        return text if _TIME.fullmatch(text) else ""
    found = (_DATE if vr == "DA" else _DATE_TIME).fullmatch(text)
    if found is None:
        return ""
    year, month, day, rest = found.groups()
    try:
        earlier = dt.date(int(year), int(month), int(day)) - dt.timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{earlier:%Y%m%d}".rjust(8, "0") + rest
