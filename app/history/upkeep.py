"""Keeping a history for years: backup while it is used, restoring, checking, compacting.

A backup is always a folder with an SQLite history and its images, wherever the history itself is; so a
history also moves from a file to a server and back. That of an encrypted folder is encrypted by the same key.
"""

from __future__ import annotations

import getpass
import os
import shutil
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.encryption.envelope import ENVELOPE
from app.encryption.keyring import key_of
from app.errors import (
    BackupExistsError,
    BackupUnusableError,
    HistoryExistsError,
    StorageError,
    StorageUnavailableError,
)
from app.history import rows
from app.history.audit import append
from app.history.copying import copy_rows, is_empty
from app.history.database import Database
from app.history.lock import UseLock, lock_file
from app.history.sqlite_file import broken, connect
from app.history.store import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from app.history.audit import AuditHead, BrokenLink

__all__ = ["Health", "back_up", "compact", "examine", "restore"]

DATABASE: Final = "history.sqlite3"
IMAGES: Final = "images"


@dataclass(frozen=True, slots=True)
class Health:
    """What a check of a history found."""

    problems: tuple[str, ...]
    """What SQLite says about a damaged file; empty when there is nothing to say."""
    broken: BrokenLink | None
    """First entry of the record that is not as it was written."""
    head: AuditHead


def back_up(
    database: Path | str,
    images_folder: Path,
    destination: Path,
    files: AbstractContextManager[object] | None = None,
) -> int:
    """Copy a history, at a path or URL, with its images into a new folder, while the application uses it.

    The folder appears whole or not at all, readable by its user alone.

    Parameters
    ----------
    files : context manager, optional
        Held for each image while it is copied, so that it is not deleted halfway.

    Returns
    -------
    int
        Images copied.

    Raises
    ------
    BackupExistsError
        If something is at the destination.
    BackupUnusableError
        If there is no history to copy.
    """
    if destination.exists():
        raise BackupExistsError(location=destination)
    if isinstance(database, Path) and not database.is_file():
        raise BackupUnusableError(location=database, reason="there is no history")
    part = destination.with_name(f".{destination.name}.{rows.new_id()}")
    part.mkdir(parents=True, mode=0o700)
    try:
        _copy_envelope(images_folder.parent, part)
        _record_copy(database)
        if isinstance(database, Path):
            _copy_database(database, part / DATABASE)
        else:
            _copy_rows(database, part / DATABASE)
            _one_file(part / DATABASE)
        copied = _copy_images(part / DATABASE, images_folder, part / IMAGES, files or nullcontext())
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return copied


