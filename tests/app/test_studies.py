"""Commands for studies: what is listed, written and de-identified is what the viewers say."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.fileset import FileSet

from app.cli import run
from tests.viewers.phantoms import CORONAL, write_series
from tests.viewers.states import add_overlay, state
from viewers.nifti import read_nifti
from viewers.planes import PlaneView
from viewers.rules import Rule
from viewers.store import load
from viewers.study import read_studies
from viewers.view import default_view, render


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIMEDIX2_DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)


def test_studies_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder and a zip of it are listed alike, without a name, with the same ids each time."""
    paths = write_series(tmp_path / "in")
    write_series(tmp_path / "in", count=2, names=["x", "y"], cosines=CORONAL)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted((tmp_path / "in").iterdir()):
            archive.write(path, path.name)

    assert run(["studies", str(tmp_path / "in"), "--json"]) == 0
    from_folder = json.loads(capsys.readouterr().out)
    assert run(["studies", str(tmp_path / "in.zip"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == from_folder

    first, second = from_folder["studies"][0]["series"]
    assert (first["files"], first["size_px"], first["no_volume_because"]) == (6, [12, 10], None)
    assert first["affine_lps_mm"][2][2] == pytest.approx(2.0)
    assert first["planes"][1] == {"position_mm": [-20, -30, 20], "cosines": [1, 0, 0, 0, 1, 0]}
    assert (first["slice_spacing_mm"], first["tilt_degrees"]) == ([2, 2, 2], 0)
    assert second["no_volume_because"]["key"] == "viewers.too_few_slices"
    assert "Nobody" not in json.dumps(from_folder)
    assert paths[0].name not in json.dumps(from_folder)

    assert run(["studies", str(tmp_path / "in"), "--language", "ar"]) == 0
    shown = capsys.readouterr().out
    assert f"{first['id']}  CT  CHEST  6 x 12x10  2 mm" in shown
    assert "قُسّمت السلسلة" in shown

    (tmp_path / "in" / "SMITH cut.dcm").write_bytes(paths[0].read_bytes()[:500])
    assert run(["studies", str(tmp_path / "in")]) == 0
    told = capsys.readouterr().out
    assert "SMITH cut.dcm: File" in told
    assert "it ends too early" in told
    assert "viewers." not in told
    assert run(["studies", str(tmp_path / "in"), "--json"]) == 0
    assert "SMITH" not in capsys.readouterr().out


def test_a_dicomdir_stands_for_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What lies beside a DICOMDIR is listed, written and drawn when the DICOMDIR is named."""
    files = FileSet()
    for path in write_series(tmp_path / "in", StudyTime="101500", StudyID="1", SeriesNumber=1):
        dataset = pydicom.dcmread(path)
        dataset.AccessionNumber = dataset.StudyDescription = dataset.SeriesDescription = ""
        files.add(dataset)
    files.write(tmp_path / "disc")
    files._stage["t"].cleanup()  # left to the garbage collector, which warns
    listed = str(tmp_path / "disc" / "DICOMDIR")
    assert run(["studies", listed, "--json"]) == 0
    assert [one["files"] for one in json.loads(capsys.readouterr().out)["studies"][0]["series"]] == [6]
    assert run(["volume", listed, str(tmp_path / "out.nii")]) == 0
    assert run(["render", listed, str(tmp_path / "out.png")]) == 0
    assert (tmp_path / "out.png").stat().st_size > 0


def test_a_volume_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The largest series becomes a NIfTI file; what is no volume ends with the reason and status 1."""
    write_series(tmp_path / "in")
    assert run(["volume", str(tmp_path / "in"), str(tmp_path / "out.nii.gz")]) == 0
    assert read_nifti(tmp_path / "out.nii.gz").array.shape == (6, 10, 12)
    write_series(tmp_path / "uneven", offsets=[0, 2, 4, 8, 10])
    assert run(["volume", str(tmp_path / "uneven"), str(tmp_path / "no.nii")]) == 1
    assert "2.000 to 4.000 mm" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(["volume", str(tmp_path / "in"), str(tmp_path / "out.png")])


def test_planes_are_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plane of a folder and of the volume written from it have the right proportions."""
    write_series(tmp_path / "in")
    run(["volume", str(tmp_path / "in"), str(tmp_path / "out.nii")])
    for source in ("in", "out.nii"):
        target = tmp_path / "plane.png"
        flags = ["--plane", "coronal", "--position=-28", "--window=500,400"]
        assert run(["render", str(tmp_path / source), str(target), *flags]) == 0
        pixels = np.asarray(Pillow.open(target).convert("RGB"))
        assert pixels.shape == (24, 12, 3)
        assert pixels[0, -1, 0] > pixels[-1, 0, 0]
    assert run(["render", str(tmp_path / "in"), str(target), "--plane", "axial", "--position", "99"]) == 1
    assert "from 10 to 20 mm" in capsys.readouterr().err


def test_what_is_rendered_is_what_the_page_shows(tmp_path: Path) -> None:
    """Plane, projection, rotation, flip and rule give the pixels of the same view of the stored series."""
    write_series(tmp_path / "in", count=8)
    with read_studies(tmp_path / "in")[0] as reader:
        image = load(reader.studies()[0].series[0].keep(tmp_path / "kept"))
    plane = PlaneView("sagittal", -17.5, "mip", 1.2)
    view = replace(default_view(image, 0, plane), rotation=90, flipped=True)
    flags = ["--plane=sagittal", "--position=-17.5", "--projection=mip", "--thickness=1.2"]
    target = tmp_path / "out.png"
    assert run(["render", str(tmp_path / "in"), str(target), *flags, "--rotate=90", "--flip"]) == 0
    assert np.array_equal(np.asarray(Pillow.open(target).convert("RGB")), render(image, view))
    assert (
        run(["render", str(tmp_path / "in"), str(target), "--frame=3", "--rule=lung,bone,temporal_bone"]) == 0
    )
    expected = render(image, replace(default_view(image, 2), rule=Rule(("lung", "bone", "temporal_bone"))))
    assert np.array_equal(np.asarray(Pillow.open(target).convert("RGB")), expected)
    assert len({expected[..., channel].tobytes() for channel in range(3)}) == 3
    for wrong in ("lung,bone", "lung,bone,smith"):
        with pytest.raises(SystemExit):
            run(["render", str(tmp_path / "in"), str(target), f"--rule={wrong}"])


def test_drawings_and_presentations_are_shown_when_asked_for(tmp_path: Path) -> None:
    """Overlays only with the flag; a presentation state's window and turn, which other flags change."""
    path = write_series(tmp_path / "in", count=1)[0]
    dataset = pydicom.dcmread(path)
    marked = np.zeros((10, 12), bool)
    marked[3, 4] = True
    add_overlay(dataset, marked).save_as(path)
    wanted = state(dataset, ImageRotation=90, ImageHorizontalFlip="N")
    wanted.save_as(tmp_path / "in" / "state.dcm", enforce_file_format=True)

    def drawn(source: Path, *flags: str) -> np.ndarray:
        assert run(["render", str(source), str(tmp_path / "out.png"), *flags]) == 0
        return np.asarray(Pillow.open(tmp_path / "out.png").convert("L"))

    window = "--window=0,100000"
    plain, with_it = drawn(path, window), drawn(path, window, "--graphics")
    # pixels are taller than wide: the row of the mark is stretched
    assert set(with_it[plain != with_it]) <= set(range(129, 256))
    assert (plain != with_it).any()
    assert drawn(tmp_path / "in", "--presentation", "1").shape == plain.shape[::-1]
    assert drawn(tmp_path / "in", "--presentation", "1", "--rotate", "180").shape == plain.shape
    assert run(["render", str(tmp_path / "in"), str(tmp_path / "out.png"), "--presentation", "2"]) != 0


def test_a_plane_is_of_the_largest_series_that_forms_a_volume(tmp_path: Path) -> None:
    """A longer series with uneven slices does not stand in the way, unless it is asked for."""
    write_series(tmp_path / "in")
    offsets = [0, 1, 2, 4, 8, 9, 10, 11, 13]
    write_series(tmp_path / "in", count=9, offsets=offsets, series="1.2.3.9", shape=(20, 20))
    target = tmp_path / "out.png"
    assert run(["render", str(tmp_path / "in"), str(target), "--plane=axial"]) == 0
    assert np.asarray(Pillow.open(target)).shape == (16, 12)
    assert run(["volume", str(tmp_path / "in"), str(tmp_path / "out.nii")]) == 0
    assert run(["render", str(tmp_path / "in"), str(target)]) == 0
    assert np.asarray(Pillow.open(target)).shape == (32, 20)


def test_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A length on a coronal plane, as JSON; points outside are an error with the limits."""
    write_series(tmp_path / "in", count=9)
    plane = ["--plane", "coronal", "--position=-28.4"]
    assert run(["measure", str(tmp_path / "in"), "length", "1,1", "5,4", *plane]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["quantities"] == [{"name": "length", "value": pytest.approx(40**0.5), "unit": "mm"}]
    assert made["spacing"]["calibrated"] is True
    assert run(["measure", str(tmp_path / "in"), "probe", "99,1"]) == 1
    assert "0-12, 0-10 px" in capsys.readouterr().err


def test_files_are_deidentified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copies get new names and one pseudonym; what cannot be read is told, and the rest is written."""
    write_series(tmp_path / "Nobody", count=3)
    (tmp_path / "Nobody" / "a-note.txt").write_text("ZZ")
    assert run(["deidentify", str(tmp_path / "Nobody"), str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "a-note.txt: " in said.err
    assert f"Written to {tmp_path / 'out'}: 3. Left out: 1." in said.out
    made = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert [Path(str(item.filename)).name for item in made] == ["000001.dcm", "000002.dcm", "000003.dcm"]
    assert len({item.PatientID for item in made}) == len({item.StudyInstanceUID for item in made}) == 1
    assert not any(
        mark in path.read_bytes() for path in (tmp_path / "out").iterdir() for mark in (b"Nobody", b"ID-ZZ")
    )
    assert run(["studies", str(tmp_path / "out")]) == 0
    key = tmp_path / "data" / "pseudonyms.key"
    assert key.stat().st_size == 32
    assert key.stat().st_mode & 0o077 == 0


def test_copies_never_replace_or_join_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Originals stay as they were, and no folder holds two runs' copies or both kinds."""
    write_series(tmp_path / "in" / "study", count=2)
    before = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*.dcm")}
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for source, output in (
        ("in/study", "in/study"),
        ("in/study", "in/study/out"),
        ("in/study", "in"),
        ("in/study", "in/../in/study/"),
        ("in", "link"),
        ("in", "link/out"),
        ("in", "file"),
    ):
        assert run(["deidentify", str(tmp_path / source), str(tmp_path / output)]) == 1, output
        assert "Nothing was written" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "in").rglob("*.*")} == before
    (tmp_path / "out").mkdir()
    assert run(["deidentify", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert run(["deidentify", str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    one = next(iter(before))
    assert run(["deidentify", str(one), str(tmp_path / "single")]) == 0


def test_a_pseudonym_leads_back_with_the_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only with --map is anything remembered; the map needs its key, which may lie elsewhere."""
    write_series(tmp_path / "in", count=1)
    key = ["--map-key", str(tmp_path / "elsewhere" / "key")]
    write = ["deidentify", str(tmp_path / "in"), str(tmp_path / "out")]
    assert run(write) == 0
    assert not (tmp_path / "data" / "identities.map").exists()
    shutil.rmtree(tmp_path / "out")
    assert run([*write, "--map", "--shift-dates", *key]) == 0
    made = pydicom.dcmread(tmp_path / "out" / "000001.dcm")
    assert run(["reidentify", str(made.PatientID), *key]) == 0
    out = capsys.readouterr().out
    assert "PatientID: ID-ZZ-77" in out
    assert "PatientName: Nobody^Known" in out
    assert run(["reidentify", str(made.StudyInstanceUID), *key]) == 0
    assert capsys.readouterr().out.strip() == "1.2.3.1"
    assert run(["reidentify", "P-0", *key]) == 1
    assert run(["reidentify", str(made.PatientID)]) == 1
    assert b"ID-ZZ" not in (tmp_path / "data" / "identities.map").read_bytes()


def test_a_place_that_is_watched_has_no_distance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images of one place are listed as one series, without a distance between slices."""
    for number in range(3):
        write_series(tmp_path / "in", count=1, names=[str(number)], AcquisitionNumber=number)
    assert run(["studies", str(tmp_path / "in")]) == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.endswith("3 x 12x10")
