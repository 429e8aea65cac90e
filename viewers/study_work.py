"""What the child process does with a folder or archive: read, group, store series by series, and tell.

Runs in the limited process of :mod:`viewers.worker`; everything it says goes through ``tell`` as JSON
values.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from viewers.errors import OpenError, ViewerError, VolumeError
from viewers.findings import Finding, finding
from viewers.limits import Limits
from viewers.series import Watch
from viewers.store import save
from viewers.study import FileRead, StudyReader
from viewers.study_record import (
    Problem,
    SeriesFound,
    SeriesRecord,
    StudiesRead,
    StudyProgress,
    StudyRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from viewers.series import Instance, Series
    from viewers.study_record import Stage

__all__ = ["store_studies"]

_EVERY_S: Final = 0.1
"""Between two reports of progress."""
_FIRST_TRIES: Final = 5
"""Files tried for the first image to show; if none of them opens, the first stored series is it."""
_MOST_FINDINGS: Final = 200
"""Of one kind, that are told one by one: a folder may hold fifty thousand damaged files."""


def store_studies(
    question: dict[str, Any],
    tell: Callable[[dict[str, Any]], None],
    visual_order: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Read sources and store each series as an image in a folder.

    Parameters
    ----------
    question : dict
        ``sources`` (paths), ``labels`` (what their owner calls them), ``folder``, ``limits``, ``key``
        (hexadecimal), ``skip`` (indices of files) and ``alone`` (whether to look at one file after the
        other, so that the one which ends the process is known).
    tell : callable
        Given ``{"at": index, "alone": bool}`` before a file is looked at, and
        ``{"progress": ...}`` of :class:`StudyProgress`.
    visual_order : callable, optional
        See :class:`viewers.study.StudyReader`.

    Returns
    -------
    dict
        ``read``, of :class:`StudiesRead`, and ``names``, one for each of its findings.

    Raises
    ------
    OpenError, OSError
        As :class:`viewers.study.StudyReader`.
    """
    work = _Work(question, tell, visual_order)
    with work.reader:
        return work.done()


class _Work:
    """One reading of one set of sources."""

    def __init__(
        self,
        question: dict[str, Any],
        tell: Callable[[dict[str, Any]], None],
        visual_order: Callable[[str], str],
    ) -> None:
        self._folder, self._limits = Path(question["folder"]), Limits(**question["limits"])
        self._tell_all, self._telling = tell, threading.Lock()
        self._alone, self._key = bool(question["alone"]), bytes.fromhex(question["key"])
        self.reader = StudyReader(
            [Path(source) for source in question["sources"]],
            key=self._key,
            limits=self._limits,
            scratch=self._folder,
            labels=question["labels"],
            looking=lambda index: self._tell({"at": index, "alone": self._alone}),
            skip=question["skip"],
            visual_order=visual_order,
            **({"readers": 1} if self._alone else {}),
        )
        self._found: dict[str, SeriesFound] = {}
        self._first: str | None = None
        self._tries = 0
        self._stored: list[SeriesRecord] = []
        self._failed: list[tuple[Finding, str]] = []
        self._names: dict[int, str] = {}
        self._told = 0.0

    def done(self) -> dict[str, Any]:
        """Do all of it."""
        for read in self.reader:
            self._count(read)
        studies = self.reader.studies()
        total = sum(series.frame_count for study in studies for series in study.series)
        self._progress("storing", 0, total, now=True)
        records, before = [], 0
        for study in studies:
            made = []
            for series in study.series:
                made.append(self._store(series, before, total))
                before += series.frame_count
                self._stored.append(made[-1])
                self._progress("storing", before, total, now=True)
            records.append(StudyRecord(study.id, tuple(made)))
        noticed = [*zip(self.reader.findings, self.reader.names, strict=True), *self._failed]
        noticed = _shortened(noticed)
        read_all = StudiesRead(tuple(records), tuple(found for found, _ in noticed), self._first)
        return {"read": read_all.to_json(), "names": [name for _, name in noticed]}

    def _tell(self, message: dict[str, Any]) -> None:
        # Headers are looked at in several threads.
        with self._telling:
            self._tell_all(message)

    def _progress(self, stage: Stage, done: int, total: int, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._told < _EVERY_S:
            return
        self._told = time.monotonic()
        made = StudyProgress(
            stage, done, total, tuple(self._found.values()), self._first, tuple(self._stored)
        )
        self._tell({"progress": made.to_json()})

    def _count(self, read: FileRead) -> None:
        if read.instance is not None:
            known = self._found.get(read.series)
            self._found[read.series] = SeriesFound(
                read.series, read.modality, (known.images if known else 0) + read.instance.frames
            )
            self._names[read.instance.index] = read.name
            tries = 0 if self._alone else _FIRST_TRIES  # two files at a time would not tell which one it was
            if self._first is None and self._tries < tries and read.instance.frames == 1:
                self._tries += 1
                self._show(read.instance)
        self._progress("reading", read.done, read.total, now=read.done == read.total)

    def _show(self, instance: Instance) -> None:
        """Store one image alone, so that there is something to see while the rest is read."""
        self._tell({"at": instance.index, "alone": False})
        try:
            image = instance.open(self._limits, self._key)
            save(image, self._folder / image.digest)
        except (OpenError, OSError, MemoryError):
            return  # it is met again when its series is stored
        self._first = image.digest
        self._told = 0.0

    def _store(self, series: Series, before: int, total: int) -> SeriesRecord:
        digest, error = None, None
        watch = Watch(lambda index: self._tell({"at": index, "alone": True}), self._fail)

        def progress(part: float) -> None:
            self._progress("storing", before + int(part * series.frame_count), total)

        try:
            digest = series.keep(self._folder, progress, watch).name
        except (OpenError, OSError, MemoryError) as failed:
            error = _problem(failed)
            if len(series.instances) == 1:
                self._fail(series.instances[0].index, failed)
        return SeriesRecord(
            series.id,
            series.modality,
            dict(series.facts),
            len(series.instances),
            series.frame_count,
            (series.size.width, series.size.height),
            series.is_color,
            series.findings,
            digest,
            error,
            _no_volume(series),
        )

    def _fail(self, index: int, error: Exception) -> None:
        kind = type(error).__name__
        reason = error.key if isinstance(error, ViewerError) else kind
        name = self._names.get(index, "")
        self._failed.append((finding("file_unreadable", index=index, reason=reason, kind=kind), name))


def _problem(error: Exception) -> Problem:
    if isinstance(error, ViewerError):
        return Problem(error.key, error.values)
    return Problem("viewers.open", {"reason": type(error).__name__})


def _no_volume(series: Series) -> Problem | None:
    try:
        series.stack.check()
    except VolumeError as error:
        return _problem(error)
    return None


def _shortened(noticed: list[tuple[Finding, str]]) -> list[tuple[Finding, str]]:
    """Tell only so many of a kind one by one, and count the rest."""
    counts: dict[str, int] = {}
    kept = []
    for found, name in noticed:
        counts[found.key] = counts.get(found.key, 0) + 1
        if counts[found.key] <= _MOST_FINDINGS:
            kept.append((found, name))
    more = sum(max(count - _MOST_FINDINGS, 0) for count in counts.values())
    return [*kept, (finding("more_findings", count=more), "")] if more else kept
