"""File to lossless bytes for the browser, and window changes: our renderer against the plain pydicom way.

The plain way is ``dcmread``, ``apply_modality_lut``, ``apply_voi_lut``, the window's output range to 0-255,
and Pillow's PNG with its own settings. Ours makes the same PNG from the same file (opened, checked and
hashed anew each time), or the 16-bit codes that the page windows by itself; both are compared with the
plain picture before anything is measured.
"""

from __future__ import annotations

import io
import itertools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
from PIL import Image as Pillow
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from tests.benchmarks.table import Row, alternate
from viewers.intake import browser_frame, open_image
from viewers.store import load, save
from viewers.study import read_studies
from viewers.view import default_view, render, render_png
from viewers.window import build_lut

_BURST = 5
"""Calls in a row, as of somebody who looks through files."""
CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))


def run() -> tuple[str, list[Row]]:
    """Measure on pydicom's CT slice, enlarged: as CT in a narrow window, as a radiograph in a wide one."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    home = Path(tempfile.mkdtemp(prefix="bimedix2-bench-", dir=shared if shared.is_dir() else None))
    rows = []
    try:
        for side, noise, width, rounds in ((512, 5, 400, 15), (2048, 20, 4096, 5)):
            path = home / f"{side}.dcm"
            content = _enlarged(side, noise, width)
            path.write_bytes(content)
            rows += [
                *_measured(path, side, rounds),
                _of_a_series(home / f"series-{side}", content, side, rounds),
            ]
    finally:
        shutil.rmtree(home)
    return "File to lossless bytes, and windows", rows


def _measured(path: Path, side: int, rounds: int) -> list[Row]:
    size = f"{side} x {side}"
    folder = path.parent / f"kept-{side}"
    save(open_image(path), folder)
    _check_equal(path)
    rows = []
    for name, ours in (
        (f"DICOM file to PNG, {size}", lambda: _png(path)),
        (f"DICOM file to 16-bit codes for the page, {size}", lambda: _codes(path)),
        (f"stored image to PNG, {size}", lambda: _stored(folder)),
    ):
        taken, plain = alternate(ours, lambda: plain_png(path), rounds=rounds, burst=_BURST)
        rows.append(Row(name, taken * 1e3, "ms", plain * 1e3, "pydicom"))
    image, dataset = open_image(path), pydicom.dcmread(path)
    view, stored = default_view(image), dataset.pixel_array
    taken, plain = alternate(
        lambda: render(image, view), lambda: _window(stored, dataset), rounds=rounds, burst=_BURST
    )
    rows.append(Row(f"another window, {size}", taken * 1e3, "ms", plain * 1e3, "pydicom"))
    return rows


def _of_a_series(folder: Path, content: bytes, side: int, rounds: int) -> Row:
    """Measure what scrolling costs: a slice of a series whose headers are read, its pixels from its file."""
    folder.mkdir()
    dataset = pydicom.dcmread(io.BytesIO(content))
    paths = [folder / f"{number}.dcm" for number in range(3)]
    for number, path in enumerate(paths):
        dataset.InstanceNumber, dataset.SOPInstanceUID = number + 1, pydicom.uid.generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.ImagePositionPatient = [0, 0, 5 * number]
        dataset.save_as(path)
    turns, others = itertools.cycle(range(3)), itertools.cycle(paths)
    reader, studies = read_studies(folder)
    with reader:
        image = studies[0].series[0].open()

        def ours() -> bytes:
            image._frames.clear()
            return render_png(image, default_view(image, next(turns)))

        taken, plain = alternate(ours, lambda: plain_png(next(others)), rounds=rounds, burst=_BURST)
    return Row(
        f"slice of an opened series to PNG, {side} x {side}", taken * 1e3, "ms", plain * 1e3, "pydicom"
    )


def _check_equal(path: Path) -> None:
    """Compare both forms with the plain picture: half-way values may be rounded either way, by one level."""
    plain = _decoded(plain_png(path)).astype(int)
    meta, codes = browser_frame(open_image(path), 0)
    image = open_image(path)
    chosen = image.default_window(0)
    assert chosen is not None
    table = build_lut(image.frame(0).code_map, chosen.transform)
    drawn = table[np.frombuffer(codes, "<u2").reshape(meta["height"], meta["width"])]
    for ours in (_decoded(_png(path)), drawn):
        difference = np.abs(ours - plain)
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= difference.size / 1000


def _decoded(data: bytes) -> np.ndarray:
    with Pillow.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def _enlarged(side: int, noise: float, width: int) -> bytes:
    dataset = pydicom.dcmread(CT)
    smooth = Pillow.fromarray(dataset.pixel_array.astype(np.float32)).resize(
        (side, side), Pillow.Resampling.BICUBIC
    )
    grain = np.random.default_rng(1).normal(0, noise, (side, side))
    pixels = np.clip(np.rint(np.asarray(smooth) + grain), 0, 4095).astype("<i2")
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.WindowCenter, dataset.WindowWidth = "40" if width < 4096 else "1024", str(width)
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def _png(path: Path) -> bytes:
    image = open_image(path)
    return render_png(image, default_view(image))


def _codes(path: Path) -> bytes:
    return browser_frame(open_image(path), 0)[1]


def _stored(folder: Path) -> bytes:
    image = load(folder, verify=False)
    return render_png(image, default_view(image))


def _window(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    low = -(2.0 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0.0
    high = low + 2.0**dataset.BitsStored - 1
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    low, high = low * slope + intercept, high * slope + intercept
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset)
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


def plain_png(path: Path) -> bytes:
    """Make a PNG with pydicom and Pillow."""
    dataset = pydicom.dcmread(path)
    buffer = io.BytesIO()
    Pillow.fromarray(_window(dataset.pixel_array, dataset)).save(buffer, "PNG")
    return buffer.getvalue()
