"""JPEG tiles: one that needs tables from elsewhere becomes a picture that stands alone.

What is kept of a tile are the segments its pixels need. Comments and application segments go wherever they
stand, so that no text of a header travels with a tile; the colour space they declare is declared again, by
ours.

References
----------
ISO/IEC 10918-1 annex B (segments); TIFF Technical Note 2 (tables in a tag of their own).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["JpegTile", "bare_jpeg", "bare_jpeg2000", "read_tile"]

_KEPT: Final = frozenset({0xDB, 0xC4, 0xDD, 0xCC})
"""Quantisation and Huffman tables, restart interval, arithmetic conditioning."""
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended sequential, progressive: what browsers and every decoder read."""
_OTHER_FRAMES: Final = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_TEXTS: Final = frozenset({*range(0xE0, 0xF7), *range(0xF9, 0xFF)})
"""Application segments, extensions and comments; 0xF7 and 0xF8 are the frame and parameters of JPEG-LS."""
_MARKER: Final = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""What ends entropy-coded data: restart markers and stuffed bytes do not (B.1.1.2, B.1.1.5)."""
_START, _END = b"\xff\xd8", b"\xff\xd9"
_ADOBE: Final = {
    False: b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00",
    True: b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01",
}
"""Adobe's segment that says RGB (False) or YCbCr (True)."""


@dataclass(frozen=True, slots=True)
class JpegTile:
    """Segments of one tile."""

    rows: int
    columns: int
    components: int
    precision: int
    ycbcr: bool | None
    """What the tile says of its three components itself; ``None`` when it says nothing."""
    tables: bytes
    frame: bytes
    scan: bytes
    """From the first start of scan to the end of the image."""

    def alone(self, tables: bytes, *, ycbcr: bool) -> bytes:
        """Return a JPEG without anything but pixels; ``tables`` are put before the tile's own."""
        color = _ADOBE[ycbcr] if self.components == 3 else b""
        return b"\xff\xd8" + color + tables + self.tables + self.frame + self.scan

    def bare(self) -> bytes:
        """Return the tile without anything but pixels, for those who know its tables and colours."""
        return b"\xff\xd8" + self.tables + self.frame + self.scan


def read_tile(data: bytes) -> JpegTile | None:
    """Take a tile, or a stream of tables only, apart; ``None`` when it is no JPEG of 8 bits.

    Tables only: ``rows`` is 0 and ``scan`` is empty.
    """
    try:
        return _read(data)
    except (struct.error, IndexError):
        return None


def _read(data: bytes) -> JpegTile | None:
    if data[:2] != b"\xff\xd8":
        return None
    tables: list[bytes] = []
    frame, ycbcr, at = b"", None, 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in _OTHER_FRAMES:
            return None
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            return _made(tables, frame, ycbcr, _scans(data, at))
        (length,) = struct.unpack_from(">H", data, at + 2)
        segment = data[at : at + 2 + length]
        if marker in _KEPT:
            tables.append(segment)
        elif marker in _FRAMES:
            frame = segment
        elif marker == 0xEE and segment[4:9] == b"Adobe" and len(segment) >= 16:
            ycbcr = segment[15] != 0
        elif marker == 0xE0 and segment[4:8] == b"JFIF" and ycbcr is None:
            ycbcr = True
        at += 2 + length
    return None if frame else _made(tables, b"", ycbcr, b"")


def _scans(data: bytes, at: int) -> bytes:
    """From the first scan to the end of the image, without text between scans and without what follows."""
    kept = []
    while at + 4 <= len(data) and data[at : at + 2] not in {_START, _END}:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        following = _MARKER.search(data, end)
        stop = len(data) if following is None else following.start()
        if data[at + 1] == 0xDA:
            kept.append(data[at:stop])
        elif data[at + 1] not in _TEXTS:
            kept.append(data[at:end])
        at = stop
    return b"".join(kept) + (_END if at < len(data) else b"")


def bare_jpeg(data: bytes) -> bytes | None:
    """Return a JPEG or JPEG-LS of any kind without comments, application data and what follows its end.

    What such segments say of the colours is said again in the shortest form. ``None`` when it cannot be
    read.

    References
    ----------
    ISO/IEC 10918-1 B.1.1.3 (markers), ISO/IEC 10918-5 (JFIF), ISO/IEC 14495-1 (JPEG-LS).
    """
    if not data.startswith(_START):
        return None
    kept, at = [_START], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            return b"".join([*kept, _scans(data, at)])
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at:end]
        kept.append(_colors(segment) if marker in _TEXTS else segment)
        at = end
    return None


def _colors(segment: bytes) -> bytes:
    """Return what an application segment says of the colours, and nothing else."""
    if segment[1] == 0xEE and segment[4:9] == b"Adobe" and len(segment) >= 16:
        return _ADOBE[False][:-1] + segment[15:16]
    if segment[1] == 0xE0 and segment[4:9] == b"JFIF\0":
        return b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    if segment[1] == 0xE8 and segment[4:8] == b"mrfx" and len(segment) == 9:
        return segment  # the colour transform of HP's JPEG-LS
    return b""


def _made(tables: list[bytes], frame: bytes, ycbcr: bool | None, scan: bytes) -> JpegTile | None:  # noqa: FBT001
    joined = b"".join(tables)
    if not frame:
        return None if scan else JpegTile(0, 0, 0, 8, ycbcr, joined, b"", b"")
    precision, rows, columns, components = struct.unpack_from(">BHHB", frame, 4)
    if precision != 8 or components not in {1, 3}:
        return None
    if ycbcr is None and frame[10:19:3] == b"RGB":
        ycbcr = False
    return JpegTile(rows, columns, components, precision, ycbcr, joined, frame, scan)


def bare_jpeg2000(data: bytes) -> bytes | None:
    """Return a JPEG 2000 codestream without its wrapping, comments and what follows its end.

    ``None`` when it cannot be read.

    References
    ----------
    ISO/IEC 15444-1 annex A: SOC, SIZ, COM, TLM, SOT, SOD, EOC.
    """
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0:
        return None
    try:
        main, at = _without_comments(data, start + 2, b"\xff\x90")
        parts, shorter = _tile_parts(data, at)
    except struct.error:
        return None
    if shorter:
        # TLM repeats the lengths of tile-parts; it may be left out.
        main = [segment for segment in main if segment[:2] != b"\xff\x55"]
    return b"".join([data[start : start + 2], *main, *parts])


def _without_comments(data: bytes, at: int, end: bytes) -> tuple[list[bytes], int]:
    """Segments of a header up to the marker that ends it, and where that stands.

    Raises
    ------
    struct.error
        If it never comes.
    """
    kept = []
    while data[at : at + 2] != end:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker < 0xFF00 or length < 2:
            raise struct.error("no segment")
        if marker != 0xFF64:
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return kept, at


def _tile_parts(data: bytes, at: int) -> tuple[list[bytes], bool]:
    """Tile-parts without the comments of their headers, and whether one had any."""
    parts, shorter = [], False
    while data[at : at + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">L", data, at + 6)
        header, body = _without_comments(data, at + 12, b"\xff\x93")
        if length == 0:  # the last one, up to the end of the codestream
            end = data.rfind(_END, body)
            end = len(data) if end < 0 else end
        else:
            end = at + max(length, body + 2 - at)
        removed = body - at - 12 - sum(map(len, header))
        shorter = shorter or removed > 0
        stated = struct.pack(">L", max(0, length - removed))
        parts += [data[at : at + 6], stated, data[at + 10 : at + 12], *header, data[body:end]]
        at = end
    return [*parts, _END] if data[at : at + 2] == _END else parts, shorter
