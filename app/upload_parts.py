"""Many files in few request bodies, without their names.

A body is any number of parts, each the number of a file (uint32), its length in bytes (uint64), both
little-endian, and its bytes. The sender alone knows which name belongs to a number: a path such as
``SMITH_JOHN/CT/IM0001`` names a patient.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from app.errors import UploadIncompleteError, UploadTooLargeError, UploadTooManyError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PartWriter"]

_HEAD: Final = struct.Struct("<IQ")
_MIB: Final = 2**20


class PartWriter:
    """Writes the parts of one body to files named by their numbers; a cut-off file is deleted.

    Parameters
    ----------
    folder : Path
        Existing; its files are those that arrived whole.
    most_files : int
        Numbers are below this.
    room : int
        Bytes that may still arrive, in all.
    """

    def __init__(self, folder: Path, most_files: int, room: int) -> None:
        self.files = 0
        self.bytes = 0
        self._folder = folder
        self._most_files = most_files
        self._room = room
        self._head = b""
        self._path: Path | None = None
        self._stream: BinaryIO | None = None
        self._missing = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None and self._path is not None:
            self._stream.close()
            self._path.unlink(missing_ok=True)
            self._stream = None

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises
        ------
        UploadTooLargeError, UploadTooManyError
            If a head announces more than may still arrive.
        OSError
            If the disk refuses.
        """
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._take(rest) :]

    def finish(self) -> None:
        """Check that the body ended with a whole part.

        Raises
        ------
        UploadIncompleteError
        """
        if self._stream is not None:
            raise UploadIncompleteError(found=self.bytes, expected=self.bytes + self._missing)
        if self._head:
            raise UploadIncompleteError(found=len(self._head), expected=_HEAD.size)

    def _take(self, rest: memoryview) -> int:
        """Use up some of the bytes; returns how many."""
        if self._stream is None:
            used = min(len(rest), _HEAD.size - len(self._head))
            self._head += rest[:used]
            if len(self._head) == _HEAD.size:
                self._begin(*_HEAD.unpack(self._head))
                self._head = b""
            return used
        used = min(len(rest), self._missing)
        self._stream.write(rest[:used])
        self._missing -= used
        self.bytes += used
        self._room -= used
        if not self._missing:
            self._end()
        return used

    def _begin(self, number: int, length: int) -> None:
        if number >= self._most_files:
            raise UploadTooManyError(found=number + 1, limit=self._most_files)
        if length > self._room:
            limit = (self._room + self.bytes) / _MIB
            raise UploadTooLargeError(
                found=f"{(self.bytes + length) / _MIB:.1f} MiB", limit=f"{limit:.1f} MiB"
            )
        self._path = self._folder / str(number)
        # a number that was sent before is the same file, sent again after a lost connection
        self._stream = self._path.open("wb")
        self._missing = length
        if not length:
            self._end()

    def _end(self) -> None:
        assert self._stream is not None  # noqa: S101 - for the type checker: called while a file is open
        self._stream.close()
        self._stream = None
        self.files += 1
