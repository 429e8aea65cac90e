"""Data elements counted at all levels before a parser builds objects of them.

A parser makes some five hundred bytes of each element, and half as many microseconds: a file of a few
megabytes that holds millions of empty ones takes gigabytes. Counting them takes neither.

References
----------
DICOM PS3.5 7.1 (data elements), 7.5 (nesting).
"""

from __future__ import annotations

import struct
from typing import Final

from viewers.errors import TooLargeError

__all__ = ["LONG_VR", "UNDEFINED", "check_elements"]

LONG_VR: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
"""Value representations whose length has four bytes."""
UNDEFINED: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_ITEM_BYTES: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_BYTES: Final = frozenset({b"OB", b"OW"})


def check_elements(
    raw: bytes, start: int, stop: int, limit: int, *, implicit: bool, big_endian: bool = False
) -> None:
    """Count the elements between two places, with those in sequences; what is damaged ends the count.

    Raises
    ------
    TooLargeError
        If there are more than ``limit``.
    """
    order = ">" if big_endian else "<"
    tag, wide, narrow = struct.Struct(f"{order}HH"), struct.Struct(f"{order}L"), struct.Struct(f"{order}H")
    at, ends, count = start, [stop], 0
    while ends:
        end = ends[-1]
        if at + 8 > end:
            at = ends.pop()
            continue
        count += 1
        if count > limit:
            raise TooLargeError(quantity="elements", found=f"> {limit}", limit=limit)
        group, element = tag.unpack_from(raw, at)
        number, representation, head = group << 16 | element, b"", 8
        if implicit or group == 0xFFFE:
            (length,) = wide.unpack_from(raw, at + 4)
        else:
            representation = raw[at + 4 : at + 6]
            if representation in LONG_VR:
                if at + 12 > end:
                    return
                head, (length,) = 12, wide.unpack_from(raw, at + 8)
            else:
                (length,) = narrow.unpack_from(raw, at + 6)
        at += head
        if number in {_ITEM_END, _SEQUENCE_END}:
            if len(ends) == 1:
                return
            ends.pop()
        elif length == UNDEFINED and (representation in _BYTES or number == _PIXEL_DATA):
            at = _after_fragments(raw, at, end, wide)
        elif length == UNDEFINED:
            ends.append(end)
        elif number == _ITEM or representation == b"SQ" or raw[at : at + 4] in _ITEM_BYTES:
            ends.append(min(at + length, end))
        else:
            at += length


def _after_fragments(raw: bytes, at: int, end: int, wide: struct.Struct) -> int:
    """Step over encapsulated pixels, whose items hold no elements (PS3.5 A.4)."""
    while at + 8 <= end:
        ends_here = raw[at : at + 4] not in _ITEM_BYTES
        at += 8 + (0 if ends_here else wide.unpack_from(raw, at + 4)[0])
        if ends_here:
            break
    return at
