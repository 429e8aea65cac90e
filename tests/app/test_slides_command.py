"""Commands for slides: what is listed and drawn is what the page shows."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from app.cli import run
from tests.viewers.openers import made
from viewers.geometry import Region, SizePx
from viewers.openers import open_slide
from viewers.slide_view import SlideView, render_slide, whole_slide

REAL = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIMEDIX2_DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)


def picture(path):
    return np.asarray(Pillow.open(path))


def test_a_slide_is_listed(capsys):
    """Levels, microns with their source, vendor and findings; nothing else of the header."""
    assert run(["slide", str(REAL), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["vendor"], told["size_px"], told["magnification"]) == ("aperio", [2220, 2967], 20.04)
    assert told["mpp"] == {"x": 0.499, "y": 0.499, "source": "aperio.MPP"}
    assert told["levels"] == [{"level": 0, "size_px": [2220, 2967], "downsample": 1.0, "tile_px": [240, 240]}]
    assert [found["key"] for found in told["findings"]] == ["finding.label_present"]
    assert run(["slide", str(REAL), "--language", "ar"]) == 0
    shown = capsys.readouterr().out
    assert "0.499" in shown
    assert "ملصق" in shown
    assert "CMU" not in shown


def test_folders_and_zips_are_listed_alike(tmp_path, capsys):
    """A DICOM slide in folders, and a zip of it."""
    folder = made.write_wsm(tmp_path / "w", spread=True)
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for path in folder.rglob("*.dcm"):
            archive.write(path, path.relative_to(folder))
    listed = []
    for source in (folder, tmp_path / "w.zip"):
        assert run(["slide", str(source), "--json"]) == 0
        listed.append(capsys.readouterr().out)
    assert listed[0] == listed[1]
    assert made.NAME not in listed[0]


def test_a_region_is_drawn_as_the_model_gets_it(tmp_path):
    """Render writes the pixels of the view; the whole slide without a region."""
    out = tmp_path / "out.png"
    with open_slide(REAL) as slide:
        for flags, region in (
            (["--region", "100,200,1500,1000"], Region(100, 200, 1500, 1000)),
            ([], whole_slide(slide).region),
        ):
            assert run(["render", str(REAL), str(out), *flags]) == 0
            assert np.array_equal(picture(out), render_slide(slide, SlideView(slide.digest, region)))


def test_a_region_of_a_level(tmp_path):
    """With a level the region's own pixels of that level are written."""
    path, out = made.write_tiff(tmp_path / "a.tif", compression="lzw"), tmp_path / "out.png"
    assert run(["render", str(path), str(out), "--region", "40,80,400,200", "--level", "1"]) == 0
    with open_slide(path) as slide:
        assert np.array_equal(picture(out), slide.read_region((40, 80), 1, SizePx(200, 100)))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--region", "0,0,99999,10"], "not inside the image"),
        (["--level", "7"], "Level 7 does not exist"),
        (["--level", "-1"], "Level -1 does not exist"),
    ],
)
def test_what_is_not_on_the_slide(flags, sentence, tmp_path, capsys):
    """A region or level that is not there ends in one sentence, and nothing is written."""
    assert run(["render", str(REAL), str(tmp_path / "out.png"), *flags]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_what_is_no_slide(tmp_path, capsys):
    """A text is refused; a photograph is listed as a slide of one level, and rendered as a picture."""
    (tmp_path / "a.txt").write_text("no slide")
    assert run(["slide", str(tmp_path / "a.txt")]) == 1
    assert run(["slide", str(tmp_path / "nowhere")]) == 1
    Pillow.fromarray(made.tissue(50, 40)).save(tmp_path / "p.png")
    capsys.readouterr()
    assert run(["slide", str(tmp_path / "p.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vendor"] == "picture"
    assert run(["render", str(tmp_path / "p.png"), str(tmp_path / "out.png")]) == 0
    assert np.array_equal(picture(tmp_path / "out.png"), made.tissue(50, 40))


@pytest.mark.parametrize(
    ("question", "said"),
    [("What is this?", "10×, 499 µm × 499 µm"), ("ما هذا النسيج؟", "10×، \u2066499 × 499\u2069 ميكرومتر")],
)
def test_a_question_on_the_command_line_carries_magnification_and_microns(
    question, said, monkeypatch, capsys
):
    """The model is told the same as from the page, in the question's language."""
    monkeypatch.setenv("BIMEDIX2_BACKEND", "scripted")
    assert run(["ask", str(REAL), question, "--region", "100,100,1000,1000"]) == 0
    told = capsys.readouterr().out
    assert said.replace("\u2066", "").replace("\u2069", "") in told.replace("\u2066", "").replace(
        "\u2069", ""
    )
    assert question in told
