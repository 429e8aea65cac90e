"""The files of one slide, and what their first bytes and names say about them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from viewers.errors import NotAnImageError, TooLargeError
from viewers.sniff import has_preamble, sniff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viewers.limits import Limits

__all__ = ["MAIN", "Source", "find_source"]

_HEAD: Final = 4096
MAIN: Final = (".mrxs", ".vms", ".vmu")
"""Ends of names of files that name others beside them."""


@dataclass(frozen=True)
class Source:
    """Files that belong together, the one to open first."""

    paths: tuple[Path, ...] = field(repr=False)

    @cached_property
    def head(self) -> bytes:
        """First bytes of the first file."""
        with self.paths[0].open("rb") as stream:
            return stream.read(_HEAD)

    @cached_property
    def is_dicom(self) -> bool:
        """Whether the first file begins as DICOM does."""
        return has_preamble(self.head)

    @cached_property
    def vendor(self) -> str | None:
        """OpenSlide's name for the kind of slide; ``None`` when it knows none."""
        import openslide

        vendor: str | None = openslide.OpenSlide.detect_format(self.paths[0])
        return vendor

    @property
    def sniffed(self) -> str:
        """What the first file is, for an error."""
        return sniff(self.head)


def find_source(given: Path | Sequence[Path], limits: Limits) -> Source:
    """Tell which of the files given is opened.

    Parameters
    ----------
    given : Path or sequence of Path
        A file, a folder (everything below it, links left alone), or the files of one slide.

    Raises
    ------
    NotAnImageError
        If there is no file.
    TooLargeError
        If there are too many.
    OSError
        If a file cannot be looked at.
    """
    several = [given] if isinstance(given, Path) else list(given)
    paths = [path for item in several for path in (_below(item, limits) if item.is_dir() else [item])]
    if not paths:
        raise NotAnImageError(found="0 files")
    main = next((path for path in paths if path.suffix.lower() in MAIN), None)
    if main is not None:
        return Source((main, *(path for path in paths if path != main)))
    dicom = [path for path in paths if Source((path,)).is_dicom] if len(paths) > 1 else []
    return Source(tuple(dicom or paths))


def _below(folder: Path, limits: Limits) -> list[Path]:
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        paths = (Path(parent) / name for name in sorted(names))
        found += [path for path in paths if path.is_file() and not path.is_symlink()]
        if len(found) > limits.archive_entries:
            raise TooLargeError(
                quantity="files", found=f"> {limits.archive_entries}", limit=limits.archive_entries
            )
    return found
