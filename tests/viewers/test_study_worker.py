"""Whole studies are read in the child process: what harms it is left out by name, and the rest opens."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
import zipfile

import numpy as np
import pydicom
import pytest

from tests.viewers.conftest import TEST_FILES
from tests.viewers.phantoms import write_series
from viewers import series as series_module
from viewers import study as study_module
from viewers.errors import (
    ArchiveError,
    IntakeCancelledError,
    IntakeError,
    TooFewSlicesError,
    TooLargeError,
)
from viewers.intake import open_image
from viewers.limits import Limits
from viewers.store import load
from viewers.study import read_studies
from viewers.study_record import StudiesRead, StudyProgress
from viewers.worker import Intake, WorkerLimits, store_study

KEY = b"k" * 32


def harm(path):
    """Do what the first bytes of a file's end say."""
    ending = path.read_bytes()[-16:]
    if ending.startswith(b"CRASH"):
        signal.raise_signal(signal.SIGSEGV)  # in this thread, as a crash is
    if ending.startswith(b"HANG"):
        time.sleep(60)
    if ending.startswith(b"SLOW"):
        time.sleep(0.3)


def harmful(question, tell):
    """Read a study in which some files do harm; runs in the child."""
    header, pixels = study_module.StudyReader._header, series_module._pixels

    def looked_at(reader, found):
        made = header(reader, found)  # a skipped file is refused before it does anything
        if not question["labels"]:
            harm(found.path)
        return made

    def decoded(file):
        if question["labels"] == ["decoding"]:
            harm(file.path)
        return pixels(file)

    study_module.StudyReader._header, series_module._pixels = looked_at, decoded
    try:
        return store_study(question, tell)
    finally:
        study_module.StudyReader._header, series_module._pixels = header, pixels


@pytest.fixture(scope="module")
def intake():
    with Intake(WorkerLimits(wall_s=20)) as made:
        yield made


def only(read):
    (study,) = read.studies
    (series,) = study.series
    return series


def visible(folder):
    return sorted(item.name for item in folder.iterdir())


def test_a_folder_becomes_stored_series(intake, tmp_path):
    """One image for each series, equal to reading it here; ids follow the key; nothing else is left."""
    write_series(tmp_path / "in", count=5)
    write_series(tmp_path / "in" / "deep", count=3, series="1.2.3.1.2", origin=(0, 0, 0))
    read = intake.open_study(tmp_path / "in", tmp_path / "kept", key=KEY)
    reader, studies = read_studies(tmp_path / "in", key=KEY)
    with reader:
        here = [(item.id, item.modality, item.frame_count) for item in studies[0].series]
        pixels = [item.open().frame(0).codes for item in studies[0].series]
    (study,) = read.studies
    assert study.id == studies[0].id
    assert [(item.id, item.modality, item.frames) for item in study.series] == here
    images = [load(tmp_path / "kept" / item.digest) for item in study.series]
    assert all(
        np.array_equal(image.frame(0).codes, frame) for image, frame in zip(images, pixels, strict=True)
    )
    assert [item.no_volume for item in study.series] == [None, None]
    assert (study.series[0].size, study.series[0].files) == ((12, 10), 5)
    assert visible(tmp_path / "kept") == sorted({*(item.digest for item in study.series), read.first})


def test_the_first_image_is_there_before_the_last_file_is_read(tmp_path):
    """It is reported and can be loaded while files are still being looked at; series are counted."""
    paths = write_series(tmp_path / "in", count=40)
    for path in paths:
        path.write_bytes(path.read_bytes() + b"SLOW".ljust(16))
    seen = []

    def look(progress):
        if progress.first and progress.stage == "reading" and progress.done < progress.total and not seen:
            seen.append((load(tmp_path / "kept" / progress.first), progress))

    with Intake(WorkerLimits(wall_s=20), study_job=harmful) as intake:
        read = intake.open_study(tmp_path / "in", tmp_path / "kept", on_progress=look)
    (image, progress), *_ = seen
    assert image.describes.size.width == 12
    assert progress.total == 40
    assert [(item.modality, item.id) for item in progress.found] == [("CT", only(read).id)]
    assert only(read).frames == 40
    assert load(tmp_path / "kept" / only(read).digest).frame_count == 40


