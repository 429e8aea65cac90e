"""SQLite's full-text index of the history, in parts by time.

A word taken out of an index of FTS5 stays in its pages until the whole index is written anew. So the
index is many small ones, each of the messages of a stretch of time: a deletion writes only the parts anew
that held what was deleted, and a search begins with the newest part and ends as soon as it has enough.

Passages are numbered by time. A part holds those from its ``first`` number up to the first of the next
part; ``search_parts`` lists them. Only SQLite comes here; PostgreSQL has an index of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection

__all__ = ["begin_part", "check", "find", "merge_step", "put", "take", "unswept"]

_SIZE: Final = 20_000
"""Messages of a part: written anew within a second, and fifty parts hold a million."""
_PAGES_A_STEP: Final = 500
"""Pages written in one transaction: 2 MB."""
_FEW: Final = 60
"""Passages looked at one by one."""
_LOWEST, _HIGHEST = -(2**62), 2**62


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    first: int
    end: int
    """First number behind it."""
    messages: int

    @property
    def table(self) -> str:
        return f"search_{self.number}"


def begin_part(connection: Connection, first: int = _LOWEST) -> None:
    """Begin a part at a passage's number; the part that held this number ends there."""
    before = None if first == _LOWEST else _part_of(connection, first)
    end = _HIGHEST if before is None else before.end
    values = {"first": first}
    number = connection.exec_driver_sql(
        "INSERT INTO search_parts (first, messages, unswept) VALUES (:first, 0, 0) RETURNING number", values
    ).scalar_one()
    if before is not None:
        connection.exec_driver_sql(f"DROP VIEW passages_{before.number}")
        _show(connection, before.number, before.first, first)
    _show(connection, number, first, end)
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE search_{number} USING fts5(facets, words, content='passages_{number}', "
        "content_rowid='id', columnsize=0, prefix='2 3', tokenize='ascii')"
    )


def _show(connection: Connection, number: int, first: int, end: int) -> None:
    """Make the view of the passages a part is of, against which it can be checked."""
    connection.exec_driver_sql(
        f"CREATE VIEW passages_{number} AS SELECT id, facets, words FROM passages "  # noqa: S608  # numbers
        f"WHERE id >= {first:d} AND id < {end:d}"
    )


def put(connection: Connection, passages: Iterable[tuple[int, str, str]]) -> None:
    """Put passages into the index, each as (number, facets, words)."""
    for number, facets, words in passages:
        part = _part_of(connection, number)
        if part.messages >= _SIZE and _is_behind_all(connection, part, number):
            begin_part(connection, number)
            part = _part_of(connection, number)
        connection.exec_driver_sql(
            f"INSERT INTO {part.table}(rowid, facets, words) VALUES (?, ?, ?)",  # noqa: S608  # a number
            (number, facets, words),
        )
        connection.exec_driver_sql(
            "UPDATE search_parts SET messages = messages + 1 WHERE number = ?", (part.number,)
        )


def take(connection: Connection, passages: Iterable[tuple[int, str, str]]) -> None:
    """Take passages out; their words stay in the file until the part was swept."""
    touched = set[int]()
    for number, facets, words in passages:
        part = _part_of(connection, number)
        connection.exec_driver_sql(
            f"INSERT INTO {part.table}({part.table}, rowid, facets, words) "  # noqa: S608  # a number
            "VALUES ('delete', ?, ?, ?)",
            (number, facets, words),
        )
        connection.exec_driver_sql(
            "UPDATE search_parts SET messages = messages - 1 WHERE number = ?", (part.number,)
        )
        touched.add(part.number)
    for number in touched:
        connection.exec_driver_sql("UPDATE search_parts SET unswept = 1 WHERE number = ?", (number,))


