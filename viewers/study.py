"""Folders, zips and single files to studies and series: what belongs together is told by geometry.

:class:`StudyReader` reads headers, several at a time, and tells after each file what it found, so that
the first image can be shown while the rest is read. A DICOMDIR is not needed and not believed: the files
themselves are read. A file that cannot be opened becomes a finding, and the rest opens.

References
----------
DICOM PS3.3 A.1.2 (study, series, instance), C.7.6.2 (image plane).
"""

from __future__ import annotations

import math
import secrets
import shutil
import struct
import tempfile
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from viewers import display
from viewers.archive import FileWalk, FoundFile
from viewers.attributes import PARSER_FAILURES, cut_short, integer, numbers, texts, uid
from viewers.dataset import parse
from viewers.errors import (
    CorruptHeaderError,
    IntakeError,
    NoPixelDataError,
    NotAnImageError,
    OpenError,
    TooLargeError,
    TruncatedFileError,
)
from viewers.findings import Finding, finding
from viewers.geometry import SizePx
from viewers.image import Origin
from viewers.limits import Limits
from viewers.series import Instance, Series, SourceFile, pseudonym
from viewers.silence import collected_warnings
from viewers.skim import HEAD_BYTES, Skimmed, skim
from viewers.sniff import sniff
from viewers.stack import Stack, slice_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from viewers.dataset import ParsedFile

__all__ = ["FileRead", "Study", "StudyReader", "read_studies"]

