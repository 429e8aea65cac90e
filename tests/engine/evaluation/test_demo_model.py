"""The shipped demonstration model is as good as its card says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import LoadOptions, load
from engine.evaluation.demo_model import EVALUATION_SEED, Outcome, ask_all, examine, shares, table
from engine.local import LocalBackend
from engine.messages import ImagePart
from engine.training.answers import Language, answer
from engine.training.dialogue import Turn
from engine.training.phantoms import NOTHING, Attributes
from tests.engine.evaluation.real_files import real_images

FOLDER = Path(__file__).parents[3] / "assets" / "demo-model"
REAL_FILES_NAMED = 8
"""Of ten, in each language."""
ASK: dict[Language, str] = {"en": "What is the modality of this image?", "ar": "ما طريقة التصوير؟"}


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    """Open the shipped model in the product's backend."""
    return LocalBackend(load(FOLDER, LoadOptions(device="cpu", dtype="float32", threads=1)))


@pytest.fixture(scope="module")
def stated() -> dict[str, object]:
    """Read what the card states."""
    found: dict[str, object] = json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))
    return found


def test_sample_agrees_with_the_stated_figure(backend: LocalBackend, stated: dict[str, object]) -> None:
    """Other pictures and both languages, turns 1 to 4.

    Of n answers with a true share p, fewer than p - 4 * sqrt(p * (1 - p) / n) are right less than once in
    ten thousand samples; answers of one
    conversation are not independent, hence four deviations and not three.
    """
    outcomes = examine(backend, 12, seed=EVALUATION_SEED + 500)
    share = float(stated["exact"])  # type: ignore[arg-type]
    right, asked = shares(outcomes)[()]
    assert asked == 12 * 2 * 4
    assert {(one.language, one.turn) for one in outcomes} == {
        (lang, turn) for lang in ("en", "ar") for turn in range(1, 5)
    }
    assert right / asked >= share - 4 * np.sqrt(max(share * (1 - share), 0.02) / asked)


def test_the_picture_decides(backend: LocalBackend) -> None:
    """With blank or noise in the picture's place the description of a real retina changes."""
    name, _, shown = next(item for item in real_images() if item[0] == "retina.jpg")
    turn = Turn("describe", "en", "Describe the image.", "", 0)
    generator = np.random.default_rng(0)
    others = [np.full_like(shown.pixels, 127), generator.integers(0, 256, shown.pixels.shape, dtype=np.uint8)]
    answers = {ask_all(backend, [turn], [image])[0] for image in (shown, *map(ImagePart, others))}
    assert len(answers) >= 2, name
    assert ask_all(backend, [turn], [shown])[0] not in {
        ask_all(backend, [turn], [ImagePart(one)])[0] for one in others
    }


def test_real_files_are_named(backend: LocalBackend) -> None:
    """Of ten real images never trained on, most modalities are right in each language."""
    right = dict.fromkeys(ASK, 0)
    for _, modality, image in real_images():
        shown = Attributes(
            "" if modality else NOTHING, modality, "", "", "", "", lesion=False, side="", size="", tone=""
        )
        for language, question in ASK.items():
            wanted = answer("modality", language, shown)
            right[language] += ask_all(
                backend, [Turn("modality", language, question, wanted, 0)], [image]
            ) == [wanted]
    assert min(right.values()) >= REAL_FILES_NAMED, right


def test_folder_is_small_and_says_what_it_is(stated: dict[str, object]) -> None:
    """At most 20 MB, a card with the figures, and the words a clinician must see."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "not for clinical use" in card
    assert str(stated["table"]) in card


def test_shares_and_table_count_exact_answers() -> None:
    """A blank at the end is forgiven, a wrong word is not."""
    outcomes = [
        Outcome("side", "en", 1, square=True, lesion=True, wanted="left.", found="left. "),
        Outcome("side", "en", 2, square=False, lesion=True, wanted="left.", found="right."),
    ]
    assert shares(outcomes, "turn") == {(1,): (1, 1), (2,): (0, 1)}
    assert "| side | en | 100.0 | 0.0 | – | – | 100.0 | 0.0 | 50.0 | 2 |" in table(outcomes)
