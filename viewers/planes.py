"""Planes through an image's volume: what a view shows of it, and planes as an image of their own."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np

from viewers.assembly import image_volume
from viewers.errors import FrameOutOfRangeError, InvalidViewError
from viewers.geometry import EdgeMarks, PixelSpacingMm, SizePx, marks_from_cosines
from viewers.image import FrameDisplay, GreyFrame, Image, ImageFacts, display_digest
from viewers.projection import Projection, slab
from viewers.record import Types, facts_to_json, strict
from viewers.stack import SlicePlane, slice_plane
from viewers.volume import PLANES, Plane
from viewers.window import CODES, CodeMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from viewers.volume import PlaneGrid, PlaneSlice, Volume

__all__ = ["PlaneView", "plane_frame", "plane_grid", "plane_image", "volume_image"]

_NUMBER: Final = (int, float)
_RECORD: Final[Mapping[str, Types]] = {
    "plane": str,
    "position_mm": _NUMBER,
    "projection": str,
    "thickness_mm": _NUMBER,
}
_THICKEST_MM: Final = 10_000.0
_KEPT: Final = 16
"""Planes kept: one that was scrolled to is drawn for the page, the model and the history."""
_CUTS: Final[OrderedDict[tuple[str, int, PlaneView], tuple[GreyFrame, PlaneSlice]]] = OrderedDict()
_CUTTING: Final = threading.Lock()


def _invalid(entry: str, found: str, expected: str) -> Exception:
    return InvalidViewError(entry=f"plane.{entry}", found=found, expected=expected)


@dataclass(frozen=True, slots=True)
class PlaneView:
    """A plane through a volume, at a place in the patient."""

    plane: Plane
    position_mm: float
    """Along the patient's axis the plane is perpendicular to: z axial, y coronal, x sagittal (LPS)."""
    projection: Projection = "none"
    """``none`` for the plane itself; else what is made of the slab around it."""
    thickness_mm: float = 0.0
    """Of the slab; not looked at without a projection."""

    def to_json(self) -> dict[str, Any]:
        """JSON values, with every entry present."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> PlaneView:
        """Read JSON values from anywhere.

        Raises
        ------
        InvalidViewError
            If an entry is missing, unknown, wrongly typed or impossible.
        """
        record = strict(value, _RECORD, _invalid)
        if record["plane"] not in PLANES:
            raise _invalid("plane", "?", ", ".join(PLANES))
        if record["projection"] not in get_args(Projection):
            raise _invalid("projection", "?", ", ".join(get_args(Projection)))
        try:
            position, thickness = float(record["position_mm"]), float(record["thickness_mm"])
        except OverflowError as error:
            raise _invalid("position_mm", "?", "mm") from error
        if not math.isfinite(position) or not 0 <= thickness <= _THICKEST_MM:
            raise _invalid("thickness_mm", "?", f"0-{_THICKEST_MM:g} mm")
        return cls(record["plane"], position, record["projection"], thickness)


def plane_grid(image: Image, frame: int, shown: PlaneView) -> PlaneGrid:
    """Return the pixels of a plane through the volume a frame belongs to.

    Raises
    ------
    VolumeError
        If the image is no volume.
    OpenError
        If a frame of an image that is not stored cannot be decoded.
    """
    return image_volume(image, frame).grid(shown.plane)


def plane_frame(image: Image, frame: int, shown: PlaneView) -> tuple[GreyFrame, PlaneSlice]:
    """Cut a plane through the volume a frame belongs to.

    Returns
    -------
    GreyFrame
        Codes of the plane and what they mean.
    PlaneSlice
        The same codes with their place in the patient.

    Raises
    ------
    FrameOutOfRangeError
    VolumeError
        If the image is no volume, or the plane does not meet it.
    OpenError
        If a frame of an image that is not stored cannot be decoded.
    """
    if not 0 <= frame < image.frame_count:
        raise FrameOutOfRangeError(found=frame + 1, count=image.frame_count)
    passes = image.describes.passes
    key = (image.digest, passes[frame] if passes else 0, shown)
    with _CUTTING:
        if key in _CUTS:
            _CUTS.move_to_end(key)
            return _CUTS[key]
    volume = image_volume(image, frame)
    cut = slab(volume, shown.plane, shown.position_mm, shown.projection, shown.thickness_mm)
    assert volume.code_map is not None  # noqa: S101 - for the type checker: volumes of images hold codes
    cut.values.setflags(write=False)
    made = GreyFrame(cut.values, volume.code_map), cut
    with _CUTTING:
        _CUTS[key] = made
        while len(_CUTS) > _KEPT:
            _CUTS.popitem(last=False)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class _PlaneFrames:
    """Planes cut when they are asked for; see :class:`viewers.image.FrameSource`."""

    volume: Volume
    plane: Plane
    positions_mm: tuple[float, ...]
    code_map: CodeMap

    def read(self, index: int) -> GreyFrame:
        """Cut one plane."""
        values = self.volume.reslice(self.plane, self.positions_mm[index]).values
        codes = values if self.volume.code_map is not None else _codes(values, self.code_map)
        codes.setflags(write=False)
        return GreyFrame(codes, self.code_map)


def _codes(values: NDArray[Any], code_map: CodeMap) -> NDArray[np.uint16]:
    if values.dtype == np.int16:
        return values.view(np.uint16) ^ np.uint16(32768)
    scaled = (values.astype(np.float64) - code_map.intercept) / code_map.slope + code_map.offset
    return np.clip(np.rint(scaled), 0, CODES - 1).astype(np.uint16)


def _coding(volume: Volume) -> tuple[CodeMap, tuple[int, int]]:
    """Tell what the codes of a volume's planes mean, and the smallest and largest of them."""
    low, high = volume.range
    if volume.code_map is not None:
        return volume.code_map, (int(low), int(high))
    if volume.array.dtype == np.int16:
        return CodeMap(32768.0), (int(low) + 32768, int(high) + 32768)
    return CodeMap(0.0, (high - low) / (CODES - 1) or 1.0, low), (0, CODES - 1)


