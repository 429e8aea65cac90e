"""A slide kept on disk: its pixels and the few facts needed to show them, in a folder named by its digest.

What is kept is an allow-list, as for every other image. Of TIFF and DICOM slides, and of flat pictures, a
new folder is written: ``slide.json`` (sizes, microns per pixel, findings), ``tiles.bin`` (every tile of
every level), ``index.bin`` (of each tile its offset and length, little-endian int64) and
``profile.icc`` if colours need one. JPEG and JPEG 2000 tiles are copied as the scanner made them, without
comments and application data; others become lossless PNG, or JPEG where OpenSlide had to read them. Labels,
macro images, thumbnails and all text of headers stay behind. Levels of less detail are added where they are
missing.

Scanners' own formats that only OpenSlide reads (MRXS, NDPI, SCN, VMS, BIF and others) cannot be taken apart
this way: their files are kept under new names in ``original/``, with the finding ``original_kept``, since
they may hold a label or names inside, which are never read, shown or sent. A process of its own reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.color_profile import color_transform
from viewers.errors import StoredImageError, ViewerError
from viewers.findings import finding
from viewers.openers.apart import OpenSlideApart
from viewers.openers.tiled import ReadAt, TileGrid, Tiles, decoder
from viewers.openers.vendor import OpenSlidePixels, companions
from viewers.sealed import SealedFile, is_there, read_whole, sealed_name
from viewers.slide import Slide
from viewers.slide_excerpt import EXCERPTS, ExcerptTiles
from viewers.slide_record import StoredSlide, slide_from_json, slide_to_json
from viewers.slide_writer import write_tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from viewers.openers.tiled import Segments

__all__ = ["is_stored_slide", "keep", "load"]

_RECORD: Final = "slide.json"
_REDRAWN: Final = frozenset({"aperio", "generic-tiff"})
"""Kinds whose original is never kept: where their tiles cannot be copied they are drawn anew."""
_RENAMING = threading.Lock()
_DAMAGED: Final = (ValueError, TypeError, KeyError, IndexError, OSError, EOFError, RecursionError)


def is_stored_slide(folder: Path | str) -> bool:
    """Whether a folder of the store holds a slide, and not another image."""
    return is_there(Path(folder) / _RECORD)


def keep(slide: Slide, parent: Path | str, progress: Callable[[float], None] | None = None) -> Path:
    """Store an opened slide; returns the folder, ``parent / digest``.

    The folder appears whole or not at all. One that is there already holds the same slide and stays.

    Parameters
    ----------
    progress : callable, optional
        Called with the part done, 0 to 1.

    Raises
    ------
    OpenError
        If tiles cannot be decoded that have to be.
    OSError
        If the disk refuses.
    """
    home = Path(parent)
    home.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".slide.", dir=home))
    try:
        tell = progress or (lambda _: None)
        original = isinstance(slide.source, OpenSlidePixels) and slide.vendor not in _REDRAWN
        stored = _keep_original(slide, made) if original else write_tiles(slide, made, tell)
        _write_record(made, stored)
        return _put(made, home / stored.digest)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write_record(folder: Path, stored: StoredSlide) -> None:
    with (folder / _RECORD).open("w", encoding="utf-8") as stream:
        json.dump(slide_to_json(stored), stream, sort_keys=True, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())


def _put(made: Path, target: Path) -> Path:
    with _RENAMING:
        if not target.exists():
            made.rename(target)
    return target


def _keep_original(slide: Slide, folder: Path) -> StoredSlide:
    """Copy the files OpenSlide needs under names that say nothing."""
    pixels = slide.source
    assert isinstance(pixels, OpenSlidePixels)  # noqa: S101 - for the type checker: the caller looked
    main = pixels.paths[0]
    name = f"slide{main.suffix.lower()}"
    home = folder / "original"
    home.mkdir()
    shutil.copyfile(main, home / name)
    # MRXS keeps its files in a folder of its own name, the others beside the main file.
    beside = home / "slide" if main.suffix.lower() == ".mrxs" else home
    beside.mkdir(exist_ok=True)
    for companion in companions(main):
        shutil.copyfile(companion, beside / companion.name)
    if slide.profile is not None:
        (folder / "profile.icc").write_bytes(slide.profile)
    facts = slide.describes
    facts = replace(facts, findings=(*facts.findings, finding("original_kept")))
    return StoredSlide(slide.digest, "", name, facts, ())


def load(folder: Path | str, *, verify: bool = False, key: bytes | None = None) -> Slide:
    """Load a stored slide; it has the digest it had, and draws the same pixels.

    Parameters
    ----------
    verify : bool
        Whether to compare the tiles with their SHA-256, which reads all of them.
    key : bytes, optional
        Of a store whose files are sealed (:mod:`viewers.sealed`); files for OpenSlide never are.

    Raises
    ------
    StoredImageError
        If a file is missing, changed or of another version.
    """
    home = Path(folder)
    try:
        stored = slide_from_json(json.loads(read_whole(home / _RECORD, key)))
        if stored.original is not None:
            return _load_original(home, stored, key)
        return _load_tiles(home, stored, key, verify=verify)
    except FileNotFoundError as error:
        raise StoredImageError(reason="missing file") from error
    except (ViewerError, *_DAMAGED) as error:
        raise StoredImageError(reason="damaged file") from error


def _load_tiles(home: Path, stored: StoredSlide, key: bytes | None, *, verify: bool) -> Slide:
    profile = _profile(home, key)
    colors = color_transform(profile)
    file: Segments
    if key is not None and sealed_name(home / "tiles.bin").is_file():
        index = np.frombuffer(read_whole(home / "index.bin", key), "<i8").reshape(-1, 2)
        file = SealedFile(sealed_name(home / "tiles.bin"), key)
    else:
        index = np.memmap(home / "index.bin", "<i8", "r").reshape(-1, 2)
        file = ReadAt(home / "tiles.bin")
    try:
        if verify:
            _check(file, stored.tiles_sha256)
        grids = _grids(stored, index, file)
    except BaseException:
        file.close()
        raise
    is_excerpt = any(found.key in EXCERPTS for found in stored.facts.findings)
    pixels = ExcerptTiles(grids, [file], stored.facts.levels) if is_excerpt else Tiles(grids, [file])
    return Slide(stored.facts, pixels, colors, stored.digest, profile=profile)


def _profile(home: Path, key: bytes | None) -> bytes | None:
    path = home / "profile.icc"
    return read_whole(path, key) if is_there(path) else None


def _grids(stored: StoredSlide, index: np.ndarray, file: Segments) -> list[TileGrid]:
    grids: list[TileGrid] = []
    first = 0
    for level, coding in zip(stored.facts.levels, stored.codings, strict=True):
        grid = TileGrid(
            level.size,
            level.tile,
            index[first:, 0],
            index[first:, 1],
            file,
            coding,
            decoder(coding, level.tile),
        )
        grids.append(grid)
        first += grid.columns * grid.rows
    if first != len(index):
        raise StoredImageError(reason=f"index.bin: {len(index)} tiles, expected {first}")
    return grids


def _check(file: Segments, sha256: str) -> None:
    made, at = hashlib.sha256(), 0
    while chunk := file.read_at(at, 2**22):
        made.update(chunk)
        at += len(chunk)
    if made.hexdigest() != sha256:
        raise StoredImageError(reason="tiles.bin: SHA-256")


def _load_original(home: Path, stored: StoredSlide, key: bytes | None) -> Slide:
    name = stored.original or ""
    path = home / "original" / name
    if Path(name).name != name or not path.is_file():
        raise StoredImageError(reason="original")
    profile = _profile(home, key)
    pixels = OpenSlideApart((path,))
    return Slide(stored.facts, pixels, color_transform(profile), stored.digest, profile=profile)
