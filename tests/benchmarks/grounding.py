"""The image-dependence meter on the demonstration model: does it tell questions apart, at what cost."""

from __future__ import annotations

import statistics

from app.model import DEMONSTRATION_FOLDER
from engine.checkpoint import LoadOptions, load
from engine.evaluation.dependence import judge, separation
from engine.local import LocalBackend
from tests.benchmarks.table import Row

PICTURES = 6


def run() -> tuple[str, list[Row]]:
    """Judge every kind of question in first turns, and conversations of three turns."""
    loaded = load(DEMONSTRATION_FOLDER, LoadOptions(device="cpu", dtype="float32", threads=1))
    backend = LocalBackend(loaded)
    first = judge(backend, PICTURES)
    later = [one for one in judge(backend, PICTURES // 3, turns=3) if one.turn > 1]
    rows = [
        Row(f"AUC, image needed or not, {len(first)} first questions", separation(first), ""),
        Row(f"AUC, {len(later)} questions of later turns", separation(later), ""),
        Row("its time, share of the answer's own, first turn", _share(first), "%"),
        Row("its time, share of the answer's own, later turns", _share(later), "%"),
        Row("its time, median", 1e3 * statistics.median(one.measure_s for one in first), "ms"),
    ]
    for needs in (True, False):
        group = [one for one in first if one.needs_image == needs]
        for level in ("strong", "weak", "none"):
            share = 100 * sum(one.level == level for one in group) / len(group)
            rows.append(
                Row(f"level {level!r} where the image is {'' if needs else 'not '}needed", share, "%")
            )
    return "Image-dependence meter, demonstration model, 1 thread", rows


def _share(judged: list) -> float:
    return 100 * sum(one.measure_s for one in judged) / sum(one.answer_s for one in judged)
