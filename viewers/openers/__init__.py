"""Openers: each turns one family of files into a :class:`viewers.slide.Slide`.

An opener is a module with two functions: ``accepts(source) -> bool``, which looks at first bytes only, and
``open_source(source, limits) -> Slide``. The first that accepts opens; none is imported before it is asked.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from viewers.errors import (
    CorruptHeaderError,
    NotAnImageError,
    NotASlideError,
    OpenError,
    UnsupportedImageError,
)
from viewers.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viewers.openers.source import Source
    from viewers.slide import Slide

__all__ = ["OPENERS", "examine", "is_slide", "open_slide"]

OPENERS: Final = ("wsm", "tiff", "vendor", "flat")
"""Modules of this package in the order they are asked."""


def open_slide(given: Path | str | Sequence[Path], limits: Limits | None = None) -> Slide:
    """Open a slide, or a flat picture as a slide of one level.

    Parameters
    ----------
    given : path or sequence of Path
        A file, a folder, or the files of one slide. Nothing outside of what is given is read.
    limits : Limits, optional

    Raises
    ------
    OpenError
        If it is no slide that can be opened, with the reason.
    OSError
        If a file cannot be read.
    """
    limits = limits or Limits()
    source = _found(given, limits)
    refused: UnsupportedImageError | None = None
    for name in OPENERS:
        opener = import_module(f"viewers.openers.{name}")
        if not opener.accepts(source):
            continue
        try:
            slide: Slide = opener.open_source(source, limits)
        except UnsupportedImageError as error:
            # A kind of TIFF one opener does not read may be one for the next; the first says why best, unless
            # it only left a picture to the next.
            refused = error if _left_on(refused) else refused
        except OpenError as error:
            if refused is None or _left_on(refused) or name != OPENERS[-1]:
                raise
            # That a slide is no picture either says less than why it is no slide.
            raise refused from error
        else:
            return slide
    if refused is None and source.is_dicom:
        from viewers.openers.wsm import kind_of, slide_kind

        raise NotASlideError(found=kind_of(source.paths[0]), expected=slide_kind())
    raise refused or NotAnImageError(found=source.sniffed)


def _left_on(refused: UnsupportedImageError | None) -> bool:
    return refused is None or refused.values.get("found") == "strips"


def is_slide(given: Path | str | Sequence[Path], limits: Limits | None = None) -> bool:
    """Whether files are a slide to move over as on a map, and not a picture or study to look at as a whole.

    Slides are what OpenSlide names a vendor of, DICOM VL Whole Slide Microscopy, and TIFF of several levels
    or of more pixels than a picture may have. What cannot be read is no slide.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    try:
        return examine(given, limits)
    except OpenError:
        return False


def examine(given: Path | str | Sequence[Path], limits: Limits | None = None) -> bool:
    """Tell the same as :func:`is_slide`, but say why when the files cannot be read.

    Raises
    ------
    OpenError, OSError
    """
    limits = limits or Limits()
    return _is_slide(_found(given, limits), limits)


def _found(given: Path | str | Sequence[Path], limits: Limits) -> Source:
    """Find the file to open first; one that names others is complete, never just the picture it may be."""
    from viewers.openers.source import MAIN, find_source

    source = find_source(Path(given) if isinstance(given, str) else given, limits)
    if source.paths[0].suffix.lower() in MAIN:
        from viewers.openers.vendor import companions

        companions(source.paths[0])
    return source


def _is_slide(source: Source, limits: Limits) -> bool:
    name = next(
        (name for name in OPENERS if import_module(f"viewers.openers.{name}").accepts(source)), "flat"
    )
    if name != "tiff":
        return name != "flat"
    try:
        opened = open_slide(source.paths, limits)
    except CorruptHeaderError:
        if source.vendor is not None:
            raise
        return False  # nobody calls it a slide; the opener of pictures says what it is
    with opened as slide:
        size = slide.size
        return (
            slide.vendor == "aperio"
            or len(slide.levels) > 1
            or size.width * size.height > limits.pixels_per_frame
        )
