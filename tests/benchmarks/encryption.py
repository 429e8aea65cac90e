"""What encryption at rest costs: history and pixels of an encrypted folder beside those of a plain one."""

from __future__ import annotations

import secrets
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.encryption.conversion import turn_on
from app.encryption.envelope import Secret
from app.encryption.keyring import keyring
from app.history.store import HistoryStore
from tests.benchmarks.table import Row, alternate
from viewers.sealed import seal, sealed_name
from viewers.sealed_frames import SealedStack

if TYPE_CHECKING:
    from collections.abc import Callable

_TURNS = 2000
_FRAMES = (300, 512, 512)
"""A CT of 300 slices: 157 MB."""


def run() -> tuple[str, list[Row]]:
    """Measure both ways in turn."""
    secret = Secret("key file", secrets.token_bytes(32))
    keyring.ask(lambda _: secret)
    try:
        with tempfile.TemporaryDirectory() as name:
            return "Encryption at rest", [*_history(Path(name), secret), *_pixels(Path(name))]
    finally:
        keyring.ask(lambda _: None)


def _history(home: Path, secret: Secret) -> list[Row]:
    folders = [home / "sealed", home / "plain"]
    for folder in folders:
        with HistoryStore.open(folder / "history.sqlite3") as store:
            for number in range(_TURNS):
                answer = store.begin_turn("me", None, f"Question {number} of nodules", [], "bench")[2]
                store.finish(answer, "A small nodule in the left upper lobe. " * 5, "complete")
    turn_on(folders[0], folders[0] / "history.sqlite3", folders[0] / "images", secret, lambda _: None)
    with (
        HistoryStore.open(folders[0] / "history.sqlite3") as ours,
        HistoryStore.open(folders[1] / "history.sqlite3") as plain,
    ):
        thread = [store.threads("me", 1)[0].id for store in (ours, plain)]
        return [
            _row("store a question", lambda: _ask(ours), lambda: _ask(plain)),
            _row("find two words", lambda: _find(ours), lambda: _find(plain)),
            _row(
                "load a conversation", lambda: ours.load("me", thread[0]), lambda: plain.load("me", thread[1])
            ),
        ]


def _ask(store: HistoryStore) -> object:
    return store.begin_turn("me", None, "Where is the nodule?", [], "bench")


def _find(store: HistoryStore) -> object:
    return store.search("me", "nodule lobe")


def _pixels(home: Path) -> list[Row]:
    frames = np.random.default_rng(6).integers(0, 4000, _FRAMES, np.uint16)
    path, key = home / "frames.npy", secrets.token_bytes(32)
    np.save(path, frames)
    seal(path, sealed_name(path), key)
    stack, mapped = SealedStack(sealed_name(path), key), np.load(path, mmap_mode="r")
    numbers = iter(range(10_000))

    def whole() -> object:
        stack.let_go()
        return stack.whole()

    def slice_of(frame: Callable[[int], np.ndarray]) -> object:
        return frame(next(numbers) % 300).sum()

    return [
        _row("one slice of 512 x 512", partial(slice_of, stack.frame), partial(slice_of, mapped.__getitem__)),
        _row("all 300 slices, for planes", whole, partial(np.array, mapped)),
        _row("write 300 slices", partial(seal, path, sealed_name(path), key), partial(np.save, path, frames)),
    ]  # fmt: skip


def _row(what: str, ours: Callable[[], object], plain: Callable[[], object]) -> Row:
    taken = alternate(ours, plain, rounds=15)
    return Row(what, taken[0] * 1e3, "ms", taken[1] * 1e3, "plain")
