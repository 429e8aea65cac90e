"""Length, angle, rectangle, ellipse and probe, measured on the original values of a frame or a plane.

Points are (x, y) on the native grid of what is measured: x counts columns and y rows, both from the
upper left corner of the upper left pixel, whose centre is (0.5, 0.5). A pixel belongs to a rectangle or
an ellipse when its centre does. Padding, and what lies outside of a volume, is never counted. The
standard deviation is that of the counted pixels themselves (divided by n).

Lengths are in millimetres when a spacing is known, and the spacing that was used is told: where it comes
from, and whether it holds in the patient. Without one they are in pixels (of the width of a pixel when
pixels are not square).

References
----------
DICOM PS3.3 10.7.1.3 (pixel spacing), C.18.6 (spatial coordinates), C.8.5.5 (ultrasound regions).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.assembly import image_volume, value_volume
from viewers.errors import FrameOutOfRangeError, MeasureError
from viewers.geometry import PixelSpacingMm
from viewers.image import ColorFrame
from viewers.planes import PlaneView, plane_frame
from viewers.projection import slab
from viewers.record import Types, strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from viewers.image import Frame, Image

__all__ = ["Measurement", "Quantity", "Shape", "measure", "value_unit"]

_POINTS: Final[Mapping[str, tuple[int, ...]]] = {
    "length": (2,),
    "angle": (3, 4),
    "rectangle": (2,),
    "ellipse": (2,),
    "probe": (1,),
}
"""Points of each kind. An angle has its vertex in the middle of three, or is that between two lines of two
points each (Cobb); rectangle and ellipse have two opposite corners of their box."""
_NUMBER: Final = (int, float)
_SHAPE: Final[Mapping[str, Types]] = {"kind": str, "points": list}
_RECORD: Final[Mapping[str, Types]] = {
    "shape": dict,
    "image": str,
    "frame": int,
    "plane": (dict, type(None)),
    "quantities": list,
    "spacing": (dict, type(None)),
    "place_mm": (list, type(None)),
}
_QUANTITY: Final[Mapping[str, Types]] = {"name": str, "value": _NUMBER, "unit": str}
_SPACING: Final[Mapping[str, Types]] = {"row": _NUMBER, "column": _NUMBER, "source": str, "calibrated": bool}
_NAMES: Final = ("length", "angle", "area", "mean", "sd", "min", "max", "n", "value")

Point = tuple[float, float]


def _invalid(entry: str, found: str, expected: str) -> Exception:
    return MeasureError(entry=entry, found=found, expected=expected)


def _point(value: Any) -> Point:
    numbers = isinstance(value, list | tuple) and len(value) == 2
    if not numbers or not all(isinstance(item, _NUMBER) and not isinstance(item, bool) for item in value):
        raise _invalid("points", "?", "[x, y]")
    if not all(abs(item) < 1e9 for item in value):
        raise _invalid("points", "?", "px")
    return float(value[0]), float(value[1])


@dataclass(frozen=True, slots=True)
class Shape:
    """What was drawn.

    Raises
    ------
    MeasureError
        If there is no such kind, or it has another number of points.
    """

    kind: str
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        counts = _POINTS.get(self.kind)
        if counts is None:
            raise _invalid("kind", "?", ", ".join(_POINTS))
        if len(self.points) not in counts:
            raise _invalid("points", str(len(self.points)), " / ".join(map(str, counts)))

    def to_json(self) -> dict[str, Any]:
        """JSON values, with every entry present."""
        return {"kind": self.kind, "points": [list(point) for point in self.points]}

    @classmethod
    def from_json(cls, value: Any) -> Shape:
        """Read JSON values from anywhere.

        Raises
        ------
        MeasureError
            If an entry is missing, unknown, wrongly typed or impossible.
        """
        record = strict(value, _SHAPE, _invalid)
        if len(record["points"]) > max(map(max, _POINTS.values())):
            raise _invalid("points", str(len(record["points"])), "1-4")
        return cls(record["kind"], tuple(_point(item) for item in record["points"]))


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number with its unit."""

    name: str
    """``length``, ``angle``, ``area``, ``mean``, ``sd``, ``min``, ``max``, ``n`` (pixels) or ``value``."""
    value: float
    unit: str
    """``mm``, ``px``, ``mm2``, ``px2``, ``deg``, ``HU``, ``Gy``, a DICOM code such as ``BQML``, ``raw``, or
    empty."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was drawn, where, and what came out."""

    shape: Shape
    image: str
    """Digest of the image."""
    frame: int
    plane: PlaneView | None
    quantities: tuple[Quantity, ...]
    spacing: PixelSpacingMm | None
    """What lengths were computed with; ``None`` for pixels, or when no length was asked for."""
    place_mm: tuple[float, float, float] | None
    """Middle of the points in the patient (LPS); ``None`` when the frame does not say where it lies."""

    def value(self, name: str) -> float:
        """Return the number of a quantity.

        Raises
        ------
        KeyError
            If the shape has none of this name.
        """
        return {quantity.name: quantity.value for quantity in self.quantities}[name]

    def to_json(self) -> dict[str, Any]:
        """JSON values, with every entry present."""
        return {
            "shape": self.shape.to_json(),
            "image": self.image,
            "frame": self.frame,
            "plane": None if self.plane is None else self.plane.to_json(),
            "quantities": [asdict(quantity) for quantity in self.quantities],
            "spacing": None if self.spacing is None else asdict(self.spacing),
            "place_mm": None if self.place_mm is None else list(self.place_mm),
        }

    @classmethod
    def from_json(cls, value: Any) -> Measurement:
        """Read JSON values as they were stored; numbers from a page are not believed but measured again.

        Raises
        ------
        MeasureError, InvalidViewError
            If an entry is missing, unknown, wrongly typed or impossible.
        """
        record = strict(value, _RECORD, _invalid)
        plane, spacing, place = record["plane"], record["spacing"], record["place_mm"]
        return cls(
            Shape.from_json(record["shape"]),
            record["image"],
            record["frame"],
            None if plane is None else PlaneView.from_json(plane),
            tuple(_quantity(item) for item in record["quantities"]),
            None if spacing is None else _spacing(spacing),
            None if place is None else _place(place),
        )


