"""Volumes as NIfTI files; coordinates are turned from LPS to RAS and back by SimpleITK."""

from __future__ import annotations

import math
import struct
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from viewers.errors import CorruptHeaderError, GantryTiltError, TooLargeError, UnsupportedImageError
from viewers.image import ColorFrame, Image, display_digest
from viewers.limits import Limits
from viewers.planes import volume_image
from viewers.record import facts_to_json
from viewers.volume import Volume
from viewers.window import CodeMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["open_nifti", "read_nifti", "write_nifti"]

_LARGEST: Final = 1e30
"""Numbers beyond stand for nothing that was measured; as of decimal pixels in DICOM."""
_HEADER: Final = 348
"""Bytes of a NIfTI-1 header, which is also its first number."""
_SIZE: Final = struct.pack("<i", _HEADER)
_SCALING: Final = 112
_SFORM_CODE: Final = 254
_SFORM: Final = 280
"""Where slope and intercept, the code of the sform and its rows stand."""
_UNITS: Final = 123
_MILLIMETRES: Final = frozenset({0, 2})
"""Codes of lengths in millimetres; 0 says nothing."""
_AXES: Final = 3
_SHEARED_DEGREES: Final = 0.01
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
    limits = limits or Limits()
    array, affine = _read_bytes(Path(path).read_bytes(), limits)
    if array.ndim != 5 or array.shape[0] != 1 or array.shape[4] != 1 or min(array.shape[1:4]) < 2:
        times, slices, rows, columns, samples = array.shape
        found = f"{columns} x {rows} x {slices} x {times}" + (f" x {samples}" if samples > 1 else "")
        raise UnsupportedImageError(found=found, expected="3 axes")
    return Volume(_small(array[0, ..., 0]), affine)


def open_nifti(raw: bytes, limits: Limits) -> Image:
    """Open the bytes of a NIfTI file as an image: frames are its slices, volume after volume.

    Several volumes are time points of one image; colours of three samples are colours.

    Raises
    ------
    UnsupportedImageError
        If it cannot be read or has more axes.
    TooLargeError
    """
    array, affine = _read_bytes(raw, limits)
    times, slices, rows, columns, samples = array.shape
    frames = array.reshape(times * slices, rows, columns, samples)
    if samples == 1:
        image = volume_image(Volume(_small(frames[..., 0]), affine))
    elif samples in {3, 4} and array.dtype == np.uint8:
        image = _colored(frames[..., :3], affine)
    else:
        raise UnsupportedImageError(found=f"{samples} x {array.dtype}", expected="1 or 3 x 8 bits")
    if times == 1:
        return image
    passes = tuple(number for number in range(times) for _ in range(slices))
    planes = image.describes.planes[:slices] * times
    facts = replace(image.describes, passes=passes, planes=planes)
    digest = display_digest(facts_to_json(facts, findings=False), image.digest.encode())
    return Image(facts, image.source, digest)


@dataclass(frozen=True, slots=True, eq=False)
class _ColorSlices:
    """Slices of colours; see :class:`viewers.image.FrameSource`."""

    rgb: NDArray[np.uint8]

    def read(self, index: int) -> ColorFrame:
        """Take one slice."""
        pixels = np.ascontiguousarray(self.rgb[index])
        pixels.setflags(write=False)
        return ColorFrame(pixels)


def _colored(rgb: NDArray[np.uint8], affine: NDArray[np.float64]) -> Image:
    grey = volume_image(Volume(rgb[..., 0], affine, code_map=CodeMap()))
    facts = replace(grey.describes, is_color=True, prefers_stored=True)
    digest = display_digest(facts_to_json(facts, findings=False), np.ascontiguousarray(rgb).data.cast("B"))
    return Image(facts, _ColorSlices(rgb), digest)


def _inflated(raw: bytes, limits: Limits) -> bytes:
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        data = inflater.decompress(raw, limits.file_bytes + 1)
    except zlib.error as error:
        raise UnsupportedImageError(found="gzip", expected="NIfTI") from error
    if len(data) > limits.file_bytes:
        raise TooLargeError(quantity="bytes", found=f"> {limits.file_bytes}", limit=limits.file_bytes)
    return data


