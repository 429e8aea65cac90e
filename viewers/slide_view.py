"""What of a slide is on screen, as a frozen value, and the one renderer that draws it for the model.

The picture of a region has the detail the model can use and no more: the region is averaged by the largest
power of two that leaves :data:`MODEL_PX` pixels on its shorter side, so between one and two times that
many, or its own pixels where it has fewer. Nothing is enlarged. A region so narrow that its longer side
would then have more than :data:`LONGEST_PX` pixels is averaged further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import InvalidViewError, ViewMismatchError
from viewers.geometry import Region
from viewers.record import Types, strict
from viewers.scaled import check_region, fits, read_scaled, scaled_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from viewers.slide import Slide

__all__ = [
    "LONGEST_PX",
    "MODEL_PX",
    "Grid",
    "SlideView",
    "describe_slide_view",
    "draw_region",
    "plan_grid",
    "render_slide",
    "scale_of",
    "thumbnail",
    "whole_slide",
]

MODEL_PX: Final = 336
"""Pixels along a side of the square the model's vision tower sees: less detail would be lost to it."""
LONGEST_PX: Final = 4096
"""Pixels of the longer side at most: 4096 x 336 is twelve squares in a row."""
_TURNS: Final = (0, 90, 180, 270)
_GRID_IMAGES: Final = 16
"""Tiles of a grid unless asked otherwise: each is a picture for the model to look at."""
_VIEW: Final[Mapping[str, Types]] = {"slide": str, "region": dict, "rotation": int, "overview": bool}
_REGION: Final[Mapping[str, Types]] = dict.fromkeys(("x", "y", "width", "height"), int)


@dataclass(frozen=True, slots=True)
class SlideView:
    """Exactly what of a slide is on screen or was marked.

    Raises
    ------
    InvalidViewError
        If it is turned by anything but whole quarters.
    """

    slide: str
    """Digest of the slide."""
    region: Region
    """In pixels of level 0, before turning."""
    rotation: int = 0
    """Degrees clockwise that the picture is turned by: 0, 90, 180 or 270."""
    overview: bool = False
    """Whether a picture of the whole slide goes before it as context; see :meth:`parts`."""

    def __post_init__(self) -> None:
        if self.rotation not in _TURNS:
            raise InvalidViewError(
                entry="rotation", found=self.rotation, expected=", ".join(map(str, _TURNS))
            )

    @property
    def digests(self) -> tuple[str, ...]:
        """Digest of the one slide it shows; see :class:`viewers.shown.Shown`."""
        return (self.slide,)

    def to_json(self) -> dict[str, Any]:
        """JSON values, with every entry present."""
        return {
            "slide": self.slide,
            "region": {name: getattr(self.region, name) for name in _REGION},
            "rotation": self.rotation,
            "overview": self.overview,
        }

    @classmethod
    def from_json(cls, value: Any) -> SlideView:
        """Read JSON values from anywhere; whether they fit a slide is checked by :func:`render_slide`.

        Raises
        ------
        InvalidViewError
            If an entry is missing, unknown, wrongly typed, or a rotation that cannot be.
        """
        record = strict(value, _VIEW, _invalid)
        region = Region(**strict(record["region"], _REGION, _invalid))
        return cls(record["slide"], region, record["rotation"], record["overview"])

    def draw(self, open_: Callable[[str], Slide]) -> NDArray[np.uint8]:
        """Draw the region with :func:`render_slide`; see :class:`viewers.shown.Shown`."""
        return render_slide(open_(self.slide), self)

    def parts(self, slide: Slide) -> tuple[SlideView, ...]:
        """Return what the model is shown in turn: the overview, if it goes along, then the region."""
        alone = SlideView(self.slide, self.region, self.rotation)
        if not self.overview:
            return (alone,)
        return SlideView(self.slide, whole_slide(slide).region, self.rotation), alone


def _invalid(entry: str, found: str, expected: str) -> Exception:
    return InvalidViewError(entry=entry, found=found, expected=expected)


def whole_slide(slide: Slide) -> SlideView:
    """Return the view of everything: the overview, and what a slide is first shown with."""
    return SlideView(slide.digest, Region(0, 0, slide.size.width, slide.size.height))


