"""Softcopy presentation states: how another program showed an image, made into values of our own.

A state names images by UID. That is looked up here, inside the reader: what leaves is a
:class:`~viewers.layer.Presentation` of one frame, which names nobody. Drawings and text are read only where
they may be kept, since both may name the patient.

References
----------
DICOM PS3.3 A.33 (softcopy presentation states), C.10.4 (displayed area), C.10.6 (spatial transformation),
C.11.8 (softcopy VOI LUT), C.11.6 (softcopy presentation LUT), C.7.6.11 (display shutter).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.annotation import Surface, drawn_pixels
from viewers.attributes import code, get, integer, items, number, numbers, texts, uid
from viewers.geometry import Region
from viewers.layer import Layer, Presentation, layer_of
from viewers.luts import read_lut, voi_luts
from viewers.overlays import activated_overlays, read_overlays
from viewers.pixels import Rescale
from viewers.shutter import hidden_pixels
from viewers.vocabulary import known_name
from viewers.window import VoiLut, Window, usable_window, window_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from pydicom import Dataset

    from viewers.dataset import ParsedFile

__all__ = ["State", "StateImage", "is_state"]

_CLASSES: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.11.1",  # grayscale
        "1.2.840.10008.5.1.4.1.1.11.2",  # colour
        "1.2.840.10008.5.1.4.1.1.11.5",  # XA/XRF grayscale
    }
)
"""Pseudo-colour and blending states change what colours mean, and are not applied."""
_WIDEST: Final = 60_000
"""Of a window that is joined with a presentation LUT: the tables they make have 65536 entries."""
_ALLOCATED: Final = 65_535.0


def is_state(parsed: ParsedFile) -> bool:
    """Whether a file is a presentation state of a kind that can be applied."""
    return (uid(parsed.dataset, "SOPClassUID") or parsed.media_class) in _CLASSES


@dataclass(frozen=True, slots=True)
class StateImage:
    """What a state needs to know of an image it shows."""

    sop: str
    """UID of the image."""
    size: tuple[int, int]
    """Columns and rows."""
    color: bool
    rescale: Rescale | None
    """From stored to shown values; ``None`` when a table says it."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A presentation state that was read; lives inside the reader only."""

    number: int
    parsed: ParsedFile = field(repr=False)
    graphics: bool
    """Whether drawings, text and overlays are taken in."""
    visual_order: Callable[[str], str] = str
    """Puts a line of text into the order it is drawn in, its letters joined."""

    @property
    def images(self) -> frozenset[str]:
        """UIDs of the images it shows."""
        series = items(self.parsed.dataset, "ReferencedSeriesSequence")
        return frozenset(
            uid(item, "ReferencedSOPInstanceUID")
            for one in series
            for item in items(one, "ReferencedImageSequence")
        ) - {""}

    def of_frame(self, image: StateImage, frame: int) -> Presentation | None:
        """Return how it shows a frame of an image it names; ``None`` when it shows other frames of it.

        Parameters
        ----------
        frame : int
            From 0.
        """
        dataset, size = self.parsed.dataset, image.size
        if not self._shows(image.sop, frame):
            return None
        rotation, flipped = _turning(dataset)
        area = next(self._of(image.sop, frame, "DisplayedAreaSelectionSequence"), None)
        region = None if area is None else _region(area, size)
        window, lut = self._grey(image, frame)
        drawn = self._drawn(image.sop, frame, size, _surface(size, region, rotation, flipped=flipped))
        return Presentation(
            self.number,
            window,
            lut,
            None if image.color else _inversion(dataset),
            region,
            rotation,
            flipped,
            self._hidden(size),
            drawn,
            activated_overlays(dataset) if self.graphics else (),
        )

    def _grey(self, image: StateImage, frame: int) -> tuple[Window | None, VoiLut | None]:
        """Window or VOI LUT in values of the image, with the state's table of P-values in it."""
        if image.color:
            return None, None
        window, lut = self._with_presentation_lut(*self._voi(image.sop, frame))
        if image.rescale is None or get(self.parsed.dataset, "ModalityLUTSequence") is not None:
            return None, None
        return _in_values_of(image.rescale, _rescale(self.parsed.dataset), window, lut)

    def _shows(self, sop: str, frame: int) -> bool:
        references = [
            item
            for one in items(self.parsed.dataset, "ReferencedSeriesSequence")
            for item in items(one, "ReferencedImageSequence")
        ]
        return _named(references, sop, frame)

    def _of(self, sop: str, frame: int, keyword: str) -> Iterator[Dataset]:
        """Items of a sequence that hold for a frame: those which name it, or name no image."""
        for item in items(self.parsed.dataset, keyword):
            references = items(item, "ReferencedImageSequence")
            if not references or _named(references, sop, frame):
                yield item

    def _voi(self, sop: str, frame: int) -> tuple[Window | None, VoiLut | None]:
        for item in self._of(sop, frame, "SoftcopyVOILUTSequence"):
            for lut in voi_luts(item, signed=True, big_endian=self.parsed.big_endian)[:1]:
                return None, VoiLut(lut.first, tuple(lut.table.tolist()), lut.bits)
            centers, widths = numbers(item, "WindowCenter"), numbers(item, "WindowWidth")
            function = code(item, "VOILUTFunction", {"LINEAR", "LINEAR_EXACT", "SIGMOID"})
            if centers and widths:
                name = known_name((texts(item, "WindowCenterWidthExplanation") or [""])[0])
                return usable_window(centers[0], widths[0], function, name), None
        return None, None

    def _with_presentation_lut(
        self, window: Window | None, lut: VoiLut | None
    ) -> tuple[Window | None, VoiLut | None]:
        """Join the VOI transformation with a table of P-values, if there is one, into one VOI LUT."""
        for item in items(self.parsed.dataset, "PresentationLUTSequence")[:1]:
            table = read_lut(
                item, "LUTDescriptor", "LUTData", signed=False, big_endian=self.parsed.big_endian
            )
            joined = None if table is None else _joined(window, lut, table.table, table.bits)
            return (window, lut) if joined is None else (None, joined)
        return window, lut

    def _hidden(self, size: tuple[int, int]) -> Layer | None:
        hidden = hidden_pixels(self.parsed.dataset, size[1], size[0])
        group = integer(self.parsed.dataset, "ShutterOverlayGroup")
        for layer in self._own_overlays():
            if layer.group == group:
                marked = layer.marked(size[1], size[0])
                hidden = marked if hidden is None else hidden | marked
        return None if hidden is None else layer_of(hidden)

    def _own_overlays(self) -> tuple[Layer, ...]:
        return read_overlays(self.parsed.dataset, 1, lambda _: None, big_endian=self.parsed.big_endian)[0]

    def _drawn(self, sop: str, frame: int, size: tuple[int, int], surface: Surface) -> Layer | None:
        """Join annotations and the state's own overlays."""
        if not self.graphics:
            return None
        annotations = self._of(sop, frame, "GraphicAnnotationSequence")
        made = drawn_pixels(annotations, surface, self.visual_order)
        marked = np.zeros(size[::-1], np.bool_) if made is None else made.copy()
        shutter = integer(self.parsed.dataset, "ShutterOverlayGroup")
        for layer in self._own_overlays():
            if layer.group != shutter:
                marked |= layer.marked(size[1], size[0])
        return layer_of(marked)


