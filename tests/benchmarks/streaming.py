"""Twenty users whose answers stream at once: what reaches their pages over HTTP, in long conversations.

The server is a process of its own, with a backend that says a word each 50 ms whether or not somebody
takes it, as a model in a process of its own does; this process is the users' browsers, without drawing
anything. Each user's conversation has a hundred messages already.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from app.history.store import HistoryStore
from engine.messages import Delta
from engine.scripted import ScriptedBackend
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from engine.messages import Event, GenerationOptions, Message

_USERS: Final = int(os.environ.get("BIMEDIX2_BENCH_USERS", "20"))
_MESSAGES: Final = 100
_WORDS: Final = 200
"""Of an answer: ten seconds of streaming."""
_A_WORD_S: Final = 0.05
_PIECE: Final = re.compile(r"\bw\d+ ")


@dataclass
class _User:
    """One user's browser."""

    client: httpx.Client
    owner: str
    thread: str = ""
    times: list[float] = field(default_factory=list)
    """When updates arrived, in seconds of a clock."""
    words: list[int] = field(default_factory=list)
    """Words each of them brought up to then."""
    sizes: list[int] = field(default_factory=list)
    """Bytes of each of them."""

    @property
    def pace(self) -> float:
        """Words a second between the first and the last update that brought one."""
        brought = [(at, count) for at, count in zip(self.times, self.words, strict=True) if count]
        (began, first), (ended, last) = brought[0], brought[-1]
        return (last - first) / (ended - began)

    @property
    def delays(self) -> list[float]:
        """Seconds by which each update's last word came later than the promptest one's."""
        found = [at - count * _A_WORD_S for at, count in zip(self.times, self.words, strict=True) if count]
        return [one - min(found) for one in found]

    @property
    def longest_pause(self) -> float:
        """Seconds between two updates at most."""
        brought = [at for at, count in zip(self.times, self.words, strict=True) if count]
        return max(later - at for at, later in pairwise(brought))


