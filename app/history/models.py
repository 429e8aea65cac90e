"""Tables of the history.

A thread has turns, a turn has views and answers, a view has images; deleting a thread deletes what hangs
from it. Images belong to an owner and are shared by the owner's threads. The migrations build these same
tables; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = [
    "UtcDateTime",
    "answers",
    "audit",
    "audit_head",
    "feedback",
    "images",
    "measurements",
    "metadata",
    "passages",
    "prompts",
    "seals",
    "tags",
    "threads",
    "turns",
    "view_images",
    "views",
]


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, also where the database keeps no time zone (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC on the way in."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Make aware on the way out."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

threads = Table(
    "threads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("title", String(200), nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("updated", UtcDateTime, nullable=False),
    Column("pinned", UtcDateTime),
    Column("answer_language", String(2)),
    Column("patient", String(64)),
    Column("study", String(64)),
    Index("ix_threads_owner_updated", "owner", "updated"),
    Index("ix_threads_owner_study", "owner", "study"),
)

turns = Table(
    "turns",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("thread_id", String(32), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("question", Text, nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("salt", String(32)),
    UniqueConstraint("thread_id", "position"),
)

views = Table(
    "views",
    metadata,
    Column("turn_id", String(32), ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("view", JSON, nullable=False),
    Column("render_digest", String(128), nullable=False),
)

view_images = Table(
    "view_images",
    metadata,
    Column("turn_id", String(32), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("digest", String(128), nullable=False, index=True),
    ForeignKeyConstraint(["turn_id", "position"], ["views.turn_id", "views.position"], ondelete="CASCADE"),
)

answers = Table(
    "answers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("turn_id", String(32), ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("backend", String(255), nullable=False),
    Column("language", String(2), nullable=False),
    Column("usage", JSON(none_as_null=True)),
    Column("error_key", String(100)),
    Column("error_values", JSON(none_as_null=True)),
    Column("started", UtcDateTime, nullable=False),
    Column("finished", UtcDateTime),
    # no foreign key: an answer goes with its turn, and never without the one it translates
    Column("translation_of", String(32)),
    Column("salt", String(32)),
    Column("grounding", JSON(none_as_null=True)),
    UniqueConstraint("turn_id", "position"),
)

images = Table(
    "images",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("digest", String(128), primary_key=True),
    Column("label", String(200), nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("patient", String(64)),
    Column("study", String(64)),
    Index("ix_images_digest", "digest"),
)

# What the search reads: one row a question or ended answer. SQLite keeps a full-text index of it by
# triggers, so the index changes in the transaction of the row and goes when the row goes.
passages = Table(
    "passages",
    metadata,
    # microseconds since 1970, moved on by one where taken: the order of the ids is that of time
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("turn_id", String(32), ForeignKey("turns.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("answer_id", String(32), ForeignKey("answers.id", ondelete="CASCADE"), index=True),
    Column("facets", Text, nullable=False),
    Column("words", Text, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    Column("thread_id", String(32), ForeignKey("threads.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(40), primary_key=True),
)

feedback = Table(
    "feedback",
    metadata,
    Column("answer_id", String(32), ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True),
    Column("reasons", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("salt", String(32)),
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("thread_id", String(32), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("view", JSON, nullable=False),
    Column("measurement", JSON, nullable=False),
    Column("created", UtcDateTime, nullable=False),
)

prompts = Table(
    "prompts",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("prompt", String(64), primary_key=True),
    Column("language", String(2), primary_key=True),
    Column("text", Text, nullable=False),
    Column("created", UtcDateTime, nullable=False),
)

# No foreign key: what an entry tells of may be gone.
audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("time", UtcDateTime, nullable=False),
    Column("owner", String(255), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("content", String(64)),
)

seals = Table(
    "seals",
    metadata,
    Column("sequence", Integer, ForeignKey("audit.sequence"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(32), nullable=False, index=True),
    # no foreign key: what a seal is of may be gone
    Column("thread_id", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)
