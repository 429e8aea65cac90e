"""A stored series of 300 slices: planes and slabs as the page asks for them, straight and oblique."""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks.table import Row
from viewers.browser import browser_plane, geometry_json
from viewers.geometry import PixelSpacingMm, SizePx
from viewers.image import FrameDisplay, GreyFrame, ImageFacts
from viewers.measure import Shape, measure
from viewers.planes import PlaneView
from viewers.stack import slice_plane
from viewers.store import keep, load
from viewers.volume import PLANES
from viewers.window import CodeMap, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from viewers.image import Image

SLICES, SIDE = 300, 512


def run() -> tuple[str, list[Row]]:
    """Measure on a generated series in memory, or in a temporary folder where there is no such thing."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    home = Path(tempfile.mkdtemp(prefix="bimedix2-bench-", dir=shared if shared.is_dir() else None))
    try:
        return f"Planes of a stored series of {SLICES} x {SIDE} x {SIDE}", _rows(home)
    finally:
        shutil.rmtree(home)


def _rows(home: Path) -> list[Row]:
    straight, oblique = _series(home, 0.0), _series(home, 20.0)
    rows = [Row("opened, with the places of all frames", _timed(lambda: geometry_json(straight), 1), "ms")]
    for plane in PLANES:
        rows.append(Row(f"{plane}", _planes(straight, plane), "ms"))
        rows.append(Row(f"{plane}, maximum of 20 mm", _planes(straight, plane, "mip", 20.0), "ms"))
        rows.append(Row(f"{plane}, maximum of everything", _planes(straight, plane, "mip", 1000.0), "ms"))
    first = _timed(lambda: browser_plane(oblique, 0, PlaneView("axial", 100.0)), 1)
    rows.append(Row("oblique scan, first plane", first, "ms"))
    rows += [Row(f"oblique scan, {plane}", _planes(oblique, plane), "ms") for plane in PLANES]
    box = Shape("ellipse", ((100.0, 100.0), (300.0, 300.0)))
    plane = PlaneView("coronal", 40.0)
    measured = _timed(lambda: measure(straight, box, 0, plane), 15)
    rows.append(Row("ellipse of 200 x 200 pixels on a plane", measured, "ms"))
    return rows


def _planes(image: Image, plane: Any, projection: Any = "none", thickness: float = 0.0) -> float:
    """Median of planes nobody has asked for yet."""
    known: dict[str, Any] = geometry_json(image)["planes"][plane]
    middle, steps = (known["low_mm"] + known["high_mm"]) / 2, itertools.count()
    return _timed(
        lambda: browser_plane(image, 0, PlaneView(plane, middle + next(steps) * 0.37, projection, thickness)),
        15,
    )


def _series(home: Path, degrees: float) -> Image:
    angle = np.radians(degrees)
    cosines = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
    normal = np.cross(cosines[:3], cosines[3:])
    noise = np.random.default_rng(1).integers(0, 4096, (SIDE, SIDE), np.uint16)
    facts = ImageFacts(
        kind="dicom",
        modality="CT",
        facts={"RescaleType": "HU"},
        size=SizePx(SIDE, SIDE),
        is_color=False,
        spacing=PixelSpacingMm(0.7, 0.7, "PixelSpacing", calibrated=True),
        pixel_aspect=1.0,
        inverted_by_default=False,
        stored_codes=(0, 4095),
        prefers_stored=False,
        findings=(),
        frames=(FrameDisplay(windows=(Window(40, 400),)),) * SLICES,
        planes=tuple(slice_plane((normal * n).tolist(), cosines) for n in range(SLICES)),
    )
    code_map = CodeMap(0.0, 1.0, -1024.0)
    frames = (GreyFrame(np.roll(noise, n * 7), code_map) for n in range(SLICES))
    return load(keep(home, frames, SizePx(SIDE, SIDE), lambda: facts, is_color=False), verify=False)


def _timed(call: Callable[[], object], rounds: int) -> float:
    """Median in milliseconds."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)
