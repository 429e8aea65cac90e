"""Folders, zips and single files to studies and series: what belongs together is told by geometry.

:class:`StudyReader` reads headers, several at a time, and tells after each file what it found, so that
the first image can be shown while the rest is read. A DICOMDIR is not needed and not believed: the files
themselves are read, and what it lists besides is told to be missing. A file that cannot be opened becomes a
finding, and the rest opens.

References
----------
DICOM PS3.3 A.1.2 (study, series, instance), C.7.6.2 (image plane).
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from viewers.archive import FileWalk, FoundFile
from viewers.attributes import PARSER_FAILURES
from viewers.dataset import ParsedFile, parse
from viewers.directory import is_directory, listed_images
from viewers.errors import (
    IntakeError,
    NoPixelDataError,
    NotAnImageError,
    OpenError,
    TooLargeError,
)
from viewers.findings import Finding, finding
from viewers.grouping import by_patient, once, series_of, shared_studies
from viewers.headers import (
    Common,
    Header,
    check_length,
    described,
    guarded,
    parsed_header,
    picture_header,
    skimmed_header,
)
from viewers.limits import Limits
from viewers.origin import pseudonym
from viewers.presentation import State, StateImage, is_state
from viewers.silence import collected_warnings
from viewers.skim import HEAD_BYTES, Skimmed, skim
from viewers.sniff import sniff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from viewers.layer import Presentation
    from viewers.series import Instance, Series


__all__ = ["FileRead", "Study", "StudyReader", "read_studies"]

_MOST_STATES: Final = 200
"""Presentation states that are looked at."""
_READERS: Final = 4
"""Threads: they wait for slow disks and network folders at the same time; parsing itself is one at a time."""


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
    visual_order : callable, optional
        Puts a line of text of a presentation state into the order it is drawn in, its letters joined.
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
        visual_order: Callable[[str], str] = str,
    ) -> None:
        self.limits = limits or Limits()
        self._visual_order = visual_order
        self._key = key or secrets.token_bytes(32)
        self._scratch = Path(tempfile.mkdtemp(prefix="bimedix2-study-", dir=scratch))
        sources = Path(source) if isinstance(source, str) else source
        self._walk = FileWalk(sources, self._scratch, self.limits, labels)
        self._readers, self._looking, self._skip = readers, looking or (lambda _: None), frozenset(skip)
        self._headers: list[Header] = []
        self._findings: list[Finding] = []
        self._bad: list[FoundFile] = []
        self._not_images = self._other_states = 0
        self._listed: frozenset[str] = frozenset()
        self._states: list[tuple[int, ParsedFile]] = []
        self._shared: dict[object, int] = {}
        self._common: dict[object, Common] = {}

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

    def _read_ahead(self) -> Iterator[tuple[FoundFile, Future[Header | ParsedFile | frozenset[str]]]]:
        """Files and their headers in order; a few are read before they are asked for."""
        waiting: deque[tuple[FoundFile, Future[Header | ParsedFile | frozenset[str]]]] = deque()
        files = iter(self._walk)
        with ThreadPoolExecutor(self._readers, thread_name_prefix="headers") as pool:
            for found in islice(files, 1):
                yield found, pool.submit(self._header, found)
            for found in files:
                waiting.append((found, pool.submit(self._header, found)))
                if len(waiting) > 4 * self._readers:
                    yield waiting.popleft()
            yield from waiting

    def _take(self, found: FoundFile, made: Future[Header | ParsedFile | frozenset[str]]) -> Header | None:
        try:
            header = made.result()
        except (NotAnImageError, NoPixelDataError) as error:
            state = "Presentation State" in str(error.values.get("found"))
            self._other_states += state
            self._not_images += not state
            return None
        except (OpenError, OSError, MemoryError) as error:
            kind = type(error).__name__
            reason = error.key if isinstance(error, OpenError) else kind
            self._findings.append(finding("file_unreadable", index=found.index, reason=reason, kind=kind))
            self._bad.append(found)
            return None
        if isinstance(header, frozenset):
            self._listed |= header
            return None
        if isinstance(header, ParsedFile):
            self._states.append((found.index, header))
            return None
        self._headers.append(self._numbered(header))
        return self._headers[-1]

    def _numbered(self, header: Header) -> Header:
        """Give files with the same description the same number, and forget their identifiers."""
        file = header.instance.file
        if file.skimmed is None or file.skimmed.overlaid:
            # An overlay may stand in bits of the pixels, which are not compared.
            shared = self._shared.setdefault(object(), len(self._shared))
            skimmed = None if file.skimmed is None else file.skimmed.anonymous()
            file = replace(file, shared=shared, skimmed=skimmed)
            return replace(header, instance=replace(header.instance, file=file))
        same = self._shared.setdefault(file.skimmed.shared(), len(self._shared))
        file = replace(file, shared=same, skimmed=file.skimmed.anonymous())
        return replace(header, instance=replace(header.instance, file=file))

    def _header(self, found: FoundFile) -> Header | ParsedFile | frozenset[str]:
        """Return an image's header, a presentation state, or what a DICOMDIR lists."""
        if found.index in self._skip:
            raise IntakeError(reason="?", limit="?")
        self._looking(found.index)
        with found.path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            kind = sniff(head)
            if kind in {"picture", "nifti"}:
                return picture_header(found, self.limits)
            if kind != "dicom":
                raise NotAnImageError(found=kind)
            size = stream.seek(0, 2)
            skimmed = self._skim(head)
            if skimmed is None:
                if size > self.limits.file_bytes:
                    raise TooLargeError(quantity="bytes", found=size, limit=self.limits.file_bytes)
                stream.seek(0)
                head = stream.read(size)
                skimmed = self._skim(head)
        if skimmed is not None:
            check_length(skimmed, size)
            return skimmed_header(found, skimmed, self._common_of(skimmed))
        with collected_warnings():
            parsed = parse(head, self.limits)
            if is_state(parsed):
                return parsed
            if is_directory(parsed):
                return guarded(listed_images, parsed)
            return guarded(parsed_header, found, parsed)

    def _skim(self, head: bytes) -> Skimmed | None:
        return skim(head, overlays=self.limits.graphics)

    def _common_of(self, skimmed: Skimmed) -> Common:
        """Describe each kind of file once: parsing is what takes the time."""
        # Frames of a dose grid lie where the file's own position says, which is not among what files share.
        same = (*skimmed.shared(), skimmed.value("ImagePositionPatient") if skimmed.is_grid else b"")
        known = self._common.get(same)
        if known is None:
            with collected_warnings():
                known = self._common[same] = guarded(described, skimmed)
        return known

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noticed outside of any series."""
        found = [*self._walk.findings, *self._findings]
        known = {header.sop for header in self._headers}
        states = self._read_states()
        unused = self._other_states + sum(state.images.isdisjoint(known) for state in states)
        if unused:
            found.append(finding("presentation_states", count=unused))
        if len(states) > unused - self._other_states and not self.limits.graphics:
            found.append(finding("presentation_graphics_left_out"))
        if self._not_images:
            found.append(finding("files_not_images", count=self._not_images))
        missing = len(self._listed - known)
        if missing:
            found.append(finding("disc_incomplete", missing=missing, total=len(self._listed)))
        doubled = len(self._headers) - len(once(self._headers))
        if doubled:
            found.append(finding("duplicates", count=doubled))
        shared = shared_studies(self._headers)
        if shared:
            found.append(finding("patients_share_study", count=max(shared.values())))
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...]:
        """For each of :attr:`findings` what the owner calls the file it is about; empty when about none.

        For the owner's screen only: names of files name patients.
        """
        known = [*self._walk.names, *(found.name for found in self._bad)]
        return tuple(known + [""] * (len(self.findings) - len(known)))

    def _read_states(self) -> list[State]:
        """Presentation states in the order they were found in."""
        parsed = [parsed for _, parsed in sorted(self._states, key=lambda item: item[0])]
        kept = enumerate(parsed[:_MOST_STATES], 1)
        return [State(n, one, self.limits.graphics, self._visual_order) for n, one in kept]

    def _presented(self, headers: list[Header]) -> list[Header]:
        """Tell the images that presentation states name how they are shown."""
        naming: dict[str, list[State]] = {}
        for state in self._read_states():
            for sop in state.images:
                naming.setdefault(sop, []).append(state)
        made = []
        with collected_warnings():
            for header in headers:
                shown = [_shown_by(state, header) for state in naming.get(header.sop, [])]
                frames = tuple(
                    tuple(one for one in frame if one is not None) for frame in zip(*shown, strict=True)
                )
                instance = replace(header.instance, presentations=frames if any(frames) else ())
                made.append(replace(header, instance=instance))
        return made

    def studies(self) -> tuple[Study, ...]:
        """Group and sort what was read so far."""
        by_study: dict[str, dict[str, list[Header]]] = {}
        for header in by_patient(self._presented(once(self._headers))):
            by_study.setdefault(header.study, {}).setdefault(header.series, []).append(header)
        return tuple(
            Study(
                pseudonym(self._key, "study", study),
                tuple(
                    made
                    for name, headers in series.items()
                    for made in series_of(name, headers, self._key, self.limits)
                ),
            )
            for study, series in by_study.items()
        )


def _shown_by(state: State, header: Header) -> list[Presentation | None]:
    """Return how a state shows each frame of a file; nothing when it is damaged."""
    common = header.common
    image = StateImage(header.sop, common.size, common.kind[0] == "color", common.rescale)
    try:
        return [state.of_frame(image, frame) for frame in range(common.frames)]
    except PARSER_FAILURES:
        return [None] * header.common.frames


def read_studies(
    source: Path | str,
    *,
    key: bytes | None = None,
    limits: Limits | None = None,
    scratch: Path | None = None,
    progress: Callable[[FileRead], None] | None = None,
    visual_order: Callable[[str], str] = str,
) -> tuple[StudyReader, tuple[Study, ...]]:
    """Read everything; the reader is given back open, to be closed when the series are stored or done with.

    Raises
    ------
    OpenError, OSError
        As :class:`StudyReader`.
    """
    reader = StudyReader(source, key=key, limits=limits, scratch=scratch, visual_order=visual_order)
    try:
        for read in reader:
            if progress is not None:
                progress(read)
    except BaseException:
        reader.close()
        raise
    return reader, reader.studies()
