"""An image cut into squares for Phi-3.5-Vision: as many as its shape fills best, and one of the whole.

The image is laid so that its longer side is across, enlarged or reduced to fill a whole number of squares
across, padded with white above and below to whole squares, and laid back. Each square is one input of
the vision tower, and so is the whole image reduced to one square.

References
----------
Phi-3 technical report, arXiv 2404.14219, section on Phi-3-Vision (dynamic cropping); the figures of the
released processor: squares of 336 pixels, at most ``num_crops`` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["CropGrid", "CropSettings", "crop_grid", "cut", "image_tokens"]


@dataclass(frozen=True, slots=True)
class CropSettings:
    """How a checkpoint's processor cuts."""

    side: int = 336
    """Side of a square, in pixels."""
    most: int = 4
    """Most squares of one image, the one of the whole not counted; ``num_crops`` of the processor."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class CropGrid:
    """How an image of a certain size is cut."""

    rows: int
    """Squares from top to bottom."""
    columns: int
    """Squares from left to right."""
    height: int
    """Rows of the image once resized, before padding, in pixels."""
    width: int
    """Columns of the image once resized, before padding, in pixels."""


def crop_grid(rows: int, columns: int, settings: CropSettings) -> CropGrid:
    """Choose the squares for an image of ``rows`` x ``columns`` pixels.

    Returns
    -------
    CropGrid
        With ``rows * columns`` of squares at most ``settings.most``.
    """
    long, short = max(rows, columns), min(rows, columns)
    ratio = long / short
    across = 1
    while (across + 1) * math.ceil((across + 1) / ratio) <= settings.most:
        across += 1
    length = across * settings.side
    breadth = max(1, int(length / ratio))
    down = math.ceil(breadth / settings.side)
    if rows > columns:
        return CropGrid(across, down, length, breadth)
    return CropGrid(down, across, breadth, length)


def image_tokens(grid: CropGrid, patches: int = 24) -> int:
    """Count the places an image takes in the prompt.

    Parameters
    ----------
    grid : CropGrid
        Its squares.
    patches : int
        Patches along a square's side, 24 for ViT-L/14 at 336 px; 2 x 2 of them share one place.

    Notes
    -----
    For 24 patches that is ``(rows * columns + 1) * 144 + 1 + (rows + 1) * 12``: every line of the squares,
    put together, ends with a separator, so does every line of the whole, and one stands between the two.
    """
    line = patches // 2
    squares = grid.rows * line * (grid.columns * line + 1)
    return squares + 1 + line * (line + 1)


def cut(pixels: NDArray[np.uint8], settings: CropSettings) -> tuple[torch.Tensor, CropGrid]:
    """Cut an image into the vision tower's inputs.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns, 3)
        RGB.

    Returns
    -------
    tensor of float32, shape (1 + squares, 3, side, side)
        Normalised; the whole image first, then the squares row by row.
    CropGrid
        The squares.
    """
    import torch

    grid = crop_grid(pixels.shape[0], pixels.shape[1], settings)
    values = torch.from_numpy(_laid_out(pixels, grid, settings.side)).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor(settings.mean)[:, None, None], torch.tensor(settings.std)[:, None, None]
    values = (values - mean) / std
    side = settings.side
    whole = torch.nn.functional.interpolate(values[None], size=(side, side), mode="bicubic")
    squares = values.reshape(3, grid.rows, side, grid.columns, side).permute(1, 3, 0, 2, 4)
    return torch.cat([whole, squares.reshape(-1, 3, side, side)]), grid


def _laid_out(pixels: NDArray[np.uint8], grid: CropGrid, side: int) -> NDArray[np.uint8]:
    """Resize and pad with white; an upright image is turned for it and back, as in training."""
    from PIL import Image

    upright = pixels.shape[0] > pixels.shape[1]
    lying = np.ascontiguousarray(pixels.transpose(1, 0, 2)) if upright else pixels
    length, breadth = max(grid.width, grid.height), min(grid.width, grid.height)
    if not upright:
        length, breadth = grid.width, grid.height
    resized = np.asarray(Image.fromarray(lying).resize((length, breadth), Image.Resampling.BILINEAR))
    missing = -breadth % side
    above = missing // 2
    padded = np.pad(resized, ((above, missing - above), (0, 0), (0, 0)), constant_values=255)
    return np.ascontiguousarray(padded.transpose(1, 0, 2)) if upright else padded
