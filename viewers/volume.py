"""A volume of measured values with its place in the patient: planes, projections, NIfTI.

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

from viewers.errors import TooLargeError, UnsupportedImageError, VolumeError
from viewers.geometry import EdgeMarks, marks_from_letters
from viewers.image import GreyFrame
from viewers.limits import Limits
from viewers.series import SliceFrames
from viewers.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from viewers.image import ImageFacts
    from viewers.series import Series
    from viewers.window import CodeMap

__all__ = ["PLANES", "Plane", "PlaneSlice", "Volume", "read_nifti", "volume_of", "write_nifti"]

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
_ALIGNED: Final = 1e-3
"""Largest part of a voxel's edge across the patient's axes for planes to be taken without resampling."""


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
    affine : ndarray of float64, shape (4, 4)
        (column, row, slice, 1) to LPS millimetres.
    describes : ImageFacts, optional
        Of the series it was made of.

    Raises
    ------
    ValueError
        If the array has not three axes or the affine cannot be inverted.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    describes: ImageFacts | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or not self.array.size:
            raise ValueError(f"a volume has three axes, found {self.array.shape}")
        affine = np.asarray(self.affine)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not abs(np.linalg.det(affine)) > 1e-12:
            raise ValueError("an affine is an invertible matrix of 4 x 4 finite numbers")

    @functools.cached_property
    def _inverse(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self.affine))

    @functools.cached_property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value."""
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
        VolumeError
            If the plane does not meet the volume.
        """
        low, high = self._bounds[:, _AXES[plane][2]]
        half = min(self.spacing_mm) / 2
        if not low - half <= position_mm <= high + half:
            raise VolumeError(reason=f"{plane} {position_mm:g} mm, {low:g}-{high:g} mm")
        position_mm = min(max(position_mm, low), high)
        return self._straight(plane, position_mm) if self._order else self._oblique(plane, position_mm)

    def project(self, plane: Plane, low_mm: float | None = None, high_mm: float | None = None) -> PlaneSlice:
        """Maximum intensity projection of the slab between two positions, or of the whole volume.

        Raises
        ------
        VolumeError
            If no plane of the volume lies in the slab.
        """
        positions = self.positions_mm(plane)
        low = positions[0] if low_mm is None else low_mm
        high = positions[-1] if high_mm is None else high_mm
        inside = positions[(positions >= low - 1e-6) & (positions <= high + 1e-6)]
        if not inside.size:
            raise VolumeError(reason=f"{plane} {low:g}-{high:g} mm")
        made = self.reslice(plane, float(inside[0]))
        most = made.values.copy()
        for position in inside[1:]:
            np.maximum(most, self.reslice(plane, float(position)).values, out=most)
        return PlaneSlice(most, made.spacing_mm, made.marks, made.affine)

    def _straight(self, plane: Plane, position_mm: float) -> PlaneSlice:
        """Plane of a volume that stands along the patient's axes: taken out, flipped, not resampled."""
        order = self._order
        assert order is not None  # noqa: S101 - for the type checker: the caller looked
        (across, across_sign), (down, down_sign), normal = _AXES[plane]
        index = (position_mm - self.affine[normal, 3]) / self.affine[normal, order[normal]]
        values = self._layer(2 - order[normal], index)
        if order[across] > order[down]:
            # Axes of the array are in the opposite order of the affine's columns.
            values = values.T
        steps = []
        for axis, sign, place in ((down, down_sign, 0), (across, across_sign, 1)):
            step = float(self.affine[axis, order[axis]])
            if step * sign < 0:
                values = np.flip(values, place)
            steps.append(abs(step))
        return self._made(plane, position_mm, np.ascontiguousarray(values), (steps[0], steps[1]))

    def _layer(self, axis: int, index: float) -> NDArray[Any]:
        count = self.array.shape[axis]
        index = min(max(index, 0.0), count - 1.0)
        low = min(int(index), max(count - 2, 0))
        part = index - low
        near = self.array.take(low, axis) if axis else self.array[low]
        if part < 1e-6:
            return np.asarray(near)
        far = self.array.take(low + 1, axis) if axis else self.array[low + 1]
        return self._as_stored(near * np.float32(1 - part) + far * np.float32(part))

    def _as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.array.dtype.kind == "f":
            return np.asarray(values.astype(self.array.dtype, copy=False))
        return np.asarray(np.rint(values).astype(self.array.dtype))

    def _made(
        self, plane: Plane, position_mm: float, values: NDArray[Any], spacing: tuple[float, float]
    ) -> PlaneSlice:
        (across, across_sign), (down, down_sign), normal = _AXES[plane]
        affine = np.zeros((4, 4))
        affine[across, 0], affine[down, 1] = across_sign * spacing[1], down_sign * spacing[0]
        affine[normal, 2] = affine[3, 3] = 1.0
        for axis, sign in ((across, across_sign), (down, down_sign)):
            affine[axis, 3] = self._bounds[0 if sign > 0 else 1, axis]
        affine[normal, 3] = position_mm
        return PlaneSlice(values, spacing, _MARKS[plane], affine)

    def _oblique(self, plane: Plane, position_mm: float) -> PlaneSlice:
        """Plane across the voxels: resampled to square pixels as large as the shortest edge of a voxel."""
        (across, _), (down, _), _ = _AXES[plane]
        step = min(self.spacing_mm)
        columns, rows = (
            math.floor((self._bounds[1, axis] - self._bounds[0, axis]) / step + 1e-6) + 1
            for axis in (across, down)
        )
        frame = self._made(plane, position_mm, np.empty(0), (step, step))
        values = self._sampled(frame.affine, (columns, rows))
        return self._made(plane, position_mm, values, (step, step))

    @functools.cached_property
    def _resampled(self) -> Any:
        """The same voxels for SimpleITK, which samples across them ten times as fast as numpy.

        It needs a copy. Its axes are the array's own: affines are applied by :meth:`_sampled`.
        """
        import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

        return sitk.GetImageFromArray(self.array)

    def _sampled(self, plane: NDArray[np.float64], size: tuple[int, int]) -> NDArray[Any]:
        """Interpolate linearly at a plane's pixels; half a voxel beyond the edge counts as the edge."""
        import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

        to_voxels = self._inverse @ plane
        grid = sitk.AffineTransform(3)
        grid.SetMatrix(to_voxels[:3, :3].ravel().tolist())
        grid.SetTranslation(to_voxels[:3, 3].tolist())
        made = sitk.Resample(
            self._resampled,
            (*size, 1),
            grid,
            sitk.sitkLinear,
            (0.0, 0.0, 0.0),
            (1.0, 1.0, 1.0),
            (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
            self.range[0],
            # Whole numbers would be cut off, not rounded.
            sitk.sitkFloat32,
        )
        return self._as_stored(sitk.GetArrayFromImage(made)[0])


def volume_of(series: Series, progress: Callable[[float], None] | None = None) -> Volume:
    """Read a series into a volume of rescaled values.

    Raises
    ------
    VolumeError
        If its slices form none, with the numbers.
    OpenError
        If a slice cannot be decoded, or all together are larger than the limits.
    OSError
    """
    series.stack.check()
    source = SliceFrames(series.instances, series.limits)
    stack = Stack(tuple(instance.plane for instance in source.instances), series.stack.spacing_mm)
    affine = stack.affine()
    facts = source.facts(series.findings)
    if facts.is_color:
        raise VolumeError(reason="RGB")
    shape = (len(source.instances), facts.size.height, facts.size.width)
    if math.prod(shape) * 2 > series.limits.decoded_bytes:
        raise TooLargeError(
            quantity="decoded bytes", found=math.prod(shape) * 2, limit=series.limits.decoded_bytes
        )
    codes, maps = np.empty(shape, np.uint16), []
    for index in range(shape[0]):
        frame = source.read(index)
        assert isinstance(frame, GreyFrame)  # noqa: S101 - for the type checker: colour was refused
        codes[index] = frame.codes
        maps.append(frame.code_map)
        if progress is not None:
            progress((index + 1) / shape[0])
    return Volume(_rescaled(codes, maps), affine, facts)


def _rescaled(codes: NDArray[np.uint16], maps: list[CodeMap]) -> NDArray[Any]:
    """Codes to values; in place when they are whole numbers of 16 bits, which most CT and MR are."""
    shifts = [_whole_shift(layer, code_map) for layer, code_map in zip(codes, maps, strict=True)]
    if all(shift is not None for shift in shifts):
        for layer, shift in zip(codes, shifts, strict=True):
            np.add(layer, np.uint16((shift or 0) % 65536), out=layer)
        return codes.view(np.int16)
    values = np.empty(codes.shape, np.float32)
    for layer, made, code_map in zip(codes, values, maps, strict=True):
        made[...] = code_map.values()[layer]
    return values


def _whole_shift(layer: NDArray[np.uint16], code_map: CodeMap) -> int | None:
    """Find what to add to codes to have values; ``None`` when that is not enough or does not fit."""
    shift = code_map.intercept - code_map.offset
    if code_map.table is not None or code_map.slope != 1 or shift != int(shift):
        return None
    fits = int(layer.min()) + shift >= -32768 and int(layer.max()) + shift <= 32767
    return int(shift) if fits else None


def read_nifti(path: Path | str, limits: Limits | None = None) -> Volume:
    """Read a NIfTI file of one volume; its coordinates are turned from RAS to LPS.

    Raises
    ------
    UnsupportedImageError
        If it is no NIfTI file, or has not three axes.
    TooLargeError
        Before anything of that size is allocated.
    """
    import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

    limits = limits or Limits()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = [length for length in reader.GetSize() if length > 1]
        if len(size) != 3 or reader.GetNumberOfComponents() != 1:
            raise UnsupportedImageError(found=" x ".join(map(str, reader.GetSize())), expected="3 axes")
        if math.prod(size) * 4 > limits.decoded_bytes:
            raise TooLargeError(
                quantity="decoded bytes", found=math.prod(size) * 4, limit=limits.decoded_bytes
            )
        image = reader.Execute()
    except RuntimeError as error:
        raise UnsupportedImageError(found="?", expected="NIfTI") from error
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    affine[:3, :3] = direction * np.asarray(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    array = sitk.GetArrayFromImage(image).reshape(size[::-1])
    small = array.dtype.kind in "iu" and array.min() >= -32768 and array.max() <= 32767
    return Volume(array.astype(np.int16 if small else np.float32, copy=False), affine)


def write_nifti(volume: Volume, path: Path | str) -> None:
    """Write a volume with its affine; ``.nii`` or ``.nii.gz``. Nothing else of the series goes along.

    Raises
    ------
    ValueError
        If the name ends in neither.
    OSError
    """
    import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

    if not str(path).endswith((".nii", ".nii.gz")):
        raise ValueError(f"a NIfTI file ends in .nii or .nii.gz, found {str(path)[-8:]!r}")
    image = sitk.GetImageFromArray(volume.array)
    across, row, column = volume.spacing_mm
    spacing = np.asarray([column, row, across])
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    try:
        sitk.WriteImage(image, str(path), useCompression=str(path).endswith(".gz"))
    except RuntimeError as error:
        raise OSError(f"the volume cannot be written: {type(error).__name__}") from error
