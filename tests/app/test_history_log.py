"""``bimedix2 history log``: the record of who did what, read by somebody who may open the data folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pydicom.data
import pytest

from app.accounts.passwords import Passwords
from app.accounts.store import AccountStore
from app.cli import run
from app.history.audit import Action
from app.history.store import HistoryStore
from i18n.catalogue import LOCALES, Catalogue
from viewers.view import default_view

CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))


@pytest.fixture
def folder(workspace, settings):
    """Make a history of two owners, one of whom has an account; returns the flag that names it."""
    accounts = AccountStore(workspace.history.database, Passwords())
    amal = accounts.add("amal", "clinician", "four words make sense", must_change=False)
    image = workspace.add_upload(amal.owner, CT)
    thread = list(workspace.ask(amal.owner, None, "SECRET nodule?", [default_view(image)], "r"))[-1].thread_id
    workspace.curation.export(amal.owner, thread).unlink()
    list(workspace.ask("visitor-1", None, "Other?", [], "r"))
    workspace.delete(amal.owner, thread)
    workspace._store.close()
    return ["--data-folder", str(settings.folder)]


def test_it_lists_who_did_what(folder, capsys):
    """Opening, asking, exporting, deleting, by the account's name, in either language; never a word said."""
    assert run(["history", "log", *folder, "--language", "en"]) == 0
    english = capsys.readouterr().out
    lines = [line.split("\t")[2:4] for line in english.splitlines()]
    assert lines[1:] == [
        ["amal", "opened an image"],
        ["amal", "asked"],
        ["amal", "was answered"],
        ["amal", "exported a conversation"],
        ["visitor-1", "asked"],
        ["visitor-1", "was answered"],
        ["amal", "deleted a conversation"],
    ]
    assert "SECRET" not in english
    assert run(["history", "log", *folder, "--language", "ar", "--of", "amal"]) == 0
    arabic = capsys.readouterr().out
    assert "حذف محادثة" in arabic
    assert "visitor-1" not in arabic
    assert run(["history", "log", *folder, "--since", "2999-01-01"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["history", "log", *folder, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["sequence"] for one in found] == list(range(1, len(found) + 1))
    assert {"time", "who", "action", "subject", "hash"} <= found[0].keys()


def test_a_copy_of_everything_is_in_the_record(folder, settings, tmp_path, capsys):
    """A backup is an export: it is noted, in the copy too."""
    assert run(["history", "backup", *folder, str(tmp_path / "copy")]) == 0
    for database in (settings.database_path, tmp_path / "copy" / "history.sqlite3"):
        with HistoryStore.open(database) as store:
            assert [one.action for one in store.audit()][-1] == "backed_up"
            assert store.verify() is None
    assert capsys.readouterr().out


def test_a_record_written_anew_is_found_by_a_head_kept(folder, settings, capsys):
    """What verify told earlier, kept elsewhere, tells a record from one made up since."""
    assert run(["history", "verify", *folder, "--language", "en"]) == 0
    number, digest = capsys.readouterr().out.split()[-2:]
    assert run(["history", "verify", *folder, "--kept", number, digest]) == 0
    assert run(["history", "verify", *folder, "--kept", number, "0" * 64]) == 1
    assert run(["history", "verify", *folder, "--kept", str(int(number) + 1), digest]) == 1
    assert run(["history", "verify", *folder, "--kept", "x", digest]) == 1
    assert settings.database_path.is_file()


def test_every_action_has_its_words():
    """Nothing stands in the record that the list cannot say."""
    for action in get_args(Action):
        for locale in LOCALES:
            assert Catalogue().text(f"history.did_{action}", locale)
