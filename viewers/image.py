"""The opened image: pixels and the few display facts that cannot identify anybody.

An :class:`Image` is an allow-list. It holds what is needed to draw and measure, and nothing else of the
file it came from: no header, no name, no date, no identifier, no free text.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from viewers.errors import FrameOutOfRangeError
from viewers.findings import finding
from viewers.geometry import CalibratedRegion, EdgeMarks, PixelSpacingMm, SizePx
from viewers.presets import ct_presets, pixel_windows
from viewers.window import CodeMap, NamedWindow, VoiLut, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from viewers.findings import Finding
    from viewers.layer import Layer, Presentation
    from viewers.stack import SlicePlane

__all__ = [
    "ColorFrame",
    "Frame",
    "FrameDisplay",
    "FrameSource",
    "GreyFrame",
    "Image",
    "ImageFacts",
    "Kind",
    "Origin",
    "StackedSource",
    "digest_beside",
    "display_digest",
]

Kind = Literal["dicom", "picture"]

_CACHE_BYTES = 256 * 2**20
"""Decoded frames kept per image, in bytes: a cine loop of 512 x 512 x 2 bytes x 500 frames."""


@dataclass(frozen=True, slots=True, eq=False)
class GreyFrame:
    """A grey frame.

    Parameters
    ----------
    codes : ndarray of uint16, shape (rows, columns)
        Read-only.
    code_map : CodeMap
        What the codes mean.
    """

    codes: NDArray[np.uint16]
    code_map: CodeMap


@dataclass(frozen=True, slots=True, eq=False)
class ColorFrame:
    """A colour frame: ``rgb`` is uint8 of shape (rows, columns, 3), read-only, 0-255."""

    rgb: NDArray[np.uint8]


Frame = GreyFrame | ColorFrame


class FrameSource(Protocol):
    """Where an image's frames come from; :meth:`read` may be called from several threads at once."""

    def read(self, index: int) -> Frame:
        """Decode one frame, counted from 0.

        Raises
        ------
        OpenError
            If it cannot be decoded.
        """
        ...


@runtime_checkable
class StackedSource(Protocol):
    """A source that has the codes of all frames in one array, which need not be read to be had."""

    def stacked(self) -> tuple[NDArray[np.uint16], tuple[CodeMap, ...]]:
        """Codes, uint16 (frames, rows, columns), and the code map of each frame."""
        ...


