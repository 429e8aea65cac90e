"""A history is copied while it is used, put back whole, checked, compacted and pruned as announced."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from app.cli import run
from app.errors import BackupExistsError, BackupUnusableError, HistoryBusyError, HistoryExistsError
from app.history.lock import FilesLock, UseLock, lock_file
from app.history.models import threads
from app.history.retention import Retention, expired, prune, remove_files, stray, unasked
from app.history.store import HistoryStore
from app.history.upkeep import back_up, compact, examine, restore


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
    assert [f.name for f in (tmp_path / "new").iterdir() if f.name.startswith(".restore")] == []
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
    assert sorted(place.name for place in folder.glob("[!.]*")) == ["history.sqlite3", "images"]


def test_a_backup_is_made_while_conversations_go(folder, tmp_path, monkeypatch):
    """An image that is deleted under the copying is one that was deleted; the rest is copied."""
    digests = [f"{number:064x}" for number in range(6)]
    with HistoryStore.open(folder / "history.sqlite3") as store:
        for digest in digests:
            (folder / "images" / digest).mkdir()
            for name in ("image.json", "frames.npy"):
                (folder / "images" / digest / name).write_bytes(b"pixels")
            store.add_image("amal", digest, "CT Chest")
            _ask(store, "question", digest)
    gone = iter(digests[:3])
    copy = shutil.copy2

    def copied(source, target):
        source = Path(source)
        if source.parent.name in digests[3:]:
            return copy(source, target)
        shutil.rmtree(folder / "images" / next(gone, "none"), ignore_errors=True)
        shutil.rmtree(source.parent, ignore_errors=True)
        return copy(source, target)

    monkeypatch.setattr(shutil, "copy2", copied)
    assert back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy") == 3
    assert sorted(place.name for place in (tmp_path / "copy" / "images").iterdir()) == digests[3:]


def test_an_image_is_copied_whole_or_not_at_all(folder, tmp_path):
    """Whoever deletes one waits for its copy."""
    files = FilesLock(folder / ".images.lock")
    database, copied = folder / "history.sqlite3", []
    with files:
        thread = threading.Thread(
            target=lambda: copied.append(back_up(database, folder / "images", tmp_path / "copy", files))
        )
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(30)
    assert copied == [1]


def test_a_changed_backup_is_put_in_place_and_told(folder, tmp_path, capsys):
    """There may be no other one; whoever restores it has to know."""
    back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy")
    told = []
    restore(tmp_path / "copy", tmp_path / "whole", on_broken=told.append)
    assert told == []
    _sql(tmp_path / "copy" / "history.sqlite3", "UPDATE turns SET question = 'another question'")
    restore(tmp_path / "copy", tmp_path / "new", on_broken=told.append)
    assert [link.kind for link in told] == ["content"]
    assert _questions(tmp_path / "new") == ["another question"]
    third = ["--data-folder", str(tmp_path / "third"), "--language", "en"]
    assert run(["history", "restore", str(tmp_path / "copy"), *third]) == 1
    assert "is not as it was stored" in capsys.readouterr().out


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


def test_a_copy_before_an_update_is_made_of_what_is_there(folder, tmp_path):
    """A history of an earlier version is copied and stays as it is; restoring brings it up to date."""
    path = folder / "history.sqlite3"
    _sql(path, "UPDATE alembic_version SET version_num = ?", "0013")
    back_up(path, folder / "images", tmp_path / "copy")
    for database in (path, tmp_path / "copy" / "history.sqlite3"):
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0013",)]
    restore(tmp_path / "copy", tmp_path / "new")
    assert _questions(tmp_path / "new") == ["first question"]


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
        listed = expired(store._database, Retention(plain=30), datetime.now(UTC))
        assert {(e.owner, e.thread_id, e.turn_count) for e in listed} == {
            ("amal", thread, 1) for thread in (first, old, late)
        }
        store.begin_turn("amal", late, "again", [], "demo")
        assert prune(store._database, listed) == (2, ["d1"])
        assert {t.id for t in store.threads("amal")} == {pinned, late, new}
        assert [e.subject for e in store.audit() if e.action == "pruned"] == [e.thread_id for e in listed[:2]]
        assert store.verify() is None
        assert store.search("amal", "first") == []


def test_each_class_has_days_of_its_own(store):
    """Plain, tagged and pinned conversations go by their own rule; one that changed its class stays."""
    kinds = {
        kind: [_ask(store, f"{kind} {days}") for days in (10, 100)] for kind in ("plain", "tagged", "pinned")
    }
    for thread in kinds["tagged"] + kinds["pinned"]:
        store.tag("amal", thread, ["x"])
    for thread in kinds["pinned"]:
        store.pin("amal", thread)
    now = datetime.now(UTC)
    with store._database.write() as connection:
        for some in kinds.values():
            for thread, days in zip(some, (10, 100), strict=True):
                values = {"updated": now - timedelta(days=days)}
                connection.execute(update(threads).where(threads.c.id == thread).values(**values))

    def due(**days):
        return {item.thread_id for item in expired(store._database, Retention(**days), now)}

    assert due() == due(images=1) == set()
    assert due(plain=50) == {kinds["plain"][1]}
    assert due(plain=5, tagged=50) == {*kinds["plain"], kinds["tagged"][1]}
    assert due(pinned=50) == {kinds["pinned"][1]}
    listed = expired(store._database, Retention(plain=5, tagged=5, pinned=5), now)
    assert [item.kind for item in listed[:3]] == ["plain", "tagged", "pinned"]
    store.tag("amal", kinds["plain"][0], ["follow-up"])
    store.pin("amal", kinds["tagged"][0])
    assert prune(store._database, listed)[0] == 4
    assert {t.id for t in store.threads("amal")} == {kinds["plain"][0], kinds["tagged"][0]}
    assert store.verify() is None


def test_images_nobody_asked_about_are_cleaned(store, tmp_path):
    """Those shown in a conversation stay, and one opened again or asked about since; pixels go last."""
    names = {name: name * 64 for name in "abcdef"}
    folder = tmp_path / "images"
    for name in names.values():
        (folder / name).mkdir(parents=True)
    (folder / "notes").mkdir()
    for name in "abcd":
        store.add_image("amal", names[name], "CT")
    store.add_image("badr", names["a"], "CT")
    _ask(store, "about b", names["b"])
    later = datetime.now(UTC) + timedelta(days=10)
    listed = unasked(store._database, Retention(images=5), later)
    assert {(i.owner, i.digest[:1]) for i in listed} == {
        ("amal", "d"), ("amal", "a"), ("amal", "c"), ("badr", "a")
    }  # fmt: skip
    assert unasked(store._database, Retention(images=50), later) == []
    _ask(store, "about c after all", names["c"])
    _, orphans = prune(store._database, [], listed)
    assert orphans == [names["a"], "d1", names["d"]]
    store.add_image("badr", names["d"], "CT")  # opened again before its pixels were deleted
    assert remove_files(store._database, folder, orphans, nullcontext()) == 1
    assert sorted(place.name[0] for place in folder.iterdir()) == ["b", "c", "d", "e", "f", "n"]
    assert stray(store._database, folder) == []  # too young to be sure
    for place in folder.iterdir():
        os.utime(place, (0, 0))
    assert stray(store._database, folder) == [names["e"], names["f"]]


# --- several processes ------------------------------------------------------------------------------


def test_nothing_is_restored_over_a_history_in_use(folder, tmp_path):
    """Another process that has it open is told of; once that has ended, by any means, it works."""
    back_up(folder / "history.sqlite3", folder / "images", tmp_path / "copy")
    program = (
        "import sys; from app.history.store import HistoryStore\n"
        "store = HistoryStore.open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folder / "history.sqlite3")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(HistoryBusyError, match="in use by another process"):
            restore(tmp_path / "copy", folder, overwrite=True)
        with HistoryStore.open(folder / "history.sqlite3") as store:  # several may use it
            assert prune(store._database, []) == (0, [])
        other.kill()
    assert restore(tmp_path / "copy", folder, overwrite=True) is not None
    with UseLock(lock_file(folder / "history.sqlite3"), alone=True), pytest.raises(HistoryBusyError):
        HistoryStore.open(folder / "history.sqlite3")


def test_pixels_change_in_one_process_at_a_time(tmp_path):
    """Two locks on one file exclude each other, as those of two processes do."""
    order = []

    def second():
        with FilesLock(tmp_path / "lock"):
            order.append("second")

    with FilesLock(tmp_path / "lock"):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


# --- from a file to a server and back ---------------------------------------------------------------


def test_a_history_moves_between_databases(store, folder, server, tmp_path):
    """A backup of either database is restored into either, with all rows, found, and its record whole."""
    thread = store.begin_turn("amal", None, "moved question", [("d1", {}, "r")], "demo")[0]
    database = store._database
    source = database._engine.url.render_as_string(hide_password=False)
    if source.startswith("sqlite"):
        source = Path(database.location)
    back_up(source, folder / "images", tmp_path / "copy")
    url, home = server.new(), tmp_path / "home"
    try:
        assert restore(tmp_path / "copy", home, url=url) is None
        assert not (home / "history.sqlite3").exists()
        with HistoryStore.open(url) as there:
            assert there.load("amal", thread) == store.load("amal", thread)
            assert there.head() == store.head()
            assert [hit.thread_id for hit in there.search("amal", "moved")] == [thread]
        assert examine(url).broken is None
        assert min(compact(url)) > 0
        with pytest.raises(HistoryExistsError):
            restore(tmp_path / "copy", tmp_path / "other", url=url)
        back_up(url, home / "images", tmp_path / "again")
    finally:
        server.drop(url)
    restore(tmp_path / "again", tmp_path / "last")
    health = examine(tmp_path / "last" / "history.sqlite3")
    assert (health.problems, health.broken) == ((), None)
    with HistoryStore.open(tmp_path / "last" / "history.sqlite3") as last:
        assert last.load("amal", thread) == store.load("amal", thread)
        last.delete("amal", thread)
        assert last.search("amal", "moved") == []


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
    assert "Newest entry: 3 " in said("verify")
    assert "السجل سليم" in said("verify", language="ar")
    assert "MB" in said("vacuum")
    assert "no rule is given" in said("prune", "--yes")
    assert "would be deleted: 0" in said("prune", "--older-than", "30")
    with HistoryStore.open(folder / "history.sqlite3") as store:
        thread = store.threads("amal")[0].id
    _age(folder / "history.sqlite3", thread, 40)
    told = said("prune", "--older-than", "30")
    assert thread in told
    assert "neither pinned nor tagged" in told
    assert "would be deleted: 1" in told
    assert _questions(folder) == ["first question"]
    assert "deleted: 1. Images deleted: 1" in said("prune", "--older-than", "30", "--yes")
    assert _questions(folder) == []
    assert not (folder / "images" / "d1").exists()
    _sql(folder / "history.sqlite3", "DELETE FROM audit WHERE sequence = 2")
    assert run(["history", "verify", "--data-folder", str(folder), "--language", "en"]) == 1
    assert "Entry 2 of the record is missing" in capsys.readouterr().out


@pytest.mark.parametrize("days", ["0", "-1", "x", "1.5", "٣", "999999"])
def test_days_are_a_number_from_one_on(days, capsys):
    """Anything else deletes nothing."""
    with pytest.raises(SystemExit) as left:
        run(["history", "prune", f"--older-than={days}", "--yes"])
    assert left.value.code == 2
    assert "expected a number of days" in capsys.readouterr().err
