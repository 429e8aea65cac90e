"""Keeping a history for years: backup while it is used, restoring, checking, compacting, retention.

For the SQLite history in a data folder; another database has tools of its own.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from app.errors import BackupExistsError, BackupUnusableError, HistoryExistsError, StorageError
from app.history import rows
from app.history.audit import append
from app.history.models import threads, turns
from app.history.store import HistoryStore

if TYPE_CHECKING:
    from app.history.audit import AuditHead, BrokenLink
    from app.history.database import Database

__all__ = ["Expired", "Health", "back_up", "compact", "examine", "expired", "prune", "restore"]

DATABASE: Final = "history.sqlite3"
IMAGES: Final = "images"


@dataclass(frozen=True, slots=True)
class Expired:
    """A conversation that retention would delete."""

    owner: str
    thread_id: str
    updated: datetime
    turn_count: int


@dataclass(frozen=True, slots=True)
class Health:
    """What a check of a history found."""

    problems: tuple[str, ...]
    """What SQLite says about a damaged file; empty when there is nothing to say."""
    broken: BrokenLink | None
    """First entry of the record that is not as it was written."""
    head: AuditHead


def back_up(database: Path, images_folder: Path, destination: Path) -> int:
    """Copy a history with its images into a new folder, while the application uses it.

    The folder appears whole or not at all, readable by its user alone.

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
    if not database.is_file():
        raise BackupUnusableError(location=database, reason="there is no history")
    part = destination.with_name(f".{destination.name}.{rows.new_id()}")
    part.mkdir(parents=True, mode=0o700)
    try:
        _copy_database(database, part / DATABASE)
        copied = _copy_images(part / DATABASE, images_folder, part / IMAGES)
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return copied


def restore(source: Path, folder: Path, *, overwrite: bool = False) -> Path | None:
    """Put a backup in the place of a data folder's history; the application must not run meanwhile.

    The backup is checked, and brought to today's schema, before anything is touched.

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
    """
    if not (source / DATABASE).is_file():
        raise BackupUnusableError(location=source, reason="there is no backup")
    there = list(folder.glob(f"{DATABASE}*"))
    if (folder / IMAGES).is_dir() and any((folder / IMAGES).iterdir()):
        there.append(folder / IMAGES)
    if there and not overwrite:
        raise HistoryExistsError(location=folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f".restore-{rows.new_id()}"
    part.mkdir(mode=0o700)
    try:
        _copy_database(source / DATABASE, part / DATABASE)
        _copy_images(part / DATABASE, source / IMAGES, part / IMAGES)
        _check(part / DATABASE, source)
        aside = _move_aside(there, folder)
        shutil.rmtree(folder / IMAGES, ignore_errors=True)  # an empty one
        (part / IMAGES).rename(folder / IMAGES)
        (part / DATABASE).rename(folder / DATABASE)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return aside


def examine(path: Path) -> Health:
    """Check a history: the file, the index of the search, and the record of who did what."""
    problems = _file_problems(path)
    with HistoryStore.open(path) as store:
        try:
            store._database.check_index()  # noqa: SLF001  # parts of one package
        except StorageError as error:
            problems.append(str(error))
        return Health(tuple(problems), store.verify(), store.head())


def compact(path: Path) -> tuple[int, int]:
    """Give back the room of what was deleted; returns the file's bytes before and after."""
    before = path.stat().st_size
    with HistoryStore.open(path) as store:
        store._database.sweep()  # noqa: SLF001  # parts of one package
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, path.stat().st_size


def expired(database: Database, before: datetime) -> list[Expired]:
    """List what retention would delete: conversations last changed before a time, but no pinned one."""
    count = select(func.count()).where(turns.c.thread_id == threads.c.id).scalar_subquery()
    query = select(threads.c.owner, threads.c.id, threads.c.updated, count)
    query = query.where(threads.c.updated < before, threads.c.pinned.is_(None)).order_by(threads.c.updated)
    with database.read() as connection:
        return [Expired(owner, id_, updated, turn_count) for owner, id_, updated, turn_count
                in connection.execute(query)]  # fmt: skip


def prune(database: Database, chosen: list[Expired]) -> tuple[int, list[str]]:
    """Delete what was listed, without residue; one pinned, changed or deleted since is left alone.

    Returns
    -------
    tuple
        How many were deleted, and the digests of images nobody has any more: the caller deletes their
        pixels.
    """
    count, orphans = 0, set[str]()
    with database.write() as connection:
        for item in chosen:
            same = select(threads.c.id).where(
                threads.c.id == item.thread_id, threads.c.updated == item.updated, threads.c.pinned.is_(None)
            )
            if connection.execute(same).first() is not None:
                orphans |= set(rows.delete_thread(connection, item.owner, item.thread_id))
                append(connection, item.owner, "pruned", item.thread_id)
                count += 1
    database.sweep()
    return count, sorted(orphans)


def _copy_database(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_RDWR, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.execute("PRAGMA busy_timeout=15000")
            reading.backup(writing)  # in one step: begun anew at every write, it might never end
            writing.execute("PRAGMA journal_mode=DELETE")  # one file, that can be moved anywhere
    except sqlite3.DatabaseError as error:
        raise BackupUnusableError(location=source, reason=str(error)) from error


def _copy_images(database: Path, source: Path, target: Path) -> int:
    """Copy the images a database speaks of; one deleted since the copy of the database is not there."""
    target.mkdir(mode=0o700)
    with closing(sqlite3.connect(database)) as connection:
        try:
            digests = [row[0] for row in connection.execute("SELECT DISTINCT digest FROM images")]
        except sqlite3.DatabaseError as error:
            raise BackupUnusableError(location=database, reason=str(error)) from error
    there = [digest for digest in digests if Path(digest).name == digest and (source / digest).is_dir()]
    for digest in there:
        shutil.copytree(source / digest, target / digest)
    return len(there)


def _file_problems(path: Path) -> list[str]:
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
            orphaned = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return found + [f"{row[0]} {row[1]} → {row[2]}" for row in orphaned[:20]]


def _check(path: Path, source: Path) -> None:
    if problems := _file_problems(path):
        raise BackupUnusableError(location=source, reason=problems[0])
    health = examine(path)
    if health.problems:
        raise BackupUnusableError(location=source, reason=health.problems[0])


def _move_aside(there: list[Path], folder: Path) -> Path | None:
    if not there:
        return None
    aside = folder / f"before-restore-{datetime.now(UTC):%Y%m%d-%H%M%S}-{rows.new_id()[:6]}"
    aside.mkdir(mode=0o700)
    for place in there:
        place.rename(aside / place.name)
    return aside
