"""Accounts on a temporary database, with a clock that a test moves and cheap hashing."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher

from app.accounts.passwords import Passwords
from app.accounts.sign_ins import SignIns
from app.accounts.store import AccountStore
from app.history.database import Database

GOOD = "four words make sense"


class Clock:
    """A clock that stands still."""

    def __init__(self):
        self.now = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)

    def __call__(self):
        return self.now

    def pass_(self, **time):
        self.now += timedelta(**time)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def database(tmp_path):
    with closing(Database.open(tmp_path / "history.sqlite3")) as opened:
        yield opened


@pytest.fixture(scope="session")
def cheap():
    return Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def accounts(database, cheap, clock):
    return AccountStore(database, cheap, clock)


@pytest.fixture
def sign_ins(database, clock):
    return SignIns(database, timedelta(minutes=10), timedelta(hours=1), timedelta(hours=12), clock)