def plane_image(volume: Volume, plane: Plane) -> Image:
    """Make an image whose frames are the planes at ``volume.positions_mm(plane)``, in that order.

    Windows and facts are the series'; whole numbers keep their values, others are kept in 65535 steps.

    Raises
    ------
    VolumeError
        Never for positions of the volume itself.
    """
    positions = tuple(float(value) for value in volume.positions_mm(plane))
    grid = volume.grid(plane)
    row, column = grid.spacing_mm
    code_map, stored = _coding(volume)
    facts = volume.describes or _plain((grid.rows, grid.columns))
    facts = replace(
        facts,
        size=SizePx(grid.columns, grid.rows),
        spacing=PixelSpacingMm(row, column, "ImagePositionPatient", calibrated=True),
        pixel_aspect=row / column,
        stored_codes=stored,
        prefers_stored=False,
        frames=(replace(facts.frames[0], marks=grid.marks),) * len(positions),
        planes=tuple(_slice_plane(grid, position) for position in positions),
        passes=(),
        times_s=(),
        calibrated=(),
    )
    record = facts_to_json(facts, findings=False)
    pixels = np.ascontiguousarray(volume.array).data.cast("B")
    digest = display_digest(record, pixels, volume.affine.tobytes(), plane.encode())
    return Image(facts, _PlaneFrames(volume, plane, positions, code_map), digest)


@dataclass(frozen=True, slots=True, eq=False)
class _VolumeFrames:
    """Slices of a volume as they lie in its array; see :class:`viewers.image.FrameSource`."""

    volume: Volume
    code_map: CodeMap

    def read(self, index: int) -> GreyFrame:
        """Take one slice."""
        values = self.volume.array[index]
        codes = values if self.volume.code_map is not None else _codes(values, self.code_map)
        codes.setflags(write=False)
        return GreyFrame(codes, self.code_map)


def volume_image(volume: Volume) -> Image:
    """Make an image whose frames are the slices of a volume, such as one that was read from NIfTI.

    Whole numbers keep their values, others are kept in 65535 steps.
    """
    count, rows, columns = volume.array.shape
    _, row, column = volume.spacing_mm
    code_map, stored = _coding(volume)
    directions = (volume.affine[:3, :2] / [column, row]).T.ravel()
    planes = [slice_plane(volume.to_mm((0, 0, number)), directions.tolist()) for number in range(count)]
    marks = marks_from_cosines(directions.tolist()) or EdgeMarks()
    facts = replace(
        volume.describes or _plain((rows, columns)),
        size=SizePx(columns, rows),
        spacing=PixelSpacingMm(row, column, "ImagePositionPatient", calibrated=True),
        pixel_aspect=row / column,
        stored_codes=stored,
        prefers_stored=False,
        frames=(FrameDisplay(marks),) * count,
        planes=tuple(planes),
    )
    record = facts_to_json(facts, findings=False)
    digest = display_digest(record, np.ascontiguousarray(volume.array).data.cast("B"))
    return Image(facts, _VolumeFrames(volume, code_map), digest)


def _slice_plane(grid: PlaneGrid, position_mm: float) -> SlicePlane:
    origin = grid.affine[:3, 3].copy()
    origin[grid.axis] = position_mm
    x, y, z = (float(value) for value in origin)
    return SlicePlane((x, y, z), tuple(_directions(grid)))


def _directions(grid: PlaneGrid) -> Sequence[float]:
    row, column = grid.spacing_mm
    return [*(grid.affine[:3, 0] / column).tolist(), *(grid.affine[:3, 1] / row).tolist()]


def _plain(shape: tuple[int, int]) -> ImageFacts:
    return ImageFacts(
        kind="picture",
        modality="",
        facts={},
        size=SizePx(shape[1], shape[0]),
        is_color=False,
        spacing=None,
        pixel_aspect=1.0,
        inverted_by_default=False,
        stored_codes=(0, CODES - 1),
        prefers_stored=False,
        findings=(),
        frames=(FrameDisplay(),),
    )