def test_progress_goes_up_and_names_what_is_stored(intake, tmp_path):
    """Waiting, reading, storing, in this order; counts never fall; each stored series can be loaded."""
    write_series(tmp_path / "in", count=4)
    shutil.copy(TEST_FILES / "MR_small.dcm", tmp_path / "in")
    told = []
    read = intake.open_study(tmp_path / "in", tmp_path / "kept", on_progress=told.append)
    stages = [item.stage for item in told]
    assert stages == sorted(stages, key=("waiting", "reading", "storing").index)
    assert set(stages) == {"waiting", "reading", "storing"}
    for stage in ("reading", "storing"):
        counts = [item.done for item in told if item.stage == stage]
        assert counts == sorted(counts)
    assert (told[-1].done, told[-1].total) == (5, 5)
    assert told[-1].stored == tuple(series for study in read.studies for series in study.series)
    assert StudyProgress.from_json(json.loads(json.dumps(told[-1].to_json()))) == told[-1]


def test_bad_files_are_named_and_the_rest_opens(intake, tmp_path):
    """In folders, zips and zips in zips; the names are for the screen only and in no record."""
    paths = write_series(tmp_path / "in", count=5)
    whole = paths[2].read_bytes()
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("DOE^JANE.dcm", whole[:-40])
        archive.write(paths[3], "good.dcm")
    paths[3].unlink()
    with zipfile.ZipFile(tmp_path / "in" / "outer.zip", "w") as archive:
        archive.write(tmp_path / "inner.zip", "a/inner.zip")
    (tmp_path / "in" / "ROE^RICHARD.dcm").write_bytes(whole[:-7])
    (tmp_path / "in" / "notes.txt").write_text("hello")
    read = intake.open_study(tmp_path / "in", tmp_path / "kept")
    named = {name for name in read.names if name}
    assert named == {"ROE^RICHARD.dcm", "outer.zip/a/inner.zip/DOE^JANE.dcm"}
    assert [found.key for found in read.findings].count("finding.file_unreadable") == 2
    assert only(read).frames == 5
    text = json.dumps(read.to_json()) + "".join(
        path.read_text() for path in (tmp_path / "kept").glob("*/image.json")
    )
    assert "DOE" not in text
    assert "ROE" not in text
    assert "DOE" not in repr(read.to_json())
    assert StudiesRead.from_json(json.loads(json.dumps(read.to_json()))).studies == read.studies


def test_uploaded_files_have_the_names_their_owner_gives_them(intake, tmp_path):
    """Files stored under names of ours are told by those of the page."""
    first, second = write_series(tmp_path / "in", count=2)
    second.write_bytes(second.read_bytes()[:-3])
    read = intake.open_study([first, second], tmp_path / "kept", names=["one.dcm", "Patient\nX.dcm"])
    assert [name for name in read.names if name] == ["Patient\N{REPLACEMENT CHARACTER}X.dcm"]


@pytest.mark.parametrize(("ending", "decoding"), [(b"CRASH", False), (b"CRASH", True), (b"HANG", True)])
def test_a_file_that_ends_the_process_is_left_out(tmp_path, ending, decoding):
    """Whether it crashes or hangs, in its header or its pixels: a finding, and the other slices are there."""
    paths = write_series(tmp_path / "in", count=6)
    paths[2].write_bytes(paths[2].read_bytes() + ending.ljust(16))
    names = ["decoding"] if decoding else []
    with Intake(WorkerLimits(wall_s=6 if ending == b"HANG" else 60), study_job=harmful) as intake:
        read = intake.open_study(tmp_path / "in", tmp_path / "kept", names=names)
    assert [found.values["kind"] for found in read.findings] == ["IntakeError"]
    assert next(name for name in read.names if name).endswith(paths[2].name)
    assert only(read).frames == 5
    assert load(tmp_path / "kept" / only(read).digest).frame_count == 5
    assert only(read).no_volume.key == "viewers.uneven_spacing"


