"""Turning the encryption of a data folder on and off; each step can be interrupted and done again.

The folder says in ``encryption-key.json`` where it stands, and the application refuses one that is halfway.
The database is copied into a new file, which then takes the old one's place; each file of pixels likewise. A
file in clear text is overwritten before it is deleted. On flash memory, on file systems that write elsewhere
and in their snapshots old bytes can survive that: README says so.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from app.encryption.envelope import ENVELOPE, Envelope
from app.encryption.errors import EncryptionError
from app.encryption.keyring import database_key, keyring
from app.history.lock import UseLock, lock_file
from app.history.sqlite_file import cipher
from viewers.sealed import SUFFIX, SealedFile, seal, sealed_name, unseal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from app.encryption.envelope import Secret

__all__ = ["rekey", "turn_off", "turn_on"]

_CLEAR: Final = b"SQLite format 3\0"
_CLEAR_SUFFIX: Final = ".clear"
_BLOCK: Final = bytes(1 << 20)


def turn_on(folder: Path, database: Path, images: Path, secret: Secret, tell: Callable[[int], None]) -> int:
    """Encrypt a data folder that no process uses.

    Parameters
    ----------
    secret : Secret
        What will open it; of a folder that is halfway, what was given first.
    tell : callable
        Called with the number of images done.

    Returns
    -------
    int
        Files that had to stay in clear text, because OpenSlide reads them by itself.

    Raises
    ------
    EncryptionError
        If it is encrypted already.
    WrongKeyError, HistoryBusyError, OSError
    """
    cipher()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with UseLock(lock_file(database), alone=True):
        envelope = Envelope.read(folder)
        if envelope is None:
            envelope = Envelope.around(secrets.token_bytes(32), secret, "turning on")
            envelope.write(folder)
        elif envelope.state != "turning on":
            raise EncryptionError(reason=f"{folder} is encrypted already ({envelope.state})")
        key = envelope.open(secret, folder)
        _convert_database(database, key, encrypt=True)
        left = 0
        for done, place in enumerate(_folders(images), 1):
            for path in place.glob(f".*{_CLEAR_SUFFIX}"):
                _wipe(path)  # of an attempt that was interrupted there
            for path in _files(place):
                if path.suffix != SUFFIX:
                    _seal_in_place(path, key)
            left += sum(path.is_file() for path in (place / "original").rglob("*"))
            tell(done)
        shutil.rmtree(folder / "uploads", ignore_errors=True)
        replace(envelope, state="on").write(folder)
    return left


def turn_off(folder: Path, database: Path, images: Path, tell: Callable[[int], None]) -> None:
    """Decrypt a data folder that no process uses; raises as :func:`turn_on`."""
    cipher()
    with UseLock(lock_file(database), alone=True):
        envelope = Envelope.read(folder)
        if envelope is None:
            raise EncryptionError(reason=f"{folder} is not encrypted")
        if envelope.state == "turning on":
            raise EncryptionError(reason=f"turning it on was interrupted in {folder}; finish that first")
        key = keyring.of(folder, half_done=True)
        if key is None:
            raise EncryptionError(reason=f"{folder} is not encrypted")
        replace(envelope, state="turning off").write(folder)
        _convert_database(database, key, encrypt=False)
        for done, place in enumerate(_folders(images), 1):
            for path in _files(place):
                if path.suffix == SUFFIX:
                    unseal(path, path.with_suffix(""), key)
                    path.unlink()
            tell(done)
        (folder / ENVELOPE).unlink()


def rekey(folder: Path, new: Secret) -> None:
    """Let another key file or passphrase open an encrypted folder, and the one before no longer.

    What was written stays as it is: a copy of the old ``encryption-key.json`` with the old key file still
    opens it. Whoever fears that turns the encryption off and on again, which takes a new key for the data.

    Raises
    ------
    EncryptionError
        If the folder is not encrypted.
    WrongKeyError, EncryptionLockedError, EncryptionHalfDoneError
    """
    key = keyring.of(folder)
    if key is None:
        raise EncryptionError(reason=f"{folder} is not encrypted")
    Envelope.around(key, new, "on").write(folder)


def _convert_database(path: Path, key: bytes, *, encrypt: bool) -> None:
    """Put a converted copy in the place of a database; nothing is done where it is converted already."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb") as stream:
        is_clear = stream.read(len(_CLEAR)) == _CLEAR
    aside = path.with_name(f".{path.name}{_CLEAR_SUFFIX}")
    if is_clear != encrypt:
        if encrypt and aside.is_file():
            _wipe(aside)  # of an attempt that was interrupted there
        return
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    secret = f"x'{database_key(key)}'"
    with closing(cipher().connect(str(path), isolation_level=None)) as connection:
        if not encrypt:
            connection.execute(f'PRAGMA key = "{secret}"')
        connection.execute("PRAGMA busy_timeout=15000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")  # all of it is in the one file that is replaced
        connection.execute("ATTACH DATABASE ? AS other KEY ?", (str(part), secret if encrypt else ""))
        connection.execute("SELECT sqlcipher_export('other')").fetchone()
        connection.execute("DETACH DATABASE other")
    _check_copy(part, f'PRAGMA key = "{secret}"' if encrypt else None)
    if encrypt:
        aside.unlink(missing_ok=True)  # another name of the file that is still in use
        os.link(path, aside)
        part.replace(path)
        _wipe(aside)
    else:
        part.replace(path)
    _flush_folder(path.parent)


def _check_copy(path: Path, first: str | None) -> None:
    """Read all of a converted copy before it takes the original's place, and have it on the disk."""
    with closing(cipher().connect(str(path), isolation_level=None)) as connection:
        if first is not None:
            connection.execute(first)
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise EncryptionError(reason=f"the copy of the database is damaged: {found}")
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _seal_in_place(path: Path, key: bytes) -> None:
    """Seal one file of pixels; the plain one goes once the sealed one can be read."""
    seal(path, sealed_name(path), key)
    with SealedFile(sealed_name(path), key) as written:
        if sum(len(block) for block in written.blocks()) != path.stat().st_size:
            raise EncryptionError(reason=f"{path.name} changed while it was read")
    # under another name first: a file half overwritten must never be taken for the content
    aside = path.with_name(f".{path.name}{_CLEAR_SUFFIX}")
    path.replace(aside)
    _wipe(aside)


def _wipe(path: Path) -> None:
    with path.open("r+b") as stream:
        left = path.stat().st_size
        while left > 0:
            left -= stream.write(_BLOCK[: min(left, len(_BLOCK))])
        stream.flush()
        os.fsync(stream.fileno())
    path.unlink()


def _folders(images: Path) -> Iterator[Path]:
    if images.is_dir():
        yield from (place for place in sorted(images.iterdir()) if place.is_dir())


def _files(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
