"""TIFF slides read tile by tile: Aperio SVS, OME-TIFF, and plain pyramids of tiled pages.

Pages and their SubIFDs are walked as they stand in this one file; what an OME header says of other files
is not followed. Levels are tiled pages that have the shape of the first; labels, macro images and
thumbnails are not, and are never decoded.

References
----------
TIFF 6.0 sections 2, 15, 22; TIFF Supplement 1 (SubIFDs); OME-TIFF specification 6.0.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import CorruptHeaderError, TooLargeError, TruncatedFileError, UnsupportedImageError
from viewers.findings import Finding, finding
from viewers.geometry import SizePx
from viewers.openers.jpeg import read_tile
from viewers.openers.opened import opened_slide
from viewers.openers.tiled import Coding, ReadAt, TileGrid, Tiles, as_rgb, decoder
from viewers.slide import MicronsPerPixel, SlideFacts, make_levels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viewers.limits import Limits
    from viewers.openers.source import Source
    from viewers.slide import Slide

__all__ = ["accepts", "open_source", "refuse_unshown"]

_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OURS: Final = frozenset({None, "aperio", "generic-tiff"})
"""What OpenSlide calls files this module reads; it leaves the others, whose tiles need joining, to it."""
_JPEG: Final = 7
_JPEG_2000: Final = {33003: True, 33005: False, 34712: False}
"""Compression -> whether the samples are YCbCr that nothing else says of."""
_GREY_FROM_WHITE, _GREY, _RGB, _YCBCR = 0, 1, 2, 6
_PLANES_APART: Final = 2
_ASSOCIATED: Final = 1
"""Of ExtraSamples: alpha that the colours were multiplied by."""
_PAGES: Final = 4096
"""Pages that are looked at: a pyramid has about ten, a stack of channels some dozens."""
_CENTIMETRE: Final = 3
_MICRONS_IN: Final = {2: 25_400.0, _CENTIMETRE: 10_000.0}
_UNSIGNED: Final = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""Types of a TIFF's whole numbers (TIFF 6.0 section 2; BigTIFF)."""
_LONG_TABLE: Final = 2000
_PLAUSIBLE: Final = (0.02, 20.0)
"""Microns per pixel that a microscope has; resolutions for printing are far above."""
_APERIO_MPP: Final = re.compile(r"\|\s*MPP\s*=\s*([0-9]+(?:[.,][0-9]+)?)")
_OME_PIXELS: Final = re.compile(r"<(?:\w+:)?Pixels\b[^>]{0,4000}>")
_OME_SIZE: Final = re.compile(r"\bPhysicalSize([XY])=\"([0-9.eE+-]{1,30})\"")
_OME_UNIT: Final = re.compile(r"\bPhysicalSize([XY])Unit=\"([^\"]{1,20})\"")
_OME_BITS: Final = re.compile(r"\bSignificantBits=\"([0-9]{1,2})\"")
_LOOKED_AT: Final = 64
"""Tiles that are decoded to learn how many bits the values use."""
_OME_UNITS: Final = {"µm": 1.0, "μm": 1.0, "&#181;m": 1.0, "nm": 0.001, "mm": 1000.0, "cm": 10_000.0}
_FAILURES: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    EOFError,
    OSError,
    MemoryError,
    struct.error,
)
"""What tifffile raises on damaged files."""


def accepts(source: Source) -> bool:
    """Whether the source is one TIFF file of a kind this module reads.

    The preamble of a DICOM file may begin as a TIFF does (PS3.10 7.1); the DICOM object is meant then.
    """
    one = len(source.paths) == 1 and not source.is_dicom
    return one and source.head.startswith(_STARTS) and source.vendor in _OURS


def open_source(source: Source, limits: Limits) -> Slide:
    """Open a TIFF file.

    Raises
    ------
    OpenError
        With the reason; see the tree in :mod:`viewers.errors`.
    OSError
        If the file cannot be read.
    """
    from tifffile import TiffFile

    # Its messages repeat what tags hold.
    logging.getLogger("tifffile").disabled = True
    path = source.paths[0]
    file = ReadAt(path)
    try:
        with TiffFile(path, _multifile=False) as tiff:
            return _opened(tiff, file, source.vendor, limits)
    except _FAILURES as error:
        file.close()
        raise CorruptHeaderError(
            attribute="TIFF", found="unreadable pages or tags", expected="TIFF 6.0"
        ) from error
    except BaseException:
        file.close()
        raise


def refuse_unshown(path: Path) -> None:
    """Refuse a TIFF whose tiles OpenSlide would join wrongly without a word: turned, or of other numbers.

    OpenSlide turns each tile by the orientation and leaves it in its place.

    Raises
    ------
    UnsupportedImageError
    """
    from tifffile import TiffFile

    logging.getLogger("tifffile").disabled = True
    try:
        with TiffFile(path, _multifile=False) as tiff:
            _refuse_turned(tiff.pages[0])
            _refuse_numbers(tiff.pages[0])
    except _FAILURES:
        return  # OpenSlide says itself what it cannot read


