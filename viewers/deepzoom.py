"""Deep Zoom: a slide as squares of a pyramid whose levels halve, for a viewer that loads what it shows.

The arithmetic is pure. Deep Zoom counts its levels from the other end than a slide: level 0 is one pixel,
the last is full detail, and each level has half the size of the next, rounded up. Tiles do not overlap.
A tile's name is its level, column and row; whatever else is asked for is refused before anything is read.

A tile is the JPEG the scanner made where the slide has one of exactly this place, passed on without its
metadata; else the slide's pixels, averaged as :mod:`viewers.scaled` does, as JPEG of :data:`QUALITY`.

References
----------
Deep Zoom file format overview, Microsoft (schema of 2008).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from viewers.errors import TileOutOfRangeError
from viewers.geometry import Region, SizePx
from viewers.scaled import read_scaled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viewers.slide import Slide

__all__ = ["QUALITY", "DeepZoom", "TileAddress", "deep_zoom", "draw_tile", "encode_tile", "read_address"]

QUALITY: Final = 85
"""JPEG quality, 0-100, of tiles drawn here; colours are kept at full resolution."""
_TILE: Final = 256
_TILE_SIDES: Final = range(128, 1025)
"""Sides a slide's own tiles may have to be taken as they are: smaller ones are too many, larger too slow."""
_ADDRESS: Final = re.compile(r"(\d{1,2})/(\d{1,7})_(\d{1,7})\.jpe?g", re.ASCII)


@dataclass(frozen=True, slots=True)
class TileAddress:
    """One tile."""

    level: int
    """Deep Zoom's level, from 0, a single pixel."""
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class DeepZoom:
    """The pyramid of one slide."""

    size: SizePx
    tile: int = _TILE
    """Side of a tile in pixels; those at the right and bottom are smaller."""

    @property
    def levels(self) -> int:
        """Number of levels; the last is full detail."""
        return (max(self.size.width, self.size.height) - 1).bit_length() + 1

    def scale(self, level: int) -> int:
        """Pixels of full detail along one pixel of a level.

        Raises
        ------
        TileOutOfRangeError
            If there is no such level.
        """
        if not 0 <= level < self.levels:
            raise TileOutOfRangeError(found=str(level), expected=f"0-{self.levels - 1}")
        return 1 << (self.levels - 1 - level)

    def level_size(self, level: int) -> SizePx:
        """Size of a level in its own pixels.

        Raises
        ------
        TileOutOfRangeError
        """
        scale = self.scale(level)
        return SizePx(-(-self.size.width // scale), -(-self.size.height // scale))

    def tiles(self, level: int) -> tuple[int, int]:
        """Columns and rows of tiles of a level.

        Raises
        ------
        TileOutOfRangeError
        """
        size = self.level_size(level)
        return -(-size.width // self.tile), -(-size.height // self.tile)

    def region(self, address: TileAddress) -> Region:
        """Pixels of full detail that a tile shows, all of them on the slide.

        Raises
        ------
        TileOutOfRangeError
            If there is no such tile.
        """
        columns, rows = self.tiles(address.level)
        if not (0 <= address.column < columns and 0 <= address.row < rows):
            found = f"{address.level}/{address.column}_{address.row}"
            raise TileOutOfRangeError(found=found, expected=f"0-{columns - 1}_0-{rows - 1}")
        side = self.tile * self.scale(address.level)
        x, y = address.column * side, address.row * side
        return Region(x, y, min(side, self.size.width - x), min(side, self.size.height - y))

    def dzi(self) -> str:
        """Describe the pyramid as the XML viewers of Deep Zoom read."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" '
            f'Format="jpeg" Overlap="0" TileSize="{self.tile}">'
            f'<Size Width="{self.size.width}" Height="{self.size.height}"/></Image>'
        )


def read_address(text: str) -> TileAddress:
    """Read ``LEVEL/COLUMN_ROW.jpeg`` (or ``.jpg``), and nothing else.

    Raises
    ------
    TileOutOfRangeError
        If it is written in any other way.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        # What was asked for is not repeated: it may hold anything.
        raise TileOutOfRangeError(found="?", expected="LEVEL/COLUMN_ROW.jpeg")
    return TileAddress(*(int(number) for number in match.groups()))


def deep_zoom(slide: Slide) -> DeepZoom:
    """Return the pyramid of a slide; its tiles are the slide's own squares, where those are of a fit size."""
    tile = slide.levels[0].tile
    own = tile.width == tile.height and tile.width in _TILE_SIDES
    return DeepZoom(slide.size, tile.width if own else _TILE)


def draw_tile(slide: Slide, zoom: DeepZoom, address: TileAddress) -> NDArray[np.uint8]:
    """Draw a tile as RGB, shape (rows, columns, 3).

    Raises
    ------
    TileOutOfRangeError
    OpenError
        If the pixels cannot be decoded.
    """
    return read_scaled(slide, zoom.region(address), zoom.scale(address.level))


def encode_tile(slide: Slide, zoom: DeepZoom, address: TileAddress) -> bytes:
    """Return a tile as JPEG, as the module's first lines say.

    Raises
    ------
    TileOutOfRangeError
    OpenError
        If the pixels cannot be decoded.
    """
    region = zoom.region(address)
    return _passed_on(slide, zoom, address, region) or _encoded(draw_tile(slide, zoom, address))


def _encoded(rgb: NDArray[np.uint8]) -> bytes:
    from imagecodecs import jpeg8_encode

    return bytes(jpeg8_encode(rgb, level=QUALITY, subsampling="444"))


def _passed_on(slide: Slide, zoom: DeepZoom, address: TileAddress, region: Region) -> bytes | None:
    """Return the stored JPEG that is exactly this tile, if there is one."""
    scale = zoom.scale(address.level)
    number = slide.level_for(scale)
    level = slide.levels[number]
    if level.downsample != scale or (level.tile.width, level.tile.height) != (zoom.tile, zoom.tile):
        return None
    if (region.width, region.height) != (zoom.tile * scale, zoom.tile * scale):
        return None  # at the right and bottom the stored tile is padded
    return slide.encoded_tile(number, address.column, address.row)
