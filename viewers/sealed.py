"""Files encrypted on the disk, of which any part can be read without the rest.

A sealed file ``NAME.sealed`` holds the content of ``NAME`` in blocks of 256 KiB, each under AES-256-GCM. Its
key is made from the store's key and a random salt of its own by HKDF, so a block's number can be its nonce.
Every block is bound to its place and to the length of the whole: blocks that were changed, exchanged,
left out or cut off are found when they are read.

    "BMX2SEAL" | version, uint32 | bytes of content, uint64 | salt, 16 bytes | blocks, each with a tag of 16

References
----------
NIST SP 800-38D (GCM); RFC 5869 (HKDF).
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from viewers.errors import StoredImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SUFFIX", "SealedFile", "is_there", "open_blocks", "read_whole", "seal", "sealed_name", "unseal"]

SUFFIX: Final = ".sealed"
_HEAD: Final = struct.Struct("<8sIQ16s")
_MAGIC, _VERSION = b"BMX2SEAL", 1
_BLOCK: Final = 1 << 18
_TAG: Final = 16


class SealedFile:
    """One sealed file, open; may be read from several threads at once.

    Parameters
    ----------
    path : Path
        With the suffix.
    key : bytes
        Of the store, 32 bytes.

    Raises
    ------
    StoredImageError
        If it is no sealed file, or one of another key.
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._name = path.name
        self._stream = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        try:
            self._begin(key)
        except BaseException:
            self._stream.close()
            raise

    def _begin(self, key: bytes) -> None:
        self._head = self._stream.read(_HEAD.size) or b""
        magic, version, self.size, salt = _HEAD.unpack(self._head.ljust(_HEAD.size, b"\0"))
        if (magic, version) != (_MAGIC, _VERSION):
            raise StoredImageError(reason=f"{self._name}: no sealed file")
        self._cipher = AESGCM(_key_of_file(key, salt))
        self._block = lru_cache(maxsize=2)(self._decrypted)
        self._block(0)  # another key is told at once

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer at the end of the file.

        Raises
        ------
        StoredImageError
            If a block is not as it was written.
        """
        stop = min(offset + length, self.size)
        if stop <= offset:
            return b""
        first, last = offset // _BLOCK, (stop - 1) // _BLOCK
        joined = b"".join(self._block(number) for number in range(first, last + 1))
        return joined[offset - first * _BLOCK : stop - first * _BLOCK]

    def blocks(self) -> Iterator[bytes]:
        """All of it, block by block."""
        for number in range(_count(self.size)):
            yield self._decrypted(number)

    def read_into(self, buffer: memoryview, offset: int = 0) -> None:
        """Fill a buffer with what stands from ``offset`` on; nothing is held twice."""
        at = 0
        while at < len(buffer):
            number, inside = divmod(offset + at, _BLOCK)
            piece = memoryview(self._decrypted(number))[inside : inside + len(buffer) - at]
            buffer[at : at + len(piece)] = piece
            at += len(piece)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _decrypted(self, number: int) -> bytes:
        length = min(_BLOCK, self.size - number * _BLOCK)
        place = _HEAD.size + number * (_BLOCK + _TAG)
        data = self._read(place, max(length, 0) + _TAG)
        try:
            return self._cipher.decrypt(_nonce(number), data, self._head)
        except InvalidTag as error:
            raise StoredImageError(reason=f"{self._name}: block {number}, or another key") from error

    def _read(self, place: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._stream.fileno(), length, place)
        with self._lock:
            self._stream.seek(place)
            return self._stream.read(length) or b""


def sealed_name(path: Path) -> Path:
    """Name of the sealed file that stands for a plain one."""
    return path.with_name(path.name + SUFFIX)


def is_there(path: Path) -> bool:
    """Whether a file is there, plain or sealed."""
    return path.is_file() or sealed_name(path).is_file()


def read_whole(path: Path, key: bytes | None) -> bytes:
    """Content of a small file, sealed where the store has a key and it is sealed.

    Raises
    ------
    StoredImageError
        If it is sealed and cannot be opened.
    OSError
    """
    return b"".join(open_blocks(path, key))


def open_blocks(path: Path, key: bytes | None) -> Iterator[bytes]:
    """Content of a file block by block, plain or sealed; raises as :func:`read_whole`."""
    if key is not None and sealed_name(path).is_file():
        with SealedFile(sealed_name(path), key) as file:
            yield from file.blocks()
        return
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


def seal(source: Path, target: Path, key: bytes) -> None:
    """Write a sealed copy of a file; it appears whole, and on the disk, or not at all.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    size = source.stat().st_size
    head = _HEAD.pack(_MAGIC, _VERSION, size, secrets.token_bytes(16))
    cipher = AESGCM(_key_of_file(key, head[-16:]))
    with source.open("rb") as reading, _Appearing(target) as writing:
        writing.write(head)
        for number in range(_count(size)):
            data = reading.read(min(_BLOCK, size - number * _BLOCK))
            writing.write(cipher.encrypt(_nonce(number), data, head))


def unseal(source: Path, target: Path, key: bytes) -> None:
    """Write the content of a sealed file; it appears whole, and on the disk, or not at all.

    Raises
    ------
    StoredImageError
        If it is damaged, or of another key.
    OSError
        If the disk refuses.
    """
    with SealedFile(source, key) as reading, _Appearing(target) as writing:
        for block in reading.blocks():
            writing.write(block)


class _Appearing:
    """A file that stands under its name only once all of it is on the disk."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f".{target.name}.part")

    def __enter__(self) -> Self:
        self._stream = open(self._part, "wb", opener=_private)  # an opener; closed below
        return self

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stream:
            if kind is None:
                self._stream.flush()
                os.fsync(self._stream.fileno())
        if kind is None:
            self._part.replace(self._target)
        with suppress(FileNotFoundError):
            self._part.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _count(size: int) -> int:
    """Blocks of a content; an empty one has an empty block, which proves the key all the same."""
    return max(-(-size // _BLOCK), 1)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _key_of_file(key: bytes, salt: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, b"bimedix2 file").derive(key)
