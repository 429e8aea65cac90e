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
    "MOST_PARTS",
    "SlideView",
    "describe_on",
    "describe_slide_view",
    "draw_region",
    "render_slide",
    "scale_of",
    "slide_views",
    "thumbnail",
    "whole_slide",
]

MODEL_PX: Final = 336
"""Pixels along a side of the square the model's vision tower sees: less detail would be lost to it."""
LONGEST_PX: Final = 4096
"""Pixels of the longer side at most: 4096 x 336 is twelve squares in a row."""
_TURNS: Final = (0, 90, 180, 270)
MOST_PARTS: Final = 16
"""Parts a region is cut into at most: each is a picture for the model to look at."""
_VIEW: Final[Mapping[str, Types]] = {
    "slide": str,
    "region": dict,
    "rotation": int,
    "overview": bool,
    "point": (dict, type(None)),
    "grid": int,
}
_SINCE_POINTS: Final[Mapping[str, Any]] = {"point": None, "grid": 0}
"""Entries that views stored earlier lack, with what they would say."""
_REGION: Final[Mapping[str, Types]] = dict.fromkeys(("x", "y", "width", "height"), int)
_POINT: Final[Mapping[str, Types]] = {"x": int, "y": int}


@dataclass(frozen=True, slots=True)
class SlideView:
    """Exactly what of a slide is on screen or was marked.

    Raises
    ------
    InvalidViewError
        If it is turned by anything but whole quarters, its point is outside its region, or it would be cut
        into more parts than there may be.
    """

    slide: str
    """Digest of the slide."""
    region: Region
    """In pixels of level 0, before turning."""
    rotation: int = 0
    """Degrees clockwise that the picture is turned by: 0, 90, 180 or 270."""
    overview: bool = False
    """Whether a picture of the whole slide goes before it as context; see :meth:`parts`."""
    point: tuple[int, int] | None = None
    """x and y of a place inside the region that was pointed at, in pixels of level 0."""
    grid: int = 0
    """Parts, at most, that the region is cut into for the model to see it in detail; 0 leaves it whole."""

    def __post_init__(self) -> None:
        if self.rotation not in _TURNS:
            raise InvalidViewError(
                entry="rotation", found=self.rotation, expected=", ".join(map(str, _TURNS))
            )
        if self.grid != 0 and not 2 <= self.grid <= MOST_PARTS:
            raise InvalidViewError(entry="grid", found=self.grid, expected=f"0, 2-{MOST_PARTS}")
        if self.point is not None and not _holds(self.region, self.point):
            raise InvalidViewError(
                entry="point", found=f"{self.point[0]}, {self.point[1]}", expected="inside the region"
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
            "point": None if self.point is None else dict(zip("xy", self.point, strict=True)),
            "grid": self.grid,
        }

    @classmethod
    def from_json(cls, value: Any) -> SlideView:
        """Read JSON values from anywhere; whether they fit a slide is checked by :func:`render_slide`.

        Raises
        ------
        InvalidViewError
            If an entry is missing, unknown, wrongly typed, or a rotation, point or grid that cannot be.
        """
        known = {**_SINCE_POINTS, **value} if isinstance(value, dict) else value
        record = strict(known, _VIEW, _invalid)
        region = Region(**strict(record["region"], _REGION, _invalid))
        point = None if record["point"] is None else strict(record["point"], _POINT, _invalid)
        place = None if point is None else (point["x"], point["y"])
        return cls(record["slide"], region, record["rotation"], record["overview"], place, record["grid"])

    def draw(self, open_: Callable[[str], Slide]) -> NDArray[np.uint8]:
        """Draw the region with :func:`render_slide`; see :class:`viewers.shown.Shown`."""
        return render_slide(open_(self.slide), self)

    def parts(self, slide: Slide) -> tuple[SlideView, ...]:
        """Return what the model is shown in turn: the whole slide if it goes along, the region, its parts."""
        from viewers.slide_grid import plan_grid

        shown = [SlideView(self.slide, self.region, self.rotation)]
        if self.goes_with_overview(slide):
            shown.insert(0, SlideView(self.slide, whole_slide(slide).region, self.rotation))
        tiles = plan_grid(self, self.grid).tiles if self.grid else ()
        return (*shown, *tiles) if len(tiles) > 1 else tuple(shown)

    def goes_with_overview(self, slide: Slide) -> bool:
        """Whether the whole slide goes first: it was asked for, and the region is less than it."""
        return self.overview and self.region != whole_slide(slide).region