def find(  # noqa: PLR0917
    connection: Connection, words: str, facets: Sequence[Sequence[str]], first: int, last: int, limit: int
) -> list[int]:
    """Numbers of passages that meet an FTS5 query, newest first.

    Nearly every passage has the facets asked for, and reading such long lists costs more than the search.
    So where few passages of a part have the words, their facets are looked at instead.

    Parameters
    ----------
    words : str
        The query of the words; empty when the facets alone choose.
    facets : sequence of sequence of str
        One of each.
    first, last : int
        Numbers from ``first`` on and below ``last``.
    """
    found: list[int] = []
    described = " AND ".join(filter(None, [words, *(f"facets : ({' OR '.join(some)})" for some in facets)]))
    listed = connection.exec_driver_sql("SELECT number, first FROM search_parts ORDER BY first DESC")
    for number, begins in listed.all():
        if begins >= last:
            continue
        query = (
            f"SELECT rowid FROM search_{number:d} WHERE search_{number:d} MATCH ? "  # noqa: S608  # a number
            "AND rowid >= ? AND rowid < ? ORDER BY rowid DESC LIMIT ?"
        )
        some = connection.exec_driver_sql(query, (words or described, first, last, _FEW)).scalars().all()
        if len(some) < _FEW:
            found += _with_facets(connection, some, facets)
        else:
            wanted = (described, first, last, limit - len(found))
            found += connection.exec_driver_sql(query, wanted).scalars()
        if begins <= first or len(found) >= limit:
            break
    return found[:limit]


def _with_facets(
    connection: Connection, numbers: Sequence[int], facets: Sequence[Sequence[str]]
) -> Iterator[int]:
    if not numbers:
        return
    places = ", ".join("?" * len(numbers))
    query = f"SELECT id, facets FROM passages WHERE id IN ({places}) ORDER BY id DESC"  # noqa: S608  # signs
    for number, described in connection.exec_driver_sql(query, tuple(numbers)):
        there = set(described.split())
        if all(not there.isdisjoint(some) for some in facets):
            yield number


def unswept(connection: Connection) -> Sequence[int]:
    """Parts that still hold words of what was taken out."""
    return connection.exec_driver_sql("SELECT number FROM search_parts WHERE unswept = 1").scalars().all()


def merge_step(connection: Connection, number: int, *, begin: bool) -> bool:
    """Write some pages of a part anew, without what was taken out; false when nothing was left to do."""
    pages = -_PAGES_A_STEP if begin else _PAGES_A_STEP  # below 0: even where the index sees no need
    before = _changes(connection)
    connection.exec_driver_sql(
        f"INSERT INTO search_{number:d}(search_{number:d}, rank) VALUES ('merge', ?)",  # noqa: S608  # a number
        (pages,),
    )
    more = _changes(connection) - before >= 2  # SQLite's own sign
    if not more:
        connection.exec_driver_sql("UPDATE search_parts SET unswept = 0 WHERE number = ?", (number,))
    return more


def check(connection: Connection) -> None:
    """Compare every part with the passages it is of; a difference is an error of the database."""
    numbers = connection.exec_driver_sql("SELECT number FROM search_parts").scalars().all()
    for number in numbers:
        connection.exec_driver_sql(
            f"INSERT INTO search_{number:d}(search_{number:d}, rank) "  # noqa: S608  # a number
            "VALUES ('integrity-check', 1)"
        )


def _part_of(connection: Connection, number: int) -> _Part:
    row = connection.exec_driver_sql(
        "SELECT number, first, coalesce((SELECT min(first) FROM search_parts WHERE first > ?), ?), messages "
        "FROM search_parts WHERE first <= ? ORDER BY first DESC LIMIT 1",
        (number, _HIGHEST, number),
    ).one()
    return _Part(*row)


def _is_behind_all(connection: Connection, part: _Part, number: int) -> bool:
    """Whether a part could end before this passage; one that comes late belongs between the others."""
    newest = connection.exec_driver_sql("SELECT max(id) FROM passages WHERE id < ?", (part.end,)).scalar()
    return newest is None or newest <= number


def _changes(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT total_changes()").scalar_one())
