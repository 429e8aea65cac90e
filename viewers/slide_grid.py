"""A region larger than the model can see, cut into parts that it sees in detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from viewers.geometry import Region
from viewers.slide_view import MODEL_PX, MOST_PARTS, SlideView

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Grid", "plan_grid"]


@dataclass(frozen=True, slots=True)
class Grid:
    """A region cut into parts that the model can see in detail, with the region as a whole before them."""

    overview: SlideView
    tiles: tuple[SlideView, ...]
    """Row by row, as they are seen when the region is turned."""
    columns: int
    """Parts of a row as it is seen."""
    scale: int
    """Pixels of level 0 along one pixel that the model sees, of a tile drawn at its :data:`MODEL_PX`."""

    @property
    def images(self) -> int:
        """Pictures the model would look at."""
        return 1 + len(self.tiles)


def plan_grid(view: SlideView, most: int = MOST_PARTS) -> Grid:
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
    places = _seen(columns, rows, view.rotation)
    tiles = tuple(
        SlideView(view.slide, _part(region, column, columns, row, rows), view.rotation)
        for column, row in places
    )
    across = columns if view.rotation % 180 == 0 else rows
    return Grid(SlideView(view.slide, region, view.rotation), tiles, across, scale)


def _seen(columns: int, rows: int, rotation: int) -> list[tuple[int, int]]:
    """Columns and rows of parts in the order they are read in a picture turned clockwise."""
    order: dict[int, Callable[[tuple[int, int]], tuple[int, int]]] = {
        0: lambda place: (place[1], place[0]),
        90: lambda place: (place[0], -place[1]),
        180: lambda place: (-place[1], -place[0]),
        270: lambda place: (-place[0], place[1]),
    }
    places = [(column, row) for row in range(rows) for column in range(columns)]
    return sorted(places, key=order[rotation])


def _part(region: Region, column: int, columns: int, row: int, rows: int) -> Region:
    left, right = (region.width * edge // columns for edge in (column, column + 1))
    top, bottom = (region.height * edge // rows for edge in (row, row + 1))
    return Region(region.x + left, region.y + top, right - left, bottom - top)
