"""What the model is told of a slide's pictures, and how long reading them takes."""

from __future__ import annotations

import json

import pytest

from app.reading_pace import ReadingPace, picture_tokens, prompt_limit
from app.slide_words import slide_words

FACTS = {
    "overview": True,
    "rotation": 90,
    "region_px": [0, 0, 2000, 1000],
    "size_um": [998.0, 499.0],
    "magnification": 10.02,
    "parts": [3, 4],
    "parts_magnification": 20.04,
    "point": [0.25, 0.5],
}
USAGE = {"prompt_tokens": 700, "reused_tokens": 10, "first_token_s": 3.0}


def test_magnification_microns_order_and_point_are_said():
    """Everything the page states of a region is in the words, as the picture is turned."""
    said = slide_words(FACTS, "en")
    for part in (
        "whole slide",
        "10×",
        "499 µm × 998 µm",
        "Pictures 3 to 14",
        "at 20×",
        "3 in a row",
        "25 %",
        "50 %",
    ):
        assert part in said
    arabic = slide_words(FACTS, "ar")
    for part in ("10×", "499 × 998 ميكرومتر", "من 3 إلى 14", "20×", "25 %", "50 %"):
        assert part in arabic


def test_nothing_is_made_up_where_the_slide_does_not_say():
    """Without microns sizes are in pixels and no magnification is named."""
    bare = FACTS | {
        "overview": False, "size_um": None, "magnification": None, "parts_magnification": None,
        "parts": [1, 1], "point": None, "rotation": 0,
    }  # fmt: skip
    said = slide_words(bare, "en")
    assert "2000 × 1000 pixels" in said
    assert "magnification unknown" in said
    assert "µm" not in said
    assert "Picture 1" in said
    assert "غير معروف" in slide_words(bare, "ar")


def test_a_pace_is_measured_and_outlives_a_restart(tmp_path):
    """It is the median of what answers took for each picture, by what answers."""
    file = tmp_path / "pace.json"
    pace = ReadingPace(file)
    assert pace.seconds("model", 5) is None
    for first in (3.0, 90.0, 3.2):
        pace.note("model", 1, USAGE | {"first_token_s": first})
    pace.note("model", 2, USAGE | {"first_token_s": 6.4})
    assert pace.seconds("model", 5) == pytest.approx(16)
    assert pace.seconds("other", 5) is None
    assert ReadingPace(file).seconds("model", 5) == pytest.approx(16)


@pytest.mark.parametrize(
    ("pictures", "usage"),
    [(0, USAGE), (1, USAGE | {"reused_tokens": 600}), (1, {}), (1, USAGE | {"first_token_s": None})],
)
def test_answers_that_say_nothing_about_reading_are_left_out(pictures, usage):
    """No picture, a prompt that was mostly known, or an answer without a first word is no measurement."""
    pace = ReadingPace()
    pace.note("model", pictures, usage)
    assert pace.seconds("model", 1) is None


def test_pictures_that_never_fit_are_known(tmp_path):
    """By a model's own numbers, and by what was refused; without either nothing is kept from anybody."""
    pace = ReadingPace()
    assert not pace.never_fits("model", 1000)
    assert not pace.never_fits("model", 14, limit=2016, each=144)
    assert pace.never_fits("model", 15, limit=2016, each=144)
    pace.too_many("model", 13)
    pace.too_many("model", 20)
    assert [pace.never_fits("model", count) for count in (12, 13, 14)] == [False, True, True]
    assert not pace.never_fits("other", 13)
    for kind, tokens in (("llava", 144), ("llava_next", None)):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "image_seq_length": 144}))
        assert picture_tokens(str(tmp_path)) == tokens
    assert picture_tokens("no/such/folder") is None


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"model": 3}', '{"model": ["x"]}'])
def test_a_damaged_file_is_measured_anew(damage, tmp_path):
    """Nothing depends on the file."""
    file = tmp_path / "pace.json"
    file.write_text(damage, encoding="utf-8")
    pace = ReadingPace(file)
    pace.note("model", 1, USAGE)
    assert pace.seconds("model", 2) == pytest.approx(6)


def test_room_is_known_from_the_model_and_from_refusals(tmp_path):
    """Tokens of a picture are learned from prompts; the limit from the folder's config, or a refusal."""
    (tmp_path / "config.json").write_text(
        '{"text_config": {"max_position_embeddings": 2048}}', encoding="utf-8"
    )
    limit = prompt_limit(str(tmp_path))
    assert limit == 2016
    assert prompt_limit("no/such/folder") is None
    pace = ReadingPace()
    assert pace.fits("model", 13, limit) is None
    pace.note("model", 1, USAGE | {"prompt_tokens": 200})
    assert pace.fits("model", 10, limit) is True
    assert pace.fits("model", 13, limit) is False
    assert pace.fits("model", 13) is None
    pace.refused("model", 13, 2067, 2016)
    assert pace.fits("model", 12) is True, "what one picture takes is told best by many"
    assert pace.fits("model", 13) is False
