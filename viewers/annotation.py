"""Drawings and text of a presentation state made into marked pixels of the frame they belong to.

Text becomes pixels here and is kept as nothing else. It is drawn upright as the state turns the frame, in
the font that comes with the application, so that Arabic is joined and runs from right to left.

References
----------
DICOM PS3.3 C.10.5 (graphic annotation).
"""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass
from importlib import resources
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from viewers.attributes import code, items, numbers, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["Surface", "drawn_pixels"]

_MOST_OBJECTS: Final = 2000
_MOST_POINTS: Final = 20_000
_LONGEST: Final = 400
"""Characters of one text."""
_FARTHEST: Final = 1e5
_STEPS: Final = 12
"""Straight pieces between two points of a curve."""
_FONTS: Final = (
    "noto-sans-arabic-latin-wght-normal.woff2",
    "noto-sans-signs-regular.woff2",
    "noto-sans-arabic-arabic-wght-normal.woff2",
)
_NOWHERE: Final = "\U0010fffd"
"""A character no font has: what is drawn for it is drawn for every missing one."""
_SMALLEST, _PART_OF_HEIGHT = 9, 36
"""Pixels of the font, and its part of the shown height: 14 pixels of 512 rows."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Surface:
    """A frame, the part of it a state shows, and how the state turns it."""

    rows: int
    columns: int
    area: tuple[float, float, float, float]
    """Left, top, right, bottom of the part shown, in pixels of the frame from its upper left corner."""
    rotation: int = 0
    flipped: bool = False
    """Before the rotation."""

    def of_display(self, x: float, y: float) -> Point:
        """Place on the frame of a place on screen, both parts of the area's sides from 0 to 1."""
        x, y = {0: (x, y), 90: (y, 1 - x), 180: (1 - x, 1 - y), 270: (1 - y, x)}[self.rotation]
        left, top, right, bottom = self.area
        return left + (1 - x if self.flipped else x) * (right - left), top + y * (bottom - top)

    def upright(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Turn what is to be read on screen as it must lie on the frame."""
        back = np.rot90(marked, self.rotation // 90)
        return back[:, ::-1] if self.flipped else back

    @property
    def text_px(self) -> int:
        """Height of letters."""
        return max(round((self.area[3] - self.area[1]) / _PART_OF_HEIGHT), _SMALLEST)


def drawn_pixels(
    annotations: Iterable[Dataset], surface: Surface, visual_order: Callable[[str], str]
) -> NDArray[np.bool_] | None:
    """Draw the graphic and text objects of annotations.

    Parameters
    ----------
    visual_order : callable
        Puts a line of text into the order it is drawn in, its letters joined.

    Returns
    -------
    ndarray of bool, shape (rows, columns), or None
        ``None`` when nothing was drawn.
    """
    picture = Pillow.new("L", (surface.columns, surface.rows))
    pen, written, left = ImageDraw.Draw(picture), np.zeros((surface.rows, surface.columns), np.bool_), 0
    for annotation in annotations:
        for item in items(annotation, "GraphicObjectSequence")[: _MOST_OBJECTS - left]:
            left += 1
            _draw(pen, item, surface)
        for item in items(annotation, "TextObjectSequence")[: _MOST_OBJECTS - left]:
            left += 1
            _write(written, item, surface, visual_order)
    made = np.asarray(picture) > 0
    made |= written
    return made if made.any() else None


def _points(dataset: Dataset, keyword: str, units: str, surface: Surface) -> list[Point]:
    values = numbers(dataset, keyword)[: 2 * _MOST_POINTS]
    if len(values) % 2 or not all(math.isfinite(value) for value in values):
        return []
    pairs = list(zip(values[::2], values[1::2], strict=True))
    if code(dataset, units, {"DISPLAY", "PIXEL"}) == "DISPLAY":
        pairs = [surface.of_display(x, y) for x, y in pairs]
    return [pair for pair in pairs if max(abs(pair[0]), abs(pair[1])) < _FARTHEST]


def _draw(pen: ImageDraw.ImageDraw, item: Dataset, surface: Surface) -> None:
    kind = code(item, "GraphicType", {"POINT", "MULTIPOINT", "POLYLINE", "INTERPOLATED", "CIRCLE", "ELLIPSE"})
    points = _points(item, "GraphicData", "GraphicAnnotationUnits", surface)
    filled = code(item, "GraphicFilled", {"Y", "N"}) == "Y"
    if kind in {"POINT", "MULTIPOINT"}:
        for x, y in points:
            # A cross: one pixel would not be seen.
            pen.line(_pixels([(x - 3, y), (x + 3, y)]), 255)
            pen.line(_pixels([(x, y - 3), (x, y + 3)]), 255)
        return
    if kind == "INTERPOLATED":
        points = _curve(points)
    elif kind == "CIRCLE" and len(points) == 2:
        points = _ellipse(points[0], *_around(*points))
    elif kind == "ELLIPSE" and len(points) == 4:
        points = _ellipse(_middle(*points[:2]), _half(*points[:2]), _half(*points[2:]))
    elif kind != "POLYLINE":
        return
    if len(points) < 2:
        return
    if filled and len(points) > 2:
        pen.polygon(_pixels(points), 255)
    pen.line(_pixels(points), 255)


def _pixels(points: Sequence[Point]) -> list[Point]:
    """Pixels the points lie in: 0.0 to 1.0 is the first."""
    return [(math.floor(x), math.floor(y)) for x, y in points]


def _middle(one: Point, other: Point) -> Point:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def _half(one: Point, other: Point) -> Point:
    return (other[0] - one[0]) / 2, (other[1] - one[1]) / 2


def _around(center: Point, edge: Point) -> tuple[Point, Point]:
    x, y = edge[0] - center[0], edge[1] - center[1]
    return (x, y), (-y, x)


def _ellipse(center: Point, first: Point, second: Point) -> list[Point]:
    turns = [2 * math.pi * step / 72 for step in range(73)]
    return [
        (
            center[0] + math.cos(turn) * first[0] + math.sin(turn) * second[0],
            center[1] + math.cos(turn) * first[1] + math.sin(turn) * second[1],
        )
        for turn in turns
    ]


def _curve(points: list[Point]) -> list[Point]:
    """Go through all points smoothly: a Catmull-Rom curve; the standard leaves open which it is."""
    if len(points) < 3:
        return points
    closed = points[0] == points[-1]
    before, after = (points[-2], points[1]) if closed else (points[0], points[-1])
    padded = [before, *points, after]
    made = [points[0]]
    for at, (b, c) in enumerate(pairwise(points)):
        a, d = padded[at], padded[at + 3]
        for step in range(1, _STEPS + 1):
            t = step / _STEPS
            made.append((_between(a[0], b[0], c[0], d[0], t), _between(a[1], b[1], c[1], d[1], t)))
    return made


def _between(a: float, b: float, c: float, d: float, t: float) -> float:
    return (
        b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    )  # fmt: skip


def _write(
    written: NDArray[np.bool_], item: Dataset, surface: Surface, visual_order: Callable[[str], str]
) -> None:
    lines = "\n".join(texts(item, "UnformattedTextValue"))[:_LONGEST].splitlines()
    marked = [_line(visual_order(line), surface.text_px) for line in lines if line.strip()]
    box = [
        *_points(item, "BoundingBoxTopLeftHandCorner", "BoundingBoxAnnotationUnits", surface),
        *_points(item, "BoundingBoxBottomRightHandCorner", "BoundingBoxAnnotationUnits", surface),
    ]
    anchor = _points(item, "AnchorPoint", "AnchorPointAnnotationUnits", surface)
    if not marked or not (len(box) == 2 or anchor):
        return
    height, width = sum(line.shape[0] for line in marked), max(line.shape[1] for line in marked)
    block, top = np.zeros((height, width), np.bool_), 0
    for line in marked:
        block[top : top + line.shape[0], : line.shape[1]] = line
        top += line.shape[0]
    block = surface.upright(block)
    # The box may be turned on the frame: its corner with the smallest row and column is what counts there.
    corner = (min(x for x, _ in box), min(y for _, y in box)) if len(box) == 2 else anchor[0]
    _put(written, block, round(corner[0]), round(corner[1]))


def _put(written: NDArray[np.bool_], block: NDArray[np.bool_], x: int, y: int) -> None:
    """Mark a block; it is moved inside where it would reach beyond the edge."""
    rows, columns = written.shape
    height, width = block.shape
    x, y = max(min(x, columns - width), 0), max(min(y, rows - height), 0)
    part = block[: rows - y, : columns - x]
    written[y : y + part.shape[0], x : x + part.shape[1]] |= part


def _line(visual: str, size: int) -> NDArray[np.bool_]:
    """One line of text, in visual order, as marked pixels."""
    runs = [(_font(number, size), "".join(run)) for number, run in groupby(visual, key=_font_number)]
    # Letters without grey edges are set wider: the pen knows how wide.
    measure = ImageDraw.Draw(Pillow.new("1", (1, 1)))
    widths = [math.ceil(measure.textlength(run, font)) for font, run in runs]
    picture = Pillow.new("1", (sum(widths) + 2, round(size * 1.5)))
    pen, x = ImageDraw.Draw(picture), 1
    for (font, run), width in zip(runs, widths, strict=True):
        pen.text((x, size), run, fill=1, font=font, anchor="ls")
        x += width
    return np.asarray(picture, np.bool_)


@functools.lru_cache(maxsize=4096)
def _font_number(letter: str) -> int:
    """Which of the fonts has a letter; the first one draws a box for what none has."""
    for number in range(len(_FONTS)):
        font = _font(number, 16)
        mask, box = font.getmask(letter), font.getmask(_NOWHERE)
        if mask.size != box.size or bytes(mask) != bytes(box):
            return number
    return 0


@functools.lru_cache(maxsize=16)
def _font(number: int, size: int) -> Any:
    with (resources.files("assets") / "fonts" / _FONTS[number]).open("rb") as stream:
        return ImageFont.truetype(io.BytesIO(stream.read()), size, layout_engine=ImageFont.Layout.BASIC)
