"""One SQLite file opened with the right library: Python's own, or SQLCipher where its folder is encrypted."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from app.encryption.errors import EncryptionPackageError
from app.encryption.keyring import database_key, key_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["broken", "cipher", "connect", "key_statement", "library_of"]

PACKAGE: Final = "bimedix2-workstation[encryption]"


def cipher() -> Any:
    """Return the module of SQLCipher, which has the names of ``sqlite3``.

    Raises
    ------
    EncryptionPackageError
        If the extra is not installed.
    """
    try:
        from sqlcipher3 import dbapi2
    except ImportError as error:
        raise EncryptionPackageError(command=PACKAGE) from error
    return dbapi2


def key_statement(key: bytes) -> str:
    """First statement of a connection to an encrypted database."""
    return f"PRAGMA key = \"x'{database_key(key)}'\""


def library_of(folder: Path) -> tuple[Any, str | None]:
    """Return the module that opens a folder's database, and the first statement of a connection."""
    key = key_of(folder)
    return (sqlite3, None) if key is None else (cipher(), key_statement(key))


def connect(path: Path, *, new: bool = False, **options: Any) -> Any:
    """Open a database file of a data folder or backup.

    Parameters
    ----------
    new : bool
        Whether it may be made; without that a missing one is an error.
    **options
        Of ``sqlite3.connect``.

    Raises
    ------
    sqlite3.DatabaseError
        Or SQLCipher's error of that name; see :func:`broken`.
    """
    library, first = library_of(path.parent)
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if new else 'rw'}"
    connection = library.connect(uri, uri=True, **options)
    if first is not None:
        connection.execute(first)
    return connection


def broken() -> tuple[type[Exception], ...]:
    """Return what either library raises of a file it cannot read, for ``except``."""
    try:
        return sqlite3.DatabaseError, cipher().DatabaseError
    except EncryptionPackageError:
        return (sqlite3.DatabaseError,)
