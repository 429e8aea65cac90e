"""Pixel data without what no pixel needs: unused bits, bytes after the last pixel, comments of codestreams.

Retired overlays lie in the bits of a pixel's word that its value does not use; encoders write comments,
EXIF and names of programs into each frame; and a file may hold anything behind its last pixel. None of it
changes a pixel, and none of it is seen by whoever looks at the picture. Video, whose streams are not taken
apart, and RLE without anything in unused bits stay as they are.

References
----------
DICOM PS3.5 8.1.1 (cells, unused bits), 8.2 and A.4 (encapsulated pixel data); ISO/IEC 18181-2 (boxes of
JPEG XL).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.attributes import integer
from viewers.codestream import frame_bytes, split_fragments
from viewers.decoder import CODECS
from viewers.openers.jpeg import bare_jpeg, bare_jpeg2000

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["clean_pixels"]

_PIXELS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_RLE: Final = "1.2.840.10008.1.2.5"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_XL_BOXES: Final = frozenset({b"JXL ", b"ftyp", b"jxll", b"jxlc", b"jxlp"})
"""What holds pixels; the rest is EXIF, XMP, indices and what a JPEG file needs to be made again."""


def _bare_jpegxl(data: bytes) -> bytes | None:
    """Return a JPEG XL without boxes that hold no pixels; a bare codestream comes back as it is."""
    if data[:2] == b"\xff\x0a":
        return data
    if data[4:8] != b"JXL ":
        return None
    kept, at = [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">L4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        end = len(data) if size == 0 else at + max(size, 8)
        if name in _XL_BOXES:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


_BARE: Final[dict[str, Callable[[bytes], bytes | None]]] = {
    **dict.fromkeys(("jpeg8", "ljpeg", "jpegls"), bare_jpeg),
    "jpeg2k": bare_jpeg2000,
    "jpegxl": _bare_jpegxl,
}
_LONGEST_OFFSET: Final = 2**32


def clean_pixels(dataset: Dataset) -> bool:
    """Take away, in place, what is no pixel; data whose description makes no sense stays as it is.

    Parameters
    ----------
    dataset : Dataset
        With its ``file_meta``.

    Returns
    -------
    bool
        ``False`` when something was left that was not taken apart: video, damaged frames.

    Raises
    ------
    OpenError
        If unused bits of compressed pixels would have to be cleared and cannot be decoded.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    codec = CODECS[syntax].codec if syntax in CODECS else ""
    present = [keyword for keyword in _PIXELS if keyword in dataset]
    if codec == "none":
        order = ">" if syntax == _BIG_ENDIAN else "<"
        cleaned = [_clean_native(dataset, keyword, order) for keyword in present]
        return all(cleaned)
    if "PixelData" not in present:
        return not present
    if codec == "rle":
        return _clean_rle(dataset)
    return codec in _BARE and _clean_frames(dataset, _BARE[codec])


def _frame_count(dataset: Dataset) -> int:
    return integer(dataset, "NumberOfFrames") or 1


def _length(dataset: Dataset) -> int | None:
    """Bytes that all frames need, without padding; ``None`` when the header does not say."""
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    bits, samples = integer(dataset, "BitsAllocated"), integer(dataset, "SamplesPerPixel") or 1
    if not rows or not columns or not bits or min(rows, columns, bits, samples) < 1:
        return None
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2
    return -(-rows * columns * samples * bits * _frame_count(dataset) // 8)


def _clean_native(dataset: Dataset, keyword: str, order: str) -> bool:
    data, length = dataset[keyword].value, _length(dataset)
    if not data:
        return True
    if not isinstance(data, bytes) or length is None:
        return False
    if len(data) < length:
        return True  # nothing is behind the last pixel, which is not there; the opener says so
    if order == ">":
        # Bytes of a big-endian word are swapped: of an odd number the last is behind its padding.
        length += length % 2
    data = data[:length]
    if keyword == "PixelData":
        data = _stored_bits(dataset, data, order)
    dataset[keyword].value = data + b"\0" * (len(data) % 2)
    return True


def _stored_bits(dataset: Dataset, data: bytes, order: str) -> bytes:
    """Clear the bits of each word that its value does not use; the sign of a signed one is extended."""
    allocated, stored = integer(dataset, "BitsAllocated"), integer(dataset, "BitsStored")
    if allocated not in {8, 16, 32} or stored is None or not 0 < stored < allocated:
        return data
    high = integer(dataset, "HighBit")
    high = stored - 1 if high is None or not stored - 1 <= high < allocated else high
    signed = integer(dataset, "PixelRepresentation") == 1
    words = np.frombuffer(data, f"{order}u{allocated // 8}")
    cleared = _cleared(words, stored, high, signed=signed)
    return data if np.array_equal(words, cleared) else cleared.astype(words.dtype).tobytes()


def _cleared(words: NDArray[Any], stored: int, high: int, *, signed: bool) -> NDArray[Any]:
    bits = 8 * words.itemsize
    up, down = bits - 1 - high, bits - stored
    kind = np.dtype(f"{'i' if signed else 'u'}{words.itemsize}")
    # Up to the top of the word and down again: what is above falls out, and the sign follows.
    native = words.astype(f"u{words.itemsize}") << np.uint8(up)
    value = native.view(kind) >> kind.type(down)
    return np.asarray((value << kind.type(high + 1 - stored)).view(f"u{words.itemsize}"))


def _clean_frames(dataset: Dataset, bare: Callable[[bytes], bytes | None]) -> bool:
    """Write each frame anew as one fragment, if any of them changes."""
    data = dataset.PixelData
    try:
        fragments = split_fragments(memoryview(data), _frame_count(dataset))
    except ValueError:
        return False
    frames = [frame_bytes(memoryview(data), places) for places in fragments]
    found = [bare(frame) for frame in frames]
    cleaned = [frame if made is None else made for frame, made in zip(frames, found, strict=True)]
    if all(map(_same, frames, cleaned)):
        return None not in found
    from pydicom.encaps import encapsulate

    total = sum(len(frame) + 9 for frame in cleaned)
    dataset["PixelData"].value = encapsulate(cleaned, has_bot=total < _LONGEST_OFFSET)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    return None not in found


def _same(frame: bytes, cleaned: bytes) -> bool:
    """Whether nothing went but the byte that makes a fragment's length even, which comes back."""
    return frame in {cleaned, cleaned + b"\0"}


def _clean_rle(dataset: Dataset) -> bool:
    """Frames with something in their unused bits become uncompressed; others stay."""
    allocated, stored = integer(dataset, "BitsAllocated"), integer(dataset, "BitsStored")
    if allocated not in {8, 16, 32} or stored is None or not 0 < stored < allocated:
        return True
    from viewers.decoder import FrameShape, decode

    view = memoryview(dataset.PixelData)
    try:
        fragments = split_fragments(view, _frame_count(dataset))
    except ValueError:
        return False
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    samples, codec = integer(dataset, "SamplesPerPixel") or 1, CODECS[_RLE]
    frames = []
    for index, places in enumerate(fragments):
        shape = FrameShape(index, rows, columns, samples, allocated, stored)
        values, _ = decode(codec, frame_bytes(view, places), shape)
        frames.append(np.ascontiguousarray(values).astype(f"<u{allocated // 8}").tobytes())
    decoded = b"".join(frames)
    data = _stored_bits(dataset, decoded, "<")
    if data == decoded:
        return True
    dataset["PixelData"].value = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if allocated > 8 else "OB"
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = _EXPLICIT
    if samples > 1:
        dataset.PlanarConfiguration = 0
    return True
