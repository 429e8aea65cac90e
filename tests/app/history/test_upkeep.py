"""A history is copied while it is used, put back whole, checked, compacted and pruned as announced."""

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from app.cli import run
from app.errors import BackupExistsError, BackupUnusableError, HistoryExistsError
from app.history.store import HistoryStore
from app.history.upkeep import back_up, compact, examine, expired, prune, restore


@pytest.fixture
def folder(tmp_path):
    """Make a data folder with one conversation about one image, and an image nobody recorded."""
    made = tmp_path / "data"
    for digest in ("d1", "stray"):
        (made / "images" / digest).mkdir(parents=True)
        (made / "images" / digest / "frames.npy").write_bytes(b"pixels of " + digest.encode())
    with HistoryStore.open(made / "history.sqlite3") as store:
        store.add_image("amal", "d1", "CT Chest")
        _ask(store, "first question", "d1")
    return made


def _ask(store, question, digest=None):
    shown = [(digest, {}, "r")] if digest else []
    thread, _, answer = store.begin_turn("amal", None, question, shown, "demo")
    store.finish(answer, "an answer", "complete")
    return thread


def _questions(folder):
    with HistoryStore.open(folder / "history.sqlite3") as store:
        return [store.load("amal", t.id).turns[0].question for t in store.threads("amal", 10_000)]


def _sql(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, values)
        connection.commit()


# --- backup and restore -----------------------------------------------------------------------------


def test_a_backup_comes_back_whole(folder, tmp_path):
    """Conversations, search, record and pixels; images nobody has are not copied."""
    assert back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy") == 1
    assert restore(tmp_path / "copy", tmp_path / "new") is None
    assert _questions(tmp_path / "new") == ["first question"]
    assert (tmp_path / "new" / "images" / "d1" / "frames.npy").read_bytes() == b"pixels of d1"
    assert not (tmp_path / "new" / "images" / "stray").exists()
    assert [f.name for f in (tmp_path / "new").iterdir() if f.name.startswith(".")] == []
    with HistoryStore.open(tmp_path / "new" / "history.sqlite3") as store:
        assert len(store.search("amal", "question")) == 1
        assert store.verify() is None
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "copy" / "history.sqlite3").stat().st_mode & 0o777 == 0o600


def test_a_backup_taken_while_somebody_writes_is_one_moment(folder, tmp_path):
    """Every conversation told before it began is in it, each whole; the writer is never refused."""
    told, failures, stop = [], [], threading.Event()

    def write(store):
        try:
            while not stop.is_set():
                _ask(store, f"question {len(told)}")
                told.append(len(told))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    with HistoryStore.open(folder / "history.sqlite3") as store:
        writer = threading.Thread(target=write, args=(store,))
        writer.start()
        while len(told) < 5 and not failures:
            stop.wait(0.01)
        before = len(told)
        back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy")
        stop.set()
        writer.join()
    assert failures == []
    found = _questions(tmp_path / "copy")
    assert {f"question {number}" for number in range(before)} <= set(found)
    health = examine(tmp_path / "copy" / "history.sqlite3")
    assert (health.problems, health.broken) == ((), None)


