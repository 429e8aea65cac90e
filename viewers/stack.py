"""Where parallel slices lie in the patient, whether they form a volume, and its affine.

All coordinates are the patient's, in millimetres: +x left, +y posterior, +z head (LPS).

References
----------
DICOM PS3.3 C.7.6.2.1.1 (image position and orientation).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.errors import (
    GantryTiltError,
    MixedOrientationError,
    ShiftedSlicesError,
    TooFewSlicesError,
    UnevenSpacingError,
)
from viewers.geometry import marks_from_cosines
from viewers.passes import Placed, told_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FrameKey", "SlicePlane", "Stack", "passes", "slice_plane"]

_PARALLEL: Final = 1e-3
"""Largest difference of a direction's component between parallel slices: about 0.06 degrees."""
FEWEST: Final = 3
"""Slices from which distances can be compared: two are always evenly spaced."""
_SAME_MM: Final = 0.01
"""Distance along the normal below which two slices lie at the same place."""
_UNEVEN: Final = 0.05
"""Largest difference of a step from the median step, as a part of it; positions are written with rounding."""
_SHIFTED: Final = 0.1
"""Largest distance of a slice, in its plane, from the line through first and last position, in pixels."""
_ROUNDED: Final = (0.15, 0.25)
"""The same where positions are written with rounding: in mm, but no more than this part of a pixel."""
TILT_DEGREES: Final = 0.5
"""Shear from which it is told: 0.5 degrees moves the ends of a 300 mm stack by 2.6 mm against each other."""
_MOST_DIRECTIONS: Final = 64
"""Of the frames of one image; a radial scan has one for each frame, and no volume."""
_LARGEST_TILT_DEGREES: Final = 45.0
"""Gantries tilt up to 30 degrees; positions sheared further are a mistake of the header."""


@dataclass(frozen=True, slots=True)
class SlicePlane:
    """Where one slice lies: the centre of its first pixel, and its directions."""

    position_mm: tuple[float, float, float]
    cosines: tuple[float, ...]
    """Direction of increasing column, then of increasing row: 6 numbers."""

    @property
    def normal(self) -> tuple[float, float, float]:
        """Unit vector perpendicular to the slice: column direction x row direction."""
        a, b = self.cosines[:3], self.cosines[3:]
        across = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
        length = math.hypot(*across)
        return (across[0] / length, across[1] / length, across[2] / length)

    def parallel(self, other: SlicePlane) -> bool:
        """Whether two slices have the same directions."""
        return all(abs(a - b) <= _PARALLEL for a, b in zip(self.cosines, other.cosines, strict=True))

    def along(self, normal: Sequence[float]) -> float:
        """Distance of the slice from the origin along a normal, in millimetres."""
        return sum(a * b for a, b in zip(self.position_mm, normal, strict=True))


def slice_plane(position: Sequence[float], cosines: Sequence[float]) -> SlicePlane | None:
    """Make a plane of a header's numbers; ``None`` when they are missing or impossible."""
    if len(position) != 3 or not all(math.isfinite(value) and abs(value) < 1e6 for value in position):
        return None
    if marks_from_cosines(cosines) is None:
        return None
    return SlicePlane((position[0], position[1], position[2]), tuple(cosines))


@dataclass(frozen=True, slots=True)
class FrameKey:
    """What a file says of a frame besides its place; entries are the same for all frames of an image."""

    part: tuple[float, ...] = ()
    """Frames in which this differs never go together, whatever their places: a segment's number."""
    stated: tuple[tuple[float, ...], ...] = ()
    timed: tuple[tuple[float, ...], ...] = ()
    """Both as in :class:`viewers.passes.Placed`."""