@dataclass(frozen=True, slots=True)
class FrameDisplay:
    """What the header says about one frame."""

    marks: EdgeMarks = field(default_factory=EdgeMarks)
    windows: tuple[Window, ...] = ()
    voi_luts: tuple[VoiLut, ...] = ()
    overlays: tuple[Layer, ...] = ()
    """Drawn over the frame where a view asks for it; empty where they are not kept."""
    presentations: tuple[Presentation, ...] = ()
    """How other programs' presentation states show it; their VOI LUTs are among ``voi_luts``."""

    def presented(self, presentations: tuple[Presentation, ...]) -> FrameDisplay:
        """Add presentations; their windows and VOI LUTs can be chosen like the file's own."""
        if not presentations:
            return self
        windows = [one.window for one in presentations if one.window is not None]
        luts = [one.lut for one in presentations if one.lut is not None]
        return replace(
            self,
            windows=tuple(dict.fromkeys((*self.windows, *windows))),
            voi_luts=tuple(dict.fromkeys((*self.voi_luts, *luts))),
            presentations=presentations,
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """What an image belongs to: keyed pseudonyms, which are the same for the same installation only.

    Not part of what an image is: two installations give it the same digest.
    """

    study: str = ""
    series: str = ""
    space: str = ""
    """Of the frame of reference: images with the same one lie in the same coordinates."""
    patient: str = ""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Everything about an image but its pixels; the same before and after it is stored."""

    kind: Kind
    modality: str
    facts: Mapping[str, str]
    size: SizePx
    is_color: bool
    spacing: PixelSpacingMm | None
    pixel_aspect: float
    """Height of a pixel divided by its width."""
    inverted_by_default: bool
    stored_codes: tuple[int, int]
    """Smallest and largest code the stored bits can hold."""
    prefers_stored: bool
    """Whether the stored values are grey levels already (8-bit pictures), to be shown as they are."""
    findings: tuple[Finding, ...]
    frames: tuple[FrameDisplay, ...]
    """One entry for each frame."""
    planes: tuple[SlicePlane | None, ...] = ()
    """Where each frame lies in the patient; ``None`` for one that does not say; empty when none does."""
    passes: tuple[int, ...] = ()
    """Number of the time point, echo or b-value of each frame; empty when there is one for all."""
    times_s: tuple[float, ...] = ()
    """When each frame of a cine loop begins, from the first; empty when it is not said."""
    calibrated: tuple[CalibratedRegion, ...] = ()
    """Parts of the frames with spacings of their own."""
    origin: Origin = field(default_factory=Origin)


class Image:
    """A de-identified, opened image. Safe to share between threads.

    Parameters
    ----------
    facts : ImageFacts
    source : FrameSource
    digest : str or callable
        SHA-256, hexadecimal, of the pixels as they were encoded and of the display facts; or what gives it,
        called once, when it is asked for.
    first : Frame, optional
        Frame 0, when it was decoded already.
    """

    def __init__(
        self,
        facts: ImageFacts,
        source: FrameSource,
        digest: str | Callable[[], str],
        first: Frame | None = None,
    ) -> None:
        self._facts = facts
        self._source = source
        self._digest = digest
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._windows: dict[int, tuple[NamedWindow, ...]] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        if first is not None:
            self._keep(0, first)

    def __repr__(self) -> str:
        size = self.size
        return (
            f"<Image {self.digest[:12]} {self.kind} {self.modality} "
            f"{size.width}x{size.height} x {self.frame_count}>"
        )

    @property
    def digest(self) -> str:
        """Name of the image: two have the same one only if they look the same."""
        if not isinstance(self._digest, str):
            self._digest = self._digest()
        return self._digest

    def belonging(self, origin: Origin) -> Image:
        """Return the same image, known to belong to a study and series."""
        return Image(replace(self._facts, origin=origin), self._source, self._digest)

    def presented(self, presentations: tuple[tuple[Presentation, ...], ...]) -> Image:
        """Return the same image with presentations, one entry for each frame; it has another digest."""
        if not any(presentations):
            return self
        from viewers.record import facts_to_json  # which needs the classes of this module

        shown = zip(self._facts.frames, presentations, strict=True)
        count = len({one.number for frame in presentations for one in frame})
        facts = replace(
            self._facts,
            frames=tuple(display.presented(own) for display, own in shown),
            findings=(*self._facts.findings, finding("presentations", count=count)),
        )
        record = facts_to_json(facts, findings=False)
        return Image(facts, self._source, display_digest(record, self.digest.encode()))

    @property
    def source(self) -> FrameSource:
        """Where its frames come from, past the cache."""
        return self._source

    @property
    def describes(self) -> ImageFacts:
        """All facts as one frozen value."""
        return self._facts

    @property
    def kind(self) -> Kind:
        """``dicom`` or ``picture``."""
        return self._facts.kind

    @property
    def modality(self) -> str:
        """DICOM modality code such as ``CT``; empty for pictures and unknown codes."""
        return self._facts.modality

    @property
    def facts(self) -> Mapping[str, str]:
        """Allow-listed technical attributes by DICOM keyword."""
        return self._facts.facts

    @property
    def frame_count(self) -> int:
        """Number of frames or pages, at least 1."""
        return len(self._facts.frames)

    @property
    def size(self) -> SizePx:
        """Size of every frame, in pixels of the native grid."""
        return self._facts.size

    @property
    def is_color(self) -> bool:
        """Whether frames are :class:`ColorFrame`."""
        return self._facts.is_color

    @property
    def spacing(self) -> PixelSpacingMm | None:
        """Pixel spacing, or ``None`` when lengths can only be given in pixels."""
        return self._facts.spacing

    @property
    def pixel_aspect(self) -> float:
        """Height of a pixel divided by its width, from the spacing or the stated aspect ratio."""
        return self._facts.pixel_aspect

    @property
    def inverted_by_default(self) -> bool:
        """Whether low values are white (MONOCHROME1, or an inverse presentation LUT)."""
        return self._facts.inverted_by_default

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the reader should know about this file."""
        return self._facts.findings

    def orientation(self, frame: int) -> EdgeMarks:
        """Letters at the four edges of a frame.

        Raises
        ------
        FrameOutOfRangeError
        """
        return self._display(frame).marks

    def voi_luts(self, frame: int) -> tuple[VoiLut, ...]:
        """VOI LUTs of a frame, in the file's order.

        Raises
        ------
        FrameOutOfRangeError
        """
        return self._display(frame).voi_luts

    def overlays(self, frame: int) -> tuple[Layer, ...]:
        """Overlays of a frame that were kept.

        Raises
        ------
        FrameOutOfRangeError
        """
        return self._display(frame).overlays

    def presentations(self, frame: int) -> tuple[Presentation, ...]:
        """How presentation states show a frame.

        Raises
        ------
        FrameOutOfRangeError
        """
        return self._display(frame).presentations

    def windows(self, frame: int) -> tuple[NamedWindow, ...]:
        """Windows to choose from: the file's windows, its VOI LUTs, presets, then those of the pixels.

        Empty for colour. Decodes the frame.

        Raises
        ------
        FrameOutOfRangeError
        OpenError
            If the frame cannot be decoded.
        """
        display = self._display(frame)
        if frame not in self._windows:
            self._windows[frame] = self._list_windows(frame, display)
        return self._windows[frame]

    def default_window(self, frame: int) -> NamedWindow | None:
        """Return the window a frame is first shown with; ``None`` for colour.

        The file's own first; else the first CT preset for Hounsfield units; else grey levels as they are
        stored for 8-bit pictures; else the automatic window.

        Raises
        ------
        FrameOutOfRangeError
        OpenError
            If the frame cannot be decoded.
        """
        # Windows of the pixels are counted only when the file names none.
        windows = () if self.is_color else self._stated_windows(self._display(frame))
        windows = windows or self.windows(frame)
        if not windows:
            return None
        if windows[0].source != "pixels":
            return windows[0]
        key = "stored" if self._facts.prefers_stored else "auto"
        return next(window for window in windows if window.key == key)

    def frame(self, index: int) -> Frame:
        """Decode a frame, or take it from the cache.

        Raises
        ------
        FrameOutOfRangeError
        OpenError
            If the frame cannot be decoded.
        """
        self._display(index)
        with self._lock:
            if index in self._frames:
                self._frames.move_to_end(index)
                return self._frames[index]
        # Decoded outside the lock: two threads may decode one frame twice, but never wait for another's.
        decoded = self._source.read(index)
        with self._lock:
            self._keep(index, decoded)
        return decoded

    def stacked(self) -> tuple[NDArray[np.uint16], tuple[CodeMap, ...]]:
        """Codes of all grey frames, uint16 (frames, rows, columns), and the code map of each.

        Memory-mapped when the image is stored; else every frame is decoded.

        Raises
        ------
        ValueError
            If the image is colour.
        OpenError
            If a frame cannot be decoded.
        """
        if self.is_color:
            raise ValueError("frames of colour have no codes")
        if isinstance(self._source, StackedSource):
            return self._source.stacked()
        frames = [self._source.read(index) for index in range(self.frame_count)]
        grey = [frame for frame in frames if isinstance(frame, GreyFrame)]
        return np.stack([frame.codes for frame in grey]), tuple(frame.code_map for frame in grey)

    def _keep(self, index: int, frame: Frame) -> None:
        if index in self._frames:
            return
        self._frames[index] = frame
        self._bytes += _nbytes(frame)
        while self._bytes > _CACHE_BYTES and len(self._frames) > 1:
            self._bytes -= _nbytes(self._frames.popitem(last=False)[1])

    def _display(self, frame: int) -> FrameDisplay:
        if not 0 <= frame < self.frame_count:
            raise FrameOutOfRangeError(found=frame + 1, count=self.frame_count)
        return self._facts.frames[frame]

    def _list_windows(self, index: int, display: FrameDisplay) -> tuple[NamedWindow, ...]:
        frame = self.frame(index)
        if isinstance(frame, ColorFrame):
            return ()
        own = self._stated_windows(display)
        low, high = sorted(float(value) for value in frame.code_map.values()[list(self._facts.stored_codes)])
        return (*own, *pixel_windows(frame.codes, frame.code_map, (low, high)))

    def _stated_windows(self, display: FrameDisplay) -> tuple[NamedWindow, ...]:
        """Windows and VOI LUTs of the file, and presets; for grey images."""
        own = [NamedWindow(f"file-{n}", window, "file") for n, window in enumerate(display.windows, 1)]
        own += [NamedWindow(f"lut-{n + 1}", lut, "file", n) for n, lut in enumerate(display.voi_luts)]
        if self._facts.facts.get("RescaleType") == "HU":
            own += ct_presets(self._facts.facts.get("BodyPartExamined", ""))
        return tuple(own)


def _nbytes(frame: Frame) -> int:
    return frame.codes.nbytes if isinstance(frame, GreyFrame) else frame.rgb.nbytes


def digest_beside(facts_json: Mapping[str, object], *chunks: bytes | memoryview) -> Callable[[], str]:
    """Begin :func:`display_digest` in a thread, while the caller goes on; returns what waits for it."""
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(display_digest(facts_json, *chunks)), name="digest", daemon=True
    )
    thread.start()

    def result() -> str:
        thread.join()
        return found[0]

    return result


def display_digest(facts_json: Mapping[str, object], *chunks: bytes | memoryview) -> str:
    """Content hash of an image: SHA-256 of its facts, in canonical JSON, and of its encoded pixels."""
    digest = hashlib.sha256(json.dumps(facts_json, sort_keys=True, separators=(",", ":")).encode())
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
