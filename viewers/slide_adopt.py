"""Stored slides that come from elsewhere: every entry checked, every tile cleaned, a digest of their own.

The work of the process with limits; see :class:`viewers.slide_intake.SlideIntake`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.color_profile import bare_profile
from viewers.errors import StoredImageError, TooLargeError
from viewers.limits import Limits
from viewers.openers.tiled import Tiles, clean
from viewers.slide import content_digest
from viewers.slide_record import StoredSlide, slide_from_json, slide_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viewers.openers.tiled import TileGrid

__all__ = ["adopt_slide"]

_RECORD_BYTES: Final = 8 * 2**20
_LEVELS: Final = 64
_STARTS: Final = {"jpeg": b"\xff\xd8", "jpeg2000": b"\xff\x4f", "png": b"\x89PNG\r\n\x1a\n"}
_DAMAGED: Final = b"\0"


def adopt_slide(question: dict[str, Any], _tell: Callable[[dict[str, Any]], None]) -> str:
    """Check a stored slide from elsewhere and write it anew; returns its digest, which follows from it."""
    from viewers.slide_store import load

    limits = Limits(**question["limits"])
    source, home = Path(question["source"]), Path(question["folder"]) / "stored"
    stored = _record(source, limits)
    with load(source, verify=True) as slide:
        pixels = slide.source
        if not isinstance(pixels, Tiles):
            raise StoredImageError(reason="original")
        _check_places(pixels, (source / "tiles.bin").stat().st_size)
        digest = content_digest(stored.facts, pixels)
        folder = home / digest
        folder.mkdir(parents=True)
        sha256 = _write(pixels, folder)
        if slide.colors is not None and slide.profile:
            (folder / "profile.icc").write_bytes(bare_profile(slide.profile))
    made = replace(stored, digest=digest, tiles_sha256=sha256)
    (folder / "slide.json").write_text(
        json.dumps(slide_to_json(made), sort_keys=True, allow_nan=False), encoding="utf-8"
    )
    return digest


def _record(source: Path, limits: Limits) -> StoredSlide:
    """Read the record and hold it against the limits, before anything of its size is made."""
    record = source / "slide.json"
    if record.stat().st_size > _RECORD_BYTES:
        raise TooLargeError(quantity="bytes", found=record.stat().st_size, limit=_RECORD_BYTES)
    try:
        stored = slide_from_json(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoredImageError(reason="damaged record") from error
    if stored.original is not None or len(stored.facts.levels) > _LEVELS:
        raise StoredImageError(reason="original" if stored.original else "levels")
    for level in stored.facts.levels:
        pixels, tile = level.size.width * level.size.height, level.tile.width * level.tile.height
        if pixels > limits.slide_pixels:
            raise TooLargeError(quantity="pixels", found=pixels, limit=limits.slide_pixels)
        if tile > limits.tile_pixels:
            raise TooLargeError(quantity="pixels of a tile", found=tile, limit=limits.tile_pixels)
        count = -(-level.size.width // level.tile.width) * -(-level.size.height // level.tile.height)
        if count > limits.slide_tiles:
            raise TooLargeError(quantity="tiles", found=count, limit=limits.slide_tiles)
    return stored


def _check_places(pixels: Tiles, size: int) -> None:
    """Tiles are inside their file and no byte of it stands for two: what is read is what came."""
    total = 0
    for grid in pixels.grids:
        count = grid.columns * grid.rows
        offsets, lengths = (np.asarray(part[:count]) for part in (grid.offsets, grid.lengths))
        if (offsets < 0).any() or (lengths < 0).any() or (lengths > size).any() or (offsets > size).any():
            raise StoredImageError(reason="index.bin")
        total += int(lengths.sum())
        if total > size or (offsets + lengths > size).any():
            raise StoredImageError(reason="index.bin")


def _write(pixels: Tiles, folder: Path) -> str:
    """Write every tile without what is no pixel; returns the SHA-256 of all."""
    sha256, at, parts = hashlib.sha256(), 0, []
    with (folder / "tiles.bin").open("wb") as stream:
        for grid in pixels.grids:
            index = np.zeros((grid.columns * grid.rows, 2), "<i8")
            for number, data in _tiles(grid):
                index[number] = at, len(data)
                at += stream.write(data)
                sha256.update(data)
            parts.append(index)
    (folder / "index.bin").write_bytes(np.concatenate(parts).tobytes())
    return sha256.hexdigest()


def _tiles(grid: TileGrid) -> Iterator[tuple[int, bytes]]:
    start = _STARTS[grid.coding.name]
    for number in np.flatnonzero(np.asarray(grid.lengths[: grid.columns * grid.rows])):
        data = clean(grid.coding, grid.stored(int(number)))
        yield int(number), data if data.startswith(start) else _DAMAGED
