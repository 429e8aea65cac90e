"""Files nobody has looked at are opened in a process of their own, with limits of memory and time.

A decoder that crashes, a header that takes minutes, or a file that asks for more memory than there is
ends the child, never the caller: the caller gets an :class:`~viewers.errors.IntakeError`, or a study
without that file, the child is started again, and the next file opens. Pixels do not cross the pipe: the
child stores images, as :mod:`viewers.store` does, and says under which names.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from viewers import errors
from viewers.child import Child, WorkerLimits
from viewers.errors import IntakeError, OpenError
from viewers.limits import Limits
from viewers.study_record import StudiesRead, StudyProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from viewers.study_record import SeriesRecord

__all__ = ["Intake", "WorkerLimits", "open_safely"]

_DIGEST_CHARACTERS: Final = frozenset("0123456789abcdef")
_MOST_DEATHS: Final = 8
"""Of the child while one study is read; each costs a start and reading all headers again."""
_DAMAGED: Final = (ValueError, TypeError, KeyError, IndexError)


class Intake:
    """One child process that opens files, one at a time; safe to share between threads.

    Parameters
    ----------
    worker_limits : WorkerLimits, optional
    job, study_job : callable, optional
        What the child does with a file, and with a study; must be importable. For tests.
    visual_order : callable, optional
        See :class:`viewers.study.StudyReader`; must be importable.
    """

    def __init__(
        self,
        worker_limits: WorkerLimits | None = None,
        job: Any = None,
        study_job: Any = None,
        visual_order: Callable[[str], str] = str,
    ) -> None:
        study = study_job or partial(store_study, visual_order=visual_order)
        jobs = {"image": job or store_image, "study": study}
        self._child = Child(worker_limits or WorkerLimits(), jobs)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Number of the child process; ``None`` when there is none."""
        return self._child.pid

    def start(self) -> None:
        """Start the child now, so that the first file does not wait for it."""
        with self._lock:
            self._child.start()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._child.kill()

    def open(
        self, path: Path | str, folder: Path | str, limits: Limits | None = None, key: bytes | None = None
    ) -> Path:
        """Open a file and store it as ``folder / digest``; returns that folder.

        Parameters
        ----------
        key : bytes, optional
            For pseudonyms of what it belongs to; the same key gives the same ones.

        Raises
        ------
        OpenError
            As :func:`viewers.intake.open_image`; :class:`IntakeError` when the child had to be killed
            or died.
        OSError
            If the file cannot be read or the image not be stored.
        """
        home, staging = _staging(folder)
        question = {"task": "image", "path": str(path), "folder": str(staging)}
        question["key"] = (key or b"")[:64].hex()
        try:
            with self._lock:
                answer = self._child.ask(question | {"limits": asdict(limits or Limits())})
            return arrived(staging, home, str(result(answer)))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def open_study(
        self,
        sources: Path | str | Sequence[Path | str],
        folder: Path | str,
        limits: Limits | None = None,
        *,
        key: bytes | None = None,
        names: Sequence[str] = (),
        on_progress: Callable[[StudyProgress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> StudiesRead:
        """Read folders, archives and files; each series becomes a stored image ``folder / digest``.

        A file that cannot be opened, even one that ends the child, becomes a finding with its name, and
        the rest opens. Another study, and a single file, waits until this one is done.

        Parameters
        ----------
        sources : path or sequence of paths
        key : bytes, optional
            For pseudonyms; the same key gives the same ids. A new one if left out.
        names : sequence of str
            What their owner calls the sources, one for each, when their paths do not say so.
        on_progress : callable, optional
            Called in this thread some ten times a second.
        cancel : threading.Event, optional
            Set by another thread to stop; nothing is stored then but what was reported as stored.

        Raises
        ------
        OpenError
            If the only source is an archive that cannot be read, a total of the limits is exceeded, or
            too many files end the child.
        IntakeCancelledError
        OSError
            If a source cannot be read or an image not be stored.
        """
        paths = [sources] if isinstance(sources, str | Path) else list(sources)
        home, staging = _staging(folder)
        tell = on_progress or (lambda _: None)
        tell(StudyProgress("waiting", 0, 0))
        question = {
            "task": "study",
            "sources": [str(path) for path in paths],
            "folder": str(staging),
            "limits": asdict(limits or Limits()),
            "key": (key or secrets.token_bytes(32))[:64].hex(),
            "labels": list(names),
        }
        try:
            with self._lock:
                return _StudyTalk(self._child, question, staging, home, tell, cancel).read()
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@dataclass(slots=True, eq=False)
class _StudyTalk:
    """One study is read; files that end the child are left out in the next attempt."""

    child: Child
    question: dict[str, Any]
    staging: Path
    home: Path
    tell: Callable[[StudyProgress], None]
    cancel: threading.Event | None
    skip: set[int] = field(default_factory=set)
    at: dict[str, Any] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)

    def read(self) -> StudiesRead:
        """Ask until there is an answer."""
        alone = False
        for _ in range(_MOST_DEATHS):
            self.at = {}
            try:
                return self._arrived(result(self._ask(alone)))
            except IntakeError as error:
                if not self._blamed() and alone:
                    raise
                # Several files were looked at together: one after the other will tell which it was.
                alone = True
                failed = error
        raise failed

    def _ask(self, alone: bool) -> dict[str, Any]:  # noqa: FBT001 - the name of the question's entry
        question = self.question | {"skip": sorted(self.skip), "alone": alone}
        return self.child.ask(question, self._told, self.cancel, self.child.limits.study_s)

    def _blamed(self) -> bool:
        """Leave the file out that the child died of, if it is known which."""
        index = self.at.get("at")
        if not self.at.get("alone") or not isinstance(index, int) or index in self.skip:
            return False
        self.skip.add(index)
        return True

    def _told(self, message: dict[str, Any]) -> None:
        if "at" in message:
            self.at = message
            return
        progress = StudyProgress.from_json(message["progress"])
        self._move([progress.first, *(series.digest for series in progress.stored)])
        self.tell(progress)

    def _arrived(self, answer: Any) -> StudiesRead:
        try:
            made = StudiesRead.from_json(answer["read"])
            names = [str(name) for name in answer["names"]]
        except _DAMAGED as error:
            raise IntakeError(reason="?", limit="JSON") from error
        series: Iterable[SeriesRecord] = (item for study in made.studies for item in study.series)
        self._move([made.first, *(item.digest for item in series)])
        return replace(made, names=tuple(names))

    def _move(self, digests: list[str | None]) -> None:
        for digest in digests:
            if digest is not None and digest not in self.moved:
                arrived(self.staging, self.home, digest)
                self.moved.add(digest)


def _staging(folder: Path | str) -> tuple[Path, Path]:
    """Return the folder of images and one in it for a child that is killed to leave its pieces in."""
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    return home, Path(tempfile.mkdtemp(prefix=".intake.", dir=home))


def arrived(staging: Path, home: Path, name: str) -> Path:
    """Move the stored image into place; one that is there already is the same image."""
    if len(name) != 64 or not _DIGEST_CHARACTERS.issuperset(name) or not (staging / name).is_dir():
        raise IntakeError(reason="?", limit="SHA-256")
    target = home / name
    if not target.exists():
        with suppress(OSError):
            (staging / name).rename(target)
    if not target.exists():
        raise OSError(f"the image could not be put into place: {name[:12]}")
    return target


def result(answer: dict[str, Any]) -> Any:
    """Return the child's result, or raise its error."""
    kind, values = answer.get("error"), answer.get("values")
    if kind is None:
        return answer.get("done")
    if kind == "OSError":
        raise OSError(str(answer.get("reason")))
    known = getattr(errors, str(kind), None)
    if isinstance(known, type) and issubclass(known, OpenError) and isinstance(values, dict):
        try:
            failed = known(**{str(name): value for name, value in values.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise IntakeError(reason="?", limit="JSON") from error
        raise failed
    raise IntakeError(reason=str(answer.get("reason"))[:80], limit="OpenError")


def store_image(question: dict[str, Any], _tell: object) -> str:
    """Open one file and store it; the child's work. Returns the image's digest."""
    from viewers.intake import open_image
    from viewers.store import save

    key = bytes.fromhex(question["key"]) or None
    image = open_image(question["path"], Limits(**question["limits"]), key=key)
    save(image, Path(question["folder"]) / image.digest)
    return image.digest


def store_study(
    question: dict[str, Any], tell: Any, visual_order: Callable[[str], str] = str
) -> dict[str, Any]:
    """Read a study and store it; the child's work."""
    from viewers.study_work import store_studies

    return store_studies(question, tell, visual_order)


_SHARED_LOCK = threading.Lock()
_shared: list[Intake] = []


def open_safely(path: Path | str, folder: Path | str, limits: Limits | None = None) -> Path:
    """Open a file in the process's one child; see :meth:`Intake.open`.

    Raises
    ------
    OpenError, OSError
    """
    with _SHARED_LOCK:
        if not _shared:
            _shared.append(Intake())
            atexit.register(_shared[0].close)
    return _shared[0].open(path, folder, limits)
