"""The database keeps its schema, survives kills, waits instead of failing, and forgets completely."""

import gc
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from app.errors import StorageForeignError, StorageTooNewError, StorageUnavailableError
from app.history import database
from app.history.models import metadata
from app.history.store import HistoryStore

ROOT = Path(__file__).parents[3]


def _files(path):
    """Every byte of the database: the file, its log and its index."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


def _upgrade(path, revision):
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "app" / "history" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def _is_ours(name, kind, _parents):
    """All but the full-text index, which SQLite alone has and no model describes."""
    return kind != "table" or not name.startswith("search")


def _differences(path):
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": _is_ours}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    engine.dispose()
    return found


def _schema(path):
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    connection.close()
    return found


# --- schema -----------------------------------------------------------------------------------------


def test_a_fresh_database_is_the_models(path):
    """The migrations from nothing make exactly the tables the code speaks of."""
    HistoryStore.open(path).close()
    assert _differences(path) == []


def test_an_old_database_becomes_the_same_and_keeps_its_rows(path, tmp_path):
    """A history of revision 1 is brought to today's schema with everything in it."""
    _upgrade(path, "0001")
    assert _differences(path) != []
    connection = sqlite3.connect(path)
    now = "2026-01-02 03:04:05.000000"
    connection.execute("INSERT INTO threads VALUES ('t', 'amal', 'title', ?, ?)", (now, now))
    connection.execute("INSERT INTO turns VALUES ('u', 't', 0, 'q', ?)", (now,))
    connection.execute(
        "INSERT INTO answers VALUES ('a', 'u', 0, 'text', 'complete', 'demo', 'en', NULL, NULL, NULL, ?, ?)",
        (now, now),
    )
    connection.execute("INSERT INTO views VALUES ('u', 0, 'd', '{\"frame\": 1}', 'r')")
    connection.commit()
    connection.close()
    with HistoryStore.open(path) as store:
        (turn,) = store.load("amal", "t").turns
        assert (turn.question, turn.answers[0].text, turn.views[0].view) == ("q", "text", {"frame": 1})
        assert store.threads("amal")[0].updated.isoformat() == "2026-01-02T03:04:05+00:00"
    assert _differences(path) == []
    HistoryStore.open(tmp_path / "fresh.sqlite3").close()
    assert _schema(path) == _schema(tmp_path / "fresh.sqlite3")


def test_opening_again_changes_nothing(path):
    """A database of today's schema is taken as it is."""
    HistoryStore.open(path).close()
    before = _schema(path)
    HistoryStore.open(f"sqlite:///{path}").close()
    assert _schema(path) == before


def test_a_newer_database_is_refused_untouched(path):
    """What a later version wrote is not damaged by an earlier one; both revisions are named."""
    HistoryStore.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    before = _files(path)
    with pytest.raises(StorageTooNewError, match="revision 0999, this version knows up to 00"):
        HistoryStore.open(path)
    assert _files(path) == before