def _rescale(dataset: Dataset) -> Rescale:
    """Values the windows of a state are in; what the image says of them does not count (PS3.4 N.2.1)."""
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    return Rescale(slope, intercept) if slope and intercept is not None else Rescale()


def _in_values_of(
    image: Rescale, state: Rescale, window: Window | None, lut: VoiLut | None
) -> tuple[Window | None, VoiLut | None]:
    """Move a transformation from the values a state works on to those the image is shown in."""
    ratio = image.slope / state.slope
    shift = image.intercept - ratio * state.intercept
    if (ratio, shift) == (1, 0):
        return window, lut
    if lut is not None:
        whole = ratio == 1 and shift == int(shift)
        return None, VoiLut(lut.first + int(shift), lut.table, lut.bits) if whole else None
    if window is None or ratio <= 0:
        return None, None
    center, width, function = window.center, window.width, window.function
    if ratio != 1 and function == "LINEAR":
        # The half and the one that LINEAR takes off are in the state's values.
        center, width, function = center - 0.5, width - 1, "LINEAR_EXACT"
    return usable_window(center * ratio + shift, width * ratio, function, window.name), None


def _named(references: Sequence[Dataset], sop: str, frame: int) -> bool:
    for item in references:
        if uid(item, "ReferencedSOPInstanceUID") == sop:
            frames = numbers(item, "ReferencedFrameNumber")
            return not frames or frame + 1 in frames
    return False


