"""``bimedix2 users``, and what ``doctor`` says of an installation for several people."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace

import pytest

from app.accounts.errors import SignInFailedError
from app.accounts.store import AccountStore
from app.cli import run
from app.doctor import _several_users
from app.history.database import Database

PASSWORD, OTHER = "four words make sense", "another good sentence"


@pytest.fixture
def users(settings, monkeypatch, capsys):
    """Run a task with a password on standard input; returns status, output and errors."""

    def task(*arguments, password="", language="en"):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        place = ["--data-folder", str(settings.folder), "--language", language]
        status = run(["users", *arguments, *place])
        said = capsys.readouterr()
        return status, said.out, said.err

    return task


def authenticate(settings, name, password):
    with closing(Database.open(settings.history)) as database:
        return AccountStore(database).authenticate(name, password)


def test_the_life_of_an_account(users, settings):
    """Made, listed, reset, disabled and enabled; a password stands in no output."""
    said = [
        users("add", "Amal", "--role", "reviewer", password=PASSWORD),
        users("list"),
        users("reset", "amal", password=OTHER),
        users("disable", "amal"),
    ]
    assert [status for status, *_ in said] == [0, 0, 0, 0]
    assert "amal\tReviewer\tactive" in said[1][1]
    assert not [text for _, *texts in said for text in texts if PASSWORD in text or OTHER in text]
    with pytest.raises(SignInFailedError):
        authenticate(settings, "amal", OTHER)
    assert users("enable", "amal")[0] == 0
    account = authenticate(settings, "amal", OTHER)
    assert (account.role, account.must_change) == ("reviewer", True)


@pytest.mark.parametrize(
    ("arguments", "password"),
    [
        (("add", "amal"), ""),
        (("add", "amal"), "short"),
        (("add", "a/b"), PASSWORD),
        (("reset", "nobody"), PASSWORD),
        (("disable", "nobody"), ""),
    ],
)
def test_what_cannot_be_done_is_said(users, arguments, password):
    """One sentence in the user's language, status 1."""
    status, _, english = users(*arguments, password=password)
    assert status == 1
    assert english.count("\n") == 1
    assert users(*arguments, password=password, language="ar")[2] != english


def test_no_password_on_the_command_line(users, capsys):
    """There is no flag for one."""
    with pytest.raises(SystemExit) as error:
        users("add", "amal", "--password", PASSWORD)
    assert error.value.code == 2
    capsys.readouterr()


def test_doctor_on_several_people(settings, users, tmp_path):
    """No account, no https, a missing file, everybody let in: each is told; the default tells nothing."""

    def keys(**changes):
        return [(one.level, one.key) for one in _several_users(replace(settings, **changes))]

    anywhere = "0.0.0.0"  # noqa: S104 - nothing listens
    assert keys() == []
    assert keys(host=anywhere) == [("warning", "cli.doctor_open_to_all")]
    assert keys(ownership="users") == [("warning", "account.none_yet")]
    users("add", "amal", password=PASSWORD)
    assert keys(ownership="users") == [("warning", "account.none_yet")]  # nobody manages
    users("add", "root", "--role", "administrator", password=PASSWORD)
    assert keys(ownership="users") == [("ok", "cli.doctor_accounts")]
    assert keys(ownership="users", host=anywhere)[1:] == [("warning", "cli.doctor_no_tls")]
    missing = keys(ownership="users", host=anywhere, tls_cert=tmp_path / "none")
    assert missing[1:] == [("failed", "cli.doctor_tls_missing")]
