"""Levels made of stored tiles: where each tile's bytes are, how they decode, and regions put together.

This is what TIFF pyramids, DICOM slides and stored slides have in common. It knows no file format: an
opener fills :class:`TileGrid`, and a :class:`Tiles` reads, decodes and passes tiles on.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from viewers.codestream import read_header
from viewers.errors import CorruptTileError
from viewers.openers.jpeg import bare_jpeg2000, read_tile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from viewers.geometry import Region, SizePx

__all__ = [
    "WHITE",
    "Closes",
    "Coding",
    "ReadAt",
    "Segments",
    "TileGrid",
    "Tiles",
    "as_rgb",
    "clean",
    "decoder",
]

_SHARED_FROM: Final = 12
"""Tiles of a region from which on several threads decode them; a single tile never waits for others."""
WHITE: Final = 255
"""What a place without pixels is drawn as: light passes where no tissue is."""


Decode = Callable[[bytes, int], "NDArray[np.uint8]"]
"""A tile's bytes and its index to RGB."""


class Segments(Protocol):
    """Files that bytes are read from by place."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes; fewer at the end of the file."""
        ...


class Closes(Protocol):
    """What is let go of with a slide."""

    def close(self) -> None:
        """Let it go."""
        ...


class ReadAt:
    """One open file, read from several threads at once.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = os.fstat(self._stream.fileno()).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._stream.fileno(), length, offset)
        with self._lock:
            self._stream.seek(offset)
            return self._stream.read(length) or b""

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


@dataclass(frozen=True, slots=True)
class Coding:
    """How tiles are compressed."""

    name: Literal["jpeg", "jpeg2000", "png", "other"]
    ycbcr: bool = False
    """Whether three components are YCbCr, where the codestream's own transform does not say so."""
    tables: bytes = b""
    """JPEG segments that every tile needs."""


@dataclass(frozen=True, slots=True, eq=False)
class TileGrid:
    """One level as its file stores it: tiles of equal size in rows, the last ones padded.

    Parameters
    ----------
    size, tile : SizePx
    offsets, lengths : ndarray of int64, shape (rows of tiles x columns of tiles,)
        Of each tile's bytes; length 0 where the scanner left the place out.
    file : Segments
    coding : Coding
    decode : callable
        Turns a tile's bytes and its index into RGB uint8 of at most the tile's size.
    """

    size: SizePx
    tile: SizePx
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    file: Segments
    coding: Coding
    decode: Decode

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.size.width // self.tile.width)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.size.height // self.tile.height)

    def stored(self, index: int) -> bytes:
        """Read a tile's bytes; empty where there is none."""
        length = int(self.lengths[index])
        return self.file.read_at(int(self.offsets[index]), length) if length else b""

    def alone(self, index: int) -> bytes | None:
        """Return a tile as a JPEG that stands alone, ``None`` when it is none of the tile's size."""
        if self.coding.name != "jpeg":
            return None
        tile = read_tile(self.stored(index))
        if tile is None or (tile.columns, tile.rows) != (self.tile.width, self.tile.height):
            return None
        return tile.alone(self.coding.tables, ycbcr=self.coding.ycbcr)


class Tiles:
    """Pixels of levels made of tiles; see :class:`viewers.slide.SlidePixels`.

    Parameters
    ----------
    grids : sequence of TileGrid
        One for each level.
    files : sequence
        What :meth:`close` closes.
    """

    def __init__(self, grids: Sequence[TileGrid], files: Sequence[Closes]) -> None:
        self.grids = tuple(grids)
        self._files = tuple(files)

    def read(self, level: int, region: Region) -> NDArray[np.uint8]:
        """Read RGB of a region in pixels of the level; see :class:`viewers.slide.SlidePixels`."""
        grid = self.grids[level]
        width, height = grid.tile.width, grid.tile.height
        first_column, last_column = region.x // width, (region.x + region.width - 1) // width
        first_row, last_row = region.y // height, (region.y + region.height - 1) // height
        if (first_column, first_row) == (last_column, last_row):
            rgb = self.tile(level, first_column, first_row)
            top, left = region.y - first_row * height, region.x - first_column * width
            return _cut(rgb, top, left, region)
        drawn = np.full((region.height, region.width, 3), WHITE, np.uint8)
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                _paste(
                    drawn, self.tile(level, column, row), column * width - region.x, row * height - region.y
                )
        return drawn

    def tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Decode one tile: RGB of at most the tile's size.

        Raises
        ------
        CorruptTileError
        """
        grid = self.grids[level]
        index = row * grid.columns + column
        try:
            raw = grid.stored(index)
            if not raw:
                return np.full((grid.tile.height, grid.tile.width, 3), WHITE, np.uint8)
            return grid.decode(raw, index)
        except Exception as error:  # codecs raise classes of their own, without a common base
            reason = _reason(grid.coding, error)
            raise CorruptTileError(level=level, column=column, row=row, reason=reason) from error

    def encoded_tile(self, level: int, column: int, row: int) -> bytes | None:
        """Return one tile as a JPEG that stands alone; see :class:`viewers.slide.SlidePixels`."""
        grid = self.grids[level]
        return grid.alone(row * grid.columns + column)

    def content(self) -> Iterator[bytes]:
        """Yield every tile's bytes without their metadata, level after level."""
        for grid in self.grids:
            yield grid.coding.tables
            for index in range(grid.columns * grid.rows):
                yield clean(grid.coding, grid.stored(index))

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


