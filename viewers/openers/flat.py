"""Pictures without levels, and single DICOM images, as slides of one level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viewers.errors import TooLargeError
from viewers.geometry import SizePx
from viewers.openers.opened import opened_slide
from viewers.slide import SlideFacts, make_levels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viewers.geometry import Region
    from viewers.limits import Limits
    from viewers.openers.source import Source
    from viewers.slide import Slide

__all__ = ["accepts", "open_source"]

_TILE = 256


class FlatPixels:
    """Pixels in memory; see :class:`viewers.slide.SlidePixels`."""

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        self._rgb = rgb

    def read(self, _level: int, region: Region) -> NDArray[np.uint8]:
        """Read RGB of a region; see :class:`viewers.slide.SlidePixels`."""
        return self._rgb[region.y : region.y + region.height, region.x : region.x + region.width]

    def encoded_tile(self, _level: int, _column: int, _row: int) -> bytes | None:
        """There are no stored tiles."""
        return None

    def content(self) -> Iterator[bytes]:
        """Yield the pixels."""
        yield np.ascontiguousarray(self._rgb).tobytes()

    def close(self) -> None:
        """Nothing is open."""


def accepts(source: Source) -> bool:
    """Whether the source is one picture file."""
    return len(source.paths) == 1 and source.sniffed == "picture"


def open_source(source: Source, limits: Limits) -> Slide:
    """Open a picture: upright, in sRGB, grey of 16 bits by its automatic window, without its metadata.

    Raises
    ------
    OpenError
        As :func:`viewers.picture.open_picture`.
    OSError
        If the file cannot be read.
    """
    from viewers.picture import open_picture
    from viewers.view import default_view, render

    size = source.paths[0].stat().st_size
    if size > limits.file_bytes:
        raise TooLargeError(quantity="bytes", found=size, limit=limits.file_bytes)
    image = open_picture(source.paths[0].read_bytes(), limits)
    rgb = render(image, default_view(image))
    whole = SizePx(rgb.shape[1], rgb.shape[0])
    facts = SlideFacts("picture", make_levels([(whole, SizePx(_TILE, _TILE))]), None, image.findings)
    return opened_slide(facts, FlatPixels(rgb))
