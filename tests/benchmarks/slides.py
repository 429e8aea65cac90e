"""Tiles and regions of a slide of 100,000 x 80,000: ours against openslide.deepzoom, in the same run."""

from __future__ import annotations

import io
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openslide
import psutil
from openslide.deepzoom import DeepZoomGenerator

from tests.benchmarks.table import Row, alternate
from tests.viewers.openers import made
from viewers.deepzoom import QUALITY, DeepZoom, TileAddress, encode_tile
from viewers.geometry import Region, SizePx
from viewers.openers import open_slide
from viewers.slide_pool import SlidePool
from viewers.slide_store import keep, load
from viewers.slide_view import draw_region
from viewers.tiles import TileCache, TileService, Turnstile

TILES = 400
MANY = 10_000


class _Theirs:
    """What the tutorial of openslide-python serves."""

    def __init__(self, path):
        self.slide = openslide.OpenSlide(path)
        self.generator = DeepZoomGenerator(self.slide, made.TILE, 0)

    def tile(self, address, _viewer=""):
        buffer = io.BytesIO()
        self.generator.get_tile(address.level, (address.column, address.row)).save(
            buffer, "JPEG", quality=QUALITY
        )
        return buffer.getvalue()


class _Ours:
    """Our service; without its cache every tile is made anew."""

    def __init__(self, path, budget=0):
        # No request of the benchmark is to be dropped.
        self.service = TileService(
            SlidePool(lambda _: open_slide(path)), TileCache(budget), Turnstile(waiting=10**6)
        )

    def tile(self, address, viewer=""):
        return self.service.tile("slide", address, viewer)


def run() -> tuple[str, list[Row]]:
    """Measure on two generated slides: all levels present, and every second one missing."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for what, factors in (("levels by 2", (1, 2, 4, 8, 16, 32, 64, 128)), ("by 4", (1, 4, 16, 64))):
            path = made.write_huge(Path(folder) / f"{len(rows)}.tif", factors=factors)
            rows += _of_slide(path, what)
        rows.append(_memory(path))
        rows += _as_kept(Path(folder))
    return f"Slides of 100,000 x 80,000, tiles of {made.TILE}, JPEG {QUALITY}", rows


def _of_slide(path: Path, what: str) -> list[Row]:
    addresses = _walk(path)
    rows = []
    opening = alternate(lambda: open_slide(path).close(), lambda: openslide.OpenSlide(path).close(), 9)
    rows.append(
        Row(f"open the file that came, {what}", opening[0] * 1e3, "ms", opening[1] * 1e3, "openslide")
    )
    first = alternate(
        lambda: _Ours(path).tile(addresses[0]), lambda: _Theirs(path).tile(addresses[0]), rounds=9
    )
    rows.append(
        Row(
            f"cold: open the file that came and first tile, {what}",
            first[0] * 1e3,
            "ms",
            first[1] * 1e3,
            "deepzoom",
        )
    )
    theirs = _Theirs(path)
    for kind, ours in (("made anew", _Ours(path)), ("kept", _Ours(path, 2**28))):
        for viewers in (1, 8):
            for one in (ours, theirs):
                _asked(one, addresses, viewers)
            mine, other = _asked(ours, addresses, viewers), _asked(theirs, addresses, viewers)
            name = f"{viewers} viewer{'s' * (viewers > 1)}, {kind}, {what}"
            rows.append(Row(f"tile p50, {name}", mine[0], "ms", other[0], "deepzoom"))
            rows.append(Row(f"tile p95, {name}", mine[1], "ms", other[1], "deepzoom"))
            rows.append(Row(f"tiles, {name}", mine[2], "1/s", other[2], "deepzoom", more_is_better=True))
    with open_slide(path) as slide:
        region = Region(40_000, 30_000, 4096, 4096)
        rows.append(Row(f"4096 x 4096 to the model, {what}", _ms(lambda: draw_region(slide, region)), "ms"))
        rows.append(Row(f"4096 x 4096 of level 0, {what}", _ms(lambda: slide.read_level(0, region)), "ms"))
    return rows


def _as_kept(folder: Path) -> list[Row]:
    """Measure what the page opens: not the file that came but what was kept of it."""
    path = made.write_huge(folder / "kept.tif", 20_480, 16_384)
    with open_slide(path) as slide:
        began = time.perf_counter()
        stored = keep(slide, folder / "store")
        rows = [Row("taking in a slide of 20,480 x 16,384", time.perf_counter() - began, "s")]
    zoom = DeepZoom(SizePx(20_480, 16_384), made.TILE)
    address = TileAddress(zoom.levels - 1, 20, 30)

    def ours() -> None:
        with load(stored) as slide:
            encode_tile(slide, zoom, address)

    opening = alternate(lambda: load(stored).close(), lambda: openslide.OpenSlide(path).close(), 15)
    rows.append(Row("open, as kept", opening[0] * 1e3, "ms", opening[1] * 1e3, "openslide"))
    first = alternate(ours, lambda: _Theirs(path).tile(address), rounds=15)
    rows.append(Row("cold: open and first tile, as kept", first[0] * 1e3, "ms", first[1] * 1e3, "deepzoom"))
    return rows


def _walk(path: Path) -> list[TileAddress]:
    """Tiles as someone who zooms in and moves about asks for them: neighbours, at the larger levels."""
    chance = random.Random(7)
    with open_slide(path) as slide:
        zoom = _Ours(path).service.pyramid("slide")
        del slide
    found = []
    while len(found) < TILES:
        level = chance.randrange(zoom.levels - 7, zoom.levels)
        columns, rows = zoom.tiles(level)
        column, row = chance.randrange(columns), chance.randrange(rows)
        found += [
            TileAddress(level, column + right, row + down)
            for down in range(min(3, rows - row))
            for right in range(min(4, columns - column))
        ]
    return found[:TILES]


def _asked(one: object, addresses: list[TileAddress], viewers: int) -> tuple[float, float, float]:
    """Median and 95th percentile in milliseconds, and tiles a second."""

    def get(numbered: tuple[int, TileAddress]) -> float:
        began = time.perf_counter()
        one.tile(numbered[1], str(numbered[0] % viewers))
        return (time.perf_counter() - began) * 1e3

    began = time.perf_counter()
    with ThreadPoolExecutor(viewers) as threads:
        taken = sorted(threads.map(get, enumerate(addresses)))
    lasted = time.perf_counter() - began
    return statistics.median(taken), taken[int(len(taken) * 0.95)], len(taken) / lasted


def _ms(call: object) -> float:
    call()
    taken = []
    for _ in range(7):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)


def _memory(path: Path) -> Row:
    """How much the process grows over ten thousand tiles, after the first thousand."""
    ours, chance = _Ours(path, 2**22), random.Random(1)
    zoom = ours.service.pyramid("slide")

    def ask(count: int) -> None:
        for _ in range(count):
            level = chance.randrange(zoom.levels - 8, zoom.levels)
            columns, rows = zoom.tiles(level)
            ours.tile(TileAddress(level, chance.randrange(columns), chance.randrange(rows)))

    ask(1000)
    before = psutil.Process().memory_info().rss
    ask(MANY)
    return Row(
        f"memory grown over {MANY} tiles", (psutil.Process().memory_info().rss - before) / 2**20, "MiB"
    )
