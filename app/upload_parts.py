"""Many files in few request bodies, without their names.

A body is any number of parts, each the number of a file (uint32), its length in bytes (uint64), both
little-endian, and its bytes. The sender alone knows which name belongs to a number: a path such as
``SMITH_JOHN/CT/IM0001`` names a patient.
"""

from __future__ import annotations

import secrets
import struct
import threading
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from app.errors import UploadIncompleteError, UploadTooLargeError, UploadTooManyError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PartWriter", "UploadRoom"]

_HEAD: Final = struct.Struct("<IQ")
_MIB: Final = 2**20


class UploadRoom:
    """What may still arrive of an upload, whichever of its bodies brings it.

    Room is taken when a part is announced, so that bodies that come at once share it, and given back when
    the part was cut off. A number that is sent again, after a lost connection, replaces what it held.

    Parameters
    ----------
    most_bytes : int
        Of all files.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: dict[int, int] = {}
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def files(self) -> int:
        """How many files are there whole."""
        return len(self._held)

    @property
    def bytes(self) -> int:
        """Bytes of the files that are there whole, and of those on their way."""
        return self._taken

    def take(self, number: int, length: int, file: Path) -> None:
        """Take room for a part; a file of its number that is there already goes.

        Raises
        ------
        UploadTooLargeError
            If there is not as much.
        """
        with self._lock:
            others = self._taken - self._held.get(number, 0)
            if others + length > self._most:
                raise UploadTooLargeError(
                    found=f"{(others + length) / _MIB:.1f} MiB", limit=f"{self._most / _MIB:.1f} MiB"
                )
            if self._held.pop(number, None) is not None:
                file.unlink(missing_ok=True)
            self._taken = others + length

    def give_back(self, length: int) -> None:
        """Give back what was taken for a part that was cut off."""
        with self._lock:
            self._taken -= length

    def arrived(self, number: int, length: int, part: Path, file: Path) -> None:
        """Put a whole part in the place of its file."""
        with self._lock:
            part.replace(file)
            self._taken -= self._held.get(number, 0)
            self._held[number] = length


class PartWriter:
    """Writes the parts of one body to files named by their numbers; a cut-off file is deleted.

    Parameters
    ----------
    folder : Path
        Existing; its files are those that arrived whole. One on its way lies beside it.
    most_files : int
        Numbers are below this.
    room : UploadRoom
        Of the upload, shared by its bodies.
    """

    def __init__(self, folder: Path, most_files: int, room: UploadRoom) -> None:
        self.bytes = 0
        self._folder = folder
        self._most_files = most_files
        self._room = room
        self._head = b""
        self._path: Path | None = None
        self._stream: BinaryIO | None = None
        self._number = self._length = self._missing = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None and self._path is not None:
            self._stream.close()
            self._path.unlink(missing_ok=True)
            self._stream = None
            self._room.give_back(self._length)

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
        if not self._missing:
            self._end()
        return used

    def _begin(self, number: int, length: int) -> None:
        if number >= self._most_files:
            raise UploadTooManyError(found=number + 1, limit=self._most_files)
        self._room.take(number, length, self._folder / str(number))
        self._number, self._length, self._missing = number, length, length
        self._path = self._folder.with_name(f"{self._folder.name}.{number}.{secrets.token_hex(8)}")
        try:
            self._stream = self._path.open("xb")
        except OSError:
            self._room.give_back(length)
            raise
        if not length:
            self._end()

    def _end(self) -> None:
        assert self._stream is not None  # noqa: S101 - for the type checker: called while a file is open
        assert self._path is not None  # noqa: S101
        self._stream.close()
        self._room.arrived(self._number, self._length, self._path, self._folder / str(self._number))
        self._stream = None