def test_too_many_harmful_files_end_the_attempt(tmp_path):
    """A folder full of them is refused instead of tried for ever."""
    for path in write_series(tmp_path / "in", count=12):
        path.write_bytes(path.read_bytes() + b"CRASH".ljust(16))
    with Intake(WorkerLimits(wall_s=60), study_job=harmful) as intake, pytest.raises(IntakeError):
        intake.open_study(tmp_path / "in", tmp_path / "kept")
    assert visible(tmp_path / "kept") == []


def test_reading_can_be_stopped(tmp_path):
    """Another thread stops it at once; only what was reported as stored is left; the next one works."""
    for path in write_series(tmp_path / "in", count=30):
        path.write_bytes(path.read_bytes() + b"SLOW".ljust(16))
    cancel, told = threading.Event(), []

    def look(progress):
        told.append(progress)
        if progress.first:
            cancel.set()

    with Intake(WorkerLimits(wall_s=20), study_job=harmful) as intake:
        with pytest.raises(IntakeCancelledError):
            intake.open_study(tmp_path / "in", tmp_path / "kept", on_progress=look, cancel=cancel)
        assert told[-1].done < 30
        assert visible(tmp_path / "kept") == [told[-1].first]
        again = intake.open_study(TEST_FILES / "CT_small.dcm", tmp_path / "kept")
    assert only(again).digest == open_image(TEST_FILES / "CT_small.dcm").digest == again.first


def test_a_listener_that_fails_does_not_break_the_next_study(intake, tmp_path):
    """Its error arrives, and the conversation starts anew."""

    def fail(progress):
        if progress.stage != "waiting":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        intake.open_study(TEST_FILES / "CT_small.dcm", tmp_path, on_progress=fail)
    assert only(intake.open_study(TEST_FILES / "CT_small.dcm", tmp_path)).frames == 1


def test_refusals_arrive_as_they_are(intake, tmp_path):
    """Damaged archives, missing sources and exceeded limits are the errors they are here."""
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(ArchiveError):
        intake.open_study(tmp_path / "x.zip", tmp_path / "kept")
    write_series(tmp_path / "in", count=5)
    with pytest.raises(TooLargeError):
        intake.open_study(tmp_path / "in", tmp_path / "kept", Limits(archive_entries=3))
    with pytest.raises(OSError, match="No such file"):
        intake.open_study(tmp_path / "nowhere", tmp_path / "kept")
    assert visible(tmp_path / "kept") == []


def test_a_series_that_cannot_be_stored_says_why(intake, tmp_path):
    """The others are stored; two slices are no volume."""
    write_series(tmp_path / "in", count=2)
    write_series(tmp_path / "in", count=2, shape=(300, 300), series="1.2.3.1.2")
    read = intake.open_study(tmp_path / "in", tmp_path / "kept", Limits(decoded_bytes=200_000))
    small, large = sorted(read.studies[0].series, key=lambda series: series.size)
    assert load(tmp_path / "kept" / small.digest).frame_count == 2
    assert (large.digest, large.error.key) == (None, TooLargeError.key)
    assert small.no_volume.key == TooFewSlicesError.key
    assert "ID-ZZ-77" not in repr(read)


def test_a_dicomdir_brings_its_files(intake, tmp_path):
    """The files are read and the directory is not believed: pydicom's own tree opens whole."""
    read = intake.open_study(TEST_FILES / "dicomdirtests", tmp_path / "kept", key=KEY)
    series = [item for study in read.studies for item in study.series]
    paths = (path for path in (TEST_FILES / "dicomdirtests").rglob("*") if path.is_file())
    headers = [pydicom.dcmread(path, force=True) for path in paths if "DICOMDIR" not in path.name]
    shown = [header for header in headers if "PixelData" in header]
    assert len(read.studies) == len({header.StudyInstanceUID for header in shown})
    assert sum(item.frames for item in series) == len(shown)
    assert all(item.digest is not None for item in series)
