"""Which key opens a data folder, in this process.

What opens it is asked for once, when an encrypted folder is met, and lives in memory only. Keys of parts
are made from the folder's key: one for the database, and in :mod:`viewers.sealed` one for each file.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from app.encryption.envelope import ENVELOPE, Envelope, Secret
from app.encryption.errors import EncryptionHalfDoneError, EncryptionLockedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Keyring", "database_key", "key_of", "keyring"]


class Keyring:
    """Keys of the folders this process has opened; safe to use from several threads."""

    def __init__(self) -> None:
        self._ask: Callable[[Envelope], Secret | None] = lambda _: None
        self._known: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def ask(self, ask: Callable[[Envelope], Secret | None]) -> None:
        """Say where to ask for the key file's content or the passphrase, once it is needed."""
        with self._lock:
            self._ask = ask
            self._known.clear()

    def of(self, folder: Path, *, half_done: bool = False) -> bytes | None:
        """Key of a data folder, 32 bytes; ``None`` for one that is not encrypted.

        Parameters
        ----------
        half_done : bool
            Whether a folder may be halfway between the two.

        Raises
        ------
        WrongKeyError, EncryptionLockedError
            If it is encrypted, and by another key, or none was given.
        EncryptionHalfDoneError
        """
        if not (folder / ENVELOPE).is_file():
            return None
        envelope = Envelope.read(folder)
        if envelope is None:
            return None
        if envelope.state != "on" and not half_done:
            direction = "on" if envelope.state == "turning on" else "off"
            raise EncryptionHalfDoneError(location=folder, direction=direction)
        with self._lock:
            if envelope.wrapped not in self._known:
                secret = self._ask(envelope)
                if secret is None:
                    raise EncryptionLockedError(location=folder)
                self._known[envelope.wrapped] = envelope.open(secret, folder)
            return self._known[envelope.wrapped]


keyring: Final = Keyring()
"""Of this process."""


def key_of(folder: Path) -> bytes | None:
    """Key of a data folder; see :meth:`Keyring.of`."""
    return keyring.of(folder)


def database_key(key: bytes) -> str:
    """Key of the database as SQLCipher is given it: no passphrase, so nothing is derived at each opening."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, b"", b"bimedix2 database").derive(key).hex()
