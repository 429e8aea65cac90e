"""Lookup tables of a dataset: modality LUT, VOI LUT and palette.

pydicom's own readers differ from the standard for 12-bit modality tables, for 8-bit tables of more than
256 entries, for signed first values and for palettes in big-endian files; these do not.

References
----------
DICOM PS3.3 C.11.1.1 (modality LUT), C.11.2.1.1 (VOI LUT), C.7.6.3.1.5 and C.7.6.3.1.6 (palette).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viewers.attributes import PARSER_FAILURES, get, items, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["Lut", "modality_lut", "palette", "voi_luts"]

_SIGNED_FROM = 32768


@dataclass(frozen=True, slots=True, eq=False)
class Lut:
    """``table[i]`` (int64) is the output for the input ``first + i``; outputs have ``bits`` bits."""

    first: int
    table: NDArray[np.int64]
    bits: int


def read_lut(dataset: Dataset, descriptor: str, data: str, *, signed: bool, big_endian: bool) -> Lut | None:
    """Read a descriptor and its data; ``None`` when they are missing or contradict each other.

    Parameters
    ----------
    signed : bool
        Whether the input is signed, so that a first value of 32768 or more is negative.
    big_endian : bool
        Whether the dataset is, so that words kept as bytes are too.
    """
    described = numbers(dataset, descriptor)
    if len(described) != 3:
        return None
    count, first, bits = (int(value) for value in described)
    count = count % 65536 or 65536
    if signed and first >= _SIGNED_FROM:
        first -= 65536
    table = _entries(get(dataset, data), count, big_endian=big_endian)
    if table is None:
        return None
    bits = min(max(bits, int(table.max()).bit_length(), 1), 16)
    return Lut(first, table, bits)


def _entries(data: Any, count: int, *, big_endian: bool) -> NDArray[np.int64] | None:
    """Entries as int64; one byte each when there is only room for that (PS3.3 C.11.1.1.1)."""
    try:
        if isinstance(data, bytes | bytearray):
            words = np.frombuffer(bytes(data[: len(data) // 2 * 2]), dtype=">u2" if big_endian else "<u2")
            odd = bytes(data[-1:]) if len(data) % 2 else b""
        elif data is None:
            return None
        else:
            values = data if hasattr(data, "__iter__") else [data]
            words, odd = np.asarray([int(value) & 0xFFFF for value in values], dtype=np.uint16), b""
    except PARSER_FAILURES:
        return None
    if words.size >= count:
        return words[:count].astype(np.int64)
    packed = np.frombuffer(words.astype("<u2").tobytes() + odd, dtype=np.uint8)
    return packed[:count].astype(np.int64) if packed.size >= count else None


def modality_lut(dataset: Dataset, *, signed: bool, big_endian: bool) -> Lut | None:
    """First modality LUT of the dataset, if it has one."""
    for item in items(dataset, "ModalityLUTSequence")[:1]:
        return read_lut(item, "LUTDescriptor", "LUTData", signed=signed, big_endian=big_endian)
    return None


def voi_luts(dataset: Dataset, *, signed: bool, big_endian: bool) -> list[Lut]:
    """All readable VOI LUTs of the dataset, in its order."""
    found = [
        read_lut(item, "LUTDescriptor", "LUTData", signed=signed, big_endian=big_endian)
        for item in items(dataset, "VOILUTSequence")
    ]
    return [lut for lut in found if lut is not None]


def palette(dataset: Dataset, *, signed: bool, big_endian: bool) -> tuple[int, NDArray[np.uint8]] | None:
    """First mapped value and the colours as uint8 of shape (entries, 3); ``None`` when there is no palette.

    Entries of 16 bits keep their high byte, unless all of them fit in 8 bits.
    """
    channels = [
        _channel(dataset, name, signed=signed, big_endian=big_endian) for name in ("Red", "Green", "Blue")
    ]
    luts = [lut for lut in channels if lut is not None]
    if len(luts) < 3:
        return None
    entries = min(lut.table.size for lut in luts)
    wide = any(lut.bits > 8 for lut in luts) and max(int(lut.table.max()) for lut in luts) > 255
    table = np.stack([lut.table[:entries] >> (8 if wide else 0) for lut in luts], axis=-1)
    return luts[0].first, table.astype(np.uint8)


def _channel(dataset: Dataset, name: str, *, signed: bool, big_endian: bool) -> Lut | None:
    descriptor = f"{name}PaletteColorLookupTableDescriptor"
    plain = read_lut(
        dataset, descriptor, f"{name}PaletteColorLookupTableData", signed=signed, big_endian=big_endian
    )
    if plain is not None:
        return plain
    described = numbers(dataset, descriptor)
    data = get(dataset, f"Segmented{name}PaletteColorLookupTableData")
    if len(described) != 3 or not isinstance(data, bytes):
        return None
    count, first, bits = int(described[0]) or 65536, int(described[1]), int(described[2])
    table = _segmented(data, ">u2" if big_endian else "<u2") if bits == 16 else _segmented(data, "u1")
    if table is None or table.size < count:
        return None
    return Lut(first - 65536 if signed and first >= _SIGNED_FROM else first, table[:count], bits)


def _segmented(data: bytes, dtype: str) -> NDArray[np.int64] | None:
    """Expand discrete (0), linear (1) and indirect (2) segments (PS3.3 C.7.9.2); at most 65536 entries."""
    size = np.dtype(dtype).itemsize
    words = np.frombuffer(data[: len(data) // size * size], dtype=dtype)
    out: list[int] = []
    try:
        _expand(words.tolist(), out, wide=size == 2, depth=0)
    except (ValueError, IndexError):
        return None
    return np.asarray(out, dtype=np.int64)


def _expand(words: list[int], out: list[int], *, wide: bool, depth: int, segments: int = 65536) -> None:
    at = 0
    while at + 1 < len(words) and segments > 0 and len(out) < 65536:
        kind, length = words[at], words[at + 1]
        segments -= 1
        if kind == 0:
            out.extend(words[at + 2 : at + 2 + length])
            at += 2 + length
        elif kind == 1:
            start, stop = out[-1], words[at + 2]
            out.extend(round(start + (stop - start) * (step + 1) / length) for step in range(length))
            at += 3
        elif kind == 2 and depth == 0:
            size = 2 if wide else 4
            parts = words[at + 2 : at + 2 + size]
            offset = parts[0] | parts[1] << 16 if wide else int.from_bytes(bytes(parts), "little")
            # The offset counts bytes from the start of the segmented data to the first segment copied.
            _expand(words[offset // (2 if wide else 1) :], out, wide=wide, depth=1, segments=length)
            at += 2 + size
        else:
            raise ValueError(f"segment of kind {kind}")
