"""Parts of a slide in the form of a stored slide: chosen regions in detail, the rest in little.

An excerpt keeps the frame of the slide it is of: sizes, levels and places are the same, so a view of the
slide is a view of the excerpt and shows the same pixels. Tiles that did not come along are drawn from the
next level that has them. It is what leaves with a conversation about a slide that is too large to go along,
or whose own files may hold names.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image as Pillow

from viewers.findings import Finding, finding
from viewers.geometry import Region, SizePx
from viewers.openers.tiled import Coding, TileGrid, Tiles
from viewers.scaled import fits, read_scaled
from viewers.slide import Level
from viewers.slide_record import StoredSlide, slide_to_json
from viewers.slide_view import scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from viewers.slide import Slide

__all__ = ["EXCERPTS", "ExcerptTiles", "reason_for", "write_excerpt"]

EXCERPTS: Final = frozenset({"finding.excerpt_large", "finding.excerpt_original"})
"""Findings of an excerpt, each a reason for it."""
_WHOLE_PX: Final = 2048
"""Longer side of a level that always comes along as a whole."""
_FINE_PX: Final = 2**24
"""Pixels of a region at a level up to which levels of more detail than the model saw come along."""
_SIDE: Final = 256


class ExcerptTiles(Tiles):
    """Pixels of an excerpt (:class:`viewers.slide.SlidePixels`): what a level lacks is drawn from the next.

    Parameters
    ----------
    grids, files
        As for :class:`viewers.openers.tiled.Tiles`.
    levels : sequence of Level
        One for each grid.
    """

    def __init__(self, grids: Sequence[TileGrid], files: Sequence[object], levels: Sequence[Level]) -> None:
        super().__init__(grids, files)  # type: ignore[arg-type]  # whatever closes
        self._levels = tuple(levels)

    def tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Decode one tile, or draw its place from a level of less detail."""
        grid = self.grids[level]
        if int(grid.lengths[row * grid.columns + column]) or level + 1 == len(self.grids):
            return super().tile(level, column, row)
        coarser = self._levels[level + 1]
        factor = coarser.downsample / self._levels[level].downsample
        width, height = grid.tile.width, grid.tile.height
        left, right = _span(column * width, width, factor, coarser.size.width)
        top, bottom = _span(row * height, height, factor, coarser.size.height)
        x, y = int(left), int(top)
        source = Region(x, y, max(1, -int(-right // 1) - x), max(1, -int(-bottom // 1) - y))
        picture = Pillow.fromarray(self.read(level + 1, source))
        box = (left - x, top - y, right - x, bottom - y)
        return np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR, box))


def _span(start: int, length: int, factor: float, limit: int) -> tuple[float, float]:
    """First and last place of a tile in a level of less detail; the last tile reaches over the edge."""
    left = min(start / factor, limit - 1.0)
    return left, max(left + 1e-3, min((start + length) / factor, float(limit)))


def write_excerpt(slide: Slide, regions: Sequence[Region], folder: Path, reason: Finding) -> None:
    """Write an excerpt of a slide into an empty folder, as :func:`viewers.slide_store.load` reads it.

    Parameters
    ----------
    regions : sequence of Region
        In pixels of level 0: each as detailed as the model is shown it, and more where that is little.
    reason : Finding
        One of :data:`EXCERPTS`: why it is not the whole.

    Raises
    ------
    OpenError
        If tiles cannot be decoded that have to be.
    OSError
        If the disk refuses.
    """
    levels, codings, parts, at = [], [], [], 0
    sha256 = hashlib.sha256()
    with (folder / "tiles.bin").open("wb") as stream:
        for level, coding, count, tiles in _planned(slide, regions):
            index = np.zeros((count, 2), "<i8")
            for number, data in tiles:
                index[number] = at, len(data)
                at += stream.write(data)
                sha256.update(data)
            levels.append(level)
            codings.append(coding)
            parts.append(index)
        stream.flush()
        os.fsync(stream.fileno())
    (folder / "index.bin").write_bytes(np.concatenate(parts).tobytes())
    if slide.profile is not None:
        (folder / "profile.icc").write_bytes(slide.profile)
    told = {"finding.original_kept", *EXCERPTS}
    findings = (*(found for found in slide.findings if found.key not in told), reason)
    facts = replace(slide.describes, levels=tuple(levels), findings=findings)
    stored = StoredSlide(slide.digest, sha256.hexdigest(), None, facts, tuple(codings))
    (folder / "slide.json").write_text(json.dumps(slide_to_json(stored), sort_keys=True), encoding="utf-8")


_Planned = tuple[Level, Coding, int, "Iterator[tuple[int, bytes]]"]


def _planned(slide: Slide, regions: Sequence[Region]) -> Iterator[_Planned]:
    """Levels with their tiles by number; the last one is small and whole."""
    for number, level in enumerate(slide.levels):
        grid = slide.source.grids[number] if isinstance(slide.source, Tiles) else None
        level = level if grid else replace(level, tile=SizePx(_SIDE, _SIDE))  # noqa: PLW2901 - the same level
        columns, rows = -(-level.size.width // level.tile.width), -(-level.size.height // level.tile.height)
        wanted = sorted(_wanted(slide, regions, number, level))
        tiles = _stored(grid, wanted) if grid else _drawn(slide, number, level, columns, wanted)
        yield level, grid.coding if grid else Coding("png"), columns * rows, tiles
    last = slide.levels[-1]
    if max(last.size.width, last.size.height) > _WHOLE_PX:
        yield _added(slide)


def _wanted(slide: Slide, regions: Sequence[Region], number: int, level: Level) -> set[int]:
    width, height = level.tile.width, level.tile.height
    columns, rows = -(-level.size.width // width), -(-level.size.height // height)
    if max(level.size.width, level.size.height) <= _WHOLE_PX:
        return set(range(columns * rows))
    found: set[int] = set()
    for region in regions:
        down = level.downsample
        is_fine = number < slide.level_for(scale_of(region))
        if is_fine and region.width * region.height / down**2 > _FINE_PX:
            continue
        left, top = (int(place / down) - 1 for place in (region.x, region.y))
        right, bottom = int((region.x + region.width) / down) + 1, int((region.y + region.height) / down) + 1
        for row in range(max(0, top // height), min(rows - 1, bottom // height) + 1):
            first, last = max(0, left // width), min(columns - 1, right // width)
            found.update(row * columns + column for column in range(first, last + 1))
    return found


def _stored(grid: TileGrid, wanted: list[int]) -> Iterator[tuple[int, bytes]]:
    for index in wanted:
        raw = grid.stored(index)
        if raw:
            yield index, raw


def _drawn(
    slide: Slide, number: int, level: Level, columns: int, wanted: list[int]
) -> Iterator[tuple[int, bytes]]:
    """Tiles of a slide that has none of its own, without losses."""
    for index in wanted:
        row, column = divmod(index, columns)
        x, y = column * _SIDE, row * _SIDE
        part = Region(x, y, min(_SIDE, level.size.width - x), min(_SIDE, level.size.height - y))
        yield index, _png(slide.source.read(number, part))


def _added(slide: Slide) -> _Planned:
    """Return a small level for a slide whose last one is large."""
    scale = fits(slide.size, _WHOLE_PX)
    rgb = read_scaled(slide, Region(0, 0, slide.size.width, slide.size.height), scale)
    size = SizePx(rgb.shape[1], rgb.shape[0])
    columns, rows = -(-size.width // _SIDE), -(-size.height // _SIDE)
    tiles = (
        (row * columns + column, _png(rgb[row * _SIDE :, column * _SIDE :][:_SIDE, :_SIDE]))
        for row in range(rows)
        for column in range(columns)
    )
    return Level(size, float(scale), SizePx(_SIDE, _SIDE)), Coding("png"), columns * rows, tiles


def _png(rgb: NDArray[np.uint8]) -> bytes:
    from imagecodecs import png_encode

    return bytes(png_encode(np.ascontiguousarray(rgb), level=1))


def reason_for(*, is_original: bool, limit: int) -> Finding:
    """Say why a slide does not leave as a whole: its own files, or more bytes than ``limit``."""
    return finding("excerpt_original") if is_original else finding("excerpt_large", limit=limit // 2**20)
