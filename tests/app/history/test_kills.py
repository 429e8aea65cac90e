"""Killed at random instants while four users stream, the history holds all that had been told as stored."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("BIMEDIX2_KILLS", "200"))
"""``make soak`` asks for more."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that can fork is needed")


def _run(source, kills, seed):
    command = [sys.executable, "-m", "tests.app.history.kills", str(source), str(kills), str(seed)]
    ended = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, encoding="utf-8", timeout=60 + 6 * kills
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    counts = ended.stdout.split()
    return dict(zip(counts[::2], map(int, counts[1::2]), strict=True))


@pytest.mark.timeout(120 + 6 * KILLS)
def test_nothing_told_is_lost_however_often_the_process_is_killed():
    """Every message, deletion and judgement is as told; the file, its index and its record are whole."""
    # in memory where there is such a place: what a dead process loses has nothing to do with the disk
    shm = Path("/dev/shm")  # noqa: S108
    folder = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
    try:
        counts = _run(folder / "history.sqlite3", KILLS, 20)
    finally:
        shutil.rmtree(folder)
    assert counts["kills"] == KILLS
    assert counts["messages"] > KILLS
    assert counts["interrupted"] > KILLS // 4


def test_nothing_told_is_lost_on_a_server(server, request):
    """The same with the history on PostgreSQL."""
    url = server.new(request.getfixturevalue("_template"))
    try:
        counts = _run(url, 10, 21)
    finally:
        server.drop(url)
    assert counts["messages"] > 10
