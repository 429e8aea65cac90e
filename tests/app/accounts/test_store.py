"""Accounts: names, passwords, failures, roles."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from app.accounts.errors import (
    AccountExistsError,
    AccountMissingError,
    AccountNameError,
    LastAdministratorError,
    PasswordUnfitError,
    SignInDelayedError,
    SignInFailedError,
)
from app.accounts.names import checked_name, same_name
from app.accounts.passwords import Passwords, check_new
from app.accounts.store import AccountStore, _delay
from app.accounts.tables import accounts as table
from app.accounts.tables import sign_in_failures
from tests.app.accounts.conftest import GOOD


def fail(accounts, name, address="", times=1):
    for _ in range(times):
        with pytest.raises(SignInFailedError):
            accounts.authenticate(name, "wrong", address)


def test_a_password_opens_its_account_and_no_other(accounts):
    """The right pair gives the account; any other pair gives one and the same error."""
    made = accounts.add("amal", "clinician", GOOD)
    accounts.add("badr", "clinician", GOOD + "!")
    assert accounts.authenticate("amal", GOOD).id == made.id
    texts = set()
    for name, password in [("amal", GOOD + "!"), ("badr", GOOD), ("nobody", GOOD), ("amal", ""), ("", GOOD)]:
        with pytest.raises(SignInFailedError) as error:
            accounts.authenticate(name, password)
        texts.add(str(error.value))
    assert len(texts) == 1


def test_nothing_that_opens_stands_in_the_database(accounts, database):
    """Passwords are Argon2id with a salt each; typed names of failures are digests."""
    accounts.add("amal", "clinician", GOOD)
    accounts.add("badr", "clinician", GOOD)
    fail(accounts, "hunter2 typed into the wrong field")
    with database.read() as connection:
        first, second = connection.scalars(select(table.c.password))
        keys = "".join(connection.scalars(select(sign_in_failures.c.key)))
    assert first.startswith("$argon2id$")
    assert first != second
    assert "hunter" not in keys


@pytest.mark.parametrize("written", ["Amal", "AMAL", "ａｍａｌ", "am\u00adal", "am\u200bal", " amal "])
def test_spellings_of_one_name_are_one_account(accounts, written):
    """Full-width letters, case and invisible characters make no second amal."""
    made = accounts.add("amal", "clinician", GOOD)
    assert accounts.authenticate(written, GOOD).id == made.id
    with pytest.raises(AccountExistsError):
        accounts.add(written, "clinician", GOOD)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "../x", "-x", "_x", "x" * 65, "аmal", "<b>", "x\n"[:1] + "\x00/"]
)
def test_names_nobody_can_have(name):
    """Markup, paths, mixed scripts and emptiness are no names."""
    with pytest.raises(AccountNameError):
        checked_name(name)


@pytest.mark.parametrize("name", ["amal", "Dr.Amal", "amal@hospital.example", "أمل", "amal-2", "7"])
def test_names_in_both_scripts(name):
    """Letters of one script, digits and a few signs; said again it stays."""
    assert checked_name(checked_name(name)) == same_name(name)


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "x" * 300,
        "aaaaaaaaaaaaaa",
        "password1234",
        "amal-hospital",
        "amalamalamal",
        "123456789012",
    ],
)
def test_passwords_everybody_would_try(password):
    """Short, repeated, common, or the name."""
    with pytest.raises(PasswordUnfitError):
        check_new(password, "amal-hospital" if "-" in password else "amal")


@pytest.mark.parametrize("password", [GOOD, "أربع كلمات لها معنى", "x7#pQz!2mLk9"])
def test_passwords_that_are_taken(password):
    """A sentence in either script needs no digits or signs."""
    check_new(password, "amal")


def test_the_same_letters_typed_otherwise_are_the_same_password(cheap):
    """A letter with its mark, in one character or two, is the same letter."""
    assert cheap.verify(cheap.hash("caf\u00e9 " + GOOD), "cafe\u0301 " + GOOD)
    assert not cheap.verify(cheap.hash(GOOD), GOOD.upper())
    assert not cheap.verify("no hash at all", GOOD)


def test_failures_are_delayed_longer_each_time(accounts, clock):
    """Five tries are free, then each costs twice the time; the right password clears them."""
    accounts.add("amal", "clinician", GOOD)
    fail(accounts, "amal", "10.0.0.9", 5)
    waits = []
    for _ in range(4):
        with pytest.raises(SignInDelayedError) as error:
            accounts.authenticate("amal", GOOD, "10.0.0.9")
        waits.append(error.value.values["seconds"])
        clock.pass_(seconds=waits[-1])
        fail(accounts, "amal", "10.0.0.9")
    assert waits == [16, 31, 61, 121]
    assert accounts.authenticate("amal", GOOD, "10.0.0.7")  # not kept out from elsewhere
    clock.pass_(minutes=16)
    accounts.authenticate("amal", GOOD, "10.0.0.9")
    fail(accounts, "amal", "10.0.0.9", 4)
    assert accounts.authenticate("amal", GOOD, "10.0.0.9")
    assert _delay(10_000, 5) == timedelta(minutes=15)


def test_many_addresses_are_delayed_too(accounts):
    """Changing the address gives 25 tries, not endless ones."""
    accounts.add("amal", "clinician", GOOD)
    for number in range(25):
        fail(accounts, "amal", f"10.0.0.{number}")
    with pytest.raises(SignInDelayedError):
        accounts.authenticate("amal", GOOD, "10.0.1.1")


def test_a_name_without_an_account_is_delayed_alike(accounts):
    """Nobody learns from the delay which names exist."""
    accounts.add("amal", "clinician", GOOD)
    for name in ("amal", "nobody"):
        fail(accounts, name, times=5)
        with pytest.raises(SignInDelayedError):
            accounts.authenticate(name, "wrong")


def test_attempts_at_once_get_no_more_tries(accounts):
    """An attempt counts before its password is looked at."""
    accounts.add("amal", "clinician", GOOD)
    outcomes = []

    def attempt():
        try:
            accounts.authenticate("amal", "wrong")
        except (SignInFailedError, SignInDelayedError) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(SignInFailedError) == 5
    assert outcomes.count(SignInDelayedError) == 15


def test_unknown_wrong_and_disabled_take_the_same_time(database, clock):
    """With real hashing the work is one computation each; the shortest differ by less than half of it."""
    accounts = AccountStore(
        database, Passwords(PasswordHasher(time_cost=2, memory_cost=8192, parallelism=1)), clock
    )
    accounts.add("amal", "clinician", GOOD)
    accounts.add("gone", "clinician", GOOD)
    accounts.set_disabled("gone", disabled=True)
    times = {"amal": [], "gone": [], "nobody": []}
    for round_ in range(9):
        for name, taken in times.items():
            began = time.perf_counter()
            fail(accounts, name, f"10.0.0.{round_}")
            taken.append(time.perf_counter() - began)
    shortest = [min(taken) for taken in times.values()]
    assert max(shortest) < 1.5 * min(shortest)


def test_disabled_and_reset(accounts):
    """A disabled account stays out until enabled; a reset password must be changed."""
    accounts.add("amal", "clinician", GOOD, must_change=False)
    accounts.set_disabled("amal", disabled=True)
    fail(accounts, "amal")
    with pytest.raises(SignInFailedError):
        accounts.authenticate("amal", GOOD)
    accounts.set_disabled("AMAL", disabled=False)
    assert accounts.authenticate("amal", GOOD).must_change is False
    accounts.reset("amal", "another good sentence")
    assert accounts.authenticate("amal", "another good sentence").must_change
    with pytest.raises(AccountMissingError):
        accounts.reset("nobody", GOOD)


def test_changing_ones_own_password(accounts):
    """It needs the old one, is another one, and then nothing must be changed any more."""
    account = accounts.add("amal", "clinician", GOOD)
    with pytest.raises(SignInFailedError):
        accounts.change_password(account, "wrong", "another good sentence")
    with pytest.raises(PasswordUnfitError):
        accounts.change_password(account, GOOD, GOOD)
    with pytest.raises(PasswordUnfitError):
        accounts.change_password(account, GOOD, "short")
    accounts.change_password(account, GOOD, "another good sentence")
    assert not accounts.authenticate("amal", "another good sentence").must_change
    fail(accounts, "amal")


def test_the_last_administrator_stays(accounts):
    """Somebody must be able to let others in."""
    accounts.add("root", "administrator", GOOD)
    for change in (
        lambda: accounts.set_disabled("root", disabled=True),
        lambda: accounts.set_role("root", "clinician"),
    ):
        with pytest.raises(LastAdministratorError):
            change()
    accounts.add("second", "administrator", GOOD)
    accounts.set_role("root", "clinician")
    with pytest.raises(LastAdministratorError):
        accounts.set_disabled("second", disabled=True)
    assert [(one.name, one.role) for one in accounts.list()] == [
        ("root", "clinician"),
        ("second", "administrator"),
    ]


def test_the_organisations_people(accounts):
    """A subject is one account whatever its name becomes; it has no password, and its role follows."""
    first = accounts.by_subject("https://id.example|1", "amal", "clinician")
    again = accounts.by_subject("https://id.example|1", "amal.renamed", "reviewer")
    other = accounts.by_subject("https://id.example|2", "amal", "clinician")
    assert (again.id, again.role, again.name) == (first.id, "reviewer", "amal")
    assert (other.name, other.has_password) == ("amal-2", False)
    fail(accounts, "amal")
    accounts.set_disabled("amal", disabled=True)
    with pytest.raises(SignInFailedError):
        accounts.by_subject("https://id.example|1", "amal", "clinician")


def test_an_outdated_hash_is_made_anew(database, clock, cheap):
    """Signing in brings a hash to today's cost."""
    AccountStore(database, cheap, clock).add("amal", "clinician", GOOD)
    dearer = Passwords(PasswordHasher(time_cost=2, memory_cost=64, parallelism=1))
    accounts = AccountStore(database, dearer, clock)
    accounts.authenticate("amal", GOOD)
    with database.read() as connection:
        assert "t=2" in connection.scalar(select(table.c.password))
    assert accounts.authenticate("amal", GOOD)


