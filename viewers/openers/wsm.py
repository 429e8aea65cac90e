"""DICOM whole slides: one series of VL Whole Slide Microscopy objects, over several files and folders.

Each file is a level, or a part of one (a concatenation); which is which is read from the headers, never
from names or places of files. Only objects of the kind VOLUME are levels: labels, overviews and thumbnails
are left alone. Of several focal planes and optical paths the first is shown.

References
----------
DICOM PS3.3 A.32.8 (the object), C.8.12.4 and C.8.12.14 (tiles and their order), C.7.6.17 (functional
groups); PS3.5 A.4 (encapsulated frames).
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.attributes import PARSER_FAILURES
from viewers.codestream import read_header
from viewers.errors import CorruptHeaderError, NoPixelDataError, TooLargeError, UnsupportedImageError
from viewers.findings import Finding, finding
from viewers.geometry import SizePx
from viewers.openers.frames import find_frames
from viewers.openers.opened import opened_slide
from viewers.openers.tiled import Coding, ReadAt, TileGrid, Tiles, as_rgb, decoder
from viewers.slide import MicronsPerPixel, SlideFacts, make_levels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

    from viewers.limits import Limits
    from viewers.openers.source import Source
    from viewers.openers.tiled import Decode
    from viewers.slide import Slide

__all__ = ["WSM", "accepts", "kind_of", "open_source", "slide_kind"]

WSM: Final = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of VL Whole Slide Microscopy images."""
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"})
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_NATIVE: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})
_JPEG: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
_JPEG_2000: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
_JPEG_LS: Final = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
_RLE: Final = "1.2.840.10008.1.2.5"
_COLORS: Final = frozenset(
    {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "MONOCHROME2"},
)
_LOOKED_AT: Final = 64
"""Files whose kind is looked at before a series is taken for something else than a slide."""


def accepts(source: Source) -> bool:
    """Whether one of the files is a VL Whole Slide Microscopy object."""
    return source.is_dicom and any(_sop_class(path) == WSM for path in source.paths[:_LOOKED_AT])


def _sop_class(path: Path) -> str:
    from pydicom.filereader import read_file_meta_info

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _text(read_file_meta_info(path).get("MediaStorageSOPClassUID"))
    except Exception:  # noqa: BLE001 - whatever a damaged file makes pydicom raise, it is no slide
        return ""


def kind_of(path: Path) -> str:
    """Return what the standard calls a file's kind of object; a question mark for kinds it does not know."""
    return _kind_name(_sop_class(path))


def slide_kind() -> str:
    """Return what the standard calls the kind of object that slides are."""
    return _kind_name(WSM)


def _kind_name(sop_class: str) -> str:
    from pydicom.uid import UID_dictionary

    return UID_dictionary[sop_class][0] if sop_class in UID_dictionary else "?"