_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_READERS: Final = 4
"""Threads: they wait for slow disks and network folders at the same time; parsing itself is one at a time."""
_TIMES: Final = ("EchoNumbers", "TemporalPositionIdentifier", "TriggerTime")
_UNDEFINED: Final = 0xFFFFFFFF
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Study:
    """Series of one examination; ``id`` is a keyed pseudonym of its UID."""

    id: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class FileRead:
    """One file was looked at."""

    done: int
    total: int
    """Files known of so far; grows when an archive is opened."""
    instance: Instance | None
    """The image it holds, which can be opened at once; ``None`` when it holds none."""
    series: str = ""
    """Id of the first part of its series; empty without an image."""
    modality: str = ""
    name: str = field(default="", repr=False)
    """What its owner calls the file; see :class:`viewers.archive.FoundFile`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Common:
    """What files with the same description share."""

    modality: str
    facts: dict[str, str]
    size: tuple[int, int]
    kind: tuple[str, ...]
    """Whatever else images of one series have in common: colours, image type."""
    frames: int
    cosines: tuple[float, ...]
    spacing: tuple[float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Header:
    """What grouping needs of one file; lives inside the reader only."""

    study: str
    series: str
    sop: str
    space: str
    """FrameOfReferenceUID."""
    common: _Common
    time: tuple[tuple[float, ...], ...]
    acquisition: int
    instance: Instance = field(repr=False)


class StudyReader:
    """Read a folder, zip or file; a context manager, since taken-out archives are kept until the end.

    Parameters
    ----------
    source : Path, str or sequence of Path
    key : bytes, optional
        For pseudonyms; the same key gives the same ids. A new one if left out.
    limits : Limits, optional
    scratch : Path, optional
        Where the files of an archive are put; a new temporary folder if left out. What is put there is
        deleted by :meth:`close`, and series that are not stored cannot be read any more.
    readers : int
        Files looked at in parallel.
    looking : callable, optional
        Called with a file's index just before it is looked at, in any of the threads.
    skip : collection of int
        Indices of files to leave out, with a finding: they harmed an earlier attempt.
    labels : sequence of str
        What their owner calls the sources, where the paths do not say so.
    """

    def __init__(
        self,
        source: Path | str | Sequence[Path],
        *,
        key: bytes | None = None,
        limits: Limits | None = None,
        scratch: Path | None = None,
        readers: int = _READERS,
        looking: Callable[[int], None] | None = None,
        skip: Collection[int] = (),
        labels: Sequence[str] = (),
    ) -> None:
        self.limits = limits or Limits()
        self._key = key or secrets.token_bytes(32)
        self._scratch = Path(tempfile.mkdtemp(prefix="bimedix2-study-", dir=scratch))
        sources = Path(source) if isinstance(source, str) else source
        self._walk = FileWalk(sources, self._scratch, self.limits, labels)
        self._readers, self._looking, self._skip = readers, looking or (lambda _: None), frozenset(skip)
        self._headers: list[_Header] = []
        self._findings: list[Finding] = []
        self._bad: list[FoundFile] = []
        self._not_images = self._states = 0
        self._shared: dict[object, int] = {}
        self._common: dict[object, _Common] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was taken out of archives."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __iter__(self) -> Iterator[FileRead]:
        """Read the headers; yields once for each file, in order.

        Raises
        ------
        OpenError
            If the source is an archive that cannot be read, or a total of the limits is exceeded.
        OSError
            If the source cannot be read.
        """
        for done, (found, made) in enumerate(self._read_ahead(), 1):
            header = self._take(found, made)
            total = max(self._walk.total, done)
            if header is None:
                yield FileRead(done, total, None, name=found.name)
                continue
            series = pseudonym(self._key, "series", header.series, "1")
            yield FileRead(done, total, header.instance, series, header.common.modality, found.name)

    def _read_ahead(self) -> Iterator[tuple[FoundFile, Future[_Header | None]]]:
        """Files and their headers in order; a few are read before they are asked for."""
        waiting: deque[tuple[FoundFile, Future[_Header | None]]] = deque()
        files = iter(self._walk)
        with ThreadPoolExecutor(self._readers, thread_name_prefix="headers") as pool:
            for found in islice(files, 1):
                yield found, pool.submit(self._header, found)
            for found in files:
                waiting.append((found, pool.submit(self._header, found)))
                if len(waiting) > 4 * self._readers:
                    yield waiting.popleft()
            yield from waiting

    def _take(self, found: FoundFile, made: Future[_Header | None]) -> _Header | None:
        try:
            header = made.result()
        except (NotAnImageError, NoPixelDataError) as error:
            state = "Presentation State" in str(error.values.get("found"))
            self._states += state
            self._not_images += not state
            return None
        except (OpenError, OSError, MemoryError) as error:
            kind = type(error).__name__
            reason = error.key if isinstance(error, OpenError) else kind
            self._findings.append(finding("file_unreadable", index=found.index, reason=reason, kind=kind))
            self._bad.append(found)
            return None
        if header is not None:
            header = self._numbered(header)
            self._headers.append(header)
        return header

    def _numbered(self, header: _Header) -> _Header:
        """Give files with the same description the same number, and forget their identifiers."""
        file = header.instance.file
        if file.skimmed is None:
            shared = self._shared.setdefault(object(), len(self._shared))
            return replace(header, instance=replace(header.instance, file=replace(file, shared=shared)))
        same = self._shared.setdefault(file.skimmed.shared(), len(self._shared))
        file = replace(file, shared=same, skimmed=file.skimmed.anonymous())
        return replace(header, instance=replace(header.instance, file=file))

    def _header(self, found: FoundFile) -> _Header | None:
        if found.index in self._skip:
            raise IntakeError(reason="?", limit="?")
        self._looking(found.index)
        with found.path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            kind = sniff(head)
            if kind == "picture":
                return _picture(found, self.limits)
            if kind != "dicom":
                raise NotAnImageError(found=kind)
            size = stream.seek(0, 2)
            skimmed = skim(head)
            if skimmed is None:
                if size > self.limits.file_bytes:
                    raise TooLargeError(quantity="bytes", found=size, limit=self.limits.file_bytes)
                stream.seek(0)
                head = stream.read(size)
                skimmed = skim(head)
        if skimmed is not None:
            _check_length(skimmed, size)
            return _skimmed_header(found, skimmed, self._common_of(skimmed))
        with collected_warnings():
            parsed = parse(head, self.limits)
            return None if parsed.media_class == _DIRECTORY else _guarded(_parsed_header, found, parsed)

    def _common_of(self, skimmed: Skimmed) -> _Common:
        """Describe each kind of file once: parsing is what takes the time."""
        same = skimmed.shared()
        known = self._common.get(same)
        if known is None:
            with collected_warnings():
                known = self._common[same] = _guarded(_described, skimmed)
        return known

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noticed outside of any series."""
        found = [*self._walk.findings, *self._findings]
        if self._states:
            found.append(finding("presentation_states", count=self._states))
        if self._not_images:
            found.append(finding("files_not_images", count=self._not_images))
        doubled = len(self._headers) - len(_once(self._headers))
        if doubled:
            found.append(finding("duplicates", count=doubled))
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...]:
        """For each of :attr:`findings` what the owner calls the file it is about; empty when about none.

        For the owner's screen only: names of files name patients.
        """
        known = [*self._walk.names, *(found.name for found in self._bad)]
        return tuple(known + [""] * (len(self.findings) - len(known)))

    def studies(self) -> tuple[Study, ...]:
        """Group and sort what was read so far."""
        by_study: dict[str, dict[str, list[_Header]]] = {}
        for header in _once(self._headers):
            by_study.setdefault(header.study, {}).setdefault(header.series, []).append(header)
        return tuple(
            Study(
                pseudonym(self._key, "study", study),
                tuple(made for name, headers in series.items() for made in self._series(name, headers)),
            )
            for study, series in by_study.items()
        )

    def _series(self, name: str, headers: list[_Header]) -> Iterator[Series]:
        parts = [part for group in _alike(headers) for part in _times(group)]
        for number, part in enumerate(parts, 1):
            found = [finding("series_split", part=number, parts=len(parts))] if len(parts) > 1 else []
            yield self._one_series(pseudonym(self._key, "series", name, str(number)), part, found)

    def _origin(self, made_id: str, first: _Header) -> Origin:
        space = pseudonym(self._key, "space", first.space) if first.space else ""
        return Origin(pseudonym(self._key, "study", first.study), made_id, space)

    def _one_series(self, made_id: str, headers: list[_Header], found: list[Finding]) -> Series:
        first = headers[0]
        stack = Stack(tuple(header.instance.plane for header in headers), first.common.spacing)
        missing = sum(plane is None for plane in stack.planes)
        if missing and len(headers) > 1:
            found.append(finding("position_missing", count=missing))
        if len(headers) > 2 and not missing:
            found += _stack_findings(stack)
        return Series(
            made_id,
            first.common.modality,
            first.common.facts,
            SizePx(*first.common.size),
            first.common.kind[0] == "color",
            stack,
            tuple(header.instance for header in headers),
            tuple(found),
            self.limits,
            self._origin(made_id, first),
        )


