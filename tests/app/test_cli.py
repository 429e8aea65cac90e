"""The command line: quick help, exact pixels, errors as one sentence with the right exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from PIL import Image as Pillow

from app.cli import run
from tests.engine.tiny import build_checkpoint
from viewers.intake import open_image
from viewers.view import default_view, render
from viewers.window import Window

CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIMEDIX2_DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)


def test_help_imports_nothing_heavy() -> None:
    """--help loads neither torch nor gradio nor pydicom; that is what keeps it quick."""
    code = (
        "import sys, runpy\nsys.argv = ['bimedix2', '--help']\n"
        "try:\n    runpy.run_module('app', run_name='__main__')\nexcept SystemExit:\n    pass\n"
        "import json; print(json.dumps(sorted(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    loaded = set(json.loads(output.splitlines()[-1]))
    assert "usage: bimedix2" in output
    assert loaded.isdisjoint({"torch", "gradio", "transformers", "pydicom", "sqlalchemy", "SimpleITK", "PIL"})


def test_render_writes_what_the_page_shows(tmp_path: Path) -> None:
    """The file holds exactly render(view), with the window that was asked for."""
    out = tmp_path / "out.png"

    assert run(["render", str(CT), str(out), "--window=40,80"]) == 0

    image = open_image(CT)
    from dataclasses import replace

    expected = render(image, replace(default_view(image), window=Window(40, 80)))
    np.testing.assert_array_equal(np.asarray(Pillow.open(out).convert("RGB")), expected)


def test_render_takes_region_and_inversion(tmp_path: Path) -> None:
    """A region is cut out, inversion swaps the grey levels."""
    plain, inverted = tmp_path / "plain.png", tmp_path / "inverted.png"

    assert run(["render", str(CT), str(plain), "--window=40,400", "--region=10,20,30,40"]) == 0
    assert run(["render", str(CT), str(inverted), "--window=40,400", "--region=10,20,30,40", "--invert"]) == 0

    a, b = np.asarray(Pillow.open(plain).convert("RGB")), np.asarray(Pillow.open(inverted).convert("RGB"))
    assert a.shape == (40, 30, 3)
    np.testing.assert_array_equal(a, 255 - b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "nowhere.dcm", "out.png"], "nowhere.dcm"),
        (["render", str(CT), "out.png", "--frame", "2"], "Frame 2 does not exist: the image has 1"),
        (["render", str(CT), "out.png", "--region=100,100,100,100"], "128 x 128"),
        (["render", __file__, "out.png"], "not"),
        (["ask", str(CT), "What?", "--model", "/nowhere"], "expected a folder that holds config.json"),
        (["serve", "--config", "/nowhere.toml"], "nowhere.toml"),
    ],
)
def test_a_failure_is_one_sentence_with_status_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback: what was found and what to do, on the error stream."""
    assert run(arguments) == 1

    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_errors_come_in_the_chosen_language(capsys: pytest.CaptureFixture[str]) -> None:
    """With --language ar the sentence is Arabic."""
    run(["render", str(CT), "out.png", "--frame", "9", "--language", "ar"])

    assert "الإطار" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--window=1", "--window=a,b", "--region=1,2,3"])
def test_a_wrong_flag_ends_with_status_2(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors say how many numbers were expected."""
    with pytest.raises(SystemExit) as ended:
        run(["render", str(CT), "out.png", flag])

    assert ended.value.code == 2
    assert "numbers with commas" in capsys.readouterr().err


def test_ask_streams_the_answer_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer of a real (tiny) model is printed, and nothing else on standard output."""
    folder = build_checkpoint(tmp_path / "tiny")

    assert (
        run(["ask", str(CT), "Which side?", "--model", str(folder), "--device", "cpu", "--threads", "1"]) == 0
    )

    assert capsys.readouterr().out.strip()


def test_ask_with_the_scripted_backend_sees_one_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image and the question reach the backend."""
    monkeypatch.setenv("BIMEDIX2_BACKEND", "scripted")

    assert run(["ask", str(CT), "Which side?"]) == 0

    assert capsys.readouterr().out == "1 image(s) in 1 message(s); you asked: Which side?\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    """``bimedix2 doctor | head -1`` ends quietly."""
    code = "import sys; from app.cli import run; sys.exit(run(['doctor']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    process.wait(60)

    assert "Traceback" not in error


def test_doctor_tells_every_lack_and_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Packages, memory, decoders, model and data folder are all in the report."""
    status = run(["doctor"])

    report = capsys.readouterr().out
    for word in ("Python", "torch", "gradio", "Memory", str(tmp_path / "data"), "Transfer syntaxes", "Model"):
        assert word in report
    assert status == ("[failed]" in report)


def test_doctor_fails_for_a_missing_model_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A model folder that is not there is a failure with a way out."""
    assert run(["doctor", "--model", "/nowhere"]) == 1

    assert "There is no model at /nowhere" in capsys.readouterr().out


def test_doctor_speaks_arabic(capsys: pytest.CaptureFixture[str]) -> None:
    """The report comes in Arabic too."""
    run(["doctor", "--language", "ar"])

    assert "مجلد البيانات" in capsys.readouterr().out
