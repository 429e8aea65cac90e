"""A CT series of 300 slices: headers, the whole volume against a plain pydicom loop, planes, memory."""

from __future__ import annotations

import itertools
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom

from tests.benchmarks.table import Row, alternate
from tests.viewers.phantoms import slice_dataset
from viewers.assembly import volume_of
from viewers.study import StudyReader, read_studies
from viewers.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    volume = _ours(folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
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