def _quantity(value: Any) -> Quantity:
    record = strict(value, _QUANTITY, _invalid)
    if record["name"] not in _NAMES or not abs(record["value"]) < math.inf:
        raise _invalid("quantities", "?", ", ".join(_NAMES))
    return Quantity(record["name"], float(record["value"]), record["unit"])


def _spacing(value: Any) -> PixelSpacingMm:
    record = strict(value, _SPACING, _invalid)
    try:
        return PixelSpacingMm(**record)
    except ValueError as error:
        raise _invalid("spacing", "?", "> 0 mm") from error


def _place(value: list[Any]) -> tuple[float, float, float]:
    if len(value) != 3:
        raise _invalid("place_mm", str(len(value)), "3")
    (x, y), (_, z) = _point(value[:2]), _point(value[1:])
    return x, y, z


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """What is measured on: pixels with their spacing and place."""

    frame: Frame
    spacing: PixelSpacingMm | None
    pixel_aspect: float
    affine: NDArray[np.float64] | None
    """(column, row, 0, 1) of pixel centres, counted from 0, to LPS millimetres."""
    values: NDArray[np.float32] | None = None
    """Of the pixels, where their codes mean them only within a step."""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        pixels = self.frame.rgb if isinstance(self.frame, ColorFrame) else self.frame.codes
        return pixels.shape[1], pixels.shape[0]

    def scale(self) -> tuple[float, float]:
        """Length of one step to the right and one step down, in the unit of lengths."""
        if self.spacing is None:
            return 1.0, self.pixel_aspect
        return self.spacing.column, self.spacing.row

    @property
    def unit(self) -> str:
        """Unit of lengths."""
        return "px" if self.spacing is None else "mm"


