"""The page in Debian's Chromium without a GPU: first slice, scrolling, windows, answers that stream.

A series of 300 slices of 512 x 512 pixels is uploaded as a folder. Scrolling is one slice for each animation
frame once all are in the browser; what is told is the longest time from the wish for a slice to its pixels
on the canvas. The plain way to change a window puts every pixel of the image through the table and lets
the browser shrink the result; ours puts through what is on screen.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom.data
from playwright.sync_api import Page, expect, sync_playwright

from tests.benchmarks import streamed_page
from tests.benchmarks.table import Row
from tests.browser.conftest import FLAGS, start_server
from tests.browser.made import large_series

_SLICES, _SIDE = 300, 512

_WINDOWS = """async (rounds) => {
  const { viewer } = await import('/page/js/viewer.js');
  const pane = viewer.study.layout.active;
  const times = [];
  pane.painter.smoothing = false;
  for (let at = 0; at < rounds; at += 1) {
    await new Promise(requestAnimationFrame);
    const began = performance.now();
    const window = { center: 40 + at, width: 400 + at, function: 'LINEAR', name: '' };
    pane.look = { ...pane.look, window, voiLut: null };
    viewer.study.windowed(pane);
    cancelAnimationFrame(pane.painter.pending);
    pane.painter.pending = 0;
    pane.painter.drawNow();
    times.push(performance.now() - began);
  }
  // frames that a drag of two seconds really got
  let frames = 0;
  const start = performance.now();
  while (performance.now() - start < 2000) {
    pane.look = { ...pane.look, window: { ...pane.look.window, center: frames } };
    viewer.study.windowed(pane);
    await new Promise(requestAnimationFrame);
    frames += 1;
  }
  const rate = (frames * 1000) / (performance.now() - start);
  return { median: times.sort((a, b) => a - b)[times.length >> 1], rate };
}"""

_PLAIN = """async (rounds) => {
  const { viewer } = await import('/page/js/viewer.js');
  const pane = viewer.study.layout.active;
  const { codes, meta } = pane.loaded;
  const canvas = document.createElement('canvas');
  canvas.width = meta.width;
  canvas.height = meta.height;
  const context = canvas.getContext('2d');
  const image = context.createImageData(meta.width, meta.height);
  const out = new Uint32Array(image.data.buffer);
  const words = new Uint32Array(65536);
  const times = [];
  for (let at = 0; at < rounds; at += 1) {
    await new Promise(requestAnimationFrame);
    const began = performance.now();
    for (let code = 0; code < 65536; code += 1) {
      const level = Math.min(Math.max(((code - 32768 - 40 - at) / (400 + at) + 0.5) * 255, 0), 255);
      words[code] = 0xff000000 | (level * 0x010101);
    }
    for (let i = 0; i < codes.length; i += 1) out[i] = words[codes[i]];
    context.putImageData(image, 0, 0);
    pane.painter.context.drawImage(canvas, 0, 0, pane.canvas.width, pane.canvas.height);
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[times.length >> 1];
}"""

_SCROLL = """async () => {
  const { viewer } = await import('/page/js/viewer.js');
  const { peek } = await import('/page/js/study/frames.js');
  const { study } = viewer;
  const pane = study.layout.active;
  const count = pane.image.frames;
  study.ahead(1);
  const began = performance.now();
  const all = Array.from({ length: count }, (_, frame) => ({ frame, plane: null }));
  const here = () => all.filter((place) => peek(pane.image.digest, place)).length;
  while (here() < count && performance.now() - began < 60000) {
    await new Promise((go) => setTimeout(go, 50));
  }
  const filled = performance.now() - began;
  const times = [];
  pane.painter.smoothing = false;
  for (let frame = 1; frame < count; frame += 1) {
    await new Promise(requestAnimationFrame);
    const asked = performance.now();
    const drawn = new Promise((resolve) => {
      const before = pane.painter.drawn;
      pane.painter.drawn = () => { before(); pane.painter.drawn = before; resolve(); };
    });
    study.step(1);
    await drawn;
    times.push(performance.now() - asked);
  }
  times.sort((a, b) => a - b);
  return { here: here(), filled, median: times[times.length >> 1], worst: times.at(-1) };
}"""


def run() -> tuple[str, list[Row]]:
    """Measure in a browser of 1400 x 900."""
    home = Path(tempfile.mkdtemp(prefix="bimedix2-bench-"))
    server = start_server(home)
    (home / "readers").mkdir()
    readers = start_server(home / "readers", OWNERSHIP="visitor")
    try:
        large_series(home / "series", _SLICES, _SIDE)
        _enlarged(home / "large.dcm")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(server.url)
            expect(page.locator("#chat .question")).to_be_visible()
            rows = [*_opened(page, home / "series"), *_scrolled(page), *_windowed(page, _SIDE)]
            page.set_input_files("#viewer .file", str(home / "large.dcm"))
            expect(page.locator("#viewer .corner.start")).to_contain_text("2048×2048", timeout=60_000)
            rows += _windowed(page, 2048)
            page.close()
            rows += streamed_page.rows(browser, readers)
            browser.close()
    finally:
        server.stop()
        readers.stop()
        shutil.rmtree(home)
    return "The study page without a GPU", rows


def _opened(page: Page, folder: Path) -> list[Row]:
    """Seconds after the last byte was sent until a slice, and until the whole series, is on screen."""
    sent: list[float] = []

    def watch(request: object) -> None:
        if str(getattr(request, "url", "")).endswith("/read"):
            sent.append(time.perf_counter())

    page.on("request", watch)
    page.set_input_files("#viewer .folder", str(folder))
    page.wait_for_selector("#viewer .pane .corner.end:not(:empty)", timeout=120_000)
    first = time.perf_counter()
    expect(page.locator("#viewer .corner.end")).to_contain_text(f"1/{_SLICES}", timeout=120_000)
    whole = time.perf_counter()
    return [
        Row(f"first slice after the upload of {_SLICES} files", first - sent[0], "s"),
        Row(f"series of {_SLICES} slices on screen after the upload", whole - sent[0], "s"),
    ]


def _scrolled(page: Page) -> list[Row]:
    made = page.evaluate(_SCROLL)
    if made["here"] != _SLICES:
        raise RuntimeError(f"{made['here']} of {_SLICES} slices were fetched ahead")
    return [
        Row(f"all {_SLICES} slices fetched ahead", made["filled"] / 1e3, "s"),
        Row("scrolling, from wish to canvas, median", made["median"], "ms"),
        Row("scrolling, the latest slice", made["worst"], "ms"),
    ]


def _windowed(page: Page, side: int) -> list[Row]:
    ours, plain = page.evaluate(_WINDOWS, 60), page.evaluate(_PLAIN, 20)
    return [
        Row(f"window change, {side} x {side}", ours["median"], "ms", plain, "whole image"),
        Row(f"window drag, {side} x {side}", ours["rate"], "frames/s", more_is_better=True),
    ]


def _enlarged(path: Path) -> None:
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    noise = np.random.default_rng(1).normal(0, 20, (2048, 2048))
    values = np.kron(dataset.pixel_array, np.ones((16, 16), np.int16)) + noise
    dataset.Rows, dataset.Columns = values.shape
    dataset.PixelData = values.astype("<i2").tobytes()
    dataset.save_as(path)
