"""Tables of accounts and sign-ins, beside those of the history.

No foreign key leads from here to the history: it knows an account by a random owner only.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Integer, String, Table

from app.history.models import UtcDateTime, metadata

__all__ = ["accounts", "sign_in_failures", "sign_ins"]

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("password", String(255)),
    # issuer and subject of the organisation's sign-in, digested: SHA-256 in hexadecimal
    Column("subject", String(64), unique=True),
    Column("disabled", Boolean, nullable=False),
    Column("must_change", Boolean, nullable=False),
    Column("created", UtcDateTime, nullable=False),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("id", String(32), primary_key=True),
    # SHA-256 of the cookie's token: what stands here opens nothing
    Column("token", String(64), nullable=False, unique=True),
    Column(
        "account_id", String(32), ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("program", String(64), nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("seen", UtcDateTime, nullable=False),
    Column("locked", Boolean, nullable=False),
)

# Kept by a digest of what was typed, for names that exist and names that do not alike.
sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
)
