"""Sizes, regions, spacings and edge marks: frozen values with their units in their names.

All pixel coordinates are on a frame's native grid: x counts columns from the left edge, y counts rows
from the top edge, both from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CalibratedRegion",
    "EdgeMarks",
    "PixelSpacingMm",
    "Region",
    "SizePx",
    "letters",
    "marks_from_cosines",
    "marks_from_letters",
]

_OPPOSITE = str.maketrans("LRAPHF", "RLPAFH")
_AXES = (("L", "R"), ("P", "A"), ("H", "F"))
_SECOND_LETTER = math.sin(math.radians(15))
"""A second letter is shown from 15 degrees of obliquity: less is a normal tilt of the head or the gantry."""


@dataclass(frozen=True, slots=True)
class SizePx:
    """Width and height in pixels, both at least 1."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a size is at least 1 x 1 pixels, found {self.width} x {self.height}")


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of whole pixels: columns ``x`` to ``x + width - 1``, rows ``y`` to ``y + height - 1``."""

    x: int
    y: int
    width: int
    height: int

    def inside(self, size: SizePx) -> bool:
        """Whether the rectangle is not empty and lies wholly inside an image of ``size``."""
        return (
            self.x >= 0
            and self.y >= 0
            and self.width >= 1
            and self.height >= 1
            and self.x + self.width <= size.width
            and self.y + self.height <= size.height
        )


@dataclass(frozen=True, slots=True)
class PixelSpacingMm:
    """Distance between the centres of neighbouring pixels, in millimetres, as DICOM orders it.

    References
    ----------
    DICOM PS3.3 10.7.1.3.
    """

    row: float
    """Between neighbouring rows (vertical)."""
    column: float
    """Between neighbouring columns (horizontal)."""
    source: str
    """Keyword of the attribute it was read from."""
    calibrated: bool
    """Whether lengths hold in the patient; ``False`` for distances at a detector or of a scanned film."""

    def __post_init__(self) -> None:
        if not (0 < self.row < math.inf and 0 < self.column < math.inf):
            raise ValueError(f"spacing is above 0 mm, found {self.row} x {self.column}")


@dataclass(frozen=True, slots=True)
class CalibratedRegion:
    """A part of a frame with a spacing of its own, such as one of the pictures of an ultrasound screen."""

    region: Region
    spacing: PixelSpacingMm


@dataclass(frozen=True, slots=True)
class EdgeMarks:
    """Letters L R A P H F (left, right, anterior, posterior, head, feet) at the edges; empty when unknown."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""

    def turned(self, rotation: int, *, flipped: bool) -> EdgeMarks:
        """Return the marks of the picture after it was flipped left to right and then turned clockwise.

        Parameters
        ----------
        rotation : int
            Degrees clockwise, a multiple of 90.
        """
        edges = [self.top, self.right, self.bottom, self.left]
        if flipped:
            edges[1], edges[3] = edges[3], edges[1]
        steps = rotation // 90 % 4
        top, right, bottom, left = edges[-steps:] + edges[:-steps] if steps else edges
        return EdgeMarks(left, right, top, bottom)


def letters(direction: Sequence[float]) -> str:
    """Name a direction in the patient with one letter, or two when it is oblique by 15 degrees or more.

    Parameters
    ----------
    direction : sequence of 3 float
        Unit vector in the patient's coordinates: +x left, +y posterior, +z head.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1.
    """
    ordered = sorted(zip(direction, _AXES, strict=True), key=lambda pair: -abs(pair[0]))
    named = [
        axis[0] if component > 0 else axis[1]
        for position, (component, axis) in enumerate(ordered)
        if (position == 0 and component != 0) or abs(component) >= _SECOND_LETTER
    ]
    return "".join(named[:2])


def marks_from_letters(right: str, bottom: str) -> EdgeMarks:
    """Complete the right and the bottom mark (PatientOrientation's order) with their opposites."""
    return EdgeMarks(right.translate(_OPPOSITE), right, bottom.translate(_OPPOSITE), bottom)


def marks_from_cosines(cosines: Sequence[float]) -> EdgeMarks | None:
    """Edge marks from ImageOrientationPatient.

    Parameters
    ----------
    cosines : sequence of 6 float
        Direction of increasing column, then of increasing row.

    Returns
    -------
    EdgeMarks or None
        ``None`` when the six numbers are not two perpendicular unit vectors (within 1 %).
    """
    if len(cosines) != 6 or not all(math.isfinite(value) for value in cosines):
        return None
    along_row, along_column = cosines[:3], cosines[3:]
    dot = sum(a * b for a, b in zip(along_row, along_column, strict=True))
    if abs(dot) > 0.01 or any(abs(math.hypot(*vector) - 1) > 0.01 for vector in (along_row, along_column)):
        return None
    return marks_from_letters(letters(along_row), letters(along_column))
