"""Files of a folder or a zip, found and taken out within limits; no name decides where anything is written.

Entries of a zip are streamed to files with generated names, so that no name in an archive can point
anywhere, and what is counted is what was really read, not what the archive says of itself.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from viewers.errors import ArchiveError, DecompressionBombError, TooLargeError
from viewers.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from viewers.limits import Limits

__all__ = ["FileWalk", "FoundFile"]

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_CHUNK: Final = 2**20
_NAME: Final = 240
"""Characters of a name, its end: archives may name an entry with 65535."""
_SMALL: Final = 64 * 2**20
"""Bytes below which the ratio is not looked at: nothing of this size does harm."""
_DIRECTORY_BYTES: Final = 64 * 2**20
"""Of a zip's central directory, which the library reads as a whole into some ten times the memory."""
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # encrypted entries
    NotImplementedError,
    EOFError,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    UnicodeError,
)
"""What zipfile raises on damaged archives."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read: its number in reading order, from 1, and where it is."""

    index: int
    path: Path = field(repr=False)
    name: str = field(default="", repr=False)
    """What its owner calls it, with the archive's name in front: for a message on the owner's screen, never
    for a log or a record, since names of files name patients."""


class FileWalk:
    """Iterate over the files of folders, zips and single files.

    Parameters
    ----------
    source : Path or sequence of Path
        Symbolic links below a folder are not followed.
    labels : sequence of str
        What their owner calls the sources, where the paths do not say so.
    scratch : Path
        Existing folder that entries of archives are written to; the caller deletes it.
    limits : Limits

    Raises
    ------
    ArchiveError
        If the only source is a zip that cannot be read.
    TooLargeError, DecompressionBombError
        When a total is exceeded: files, bytes taken out, or bytes for each byte of the archive.
    """

    def __init__(
        self, source: Path | Sequence[Path], scratch: Path, limits: Limits, labels: Sequence[str] = ()
    ) -> None:
        self.findings: list[Finding] = []
        self.names: list[str] = []
        """Of the file each finding is about, empty when it is about none; see :class:`FoundFile`."""
        self.total = 0
        """Files known of so far, for progress; grows when an archive is opened."""
        self._sources = (source,) if isinstance(source, Path) else tuple(source)
        self._labels = [_printable(label) for label in labels[: len(self._sources)]]
        self._scratch, self._limits = scratch, limits
        self._count = self._made = self._taken_out = self._too_deep = 0

    def __iter__(self) -> Iterator[FoundFile]:
        """Yield files in the order of their names, those of an archive in its own order."""
        found = [
            FoundFile(0, path, name)
            for source, label in zip_longest(self._sources, self._labels)
            for path, name in _paths(source, self._limits, label)
        ]
        self.total = len(found)
        for item in found:
            path = item.path
            yield from self._look(item, 0, path.stat().st_size if path.exists() else 0)
        if self._too_deep:
            self._notice(finding("archive_too_deep", count=self._too_deep), "")

    def _look(self, item: FoundFile, depth: int, archive_bytes: int) -> Iterator[FoundFile]:
        if not _is_zip(item.path):
            self._count += 1
            self._check("files", self._count, self._limits.archive_entries)
            yield replace(item, index=self._count)
        elif depth >= self._limits.archive_depth:
            self._too_deep += 1
        else:
            yield from self._entries(item, depth, archive_bytes)

    def _entries(self, item: FoundFile, depth: int, archive_bytes: int) -> Iterator[FoundFile]:
        try:
            with item.path.open("rb") as stream, _opened(stream) as archive:
                members = [info for info in archive.infolist() if not info.is_dir()]
                self._check("files", self._count + len(members), self._limits.archive_entries)
                self.total += len(members) - 1
                for number, info in enumerate(members, 1):
                    inner = replace(item, index=number, name=_printable(info.filename, item.name))
                    taken = self._take_out(archive, info, inner, archive_bytes)
                    if taken is not None:
                        yield from self._look(replace(inner, path=taken), depth + 1, archive_bytes)
        except _DAMAGED as error:
            if (item.path,) == self._sources:
                raise ArchiveError(reason=type(error).__name__) from error
            self._notice(
                finding("entry_unreadable", index=self._count + 1, reason=type(error).__name__), item.name
            )

    def _notice(self, found: Finding, name: str) -> None:
        self.findings.append(found)
        self.names.append(name)

    def _take_out(
        self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, item: FoundFile, archive_bytes: int
    ) -> Path | None:
        """Write one entry to a file with a generated name; ``None`` when it cannot be read."""
        self._made += 1
        made = self._scratch / f"{self._made:06d}"
        try:
            with archive.open(info) as source, made.open("xb") as target:
                self._copy(source, target, archive_bytes)
        except _DAMAGED as error:
            made.unlink(missing_ok=True)
            self._notice(
                finding("entry_unreadable", index=item.index, reason=type(error).__name__), item.name
            )
            return None
        return made

    def _copy(self, source: IO[bytes], target: IO[bytes], archive_bytes: int) -> None:
        limits, written = self._limits, 0
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            self._taken_out += len(chunk)
            self._check("bytes of an entry", written, limits.file_bytes)
            self._check("bytes of the archive", self._taken_out, limits.archive_bytes)
            if self._taken_out > max(_SMALL, limits.archive_ratio * archive_bytes):
                ratio = self._taken_out // max(archive_bytes, 1)
                raise DecompressionBombError(
                    quantity="bytes for each byte", found=f"> {ratio}", limit=limits.archive_ratio
                )
            target.write(chunk)

    @staticmethod
    def _check(quantity: str, found: int, limit: int) -> None:
        if found > limit:
            raise TooLargeError(quantity=quantity, found=f"> {limit}", limit=limit)


def _paths(source: Path, limits: Limits, label: str | None) -> list[tuple[Path, str]]:
    """Files of one source with their names below it."""
    source.stat()  # a source that is not there is an error of the operating system, not a bad file
    if not source.is_dir():
        return [(source, _printable(source.name) if label is None else label)]
    return [
        (path, _printable(path.relative_to(source).as_posix(), label or ""))
        for path in _below(source, limits)
    ]


def _printable(name: str, outer: str = "") -> str:
    """Name on one line and not endless, with that of what it is in before it."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return (f"{outer}/{shown}" if outer else shown)[-_NAME:]


def _below(folder: Path, limits: Limits) -> list[Path]:
    """Files below a folder, sorted by name; links are left alone, since they may point outside."""
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


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) in _ZIP
    except OSError:
        return False


@contextmanager
def _opened(stream: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    size = _directory_bytes(stream)
    if size > _DIRECTORY_BYTES:
        raise TooLargeError(quantity="bytes of the directory", found=size, limit=_DIRECTORY_BYTES)
    with zipfile.ZipFile(stream) as archive:
        yield archive


def _directory_bytes(stream: IO[bytes]) -> int:
    """Bytes an archive says its central directory has (APPNOTE 4.3.14 and 4.3.16)."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - 65_536 - 98))
    tail = stream.read()
    stream.seek(0)
    plain, large = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    found = struct.unpack_from("<L", tail, plain + 12)[0] if 0 <= plain <= len(tail) - 22 else 0
    if 0 <= large <= len(tail) - 56:
        wide: int = struct.unpack_from("<Q", tail, large + 40)[0]
        return wide
    return 0 if found == 0xFFFFFFFF else int(found)
