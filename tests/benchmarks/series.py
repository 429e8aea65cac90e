"""A CT series of 300 slices: headers, the whole volume against a plain pydicom loop, planes, memory.

The plain way is a loop of ``dcmread`` and ``pixel_array``. "In the limited process" is what the page does:
files that were uploaded are read, grouped and stored by a child with limits, which tells of its first image.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom

from tests.benchmarks.render import plain_png
from tests.benchmarks.table import Row, alternate
from tests.viewers.phantoms import slice_dataset
from viewers.assembly import image_volume, volume_of
from viewers.planes import PlaneView
from viewers.store import load
from viewers.study import StudyReader, read_studies
from viewers.view import default_view, render_png
from viewers.volume import Volume
from viewers.worker import Intake

if TYPE_CHECKING:
    from collections.abc import Callable

    from viewers.study_record import StudyProgress

SLICES, SIDE = 300, 512


def run() -> tuple[str, list[Row]]:
    """Measure on generated slices in memory, or in a temporary folder where there is no such thing."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    home = Path(tempfile.mkdtemp(prefix="bimedix2-bench-", dir=shared if shared.is_dir() else None))
    try:
        return f"Series of {SLICES} x {SIDE} x {SIDE}", _measured(home)
    finally:
        shutil.rmtree(home)


def _measured(home: Path) -> list[Row]:
    folder = home / "in"
    _write(folder)
    grown = _grown_mib(folder)
    volume = _ours(folder)
    assert np.array_equal(volume.array, _plain(folder))
    rows = [
        Row("memory grown while the volume is read / its pixels", grown / (volume.array.nbytes / 2**20), "x")
    ]
    ours, plain = alternate(lambda: _headers(folder), lambda: _plain_headers(folder), rounds=3)
    rows.append(Row("headers read, sorted, grouped", ours, "s", plain, "pydicom"))
    ours, plain = alternate(lambda: _ours(folder), lambda: _plain(folder), rounds=3)
    rows.append(Row("folder to volume in Hounsfield units", ours, "s", plain, "pydicom"))
    rows.append(Row("folder to first image opened", _median(lambda: _first(folder), 5), "s"))
    rows.append(Row("folder to stored image", _median(lambda: _stored(folder, home / "kept"), 3), "s"))
    rows += _in_the_child(folder, home / "child", volume.array.nbytes)
    rows.append(_slices(folder))
    rows += _planes_of_stored(home / "child")
    turns = itertools.count()
    for plane in ("axial", "coronal", "sagittal"):
        positions = volume.positions_mm(plane)

        def cut(at: Volume = volume, name: str = plane, where: np.ndarray = positions) -> object:
            return at.reslice(name, float(where[next(turns) * 37 % len(where)]) + 0.1)

        rows.append(Row(f"plane, {plane}, between voxels", _median(cut, 15) * 1e3, "ms"))
    turned = Volume(volume.array, _turned(volume.affine))
    turned.reslice("coronal", 0.0)
    rows.append(
        Row("plane of an oblique scan", _median(lambda: turned.reslice("coronal", 5.0), 7) * 1e3, "ms")
    )
    return rows


