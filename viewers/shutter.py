"""Display shutters: what the file wants hidden of its frames, as a mask.

References
----------
DICOM PS3.3 C.7.6.11 (display shutter).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.attributes import integer, numbers, texts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["hidden_pixels"]

_MOST_CORNERS: Final = 1000
"""Of a polygon; each is gone through for the rows beside it."""
_EDGES: Final = (
    "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge",
    "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge",
)


def hidden_pixels(dataset: Dataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    """Find the pixels outside of any of a dataset's shutters.

    Returns
    -------
    ndarray of bool, shape (rows, columns), or None
        ``None`` when there is no shutter, or it would hide everything or nothing.
    """
    shapes = {text.upper() for text in texts(dataset, "ShutterShape")}
    if not shapes:
        return None
    shown = np.ones((rows, columns), np.bool_)
    for name, draw in (("RECTANGULAR", _rectangle), ("CIRCULAR", _circle), ("POLYGONAL", _polygon)):
        inside = draw(dataset, rows, columns) if name in shapes else None
        if inside is not None:
            shown &= inside
    return None if shown.all() or not shown.any() else ~shown


def _rectangle(dataset: Dataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    """Rows and columns between the edges; the edges themselves, counted from 1, are shown."""
    edges = [integer(dataset, keyword) for keyword in _EDGES]
    if None in edges:
        return None
    left, right, upper, lower = (max(edge or 0, 0) for edge in edges)
    inside = np.zeros((rows, columns), np.bool_)
    inside[max(upper - 1, 0) : lower, max(left - 1, 0) : right] = True
    return inside


def _circle(dataset: Dataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    center, radius = numbers(dataset, "CenterOfCircularShutter"), integer(dataset, "RadiusOfCircularShutter")
    if len(center) != 2 or radius is None or not 0 < radius < 1e6:
        return None
    y = np.arange(1, rows + 1)[:, None] - center[0]
    x = np.arange(1, columns + 1) - center[1]
    return np.asarray(x * x + y * y <= radius * radius)


def _polygon(dataset: Dataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    """Even-odd rule at the centres of pixels, with its corners (row, column) counted from 1."""
    corners = numbers(dataset, "VerticesOfThePolygonalShutter")
    pairs = [(x - 1, y - 1) for y, x in zip(corners[::2], corners[1::2], strict=False)]
    if not 3 <= len(pairs) <= _MOST_CORNERS or not all(abs(value) < 1e6 for value in corners):
        return None
    inside = np.zeros((rows, columns), np.bool_)
    across = np.arange(columns)
    for (x0, y0), (x1, y1) in zip(pairs, [*pairs[1:], pairs[0]], strict=True):
        (top_x, top), (bottom_x, bottom) = ((x0, y0), (x1, y1)) if y0 < y1 else ((x1, y1), (x0, y0))
        first, last = max(int(np.ceil(top)), 0), min(int(np.ceil(bottom)), rows)
        if first >= last:
            continue
        down = np.arange(first, last)
        crossing = top_x + (down - top) * (bottom_x - top_x) / (bottom - top)
        inside[first:last] ^= across >= crossing[:, None]
    return inside
