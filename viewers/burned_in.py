"""Text that was found in a picture made black: frames of images, one by one.

What the detector finds is covered, what it does not find stays: the finding says how many places were
covered, and the warning of the image's kind stays beside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import TextDetectorMissingError
from viewers.findings import Finding, finding
from viewers.image import ColorFrame, Frame, GreyFrame, Image, display_digest
from viewers.presets import pixel_windows
from viewers.record import facts_to_json
from viewers.text_detector import text_detector
from viewers.window import Window, build_lut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viewers.geometry import Region
    from viewers.image import FrameSource
    from viewers.limits import Limits

__all__ = ["TextMask", "may_hold_text", "without_text"]

_WARNINGS: Final = frozenset({"finding.burned_in_stated", "finding.burned_in_possible"})


def may_hold_text(kind: str, findings: Sequence[Finding]) -> bool:
    """Whether an image is of a kind whose pixels are looked at: pictures, and what was warned of."""
    return kind == "picture" or any(found.key in _WARNINGS for found in findings)


@dataclass(slots=True)
class TextMask:
    """Covers text in the frames of one image or series; counts what it did."""

    limits: Limits
    inverted: bool = False
    """Whether low values are white."""
    covered: int = 0
    """Places in all frames together."""
    unchecked: int = 0
    """Frames there was no time for: what was found in others was covered in them too."""
    missing: bool = False
    """Whether there is no detector."""
    _left_s: float = field(init=False)
    _known: dict[Region, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._left_s = self.limits.text_s

    def regions(self, frame: Frame) -> tuple[Region, ...]:
        """Find what is to be covered in a frame."""
        if self.missing:
            return ()
        began = time.monotonic()
        try:
            found = text_detector().find(as_shown(frame), began + self._left_s)
        except TextDetectorMissingError:
            self.missing = True
            return ()
        except TimeoutError:
            self.unchecked += 1
            found = tuple(self._known)
        self._left_s -= time.monotonic() - began
        self._known |= dict.fromkeys(found)
        self.covered += len(found)
        return found

    def applied(self, frame: Frame) -> Frame:
        """Find and cover."""
        return covered(frame, self.regions(frame), inverted=self.inverted)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What a reader has to know."""
        if self.missing:
            return (finding("text_not_looked_for"),)
        made = [finding("text_covered", count=self.covered)]
        if self.unchecked:
            made.append(finding("text_unchecked", count=self.unchecked))
        return tuple(made)


def as_shown(frame: Frame) -> NDArray[np.uint8]:
    """Draw a frame as RGB; grey levels over all values there are, so that white letters are white."""
    if isinstance(frame, ColorFrame):
        return frame.rgb
    windows = pixel_windows(frame.codes, frame.code_map, (0.0, 1.0))
    auto = next(window.transform for window in windows if window.key == "auto")
    assert isinstance(auto, Window)  # noqa: S101 - for the type checker: automatic ones are
    grey = build_lut(frame.code_map, auto).take(frame.codes)
    return np.repeat(grey[:, :, None], 3, axis=2)


def covered(frame: Frame, regions: Sequence[Region], *, inverted: bool) -> Frame:
    """Make regions of a frame black, whatever is black in it."""
    if not regions:
        return frame
    if isinstance(frame, ColorFrame):
        return ColorFrame(_filled(frame.rgb, regions, 0))
    codes, padding = frame.codes, frame.code_map.padding
    ends = (int(codes.min()), int(codes.max()))
    values = frame.code_map.values()[list(ends)]
    darkest = ends[int(values.argmax() if inverted else values.argmin())]
    filled = _filled(codes, regions, darkest if padding is None else padding[0])
    return GreyFrame(filled, frame.code_map)


def _filled(pixels: NDArray[Any], regions: Sequence[Region], black: int) -> NDArray[Any]:
    made = pixels.copy()
    for region in regions:
        made[region.y : region.y + region.height, region.x : region.x + region.width] = black
    made.setflags(write=False)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class _Covered:
    """Frames with regions covered; see :class:`viewers.image.FrameSource`."""

    source: FrameSource
    regions: tuple[tuple[Region, ...], ...]
    inverted: bool

    def read(self, index: int) -> Frame:
        """Read one frame."""
        return covered(self.source.read(index), self.regions[index], inverted=self.inverted)


def without_text(image: Image, limits: Limits) -> Image:
    """Return the image with the text that is found in it covered; the same one when nothing is to be done.

    All frames are decoded.

    Raises
    ------
    OpenError
        If a frame cannot be decoded.
    """
    facts = image.describes
    # What lies in a patient's coordinates and is no DICOM is a volume of measured values.
    if not limits.mask_text or not may_hold_text("" if facts.planes else facts.kind, facts.findings):
        return image
    mask = TextMask(limits, facts.inverted_by_default)
    regions = tuple(mask.regions(image.source.read(index)) for index in range(image.frame_count))
    noticed = replace(facts, findings=(*facts.findings, *mask.findings))
    if not mask.covered:
        return Image(noticed, image.source, image.digest).belonging(facts.origin)
    source = _Covered(image.source, regions, facts.inverted_by_default)
    record = facts_to_json(facts, findings=False)
    return Image(noticed, source, display_digest(record, image.digest.encode(), repr(regions).encode()))
