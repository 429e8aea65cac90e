"""Volumes as NIfTI files; coordinates are turned from LPS to RAS and back by SimpleITK."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.errors import GantryTiltError, TooLargeError, UnsupportedImageError
from viewers.limits import Limits
from viewers.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_nifti", "write_nifti"]

_TILT_DEGREES: Final = 0.5
"""Largest shear a file with three perpendicular directions stands for."""


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
    GantryTiltError
        If the slices are sheared against each other, which the format's directions cannot say.
    OSError
    """
    import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

    if not str(path).endswith((".nii", ".nii.gz")):
        raise ValueError(f"a NIfTI file ends in .nii or .nii.gz, found {str(path)[-8:]!r}")
    across, row, column = volume.spacing_mm
    spacing = np.asarray([column, row, across])
    tilt = _tilt_degrees(volume.affine[:3, :3] / spacing)
    if tilt > _TILT_DEGREES:
        raise GantryTiltError(found=f"{tilt:.1f}", limit=_TILT_DEGREES)
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    try:
        sitk.WriteImage(image, str(path), useCompression=str(path).endswith(".gz"))
    except RuntimeError as error:
        raise OSError(f"the volume cannot be written: {type(error).__name__}") from error


def _tilt_degrees(directions: NDArray[np.float64]) -> float:
    """Angle between the slices' axis and what is perpendicular to rows and columns."""
    normal = np.cross(directions[:, 0], directions[:, 1])
    return math.degrees(math.acos(min(1.0, abs(float(normal @ directions[:, 2])))))