def _turning(dataset: Dataset) -> tuple[int, bool]:
    """Rotation after flipping, where a state flips after its rotation."""
    rotation = integer(dataset, "ImageRotation") or 0
    rotation = rotation % 360 if rotation % 90 == 0 else 0
    flipped = code(dataset, "ImageHorizontalFlip", {"Y", "N"}) == "Y"
    return (-rotation % 360 if flipped else rotation), flipped


def _region(area: Dataset, size: tuple[int, int]) -> Region | None:
    """Part of the frame that is shown; the corners are those on screen, in any order on the frame."""
    corners = [
        *numbers(area, "DisplayedAreaTopLeftHandCorner"),
        *numbers(area, "DisplayedAreaBottomRightHandCorner"),
    ]
    if len(corners) != 4 or not all(math.isfinite(value) and abs(value) < 1e6 for value in corners):
        return None
    left, right = sorted((int(corners[0]), int(corners[2])))
    top, bottom = sorted((int(corners[1]), int(corners[3])))
    left, top, right, bottom = max(left, 1), max(top, 1), min(right, size[0]), min(bottom, size[1])
    if left > right or top > bottom or (left, top, right, bottom) == (1, 1, *size):
        return None
    return Region(left - 1, top - 1, right - left + 1, bottom - top + 1)


def _surface(size: tuple[int, int], region: Region | None, rotation: int, *, flipped: bool) -> Surface:
    area = (0.0, 0.0, float(size[0]), float(size[1]))
    if region is not None:
        area = (region.x, region.y, region.x + region.width, region.y + region.height)
    return Surface(size[1], size[0], area, rotation, flipped)


def _inversion(dataset: Dataset) -> bool | None:
    shape = code(dataset, "PresentationLUTShape", {"IDENTITY", "INVERSE"})
    if shape:
        return shape == "INVERSE"
    # A table says what white is itself.
    return False if get(dataset, "PresentationLUTSequence") is not None else None


def _joined(window: Window | None, lut: VoiLut | None, table: NDArray[np.int64], bits: int) -> VoiLut | None:
    """VOI transformation followed by a table of P-values; ``None`` when they cannot be one table."""
    if lut is not None:
        first, part = lut.first, np.asarray(lut.table) / (2.0**lut.bits - 1)
    elif window is not None and window.width <= _WIDEST and abs(window.center) < _ALLOCATED:
        reach = window.width if window.function == "SIGMOID" else window.width / 2
        first = math.floor(window.center - reach) - 1
        values = np.arange(first, min(math.ceil(window.center + reach) + 2, first + 65536), dtype=np.float64)
        part = window_output(values, window) / 255
    else:
        return None
    index = np.clip(np.rint(part * (len(table) - 1)), 0, len(table) - 1).astype(np.int64)
    return VoiLut(first, tuple(table[index].tolist()), bits)
