"""A full disk, very long texts, clocks that go backwards and several processes at once lose nothing."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import StorageUnavailableError
from app.history.store import HistoryStore

ROOT = Path(__file__).parents[3]


def test_a_question_of_ten_megabytes_is_kept_found_and_deleted(store):
    """Nothing is cut; a word of its beginning finds it."""
    text = "beginning " + f"{'نص' * 20} 12.5 {'x' * 60} " * 70_000
    assert len(text.encode()) > 10_000_000
    thread, _, answer = store.begin_turn("amal", None, text, [], "demo")
    store.finish(answer, "short", "complete")
    assert store.load("amal", thread).turns[0].question == text
    (hit,) = store.search("amal", "beginning")
    assert len(hit.excerpt) < 400
    assert store.verify() is None
    store.delete("amal", thread)
    assert store.search("amal", "beginning") == []


def test_a_full_disk_is_told_and_nothing_stored_is_lost(path, store):
    """What does not fit fails as a whole and says why; with room again the history goes on."""
    thread, _, answer = store.begin_turn("amal", None, "before", [], "demo")
    with store._database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    limited = [store._database._engine.raw_connection() for _ in range(3)]
    for connection in limited:
        connection.cursor().execute(f"PRAGMA max_page_count={pages}")
    for connection in limited:
        connection.close()
    with pytest.raises(StorageUnavailableError, match=r"full.*free space"):
        store.begin_turn("amal", thread, "too much " * 50_000, [], "demo")
    with pytest.raises(StorageUnavailableError, match="full"):
        store.grow(answer, "too much " * 50_000)
    assert [turn.question for turn in store.load("amal", thread).turns] == ["before"]
    with HistoryStore.open(path) as again:
        again.finish(answer, "after", "complete")
        again._database.check_index()
        assert again.verify() is None
        assert again.load("amal", thread).turns[0].answers[0].text == "after"


def test_a_clock_that_goes_back_changes_no_order(store, monkeypatch):
    """Turns and answers stay in the order they were given; the record stays whole."""
    moments = iter(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=n) for n in range(1000))
    monkeypatch.setattr("app.history.store._now", lambda: next(moments))
    thread = None
    for number in range(5):
        thread, turn, answer = store.begin_turn("amal", thread, f"q{number}", [], "demo")
        store.finish(answer, f"a{number}", "complete")
        store.finish(store.begin_answer("amal", turn, "demo"), f"b{number}", "complete")
    loaded = store.load("amal", thread)
    assert [turn.question for turn in loaded.turns] == [f"q{n}" for n in range(5)]
    assert [[a.text for a in turn.answers] for turn in loaded.turns] == [[f"a{n}", f"b{n}"] for n in range(5)]
    assert store.verify() is None


WRITER = """
import sys
from app.history.store import HistoryStore
source, owner = sys.argv[1:]
with HistoryStore.open(source) as store:
    thread = None
    for number in range(15):
        thread, turn, answer = store.begin_turn(owner, thread, f"question {number}", [], "demo")
        for length in range(5):
            store.grow(answer, "x" * length)
        store.finish(answer, "end", "complete")
        store.judge(owner, answer, ["other"])
        branch = store.fork(owner, thread, turn)
        store.delete(owner, branch)
"""


def test_several_processes_share_one_history(source, store):
    """Three processes ask, judge, branch and delete at once; none fails, nothing is mixed up or lost."""
    place = str(source)
    command = [sys.executable, "-c", WRITER, place]
    running = [subprocess.Popen([*command, f"owner{n}"], cwd=ROOT, stderr=subprocess.PIPE) for n in range(3)]
    for one in running:
        _, err = one.communicate(timeout=200)
        assert one.returncode == 0, err.decode()[-2000:]
    for number in range(3):
        (summary,) = store.threads(f"owner{number}")
        turns = store.load(f"owner{number}", summary.id).turns
        assert [turn.question for turn in turns] == [f"question {n}" for n in range(15)]
        assert {turn.answers[0].text for turn in turns} == {"end"}
    store._database.check_index()
    assert store.verify() is None
