"""Which of many files are slides, and which files belong to the same one.

Folders and archives hold slides beside each other and beside other things. A slide is: a file that names
others (MRXS, VMS) with what it names; the DICOM VL Whole Slide Microscopy objects of one series; any other
file that is a slide by itself. What is left is none.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viewers.errors import OpenError
from viewers.limits import Limits
from viewers.openers.source import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["group_slides", "sort_slides"]


def group_slides(paths: Sequence[Path], limits: Limits) -> tuple[list[list[Path]], list[Path]]:
    """Tell files of slides from others.

    Returns
    -------
    list of list of Path
        Files of each slide, its main file first; one that lacks files is there too, and fails when opened.
    list of Path
        The others, in the order given.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    groups = [_with_companions(path, paths) for path in paths if path.suffix.lower() in MAIN]
    taken = {path for group in groups for path in group}
    left = [path for path in paths if path not in taken]
    series: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in left:
        uid = _series_of(path)
        if uid is not None:
            series.setdefault(uid, []).append(path)
        elif _is_alone(path, limits):
            groups.append([path])
        else:
            others.append(path)
    return [*groups, *series.values()], others


def _with_companions(main: Path, paths: Sequence[Path]) -> list[Path]:
    from viewers.openers.vendor import companions

    try:
        return [main, *companions(main)]
    except OpenError:  # it is said when it is opened; what would belong to it is no picture of its own
        beside = main.with_suffix("") if main.suffix.lower() == ".mrxs" else main.parent
        return [main, *(path for path in paths if beside in path.parents and path != main)]


def _series_of(path: Path) -> str | None:
    """Series of a part of a DICOM slide; ``None`` for everything else."""
    from pydicom import dcmread

    from viewers.openers.source import Source
    from viewers.openers.wsm import accepts

    source = Source((path,))
    if not source.is_dicom or not accepts(source):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            uid = header.get("SeriesInstanceUID")
    except Exception:  # noqa: BLE001 - whatever a damaged file makes pydicom raise, it stands alone
        return str(path)
    return str(uid) if isinstance(uid, str) and uid else str(path)


def _is_alone(path: Path, limits: Limits) -> bool:
    from viewers.openers import is_slide
    from viewers.openers.source import Source
    from viewers.slide_files import may_be_slide

    # of pictures and DICOM images the opener of studies says more
    return not Source((path,)).is_dicom and may_be_slide(path) and is_slide([path], limits)


def sort_slides(question: dict[str, Any], _tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Gather files and tell slides from others; the work of the process with limits.

    Returns
    -------
    dict
        ``slides``: lists of places of the files of each; ``others``: places; below the folder of gathered
        files, with slashes.
    """
    from viewers.slide_files import gather

    limits = Limits(**question["limits"])
    folder = Path(question["folder"])
    paths = gather([Path(path) for path in question["sources"]], folder, limits, question["names"])
    groups, others = group_slides(paths, limits)
    tree = folder / "slide"
    return {
        "slides": [[path.relative_to(tree).as_posix() for path in group] for group in groups],
        "others": [path.relative_to(tree).as_posix() for path in others],
    }
