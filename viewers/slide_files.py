"""Uploaded files of one slide put where they find each other: folders, zips, and files sent one by one.

Formats of several files name each other, so names matter here as nowhere else. A name is taken apart at its
slashes; a piece that is not plain letters, digits, spaces, dots and dashes is replaced by one made from it,
and the result is a place inside one new folder, always.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from viewers.archive import FileWalk
from viewers.errors import TooLargeError
from viewers.openers.wsm import WSM
from viewers.sniff import has_preamble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viewers.limits import Limits

__all__ = ["gather", "may_be_slide"]

_PLAIN: Final = re.compile(r"[\w()+=,@-][\w .()+=,@-]{0,99}")
_DEPTH: Final = 8
"""Folders inside each other that are kept; deeper ones are joined into one piece."""
_HEAD: Final = 64 * 1024
"""Bytes in which the kind of a DICOM object is found: it stands in the file meta information."""
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ZIP: Final = b"PK\x03\x04"
_SUFFIXES: Final = frozenset(
    {".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu", ".zvi", ".czi"}
)
_ZIP_HEAD: Final = 2**20
"""Bytes of a zip in which a slide's name or kind is looked for."""


def may_be_slide(path: Path | str, name: str = "") -> bool:
    """Whether a file is worth opening as a slide, or as part of one; a cheap look that decodes nothing.

    Parameters
    ----------
    name : str
        What its owner calls it, if the path does not say so.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with Path(path).open("rb") as stream:
        head = stream.read(_HEAD)
        if head.startswith(_ZIP):
            return _zip_may_hold_slide(head + stream.read(_ZIP_HEAD - len(head)))
    if has_preamble(head):  # first: the preamble before it may be that of a TIFF
        return WSM.encode() in head
    if head.startswith(_TIFF):
        return True
    return Path(name or path).suffix.lower() in _SUFFIXES


def _zip_may_hold_slide(start: bytes) -> bool:
    """Look at the names and first bytes of the entries that begin a zip (APPNOTE.TXT 4.3.7)."""
    at = 0
    while start[at : at + 4] == _ZIP and at + 30 <= len(start):
        method, size = struct.unpack_from("<8xH8xL", start, at)
        name, extra = struct.unpack_from("<26xHH", start, at)
        first = at + 30 + name + extra
        if Path(start[at + 30 : at + 30 + name].decode("utf-8", "replace")).suffix.lower() in _SUFFIXES:
            return True
        if WSM.encode() in _head_of_entry(start[first : first + _HEAD], method):
            return True
        at = first + size
    return False


def _head_of_entry(raw: bytes, method: int) -> bytes:
    if method != zipfile.ZIP_DEFLATED:
        return raw
    try:
        return zlib.decompressobj(-15).decompress(raw, _HEAD)
    except zlib.error:
        return b""


def gather(
    sources: Path | Sequence[Path], folder: Path, limits: Limits, names: Sequence[str] = ()
) -> list[Path]:
    """Put all files of folders, zips and single files below one empty folder; returns where they are.

    Files are linked where the system can, else copied; those of zips are moved. Nothing is written outside
    ``folder``.

    Parameters
    ----------
    names : sequence of str
        What their owner calls the sources, one for each, with folders; for files sent one by one.

    Raises
    ------
    OpenError
        If a zip cannot be read, or a total of the limits is exceeded.
    OSError
        If a file cannot be read or written.
    """
    several = [sources] if isinstance(sources, Path) else list(sources)
    scratch, tree = folder / "taken-out", folder / "slide"
    scratch.mkdir()
    tree.mkdir()
    placed: list[Path] = []
    total = 0
    wide = replace(limits, file_bytes=limits.slide_bytes, archive_bytes=limits.slide_bytes)
    for found in FileWalk(several, scratch, wide, labels=names):
        total += found.path.stat().st_size
        if total > limits.slide_bytes:
            raise TooLargeError(quantity="bytes", found=total, limit=limits.slide_bytes)
        target = tree.joinpath(*_pieces(found.name or str(found.index)))
        if target.exists():
            target = tree / f"{found.index:06d}"
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(found.path, target, own=scratch in found.path.parents)
        placed.append(target)
    return placed


def _pieces(name: str) -> list[str]:
    pieces = [piece for piece in re.split(r"[/\\]", name) if piece]
    pieces = ["-".join(pieces[:-_DEPTH]), *pieces[-_DEPTH:]] if len(pieces) > _DEPTH else pieces
    return [_plain(piece) for piece in pieces] or ["file"]


def _plain(piece: str) -> str:
    if _PLAIN.fullmatch(piece) and not piece.endswith((".", " ")):
        return piece
    suffix = Path(piece).suffix.lower()
    made = hashlib.sha256(piece.removesuffix(suffix).encode("utf-8", "replace")).hexdigest()[:16]
    return made + (suffix if suffix in _SUFFIXES else "")


def _place(path: Path, target: Path, *, own: bool) -> None:
    if own:
        path.rename(target)
        return
    try:
        target.hardlink_to(path.resolve())
    except OSError:
        shutil.copyfile(path, target)