def measure(image: Image, shape: Shape, frame: int = 0, plane: PlaneView | None = None) -> Measurement:
    """Measure a shape on a frame, or on a plane through the volume the frame belongs to.

    Raises
    ------
    MeasureError
        If a point lies outside of the picture, nothing lies in the shape, or a colour picture is asked
        for values.
    FrameOutOfRangeError, VolumeError, OpenError
        If there are no such pixels.
    """
    surface = _surface(image, shape, frame, plane)
    width, height = surface.size
    if not all(0 <= x <= width and 0 <= y <= height for x, y in shape.points):
        raise MeasureError(entry="points", found="?", expected=f"0-{width}, 0-{height} px")
    unit = value_unit(image)
    if shape.kind == "length":
        quantities = [Quantity("length", _length(surface, *shape.points), surface.unit)]
    elif shape.kind == "angle":
        quantities = [Quantity("angle", _angle(surface, shape.points), "deg")]
    elif shape.kind == "probe":
        quantities = [Quantity("value", _probed(surface, shape.points[0]), unit)]
    else:
        outside = _outside_volume(image, frame, plane)
        quantities = _area(surface, shape) + _statistics(surface, shape, unit, outside)
    used = surface.spacing if shape.kind != "probe" else None
    return Measurement(shape, image.digest, frame, plane, tuple(quantities), used, _middle(surface, shape))


def value_unit(image: Image) -> str:
    """Return the unit of an image's values: ``HU``, ``Gy``, a DICOM code such as ``BQML``, else ``raw``."""
    facts = image.facts
    if facts.get("RescaleType") == "HU":
        return "HU"
    return "Gy" if facts.get("DoseUnits") == "GY" else facts.get("Units", "raw")


def _surface(image: Image, shape: Shape, frame: int, plane: PlaneView | None) -> _Surface:
    if not 0 <= frame < image.frame_count:
        raise FrameOutOfRangeError(found=frame + 1, count=image.frame_count)
    if plane is not None:
        pixels, cut = plane_frame(image, frame, plane)
        row, column = cut.spacing_mm
        spacing = PixelSpacingMm(row, column, "ImagePositionPatient", calibrated=True)
        return _Surface(pixels, spacing, row / column, cut.affine, _plane_values(image, frame, plane))
    known = _spacing_at(image, shape)
    return _Surface(image.frame(frame), known, image.pixel_aspect, _frame_affine(image, frame))


def _plane_values(image: Image, frame: int, plane: PlaneView) -> NDArray[np.float32] | None:
    exact = value_volume(image, frame)
    if exact is None:
        return None
    return slab(exact, plane.plane, plane.position_mm, plane.projection, plane.thickness_mm).values


def _spacing_at(image: Image, shape: Shape) -> PixelSpacingMm | None:
    """Spacing of the calibrated region all points lie in; of the image when it has no regions."""
    regions = image.describes.calibrated
    for part in regions:
        area = part.region
        if all(
            area.x <= x <= area.x + area.width and area.y <= y <= area.y + area.height
            for x, y in shape.points
        ):
            return part.spacing
    return None if regions else image.spacing


def _frame_affine(image: Image, frame: int) -> NDArray[np.float64] | None:
    planes, spacing = image.describes.planes, image.spacing
    plane = planes[frame] if planes else None
    if plane is None or spacing is None:
        return None
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(plane.cosines[:3]) * spacing.column
    affine[:3, 1] = np.asarray(plane.cosines[3:]) * spacing.row
    affine[:3, 3] = plane.position_mm
    return affine


def _length(surface: _Surface, start: Point, end: Point) -> float:
    return math.hypot(*_vector(surface, start, end))


def _vector(surface: _Surface, start: Point, end: Point) -> tuple[float, float]:
    across, down = surface.scale()
    return (end[0] - start[0]) * across, (end[1] - start[1]) * down