def test_a_reset_lets_in_from_every_desk(accounts):
    """The failures of a name are forgotten for every address they came from, and only those of that name."""
    for name in ("amal", "badr"):
        accounts.add(name, "clinician", GOOD)
        fail(accounts, name, "10.0.0.5", times=5)
        fail(accounts, name, "10.0.0.6", times=5)
        with pytest.raises(SignInDelayedError):
            accounts.authenticate(name, GOOD, "10.0.0.5")
    accounts.reset("amal", "another good sentence")
    for address in ("10.0.0.5", "10.0.0.6"):
        assert accounts.authenticate("amal", "another good sentence", address)
    with pytest.raises(SignInDelayedError):
        accounts.authenticate("badr", GOOD, "10.0.0.6")


def test_a_clock_that_is_set_back_keeps_nobody_out(accounts, clock):
    """Failures of a time to come are long ago, and no wait is longer than the longest."""
    accounts.add("amal", "clinician", GOOD)
    clock.pass_(days=3650)
    fail(accounts, "amal", times=5)
    clock.pass_(days=-3650)
    assert accounts.authenticate("amal", GOOD)
    clock.pass_(seconds=50)
    fail(accounts, "amal", times=5)
    clock.pass_(seconds=-50)
    with pytest.raises(SignInDelayedError) as error:
        accounts.authenticate("amal", GOOD)
    assert error.value.values["seconds"] <= 15 * 60 + 1


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00"])
def test_halves_of_characters_fail_like_anything_wrong(accounts, text):
    """In a name and in a password; a new password cannot hold any."""
    accounts.add("amal", "clinician", GOOD)
    for name, password in ((f"am{text}al", GOOD), ("amal", GOOD + text), ("amal", text)):
        if same_name(name) != "amal" or password != GOOD:
            with pytest.raises(SignInFailedError):
                accounts.authenticate(name, password)
    with pytest.raises(PasswordUnfitError):
        accounts.reset("amal", "another good sentence" + text)
    with pytest.raises(AccountMissingError):
        accounts.reset(f"no{text}body", GOOD)
