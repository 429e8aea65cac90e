"""A part of a slide at a whole fraction of its full detail: the pixels of tiles, overviews and the model.

Reduced means averaged: each pixel drawn is the mean of the stored pixels it covers, of the level of least
detail that has enough. Nothing is ever enlarged.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image as Pillow

from viewers.errors import RegionOutOfBoundsError
from viewers.geometry import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viewers.geometry import SizePx
    from viewers.slide import Level, Slide

__all__ = ["check_region", "read_scaled", "scaled_size"]

_COARSE: Final = 64
"""Pixels along a square from which on its mean is computed here."""
_BAND_PIXELS: Final = 2**24
"""Pixels of a level held at once: 48 MiB."""


def check_region(slide: Slide, region: Region) -> None:
    """Check that a region is on the slide.

    Raises
    ------
    RegionOutOfBoundsError
    """
    if not region.inside(slide.size):
        found = f"{region.x}, {region.y}, {region.width} x {region.height}"
        raise RegionOutOfBoundsError(found=found, expected=f"{slide.size.width} x {slide.size.height}")


def scaled_size(region: Region, scale: int) -> tuple[int, int]:
    """Width and height of a region drawn at 1 / ``scale``, a part of a pixel counted whole."""
    return -(-region.width // scale), -(-region.height // scale)


def read_scaled(slide: Slide, region: Region, scale: int) -> NDArray[np.uint8]:
    """Read a region so that one pixel covers ``scale`` x ``scale`` pixels of level 0.

    Parameters
    ----------
    region : Region
        In pixels of level 0.
    scale : int
        At least 1.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        sRGB, of :func:`scaled_size`. The upper left corner is moved to a pixel of the level that is read,
        so by less than one pixel drawn.

    Raises
    ------
    RegionOutOfBoundsError
    OpenError
        If the pixels cannot be decoded.
    """
    check_region(slide, region)
    number = slide.level_for(scale)
    level = slide.levels[number]
    width, height = scaled_size(region, scale)
    factor = scale / level.downsample
    # Rows of output at a time, so that a slide without smaller levels is not held in memory.
    rows = max(1, int(_BAND_PIXELS // max(1.0, width * factor * factor)))
    if rows >= height:
        return _band(slide, number, region, scale, (0, height))
    drawn = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        drawn[top:bottom] = _band(slide, number, region, scale, (top, bottom))
    return drawn


def _band(slide: Slide, number: int, region: Region, scale: int, rows: tuple[int, int]) -> NDArray[np.uint8]:
    """Rows ``rows[0]`` to ``rows[1]`` of the output."""
    level = slide.levels[number]
    width, height = scaled_size(region, scale)[0], rows[1] - rows[0]
    factor = scale / level.downsample
    if factor.is_integer() and level.downsample.is_integer():
        source = _stored(level, region, scale, rows, width)
        rgb = slide.read_level(number, source)
        if factor > 1:
            rgb = _averaged(rgb, int(factor))
    else:
        rgb = _resampled(slide, number, region, scale, rows)
    missing = height - rgb.shape[0], width - rgb.shape[1]
    if max(missing) > 0:  # a level whose size was rounded down ends a part of a pixel early
        rgb = np.pad(rgb, ((0, max(0, missing[0])), (0, max(0, missing[1])), (0, 0)), mode="edge")
    return np.ascontiguousarray(rgb[:height, :width])


def _averaged(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the mean of squares of pixels; those an edge cuts, of what they have."""
    if factor <= _COARSE:
        return rgb if factor == 1 else np.asarray(Pillow.fromarray(rgb).reduce(factor))
    # Pillow divides by a multiplication of 24 bits, too coarse for a large sum over a cut square.
    height, width = rgb.shape[:2]
    rows, columns = np.arange(0, height, factor), np.arange(0, width, factor)
    sums = np.add.reduceat(rgb, rows, axis=0, dtype=np.uint64)
    sums = np.add.reduceat(sums, columns, axis=1)
    counts = np.diff(rows, append=height)[:, None, None] * np.diff(columns, append=width)[None, :, None]
    return np.asarray((sums + counts // 2) // counts, np.uint8)


def _stored(level: Level, region: Region, scale: int, rows: tuple[int, int], width: int) -> Region:
    """Pixels of a level that the rows need, without what is outside of the level or the region."""
    down, factor = int(level.downsample), scale // int(level.downsample)
    x, y = _start(region.x, down, level.size.width), _start(region.y, down, level.size.height)
    right = min(level.size.width, -(-(region.x + region.width) // down), x + width * factor)
    lowest = min(level.size.height, -(-(region.y + region.height) // down))
    # A band that begins below a level that was rounded down repeats its last row.
    top = min(y + rows[0] * factor, lowest - 1)
    bottom = max(top + 1, min(lowest, y + rows[1] * factor))
    return Region(x, top, max(1, right - x), bottom - top)


def _start(place: int, down: int, limit: int) -> int:
    return min(place // down, limit - 1)


def _resampled(
    slide: Slide, number: int, region: Region, scale: int, rows: tuple[int, int]
) -> NDArray[np.uint8]:
    """Average over parts of pixels, for levels whose downsample is no whole number."""
    level = slide.levels[number]
    width = scaled_size(region, scale)[0]
    left, right = _span(region.x, region.width, level.downsample, level.size.width)
    first = region.y + rows[0] * scale
    last = min(region.y + region.height, region.y + rows[1] * scale)
    top, bottom = _span(first, last - first, level.downsample, level.size.height)
    x, y = math.floor(left), math.floor(top)
    stored = Region(x, y, math.ceil(right) - x, math.ceil(bottom) - y)
    picture = Pillow.fromarray(slide.read_level(number, stored))
    box = (left - x, top - y, right - x, bottom - y)
    return np.asarray(picture.resize((width, rows[1] - rows[0]), Pillow.Resampling.BOX, box))


def _span(start: int, length: int, downsample: float, limit: int) -> tuple[float, float]:
    end = min(float(limit), (start + length) / downsample)
    return min(start / downsample, end - 1e-3, limit - 1.0), end


def fits(size: SizePx, longest: int) -> int:
    """Smallest power of two at which a slide's longer side has at most ``longest`` pixels."""
    scale = 1
    while -(-max(size.width, size.height) // scale) > longest:
        scale *= 2
    return scale
