"""Kill a process that four users stream through, again and again; what was told must be there.

    python -m tests.app.history.kills HISTORY KILLS SEED

It is a program of its own without threads, so that it may fork: a child begins warm, within milliseconds,
and two hundred deaths take less than a minute. Prints one line of counts; any loss ends it with an error.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import alembic.command
import alembic.script  # noqa: F401

from app.history.store import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

_USERS: Final = ("amal", "badr", "carol", "dawud")
_MOST_LINES: Final = 24
"""A child lives until it has told so much, however slow the machine is, and then a moment more."""
_LONGEST_S: Final = 0.02
_A_HISTORY: Final = 10
"""Deaths a history goes through; comparing it stays quick."""
_ALL: Final = """
SELECT threads.owner, turns.thread_id, answers.turn_id, turns.question, answers.id, answers.text,
       answers.state,
       (SELECT count(*) FROM feedback WHERE answer_id = answers.id) AS judged
FROM answers JOIN turns ON turns.id = answers.turn_id JOIN threads ON threads.id = turns.thread_id
"""
_NEVER: Final = 10**9


def _words(answer_number: str, count: int) -> str:
    return "".join(f"كلمة {answer_number}-{n}, 12.5 mm. " for n in range(count))


def _live(source: str, name: str, tell: Callable[[str], object]) -> None:
    """Be the application: recover, then stream answers of four users until killed."""
    store = HistoryStore.open(source)
    store.recover()
    tell("ready")
    for user in _USERS[1:]:
        threading.Thread(target=_stream, args=(store, user, name, tell), daemon=True).start()
    _stream(store, _USERS[0], name, tell)


def _stream(store: HistoryStore, user: str, name: str, tell: Callable[[str], object]) -> None:
    chance = random.Random(f"{name} {user}")
    mine: list[str] = []
    thread = None
    for number in range(_NEVER):
        tag = f"{name}.{user}.{number}"
        view = (["d1", "d2"], {"n": number}, "r")
        thread, turn, answer = store.begin_turn(user, thread, f"question {tag}", [view], "demo")
        tell(f"turn {user} {thread} {turn} {answer} {tag}")
        count = 0
        for _ in range(chance.randint(1, 6)):
            count += chance.randint(1, 9)
            store.grow(answer, _words(tag, count))
            tell(f"text {answer} {count}")
        store.finish(answer, _words(tag, count), "complete")
        tell(f"done {answer} {count}")
        if chance.random() < 0.3:
            store.judge(user, answer, ["wrong_side"])
            tell(f"judged {answer}")
        if chance.random() < 0.5:
            mine.append(thread)
            thread = None
        if len(mine) > 2:
            gone = mine.pop(0)
            tell(f"deleting {gone}")
            store.delete(user, gone)
            tell(f"deleted {gone}")


def _kill_one(source: str, name: str, chance: random.Random) -> list[list[str]]:
    """Let a child live for a random while; returns the lines it told before it was killed."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _live(source, name, lambda line: os.write(writing, f"{line}\n".encode()))
        finally:
            os._exit(3)  # only a mistake comes here
    os.close(writing)
    told, lines = b"", 0
    wanted = chance.choice((0, 1, 2, 5)) if chance.random() < 0.2 else chance.randint(1, _MOST_LINES)
    while lines < wanted and (some := os.read(reading, 1 << 16)):
        told += some
        lines += some.count(b"\n")
    time.sleep(chance.uniform(0, _LONGEST_S))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while some := os.read(reading, 1 << 16):
        told += some
    os.close(reading)
    if status != signal.SIGKILL:
        raise AssertionError(f"the child ended by itself, status {status}, after {told[-200:]!r}")
    return [line.split() for line in told.decode().split("\n")[:-1]]


class Tally:
    """What was told so far and must be there."""

    def __init__(self) -> None:
        self.turns: dict[str, tuple[str, str, str, str]] = {}
        self.least: dict[str, int] = {}
        self.done: set[str] = set()
        self.judged: set[str] = set()
        self.deleting: set[str] = set()
        self.deleted: set[str] = set()

    def note(self, lines: list[list[str]]) -> None:
        """Take in what a child told."""
        for kind, *values in lines:
            if kind == "turn":
                user, thread, turn, answer, tag = values
                self.turns[answer] = (user, thread, turn, tag)
            elif kind in {"text", "done"}:
                self.least[values[0]] = int(values[1])
                if kind == "done":
                    self.done.add(values[0])
            elif kind == "judged":
                self.judged.add(values[0])
            elif kind == "deleting":
                self.deleting.add(values[0])
            elif kind == "deleted":
                self.deleted.add(values[0])

    def check(self, store: HistoryStore) -> int:
        """Compare; returns how many answers were cut off."""
        with store._database.read() as connection:
            rows = connection.exec_driver_sql(_ALL).all()
            images = connection.exec_driver_sql("SELECT count(*) FROM view_images").scalar_one()
        found = {row.id: row for row in rows}
        assert images == 2 * len({row.turn_id for row in rows})
        cut = 0
        for answer_id, (user, thread, turn_id, tag) in self.turns.items():
            if thread in self.deleting and answer_id not in found:
                continue
            assert thread not in self.deleted, f"deleted and there: {thread}"
            answer = found[answer_id]
            assert (answer.owner, answer.thread_id, answer.turn_id) == (user, thread, turn_id)
            assert answer.question == f"question {tag}"
            least = _words(tag, self.least.get(answer_id, 0))
            assert answer.text.startswith(least), f"{tag}: {len(answer.text)} of {len(least)} characters"
            assert answer.state in ({"complete"} if answer_id in self.done else {"complete", "interrupted"})
            assert answer.judged or answer_id not in self.judged
            cut += answer.state == "interrupted"
        assert {row.state for row in rows} <= {"complete", "interrupted"}
        return cut


def _check_file(store: HistoryStore) -> None:
    with store._database.read() as connection:
        for pragma, expected in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
            assert [tuple(row) for row in connection.exec_driver_sql(f"PRAGMA {pragma}")] == expected


def main(source: str, kills: int, seed: int) -> None:
    """Kill, recover and compare; a new history every so often, so that comparing stays quick."""
    chance = random.Random(seed)
    messages = cut = 0
    for start in range(0, kills, _A_HISTORY):
        place = source if "://" in source else f"{source}.{start}"
        with HistoryStore.open(place) as store:
            for user in _USERS:
                store.add_image(user, "d1", "CT Chest")
                store.add_image(user, "d2", "MR Brain")
        tally = Tally()
        for number in range(start, min(start + _A_HISTORY, kills)):
            tally.note(_kill_one(place, f"{seed}.{number}", chance))
            with HistoryStore.open(place) as store:
                store.recover()
                last = tally.check(store)
                store._database.check_index()
                broken = store.verify()
                assert broken is None, broken
                if "://" not in place:
                    _check_file(store)
        messages += len(tally.turns) + len(tally.done)
        cut += last
        if "://" not in place:
            for file in Path(place).parent.glob(f"{Path(place).name}*"):
                file.unlink()
    print(f"kills {kills} messages {messages} interrupted {cut}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
