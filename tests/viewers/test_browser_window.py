"""The page builds the same table as the server: its JavaScript, run in Node, gives the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from viewers.record import code_map_to_json
from viewers.window import CodeMap, VoiLut, Window, build_lut

NODE = shutil.which("node")
SCRIPT = Path(__file__).parents[2] / "assets" / "js" / "study" / "window.js"
PROGRAM = """
import { buildLut, codeValues } from "SCRIPT";
import { readFileSync, writeFileSync } from "node:fs";
const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
const tables = cases.map(({ codeMap, transform, inverted }) =>
  Buffer.from(buildLut(codeMap, codeValues(codeMap), transform, inverted)));
writeFileSync(process.argv[3], Buffer.concat(tables));
"""


def cases():
    """Return 120 random code maps with windows of every function and VOI LUTs."""
    chance = random.Random(20)
    table = np.cumsum(np.random.default_rng(1).integers(0, 3, 65536)).astype(np.float64)
    for index in range(120):
        padding = (chance.randrange(500), chance.randrange(500, 900)) if index % 3 == 0 else None
        code_map = CodeMap(
            chance.choice([0.0, 32768.0, 1.0]),
            chance.choice([1.0, -1.0, 0.1, 1 / 3, 2.5e-5, chance.uniform(0.01, 40)]),
            chance.choice([0.0, -1024.0, chance.uniform(-5000, 5000)]),
            table if index % 5 == 0 else None,
            padding,
        )
        if index % 6 == 1:
            bits = chance.choice([8, 12, 16])
            entries = tuple(chance.randrange(2**bits) for _ in range(chance.choice([1, 2, 700, 4096])))
            yield code_map, VoiLut(chance.randrange(-2000, 100), entries, bits), bool(index % 2)
        else:
            function = ("LINEAR", "LINEAR_EXACT", "SIGMOID")[index % 3]
            width = chance.choice([1, 2, 400, 65535, chance.uniform(1, 9000)])
            yield code_map, Window(chance.uniform(-2000, 4000), width, function), bool(index % 2)


def transform_json(transform):
    if isinstance(transform, Window):
        return {"center": transform.center, "width": transform.width, "function": transform.function}
    return {"first": transform.first, "table": list(transform.table), "bits": transform.bits}


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
def test_the_page_and_the_server_agree_on_every_byte(tmp_path):
    """All 65536 grey levels of 120 tables are equal."""
    made = list(cases())
    program, source, target = tmp_path / "run.mjs", tmp_path / "cases.json", tmp_path / "tables.bin"
    program.write_text(PROGRAM.replace("SCRIPT", SCRIPT.as_uri()), encoding="utf-8")
    source.write_text(
        json.dumps(
            [
                {
                    "codeMap": code_map_to_json(code_map),
                    "transform": transform_json(one),
                    "inverted": inverted,
                }
                for code_map, one, inverted in made
            ]
        )
    )
    done = subprocess.run(
        [NODE, program, source, target], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    tables = np.frombuffer(target.read_bytes(), np.uint8).reshape(len(made), 65536)
    for (code_map, one, inverted), table in zip(made, tables, strict=True):
        assert np.array_equal(build_lut(code_map, one, inverted=inverted), table), (code_map, one, inverted)
