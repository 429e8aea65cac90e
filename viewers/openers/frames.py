"""Where each frame of a DICOM file lies, without reading the pixels.

References
----------
DICOM PS3.5 A.4 (encapsulated frames, basic offset table), PS3.3 C.7.6.3.1.8 (extended offset table).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.errors import CorruptHeaderError, TruncatedFileError, UnsupportedImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

    from viewers.openers.tiled import ReadAt

__all__ = ["find_frames"]

_IMPLICIT: Final = "1.2.840.10008.1.2"
_NATIVE: Final = frozenset({_IMPLICIT, "1.2.840.10008.1.2.1"})
_ITEM: Final = b"\xfe\xff\x00\xe0"
_PIXEL_DATA: Final = b"\xe0\x7f\x10\x00"
_UNDEFINED: Final = 0xFFFFFFFF

Places = tuple["NDArray[np.int64]", "NDArray[np.int64]"]
"""Offset in the file and length of each frame."""


def find_frames(dataset: Dataset, pixels_at: int, file: ReadAt) -> Places:
    """Find the bytes of every frame.

    Parameters
    ----------
    dataset : Dataset
        The header, with its file meta information.
    pixels_at : int
        Where the element PixelData begins.

    Raises
    ------
    CorruptHeaderError, TruncatedFileError, UnsupportedImageError
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    head = file.read_at(pixels_at, 12)
    if head[:4] != _PIXEL_DATA or len(head) < 12:
        raise CorruptHeaderError(attribute="PixelData", found="?", expected="(7FE0,0010)")
    if syntax in _NATIVE:
        start = pixels_at + (8 if syntax == _IMPLICIT else 12)
        places = _native(dataset, start, frames)
    elif struct.unpack_from("<L", head, 8)[0] != _UNDEFINED:
        raise CorruptHeaderError(attribute="PixelData", found="defined length", expected="encapsulated")
    else:
        places = _encapsulated(dataset, pixels_at + 12, frames, file)
    _check_inside(places, file.size)
    return places


def _native(dataset: Dataset, start: int, frames: int) -> Places:
    length = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
    length *= int(dataset.BitsAllocated) // 8
    return start + length * np.arange(frames, dtype=np.int64), np.full(frames, length, np.int64)


def _encapsulated(dataset: Dataset, start: int, frames: int, file: ReadAt) -> Places:
    table = _item(file, start)
    first = start + 8 + table
    extended = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    if all(extended):
        at, lengths = (np.frombuffer(raw, "<u8").astype(np.int64) for raw in extended)
        if len(at) == len(lengths) == frames:
            return at + first + 8, lengths
    return _walked(file, first, frames)


def _walked(file: ReadAt, first: int, frames: int) -> Places:
    """Go from item to item: the basic table may lie, is often left out, and ends at 4 GiB."""
    offsets, lengths = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    at = first
    for number in range(frames):
        length = _item(file, at)
        offsets[number], lengths[number] = at + 8, length
        at += 8 + length
    if file.read_at(at, 4) == _ITEM:
        raise UnsupportedImageError(found="frames in several fragments", expected="one fragment per frame")
    return offsets, lengths


def _item(file: ReadAt, at: int) -> int:
    """Length of the item at a place."""
    head = file.read_at(at, 8)
    if len(head) < 8:
        raise TruncatedFileError(part="frames", found=file.size, expected=at + 8)
    if head[:4] != _ITEM:
        raise CorruptHeaderError(attribute="PixelData", found="?", expected="(FFFE,E000)")
    return int(struct.unpack_from("<L", head, 4)[0])


def _check_inside(places: Places, size: int) -> None:
    offsets, lengths = places
    ends = offsets + lengths
    if (offsets < 0).any() or (lengths < 0).any():
        raise CorruptHeaderError(attribute="ExtendedOffsetTable", found="< 0", expected=">= 0")
    if len(ends) and int(ends.max()) > size:
        raise TruncatedFileError(part="frames", found=size, expected=int(ends.max()))
