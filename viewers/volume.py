"""A volume of measured values with its place in the patient, and planes through it.

Arrays are ordered (slice, row, column). The affine maps (column, row, slice, 1) to millimetres in the
patient: +x left, +y posterior, +z head (LPS). Planes are drawn as radiologists read them: axial seen from
the feet, coronal from the front, sagittal from the left, with the patient's left on the right-hand side.

References
----------
DICOM PS3.3 C.7.6.2.1.1 (image position and orientation).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from viewers.errors import PlaneOutsideError, VolumeError
from viewers.geometry import EdgeMarks, marks_from_letters
from viewers.oblique import ObliqueSampler
from viewers.proportions import display_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viewers.image import ImageFacts
    from viewers.window import CodeMap

__all__ = ["PLANES", "Plane", "PlaneGrid", "PlaneSlice", "Volume"]

Plane = Literal["axial", "coronal", "sagittal"]

PLANES: Final[tuple[Plane, ...]] = ("axial", "coronal", "sagittal")
_AXES: Final[dict[str, tuple[tuple[int, int], tuple[int, int], int]]] = {
    "axial": ((0, 1), (1, 1), 2),
    "coronal": ((0, 1), (2, -1), 1),
    "sagittal": ((1, 1), (2, -1), 0),
}
"""Axis of the patient and sign along columns, the same along rows, and the axis of the position."""
_MARKS: Final = {
    "axial": marks_from_letters("L", "P"),
    "coronal": marks_from_letters("L", "F"),
    "sagittal": marks_from_letters("P", "F"),
}
_MOST_PIXELS: Final = 2**26
"""Of a plane with square pixels: a volume of 512 columns may be a hundred times as long as it is wide."""
_MOST_PLANES: Final = 2**16
_ALIGNED: Final = 1e-3
"""Largest part of a voxel's edge across the patient's axes for planes to be taken without resampling."""


@dataclass(frozen=True, slots=True, eq=False)
class PlaneGrid:
    """Pixels of the planes of one kind; all have the same."""

    columns: int
    rows: int
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    marks: EdgeMarks
    affine: NDArray[np.float64]
    """(column, row, position, 1) to LPS millimetres, float64 (4, 4); the position is in millimetres too."""
    axis: int
    """Axis of the patient the position counts along: 0 x, 1 y, 2 z."""


@dataclass(frozen=True, slots=True, eq=False)
class PlaneSlice:
    """One plane through a volume."""

    values: NDArray[Any]
    """Shape (rows, columns), of the volume's dtype."""
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    marks: EdgeMarks
    affine: NDArray[np.float64]
    """(column, row, 0, 1) to LPS millimetres, float64 (4, 4)."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Values on a regular grid in the patient.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        Rescaled values, e.g. Hounsfield units; int16 when they are whole numbers that fit, else float32.
        With a ``code_map``: codes, uint16, which may be memory-mapped.
    affine : ndarray of float64, shape (4, 4)
        (column, row, slice, 1) to LPS millimetres.
    describes : ImageFacts, optional
        Of the series it was made of.
    code_map : CodeMap, optional
        What codes mean; linear, with a slope above 0, so that the middle of two codes means the middle.

    Raises
    ------
    ValueError
        If the array has not three axes or the affine cannot be inverted.
    VolumeError
        If its spacings are so different that planes would be larger than can be drawn.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    describes: ImageFacts | None = None
    code_map: CodeMap | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or not self.array.size:
            raise ValueError(f"a volume has three axes, found {self.array.shape}")
        affine = np.asarray(self.affine)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not abs(np.linalg.det(affine)) > 1e-12:
            raise ValueError("an affine is an invertible matrix of 4 x 4 finite numbers")
        if self.code_map is not None and (self.code_map.table is not None or self.code_map.slope <= 0):
            raise ValueError("codes of a volume mean values on a rising line")
        self._check_planes()
        _ = self._sampler  # before other threads can see the volume

    def _check_planes(self) -> None:
        """Refuse planes that would be too large before one is made: the spacings came from a file."""
        step = min(self.spacing_mm)
        for plane in PLANES:
            grid = self.grid(plane)
            length = float(np.ptp(self._bounds[:, grid.axis]))
            width, height = display_size(grid.columns, grid.rows, grid.spacing_mm[0] / grid.spacing_mm[1])
            if width * height > _MOST_PIXELS or length > _MOST_PLANES * step:
                raise VolumeError(reason=f"{plane} {width} x {height} px, {length:g} mm / {step:g} mm")

    @functools.cached_property
    def _inverse(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self.affine))

    @functools.cached_property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value; of codes, if it holds codes."""
        return float(self.array.min()), float(self.array.max())

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between slices, rows, columns."""
        column, row, across = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return across, row, column

    def to_mm(self, index: Sequence[float]) -> tuple[float, float, float]:
        """Place of (column, row, slice), which need not be whole, in LPS millimetres."""
        x, y, z, _ = (float(value) for value in self.affine @ np.asarray([*index, 1.0]))
        return x, y, z

    def to_index(self, point_mm: Sequence[float]) -> tuple[float, float, float]:
        """Return (column, row, slice) of a place in LPS millimetres; the inverse of :meth:`to_mm`."""
        column, row, across, _ = (float(value) for value in self._inverse @ np.asarray([*point_mm, 1.0]))
        return column, row, across

    @functools.cached_property
    def _bounds(self) -> NDArray[np.float64]:
        """Smallest and largest centre of a voxel on each of the patient's axes, shape (2, 3)."""
        slices, rows, columns = self.array.shape
        corners = np.array(
            [[i, j, k, 1] for i in (0, columns - 1) for j in (0, rows - 1) for k in (0, slices - 1)], float
        )
        places = (self.affine @ corners.T)[:3]
        return np.stack([places.min(axis=1), places.max(axis=1)])

    @functools.cached_property
    def _order(self) -> tuple[int, int, int] | None:
        """Column of the affine that runs along each of the patient's axes; ``None`` when oblique."""
        size = np.abs(self.affine[:3, :3]) / np.linalg.norm(self.affine[:3, :3], axis=0)
        order = [int(np.argmax(size[axis])) for axis in range(3)]
        aligned = sorted(order) == [0, 1, 2] and all(
            size[axis, column] <= _ALIGNED
            for axis in range(3)
            for column in range(3)
            if column != order[axis]
        )
        return (order[0], order[1], order[2]) if aligned else None

    @property
    def is_straight(self) -> bool:
        """Whether its axes are the patient's, so that planes need no resampling."""
        return self._order is not None

    def positions_mm(self, plane: Plane) -> NDArray[np.float64]:
        """Positions at which the volume has a plane of its own, or, if oblique, as far apart as its voxels.

        Returns
        -------
        ndarray of float64
            Ascending: towards the head (axial), the back (coronal), the left (sagittal).
        """
        axis = _AXES[plane][2]
        low, high = self._bounds[:, axis]
        step = min(self.spacing_mm) if self._order is None else abs(self.affine[axis, self._order[axis]])
        return np.asarray(low + step * np.arange(round((high - low) / step) + 1))

    def reslice(self, plane: Plane, position_mm: float) -> PlaneSlice:
        """Cut a plane at a position on its axis of the patient: z axial, y coronal, x sagittal.

        Values between voxels are interpolated linearly; what lies outside has the smallest value.

        Raises
        ------
        PlaneOutsideError
            If the plane does not meet the volume.
        """
        position_mm = self._held(plane, position_mm)
        return self._straight(plane, position_mm) if self._order else self._oblique(plane, position_mm)

    def _held(self, plane: Plane, position_mm: float) -> float:
        """Position of the nearest plane inside; half a voxel beyond the edge still counts."""
        low, high = self._bounds[:, _AXES[plane][2]]
        half = min(self.spacing_mm) / 2
        if not low - half <= position_mm <= high + half:
            raise PlaneOutsideError(plane=plane, found=f"{position_mm:g}", low=f"{low:g}", high=f"{high:g}")
        return float(min(max(position_mm, low), high))

    def grid(self, plane: Plane) -> PlaneGrid:
        """Return the pixels planes of one kind have."""
        return self._grids[plane]

    @functools.cached_property
    def _grids(self) -> dict[Plane, PlaneGrid]:
        return {plane: self._grid(plane) for plane in PLANES}

    def _grid(self, plane: Plane) -> PlaneGrid:
        (across, across_sign), (down, down_sign), normal = _AXES[plane]
        order, length = self._order, np.ptp(self._bounds, axis=0)
        steps = [min(self.spacing_mm)] * 3
        if order is not None:
            steps = [abs(float(self.affine[axis, order[axis]])) for axis in range(3)]
        columns, rows = (math.floor(length[axis] / steps[axis] + 1e-6) + 1 for axis in (across, down))
        affine = np.zeros((4, 4))
        affine[across, 0], affine[down, 1] = across_sign * steps[across], down_sign * steps[down]
        affine[normal, 2] = affine[3, 3] = 1.0
        for axis, sign in ((across, across_sign), (down, down_sign)):
            affine[axis, 3] = self._bounds[0 if sign > 0 else 1, axis]
        return PlaneGrid(columns, rows, (steps[down], steps[across]), _MARKS[plane], affine, normal)

    def reduced(self, plane: Plane, low_mm: float, high_mm: float, ufunc: np.ufunc) -> tuple[PlaneSlice, int]:
        """Join the planes of a slab with a ufunc such as ``np.maximum``; sums are in wider numbers.

        Returns
        -------
        PlaneSlice
            At the middle of the slab.
        int
            How many planes were joined.

        Raises
        ------
        PlaneOutsideError
            If no plane of the volume lies in the slab.
        """
        positions = self.positions_mm(plane)
        inside = positions[(positions >= low_mm - 1e-6) & (positions <= high_mm + 1e-6)]
        if not inside.size:
            low, high = positions[0], positions[-1]
            raise PlaneOutsideError(
                plane=plane, found=f"{low_mm:g}-{high_mm:g}", low=f"{low:g}", high=f"{high:g}"
            )
        middle = float(inside[0] + inside[-1]) / 2
        if self._order is not None:
            return self._slab(plane, inside, middle, ufunc), inside.size
        wide = _wide(self.array.dtype) if ufunc is np.add else self.array.dtype
        joined = self.reslice(plane, float(inside[0])).values.astype(wide)
        for position in inside[1:]:
            ufunc(joined, self.reslice(plane, float(position)).values, out=joined)
        return self._made(plane, middle, joined), inside.size

    def _slab(
        self, plane: Plane, positions: NDArray[np.float64], middle_mm: float, ufunc: np.ufunc
    ) -> PlaneSlice:
        order = self._order
        assert order is not None  # noqa: S101 - for the type checker: the caller looked
        normal = _AXES[plane][2]
        ends = (positions[[0, -1]] - self.affine[normal, 3]) / self.affine[normal, order[normal]]
        first, last = sorted(round(float(end)) for end in ends)
        axis = 2 - order[normal]
        part = self.array[(slice(None),) * axis + (slice(first, last + 1),)]
        wide = _wide(part.dtype) if ufunc is np.add else part.dtype
        return self._made(plane, middle_mm, self._standing(plane, ufunc.reduce(part, axis=axis, dtype=wide)))

    def _straight(self, plane: Plane, position_mm: float) -> PlaneSlice:
        """Plane of a volume that stands along the patient's axes: taken out, flipped, not resampled."""
        order = self._order
        assert order is not None  # noqa: S101 - for the type checker: the caller looked
        normal = _AXES[plane][2]
        index = (position_mm - self.affine[normal, 3]) / self.affine[normal, order[normal]]
        return self._made(plane, position_mm, self._standing(plane, self._layer(2 - order[normal], index)))

    def _standing(self, plane: Plane, values: NDArray[Any]) -> NDArray[Any]:
        """Turn a layer of the array as the plane is drawn."""
        order = self._order
        assert order is not None  # noqa: S101 - for the type checker: the caller looked
        (across, across_sign), (down, down_sign), _ = _AXES[plane]
        if order[across] > order[down]:
            # Axes of the array are in the opposite order of the affine's columns.
            values = values.T
        for axis, sign, place in ((down, down_sign, 0), (across, across_sign, 1)):
            if self.affine[axis, order[axis]] * sign < 0:
                values = np.flip(values, place)
        return np.ascontiguousarray(values)

    def _layer(self, axis: int, index: float) -> NDArray[Any]:
        count = self.array.shape[axis]
        index = min(max(index, 0.0), count - 1.0)
        low = min(int(index), max(count - 2, 0))
        part = index - low
        near = self._cut(axis, low)
        if part < 1e-6:
            return near
        far = self._cut(axis, low + 1)
        return self._as_stored(near * np.float32(1 - part) + far * np.float32(part))

    def _cut(self, axis: int, index: int) -> NDArray[Any]:
        layer = self.array[(slice(None),) * axis + (index,)]
        # Gathered once: arithmetic on columns of a volume would wait for memory in each of its steps.
        return np.ascontiguousarray(layer) if axis else np.asarray(layer)

    def _as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.array.dtype.kind == "f":
            return np.asarray(values.astype(self.array.dtype, copy=False))
        return np.asarray(np.rint(values).astype(self.array.dtype))

    def _made(self, plane: Plane, position_mm: float, values: NDArray[Any]) -> PlaneSlice:
        grid = self.grid(plane)
        affine = grid.affine.copy()
        affine[grid.axis, 3] = position_mm
        return PlaneSlice(values, grid.spacing_mm, grid.marks, affine)

    def _oblique(self, plane: Plane, position_mm: float) -> PlaneSlice:
        """Plane across the voxels: resampled to square pixels as large as the shortest edge of a voxel."""
        grid = self.grid(plane)
        affine = self._made(plane, position_mm, np.empty(0)).affine
        values = self._sampler.sample(self._inverse @ affine, (grid.columns, grid.rows), self._outside)
        return self._made(plane, position_mm, self._as_stored(values))

    @functools.cached_property
    def _outside(self) -> float:
        """What stands for nothing: padding, or else the smallest value."""
        padding = self.code_map.padding if self.code_map is not None else None
        return float(padding[0]) if padding is not None else self.range[0]

    def prepare(self) -> None:
        """Make ready what the first oblique plane would wait for; safe in any thread, at any time."""
        if not self.is_straight:
            self._sampler.prepare()
            _ = self._outside

    @functools.cached_property
    def _sampler(self) -> ObliqueSampler:
        return ObliqueSampler(self.array)


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type that holds the sum of 65536 values."""
    return np.dtype(np.float64) if dtype.kind == "f" else np.dtype(np.int64)