def test_another_programs_database_is_refused(path):
    """Tables of something else are left alone."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE moz_places (x)")
    connection.close()
    with pytest.raises(StorageForeignError, match="found tables moz_places"):
        HistoryStore.open(path)


def test_what_is_no_database_or_cannot_be_made_is_reported(path, tmp_path):
    """A damaged file and a folder that is a file say where and why."""
    path.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StorageUnavailableError, match=r"history\.sqlite3 cannot be .*not a database"):
        HistoryStore.open(path)
    with pytest.raises(StorageUnavailableError, match="Check that the folder exists"):
        HistoryStore.open(path / "inside" / "h.sqlite3")
    with pytest.raises(StorageUnavailableError):
        HistoryStore.open(tmp_path)


def test_the_files_are_their_users_alone(tmp_path):
    """Nobody else on the machine can read a conversation."""
    path = tmp_path / "data" / "history.sqlite3"
    with HistoryStore.open(path) as store:
        store.begin_turn("amal", None, "q", [], "demo")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 4
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_connections_are_prepared(path, store):
    """Each connection waits, checks foreign keys, overwrites deleted rows and logs ahead."""
    assert path.exists()
    database = store._database
    expected = {"journal_mode": "wal", "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 15000}
    with database.read() as connection:
        for name, value in expected.items():
            assert connection.execute(text(f"PRAGMA {name}")).scalar() == value
    for durable, level in ((True, 2), (False, 1), (True, 2)):
        with database.write(durable=durable) as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == level


def test_an_error_of_the_disk_tells_nothing_of_the_conversation(path, store):
    """What the user and the log see names the place and the reason, not the text."""
    assert path.exists()
    with store._database.write() as connection:
        connection.exec_driver_sql("DROP TABLE answers")
    with pytest.raises(StorageUnavailableError, match="no such table") as caught:
        store.begin_turn("amal", None, "patient secret", [], "demo")
    chain = [caught.value, caught.value.__cause__]
    assert not any("secret" in str(error) for error in chain)
    assert store.threads("amal") == []


def test_migrations_run_from_an_installed_package(tmp_path):
    """They are found beside the package wherever it is installed, whatever the current folder is."""
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    for package in ("app", "engine", "viewers", "i18n"):
        shutil.copytree(ROOT / package, installed / package, ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere.mkdir()
    program = (
        "import app.history.database as d; assert 'installed' in d.__file__, d.__file__\n"
        "from app.history.store import HistoryStore\n"
        "with HistoryStore.open('h.sqlite3') as s: s.begin_turn('amal', None, 'q', [], 'demo')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command_line = [sys.executable, "-W", "error", "-c", program]
    subprocess.run(command_line, cwd=elsewhere, env=environment, check=True)
    assert _differences(elsewhere / "h.sqlite3") == []


# --- several at once --------------------------------------------------------------------------------


def test_four_writers_and_a_reader_never_meet_a_lock(path, recwarn):
    """Four answers stream at eight pieces a second and faster while lists are read; none fails."""
    failures = []

    def stream(store, owner):
        try:
            thread = None
            for number in range(5):
                thread, _, answer = store.begin_turn(owner, thread, f"q{number}", [], "demo")
                for length in range(1, 30):
                    store.grow(answer, "x" * length * 40)
                store.finish(answer, "end", "complete")
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    with HistoryStore.open(path) as store, HistoryStore.open(path) as other_process:
        writers = [
            threading.Thread(target=stream, args=(store if n % 2 else other_process, f"owner{n}"))
            for n in range(4)
        ]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            for summary in store.threads("owner1"):
                store.load("owner1", summary.id)
            time.sleep(0.01)
        for writer in writers:
            writer.join()
        assert failures == []
        for number in range(4):
            (summary,) = store.threads(f"owner{number}")
            loaded = store.load(f"owner{number}", summary.id)
            assert [turn.answers[0].text for turn in loaded.turns] == ["end"] * 5
    gc.collect()
    assert [w for w in recwarn if issubclass(w.category, ResourceWarning)] == []


# --- deletion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_deletion_leaves_no_byte(path, seed):
    """After delete no part of question, title, answer, view or label is in any file of the database."""
    chance = random.Random(seed)
    markers = [f"MARKER{kind}" for kind in ("question", "answer", "view", "label", "error")]

    def fill(store, owner, marked):
        words = markers if marked else ["other"] * 5
        digest = "marked" if marked else "plain"
        store.add_image(owner, digest, words[3])
        thread = None
        for _ in range(chance.randint(1, 6)):
            view = (digest, {"note": words[2]}, "r")
            question = f"{words[0]} {'q' * chance.randint(0, 3000)}"
            thread, turn, answer = store.begin_turn(owner, thread, question, [view], "demo")
            grown = ""
            for _ in range(chance.randint(1, 25)):
                grown += f"{words[1]} " * chance.randint(1, 40)
                store.grow(answer, grown)
            store.finish(answer, grown, "failed", error_key="engine.error", error_values={"reason": words[4]})
            if chance.random() < 0.5:
                store.grow(store.begin_answer(owner, turn, "demo"), grown[: len(grown) // 2])
        return thread

    with HistoryStore.open(path) as store:
        threads = [(fill(store, "amal", marked=marked), marked) for marked in [True, False] * 6]
        assert all(marker.encode() in _files(path) for marker in markers)
        for thread, marked in chance.sample(threads, len(threads)):
            if marked:
                store.delete("amal", thread)
        bytes_left = _files(path)
        assert [marker for marker in markers if marker.encode() in bytes_left] == []
        assert b"other" in bytes_left
        assert all(store.load("amal", thread).turns for thread, marked in threads if not marked)


def test_deletion_waits_for_a_reader_in_another_thread(path):
    """A list being read meanwhile delays the emptying of the log, it does not prevent it."""
    with HistoryStore.open(path) as store:
        thread, _, answer = store.begin_turn("amal", None, "MARKER", [], "demo")
        store.finish(answer, "MARKER", "complete")
        reading, done = threading.Event(), threading.Event()

        def read():
            with store._database.read() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM turns").scalar()
                reading.set()
                done.wait(30)

        reader = threading.Thread(target=read)
        reader.start()
        reading.wait(30)
        threading.Timer(0.5, done.set).start()
        store.delete("amal", thread)
        reader.join()
        assert b"MARKER" not in _files(path)


def test_importing_opens_nothing():
    """The store is light to import: no file of the migrations, no Alembic."""
    program = (
        "import sys, app.history.store\n"
        "assert 'alembic' not in sys.modules and 'gradio' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert database._MIGRATIONS.is_absolute()