def run() -> tuple[str, list[Row]]:
    """Start the server, fill its history, and let everybody ask at the same moment."""
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as (url, process):
        # one after the other: the first page is not what is measured here
        users = [_arrived(url) for _ in range(_USERS)]
        with HistoryStore.open(Path(folder) / "history.sqlite3") as store:
            for user in users:
                user.thread = _long_conversation(store, user.owner)
        ask = _event(users[0].client, "ask")
        before = _processor_s(process.pid)
        _all_at_once(users, ask)
        used = _processor_s(process.pid) - before
        short = _alone(users[0], ask, 0, Path(folder), process.pid)
        long = _alone(users[0], ask, _MESSAGES // 2, Path(folder), process.pid)
    nominal = 1 / _A_WORD_S
    updates = sum(len(user.times) for user in users)
    slowest = min(user.pace for user in users)
    pauses = sorted(user.longest_pause for user in users)
    delays = sorted(one for user in users for one in user.delays)
    return f"Streaming to {_USERS} users, {_MESSAGES} messages a conversation, 20 words a second each", [
        Row("words that reach the slowest user's page, of those said", 100 * slowest / nominal, "%"),
        Row("the same, median user", 100 * statistics.median(user.pace for user in users) / nominal, "%"),
        Row("delay of a word on its way, p95 of all", 1e3 * delays[len(delays) * 95 // 100], "ms"),
        Row("longest pause between two updates, any user", pauses[-1] * 1e3, "ms"),
        Row("updates of a user and second", updates / _USERS / (_WORDS * _A_WORD_S), "1/s"),
        Row("server's time of processor for an update", used / updates * 1e3, "ms"),
        Row("bytes of an update at the end of an answer", users[0].sizes[-2], "B"),
        Row("the same, one user alone, 100 messages", long, "ms", short, "without any"),
    ]


def _arrived(url: str) -> _User:
    client = httpx.Client(base_url=url, timeout=120)
    client.get("/").raise_for_status()
    token = next(iter(client.cookies.jar)).value or ""
    return _User(client, f"visitor-{hashlib.sha256(token.encode()).hexdigest()[:32]}")


def _long_conversation(store: HistoryStore, owner: str, turns: int = _MESSAGES // 2) -> str:
    thread: str | None = None
    for number in range(turns):
        thread, _, answer = store.begin_turn(owner, thread, f"Question {number}", [], "bench")
        store.finish(answer, "An answer of 12.5 mm in the left lung. " * 5, "complete")
    return thread or ""


def _event(client: httpx.Client, name: str) -> dict[str, Any]:
    """Tell how the page asks for an event."""
    text = client.get("/").text
    start = text.index("window.gradio_config = ") + len("window.gradio_config = ")
    config, _ = json.JSONDecoder().raw_decode(text[start:])
    found = [one for one in config["dependencies"] if one["api_name"] == name]
    return {"fn_index": found[0]["id"], "trigger_id": found[0]["targets"][0][0], "data": []}


def _all_at_once(users: list[_User], ask: dict[str, Any]) -> None:
    together = threading.Barrier(len(users))
    threads = [threading.Thread(target=_streamed, args=(user, ask, together)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _streamed(user: _User, ask: dict[str, Any], together: threading.Barrier) -> None:
    """Ask, and note when which word arrived."""
    payload = {"run": "r", "thread": user.thread or None, "question": "Describe it.", "views": []}
    session = f"bench{user.owner[-8:]}{time.monotonic_ns()}"
    together.wait()
    body = {**ask, "session_hash": session, "event_data": {"payload": payload}}
    user.client.post("/gradio_api/queue/join", json=body).raise_for_status()
    words = 0
    where = {"session_hash": session}
    with user.client.stream("GET", "/gradio_api/queue/data", params=where) as stream:
        for line in stream.iter_lines():
            if "process_completed" in line or "close_stream" in line:
                break
            if "process_generating" not in line:
                continue
            # the first update brings the text as it is, the others what was added to it
            words += len(_PIECE.findall(line))
            user.times.append(time.perf_counter())
            user.words.append(words)
            user.sizes.append(len(line))


def _alone(user: _User, ask: dict[str, Any], turns: int, folder: Path, pid: int) -> float:
    """Milliseconds of processor the server needs for an update to one user alone, the start included."""
    with HistoryStore.open(folder / "history.sqlite3") as store:
        alone = _User(user.client, user.owner, _long_conversation(store, user.owner, turns))
    before = _processor_s(pid)
    _streamed(alone, ask, threading.Barrier(1))
    return (_processor_s(pid) - before) / len(alone.times) * 1e3


def _processor_s(pid: int) -> float:
    """Seconds of processor a process has used; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _served:  # noqa: N801 - a context manager, used like a function
    """A server in a process of its own, from its first answer on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-m", "tests.benchmarks.streaming", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        url = self._process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the server did not start")
        return url, self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


class _Steady(ScriptedBackend):
    """Says each word at its moment, counted from the first: what takes it late gets several at once."""

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Give the answer, a word each 50 ms."""
        began, said = time.monotonic(), 0
        for event in super().stream(messages, options):
            if isinstance(event, Delta):
                said += 1
                time.sleep(max(began + said * _A_WORD_S - time.monotonic(), 0))
            yield event


def _serve(folder: Path) -> None:
    from app.model import ModelInfo
    from app.session import Workspace
    from app.settings import Settings
    from app.web import serve

    settings = Settings(data_folder=folder, port=0, ownership="visitor")
    for place in (settings.images_folder, settings.uploads_folder):
        place.mkdir()
    said = "".join(f"w{number} " for number in range(_WORDS))
    backend = _Steady(respond=lambda _: said)
    info = ModelInfo("scripted", "scripted", is_demonstration=False, reason="a benchmark")
    workspace = Workspace(settings, HistoryStore.open(settings.database_path), backend, info)
    serve(workspace, lambda url: print(url, flush=True))
    workspace.close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