def _text(value: object) -> str:
    """Return what a header says as text, empty where damage made it anything else.

    Nothing but a text is written out: nested sequences would take minutes.
    """
    return str(value) if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One file: a level, or some frames of one."""

    path: Path
    dataset: Dataset
    pixels_at: int
    """Where the element PixelData begins in the file."""

    @property
    def size(self) -> SizePx:
        return SizePx(int(self.dataset.TotalPixelMatrixColumns), int(self.dataset.TotalPixelMatrixRows))

    @property
    def tile(self) -> SizePx:
        return SizePx(int(self.dataset.Columns), int(self.dataset.Rows))

    @property
    def syntax(self) -> str:
        return _text(self.dataset.file_meta.TransferSyntaxUID)

    @property
    def frames(self) -> int:
        return int(self.dataset.get("NumberOfFrames", 1) or 1)

    @property
    def first_frame(self) -> int:
        """Frames of the level in the files before this one."""
        return int(self.dataset.get("ConcatenationFrameOffsetNumber", 0) or 0)


def open_source(source: Source, limits: Limits) -> Slide:
    """Open the slide of which the given files are parts; of several series the one of the largest level.

    Raises
    ------
    OpenError
        With the reason; see the tree in :mod:`viewers.errors`.
    OSError
        If a file cannot be read.
    """
    found: list[Finding] = []
    files: list[ReadAt] = []
    try:
        levels = _levels(_parts(source.paths, found), limits, found)
        grids = [_grid(parts, files, limits, found) for parts in levels]
        first = levels[0][0].dataset
        facts = SlideFacts(
            "dicom",
            make_levels([(grid.size, grid.tile) for grid in grids]),
            _mpp(first),
            tuple(dict.fromkeys(found)),
        )
        return opened_slide(facts, Tiles(grids, files), _profile(first))
    except PARSER_FAILURES as error:
        _close(files)
        raise _damaged(error) from error
    except BaseException:
        _close(files)
        raise


def _damaged(error: Exception) -> CorruptHeaderError:
    """Name the attribute that is missing, where that is the reason."""
    from pydicom.datadict import tag_for_keyword

    keyword = error.name if isinstance(error, AttributeError) and isinstance(error.name, str) else ""
    if tag_for_keyword(keyword) is not None:
        return CorruptHeaderError(attribute=keyword, found="missing", expected="VL WSM")
    return CorruptHeaderError(attribute="DICOM", found="unreadable attributes", expected="VL WSM")


def _close(files: list[ReadAt]) -> None:
    for file in files:
        file.close()


def _parts(paths: Sequence[Path], found: list[Finding]) -> list[_Part]:
    """Files that hold levels; labels and overviews are noted and left alone."""
    parts = [part for part in map(_read, paths) if part is not None]
    kinds = [_kind(part.dataset) for part in parts]
    if {"LABEL", "OVERVIEW"} & set(kinds):
        found.append(finding("label_present"))
    levels = [part for part, kind in zip(parts, kinds, strict=True) if kind == "VOLUME"]
    if not levels:
        raise NoPixelDataError(found="VL WSM")
    largest = max(levels, key=lambda part: part.size.width * part.size.height)
    series = largest.dataset.get("SeriesInstanceUID")
    return [part for part in levels if part.dataset.get("SeriesInstanceUID") == series]


def _read(path: Path) -> _Part | None:
    """Read a header up to its pixels; ``None`` when the file is no part of a slide."""
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    if _sop_class(path) != WSM:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        syntax = _text(read_file_meta_info(path).get("TransferSyntaxUID"))
        if syntax in _DEFLATED or syntax == _BIG_ENDIAN:
            raise UnsupportedImageError(found=syntax, expected="VL WSM: little endian, not deflated")
        with path.open("rb") as stream:
            dataset = dcmread(stream, stop_before_pixels=True)
            return _Part(path, dataset, stream.tell())


def _kind(dataset: Dataset) -> str:
    kinds = dataset.get("ImageType", [])
    return _text(kinds[2]) if len(kinds) > 2 else ""


def _levels(parts: list[_Part], limits: Limits, found: list[Finding]) -> list[list[_Part]]:
    """Parts by level, the largest first, each level's in their order."""
    by_size: dict[tuple[int, int], list[_Part]] = {}
    for part in parts:
        pixels = part.size.width * part.size.height
        if pixels > limits.slide_pixels:
            raise TooLargeError(quantity="pixels", found=pixels, limit=limits.slide_pixels)
        by_size.setdefault((part.size.width, part.size.height), []).append(part)
    levels = [by_size[size] for size in sorted(by_size, reverse=True)]
    for level in levels:
        level.sort(key=lambda part: part.first_frame)
    planes = [_one_plane(level) for level in levels]
    left_out = sum(map(len, levels)) - sum(map(len, planes))
    if left_out:
        found.append(finding("channels_left_out", count=left_out))
    return planes


def _one_plane(level: list[_Part]) -> list[_Part]:
    """Drop further objects of the same level, such as other focal planes, that are no concatenation of it."""
    first = level[0].dataset.get("ConcatenationUID")
    if first is None:
        return level[:1]
    return [part for part in level if part.dataset.get("ConcatenationUID") == first]


class _Joined:
    """Several files as one range of places; see :class:`viewers.openers.tiled.Segments`."""

    def __init__(self, files: list[ReadAt]) -> None:
        self._files = files
        self.starts = [0]
        for file in files:
            self.starts.append(self.starts[-1] + file.size)

    def read_at(self, offset: int, length: int) -> bytes:
        """Read from the file the place is in."""
        number = min(bisect_right(self.starts, offset), len(self._files)) - 1
        return self._files[number].read_at(offset - self.starts[number], length)


