"""A plane of a volume as an image: its frames are all positions; it is drawn and stored as any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from viewers.geometry import PixelSpacingMm, SizePx
from viewers.image import FrameDisplay, GreyFrame, Image, ImageFacts, display_digest
from viewers.record import facts_to_json
from viewers.window import CODES, CodeMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viewers.volume import Plane, Volume

__all__ = ["plane_image"]


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
        codes = _codes(values, self.code_map)
        codes.setflags(write=False)
        return GreyFrame(codes, self.code_map)


def _codes(values: NDArray[Any], code_map: CodeMap) -> NDArray[np.uint16]:
    if values.dtype == np.int16:
        return values.view(np.uint16) ^ np.uint16(32768)
    scaled = (values.astype(np.float64) - code_map.intercept) / code_map.slope + code_map.offset
    return np.clip(np.rint(scaled), 0, CODES - 1).astype(np.uint16)


def plane_image(volume: Volume, plane: Plane) -> Image:
    """Make an image whose frames are the planes at ``volume.positions_mm(plane)``, in that order.

    Windows and facts are the series'; whole numbers keep their values, others are kept in 65535 steps.

    Raises
    ------
    VolumeError
        Never for positions of the volume itself.
    """
    positions = tuple(float(value) for value in volume.positions_mm(plane))
    middle = volume.reslice(plane, positions[len(positions) // 2])
    row, column = middle.spacing_mm
    low, high = volume.range
    if volume.array.dtype == np.int16:
        code_map, stored = CodeMap(32768.0), (int(low) + 32768, int(high) + 32768)
    else:
        code_map = CodeMap(0.0, (high - low) / (CODES - 1) or 1.0, low)
        stored = (0, CODES - 1)
    facts = volume.describes or _plain(middle.values.shape)
    shown = replace(facts.frames[0], marks=middle.marks)
    facts = replace(
        facts,
        size=SizePx(middle.values.shape[1], middle.values.shape[0]),
        spacing=PixelSpacingMm(row, column, "ImagePositionPatient", calibrated=True),
        pixel_aspect=row / column,
        stored_codes=stored,
        prefers_stored=False,
        frames=(shown,) * len(positions),
    )
    record = facts_to_json(facts, findings=False)
    digest = display_digest(record, volume.array.data.cast("B"), volume.affine.tobytes(), plane.encode())
    return Image(facts, _PlaneFrames(volume, plane, positions, code_map), digest)


def _plain(shape: tuple[int, ...]) -> ImageFacts:
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