def read_studies(
    source: Path | str,
    *,
    key: bytes | None = None,
    limits: Limits | None = None,
    scratch: Path | None = None,
    progress: Callable[[FileRead], None] | None = None,
) -> tuple[StudyReader, tuple[Study, ...]]:
    """Read everything; the reader is given back open, to be closed when the series are stored or done with.

    Raises
    ------
    OpenError, OSError
        As :class:`StudyReader`.
    """
    reader = StudyReader(source, key=key, limits=limits, scratch=scratch)
    try:
        for read in reader:
            if progress is not None:
                progress(read)
    except BaseException:
        reader.close()
        raise
    return reader, reader.studies()


def _picture(found: FoundFile, limits: Limits) -> _Header:
    from viewers.intake import open_image

    image = open_image(found.path, limits)
    instance = Instance(found.index, image.frame_count, None, None, SourceFile(found.path, None))
    name = f"picture {found.index}"
    size = (image.size.width, image.size.height)
    kind = ("color" if image.is_color else "grey",)
    common = _Common("", {}, size, kind, image.frame_count, (), None)
    return _Header("pictures", name, name, "", common, (), 0, instance)


def _check_length(skimmed: Skimmed, size: int) -> None:
    if skimmed.pixels is None:
        return
    _, at, length = skimmed.pixels
    if length != _UNDEFINED and at + length > size:
        raise TruncatedFileError(part="pixels", found=size - at, expected=length)


def _guarded(work: Callable[..., _T], *arguments: Any) -> _T:
    """Call what reads a dataset; what a damaged one raises there becomes an error of ours."""
    try:
        return work(*arguments)
    except OpenError:
        raise
    except PARSER_FAILURES as error:
        raise CorruptHeaderError(
            attribute="dataset", found=type(error).__name__, expected="DICOM PS3.10"
        ) from error


def _described(skimmed: Skimmed) -> _Common:
    return _common(skimmed.parsed())


def _check_picture(parsed: ParsedFile) -> None:
    from viewers.dicom import object_kind

    dataset = parsed.dataset
    if min(integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0) > 0:
        return
    kind = object_kind(dataset, parsed.media_class)
    if cut_short(dataset) or kind.endswith("Image Storage"):
        raise TruncatedFileError(part="attributes", found="?", expected="Rows, Columns")
    raise NoPixelDataError(found=kind or "?")


def _common(parsed: ParsedFile) -> _Common:
    """Collect what files with the same description share, or raise NoPixelDataError without a picture."""
    _check_picture(parsed)
    dataset = parsed.dataset
    spacing = numbers(dataset, "PixelSpacing")
    photometric = texts(dataset, "PhotometricInterpretation")
    color = integer(dataset, "SamplesPerPixel") == 3 or "PALETTE COLOR" in photometric
    return _Common(
        modality=display.modality(dataset),
        facts=display.technical_facts(dataset),
        size=(integer(dataset, "Columns") or 0, integer(dataset, "Rows") or 0),
        kind=("color" if color else "grey", *photometric[:1], *texts(dataset, "ImageType")[2:4]),
        frames=max(integer(dataset, "NumberOfFrames") or 1, 1),
        cosines=tuple(numbers(dataset, "ImageOrientationPatient")),
        spacing=(spacing[0], spacing[1]) if len(spacing) == 2 and all(map(_possible, spacing)) else None,
    )


def _possible(length: float) -> bool:
    return math.isfinite(length) and 1e-6 < length < 1e3


