"""Several answers at once: tokens a second of all together, and what one notices of another.

Together means one pass through the weights for all; beside it stands the same backend computing each
token alone, in turns, which is the same for any number. The weights are random, the answers 16 tokens
long; figures are the best of two rounds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from engine.local import LocalBackend
from engine.messages import Delta, GenerationOptions, ImagePart, Message, Reading
from engine.precision import quantise_on_cpu
from tests.benchmarks.random_model import random_model, stream
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from engine.checkpoint import LoadedModel

STREAMS, TOKENS, ROUNDS = (1, 2, 4, 8), 16, 2
_LONG = "word " * 60


def run() -> tuple[str, list[Row]]:
    """Measure in float32, bfloat16 and int8; then a second question beside a first answer."""
    import torch

    loaded = random_model()
    rows = [*_beside(loaded), *_rows("float32", loaded)]
    loaded.model.model.language_model.to(torch.bfloat16)
    loaded.model.lm_head.to(torch.bfloat16)
    rows += _rows("bfloat16", loaded)
    quantise_on_cpu(loaded.model)
    rows += _rows("int8", loaded)
    return f"Several answers at once, 312M model, {torch.get_num_threads()} thread(s)", rows


def _rows(name: str, loaded: LoadedModel) -> list[Row]:
    ours, alone = dict.fromkeys(STREAMS, 0.0), 0.0
    for _ in range(ROUNDS):
        alone = max(alone, _aggregate(loaded, 2, together=1))
        for count in STREAMS:
            ours[count] = max(ours[count], _aggregate(loaded, count, together=8))
    return [
        Row(f"{name}, {count} at once", ours[count], "tokens/s", alone, "alone", more_is_better=True)
        for count in STREAMS
    ]


def _aggregate(loaded: LoadedModel, count: int, together: int) -> float:
    """Tokens a second of all, counted while all are being written."""
    backend = LocalBackend(loaded, active_streams=count, together=together)
    ready = threading.Barrier(count + 1)

    def read(number: int) -> None:
        events = backend.stream(
            [Message.of("user", f"{number}: which side?")], GenerationOptions(max_new_tokens=TOKENS)
        )
        next(event for event in events if isinstance(event, Reading) and event.seconds_left == 0)
        ready.wait()
        for _ in events:
            pass

    threads = [threading.Thread(target=read, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return count * (TOKENS - 1) / (time.perf_counter() - began)


def _beside(loaded: LoadedModel) -> list[Row]:
    """Ask a question with an image while somebody else's answer is being written."""
    backend = LocalBackend(loaded)
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    question = [Message.of("user", ImagePart(pixels), "Which side?")]
    alone = stream(LocalBackend(loaded), question, 1)[0].timings.first_token_s or 0.0
    times: list[float] = []
    started, over = threading.Event(), threading.Event()

    def read() -> None:
        options = GenerationOptions(max_new_tokens=2000)
        for event in backend.stream([Message.of("user", _LONG)], options):
            if isinstance(event, Delta):
                times.append(time.perf_counter())
                started.set()
            if over.is_set():
                return

    reader = threading.Thread(target=read)
    reader.start()
    started.wait()
    began = time.perf_counter()
    second = stream(backend, question, 1)[0].timings.first_token_s or 0.0
    ended = time.perf_counter()
    over.set()
    reader.join()
    between = [at for at in times if began <= at <= ended]
    pause = max(np.diff([began, *between, ended]))
    return [
        Row("second question with an image, time to first token", second, "s", alone, "alone"),
        Row("the first answer meanwhile, tokens", len(between), ""),
        Row("the first answer meanwhile, longest pause", float(pause), "s"),
    ]
