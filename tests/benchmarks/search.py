"""The search in a history in both languages: 50,000 messages, or ``BIMEDIX2_BENCH_MESSAGES`` of them.

Words are drawn as words are used, a few of them very often; the questions asked are drawn the same way.
"""

from __future__ import annotations

import itertools
import os
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from sqlalchemy import insert

from app.history import parts
from app.history.indexing import passage_number
from app.history.models import answers, passages, threads, turns
from app.history.rows import new_id
from app.history.store import HistoryStore
from app.history.words import facets_of, indexed
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable

_MESSAGES: Final = int(os.environ.get("BIMEDIX2_BENCH_MESSAGES", "50000"))
_TURNS_A_THREAD: Final = 5
_A_STEP: Final = 500
"""Threads written in one transaction while the history is made."""
_BEGAN: Final = datetime(2025, 1, 1, tzinfo=UTC)
_COMMON: Final = (
    "lung left right nodule effusion no the of in is pneumothorax fracture mass lobe عقدة رئوية انصباب "
    "جنبي الأيمن الأيسر لا يوجد في الرئة كسر كتلة الفص العلوي"
)


class _Language:
    """Thirty thousand words, drawn by Zipf's law."""

    def __init__(self) -> None:
        self.chance = random.Random(6)
        made = ("".join(self.chance.choices(letters, k=self.chance.randint(3, 10)))
                for letters in itertools.cycle(("abcdefghilmnoprstu", "ابتجحدرسشصطعفقكلمنهوي"))
        )  # fmt: skip
        self._words = [*_COMMON.split(), *itertools.islice(made, 30_000)]
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self._words))))

    def words(self, count: int) -> list[str]:
        return self.chance.choices(self._words, cum_weights=self._weights, k=count)

    def text(self, count: int) -> str:
        return " ".join(self.words(count))


def run() -> tuple[str, list[Row]]:
    """Make the history, then ask it and add to it."""
    language = _Language()
    with (
        tempfile.TemporaryDirectory() as folder,
        HistoryStore.open(Path(folder) / "history.sqlite3") as store,
    ):
        store.add_image("me", "ct", "CT Chest")
        for done in range(0, _MESSAGES, 2 * _TURNS_A_THREAD * _A_STEP):
            _write(store, language, done)
        rows = _searches(store, language)
        rows += _inserts(store, language)
        began = time.perf_counter()
        store.delete("me", store.threads("me", 1)[0].id)
        rows.append(Row("delete a conversation without residue", time.perf_counter() - began, "s"))
    return f"Search, {_MESSAGES:,} messages", rows


def _write(store: HistoryStore, language: _Language, done: int) -> None:
    """Add conversations the way the store writes them, many in one transaction."""
    made: dict[str, list[dict[str, Any]]] = {"threads": [], "turns": [], "answers": [], "passages": []}
    now = _BEGAN + timedelta(seconds=done)
    for _ in range(_A_STEP):
        thread_id, owner = new_id(), language.chance.choice(("me", "me", "other"))
        facets = facets_of(owner, [language.chance.choice(("CT Chest", "MR Brain"))])
        made["threads"].append({"id": thread_id, "owner": owner, "title": "", "created": now, "updated": now})
        for position in range(_TURNS_A_THREAD):
            turn_id, answer_id = new_id(), new_id()
            question, said = language.text(8), language.text(40)
            made["turns"].append(
                {
                    "id": turn_id,
                    "thread_id": thread_id,
                    "position": position,
                    "question": question,
                    "created": now,
                }
            )
            made["answers"].append(
                {"id": answer_id, "turn_id": turn_id, "position": 0, "text": said, "state": "complete",
                 "backend": "bench", "language": "en", "started": now, "finished": now}
            )  # fmt: skip
            for text, belongs in ((question, None), (said, answer_id)):
                now += timedelta(milliseconds=1)
                made["passages"].append(
                    {"id": passage_number(now), "turn_id": turn_id, "answer_id": belongs, "facets": facets,
                     "words": indexed(text)}
                )  # fmt: skip
    with store._database.write(durable=False) as connection:  # no public way in is this fast
        for table in (threads, turns, answers, passages):
            connection.execute(insert(table), made[table.name])
        parts.put(connection, [(one["id"], one["facets"], one["words"]) for one in made["passages"]])


def _searches(store: HistoryStore, language: _Language) -> list[Row]:
    def beginning() -> str:
        word = language.text(1)
        return word[: language.chance.randint(2, len(word))]

    asked: dict[str, Callable[[], object]] = {
        "one word": lambda: store.search("me", language.text(1)),
        "two words": lambda: store.search("me", language.text(2)),
        "the beginning of a word": lambda: store.search("me", beginning(), match="beginnings"),
        "a phrase of two words": lambda: store.search("me", language.text(2), match="phrase"),
        "two words, by modality and month": lambda: store.search(
            "me", language.text(2), modality="CT", since=_BEGAN, until=_BEGAN + timedelta(days=30)
        ),
    }
    return [row for what, call in asked.items() for row in _rows(f"find {what}", _timed(call, 200))]


def _inserts(store: HistoryStore, language: _Language) -> list[Row]:
    answered: list[str] = []

    def ask() -> None:
        answered.append(store.begin_turn("me", None, language.text(8), [], "bench")[2])

    asking = _timed(ask, 200)
    ending = _timed(lambda: store.finish(answered.pop(), language.text(40), "complete"), 200)
    rows = _rows("store a question with its words", asking) + _rows("store an answer's end", ending)
    with tempfile.TemporaryFile() as file:
        alone = _timed(lambda: _on_the_disk(file), 200)
    return rows + _rows("the disk alone: as many bytes, waited for", alone)


def _on_the_disk(file: BinaryIO) -> None:
    """Write what a question brings to the write-ahead log, and wait until the disk has it."""
    file.write(bytes(80_000))
    file.flush()
    os.fsync(file.fileno())


def _rows(what: str, times: tuple[list[float], list[float]]) -> list[Row]:
    """By the clock, and by the processor's time: the second does not count what else the machine does."""
    return [
        Row(f"{what}, p{p}", sorted(measured)[len(measured) * p // 100] * 1e3, unit)
        for p in (50, 95)
        for measured, unit in zip(times, ("ms", "ms of CPU"), strict=True)
    ]


def _timed(call: Callable[[], object], count: int) -> tuple[list[float], list[float]]:
    by_clock, by_processor = [], []
    for _ in range(count):
        began, worked = time.perf_counter(), time.thread_time()
        call()
        by_clock.append(time.perf_counter() - began)
        by_processor.append(time.thread_time() - worked)
    return by_clock, by_processor