def scale_of(region: Region) -> int:
    """How many pixels of level 0 one pixel of a region's picture covers along a side; a power of two."""
    scale = 1
    while min(region.width, region.height) // (2 * scale) >= MODEL_PX:
        scale *= 2
    while -(-max(region.width, region.height) // scale) > LONGEST_PX:
        scale *= 2
    return scale


def render_slide(slide: Slide, view: SlideView) -> NDArray[np.uint8]:
    """Draw a view.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        sRGB, 0-255, C-contiguous; the size the module's first lines say, turned.

    Raises
    ------
    ViewMismatchError
        If the view was made for another slide.
    RegionOutOfBoundsError
        If the region is not on the slide.
    OpenError
        If the pixels cannot be decoded.
    """
    if view.slide != slide.digest:
        raise ViewMismatchError(found=view.slide[:12], expected=slide.digest[:12])
    return draw_region(slide, view.region, view.rotation)


def draw_region(slide: Slide, region: Region, rotation: int = 0) -> NDArray[np.uint8]:
    """Draw a region as :func:`render_slide` does, without asking for the slide's digest."""
    rgb = read_scaled(slide, region, scale_of(region))
    return np.ascontiguousarray(np.rot90(rgb, -rotation // 90))


def thumbnail(slide: Slide, longest: int = 1024) -> NDArray[np.uint8]:
    """Draw the whole slide with at most ``longest`` pixels along a side, and more than half of that.

    Raises
    ------
    OpenError
        If the pixels cannot be decoded.
    """
    whole = Region(0, 0, slide.size.width, slide.size.height)
    return read_scaled(slide, whole, fits(slide.size, longest))


def describe_slide_view(slide: Slide, view: SlideView) -> dict[str, Any]:
    """Facts about a view in no language, for the page, the question, the history and the report.

    Returns
    -------
    dict
        ``kind``: ``slide``; ``region_px``: x, y, width, height in pixels of level 0; ``rotation``;
        ``overview``; ``size_px``: width, height of the picture; ``scale``: pixels of level 0 along one of
        its pixels; ``level``: the level it is read from; ``mpp``: microns along one pixel of the picture,
        ``magnification``: of an objective that scans at this resolution, ``size_um``: width, height of the
        region in microns before turning, and ``mpp_source`` (all four ``None`` when the slide does not say).

    Raises
    ------
    ViewMismatchError, RegionOutOfBoundsError
        If the view does not fit the slide.
    """
    if view.slide != slide.digest:
        raise ViewMismatchError(found=view.slide[:12], expected=slide.digest[:12])
    check_region(slide, view.region)
    region, scale = view.region, scale_of(view.region)
    width, height = scaled_size(region, scale)
    mpp = slide.mpp
    return {
        "kind": "slide",
        "region_px": [region.x, region.y, region.width, region.height],
        "rotation": view.rotation,
        "overview": view.overview,
        "size_px": [width, height] if view.rotation % 180 == 0 else [height, width],
        "scale": scale,
        "level": slide.level_for(scale),
        "mpp": None if mpp is None else round(scale * (mpp.x + mpp.y) / 2, 4),
        "magnification": None if mpp is None else round(mpp.magnification / scale, 2),
        "size_um": None if mpp is None else [round(region.width * mpp.x, 1), round(region.height * mpp.y, 1)],
        "mpp_source": None if mpp is None else mpp.source,
    }


@dataclass(frozen=True, slots=True)
class Grid:
    """A region cut into parts that the model can see in detail, with the region as a whole before them."""

    overview: SlideView
    tiles: tuple[SlideView, ...]
    """Row by row."""
    columns: int
    scale: int
    """Pixels of level 0 along one pixel that the model sees, of a tile drawn at its :data:`MODEL_PX`."""

    @property
    def images(self) -> int:
        """Pictures the model would look at."""
        return 1 + len(self.tiles)


def plan_grid(view: SlideView, most: int = _GRID_IMAGES) -> Grid:
    """Cut a view's region into equal parts with the most detail that ``most`` of them allow.

    Every part has at least :data:`MODEL_PX` pixels at the grid's scale along each side that the region has
    them along; the parts cover the region without overlap. A region the model sees in full detail at once
    is one part.

    Raises
    ------
    ValueError
        If ``most`` is below 1.
    """
    if most < 1:
        raise ValueError(f"a grid has at least one part, found {most}")
    region, scale = view.region, 1
    while True:
        columns, rows = (max(1, side // (MODEL_PX * scale)) for side in (region.width, region.height))
        if columns * rows <= most:
            break
        scale *= 2
    tiles = tuple(
        SlideView(view.slide, _part(region, column, columns, row, rows), view.rotation)
        for row in range(rows)
        for column in range(columns)
    )
    return Grid(SlideView(view.slide, region, view.rotation), tiles, columns, scale)


def _part(region: Region, column: int, columns: int, row: int, rows: int) -> Region:
    left, right = (region.width * edge // columns for edge in (column, column + 1))
    top, bottom = (region.height * edge // rows for edge in (row, row + 1))
    return Region(region.x + left, region.y + top, right - left, bottom - top)
