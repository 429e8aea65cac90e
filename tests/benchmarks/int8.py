"""int8 on the CPU against float32: speed with 312M random weights, accuracy on the demonstration model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.model import DEMONSTRATION_FOLDER
from engine.checkpoint import LoadOptions, load
from engine.evaluation.demo_model import examine
from engine.local import LocalBackend
from engine.messages import Message
from engine.precision import quantise_on_cpu
from tests.benchmarks.random_model import decoding_speed, random_model, stream
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from engine.precision import Quantisation

TOKENS, ROUNDS, PICTURES = 24, 4, 25
_QUESTION = [Message.of("user", "word " * 600)]


def run() -> tuple[str, list[Row]]:
    """Measure reading 600 tokens and writing 24; then ask 200 held-out questions of either."""
    import torch

    whole, small = random_model(tower=False), random_model(tower=False)
    quantise_on_cpu(small.model)
    reading, writing = [float("inf")] * 2, [0.0] * 2
    for _ in range(ROUNDS):
        for place, loaded in enumerate((small, whole)):
            finished, _ = stream(LocalBackend(loaded), _QUESTION, TOKENS)
            reading[place] = min(reading[place], finished.timings.first_token_s or 0.0)
            writing[place] = max(writing[place], decoding_speed(finished))
    rows = [
        Row("decoding", writing[0], "tokens/s", writing[1], "float32", more_is_better=True),
        Row("time to first token of 600", reading[0], "s", reading[1], "float32"),
        Row(
            f"demonstration model, {PICTURES * 8} held-out questions, exact",
            _exact("cpu-int8"),
            "%",
            _exact("none"),
            "float32",
            more_is_better=True,
        ),
    ]
    return f"int8 on the CPU, {torch.get_num_threads()} thread(s)", rows


def _exact(quantisation: Quantisation) -> float:
    options = LoadOptions(device="cpu", dtype="float32", quantisation=quantisation)
    outcomes = examine(LocalBackend(load(DEMONSTRATION_FOLDER, options)), PICTURES)
    return 100 * sum(outcome.right for outcome in outcomes) / len(outcomes)
