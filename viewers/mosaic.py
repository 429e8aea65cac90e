"""Siemens mosaics: slices laid side by side in one picture, and where each of them lies.

How many there are stands in private data: ``NumberOfImagesInMosaic`` of the group "SIEMENS MR HEADER" or of
the CSA header ("SIEMENS CSA HEADER"), whose ``SliceNormalVector`` says which way they follow each other.
Nothing else of private data is looked at, and it is not kept. Where it was removed, the size of a slice is
that of the acquisition matrix, and empty slices at the end are none.

References
----------
nibabel, "Siemens format DICOM with CSA header": tiles from left to right and top to bottom, in a square grid;
the stated position is the corner of a picture as large as the mosaic around the first slice's centre.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.attributes import PARSER_FAILURES, number, numbers, texts
from viewers.stack import SlicePlane, slice_plane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["Mosaic", "find_mosaic", "is_mosaic", "mosaic_planes"]

_MOST: Final = 1024
"""Slices of one mosaic: 32 x 32."""
_CSA_BYTES: Final = 2**22
_CSA_TAGS: Final = 1000


@dataclass(frozen=True, slots=True)
class Mosaic:
    """A square grid of slices of one size."""

    count: int
    rows: int
    columns: int
    """Of one slice."""
    across: int
    """Slices beside each other."""

    def cut(self, pixels: NDArray[Any], index: int) -> NDArray[Any]:
        """Take one slice out of the picture, shape (rows, columns)."""
        down, across = divmod(index, self.across)
        top, left = down * self.rows, across * self.columns
        return pixels[top : top + self.rows, left : left + self.columns]


def is_mosaic(dataset: Dataset) -> bool:
    """Whether the file says that it holds one."""
    return "MOSAIC" in texts(dataset, "ImageType")


def find_mosaic(
    dataset: Dataset, rows: int, columns: int, filled: NDArray[np.bool_] | None = None
) -> Mosaic | None:
    """Tell how a mosaic is laid out; ``None`` when nothing says it, or what is said cannot be.

    Parameters
    ----------
    rows, columns : int
        Of the picture.
    filled : ndarray of bool, shape (rows, columns), optional
        Where something was measured, for files whose private data was removed.
    """
    count = _stated_count(dataset)
    if count is not None:
        across = math.isqrt(count - 1) + 1
        if rows % across or columns % across:
            return None
        return Mosaic(count, rows // across, columns // across, across)
    tile = _matrix(dataset, rows, columns)
    if tile is None or filled is None:
        return None
    across = columns // tile[1]
    whole = Mosaic(across * across, *tile, across)
    used = [index for index in range(whole.count) if whole.cut(filled, index).any()]
    return Mosaic(used[-1] + 1, *tile, across) if len(used) > 1 else None


def _stated_count(dataset: Dataset) -> int | None:
    found = _private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0A)
    try:
        count = int(found) if found is not None else None
    except PARSER_FAILURES:
        count = None
    if count is None:
        stated = _csa(dataset).get("NumberOfImagesInMosaic", ())
        count = int(stated[0]) if stated else None
    return count if count is not None and 2 <= count <= _MOST else None


def _matrix(dataset: Dataset, rows: int, columns: int) -> tuple[int, int] | None:
    """Rows and columns of a slice by the acquisition matrix (PS3.3 C.8.3.1)."""
    stated = [int(value) for value in numbers(dataset, "AcquisitionMatrix") if math.isfinite(value)]
    sizes = [value for value in stated if value > 0]
    if len(sizes) != 2:
        return None
    for tile in (tuple(sizes), tuple(reversed(sizes))):
        grids = (rows / tile[0], columns / tile[1])
        if grids[0] == grids[1] == int(grids[0]) > 1 and grids[0] ** 2 <= _MOST:
            return tile[0], tile[1]
    return None


def mosaic_planes(dataset: Dataset, mosaic: Mosaic, size: tuple[int, int]) -> tuple[SlicePlane, ...]:
    """Where each slice lies; empty when the file does not say it all.

    Parameters
    ----------
    size : (int, int)
        Rows and columns of the whole picture.
    """
    corner = slice_plane(
        numbers(dataset, "ImagePositionPatient"), numbers(dataset, "ImageOrientationPatient")
    )
    spacing, step = numbers(dataset, "PixelSpacing"), number(dataset, "SpacingBetweenSlices")
    if corner is None or len(spacing) != 2 or not step or not 1e-3 < abs(step) < 1e3:
        return ()
    across, down = np.asarray(corner.cosines[:3]), np.asarray(corner.cosines[3:])
    first = np.asarray(corner.position_mm, float)
    first += across * spacing[1] * (size[1] - mosaic.columns) / 2
    first += down * spacing[0] * (size[0] - mosaic.rows) / 2
    normal = np.asarray(corner.normal) * abs(step) * _direction(dataset, corner)
    planes = [slice_plane((first + normal * index).tolist(), corner.cosines) for index in range(mosaic.count)]
    return tuple(plane for plane in planes if plane is not None) if all(planes) else ()


def _direction(dataset: Dataset, plane: SlicePlane) -> int:
    """1 when slices follow each other along the normal, -1 when against it."""
    stated = _csa(dataset).get("SliceNormalVector", ())
    if len(stated) != 3:
        return 1
    return -1 if sum(a * b for a, b in zip(stated, plane.normal, strict=True)) < 0 else 1


def _private(dataset: Dataset, group: int, creator: str, element: int) -> Any:
    """Value of a private element of a creator's block (PS3.5 7.8.1)."""
    try:
        for block in range(0x10, 0x100):
            if (group, block) in dataset and str(dataset[group, block].value).strip() == creator:
                tag = (group, block << 8 | element)
                return dataset[tag].value if tag in dataset else None
    except PARSER_FAILURES:
        return None
    return None


def _csa(dataset: Dataset) -> dict[str, tuple[float, ...]]:
    """Numbers of the CSA image header that are looked at, by name."""
    raw = _private(dataset, 0x0029, "SIEMENS CSA HEADER", 0x10)
    if not isinstance(raw, bytes) or not 16 < len(raw) <= _CSA_BYTES:
        return {}
    found: dict[str, tuple[float, ...]] = {}
    try:
        for name, values in _csa_tags(raw):
            if name in {"NumberOfImagesInMosaic", "SliceNormalVector"}:
                found[name] = tuple(float(value) for value in values)
    except (struct.error, ValueError):
        return {}
    return {name: values for name, values in found.items() if all(map(math.isfinite, values))}


def _csa_tags(raw: bytes) -> Iterator[tuple[str, list[str]]]:
    """Names and texts of a CSA header: little-endian, of the kind that begins with SV10 or the one before."""
    new = raw[:4] == b"SV10"
    at = 8 if new else 0
    count = struct.unpack_from("<I", raw, at)[0]
    at += 8
    first = 0
    for number_of in range(min(count, _CSA_TAGS)):
        name, multiplicity, _, _, items, _ = struct.unpack_from("<64si4siii", raw, at)
        at += 84
        if number_of == 0:
            first = items
        values: list[str] = []
        for _ in range(min(max(items, 0), _CSA_TAGS)):
            stated = struct.unpack_from("<4i", raw, at)
            at += 16
            length = stated[1] if new else stated[0] - first
            if not 0 <= length <= len(raw) - at:
                if new:
                    return
                break
            text = raw[at : at + length].split(b"\0")[0].decode("latin-1").strip()
            at += (length + 3) // 4 * 4
            if text and (multiplicity <= 0 or len(values) < multiplicity):
                values.append(text)
        yield name.split(b"\0")[0].decode("latin-1"), values