def passes(planes: Sequence[SlicePlane | None], keys: Sequence[FrameKey]) -> tuple[int, ...]:
    """Give frames numbers, so that those with the same number go through the patient once.

    Frames of several orientations or segments are always told apart. Where a place is taken twice, what the
    keys state (time, echo, b-value) tells the frames apart, else their order; see :mod:`viewers.passes`.

    Returns
    -------
    tuple of int
        From 0; empty when all frames are one pass, one does not say where it lies, or almost all face
        differently.
    """
    if not planes or any(plane is None for plane in planes):
        return ()
    known: list[SlicePlane] = []
    groups: dict[tuple[int, tuple[float, ...]], list[int]] = {}
    placed: list[Placed] = []
    for number, (plane, key) in enumerate(zip(planes, keys, strict=True)):
        assert plane is not None  # noqa: S101 - for the type checker: looked at above
        facing = next((n for n, other in enumerate(known) if plane.parallel(other)), len(known))
        if facing == len(known):
            known.append(plane)
        if len(known) > _MOST_DIRECTIONS:
            return ()
        groups.setdefault((facing, key.part), []).append(number)
        along = round(plane.along(known[facing].normal), 2)
        placed.append(Placed(along, key.stated, key.timed, (number,)))
    made = [0] * len(planes)
    count = 0
    for _, numbers in sorted(groups.items()):
        for one in told_apart([placed[n] for n in numbers]):
            for index in one:
                made[numbers[index]] = count
            count += 1
    return tuple(made) if count > 1 else ()


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in the order they are shown in.

    Parameters
    ----------
    planes : tuple of SlicePlane or None
        ``None`` for a slice that does not say where it lies.
    spacing_mm : (float, float) or None
        Between rows, between columns.
    """

    planes: tuple[SlicePlane | None, ...]
    spacing_mm: tuple[float, float] | None

    def steps_mm(self) -> tuple[float, ...]:
        """Distances between neighbouring slices along the first one's normal; empty without positions."""
        first = self.planes[0] if self.planes else None
        if first is None:
            return ()
        along = [plane.along(first.normal) for plane in self.planes if plane is not None]
        return tuple(after - before for before, after in itertools.pairwise(along))

    def is_one_place(self) -> bool:
        """Whether all slices lie at the same place, as those of a heart that is watched."""
        steps = self.steps_mm()
        return len(steps) == len(self.planes) - 1 > 0 and all(abs(step) < _SAME_MM for step in steps)

    def tilt_degrees(self) -> float:
        """Angle between the line through first and last position and the slices' normal; 0 for one slice."""
        first, last = (self.planes[0], self.planes[-1]) if self.planes else (None, None)
        if first is None or last is None or first == last:
            return 0.0
        line = [b - a for a, b in zip(first.position_mm, last.position_mm, strict=True)]
        length = math.hypot(*line)
        if not length:
            return 0.0
        cosine = sum(a * b for a, b in zip(line, first.normal, strict=True)) / length
        return math.degrees(math.acos(min(1.0, abs(cosine))))

    def shifted_mm(self) -> float:
        """Largest distance of a slice from its place on the line from first to last; 0 when within rounding.

        The line may be sheared, as that of a tilted gantry is. Neighbouring steps may differ by rounding,
        but their differences must not add up to half a step.
        """
        known = [plane for plane in self.planes if plane is not None]
        if len(known) < FEWEST or len(known) < len(self.planes):
            return 0.0
        places = np.asarray([plane.position_mm for plane in known], float)
        even = np.linspace(places[0], places[-1], len(places))
        away = places - even
        along = away @ known[0].normal
        # A step that is longer by rounding takes its part of the shear along.
        step = (places[-1] - places[0]) / (len(places) - 1)
        across = float(step @ known[0].normal)
        lean = step / across if abs(across) > 1e-6 else np.asarray(known[0].normal)
        inside = np.linalg.norm(away - np.outer(along, lean), axis=1)
        pixel = min(self.spacing_mm or (1.0,))
        allowed = max(_SHIFTED * pixel, min(_ROUNDED[0], _ROUNDED[1] * pixel))
        largest = float(inside.max())
        if largest > allowed:
            return largest
        drift = float(np.abs(along).max())
        return drift if drift > abs(across) / 2 else 0.0

    def uneven(self) -> tuple[float, float, float] | None:
        """Return the smallest, the median and the largest step in mm when they differ, else ``None``."""
        steps = sorted(self.steps_mm())
        if not steps:
            return None
        middle = steps[len(steps) // 2]
        allowed = max(_UNEVEN * abs(middle), 0.01)
        if middle > 0 and steps[-1] - middle <= allowed and middle - steps[0] <= allowed:
            return None
        return steps[0], middle, steps[-1]

    def check(self) -> None:
        """Refuse what is no volume.

        Raises
        ------
        TooFewSlicesError, MixedOrientationError, UnevenSpacingError, ShiftedSlicesError, GantryTiltError
            With the numbers.
        """
        count, first = len(self.planes), self.planes[0] if self.planes else None
        if count < FEWEST:
            raise TooFewSlicesError(found=count, expected=FEWEST)
        if self.is_one_place():
            raise TooFewSlicesError(found=1, expected=FEWEST)
        odd = sum(first is None or plane is None or not plane.parallel(first) for plane in self.planes)
        if odd or self.spacing_mm is None:
            raise MixedOrientationError(found=odd or count, count=count)
        uneven = self.uneven()
        if uneven is not None:
            smallest, middle, largest = (f"{value:.3f}" for value in uneven)
            raise UnevenSpacingError(smallest=smallest, expected=middle, largest=largest)
        shifted = self.shifted_mm()
        if shifted:
            raise ShiftedSlicesError(found=f"{shifted:.2f}")
        tilt = self.tilt_degrees()
        if tilt > _LARGEST_TILT_DEGREES:
            raise GantryTiltError(found=f"{tilt:.1f}", limit=_LARGEST_TILT_DEGREES)

    def affine(self) -> NDArray[np.float64]:
        """Matrix, float64 (4, 4), from (column, row, slice, 1) to LPS millimetres.

        A tilted gantry shears it.

        Raises
        ------
        VolumeError
            As :meth:`check`.
        """
        self.check()
        first, last = self.planes[0], self.planes[-1]
        assert first is not None  # noqa: S101 - for the type checker: checked above
        assert last is not None  # noqa: S101 - same
        assert self.spacing_mm is not None  # noqa: S101 - same
        matrix = np.eye(4)
        matrix[:3, 0] = np.asarray(first.cosines[:3]) * self.spacing_mm[1]
        matrix[:3, 1] = np.asarray(first.cosines[3:]) * self.spacing_mm[0]
        apart = np.asarray(last.position_mm) - np.asarray(first.position_mm)
        matrix[:3, 2] = apart / (len(self.planes) - 1)
        matrix[:3, 3] = first.position_mm
        return matrix
