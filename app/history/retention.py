"""What a department keeps how long: days for each class of conversation, told before anything is deleted."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import Select, delete, func, select

from app.history import rows
from app.history.audit import append
from app.history.models import audit, images, tags, threads, turns, view_images

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import ColumnElement, Connection, Row

    from app.history.database import Database

__all__ = [
    "Expired",
    "Retention",
    "ThreadClass",
    "Unasked",
    "expired",
    "prune",
    "remove_files",
    "stray",
    "unasked",
]

_DIGEST: Final = re.compile("[0-9a-f]{64}")

ThreadClass = Literal["plain", "tagged", "pinned"]
"""``pinned`` ones count as nothing else; ``tagged`` ones have a tag."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days since the last change after which conversations of a class are deleted; ``None``: never.

    One that was taken in is kept as long from that moment on, however old it was.
    """

    plain: int | None = None
    tagged: int | None = None
    pinned: int | None = None
    images: int | None = None
    """Days after which an image that no conversation shows is deleted."""

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever deleted."""
        return self == Retention()


@dataclass(frozen=True, slots=True)
class Expired:
    """A conversation that retention would delete."""

    owner: str
    thread_id: str
    updated: datetime
    turn_count: int
    kind: ThreadClass


@dataclass(frozen=True, slots=True)
class Unasked:
    """An image that was opened, that no conversation of its owner shows, and that retention would delete."""

    owner: str
    digest: str
    created: datetime


def expired(database: Database, rule: Retention, now: datetime) -> list[Expired]:
    """List conversations retention would delete, the oldest first."""
    days = {"plain": rule.plain, "tagged": rule.tagged, "pinned": rule.pinned}
    found: list[Expired] = []
    came = select(audit.c.subject, audit.c.time).where(audit.c.action == "imported")
    with database.read() as connection:
        taken_in = {row.subject: row.time for row in connection.execute(came)}
        for row in connection.execute(_listed().order_by(threads.c.updated)):
            limit = days[_class_of(row)]
            # whoever brings an old conversation back wants to have it for as long as a new one
            last = max(row.updated, taken_in.get(row.id, row.updated))
            if limit is not None and last < now - timedelta(days=limit):
                found.append(Expired(row.owner, row.id, row.updated, row.turn_count, _class_of(row)))
    return found


def unasked(database: Database, rule: Retention, now: datetime) -> list[Unasked]:
    """List images retention would delete, the oldest first."""
    if rule.images is None:
        return []
    query = select(images).where(images.c.created < now - timedelta(days=rule.images), ~_is_shown())
    with database.read() as connection:
        return [
            Unasked(row.owner, row.digest, row.created)
            for row in connection.execute(query.order_by(images.c.created))
        ]


def prune(
    database: Database, chosen: Iterable[Expired], left: Iterable[Unasked] = ()
) -> tuple[int, list[str]]:
    """Delete what was listed, without residue; what was pinned, tagged, changed or used since is left alone.

    Returns
    -------
    tuple
        How many conversations were deleted, and the digests of images nobody has any more: the caller
        deletes their pixels with :func:`remove_files`.
    """
    count, orphans = 0, set[str]()
    with database.write() as connection:
        for item in chosen:
            if _is_as_listed(connection, item):
                orphans |= set(rows.delete_thread(connection, item.owner, item.thread_id))
                append(connection, item.owner, "pruned", item.thread_id)
                count += 1
        for image in left:
            mine = (images.c.owner == image.owner) & (images.c.digest == image.digest)
            connection.execute(delete(images).where(mine, images.c.created == image.created, ~_is_shown()))
            orphans.add(image.digest)
        had = set(connection.scalars(select(images.c.digest).where(images.c.digest.in_(orphans))))
    database.sweep()
    return count, sorted(orphans - had)


def stray(database: Database, images_folder: Path) -> list[str]:
    """Folders of pixels nobody has: left by a process that died between files and record."""
    there = [place.name for place in images_folder.iterdir()] if images_folder.is_dir() else []
    old = datetime.now(UTC).timestamp() - 86_400  # a younger one may be on its way in
    with database.read() as connection:
        owned = set(connection.scalars(select(images.c.digest)))
    return sorted(
        name
        for name in there
        if name not in owned and _DIGEST.fullmatch(name) and (images_folder / name).stat().st_mtime < old
    )


def remove_files(
    database: Database, images_folder: Path, digests: Iterable[str], files: AbstractContextManager[object]
) -> int:
    """Delete pixels, but not of an image that somebody opened again meanwhile; returns how many."""
    removed = 0
    for digest in digests:
        with files:
            with database.read() as connection:
                query = select(images.c.digest).where(images.c.digest == digest).limit(1)
                taken = connection.execute(query).first() is not None
            if not taken and (images_folder / digest).is_dir():
                shutil.rmtree(images_folder / digest, ignore_errors=True)
                removed += 1
    return removed


def _listed() -> Select[Any]:
    count = select(func.count()).where(turns.c.thread_id == threads.c.id).scalar_subquery()
    given = select(func.count()).where(tags.c.thread_id == threads.c.id).scalar_subquery()
    return select(
        threads.c.owner,
        threads.c.id,
        threads.c.updated,
        threads.c.pinned,
        count.label("turn_count"),
        given.label("tag_count"),
    )


def _class_of(row: Row[Any]) -> ThreadClass:
    if row.pinned is not None:
        return "pinned"
    return "tagged" if row.tag_count else "plain"


def _is_as_listed(connection: Connection, item: Expired) -> bool:
    query = select(threads.c.id).where(threads.c.id == item.thread_id).with_for_update()
    if connection.execute(query).first() is None:
        return False
    row = connection.execute(_listed().where(threads.c.id == item.thread_id)).one()
    return row.updated == item.updated and _class_of(row) == item.kind


def _is_shown() -> ColumnElement[bool]:
    """Whether a conversation of its owner shows an image."""
    used = select(view_images.c.digest).join(turns, view_images.c.turn_id == turns.c.id)
    used = used.join(threads, turns.c.thread_id == threads.c.id)
    return used.where(threads.c.owner == images.c.owner, view_images.c.digest == images.c.digest).exists()
