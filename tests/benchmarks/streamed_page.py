"""Twenty answers that stream at once: what a page and nineteen other readers get of them.

The page holds a conversation of 100 messages and is a real one, whose main thread's busy time is told by
Chromium. The others speak Gradio's protocol without drawing. Words come at 20 a second for each reader.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
from playwright.sync_api import expect

from app.history.store import HistoryStore
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.browser.conftest import Server

_WORD_S = 0.05  # pause of the scripted backend before each word
_OTHERS = 19
_TURNS = 50
_QUESTION = " ".join(f"word{number}" for number in range(150))
_ANSWER = "The nodule in the right upper lobe measures **12.5 mm**.\n\n" + "It has grown since. " * 22
_COUNT = """() => {
  window.updates = 0;
  window.counting?.disconnect();
  window.counting = new MutationObserver(() => { window.updates += 1; });
  window.counting.observe(document.querySelector('#chat .turns'), { childList: true });
}"""


@dataclass
class _Reader:
    """Somebody who asks and listens."""

    client: httpx.Client
    index: int
    trigger: int
    words_s: list[float] = field(default_factory=list)

    def ask(self, name: str) -> None:
        """Ask and wait for the end of the answer; keeps how long its words took."""
        payload = {"run": name, "thread": None, "question": _QUESTION, "views": [], "language": None}
        body = {"data": [], "fn_index": self.index, "trigger_id": self.trigger, "session_hash": name}
        self.client.post(
            "/gradio_api/queue/join", json={**body, "event_data": {"payload": payload}}
        ).raise_for_status()
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": name}) as lines:
            began = None
            for line in lines.iter_lines():
                if began is None and "process_generating" in line:
                    began = time.perf_counter()
                if "process_completed" in line:
                    break
        self.words_s.append(time.perf_counter() - (began or 0.0))


def rows(browser: Browser, server: Server) -> list[Row]:
    """Measure one page alone, then beside nineteen other readers."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(server.url)
    _ask(page, "Begin", 1)
    _lengthen(server)
    page.reload()
    expect(page.locator("#chat .turn")).to_have_count(15)
    alone, alone_s = _streamed(page)
    ask = page.evaluate("window.gradio_config.dependencies.find((one) => one.targets[0][1] === 'ask')")
    readers = [_Reader(_visitor(server), ask["id"], ask["targets"][0][0]) for _ in range(_OTHERS)]
    threads = [
        threading.Thread(target=reader.ask, args=(f"reader{number}",))
        for number, reader in enumerate(readers)
    ]
    for thread in threads:
        thread.start()
    beside, beside_s = _streamed(page)
    for thread in threads:
        thread.join()
    for reader in readers:
        reader.client.close()
    page.close()
    words = len(_QUESTION.split()) + 6  # the scripted answer's own
    slowest = max(beside_s, *(seconds for reader in readers for seconds in reader.words_s))
    shares = {"one reader": alone_s, "20 readers, the slowest": slowest}
    return [
        Row("page update, 100 messages, one reader, CPU", alone, "ms"),
        Row("page update, 100 messages, 20 readers, CPU", beside, "ms"),
        *(
            Row(
                f"rate of words that arrives, {who}",
                100 * words * _WORD_S / seconds,
                "%",
                more_is_better=True,
            )
            for who, seconds in shares.items()
        ),
    ]


def _ask(page: Page, question: str, answers: int) -> None:
    page.locator("#chat .question").fill(question)
    page.locator("#chat .question").press("Enter")
    expect(page.locator("#chat .answer")).to_have_count(answers)
    expect(page.locator("#chat .answer[data-state=streaming]")).to_have_count(0, timeout=60_000)


def _streamed(page: Page) -> tuple[float, float]:
    """Milliseconds of the main thread for each update of an answer, and seconds its words took."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # busy time, not waiting for others

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    page.evaluate(_COUNT)
    page.locator("#chat .question").fill(_QUESTION)
    before = busy()
    page.locator("#chat .question").press("Enter")
    expect(page.locator("#chat .answer[data-state=streaming] .prose")).to_contain_text("image")
    began = time.perf_counter()
    expect(page.locator("#chat .stop")).to_be_hidden(timeout=120_000)
    taken, spent = time.perf_counter() - began, busy() - before
    return 1e3 * spent / page.evaluate("window.updates"), taken


def _lengthen(server: Server) -> None:
    """Give the one conversation there is so many turns."""
    path = server.folder / "data" / "history.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        thread, owner = database.execute("SELECT id, owner FROM threads").fetchone()
    with HistoryStore.open(path) as store:
        for number in range(_TURNS - 1):
            _, _, answer = store.begin_turn(owner, thread, f"Question {number}", [], "bench")
            store.finish(answer, _ANSWER, "complete")


def _visitor(server: Server) -> httpx.Client:
    """Somebody new, with a cookie of their own."""
    client = httpx.Client(base_url=server.url, timeout=120, headers={"Origin": server.url})
    client.get("/").raise_for_status()
    return client