def test_a_backup_overwrites_nothing(folder, tmp_path):
    """What is at the destination stays; without a history there is nothing to copy."""
    (tmp_path / "copy").mkdir()
    with pytest.raises(BackupExistsError, match="exists already"):
        back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy")
    with pytest.raises(BackupUnusableError, match="there is no history"):
        back_up(tmp_path / "none.sqlite3", folder / "images", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_restoring_moves_aside_only_when_told(folder, tmp_path):
    """Without leave nothing changes; with it the history that was there can still be opened."""
    back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy")
    with HistoryStore.open(folder / "history.sqlite3") as store:
        _ask(store, "second question")
    with pytest.raises(HistoryExistsError, match="--yes"):
        restore(tmp_path / "copy", folder)
    assert _questions(folder) == ["second question", "first question"]
    aside = restore(tmp_path / "copy", folder, overwrite=True)
    assert _questions(folder) == ["first question"]
    assert _questions(aside) == ["second question", "first question"]
    assert (aside / "images" / "stray").is_dir()


@pytest.mark.parametrize("damage", ["header", "page", "foreign", "missing"])
def test_a_damaged_backup_touches_nothing(folder, tmp_path, damage):
    """It is refused before the history that is there is moved."""
    back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy")
    file = tmp_path / "copy" / "history.sqlite3"
    data = bytearray(file.read_bytes())
    if damage == "header":
        data[:16] = b"not a database.."
    elif damage == "page":
        data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    if damage == "foreign":
        file.unlink()
        _sql(file, "CREATE TABLE images (x)")
    elif damage == "missing":
        file.unlink()
    with pytest.raises(BackupUnusableError):
        restore(tmp_path / "copy", folder, overwrite=True)
    assert _questions(folder) == ["first question"]
    assert sorted(place.name for place in folder.iterdir()) == ["history.sqlite3", "images"]


# --- checking, compacting ---------------------------------------------------------------------------


def test_what_is_wrong_is_named(folder):
    """A row of the record that was changed, an index that does not fit its rows, a row without its parent."""
    path = folder / "history.sqlite3"
    _sql(path, "UPDATE audit SET subject = 'x' WHERE sequence = 1")
    health = examine(path)
    assert (health.problems, health.broken.kind, health.broken.sequence) == ((), "changed", 1)
    _sql(path, "INSERT INTO search_1(search_1, rowid, facets, words) VALUES ('delete', 5, 'o', 'question')")
    assert len(examine(path).problems) == 1
    _sql(path, "DELETE FROM threads")
    assert len(examine(path).problems) > 1


def test_compacting_gives_back_room_and_keeps_everything_else(folder):
    """The file shrinks after a deletion; nothing of what was deleted is in it."""
    with HistoryStore.open(folder / "history.sqlite3") as store:
        store.delete("amal", _ask(store, "MARKER " * 50_000))
    before, after = compact(folder / "history.sqlite3")
    assert after < before / 2
    assert b"MARKER" not in (folder / "history.sqlite3").read_bytes()
    assert _questions(folder) == ["first question"]


# --- retention --------------------------------------------------------------------------------------


def _age(path, thread, days):
    moment = datetime.now(UTC) - timedelta(days=days)
    _sql(path, "UPDATE threads SET updated = ? WHERE id = ?", f"{moment:%Y-%m-%d %H:%M:%S.%f}", thread)


def test_retention_lists_the_old_and_spares_the_pinned(folder):
    """What is listed is what is deleted, but for what was pinned or used in between."""
    path = folder / "history.sqlite3"
    with HistoryStore.open(path) as store:
        first = store.threads("amal")[0].id
        old, pinned, late, new = (_ask(store, f"q {n}") for n in range(4))
        store.pin("amal", pinned)
        for thread in (first, old, pinned, late):
            _age(path, thread, 40)
        listed = expired(store._database, datetime.now(UTC) - timedelta(days=30))
        assert {(e.owner, e.thread_id, e.turn_count) for e in listed} == {
            ("amal", thread, 1) for thread in (first, old, late)
        }
        store.begin_turn("amal", late, "again", [], "demo")
        assert prune(store._database, listed) == (2, ["d1"])
        assert {t.id for t in store.threads("amal")} == {pinned, late, new}
        assert [e.subject for e in store.audit() if e.action == "pruned"] == [e.thread_id for e in listed[:2]]
        assert store.verify() is None
        assert store.search("amal", "first") == []


# --- the command ------------------------------------------------------------------------------------


def test_the_commands_say_what_they_do(folder, tmp_path, capsys):
    """Each in the user's language, with an exit status that tells a script how it went."""

    def said(*words, status=0, language="en"):
        assert run(["history", *words, "--data-folder", str(folder), "--language", language]) == status
        out = capsys.readouterr()
        return out.err if status else out.out

    copy = str(tmp_path / "copy")
    assert "Images copied: 1" in said("backup", copy)
    assert "exists already" in said("backup", copy, status=1)
    assert "Add --yes" in said("restore", copy, status=1)
    assert "was restored" in said("restore", copy, "--yes")
    assert "Newest entry: 2 " in said("verify")
    assert "السجل سليم" in said("verify", language="ar")
    assert "MB" in said("vacuum")
    assert "would be deleted: 0" in said("prune", "--older-than", "30")
    with HistoryStore.open(folder / "history.sqlite3") as store:
        thread = store.threads("amal")[0].id
    _age(folder / "history.sqlite3", thread, 40)
    told = said("prune", "--older-than", "30")
    assert thread in told
    assert "would be deleted: 1" in told
    assert _questions(folder) == ["first question"]
    assert "deleted: 1. Images deleted: 1" in said("prune", "--older-than", "30", "--yes")
    assert _questions(folder) == []
    assert not (folder / "images" / "d1").exists()
    _sql(folder / "history.sqlite3", "DELETE FROM audit WHERE sequence = 2")
    assert run(["history", "verify", "--data-folder", str(folder), "--language", "en"]) == 1
    assert "entry 2 was removed" in capsys.readouterr().out


@pytest.mark.parametrize("days", ["0", "-1", "x", "1.5", "٣", "999999"])
def test_days_are_a_number_from_one_on(days, capsys):
    """Anything else deletes nothing."""
    with pytest.raises(SystemExit) as left:
        run(["history", "prune", f"--older-than={days}", "--yes"])
    assert left.value.code == 2
    assert "expected a number of days" in capsys.readouterr().err