def _angle(surface: _Surface, points: tuple[Point, ...]) -> float:
    """Angle at the vertex, 0 to 180 degrees, or between two lines, 0 to 90."""
    if len(points) == 3:
        one, other = _vector(surface, points[1], points[0]), _vector(surface, points[1], points[2])
    else:
        one, other = _vector(surface, *points[:2]), _vector(surface, *points[2:])
    if not math.hypot(*one) or not math.hypot(*other):
        raise MeasureError(entry="points", found="0", expected="> 0 px")
    # atan2 of cross and dot product is exact for small angles too, where acos is not.
    cross, dot = one[0] * other[1] - one[1] * other[0], one[0] * other[0] + one[1] * other[1]
    return math.degrees(math.atan2(abs(cross), dot if len(points) == 3 else abs(dot)))


def _probed(surface: _Surface, point: Point) -> float:
    values, padded = _values(surface, point[0], point[1], point[0], point[1])
    if padded.all():
        raise MeasureError(entry="value", found="-", expected="> 0 px")
    return float(values[0, 0])


def _area(surface: _Surface, shape: Shape) -> list[Quantity]:
    width, height = _vector(surface, *shape.points)
    part = math.pi / 4 if shape.kind == "ellipse" else 1.0
    return [Quantity("area", abs(width * height) * part, f"{surface.unit}2")]


def _values(
    surface: _Surface, left: float, top: float, right: float, bottom: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values of the pixels that touch a box, and which of them are padding."""
    if isinstance(surface.frame, ColorFrame):
        raise MeasureError(entry="value", found="RGB", expected="grey")
    rows, columns = _span(top, bottom, surface.size[1]), _span(left, right, surface.size[0])
    codes, code_map = surface.frame.codes[rows, columns], surface.frame.code_map
    values = code_map.values()[codes] if surface.values is None else surface.values[rows, columns]
    return values.astype(np.float64), code_map.padded()[codes]


def _span(low: float, high: float, length: int) -> slice:
    first = min(int(low), length - 1)
    return slice(first, min(max(math.ceil(high), first + 1), length))


def _statistics(
    surface: _Surface, shape: Shape, unit: str, outside: NDArray[np.bool_] | None
) -> list[Quantity]:
    (x0, y0), (x1, y1) = shape.points
    left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    values, padded = _values(surface, left, top, right, bottom)
    x = int(left) + 0.5 + np.arange(values.shape[1])
    y = (int(top) + 0.5 + np.arange(values.shape[0]))[:, None]
    if shape.kind == "ellipse" and right > left and bottom > top:
        away = ((2 * x - left - right) / (right - left)) ** 2 + ((2 * y - top - bottom) / (bottom - top)) ** 2
        inside = away <= 1
    else:
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    inside = inside & ~padded
    if outside is not None:
        inside &= ~outside[_span(top, bottom, surface.size[1]), _span(left, right, surface.size[0])]
    counted = values[inside]
    if not counted.size:
        raise MeasureError(entry="n", found="0", expected="> 0 px")
    numbers = {"mean": counted.mean(), "sd": counted.std(), "min": counted.min(), "max": counted.max()}
    return [
        *(Quantity(name, float(value), unit) for name, value in numbers.items()),
        Quantity("n", float(counted.size), "px"),
    ]


def _outside_volume(image: Image, frame: int, plane: PlaneView | None) -> NDArray[np.bool_] | None:
    """Pixels of an oblique plane that lie in no voxel; ``None`` when there are none."""
    if plane is None:
        return None
    volume = image_volume(image, frame)
    if volume.is_straight:
        return None
    _, cut = plane_frame(image, frame, plane)
    to_voxel = np.linalg.inv(volume.affine) @ cut.affine
    rows, columns = np.indices(cut.values.shape)
    outside = np.zeros(cut.values.shape, np.bool_)
    for line, count in zip(to_voxel[:3], volume.array.shape[::-1], strict=True):
        index = line[0] * columns + line[1] * rows + line[3]
        outside |= (index < -0.5) | (index > count - 0.5)
    return outside


def _middle(surface: _Surface, shape: Shape) -> tuple[float, float, float] | None:
    if surface.affine is None:
        return None
    column, row = np.mean(shape.points, axis=0) - 0.5
    x, y, z = (float(value) for value in (surface.affine @ [column, row, 0.0, 1.0])[:3])
    return x, y, z