def _grid(parts: list[_Part], files: list[ReadAt], limits: Limits, found: list[Finding]) -> TileGrid:
    first = parts[0]
    size, tile = first.size, first.tile
    if tile.width * tile.height > limits.tile_pixels:
        raise TooLargeError(
            quantity="pixels of a tile", found=tile.width * tile.height, limit=limits.tile_pixels
        )
    columns, rows = -(-size.width // tile.width), -(-size.height // tile.height)
    if columns * rows > limits.slide_tiles or sum(part.frames for part in parts) > limits.slide_tiles:
        raise TooLargeError(quantity="tiles", found=columns * rows, limit=limits.slide_tiles)
    opened = [ReadAt(part.path) for part in parts]
    files += opened
    joined = _Joined(opened)
    offsets, lengths = _placed(parts, opened, joined.starts, (columns, rows), limits=limits, found=found)
    coding = _coding(first)
    decode = _other(first) if coding.name == "other" else decoder(coding, tile)
    return TileGrid(size, tile, offsets, lengths, joined, coding, decode)


def _placed(
    parts: list[_Part],
    files: list[ReadAt],
    starts: list[int],
    shape: tuple[int, int],
    *,
    limits: Limits,
    found: list[Finding],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the bytes of the tile at each place are; length 0 where there is none."""
    columns, rows = shape
    offsets, lengths = (np.zeros(columns * rows, np.int64) for _ in range(2))
    away = np.full(columns * rows, np.inf)
    left_out = 0
    shown = _shown(parts)
    for part, file, start in zip(parts, files, starts, strict=False):
        at, long = find_frames(part.dataset, part.pixels_at, file)
        places = _places(part, columns, shown)
        for (place, distance), offset, length in zip(places, at, long, strict=False):
            if not 0 <= place < columns * rows:
                left_out += 1
                continue
            left_out += int(away[place] < np.inf)
            if distance < away[place]:
                away[place] = distance
                offsets[place], lengths[place] = start + offset, length
    if (lengths > 8 * limits.tile_pixels).any():
        raise TooLargeError(
            quantity="bytes of a tile", found=int(lengths.max()), limit=8 * limits.tile_pixels
        )
    filled = away < np.inf
    sparse = any("PerFrameFunctionalGroupsSequence" in part.dataset for part in parts)
    if not filled.all() and not sparse:
        raise CorruptHeaderError(attribute="NumberOfFrames", found=int(filled.sum()), expected=columns * rows)
    if left_out:
        found.append(finding("channels_left_out", count=left_out // max(1, columns * rows) or 1))
    return offsets, lengths


@dataclass(frozen=True, slots=True)
class _Shown:
    """Which of several frames at one place is shown."""

    path: str | None
    """Identifier of the optical path; it is compared and never given out."""
    depth: float
    """Offset of the focal plane along z."""


def _shown(parts: list[_Part]) -> _Shown:
    """Choose the first optical path the level lists, else its first frame's, and that one's focal plane."""
    groups = [
        group for part in parts for group in part.dataset.get("PerFrameFunctionalGroupsSequence", None) or ()
    ]
    used = [_path(group) for group in groups]
    listed = [_identifier(item) for item in parts[0].dataset.get("OpticalPathSequence", None) or ()]
    path = next((item for item in listed if item is not None and item in used), used[0] if used else None)
    return _Shown(path, next((_depth(group) for group in groups if _path(group) == path), 0.0))


def _identifier(item: Dataset) -> str | None:
    value = item.get("OpticalPathIdentifier")
    return value if isinstance(value, str) else None


def _path(group: Dataset) -> str | None:
    first: Dataset | None = next(iter(group.get("OpticalPathIdentificationSequence") or []), None)
    return None if first is None else _identifier(first)


def _depth(group: Dataset) -> float:
    first: Dataset | None = next(iter(group.get("PlanePositionSlideSequence") or []), None)
    return 0.0 if first is None else float(first.get("ZOffsetInSlideCoordinateSystem") or 0.0)


def _places(part: _Part, columns: int, shown: _Shown) -> list[tuple[int, float]]:
    """Place of each frame, row by row, and how far its focal plane is from the one shown.

    The place is what the frame's own position says, else its number; -1 for what is not shown. A focal plane
    may follow the tissue, so of one place the nearest plane counts, not only the very same.
    """
    groups = part.dataset.get("PerFrameFunctionalGroupsSequence")
    tiled_full = part.dataset.get("DimensionOrganizationType") == "TILED_FULL"
    if tiled_full or groups is None or not len(groups) or "PlanePositionSlideSequence" not in groups[0]:
        return [(part.first_frame + number, 0.0) for number in range(part.frames)]
    places = []
    for group in groups:
        position = group.PlanePositionSlideSequence[0]
        x = int(position.ColumnPositionInTotalImagePixelMatrix) - 1
        y = int(position.RowPositionInTotalImagePixelMatrix) - 1
        if x % part.tile.width or y % part.tile.height:
            raise UnsupportedImageError(found="tiles off the grid", expected="tiles in rows and columns")
        inside = x // part.tile.width < columns and _path(group) in {shown.path, None}
        place = y // part.tile.height * columns + x // part.tile.width if inside else -1
        places.append((place, abs(_depth(group) - shown.depth)))
    return places


def _coding(part: _Part) -> Coding:
    dataset = part.dataset
    color = _text(dataset.PhotometricInterpretation)
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    if color not in _COLORS or samples not in {1, 3} or bits not in {8, 16}:
        found = f"{color if color in _COLORS else '?'}/{samples}/{bits}"
        raise UnsupportedImageError(found=found, expected="RGB, YBR, MONOCHROME2; 8 or 16 bit")
    if part.syntax in _JPEG and bits == 8:
        return Coding("jpeg", color.startswith("YBR"))
    if part.syntax in _JPEG_2000 and bits == 8:
        return Coding("jpeg2000", color.startswith("YBR_FULL"))
    known = _JPEG_2000 | _JPEG_LS | _NATIVE | {_RLE}
    if part.syntax not in known or color.startswith("YBR"):
        raise UnsupportedImageError(found=part.syntax[:32], expected="native, JPEG, JPEG 2000, JPEG-LS, RLE")
    return Coding("other")


def _other(part: _Part) -> Decode:
    """Native, RLE, JPEG-LS, and JPEG 2000 of 16 bits."""
    import imagecodecs

    tile, dataset, syntax = part.tile, part.dataset, part.syntax
    samples, dtype = int(dataset.SamplesPerPixel), "<u1" if int(dataset.BitsAllocated) == 8 else "<u2"
    shape = (tile.height, tile.width, samples)
    planar = int(dataset.get("PlanarConfiguration", 0) or 0) == 1
    bits = min(max(int(dataset.get("BitsStored", 0) or 16), 8), 16)

    def decode(stored: bytes, _index: int) -> NDArray[np.uint8]:
        raw = bytes(stored)
        if syntax in _JPEG_2000 | _JPEG_LS:
            header = read_header(raw)
            if header is None or header.columns > tile.width or header.rows > tile.height:
                raise ValueError("not of the tile's size")
            codec = imagecodecs.jpeg2k_decode if syntax in _JPEG_2000 else imagecodecs.jpegls_decode
            return as_rgb(codec(raw), bits)
        count = tile.width * tile.height * samples * np.dtype(dtype).itemsize
        if syntax == _RLE:
            raw = bytes(imagecodecs.dicomrle_decode(raw, dtype=dtype)[:count])
        pixels = np.frombuffer(raw, dtype, count // np.dtype(dtype).itemsize)
        if planar or syntax == _RLE:
            return as_rgb(pixels.reshape(samples, tile.height, tile.width).transpose(1, 2, 0), bits)
        return as_rgb(pixels.reshape(shape), bits)

    return decode


def _mpp(dataset: Dataset) -> MicronsPerPixel | None:
    try:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        row, column = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
        return MicronsPerPixel(column * 1000, row * 1000, "DICOM PixelSpacing")
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


def _profile(dataset: Dataset) -> bytes | None:
    try:
        return bytes(dataset.OpticalPathSequence[0].ICCProfile)
    except (AttributeError, IndexError, TypeError):
        return None