def _opened(tiff: Any, file: ReadAt, vendor: str | None, limits: Limits) -> Slide:
    first = tiff.pages[0]
    _check_size(first, limits)
    _refuse_flat(first, limits)
    pages = _pages(tiff)
    found: list[Finding] = []
    if any(page.is_tiled is False for page in pages[1:]) and vendor == "aperio":
        found.append(finding("label_present"))
    chosen = _level_pages(pages, found)
    grids = [_grid(page, file, limits) for page in chosen]
    _set_depth(first, grids, found)
    mpp = _mpp(first, vendor)
    kind = vendor if vendor == "aperio" else "ome" if first.is_ome else "tiff"
    levels = make_levels([(grid.size, grid.tile) for grid in grids])
    facts = SlideFacts(kind, levels, mpp, tuple(found))
    profile = first.tags.get(34675)
    return opened_slide(facts, Tiles(grids, [file]), None if profile is None else bytes(profile.value))


def _pages(tiff: Any) -> list[Any]:
    """First page, its SubIFDs, and the pages after it."""
    found = [tiff.pages[0]]
    if found[0].subifds:
        found += list(found[0].pages)[:_PAGES]
    for number in range(1, len(tiff.pages)):
        if number >= _PAGES:
            raise TooLargeError(quantity="pages", found=f"> {_PAGES}", limit=_PAGES)
        # tifffile reads later pages like the first, tags and all, when asked one by one
        found.append(tiff.pages[number])
    return [page if hasattr(page, "tags") else page.aspage() for page in found]


def _level_pages(pages: list[Any], found: list[Finding]) -> list[Any]:
    """Pages that show the whole of the first with less detail, by falling size."""
    first, chosen = pages[0], [pages[0]]
    channels = sum(
        (page.imagewidth, page.imagelength) == (first.imagewidth, first.imagelength) for page in pages[1:]
    )
    if channels:
        found.append(finding("channels_left_out", count=channels))
    for page in sorted(pages[1:], key=lambda page: -page.imagewidth):
        smaller = page.imagewidth < chosen[-1].imagewidth and page.imagelength <= chosen[-1].imagelength
        if smaller and _alike(page, first):
            chosen.append(page)
    return chosen


def _alike(page: Any, first: Any) -> bool:
    """Whether a page has the first's kind and, within its own rounding to whole pixels, its shape."""
    if (page.is_tiled, page.samplesperpixel) != (first.is_tiled, first.samplesperpixel) or not page.is_tiled:
        return False
    across = first.imagewidth / page.imagewidth
    allowed = max(1.0, 0.005 * page.imagelength)
    return bool(abs(first.imagelength / across - page.imagelength) <= allowed)


def _check_size(page: Any, limits: Limits) -> None:
    pixels = page.imagewidth * page.imagelength
    if min(page.imagewidth, page.imagelength) < 1:
        raise CorruptHeaderError(
            attribute="ImageWidth", found=f"{page.imagewidth} x {page.imagelength}", expected=">= 1"
        )
    if pixels > limits.slide_pixels:
        raise TooLargeError(quantity="pixels", found=pixels, limit=limits.slide_pixels)


def _refuse_flat(page: Any, limits: Limits) -> None:
    """Leave pictures in strips, and turned ones, to the opener of flat pictures while it can hold them."""
    _refuse_turned(page)
    if not page.is_tiled and page.imagewidth * page.imagelength <= limits.pixels_per_frame:
        raise UnsupportedImageError(found="strips", expected="tiles")


def _refuse_turned(page: Any) -> None:
    turned = page.tags.get(274)
    if turned is not None and turned.value != 1:
        raise UnsupportedImageError(found=f"orientation {int(turned.value)}", expected="orientation 1")


def _refuse_numbers(page: Any) -> None:
    """Refuse samples that are no unsigned whole numbers: which of them is black, nothing says."""
    kind = {2: "int", 3: "float", 5: "complex int", 6: "complex"}.get(int(page.sampleformat or 1))
    if kind is not None:
        raise UnsupportedImageError(found=f"{kind} {page.bitspersample} bit", expected="8 or 16 bit unsigned")