def _reason(coding: Coding, error: Exception) -> str:
    """Say in words why a tile is not shown; what a codec says may quote the file."""
    if isinstance(error, OSError):
        return "unreadable file"
    if isinstance(error, MemoryError):
        return "not enough memory"
    kind = {"jpeg": "JPEG", "jpeg2000": "JPEG 2000", "png": "PNG", "other": "data"}[coding.name]
    return f"damaged {kind}"


@cache
def _decoders() -> ThreadPoolExecutor:
    """Threads that decode beside each other: codecs let go of the interpreter while they work."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), "slide-tiles")


def _cut(rgb: NDArray[np.uint8], top: int, left: int, region: Region) -> NDArray[np.uint8]:
    cut = rgb[top : top + region.height, left : left + region.width]
    if cut.shape[:2] == (region.height, region.width):
        return cut
    drawn = np.full((region.height, region.width, 3), WHITE, np.uint8)
    drawn[: cut.shape[0], : cut.shape[1]] = cut
    return drawn


def _paste(drawn: NDArray[np.uint8], tile: NDArray[np.uint8], left: int, top: int) -> None:
    """Put a tile where it belongs; what reaches outside is left away."""
    from_x, from_y = max(0, -left), max(0, -top)
    part = tile[from_y : drawn.shape[0] - top, from_x : drawn.shape[1] - left]
    drawn[top + from_y : top + from_y + part.shape[0], left + from_x : left + from_x + part.shape[1]] = part


def clean(coding: Coding, raw: bytes) -> bytes:
    """Return a tile without comments and application data; what cannot be read comes back as it is."""
    if coding.name == "jpeg":
        tile = read_tile(raw)
        return raw if tile is None else tile.bare()
    if coding.name == "jpeg2000":
        bare = bare_jpeg2000(raw)
        return raw if bare is None else bare
    return raw


def decoder(coding: Coding, tile: SizePx) -> Decode:
    """Make the decoder of a coding that is not ``other``; it refuses what is larger than a tile.

    A codec allocates what a codestream asks for, so what it asks for is read first.
    """
    if coding.name == "jpeg":
        return _jpeg_decoder(coding, tile)
    if coding.name == "jpeg2000":
        return _jpeg2k_decoder(coding, tile)
    return _png_decoder(tile)


def _jpeg_decoder(coding: Coding, tile: SizePx) -> Decode:
    from imagecodecs import jpeg8_decode

    def decode(raw: bytes, _index: int) -> NDArray[np.uint8]:
        parts = read_tile(raw)
        if parts is None or parts.columns > tile.width or parts.rows > tile.height:
            raise ValueError("not a JPEG of the tile's size")
        return as_rgb(jpeg8_decode(parts.alone(coding.tables, ycbcr=coding.ycbcr)))

    return decode


def _jpeg2k_decoder(coding: Coding, tile: SizePx) -> Decode:
    from imagecodecs import jpeg2k_decode

    def decode(raw: bytes, _index: int) -> NDArray[np.uint8]:
        header = read_header(raw)
        if header is None or header.columns > tile.width or header.rows > tile.height:
            raise ValueError("not a JPEG 2000 of the tile's size")
        decoded = as_rgb(jpeg2k_decode(raw))
        return _from_ycbcr(decoded) if coding.ycbcr and not header.color_transform else decoded

    return decode


def _png_decoder(tile: SizePx) -> Decode:
    from imagecodecs import png_decode

    def decode(raw: bytes, _index: int) -> NDArray[np.uint8]:
        # IHDR is the first chunk of a PNG (ISO/IEC 15948 11.2.2): width and height at bytes 16 to 24.
        width, height = struct.unpack_from(">LL", raw, 16)
        if width > tile.width or height > tile.height:
            raise ValueError("not a PNG of the tile's size")
        return as_rgb(png_decode(raw))

    return decode


def _from_ycbcr(ycbcr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Full-range YCbCr of ITU-R BT.601 to RGB, as JFIF defines it."""
    luma = ycbcr[..., 0].astype(np.float32)
    blue, red = (ycbcr[..., channel].astype(np.float32) - 128 for channel in (1, 2))
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def as_rgb(pixels: NDArray[Any], bits: int = 16, *, associated: bool = False) -> NDArray[np.uint8]:
    """Grey, RGB or RGBA of 8 or 16 bits to RGB of 8 bits; transparent is white.

    Parameters
    ----------
    bits : int
        How many of 16 bits the values use, 8 to 16: the upper 8 of these are kept.
    associated : bool
        Whether RGB was multiplied by its alpha already (TIFF 6.0 section 18).

    Raises
    ------
    ValueError
        If it is none of these.
    """
    pixels = np.asarray(pixels)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint16:
        pixels = (np.minimum(pixels, 2**bits - 1) >> (bits - 8)).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels of {pixels.dtype}")
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in {1, 3, 4}:
        raise ValueError(f"pixels of shape {pixels.shape}")
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        color = pixels[..., :3].astype(np.uint16) * (255 if associated else alpha)
        laid = (color.astype(np.uint32) + WHITE * (255 - alpha.astype(np.uint32)) + 127) // 255
        return np.asarray(np.minimum(laid, 255), np.uint8)
    return pixels
