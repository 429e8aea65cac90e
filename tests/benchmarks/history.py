"""The history: how long a reader waits for the disk."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app.history.store import HistoryStore
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable


def run() -> tuple[str, list[Row]]:
    """Measure a turn and a piece of an answer in a history of a thousand turns."""
    with (
        tempfile.TemporaryDirectory() as folder,
        HistoryStore.open(Path(folder) / "history.sqlite3") as store,
    ):
        for number in range(1000):
            thread, _, answer = store.begin_turn("me", None, f"Question {number}", [], "bench")
            store.finish(answer, "An answer. " * 20, "complete")
        begin = _median(lambda: store.begin_turn("me", thread, "Question", [], "bench"))
        _, _, answer = store.begin_turn("me", thread, "Question", [], "bench")
        grow = _median(lambda: store.grow(answer, "An answer. " * 40))
        load = _median(lambda: store.load("me", thread))
        listed = _median(lambda: store.threads("me"))
    return "History, 1,000 threads, median", [
        Row("store a question", begin * 1e3, "ms"),
        Row("store a piece of an answer", grow * 1e3, "ms"),
        Row("load a conversation", load * 1e3, "ms"),
        Row("list 100 conversations", listed * 1e3, "ms"),
    ]


def _median(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(50):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