def restore(
    source: Path,
    folder: Path,
    *,
    overwrite: bool = False,
    url: str | None = None,
    on_broken: Callable[[BrokenLink], None] = lambda _link: None,
) -> Path | None:
    """Put a backup in the place of a data folder's history; the application must not run meanwhile.

    With a URL the rows go into the history there, which must be empty; only the images that are in the
    folder are moved aside.

    The backup is checked, and brought to today's schema, before anything is touched. One whose record is not
    as it was written is put in place all the same, since there may be no other; it is told.

    Parameters
    ----------
    on_broken : callable
        Given the first place where the backup is not what was written, once it is in place.

    Returns
    -------
    Path or None
        Where the history that was there has been moved; ``None`` if there was none.

    Raises
    ------
    BackupUnusableError
        If the backup is damaged or none.
    HistoryExistsError
        If there is a history and it may not be overwritten.
    HistoryBusyError
        If a process has it open.
    """
    if not (source / DATABASE).is_file():
        raise BackupUnusableError(location=source, reason="there is no backup")
    there = [*folder.glob(f"{DATABASE}*"), *folder.glob(ENVELOPE)]
    if (folder / IMAGES).is_dir() and any((folder / IMAGES).iterdir()):
        there.append(folder / IMAGES)
    if there and not overwrite:
        raise HistoryExistsError(location=folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with UseLock(lock_file(folder / DATABASE), alone=True):
        aside, changed = _restore(source, folder, there, url)
    if changed is not None:
        on_broken(changed)
    return aside


def _restore(
    source: Path, folder: Path, there: list[Path], url: str | None
) -> tuple[Path | None, BrokenLink | None]:
    part = folder / f".restore-{rows.new_id()}"
    part.mkdir(mode=0o700)
    try:
        _copy_envelope(source, part)
        _copy_database(source / DATABASE, part / DATABASE)
        _copy_images(part / DATABASE, source / IMAGES, part / IMAGES, nullcontext())
        changed = _check(part / DATABASE, source)
        if url is not None:
            _copy_rows(part / DATABASE, url)
        aside = _move_aside(there, folder)
        shutil.rmtree(folder / IMAGES, ignore_errors=True)  # an empty one
        (part / IMAGES).rename(folder / IMAGES)
        if (part / ENVELOPE).is_file():
            (part / ENVELOPE).rename(folder / ENVELOPE)
        if url is None:
            (part / DATABASE).rename(folder / DATABASE)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return aside, changed


def examine(path: Path | str, kept: AuditHead | None = None) -> Health:
    """Check a history: the file, the index of the search, and the record of who did what.

    Parameters
    ----------
    kept : AuditHead, optional
        The newest entry of an earlier check, as it was kept elsewhere.
    """
    problems = _file_problems(path) if isinstance(path, Path) else []
    with HistoryStore.open(path) as store:
        try:
            store._database.check_index()  # noqa: SLF001  # parts of one package
        except StorageError as error:
            problems.append(str(error))
        return Health(tuple(problems), store.verify(kept=kept), store.head())


def compact(path: Path | str) -> tuple[int, int]:
    """Give back the room of what was deleted; returns the bytes before and after."""
    if isinstance(path, str):
        with HistoryStore.open(path) as store:
            return store._database.vacuum()  # noqa: SLF001  # parts of one package
    before = path.stat().st_size
    with HistoryStore.open(path) as store:
        store._database.sweep()  # noqa: SLF001  # parts of one package
    with closing(connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, path.stat().st_size


def _copy_database(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_RDWR, 0o600))
    try:
        with (
            closing(connect(source)) as reading,
            closing(connect(target, new=True)) as writing,
        ):
            reading.execute("PRAGMA busy_timeout=15000")
            reading.backup(writing)  # in one step: begun anew at every write, it might never end
            writing.execute("PRAGMA journal_mode=DELETE")  # one file, that can be moved anywhere
    except broken() as error:
        raise BackupUnusableError(location=source, reason=str(error)) from error


def _record_copy(database: Path | str) -> None:
    """Note in the record that everything is about to leave, and by whom of the system; the copy has it too.

    A history of an earlier version is copied as it is, which is what a copy before an update is for; one that
    cannot be written is told by the copying itself.
    """
    try:
        who = getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as in a container
        who = ""
    with suppress(StorageUnavailableError), closing(Database.open(database, as_it_is=True)) as opened:
        if opened.is_newest:
            with opened.write() as connection:
                append(connection, "command line", "backed_up", who[:128])


def _copy_envelope(source: Path, target: Path) -> None:
    """Give a copy of an encrypted folder its key, which the same key file or passphrase opens."""
    if (source / ENVELOPE).is_file():
        key_of(source)  # whoever cannot open it, or finds it halfway, copies nothing
        shutil.copyfile(source / ENVELOPE, target / ENVELOPE)


def _copy_rows(source: Path | str, target: Path | str) -> None:
    with HistoryStore.open(source) as reading, HistoryStore.open(target) as writing:
        database = writing._database  # noqa: SLF001  # parts of one package
        if not is_empty(database):
            raise HistoryExistsError(location=database.location)
        copy_rows(reading._database, database)  # noqa: SLF001


def _one_file(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    lock_file(path).unlink(missing_ok=True)


def _copy_images(database: Path, source: Path, target: Path, files: AbstractContextManager[object]) -> int:
    """Copy the images a database speaks of; one deleted since the copy of the database is not there."""
    target.mkdir(mode=0o700)
    with closing(connect(database)) as connection:
        try:
            digests = [row[0] for row in connection.execute("SELECT DISTINCT digest FROM images")]
        except broken() as error:
            raise BackupUnusableError(location=database, reason=str(error)) from error
    copied = 0
    for digest in digests:
        if Path(digest).name == digest:
            with files:
                copied += _copy_image(source / digest, target / digest)
    return copied


def _copy_image(source: Path, target: Path) -> bool:
    """Copy the folder of an image; false when it is not there, or is deleted meanwhile."""
    try:
        if source.is_dir():
            shutil.copytree(source, target, copy_function=shutil.copy2)
    except (FileNotFoundError, shutil.Error):
        if source.is_dir():
            raise
        shutil.rmtree(target, ignore_errors=True)
    return target.is_dir()


def _file_problems(path: Path) -> list[str]:
    try:
        with closing(connect(path)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
            orphaned = connection.execute("PRAGMA foreign_key_check").fetchall()
    except broken() as error:
        return [str(error)]
    return found + [f"{row[0]} {row[1]} → {row[2]}" for row in orphaned[:20]]


def _check(path: Path, source: Path) -> BrokenLink | None:
    """Refuse a damaged backup; returns where a whole one is not what was written."""
    if problems := _file_problems(path):
        raise BackupUnusableError(location=source, reason=problems[0])
    health = examine(path)
    if health.problems:
        raise BackupUnusableError(location=source, reason=health.problems[0])
    return health.broken


def _move_aside(there: list[Path], folder: Path) -> Path | None:
    if not there:
        return None
    aside = folder / f"before-restore-{datetime.now(UTC):%Y%m%d-%H%M%S}-{rows.new_id()[:6]}"
    aside.mkdir(mode=0o700)
    for place in there:
        place.rename(aside / place.name)
    return aside
