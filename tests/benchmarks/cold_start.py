"""From the command to a page that can be used, in a new process, with empty data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

from tests.benchmarks.table import Row

LIMIT_S = 180


def run() -> tuple[str, list[Row]]:
    """Measure twice; the first run also reads the disk."""
    rows: list[Row] = []
    for turn in ("first", "second"):
        address, page, model = _start()
        rows += [
            Row(f"{turn} start: address printed", address, "s"),
            Row(f"{turn} start: page served", page, "s"),
            Row(f"{turn} start: model ready", model, "s"),
        ]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "app", "--help"], check=True, capture_output=True)
    rows.append(Row("bimedix2 --help", time.perf_counter() - began, "s"))
    return "Cold start", rows


def _start() -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0", "--language", "en"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"BIMEDIX2_DATA_FOLDER": folder, "PYTHONUNBUFFERED": "1"},
        )
        try:
            assert process.stdout is not None
            url, address, page, ready = "", 0.0, 0.0, 0.0
            while not ready and time.perf_counter() - began < LIMIT_S:
                line = process.stdout.readline()
                if (found := re.search(r"http://\S+", line)) and not url:
                    url, address = found.group(), time.perf_counter() - began
                    with urllib.request.urlopen(url) as response:  # noqa: S310 - our own loopback address
                        response.read()
                    page = time.perf_counter() - began
                if "model is ready" in line:
                    ready = time.perf_counter() - began
            return address, page, ready
        finally:
            process.terminate()
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()