def _skimmed_header(found: FoundFile, skimmed: Skimmed, common: _Common) -> _Header:
    position = skimmed.numbers("ImagePositionPatient")
    number, acquisition = (skimmed.numbers(name) for name in ("InstanceNumber", "AcquisitionNumber"))
    value = skimmed.value("DiffusionBValue")
    diffusion = struct.unpack("<d", value) if len(value) == 8 else ()
    times = (*(tuple(skimmed.numbers(keyword)) for keyword in _TIMES), diffusion)
    return _Header(
        study=skimmed.text("StudyInstanceUID"),
        series=skimmed.text("SeriesInstanceUID"),
        sop=skimmed.text("SOPInstanceUID") or f"file {found.index}",
        space=skimmed.text("FrameOfReferenceUID"),
        common=common,
        time=times,
        acquisition=_whole(acquisition) or 0,
        instance=Instance(
            found.index,
            common.frames,
            slice_plane(position, common.cosines),
            _whole(number),
            SourceFile(found.path, skimmed),
        ),
    )


def _whole(values: list[float]) -> int | None:
    return int(values[0]) if values and abs(values[0]) < 2**53 else None


def _parsed_header(found: FoundFile, parsed: ParsedFile) -> _Header:
    dataset, common = parsed.dataset, _common(parsed)
    plane = slice_plane(numbers(dataset, "ImagePositionPatient"), common.cosines)
    number = integer(dataset, "InstanceNumber")
    return _Header(
        study=uid(dataset, "StudyInstanceUID"),
        series=uid(dataset, "SeriesInstanceUID"),
        sop=uid(dataset, "SOPInstanceUID") or f"file {found.index}",
        space=uid(dataset, "FrameOfReferenceUID"),
        common=common,
        time=tuple(tuple(numbers(dataset, keyword)) for keyword in (*_TIMES, "DiffusionBValue")),
        acquisition=integer(dataset, "AcquisitionNumber") or 0,
        instance=Instance(found.index, common.frames, plane, number, SourceFile(found.path, None)),
    )


def _once(headers: Sequence[_Header]) -> list[_Header]:
    """Keep one of each SOP instance, the first that was read."""
    return list({header.sop: header for header in reversed(headers)}.values())[::-1]


def _alike(headers: list[_Header]) -> list[list[_Header]]:
    """Split images of one series that differ in size, kind, spacing, orientation or having a position."""
    groups: list[list[_Header]] = []
    for header in headers:
        for group in groups:
            if _same(group[0], header):
                group.append(header)
                break
        else:
            groups.append([header])
    return groups


def _same(one: _Header, other: _Header) -> bool:
    if one.common is not other.common and not _same_kind(one.common, other.common):
        return False
    a, b = one.instance.plane, other.instance.plane
    if one.common.frames > 1 or other.common.frames > 1 or (a is None) != (b is None):
        return False
    return a is None or b is None or a.parallel(b)


def _same_kind(one: _Common, other: _Common) -> bool:
    if (one.size, one.kind, one.modality) != (other.size, other.kind, other.modality):
        return False
    if (one.spacing is None) != (other.spacing is None):
        return False
    if one.spacing is None or other.spacing is None:
        return True
    return all(abs(x - y) <= 1e-3 * x for x, y in zip(one.spacing, other.spacing, strict=True))


def _times(group: list[_Header]) -> list[list[_Header]]:
    """Split a group into stacks in which no place is taken twice, each sorted along the normal.

    Echoes and time points that the headers tell apart are separated by them, the rest by acquisition and
    instance number.
    """
    first = group[0].instance.plane
    if first is None:
        return [sorted(group, key=_by_number)]
    normal = first.normal

    def place(header: _Header) -> float:
        plane = header.instance.plane
        return round(plane.along(normal), 2) if plane is not None else 0.0

    stacks: list[list[_Header]] = []
    doubled = max(Counter(place(header) for header in group).values()) > 1
    by_time: dict[tuple[tuple[float, ...], ...], list[_Header]] = {}
    for header in group:
        by_time.setdefault(header.time if doubled else (), []).append(header)
    for _, headers in sorted(by_time.items(), key=lambda item: item[0]):
        layers: dict[int, list[_Header]] = {}
        taken: Counter[float] = Counter()
        for header in sorted(headers, key=_by_number):
            layers.setdefault(taken[place(header)], []).append(header)
            taken[place(header)] += 1
        stacks += [sorted(layer, key=place) for layer in layers.values()]
    return stacks


def _by_number(header: _Header) -> tuple[int, int, int]:
    number = header.instance.number
    return header.acquisition, number if number is not None else header.instance.index, header.instance.index


def _stack_findings(stack: Stack) -> list[Finding]:
    found = []
    uneven = stack.uneven()
    if uneven is not None:
        found.append(finding("uneven_spacing", smallest=round(uneven[0], 3), largest=round(uneven[2], 3)))
    tilt = stack.tilt_degrees()
    if tilt > 0.5:
        found.append(finding("gantry_tilt", degrees=round(tilt, 1)))
    return found
