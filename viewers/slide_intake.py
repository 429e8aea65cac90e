"""Slides nobody has looked at are opened and stored in a process of their own, with limits.

As :mod:`viewers.worker` does for other images. What is stored by it was taken apart there, except for the
formats whose original is kept: those are opened and tried in the child first, at every level.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from viewers.child import Child, WorkerLimits
from viewers.errors import IntakeError, NotAnImageError
from viewers.limits import Limits
from viewers.slide_adopt import adopt_slide
from viewers.slide_sort import sort_slides
from viewers.worker import arrived, result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

__all__ = ["SlideIntake", "store_slide"]

_TRIED_PX: Final = 512
"""Side of the piece that is read of every level before a slide is taken."""
_TELLS: Final = 100
"""Messages of progress at most."""


class SlideIntake:
    """One child process that opens and stores slides, one at a time; safe to share between threads.

    Parameters
    ----------
    worker_limits : WorkerLimits, optional
        ``wall_s`` and ``cpu_s`` count between two messages of progress, ``study_s`` for the whole slide.
    job : callable, optional
        What the child does; must be importable. For tests.
    """

    def __init__(self, worker_limits: WorkerLimits | None = None, job: Any = None) -> None:
        jobs = {"slide": job or store_slide, "sort": sort_slides, "adopt": adopt_slide}
        self._child = Child(worker_limits or WorkerLimits(), jobs)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._child.kill()

    def open(
        self,
        sources: Path | str | Sequence[Path | str],
        folder: Path | str,
        limits: Limits | None = None,
        *,
        names: Sequence[str] = (),
        flat: bool = False,
        on_progress: Callable[[float], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Path:
        """Store one slide as ``folder / digest``; returns that folder.

        Parameters
        ----------
        sources : path or sequence of paths
            A file, a folder, a zip, or the files of one slide.
        names : sequence of str
            What their owner calls the sources, one for each, with folders in front where they had some;
            formats of several files need them.
        flat : bool
            Whether a picture without levels is taken as a slide too.
        on_progress : callable, optional
            Called in this thread with the part done, 0 to 1.
        cancel : threading.Event, optional
            Set by another thread to stop; then nothing is stored.

        Raises
        ------
        NotAnImageError
            If it is no slide.
        OpenError
            If it is one that cannot be opened; :class:`IntakeError` when the child had to be killed or died.
        IntakeCancelledError
        OSError
            If a source cannot be read or the slide not be stored.
        """
        paths = [sources] if isinstance(sources, str | Path) else list(sources)
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".intake.", dir=home))
        question = {
            "task": "slide",
            "sources": [str(path) for path in paths],
            "names": list(names),
            "folder": str(staging),
            "limits": asdict(limits or Limits()),
            "flat": flat,
        }
        tell = on_progress or (lambda _: None)

        def told(message: dict[str, Any]) -> None:
            tell(min(1.0, max(0.0, float(message["at"]))))

        try:
            with self._lock:
                answer = self._child.ask(question, told, cancel, self._child.limits.study_s)
            return arrived(staging / "stored", home, str(result(answer)))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def adopt(self, source: Path, folder: Path, limits: Limits | None = None) -> Path:
        """Check a stored slide that comes from elsewhere and store it anew as ``folder / digest``.

        Raises
        ------
        OpenError
            If it is none, was changed, or is larger than the limits allow; :class:`IntakeError` when the
            child had to be killed or died.
        OSError
        """
        staging = Path(tempfile.mkdtemp(prefix=".intake.", dir=folder))
        question = {
            "task": "adopt",
            "source": str(source),
            "folder": str(staging),
            "limits": asdict(limits or Limits()),
        }
        try:
            with self._lock:
                answer = self._child.ask(question, lambda _: None, None, self._child.limits.study_s)
            return arrived(staging / "stored", folder, str(result(answer)))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def sort(
        self,
        sources: Sequence[Path],
        folder: Path,
        limits: Limits | None = None,
        *,
        names: Sequence[str] = (),
        cancel: threading.Event | None = None,
    ) -> tuple[list[dict[str, Path]], dict[str, Path]]:
        """Put files where they find each other and tell slides from the rest; see :mod:`viewers.slide_sort`.

        Parameters
        ----------
        folder : Path
            New and empty; the files stay below it.
        names : sequence of str
            As for :meth:`open`.

        Returns
        -------
        list of dict of str to Path
            Of each slide its files by the name to open them under.
        dict of str to Path
            The other files; those of archives stand by themselves.

        Raises
        ------
        OpenError
            If an archive cannot be read or a limit is exceeded; :class:`IntakeError` when the child had to
            be killed or died.
        IntakeCancelledError
        OSError
        """
        folder.mkdir(parents=True, exist_ok=True)
        question = {
            "task": "sort",
            "sources": [str(path) for path in sources],
            "names": list(names),
            "folder": str(folder),
            "limits": asdict(limits or Limits()),
        }
        with self._lock:
            answer = self._child.ask(question, lambda _: None, cancel, self._child.limits.study_s)
        found, tree = result(answer), folder / "slide"
        groups = [{str(name): inside(tree, name) for name in group} for group in found["slides"]]
        return groups, {str(name): inside(tree, name) for name in found["others"]}


def inside(tree: Path, name: object) -> Path:
    """Return the place of a name below a folder; the child that says it may have been taken over."""
    place = tree.joinpath(*str(name).split("/"))
    if not place.resolve().is_relative_to(tree.resolve()):
        raise IntakeError(reason="?", limit="path")
    return place


def store_slide(question: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> str:
    """Gather, open, try and store one slide; the child's work. Returns its digest."""
    from viewers.openers import examine, open_slide
    from viewers.slide_files import gather
    from viewers.slide_store import keep

    limits = Limits(**question["limits"])
    folder = Path(question["folder"])
    given = [Path(path) for path in question["sources"]]
    paths = gather(given, folder, limits, question["names"])
    if not question["flat"] and not examine(paths, limits):
        raise NotAnImageError(found=_found(paths))
    steps = {round(step / _TELLS, 2) for step in range(_TELLS + 1)}

    def progress(part: float) -> None:
        # Each message gives the child its time anew, so one slide cannot send them without end.
        step = round(part, 2)
        if step in steps:
            steps.discard(step)
            tell({"at": step})

    with open_slide(paths, limits) as slide:
        _try(slide)
        return keep(slide, folder / "stored", progress).name


def _found(paths: list[Path]) -> str:
    from viewers.sniff import sniff

    if len(paths) != 1:
        return f"{len(paths)} files"
    with paths[0].open("rb") as stream:
        return sniff(stream.read(4096))


def _try(slide: Any) -> None:
    """Read a piece in the middle of every level: what ends the process ends the child."""
    from viewers.geometry import Region

    for number, level in enumerate(slide.levels):
        width, height = min(level.size.width, _TRIED_PX), min(level.size.height, _TRIED_PX)
        x, y = (level.size.width - width) // 2, (level.size.height - height) // 2
        try:
            slide.read_level(number, Region(x, y, width, height))
        except MemoryError as error:
            raise IntakeError(reason="MemoryError", limit="RAM") from error
