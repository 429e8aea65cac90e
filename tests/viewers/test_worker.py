"""A hostile file ends a child process, and the next file opens."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from tests.viewers.conftest import TEST_FILES
from viewers.errors import IntakeError, NotAnImageError, TruncatedFileError
from viewers.intake import open_image
from viewers.limits import Limits
from viewers.store import load
from viewers.worker import Intake, WorkerLimits, open_safely, store_image

CT = TEST_FILES / "CT_small.dcm"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the system has no such limits")


def misbehave(question, tell):
    """Do what a file's name says, else open it; runs in the child."""
    name = os.path.basename(question["path"])  # noqa: PTH119 - a plain name
    if name == "hang":
        time.sleep(60)
    if name == "spin":
        while True:
            pass
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "eat":
        return str(np.ones(2**34, np.uint8).sum())
    if name == "lie":
        return "../../../../etc"
    if name == "fail":
        raise ZeroDivisionError("a secret text")
    if name == "nosuch":
        raise FileNotFoundError(2, "No such file or directory", "/secret/place")
    return store_image(question, tell)


@pytest.fixture(scope="module")
def intake():
    with Intake(WorkerLimits(wall_s=20, cpu_s=1), misbehave) as made:
        yield made


def folders(path):
    return sorted(item.name for item in path.iterdir())


def test_a_file_is_stored_as_if_opened_here(intake, tmp_path):
    """Same digest, facts and pixels; nothing else is left; a second time gives the same folder."""
    folder = intake.open(CT, tmp_path)
    image, here = load(folder), open_image(CT)
    assert folder.name == image.digest == here.digest
    assert image.describes == here.describes
    assert np.array_equal(image.frame(0).codes, here.frame(0).codes)
    assert intake.open(CT, tmp_path) == folder
    assert folders(tmp_path) == [folder.name]


def test_errors_arrive_as_they_are(intake, tmp_path):
    """What the child refuses is the same error with the same values, and the child lives on."""
    (tmp_path / "x").write_bytes(b"%PDF-1.4")
    with pytest.raises(NotAnImageError) as caught:
        intake.open(tmp_path / "x", tmp_path / "kept")
    assert caught.value.values == {"found": "PDF"}
    child = intake._child.pid
    (tmp_path / "x").write_bytes(CT.read_bytes()[:-5000])
    with pytest.raises(TruncatedFileError):
        intake.open(tmp_path / "x", tmp_path / "kept")
    with pytest.raises(OSError, match="No such file") as missing:
        intake.open("nosuch", tmp_path / "kept")
    assert "secret" not in str(missing.value)
    assert intake._child.pid == child
    assert folders(tmp_path / "kept") == []


@POSIX
@pytest.mark.parametrize("name", ["crash", "spin", "eat", "fail", "lie"])
def test_whatever_a_file_does_the_next_one_opens(intake, tmp_path, name):
    """Crashes, endless computing, too much memory, bugs and lies end in one kind of error."""
    with pytest.raises(IntakeError) as caught:
        intake.open(name, tmp_path)
    assert "secret" not in str(caught.value)
    assert "etc" not in str(caught.value)
    assert load(intake.open(CT, tmp_path)).frame_count == 1
    assert len(folders(tmp_path)) == 1


def test_a_file_that_takes_too_long(tmp_path):
    """The child is killed after the wall-clock limit, on any system."""
    with Intake(WorkerLimits(wall_s=5), misbehave) as intake:
        assert load(intake.open(CT, tmp_path)).frame_count == 1
        intake._child.limits = WorkerLimits(wall_s=0.3)
        began = time.monotonic()
        with pytest.raises(IntakeError) as caught:
            intake.open("hang", tmp_path)
        assert time.monotonic() - began < 10
        assert caught.value.values == {"reason": "> 0.3 s", "limit": "0.3 s"}
        assert intake._child.pid is None


def test_limits_go_to_the_child(intake, tmp_path):
    """The caller's limits are the child's."""
    from viewers.errors import TooLargeError

    with pytest.raises(TooLargeError):
        intake.open(CT, tmp_path, Limits(file_bytes=100))


def test_several_threads_share_one_child(intake, tmp_path):
    """Files are opened one after the other; all arrive."""
    made, failed = [], []

    def work(name):
        try:
            made.append(intake.open(TEST_FILES / name, tmp_path))
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    names = ["CT_small.dcm", "MR_small.dcm", "CT_small.dcm", "rtdose.dcm"]
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(made) == 4
    assert len(set(made)) == 3


def test_one_function_for_everybody(tmp_path):
    """``open_safely`` needs nothing but the file and the folder."""
    assert load(open_safely(CT, tmp_path)).digest == open_image(CT).digest
