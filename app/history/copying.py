"""The rows of one history into another, whatever databases they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, insert, select

import app.accounts.tables  # noqa: F401  # its tables are part of the history
from app.history import parts
from app.history.models import audit_head, metadata, passages, threads

if TYPE_CHECKING:
    from app.history.database import Database

__all__ = ["copy_rows", "is_empty"]

_A_STEP: Final = 500


def is_empty(database: Database) -> bool:
    """Whether nobody has said anything in a history yet."""
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(threads)).scalar() == 0


def copy_rows(source: Database, target: Database) -> None:
    """Copy everything, as it stands at one moment, into a history of today's schema without conversations."""
    with source.read() as reading, target.write() as writing:
        writing.execute(delete(audit_head))
        for table in metadata.sorted_tables:
            with reading.execute(select(table).execution_options(yield_per=_A_STEP)) as found:
                for some in found.mappings().partitions(_A_STEP):
                    values = [dict(row) for row in some]
                    writing.execute(insert(table), values)
                    if table is passages and writing.dialect.name == "sqlite":
                        parts.put(writing, [(row["id"], row["facets"], row["words"]) for row in values])
