"""From pixels of the native grid to the picture on screen: square pixels, then flipped, then turned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["display_size", "resized", "squared", "turned"]


def display_size(width: int, height: int, pixel_aspect: float) -> tuple[int, int]:
    """Width and height with square pixels: the longer side of the pixels grows, rounded half to even."""
    if pixel_aspect >= 1:
        return width, max(height, round(height * pixel_aspect))
    return max(width, round(width / pixel_aspect)), height


def squared(pixels: NDArray[np.uint8], pixel_aspect: float) -> NDArray[np.uint8]:
    """Stretch pixels of this aspect to square ones; square pixels are not touched.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns) or (rows, columns, channels)
    """
    columns, rows = display_size(pixels.shape[1], pixels.shape[0], pixel_aspect)
    return _stretched(_stretched(pixels, rows, axis=0), columns, axis=1)


def turned(pixels: NDArray[np.uint8], rotation: int, *, flipped: bool) -> NDArray[np.uint8]:
    """Flip left to right, then turn clockwise by a multiple of 90 degrees."""
    if flipped:
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, -(rotation // 90))


def resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Make a picture of another size: linear where it grows, the mean of the area where it shrinks.

    In whole numbers, rounded half up, so that no machine rounds differently.
    """
    for axis, length in ((0, height), (1, width)):
        smaller = length < pixels.shape[axis]
        pixels = _shrunk(pixels, length, axis) if smaller else _stretched(pixels, length, axis)
    return pixels


def _shrunk(pixels: NDArray[np.uint8], length: int, axis: int) -> NDArray[np.uint8]:
    """Mean of the part of the line each new pixel covers, to the fraction of a pixel."""
    lines = np.moveaxis(pixels, axis, 0).astype(np.int64)
    count = lines.shape[0]
    sums = np.concatenate([np.zeros_like(lines[:1]), np.cumsum(lines, axis=0)])
    # Sum of the line up to place i * count / length, times length: all whole numbers.
    whole, part = np.divmod(np.arange(length + 1, dtype=np.int64) * count, length)
    shape = (-1, *(1,) * (lines.ndim - 1))
    edges = length * sums[whole] + part.reshape(shape) * lines[np.minimum(whole, count - 1)]
    made = (2 * np.diff(edges, axis=0) + count) // (2 * count)
    return np.asarray(np.moveaxis(made, 0, axis), dtype=np.uint8)


def _stretched(pixels: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """Linear interpolation along one axis; integer arithmetic, so that no machine rounds differently."""
    count = pixels.shape[axis]
    if length == count:
        return pixels
    # Centre of output pixel i in the input, in 1/65536 pixel: (i + 0.5) * count / length - 0.5.
    position = ((2 * np.arange(length, dtype=np.int64) + 1) * count * 65536 // (2 * length)) - 32768
    position = np.clip(position, 0, (count - 1) * 65536)
    low = position >> 16
    high = np.minimum(low + 1, count - 1)
    shape = [1] * pixels.ndim
    shape[axis] = length
    weight = (position & 65535).reshape(shape)
    near = np.take(pixels, low, axis=axis).astype(np.int64)
    far = np.take(pixels, high, axis=axis).astype(np.int64)
    return np.asarray((near * (65536 - weight) + far * weight + 32768) >> 16, dtype=np.uint8)
