"""The image-dependence meter tells questions that need the image from those that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.evaluation.dependence import Judged, area_under_curve, judge, separation
from engine.training.answers import GENERAL_TYPES, IMAGE_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.process import ProcessBackend


@pytest.fixture(scope="module")
def demonstration() -> Iterator[ProcessBackend]:
    """Open the model that ships with the program, in a process of its own as the program does."""
    from app.model import DEMONSTRATION_FOLDER
    from engine.process import ProcessBackend

    arguments = {"source": str(DEMONSTRATION_FOLDER), "device": "cpu", "dtype": "float32", "threads": 1}
    backend = ProcessBackend("engine.opening:open_local", arguments)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def judged(demonstration: ProcessBackend) -> list[Judged]:
    return judge(demonstration, 3, seed=4242)


def test_on_the_demonstration_model_it_separates_them(judged: list[Judged]) -> None:
    """Held-out drawings and wordings, both languages, every kind of question, all with the image in sight."""
    assert {one.kind for one in judged} == {*IMAGE_TYPES, *GENERAL_TYPES}
    assert len(judged) == 3 * 2 * 17
    assert separation(judged) >= 0.95


def test_the_levels_mean_what_they_say(judged: list[Judged]) -> None:
    """Hardly an answer about the image is called independent of it, hardly a greeting dependent on it."""
    about, general = ([one for one in judged if one.needs_image is needs] for needs in (True, False))

    assert sum(one.level == "none" for one in about) <= 0.05 * len(about)
    assert sum(one.level == "strong" for one in general) <= 0.2 * len(general)


def test_it_costs_less_than_the_answer(judged: list[Judged]) -> None:
    """In all, measuring takes no longer than answering did; the answer's tokens are read at once."""
    assert sum(one.measure_s for one in judged) < sum(one.answer_s for one in judged)


@pytest.mark.parametrize(
    ("positive", "negative", "area"),
    [([2, 3], [0, 1], 1.0), ([0, 1], [2, 3], 0.0), ([1], [1], 0.5), ([1, 3], [0, 2], 0.75)],
)
def test_the_area_is_the_share_of_pairs_in_order(
    positive: list[float], negative: list[float], area: float
) -> None:
    """Computed by hand."""
    assert area_under_curve(positive, negative) == area


def test_a_meter_that_says_the_same_of_everything_separates_nothing(judged: list[Judged]) -> None:
    """The figure would show a broken meter."""
    assert separation([replace(one, difference=1.0) for one in judged]) == 0.5
