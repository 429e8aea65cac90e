"""JPEG tiles: one that needs tables from elsewhere becomes a picture that stands alone.

What is kept of a tile are the segments its pixels need. Comments and application segments go, so that no
text of a header travels with a tile; the colour space they declare is declared again, by ours.

References
----------
ISO/IEC 10918-1 annex B (segments); TIFF Technical Note 2 (tables in a tag of their own).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["JpegTile", "bare_jpeg2000", "read_tile"]

_KEPT: Final = frozenset({0xDB, 0xC4, 0xDD, 0xCC})
"""Quantisation and Huffman tables, restart interval, arithmetic conditioning."""
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended sequential, progressive: what browsers and every decoder read."""
_OTHER_FRAMES: Final = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_END: Final = b"\xff\xd9"
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
            return _made(tables, frame, ycbcr, _ended(data, at, frame))
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


def _ended(data: bytes, at: int, frame: bytes) -> bytes:
    """Cut what follows the end of the image; inside a scan the end's marker cannot occur (B.1.1.5)."""
    progressive = frame[1:2] == b"\xc2"
    end = data.rfind(_END, at) if progressive else data.find(_END, at)
    return data[at:] if end < 0 else data[at : end + 2]


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


def bare_jpeg2000(data: bytes) -> bytes:
    """Return a JPEG 2000 codestream without its wrapping and the comments of its main header.

    What cannot be read comes back as it is.

    References
    ----------
    ISO/IEC 15444-1 annex A: SOC, SIZ, COM, SOT.
    """
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0:
        return data
    kept, at = [data[start : start + 2]], start + 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0x90:
            return b"".join([*kept, data[at:]])
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker != 0x64:
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return data
