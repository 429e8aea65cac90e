"""Sign-ins: tokens, expiry, lock, revocation."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

from sqlalchemy import select

from app.accounts.sign_ins import SignIns
from app.accounts.tables import sign_ins as table
from app.history.database import Database
from tests.app.accounts.conftest import GOOD


def test_a_token_is_random_and_only_its_digest_is_stored(accounts, sign_ins, database):
    """What the database holds signs nobody in."""
    account = accounts.add("amal", "clinician", GOOD)
    first, second = sign_ins.begin(account), sign_ins.begin(account)
    assert first != second
    assert len(first) == 43
    assert sign_ins.find(first).account == account
    with database.read() as connection:
        stored = list(connection.scalars(select(table.c.token)))
    assert first not in stored
    assert all(sign_ins.find(digest) is None for digest in stored)
    assert sign_ins.find("") is None


def test_it_locks_then_ends_without_use(accounts, sign_ins, clock):
    """Ten minutes unused ask for the password; an hour ends it; a kept connection is no use."""
    token = sign_ins.begin(accounts.add("amal", "clinician", GOOD))
    for _ in range(4):
        clock.pass_(minutes=9)
        assert not sign_ins.find(token).locked
    for _ in range(4):
        clock.pass_(minutes=4)
        sign_ins.find(token, is_use=False)
    assert sign_ins.find(token).locked
    clock.pass_(minutes=40)
    assert sign_ins.find(token).locked  # asking does not open it again
    clock.pass_(minutes=10)
    assert sign_ins.find(token) is None


def test_it_ends_after_a_working_day(accounts, sign_ins, clock):
    """However busy somebody is."""
    token = sign_ins.begin(accounts.add("amal", "clinician", GOOD))
    for _ in range(12 * 12):
        assert sign_ins.find(token)
        clock.pass_(minutes=5)
    clock.pass_(seconds=1)
    assert sign_ins.find(token) is None


def test_lock_end_and_revoke_hold_at_once(accounts, sign_ins):
    """Nothing remembered outlives a change made here."""
    account, other = (accounts.add(name, "clinician", GOOD) for name in ("amal", "badr"))
    tokens = [sign_ins.begin(account, f"browser {number}") for number in range(3)]
    assert all(sign_ins.find(token) for token in tokens)
    sign_ins.lock(tokens[0])
    assert sign_ins.find(tokens[0]).locked
    sign_ins.end(tokens[0])
    assert sign_ins.find(tokens[0]) is None
    known = sign_ins.find(tokens[1])
    assert {one.program for one in sign_ins.list(account)} == {"browser 1", "browser 2"}
    assert not sign_ins.revoke(other, known.id)
    assert sign_ins.find(tokens[1])
    assert sign_ins.revoke(account, known.id)
    assert sign_ins.find(tokens[1]) is None
    assert sign_ins.list(other) == []


def test_signing_in_again_takes_the_earlier_tokens_place(accounts, sign_ins):
    """A token somebody planted or saw before is worth nothing afterwards (session fixation)."""
    account = accounts.add("amal", "clinician", GOOD)
    earlier = sign_ins.begin(account)
    later = sign_ins.begin(account, ending=earlier)
    assert sign_ins.find(earlier) is None
    assert sign_ins.find(later)


def test_account_changes_end_sign_ins_from_another_process_too(
    accounts, sign_ins, tmp_path, monkeypatch, clock
):
    """Disabled, reset, another role or password: out within two seconds."""
    monkeypatch.setattr("app.accounts.sign_ins._REMEMBERED_S", 0.0)
    account = accounts.add("amal", "clinician", GOOD)
    changes = (
        lambda: accounts.set_disabled("amal", disabled=True),
        lambda: accounts.reset("amal", "another good sentence"),
        lambda: accounts.set_role("amal", "reviewer"),
        lambda: accounts.change_password(account, "another good sentence", GOOD),
    )
    with closing(Database.open(tmp_path / "history.sqlite3")) as second:
        other = SignIns(second, timedelta(minutes=10), timedelta(hours=1), timedelta(hours=12), clock)
        for change in changes:
            token = sign_ins.begin(account)
            assert other.find(token)
            change()
            assert other.find(token) is None
            accounts.set_disabled("amal", disabled=False)


def test_the_oldest_of_too_many_ends(accounts, sign_ins, clock):
    """Twenty browsers at once; ended ones are deleted by the next."""
    account = accounts.add("amal", "clinician", GOOD)
    tokens = []
    for _ in range(21):
        tokens.append(sign_ins.begin(account))
        clock.pass_(seconds=1)
    assert sign_ins.find(tokens[0]) is None
    assert all(sign_ins.find(token) for token in tokens[1:])


def test_one_that_was_used_in_a_time_to_come_has_ended(accounts, sign_ins, clock):
    """After the clock was set back nobody knows how long it was not used; machines may differ a little."""
    account = accounts.add("amal", "clinician", GOOD)
    token = sign_ins.begin(account)
    clock.pass_(seconds=-30)
    sign_ins.forget()
    assert sign_ins.find(token)
    clock.pass_(days=-150)
    for _ in range(3):
        clock.pass_(days=30)
        sign_ins.forget()
        assert sign_ins.find(token) is None
    assert sign_ins.list(account) == []