def _grid(page: Any, file: ReadAt, limits: Limits) -> TileGrid:
    size = SizePx(page.imagewidth, page.imagelength)
    tile = _tile_size(page, size, limits)
    planes = page.samplesperpixel if page.planarconfig == _PLANES_APART else 1
    count = -(-size.width // tile.width) * -(-size.height // tile.height)
    if count > limits.slide_tiles:
        raise TooLargeError(quantity="tiles", found=count, limit=limits.slide_tiles)
    offsets = _table(page, 324, page.dataoffsets, file)
    lengths = _table(page, 325, page.databytecounts, file)
    if len(offsets) < count * planes or len(lengths) < count * planes:
        raise CorruptHeaderError(attribute="TileOffsets", found=len(offsets), expected=count * planes)
    _check_places(offsets, lengths, file.size, limits)
    coding = _coding(page, planes)
    apart = _Planes(planes, count, offsets, lengths, file)
    decode = _General(page, apart) if coding.name == "other" else decoder(coding, tile)
    return TileGrid(size, tile, offsets[:count], lengths[:count], file, coding, decode)


def _table(page: Any, code: int, values: Any, file: ReadAt) -> NDArray[np.int64]:
    """Places or lengths of tiles; a long table is read from the file, which is faster than from a tuple."""
    tag = page.tags.get(code)
    kind = None if tag is None else _UNSIGNED.get(int(tag.dtype))
    if kind is None or len(values) < _LONG_TABLE or tag.count != len(values):
        return np.asarray(values, np.int64)
    size = np.dtype(kind).itemsize * tag.count
    raw = file.read_at(int(tag.valueoffset), size)
    return np.frombuffer(raw, f"{page.parent.byteorder}{kind}").astype(np.int64)


def _tile_size(page: Any, size: SizePx, limits: Limits) -> SizePx:
    if page.is_tiled:
        width, height = page.tilewidth, page.tilelength
    else:
        width, height = size.width, min(page.rowsperstrip, size.height)
    if width < 1 or height < 1:
        raise CorruptHeaderError(attribute="TileWidth", found=f"{width} x {height}", expected=">= 1")
    if width * height > limits.tile_pixels:
        raise TooLargeError(quantity="pixels of a tile", found=width * height, limit=limits.tile_pixels)
    return SizePx(width, height)


def _check_places(offsets: NDArray[np.int64], lengths: NDArray[np.int64], size: int, limits: Limits) -> None:
    """Tiles are inside the file and none is longer than a tile can be."""
    ends = offsets + lengths
    if (offsets < 0).any() or (lengths < 0).any() or (lengths > 8 * limits.tile_pixels).any():
        raise CorruptHeaderError(attribute="TileByteCounts", found=int(lengths.max()), expected=">= 0")
    if len(ends) and int(ends.max()) > size:
        raise TruncatedFileError(part="tiles", found=size, expected=int(ends.max()))


def _coding(page: Any, planes: int) -> Coding:
    """How the tiles are compressed, after a look at whether they can be drawn at all."""
    photometric, compression = int(page.photometric), int(page.compression)
    bits = page.bitspersample
    described = f"{photometric}/{compression}/{bits}"
    _refuse_numbers(page)
    if photometric not in {_GREY_FROM_WHITE, _GREY, _RGB, _YCBCR} or bits not in {1, 8, 16}:
        raise UnsupportedImageError(found=described, expected="grey, RGB, YCbCr; 8 or 16 bit")
    if compression == _JPEG and planes == 1 and bits == 8 and photometric != _GREY_FROM_WHITE:
        tables = read_tile(page.jpegtables or b"")
        return Coding("jpeg", photometric == _YCBCR, b"" if tables is None else tables.tables)
    if compression in _JPEG_2000 and planes == 1 and bits == 8:
        return Coding("jpeg2000", _JPEG_2000[compression])
    if photometric == _YCBCR:
        raise UnsupportedImageError(found=described, expected="YCbCr as JPEG or JPEG 2000")
    return Coding("other")


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """Where the other colour planes of a tile are, when each is stored by itself."""

    planes: int
    count: int
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    file: ReadAt

    def read(self, index: int, plane: int) -> bytes:
        place = plane * self.count + index
        return self.file.read_at(int(self.offsets[place]), int(self.lengths[place]))


class _General:
    """Everything else tifffile and imagecodecs can read: LZW, Deflate, Zstandard, WebP, PackBits, none."""

    def __init__(self, page: Any, planes: _Planes) -> None:
        self._decode, self._tables, self._planes = page.decode, page.jpegtables, planes
        if getattr(self._decode, "__name__", "").startswith("decode_raise"):
            raise UnsupportedImageError(
                found=f"compression {int(page.compression)}", expected="LZW, Deflate, JPEG"
            )
        self._samples, self._inverted = page.samplesperpixel, int(page.photometric) == _GREY_FROM_WHITE
        extra = tuple(page.extrasamples or ())
        self._associated = bool(extra) and int(extra[0]) == _ASSOCIATED
        self.bits = 16
        """How many of 16 bits the values use."""

    def _one(self, raw: bytes, place: int) -> NDArray[Any]:
        decoded = self._decode(raw, place, jpegtables=self._tables)[0]
        if decoded is None:
            raise ValueError("no pixels")
        plane: NDArray[Any] = np.asarray(decoded)[0]  # of (depth, rows, columns, samples)
        return plane

    def samples(self, raw: bytes, index: int) -> NDArray[Any]:
        """Decode a tile to the numbers it holds, shape (rows, columns, samples)."""
        pixels, planes = self._one(raw, index), self._planes
        if planes.planes > 1:
            rest = [
                self._one(planes.read(index, plane), plane * planes.count + index)
                for plane in range(1, planes.planes)
            ]
            pixels = np.concatenate([pixels, *rest], axis=2)
        # Grey with alpha: alpha goes.
        return pixels[..., :1] if self._samples == 2 else pixels[..., :4]

    def __call__(self, raw: bytes, index: int) -> NDArray[np.uint8]:
        rgb = as_rgb(self.samples(raw, index), self.bits, associated=self._associated)
        return np.asarray(255 - rgb, np.uint8) if self._inverted else rgb


def _set_depth(first: Any, grids: list[TileGrid], found: list[Finding]) -> None:
    """Tell how many of 16 bits the values use: as the file says, else by the brightest of the least level.

    Cameras of microscopes give 12 bits in words of 16: by the upper 8 of 16 they would be black.
    """
    general = [grid.decode for grid in grids if isinstance(grid.decode, _General)]
    if first.bitspersample != 16 or not general:
        return
    pixels = _OME_PIXELS.search(str(first.description or "")) if first.is_ome else None
    stated = None if pixels is None else _OME_BITS.search(pixels[0])
    bits = int(stated[1]) if stated is not None else 0
    if not 8 <= bits <= 16:
        bits = _used_bits(grids[-1])
        if bits < 16:
            found.append(finding("depth_assumed", bits=bits))
    for decode in general:
        decode.bits = bits


def _used_bits(grid: TileGrid) -> int:
    """Bits of the largest colour in some dozens of tiles; 16 where nothing is to be seen."""
    if not isinstance(grid.decode, _General):
        return 16
    count, largest = len(grid.offsets), 0
    for index in range(0, count, -(-count // _LOOKED_AT)):
        raw = grid.stored(index)
        with suppress(Exception):  # a damaged tile says so when it is shown; codecs raise their own classes
            largest = max(largest, int(grid.decode.samples(raw, index)[..., :3].max()) if raw else 0)
    return max(8, largest.bit_length()) if largest else 16


def _mpp(page: Any, vendor: str | None) -> MicronsPerPixel | None:
    description = str(page.description or "")
    made = None
    if vendor == "aperio":
        match = _APERIO_MPP.search(description)
        made = None if match is None else _of(match[1], match[1], 1.0, 1.0, "aperio.MPP")
    elif page.is_ome:
        made = _ome_mpp(description)
    return made or _resolution(page)


def _ome_mpp(description: str) -> MicronsPerPixel | None:
    """Read the first image's PhysicalSize; by pattern, since an XML parser follows what XML may ask for."""
    pixels = _OME_PIXELS.search(description)
    if pixels is None:
        return None
    sizes = dict(_OME_SIZE.findall(pixels[0]))
    units = dict(_OME_UNIT.findall(pixels[0]))
    if sizes.keys() != {"X", "Y"}:
        return None
    factors = [_OME_UNITS.get(units.get(axis, "µm"), math.nan) for axis in "XY"]
    return _of(sizes["X"], sizes["Y"], factors[0], factors[1], "OME PhysicalSize")


def _resolution(page: Any) -> MicronsPerPixel | None:
    unit = page.tags.get(296)
    microns = _MICRONS_IN.get(int(unit.value)) if unit is not None else None
    across, down = page.tags.get(282), page.tags.get(283)
    if microns is None or across is None or down is None:
        return None
    per_unit = [_ratio(tag.value) for tag in (across, down)]
    if not all(value > 0 for value in per_unit):
        return None
    return _of(microns / per_unit[0], microns / per_unit[1], 1.0, 1.0, "TIFF XResolution")


def _ratio(value: Any) -> float:
    top, bottom = value if isinstance(value, tuple) else (value, 1)
    return float(top) / float(bottom) if bottom else 0.0


def _of(across: Any, down: Any, factor_x: float, factor_y: float, source: str) -> MicronsPerPixel | None:
    try:
        x, y = (float(str(value).replace(",", ".")) for value in (across, down))
    except ValueError:
        return None
    x, y = x * factor_x, y * factor_y
    low, high = _PLAUSIBLE
    return MicronsPerPixel(x, y, source) if low <= x <= high and low <= y <= high else None