def _grown_mib(folder: Path) -> float:
    """Memory a new process grows by while it reads the volume: an older one may have been larger before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        pool.submit(_ours, next(folder.iterdir()).parent / "none").exception()  # the libraries
        return pool.submit(_growth, folder).result()


def _growth(folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    volume = _ours(folder)
    assert volume.array.size
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _write(folder: Path) -> None:
    folder.mkdir()
    chance = np.random.default_rng(1)
    noise = chance.normal(0, 20, (SIDE, SIDE))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    for index in range(SLICES):
        radius = 150 + 60 * np.sin(index / 40)
        body = np.where((rows - 256) ** 2 + (columns - 256) ** 2 < radius**2, 40, -1000)
        pixels = np.clip(body + np.roll(noise, index * 7), -1024, 3000).astype(np.int16)
        dataset = slice_dataset(
            pixels,
            (-130, -130, -150 + index),
            spacing=(0.5, 0.5),
            study="1.2.3",
            series="1.2.3.4",
            number=index,
        )
        # File names in no order, as scanners give them.
        dataset.save_as(folder / f"{index * 7919 % 10007:05d}.dcm", enforce_file_format=True)


def _ours(folder: Path) -> Volume:
    reader, studies = read_studies(folder)
    with reader:
        return volume_of(studies[0].series[0])


def _plain(folder: Path) -> np.ndarray:
    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    datasets.sort(key=lambda item: float(item.ImagePositionPatient[2]))
    slices = [item.pixel_array * item.RescaleSlope + item.RescaleIntercept for item in datasets]
    return np.stack(slices).astype(np.int16)


def _headers(folder: Path) -> object:
    reader, studies = read_studies(folder)
    reader.close()
    return studies


def _plain_headers(folder: Path) -> object:
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    return sorted(datasets, key=lambda item: float(item.ImagePositionPatient[2]))


def _first(folder: Path) -> object:
    with StudyReader(folder) as reader:
        return next(read.instance.open() for read in reader if read.instance is not None)


def _stored(folder: Path, kept: Path) -> object:
    reader, studies = read_studies(folder)
    with reader:
        return studies[0].series[0].keep(kept)


def _in_the_child(folder: Path, kept: Path, pixel_bytes: int) -> list[Row]:
    """Time from the end of the upload to the first image and to the stored series, and the child's memory."""
    firsts, wholes = [], []
    with Intake() as intake:
        intake.start()
        intake.open_study(next(folder.iterdir()), kept)
        idle = _peak_mib(intake)
        for _ in range(3):
            shutil.rmtree(kept)
            began, seen = time.perf_counter(), []

            def look(progress: StudyProgress, began: float = began, seen: list[float] = seen) -> None:
                if progress.first and not seen:
                    load(kept / progress.first, verify=False)
                    seen.append(time.perf_counter() - began)

            intake.open_study(folder, kept, on_progress=look)
            wholes.append(time.perf_counter() - began)
            firsts += seen
        peak = _peak_mib(intake)
    return [
        Row("first image, in the limited process", statistics.median(firsts), "s"),
        Row("all stored, in the limited process", statistics.median(wholes), "s"),
        Row("memory of that process beyond an idle one / pixels", (peak - idle) / (pixel_bytes / 2**20), "x"),
    ]


def _peak_mib(intake: Intake) -> float:
    status = Path(f"/proc/{intake.pid}/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _slices(folder: Path) -> Row:
    """Measure a slice of an opened series: its pixels read from its file, windowed, written as PNG."""
    reader, studies = read_studies(folder)
    paths = sorted(folder.iterdir())
    turns, others = itertools.count(), itertools.count()
    with reader:
        image = studies[0].series[0].open()

        def ours() -> bytes:
            image._frames.clear()
            return render_png(image, default_view(image, next(turns) * 37 % SLICES))

        def plain() -> bytes:
            return plain_png(paths[next(others) * 37 % SLICES])

        taken, plainly = alternate(ours, plain, rounds=25)
    return Row("slice of an opened series, file to PNG", taken * 1e3, "ms", plainly * 1e3, "pydicom")


def _planes_of_stored(kept: Path) -> list[Row]:
    """Planes as the page asks for them: through the stored image, resampled, windowed, written as PNG."""
    folder = next(item for item in kept.iterdir() if load(item, verify=False).frame_count == SLICES)
    image = load(folder, verify=False)
    volume = image_volume(image)
    rows = []
    for plane in ("axial", "coronal", "sagittal"):
        positions = volume.positions_mm(plane)
        turns = itertools.count()

        def draw(name: str = plane, where: np.ndarray = positions, turns: object = turns) -> object:
            position = float(where[next(turns) * 37 % len(where)])
            return render_png(image, default_view(image, 0, PlaneView(name, position)))

        rows.append(Row(f"stored image to PNG of a plane, {plane}", _median(draw, 15) * 1e3, "ms"))
    return rows


def _turned(affine: np.ndarray) -> np.ndarray:
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    return np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]]) @ affine


def _median(call: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