def _small(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers of 16 bits where they fit, else float32, in which what is no number of use is 0."""
    if values.dtype.kind in "iu" and values.min() >= -32768 and values.max() <= 32767:
        return values.astype(np.int16, copy=False)
    made = np.asarray(values, np.float32)
    usable = np.abs(made) < _LARGEST
    return made if usable.all() else np.where(usable, made, np.float32(0))


def _read_bytes(raw: bytes, limits: Limits) -> tuple[NDArray[Any], NDArray[np.float64]]:
    with tempfile.TemporaryDirectory(prefix="bimedix2-") as folder:
        path = Path(folder) / "volume.nii"
        path.write_bytes(_without_scaling(_inflated(raw, limits)))
        return _read(path, limits)


def _order(header: bytes) -> Literal["<", ">"] | None:
    """Byte order of a NIfTI-1 header; ``None`` when it is none."""
    if len(header) < _HEADER:
        return None
    return "<" if header[:4] == _SIZE else ">" if header[:4] == _SIZE[::-1] else None


def _without_scaling(raw: bytes) -> bytes:
    """Leave out the intercept where the slope is 0, which says that values are not scaled (nifti1.h).

    The library takes a slope of 0 for 1 and adds the intercept all the same.
    """
    order = _order(raw)
    if order is None:
        return raw
    slope, intercept = struct.unpack_from(f"{order}2f", raw, _SCALING)
    if slope or not intercept:
        return raw
    return raw[:_SCALING] + bytes(8) + raw[_SCALING + 8 :]


def _unreadable(path: Path | str) -> UnsupportedImageError:
    """Return the error for a file the library does not take, with the reason where the header tells it."""
    with Path(path).open("rb") as stream:
        header = stream.read(_HEADER)
    order = _order(header)
    sheared = None if order is None else _sheared_degrees(header, order)
    if sheared is None or sheared < _SHEARED_DEGREES:
        return UnsupportedImageError(found="?", expected="NIfTI")
    return UnsupportedImageError(found=f"sform, {sheared:.1f} deg of shear", expected="NIfTI, 90 deg")


def _sform(path: Path | str) -> NDArray[np.float64] | None:
    """Return the affine of the sform, to LPS; ``None`` where there is none that can be used.

    Where both transforms are stated and differ, as after a registration, programs go by the sform; the
    library does so only for some of its codes.
    """
    with Path(path).open("rb") as stream:
        header = stream.read(_HEADER)
    order = _order(header)
    sheared = None if order is None else _sheared_degrees(header, order)
    if order is None or sheared is None or sheared >= _SHEARED_DEGREES:
        return None
    if header[_UNITS] & 7 not in _MILLIMETRES:
        return None
    affine = np.eye(4)
    affine[:3] = np.asarray(struct.unpack_from(f"{order}12f", header, _SFORM)).reshape(3, 4)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _sheared_degrees(header: bytes, order: Literal["<", ">"]) -> float | None:
    """How far the directions of the sform are from perpendicular, in degrees; ``None`` without one."""
    (code,) = struct.unpack_from(f"{order}h", header, _SFORM_CODE)
    rows = np.asarray(struct.unpack_from(f"{order}12f", header, _SFORM)).reshape(3, 4)[:, :3]
    lengths = np.linalg.norm(rows, axis=0)
    if code <= 0 or not np.isfinite(rows).all() or not lengths.all():
        return None
    across = np.abs((rows / lengths).T @ (rows / lengths) - np.eye(3)).max()
    return math.degrees(math.asin(min(1.0, float(across))))


def _read(path: Path | str, limits: Limits) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values of shape (times, slices, rows, columns, samples), and the affine."""
    import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = [int(length) for length in reader.GetSize()]
        while len(size) > 4 and size[-1] == 1:
            size.pop()
        samples = reader.GetNumberOfComponents()
        if len(size) > 4 or reader.GetDimension() > 4:
            raise UnsupportedImageError(found=" x ".join(map(str, reader.GetSize())), expected="3 or 4 axes")
        if math.prod(size) * samples * 4 > limits.decoded_bytes:
            found = math.prod(size) * samples * 4
            raise TooLargeError(quantity="decoded bytes", found=found, limit=limits.decoded_bytes)
        image = reader.Execute()
        array = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise _unreadable(path) from error
    columns, rows, slices, times = (*size, 1, 1)[:4]
    if times * slices > limits.frames:
        raise TooLargeError(quantity="frames", found=times * slices, limit=limits.frames)
    if array.dtype.kind not in "iuf":
        raise UnsupportedImageError(found=str(array.dtype), expected="NIfTI: whole and decimal numbers")
    affine = np.eye(4)
    dimension = image.GetDimension()
    direction = np.asarray(image.GetDirection()).reshape(dimension, dimension)
    used = min(dimension, 3)
    affine[:used, :used] = direction[:used, :used] * np.asarray(image.GetSpacing()[:used])
    affine[:used, 3] = image.GetOrigin()[:used]
    stated = _sform(path) if used == _AXES else None
    if stated is not None:
        affine = stated
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine)) > 1e-12:
        raise CorruptHeaderError(attribute="sform/qform", found="?", expected="an invertible matrix")
    return array.reshape(times, slices, rows, columns, samples), affine


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
