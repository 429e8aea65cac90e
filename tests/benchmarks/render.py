"""File to pixels and window changes: our renderer against the plain pydicom way."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
from PIL import Image as Pillow
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from tests.benchmarks.table import Row, alternate
from viewers.intake import open_image
from viewers.view import default_view, render, render_png

CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))


def run() -> tuple[str, list[Row]]:
    """Measure on pydicom's CT slice, as it is and repeated to 512 x 512."""
    big = _enlarged()
    rows = []
    for name, source in (("128 x 128", CT.read_bytes()), ("512 x 512", big)):
        path = Path("/dev/shm") / "bimedix2-bench.dcm" if Path("/dev/shm").is_dir() else Path("bench.dcm")  # noqa: S108
        path.write_bytes(source)
        try:
            ours, plain = alternate(lambda p=path: _ours(p), lambda p=path: _plain(p), rounds=15)
            rows.append(Row(f"file to PNG, {name}", ours * 1e3, "ms", plain * 1e3, "pydicom"))
            image, dataset = open_image(path), pydicom.dcmread(path)
            view, stored = default_view(image), dataset.pixel_array
            ours, plain = alternate(
                lambda i=image, v=view: render(i, v), lambda s=stored, d=dataset: _window(s, d), rounds=15
            )
            rows.append(Row(f"another window, {name}", ours * 1e3, "ms", plain * 1e3, "pydicom"))
        finally:
            path.unlink()
    return "Rendering", rows


def _enlarged() -> bytes:
    dataset = pydicom.dcmread(CT)
    pixels = np.tile(dataset.pixel_array, (4, 4))
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def _ours(path: Path) -> bytes:
    image = open_image(path)
    return render_png(image, default_view(image))


def _window(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float64)
    values = (values - values.min()) / (values.max() - values.min()) * 255
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)


def _plain(path: Path) -> bytes:
    dataset = pydicom.dcmread(path)
    buffer = io.BytesIO()
    Pillow.fromarray(_window(dataset.pixel_array, dataset)).save(buffer, "PNG")
    return buffer.getvalue()
