"""Guarded access to a dataset: damaged, absent and empty attributes are all ``None``.

Text is only ever compared with lists of known codes (:func:`code`), so that nothing a person typed
leaves a header.
"""

from __future__ import annotations

import functools
import math
import struct
import zlib
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.valuerep import DSdecimal, PersonName

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pydicom import Dataset
    from pydicom.tag import BaseTag

__all__ = [
    "PARSER_FAILURES",
    "code",
    "cut_short",
    "get",
    "group_item",
    "integer",
    "items",
    "number",
    "numbers",
    "texts",
    "uid",
    "vr",
]

PARSER_FAILURES: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # includes RecursionError and NotImplementedError
    NameError,  # pydicom leaves a variable unbound when a dataset ends inside its first element
    OSError,
    EOFError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    InvalidDicomError,
    BytesLengthException,
)
"""What pydicom raises on damaged input."""


_TEXT: Final = (str, int, float, DSdecimal, PersonName, date, time, timedelta)
"""Types of values that are written out shortly; decimal and whole numbers of pydicom are among them."""
_JOINED: Final = str.maketrans("", "", " -_")


@functools.cache
def _tag(keyword: str) -> BaseTag:
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    number = tag_for_keyword(keyword)
    if number is None:
        raise LookupError(keyword)
    return Tag(number)


def get(dataset: Dataset, keyword: str) -> Any:
    """Value of an attribute, or ``None`` when it is absent, empty or cannot be read."""
    tag = _tag(keyword)
    try:
        # By number: by name pydicom looks the name up each time, and most attributes are absent.
        value = dataset[tag].value if tag in dataset else None
    except PARSER_FAILURES:
        return None
    return None if value is None or (isinstance(value, str) and not value) else value


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str | bytes | int | float | PersonName) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """All values as float; an empty list if one of them is not a number. Infinite and NaN are kept."""
    try:
        return [float(value) for value in _several(get(dataset, keyword))]
    except PARSER_FAILURES:
        return []


def number(dataset: Dataset, keyword: str) -> float | None:
    """First value, if it is a finite number."""
    found = numbers(dataset, keyword)
    return found[0] if found and math.isfinite(found[0]) else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """First value, if it is a whole number."""
    found = number(dataset, keyword)
    return int(found) if found is not None and found == int(found) else None


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """All values as text; for comparing only."""
    try:
        values = _several(get(dataset, keyword))
        # Bytes and items of sequences are no text, and writing them out can take for ever.
        if not all(isinstance(value, _TEXT) for value in values):
            return []
        return [str(value).strip() for value in values]
    except PARSER_FAILURES:
        return []


def code(dataset: Dataset, keyword: str, known: Collection[str]) -> str:
    """First value in upper case if it is one of ``known``, else the empty string."""
    found = texts(dataset, keyword)
    value = found[0].upper() if found else ""
    # Scanners write C SPINE, C-SPINE and C_SPINE for the standard's CSPINE.
    compact = value.translate(_JOINED)
    return value if value in known else compact if compact in known else ""


def uid(dataset: Dataset, keyword: str) -> str:
    """Value of a UID attribute, or the empty string; never shown, only looked up."""
    found = texts(dataset, keyword)
    return found[0].rstrip("\0 ") if found else ""


def vr(dataset: Dataset, keyword: str) -> str:
    """Value representation an attribute was written with, or the empty string."""
    try:
        return str(dataset[keyword].VR)
    except PARSER_FAILURES:
        return ""


def cut_short(dataset: Dataset) -> tuple[int, int] | None:
    """Bytes found and stated for the last element, when the file ends inside its value."""
    try:
        element = dataset.get_item(max(dataset.keys()))
        value, length = getattr(element, "value", None), getattr(element, "length", 0)
    except PARSER_FAILURES:
        return None
    if isinstance(value, bytes) and len(value) < length < 0xFFFFFFFF:
        return len(value), length
    return None


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """Items of a sequence; empty when it is absent or no sequence."""
    found = get(dataset, keyword)
    try:
        return [item for item in _several(found) if hasattr(item, "get") and hasattr(item, "group_dataset")]
    except PARSER_FAILURES:
        return []


def group_item(dataset: Dataset, frame: int, macro: str) -> Dataset | None:
    """Item of a functional group macro: the frame's own, else the shared one, else ``None``.

    References
    ----------
    DICOM PS3.3 C.7.6.16.
    """
    for keyword, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        source = _item(dataset, keyword, index)
        found = None if source is None else _item(source, macro, 0)
        if found is not None:
            return found
    return None


def _item(dataset: Dataset, keyword: str, index: int) -> Dataset | None:
    """One item of a sequence, without looking at the others: there may be thousands of frames."""
    found = get(dataset, keyword)
    if not hasattr(found, "__getitem__") or isinstance(found, str | bytes):
        return None
    try:
        item: Dataset | None = found[index] if index < len(found) else None
    except PARSER_FAILURES:
        return None
    return item if hasattr(item, "get") and hasattr(item, "group_dataset") else None
