"""A series: images of one scan in the order of their place in the patient, openable as one image.

What a :class:`Series` says is an allow-list, as in :mod:`viewers.image`; the files it reads from are
kept to itself. Its frames are read one at a time, so that a series needs no more memory than a slice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from viewers.attributes import PARSER_FAILURES
from viewers.errors import (
    CorruptHeaderError,
    OpenError,
    TooLargeError,
    TruncatedFileError,
    UnsupportedImageError,
)
from viewers.findings import Finding, finding
from viewers.image import FrameDisplay, Image, Origin, display_digest
from viewers.limits import Limits
from viewers.record import facts_to_json
from viewers.silence import collected_warnings
from viewers.store import keep, save

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from viewers.burned_in import TextMask
    from viewers.geometry import SizePx
    from viewers.image import Frame, ImageFacts
    from viewers.layer import Presentation
    from viewers.pixels import DicomFrames
    from viewers.skim import Skimmed
    from viewers.stack import SlicePlane, Stack

__all__ = ["Instance", "Series", "SliceFrames", "SourceFile", "Watch"]

_UNDEFINED: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, eq=False)
class SourceFile:
    """A file on disk and what was skimmed of it."""

    path: Path = field(repr=False)
    skimmed: Skimmed | None = field(repr=False)
    """``None`` when the file has to be opened as a whole."""
    shared: int = 0
    """Equal for files whose images are shown in the same way."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of a series."""

    index: int
    """Place in the order the files were read in, from 1: it names the file in findings."""
    frames: int
    plane: SlicePlane | None
    number: int | None
    """InstanceNumber."""
    file: SourceFile = field(repr=False, compare=False)
    presentations: tuple[tuple[Presentation, ...], ...] = field(default=(), repr=False)
    """How presentation states show each frame; empty when none does."""
    begins_s: float | None = None
    """When it was taken after the heartbeat; only of images that follow each other at one place."""

    def open(self, limits: Limits | None = None, key: bytes | None = None) -> Image:
        """Open this file alone, while others are still read.

        Parameters
        ----------
        limits : Limits, optional
        key : bytes, optional
            For pseudonyms of what it belongs to; without one that is not kept.

        Raises
        ------
        OpenError
        OSError
        """
        from viewers.intake import open_image

        return open_image(self.file.path, limits, key=key).presented(self.presentations)


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told which file of a series is read; indices are those of :class:`Instance`."""

    looking: Callable[[int], None] = lambda _: None
    """Called just before a file is read."""
    failed: Callable[[int, Exception], None] = lambda _, __: None
    """Called for a file that cannot be shown."""


@dataclass(frozen=True, slots=True)
class Series:
    """Images of one scan with the same size, kind and orientation: of one time, or of one place through time.

    ``id`` is a keyed pseudonym of the series' UID and of the part of it this is.
    """

    id: str
    modality: str
    facts: Mapping[str, str]
    size: SizePx
    is_color: bool
    stack: Stack
    """Where the images lie, in the order of ``instances``, one plane for each; of a single file with several
    frames, where those of its first echo or time point lie."""
    instances: tuple[Instance, ...]
    findings: tuple[Finding, ...] = ()
    limits: Limits = field(default_factory=Limits, repr=False)
    origin: Origin = field(default_factory=Origin)
    """Pseudonyms of the study, of this series and of its coordinates."""

    @property
    def frame_count(self) -> int:
        """Frames of all files together."""
        return sum(instance.frames for instance in self.instances)

    def open(self) -> Image:
        """Open the series as one image whose frames are read from the files when they are asked for.

        Its digest is made of headers only; an image that is stored (:meth:`keep`) has that of its pixels.

        Raises
        ------
        OpenError
            If no image of the series can be opened.
        OSError
        """
        if self._is_single:
            return self.instances[0].open(self.limits).belonging(self.origin)
        source = SliceFrames(self.instances, self.limits)
        facts = self._facts(source)
        record = facts_to_json(facts, findings=False)
        return Image(facts, source, display_digest(record, self.id.encode()))

    def _facts(self, source: SliceFrames, read: list[int] | None = None) -> ImageFacts:
        return replace(source.facts(self.findings, read), origin=self.origin)

    @property
    def _is_single(self) -> bool:
        return len(self.instances) == 1

    def keep(
        self,
        parent: Path | str,
        progress: Callable[[float], None] | None = None,
        watch: Watch | None = None,
    ) -> Path:
        """Store the series as one image, each frame written once; returns its folder ``parent / digest``.

        A slice that cannot be decoded is left out, with a finding.

        Parameters
        ----------
        progress : callable, optional
            Called with the part done, 0 to 1.
        watch : Watch, optional
            Told which file is read, and which cannot be.

        Raises
        ------
        OpenError
            If no frame can be decoded, or all of them together are larger than the limits.
        OSError
        """
        if self._is_single:
            if watch is not None:
                watch.looking(self.instances[0].index)
            return _keep_image(self.open(), parent, progress)
        source = SliceFrames(self.instances, self.limits, watch)
        first = self._facts(source)
        _check_bytes(first, self.limits)
        reading = _Reading(source, progress or (lambda _: None))
        return keep(
            parent,
            reading.frames(),
            first.size,
            lambda: self._facts(source, reading.read),
            is_color=first.is_color,
        )


def _check_bytes(facts: ImageFacts, limits: Limits) -> None:
    decoded = facts.size.width * facts.size.height * (3 if facts.is_color else 2) * len(facts.frames)
    if decoded > limits.decoded_bytes:
        raise TooLargeError(quantity="decoded bytes", found=decoded, limit=limits.decoded_bytes)


def _keep_image(image: Image, parent: Path | str, progress: Callable[[float], None] | None) -> Path:
    target = Path(parent) / image.digest
    save(image, target, progress)
    return target


class _Reading:
    """Frames of a source, one after the other; those that cannot be decoded are passed over."""

    def __init__(self, source: SliceFrames, progress: Callable[[float], None]) -> None:
        self._source, self._progress = source, progress
        self.read: list[int] = []

    def frames(self) -> Iterator[Frame]:
        """Yield what can be decoded; raises the first error when nothing can."""
        failed: OpenError | None = None
        count = len(self._source.instances)
        for index in range(count):
            try:
                frame = self._source.read(index)
            except OpenError as error:
                failed = failed or error
                self._source.watch.failed(self._source.instances[index].index, error)
                continue
            self.read.append(index)
            yield frame
            self._progress((index + 1) / count)
        if failed is not None and not self.read:
            raise failed


class SliceFrames:
    """Frames of a series, each from its own file; a :class:`viewers.image.FrameSource`.

    Slices with the same description share one check of it; of each file only the pixels are read then.

    Raises
    ------
    OpenError
        If no slice can be described; slices that cannot are left out of ``instances``.
    """

    def __init__(
        self,
        instances: tuple[Instance, ...],
        limits: Limits,
        watch: Watch | None = None,
    ) -> None:
        self._limits = limits
        self.watch = watch or Watch()
        self._known: dict[int, tuple[DicomFrames, ImageFacts]] = {}
        described, failed = [], None
        for instance in instances:
            self.watch.looking(instance.index)
            try:
                described.append((instance, self._describe(instance.file)[1]))
            except (OpenError, OSError) as error:
                failed = failed or error
                self.watch.failed(instance.index, error)
        if not described and failed is not None:
            raise failed
        first = described[0][1]
        alike = [
            pair for pair in described if (pair[1].size, pair[1].is_color) == (first.size, first.is_color)
        ]
        self.instances = tuple(instance for instance, _ in alike)
        self._facts = tuple(facts for _, facts in alike)
        self._left_out = len(instances) - len(self.instances)
        self._text = self._text_mask(first)

    def _text_mask(self, first: ImageFacts) -> TextMask | None:
        """Return what covers text in the slices, where that is wanted and they may hold some."""
        if not self._limits.mask_text:
            return None
        from viewers.burned_in import TextMask, may_hold_text

        noticed = [found for facts in self._facts for found in facts.findings]
        if not may_hold_text(first.kind, noticed):
            return None
        return TextMask(self._limits, first.inverted_by_default)

    def facts(self, more: tuple[Finding, ...] = (), read: list[int] | None = None) -> ImageFacts:
        """Make the facts of the image; with the slices in ``read`` only, if given."""
        chosen = self._facts if read is None else tuple(self._facts[index] for index in read)
        noticed = [item for facts in chosen for item in facts.findings]
        if self._text is not None and read is not None:
            noticed += self._text.findings
        left_out = self._left_out + len(self._facts) - len(chosen)
        if left_out:
            noticed.append(finding("slices_left_out", count=left_out))
        places = range(len(self.instances)) if read is None else read
        shown = [(self.instances[index].presentations or ((),))[0] for index in places]
        displays: tuple[FrameDisplay, ...] = tuple(
            facts.frames[0].presented(own) for facts, own in zip(chosen, shown, strict=True)
        )
        numbers = {one.number for own in shown for one in own}
        if numbers:
            noticed.append(finding("presentations", count=len(numbers)))
        planes = tuple(self.instances[index].plane for index in places)
        times = [self.instances[index].begins_s for index in places]
        codes = [facts.stored_codes for facts in chosen]
        return replace(
            chosen[0],
            frames=displays,
            planes=planes if any(plane is not None for plane in planes) else (),
            times_s=_from_first(times),
            stored_codes=(min(low for low, _ in codes), max(high for _, high in codes)),
            findings=tuple(dict.fromkeys((*more, *noticed))),
        )

    def read(self, index: int) -> Frame:
        """Decode one slice; see :class:`viewers.image.FrameSource`."""
        frame = self._decoded(index)
        return frame if self._text is None else self._text.applied(frame)

    def _decoded(self, index: int) -> Frame:
        file = self.instances[index].file
        self.watch.looking(self.instances[index].index)
        try:
            known = self._known.get(file.shared)
            if known is None or known[0].fragments is not None or file.skimmed is None:
                return self._describe(file, fresh=True)[0].read(0)
            return replace(known[0], data=memoryview(_pixels(file))).read(0)
        except OSError as error:
            # A file that was there when the series was read, and is not any more.
            raise CorruptHeaderError(
                attribute="file", found=type(error).__name__, expected="readable"
            ) from error

    def _describe(self, file: SourceFile, *, fresh: bool = False) -> tuple[DicomFrames, ImageFacts]:
        if not fresh and file.shared in self._known:
            return self._known[file.shared]
        from viewers.dataset import parse
        from viewers.dicom import describe

        with collected_warnings():
            try:
                if file.skimmed is None:
                    parsed = parse(_whole(file.path, self._limits), self._limits)
                else:
                    parsed = file.skimmed.parsed(_pixels(file))
                frames, facts_of = describe(parsed, self._limits)
            except PARSER_FAILURES as error:
                raise CorruptHeaderError(
                    attribute="dataset", found=type(error).__name__, expected="DICOM PS3.10"
                ) from error
        if frames.format.frame_count != 1:
            raise UnsupportedImageError(found=f"{frames.format.frame_count} frames", expected="1")
        made = frames, facts_of(frames)
        if not fresh and file.skimmed is not None:
            self._known[file.shared] = made
        return made


def _from_first(times: list[float | None]) -> tuple[float, ...]:
    """Seconds from the first time; empty unless all are known and each is after the one before."""
    known = [time for time in times if time is not None]
    rising = all(before < after for before, after in pairwise(known))
    if len(known) < max(len(times), 2) or not rising:
        return ()
    return tuple(round(time - known[0], 6) for time in known)


def _whole(path: Path, limits: Limits) -> bytes:
    with path.open("rb") as stream:
        return stream.read(limits.file_bytes)


def _pixels(file: SourceFile) -> bytes:
    """Pixel Data's value, and what follows it when its length is undefined."""
    assert file.skimmed is not None  # noqa: S101 - for the type checker: callers look first
    assert file.skimmed.pixels is not None  # noqa: S101 - same: skim keeps no file without
    _, at, length = file.skimmed.pixels
    with file.path.open("rb", buffering=0) as stream:
        stream.seek(at)
        if length == _UNDEFINED:
            return stream.read()
        data = stream.read(length)
    if len(data) < length:
        raise TruncatedFileError(part="pixels", found=len(data), expected=length)
    return data
