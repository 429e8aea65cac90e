"""Follow-up questions on a 312M language model with a 576-token image: the cache against recomputing.

The weights are random: only time is measured. Other work on the machine only ever makes a measurement
longer, so each figure is the best of several, of ours and of what stands beside it, taken in turn.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from engine.local import LocalBackend
from engine.messages import ImagePart, Message
from tests.benchmarks.plain import generate_speed
from tests.benchmarks.random_model import decoding_speed, random_model, stream
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from engine.checkpoint import LoadedModel

TURNS, TOKENS, ROUNDS = 20, 24, 3
COMPARED = 5
"""The turn at which all is computed again for comparison."""
_MIB = 1024 * 1024


def run() -> tuple[str, list[Row]]:
    """Measure twenty turns with the cache, and one without; decoding against generate and matvec."""
    import torch

    loaded = random_model()
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    conversation = [Message.of("user", ImagePart(pixels), "Which side is the lesion on?")]
    first, again = _turns(loaded, conversation)
    later = first[1:]
    slope = float(np.polyfit(np.arange(2, TURNS + 1), later, 1)[0])
    rows = [
        Row("time to first token, turn 1 (image read)", first[0], "s"),
        Row("time to first token, turn 2", first[1], "s"),
        Row(f"time to first token, turn {COMPARED}", first[COMPARED - 1], "s", again, "recomputed"),
        Row(f"time to first token, turn {TURNS}", first[-1], "s"),
        Row(f"turns 2 to {TURNS}: growth by a straight line, a turn", slope * 1000, "ms"),
        Row(f"turns 2 to {TURNS}: longest over shortest", max(later) / min(later), "times"),
        *_decoding(loaded, conversation[:1]),
    ]
    return f"Turns of a 312M model, {torch.get_num_threads()} thread(s), float32", rows


def _turns(loaded: LoadedModel, conversation: list[Message]) -> tuple[list[float], float]:
    """Seconds to the first token of each turn, and of the compared one with nothing kept."""
    backend = LocalBackend(loaded, cache_bytes=512 * _MIB)
    first, again = [], float("inf")
    for turn in range(1, TURNS + 1):
        best = float("inf")
        for attempt in range(ROUNDS if turn > 1 else 1):
            # another question of the same length each time, so that no attempt can use the one before
            asked = [*conversation[:-1], _varied(conversation[-1], attempt)]
            finished, text = stream(backend, asked, 8)
            best = min(best, finished.timings.first_token_s or 0.0)
            if turn == COMPARED:
                fresh, _ = stream(LocalBackend(loaded), asked, 1)
                again = min(again, fresh.timings.first_token_s or 0.0)
        first.append(best)
        conversation = [*asked, Message.of("assistant", text)]
        conversation.append(Message.of("user", f"And what about region {turn % 10}?"))
    return first, again


def _varied(question: Message, attempt: int) -> Message:
    return Message.of("user", *question.images, f"{'ABC'[attempt]}: {question.text}")


def _decoding(loaded: LoadedModel, messages: list[Message]) -> list[Row]:
    backend = LocalBackend(loaded)
    weights = _matrices(loaded)
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    ours: list[float] = []
    plain: list[float] = []
    same: list[float] = []
    large: list[float] = []
    for _ in range(ROUNDS):
        ours.append(decoding_speed(stream(backend, messages, TOKENS)[0]))
        same.append(size / _best_s(lambda: _multiply(weights)))
        large.append(_large_matvec())
        plain.append(generate_speed(loaded, messages, TOKENS))
    speed = max(ours)
    return [
        Row("decoding", speed, "tokens/s", max(plain), "generate", more_is_better=True),
        Row("weights read while decoding, a second", speed * size / 1e9, "GB"),
        Row("of torch.mv over the same matrices, one by one", speed * size / max(same) * 100, "%"),
        Row("of torch.mv with one 8192 x 8192 matrix", speed * size / max(large) * 100, "%"),
    ]


def _matrices(loaded: LoadedModel) -> list[torch.Tensor]:
    """Every matrix that one token is multiplied with: all layers' and the output's."""
    language = loaded.model.model.language_model
    parameters = [*language.layers.parameters(), *loaded.model.lm_head.parameters()]
    return [parameter.detach() for parameter in parameters if parameter.ndim == 2]


def _multiply(weights: list[torch.Tensor]) -> None:
    import torch

    vectors = {width: torch.ones(width) for width in {weight.shape[1] for weight in weights}}
    for weight in weights:
        torch.mv(weight, vectors[weight.shape[1]])


def _best_s(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def _large_matvec() -> float:
    """Bytes a second torch reads when it multiplies a matrix far larger than the caches by a vector."""
    import torch

    matrix, vector = torch.randn(8192, 8192), torch.randn(8192)
    return matrix.numel() * 4 / _best_s(lambda: torch.mv(matrix, vector))
