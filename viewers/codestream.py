"""Compressed frames looked at, not decoded: where each frame's bytes are, and what their own headers say.

A decoder allocates what a codestream's header asks for, so that header is read here first and compared
with the attributes of the dataset.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CodestreamHeader", "Fragments", "frame_bytes", "read_header", "split_fragments"]

Coding = Literal["jpeg8", "ljpeg", "jpegls", "jpeg2k", "jpegxl"]
Fragments = list[list[tuple[int, int]]]
"""For each frame, the (start, stop) bytes of its fragments."""

_SOF_BASELINE = frozenset({0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE})
_SOF_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_SOF_LS = 0xF7
_SOS = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


@dataclass(frozen=True, slots=True)
class CodestreamHeader:
    """What a JPEG, JPEG-LS or JPEG 2000 codestream says about itself."""

    coding: Coding
    rows: int
    columns: int
    components: int
    precision: int
    color_transform: bool | None = None
    """Whether three components are YCbCr (JPEG: Adobe or JFIF marker, component names) or were rotated by
    the codestream's own reversible transform (JPEG 2000); ``None`` when the codestream does not say."""
    point_transform: int = 0
    """Lowest bits that lossless JPEG left out before coding (ISO/IEC 10918-1 B.2.3, Al)."""


def split_fragments(data: memoryview, frame_count: int) -> Fragments:
    """Find each frame's fragments in encapsulated pixel data.

    Frames are told apart by count, by the start of a JPEG codestream, or by the basic offset table where
    it points at fragments.
    Reading stops at the delimiter or the end of the data; a fragment cut short is kept as it is.

    Raises
    ------
    ValueError
        If the data is not a sequence of items, or its fragments cannot be given to ``frame_count`` frames.

    References
    ----------
    DICOM PS3.5 A.4.
    """
    items = _items(data)
    if not items:
        raise ValueError("no items")
    offsets_item, fragments = items[0], items[1:]
    if frame_count == 1 and fragments:
        return [fragments]
    if len(fragments) == frame_count:
        return [[fragment] for fragment in fragments]
    starts = [fragment for fragment in fragments if bytes(data[fragment[0] : fragment[0] + 2]) in _STARTS]
    if len(starts) == frame_count and starts[0] == fragments[0]:
        return _by_offset(fragments, [start - fragments[0][0] for start, _ in starts])
    offsets = _offsets(data[slice(*offsets_item)])
    places = {start - fragments[0][0] for start, _ in fragments}
    # Tables are often wrong: written before fragments were split, or all 0.
    if len(offsets) == frame_count == len(set(offsets)) and places.issuperset(offsets):
        return _by_offset(fragments, sorted(offsets))
    raise ValueError(f"{len(fragments)} fragments for {frame_count} frames")


_STARTS = (b"\xff\xd8", b"\xff\x4f")


def _items(data: memoryview) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    at = 0
    while at + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHL", data, at)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            if found:
                break
            raise ValueError("pixel data does not begin with an item")
        found.append((at + 8, min(at + 8 + length, len(data))))
        at += 8 + length
    return found


def _offsets(table: memoryview) -> list[int]:
    return list(struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4]))


def _by_offset(fragments: list[tuple[int, int]], offsets: Sequence[int]) -> Fragments:
    first = fragments[0][0] - 8
    frames: Fragments = [[] for _ in offsets]
    frame = -1
    for start, stop in fragments:
        position = start - 8 - first
        while frame + 1 < len(offsets) and position >= offsets[frame + 1]:
            frame += 1
        if frame < 0:
            raise ValueError("a fragment stands before the first frame's offset")
        frames[frame].append((start, stop))
    if not all(frames):
        raise ValueError("the offset table names a frame without fragments")
    return frames


def frame_bytes(data: memoryview, fragments: Sequence[tuple[int, int]]) -> bytes:
    """Join one frame's fragments."""
    return b"".join(bytes(data[start:stop]) for start, stop in fragments)


def read_header(frame: bytes) -> CodestreamHeader | None:
    """Read a codestream's own header; ``None`` when it is of no known kind (RLE, deflate) or cut short."""
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg(frame)
        start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
        if start >= 0 and (start == 0 or frame[4:8] == b"jP  "):
            return _jpeg2000(frame, start)
    except (struct.error, IndexError):
        return None
    return None


def _jpeg(frame: bytes) -> CodestreamHeader | None:
    """ISO/IEC 10918-1 B.2.2 (frame header), and the application markers that tell the colour space."""
    at, transform = 2, None
    header: CodestreamHeader | None = None
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            at += 1
            continue
        marker = frame[at + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        body = frame[at + 4 : at + 2 + length]
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11] != 0
        elif marker == 0xE0 and body[:4] == b"JFIF" and transform is None:
            transform = True
        elif marker in _SOF_BASELINE or marker in _SOF_LOSSLESS or marker == _SOF_LS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", body)
            coding: Coding = (
                "ljpeg" if marker in _SOF_LOSSLESS else "jpegls" if marker == _SOF_LS else "jpeg8"
            )
            if transform is None and bytes(body[6::3][:3]) == b"RGB":
                transform = False
            header = CodestreamHeader(coding, rows, columns, components, precision, transform)
            if coding != "ljpeg":
                return header
        elif marker == _SOS and header is not None:
            return replace(header, point_transform=body[-1] & 0x0F)
        at += 2 + length
    return header


def _jpeg2000(frame: bytes, start: int) -> CodestreamHeader:
    """ISO/IEC 15444-1 A.5.1 (SIZ) and A.6.1 (COD: multiple component transformation)."""
    right, bottom, left, top = struct.unpack_from(">4L", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    precision = (frame[start + 42] & 0x7F) + 1
    at, transform = start + 2, None
    while frame[at : at + 2] not in {b"\xff\x90", b""}:
        if frame[at : at + 2] == b"\xff\x52":
            transform = frame[at + 8] != 0
            break
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return CodestreamHeader("jpeg2k", bottom - top, right - left, components, precision, transform)
