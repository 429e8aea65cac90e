"""Write a slide's tiles in a form of our own: copied where they can be, drawn anew where they cannot.

A tile that is neither a JPEG nor a JPEG 2000, or too long or large to be read quickly, is cut into squares.
Levels are added where one has more than four times the detail of the next, and until the last is small, so
that no tile and no overview ever needs more than some dozens of stored tiles.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from viewers.findings import Finding, finding
from viewers.geometry import Region, SizePx
from viewers.openers.flat import FlatPixels
from viewers.openers.tiled import Coding, ReadAt, TileGrid, Tiles, clean, decoder
from viewers.scaled import read_scaled
from viewers.slide import Level, Slide, SlideFacts
from viewers.slide_record import StoredSlide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["write_tiles"]

_TILE: Final = 256
_SIDES: Final = range(64, 2049)
"""Sides of tiles that are copied as they are."""
_STEP: Final = 4
"""Detail of a level divided by that of the next, at most, and of levels that are added."""
_SMALL: Final = 2048
"""Pixels along the longer side of a last level, at most."""
_QUALITY: Final = 95
"""JPEG quality, 0-100, of added levels and where JPEG strips are cut into squares; colours at full
resolution. Added levels are a fifteenth of the whole, so quality costs little there."""
_DAMAGED: Final = b"\0"
"""Stands for a tile that cannot be read, and never decodes: the place is damaged, not empty."""


def write_tiles(slide: Slide, folder: Path, tell: Callable[[float], None]) -> StoredSlide:
    """Write ``tiles.bin``, ``index.bin`` and, if there is one, ``profile.icc`` into an empty folder.

    Parameters
    ----------
    tell : callable
        Called with the part done, 0 to 1, several times a second.

    Raises
    ------
    OpenError
        If tiles cannot be decoded that have to be.
    OSError
        If the disk refuses.
    """
    if slide.profile is not None:
        (folder / "profile.icc").write_bytes(slide.profile)
    with _Writer(slide, folder, tell) as writer:
        writer.own_levels()
        writer.add_levels()
        return writer.finish()


class _Writer:
    """Tiles are appended; a level's place in the index is settled at the end, by detail."""

    def __init__(self, slide: Slide, folder: Path, tell: Callable[[float], None]) -> None:
        self._slide, self._folder, self._tell = slide, folder, tell
        self._stream = (folder / "tiles.bin").open("wb")
        self._reader = ReadAt(folder / "tiles.bin")
        self._sha256 = hashlib.sha256()
        self._at = 0
        self._levels: list[tuple[Level, Coding, NDArray[np.int64]]] = []
        self._all = sum(_tiles(level.size, level.tile) for level in slide.levels)
        self._done = 0
        self._found = _found(slide.findings)
        side = slide.levels[0].tile
        self._side = side.width if side.width == side.height and 128 <= side.width <= 1024 else _TILE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._reader.close()

    def own_levels(self) -> None:
        """Write the levels the slide has."""
        for number, level in enumerate(self._slide.levels):
            grid = self._slide.source.grids[number] if isinstance(self._slide.source, Tiles) else None
            if grid is not None and _copies(grid):
                self._write(level, grid.coding, _copied(grid))
            else:
                self._cut(number, level, grid)

    def _cut(self, number: int, level: Level, grid: TileGrid | None) -> None:
        # What is not one of our own kinds of pixels comes from OpenSlide, which reads what was compressed.
        lossy = grid.coding.name == "jpeg" if grid else not isinstance(self._slide.source, FlatPixels)
        coding = Coding("jpeg", ycbcr=True) if lossy else Coding("png")
        square = replace(level, tile=SizePx(self._side, self._side))
        self._all += _tiles(level.size, square.tile)
        self._write(square, coding, self._squares(number, square, coding))

    def _squares(self, number: int, level: Level, coding: Coding) -> Iterator[bytes]:
        """Squares of a level, read in bands as wide as the slide."""
        side = level.tile.width
        for top in range(0, level.size.height, side):
            rows = min(side, level.size.height - top)
            band = self._slide.source.read(number, Region(0, top, level.size.width, rows))
            for left in range(0, level.size.width, side):
                yield _encoded(_padded(band[:, left : left + side], side), coding)

    def _write(self, level: Level, coding: Coding, tiles: Iterator[bytes]) -> None:
        index = np.zeros((_tiles(level.size, level.tile), 2), np.int64)
        for number, tile in enumerate(tiles):
            if tile:
                index[number] = self._at, len(tile)
                self._stream.write(tile)
                self._sha256.update(tile)
                self._at += len(tile)
            self._done += 1
            if self._done % 64 == 0:
                self._tell(min(0.99, self._done / max(1, self._all)))
        self._levels.append((level, coding, index))
        self._levels.sort(key=lambda made: made[0].downsample)

    def add_levels(self) -> None:
        """Add levels of less detail where they are missing."""
        added = 0
        while (level := self._gap()) is not None:
            self._all += _tiles(level.size, level.tile)
            self._write(level, Coding("jpeg", ycbcr=True), self._averaged(level))
            added += 1
        if added:
            self._found.append(finding("levels_added", count=added))

    def _gap(self) -> Level | None:
        """Return the first level that is missing."""
        levels = [level for level, _, _ in self._levels]
        full = levels[0].size
        for level, after in zip(levels, [*levels[1:], None], strict=True):
            enough = max(level.size.width, level.size.height) <= _SMALL
            if enough if after is None else after.downsample <= level.downsample * (_STEP + 0.5):
                continue
            down = round(level.downsample * _STEP)
            size = SizePx(-(-full.width // down), -(-full.height // down))
            return Level(size, float(down), SizePx(self._side, self._side))
        return None

    def _averaged(self, level: Level) -> Iterator[bytes]:
        """Squares of a level that is missing, from the levels that are written."""
        self._stream.flush()
        facts = SlideFacts("", tuple(known for known, _, _ in self._levels), None)
        grids = [
            TileGrid(
                known.size,
                known.tile,
                index[:, 0],
                index[:, 1],
                self._reader,
                coding,
                decoder(coding, known.tile),
            )
            for known, coding, index in self._levels
        ]
        written = Slide(facts, Tiles(grids, []))
        down, side, full = int(level.downsample), level.tile.width, facts.levels[0].size
        for top in range(0, full.height, side * down):
            for left in range(0, full.width, side * down):
                region = Region(
                    left, top, min(side * down, full.width - left), min(side * down, full.height - top)
                )
                square = read_scaled(written, region, down)
                yield _encoded(_padded(square, side), Coding("jpeg", ycbcr=True))

    def finish(self) -> StoredSlide:
        """Write the index; returns the description."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        index = np.concatenate([index for _, _, index in self._levels])
        (self._folder / "index.bin").write_bytes(index.astype("<i8").tobytes())
        levels = tuple(level for level, _, _ in self._levels)
        facts = replace(self._slide.describes, levels=levels, findings=tuple(self._found))
        codings = tuple(coding for _, coding, _ in self._levels)
        self._tell(1.0)
        return StoredSlide(self._slide.digest, self._sha256.hexdigest(), None, facts, codings)


def _found(findings: tuple[Finding, ...]) -> list[Finding]:
    """Return the findings of the copy: the label is not in it."""
    return [finding("label_removed") if found.key == "finding.label_present" else found for found in findings]


def _tiles(size: SizePx, tile: SizePx) -> int:
    return -(-size.width // tile.width) * -(-size.height // tile.height)


def _copies(grid: TileGrid) -> bool:
    fitting = grid.tile.width in _SIDES and grid.tile.height in _SIDES
    return fitting and grid.coding.name in {"jpeg", "jpeg2000"}


def _copied(grid: TileGrid) -> Iterator[bytes]:
    magic = b"\xff\xd8" if grid.coding.name == "jpeg" else b"\xff\x4f"
    for index in range(grid.columns * grid.rows):
        raw = grid.stored(index)
        made = clean(grid.coding, raw)
        readable = made.startswith(magic) and made is not raw
        yield made if readable or not raw else _DAMAGED


def _padded(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    missing = side - rgb.shape[0], side - rgb.shape[1]
    if max(missing) == 0:
        return np.ascontiguousarray(rgb)
    return np.pad(rgb, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def _encoded(rgb: NDArray[np.uint8], coding: Coding) -> bytes:
    from imagecodecs import jpeg8_encode, png_encode

    if coding.name == "png":
        return bytes(png_encode(rgb, level=1))
    return clean(coding, bytes(jpeg8_encode(rgb, level=_QUALITY, subsampling="444")))