def _holds(region: Region, point: tuple[int, int]) -> bool:
    x, y = point[0] - region.x, point[1] - region.y
    return 0 <= x < region.width and 0 <= y < region.height


def _invalid(entry: str, found: str, expected: str) -> Exception:
    return InvalidViewError(entry=entry, found=found, expected=expected)


def whole_slide(slide: Slide) -> SlideView:
    """Return the view of everything: the overview, and what a slide is first shown with."""
    return SlideView(slide.digest, Region(0, 0, slide.size.width, slide.size.height))


def slide_views(shown: Any) -> tuple[SlideView, ...]:
    """Return the views of slides in anything that may be on screen: one, several side by side, or none."""
    if isinstance(shown, SlideView):
        return (shown,)
    return tuple(view for part in getattr(shown, "views", ()) for view in slide_views(part))


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
        ``overview``: whether the whole slide goes before it; ``pictures``: how many the model is shown;
        ``point``: where in the picture, as it is turned, the place lies that was pointed at, from its left
        and its top edge, 0-1, or ``None``; ``parts``: columns and rows the region is cut into, 1 x 1 if it is
        not, ``parts_scale`` and ``parts_magnification`` of theirs; ``size_px``: width, height of the picture;
        ``scale``: pixels of level 0 along one of its pixels; ``level``: the level it is read from; ``mpp``:
        microns along one pixel of the picture, ``magnification``: of an objective that scans at this
        resolution, ``size_um``: width, height of the region in microns before turning, and ``mpp_source``
        (all four ``None`` when the slide does not say).

    Raises
    ------
    ViewMismatchError, RegionOutOfBoundsError
        If the view does not fit the slide.
    """
    if view.slide != slide.digest:
        raise ViewMismatchError(found=view.slide[:12], expected=slide.digest[:12])
    return describe_on(slide, view)


def describe_on(slide: Slide, view: SlideView) -> dict[str, Any]:
    """Say the same as :func:`describe_slide_view`, without asking for the slide's digest."""
    check_region(slide, view.region)
    from viewers.slide_grid import plan_grid

    region, scale = view.region, scale_of(view.region)
    width, height = scaled_size(region, scale)
    mpp = slide.mpp
    grid = plan_grid(view, view.grid or 1)
    return {
        "kind": "slide",
        "region_px": [region.x, region.y, region.width, region.height],
        "rotation": view.rotation,
        "overview": view.goes_with_overview(slide),
        "pictures": 1 + view.goes_with_overview(slide) + (len(grid.tiles) if len(grid.tiles) > 1 else 0),
        "point": _turned(view),
        "parts": [grid.columns, len(grid.tiles) // grid.columns],
        "parts_scale": grid.scale,
        "parts_magnification": None if mpp is None else round(mpp.magnification / grid.scale, 2),
        "size_px": [width, height] if view.rotation % 180 == 0 else [height, width],
        "scale": scale,
        "level": slide.level_for(scale),
        "mpp": None if mpp is None else round(scale * (mpp.x + mpp.y) / 2, 4),
        "magnification": None if mpp is None else round(mpp.magnification / scale, 2),
        "size_um": None if mpp is None else [round(region.width * mpp.x, 1), round(region.height * mpp.y, 1)],
        "mpp_source": None if mpp is None else mpp.source,
    }


def _turned(view: SlideView) -> list[float] | None:
    """Where a view's point lies in its picture: parts of its width and height."""
    if view.point is None:
        return None
    region = view.region
    x, y = (view.point[0] - region.x + 0.5) / region.width, (view.point[1] - region.y + 0.5) / region.height
    for _ in range(view.rotation // 90):
        x, y = 1 - y, x
    return [round(x, 4), round(y, 4)]
