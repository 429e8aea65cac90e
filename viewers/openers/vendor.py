"""Slides of scanners' own formats, by OpenSlide: NDPI, MRXS, SCN, VMS, BIF, Philips, Trestle and others.

OpenSlide follows the names a file gives of files beside it. Those names are looked at first: a slide that
names a file outside its own folder is not opened.
"""

from __future__ import annotations

import configparser
import hashlib
import math
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import (
    CorruptHeaderError,
    CorruptTileError,
    MissingCompanionError,
    OutsideReferenceError,
    TooLargeError,
)
from viewers.findings import finding
from viewers.geometry import SizePx
from viewers.openers.opened import opened_slide
from viewers.slide import MicronsPerPixel, SlideFacts, make_levels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from viewers.geometry import Region
    from viewers.limits import Limits
    from viewers.openers.source import Source
    from viewers.slide import Slide

__all__ = ["VENDORS", "OpenSlidePixels", "accepts", "companions", "open_source"]

VENDORS: Final = frozenset(
    {
        "aperio",
        "dicom",
        "generic-tiff",
        "hamamatsu",
        "leica",
        "mirax",
        "philips",
        "sakura",
        "trestle",
        "ventana",
        "zeiss",
    }
)
"""Kinds of slides OpenSlide 4 tells apart."""
_PLAIN: Final = frozenset({"aperio", "generic-tiff"})
"""Kinds whose pages are looked at before OpenSlide may show them."""
_TILE: Final = 256
_CHUNK: Final = 2**20
_INI_BYTES: Final = 2**22
_NAMES: Final = ("indexfile", "file_", "imagefile", "mapfile", "optimisationfile", "macroimage")
"""How keys begin whose values are names of files, in the settings files of MRXS and VMS."""


def accepts(source: Source) -> bool:
    """Whether OpenSlide knows the kind of the file."""
    return not source.is_dicom and source.vendor is not None


def open_source(source: Source, limits: Limits) -> Slide:
    """Open with OpenSlide.

    Raises
    ------
    OpenError
        With the reason; see the tree in :mod:`viewers.errors`.
    OSError
        If a file cannot be read.
    """
    main = source.paths[0]
    if source.vendor in _PLAIN:
        from viewers.openers.tiff import refuse_unshown

        refuse_unshown(main)
    pixels = OpenSlidePixels((main, *companions(main)))
    try:
        return _opened(pixels, limits)
    except BaseException:
        pixels.close()
        raise


def _opened(pixels: OpenSlidePixels, limits: Limits) -> Slide:
    from openslide import OpenSlideError

    try:
        handle = pixels.handle
        properties = handle.properties
        width, height = handle.dimensions
        if width * height > limits.slide_pixels:
            raise TooLargeError(quantity="pixels", found=width * height, limit=limits.slide_pixels)
        sizes = [(SizePx(*size), _tile_size(properties, n)) for n, size in enumerate(handle.level_dimensions)]
        named = sorted({"label", "macro"} & set(handle.associated_images.keys()))
        profile = pixels.profile()
    except (OpenSlideError, ValueError) as error:
        raise CorruptHeaderError(attribute="levels", found="unreadable", expected="> 0") from error
    sizes.sort(key=lambda pair: -pair[0].width)
    found = (finding("label_present"),) if named else ()
    vendor = properties.get("openslide.vendor", "")
    facts = SlideFacts(vendor if vendor in VENDORS else "", make_levels(sizes), _mpp(properties), found)
    return opened_slide(facts, pixels, profile)


def _tile_size(properties: Any, level: int) -> SizePx:
    """Tile size of a level where the format has one, else a usual one."""
    sides = [properties.get(f"openslide.level[{level}].tile-{side}", "") for side in ("width", "height")]
    if all(side.isdecimal() and 0 < int(side) <= 4096 for side in sides):
        return SizePx(int(sides[0]), int(sides[1]))
    return SizePx(_TILE, _TILE)


def _mpp(properties: Any) -> MicronsPerPixel | None:
    try:
        x, y = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
        return MicronsPerPixel(x, y, "openslide.mpp") if math.isfinite(x * y) else None
    except (KeyError, ValueError):
        return None


def companions(main: Path) -> list[Path]:
    """Files that belong to a slide's main file, each inside the slide's own folder.

    Raises
    ------
    OutsideReferenceError
        If one of them is named so that it would be elsewhere.
    MissingCompanionError
        If one is not there.
    """
    suffix = main.suffix.lower()
    if suffix == ".mrxs":
        folder = main.with_suffix("")
        settings = folder / "Slidedat.ini"
    elif suffix in {".vms", ".vmu"}:
        folder, settings = main.parent, main
    else:
        return []
    if not settings.is_file():
        raise MissingCompanionError(found=1, expected=2)
    names = _companion_names(settings)
    for name in names:
        if "/" in name or "\\" in name or name.startswith("..") or (folder / name).is_symlink():
            raise OutsideReferenceError(count=len(names))
    present = sum((folder / name).is_file() for name in names)
    if present < len(names):
        raise MissingCompanionError(found=present, expected=len(names))
    beside = [folder / name for name in dict.fromkeys(names)]
    return beside if settings == main else [settings, *beside]


def _companion_names(settings: Path) -> list[str]:
    with settings.open("rb") as stream:
        raw = stream.read(_INI_BYTES + 1)
    if len(raw) > _INI_BYTES:
        raise TooLargeError(quantity="bytes", found=f"> {_INI_BYTES}", limit=_INI_BYTES)
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string(raw.decode("utf-8-sig", errors="replace"))
    except configparser.Error as error:
        raise CorruptHeaderError(attribute="INI", found="line without =", expected="key = value") from error
    return [
        value.strip()
        for section in parser.sections()
        for key, value in parser.items(section)
        if key.startswith(_NAMES) and not key.endswith("count") and value and value.strip()
    ]


class OpenSlidePixels:
    """Pixels by OpenSlide; see :class:`viewers.slide.SlidePixels`.

    A handle that failed once fails for ever, so it is replaced: one damaged place does not end the slide.

    Parameters
    ----------
    paths : tuple of Path
        The slide's files; OpenSlide opens the first and finds the others.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self._lock = threading.Lock()
        self._closed = False
        self.handle: Any = self._open()
        self._ground = self._background()

    def _open(self) -> Any:
        import openslide

        try:
            return openslide.OpenSlide(self.paths[0])
        except openslide.OpenSlideError as error:
            raise CorruptHeaderError(attribute="slide", found="unreadable", expected="OpenSlide") from error

    def _background(self) -> NDArray[np.uint8]:
        text = self.handle.properties.get("openslide.background-color", "")
        try:
            return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(3)
        except ValueError:
            return np.full(3, 255, np.uint8)

    def profile(self) -> bytes | None:
        """Return the ICC profile as the file has it."""
        from openslide import lowlevel

        profile: bytes | None = lowlevel.read_icc_profile(self.handle._osr)  # noqa: SLF001 - only Pillow's wrapper is public
        return profile

    def read(self, level: int, region: Region) -> NDArray[np.uint8]:
        """Read RGB of a region in pixels of the level; see :class:`viewers.slide.SlidePixels`."""
        import openslide

        handle = self.handle
        down = handle.level_downsamples[level]
        place = (math.ceil(region.x * down - 1e-6), math.ceil(region.y * down - 1e-6))
        try:
            rgba = np.asarray(handle.read_region(place, level, (region.width, region.height)))
        except (openslide.OpenSlideError, ValueError) as error:
            self._replace(handle)
            raise CorruptTileError(
                level=level,
                column=region.x // _TILE,
                row=region.y // _TILE,
                reason="OpenSlide: unreadable",
            ) from error
        return self._laid(rgba)

    def _laid(self, rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
        alpha = rgba[..., 3]
        if alpha.min() == 255:
            return np.ascontiguousarray(rgba[..., :3])
        weight = alpha[..., None].astype(np.uint16)
        ground = self._ground.astype(np.uint16)
        return np.asarray((rgba[..., :3] * weight + ground * (255 - weight) + 127) // 255, np.uint8)

    def _replace(self, broken: Any) -> None:
        with self._lock:
            if self.handle is broken and not self._closed:
                self.handle = self._open()
                broken.close()

    def encoded_tile(self, _level: int, _column: int, _row: int) -> bytes | None:
        """OpenSlide gives no stored tiles."""
        return None

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of all files."""
        for path in self.paths:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    yield hashlib.sha256(chunk).digest()

    def close(self) -> None:
        """Close the slide."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.handle.close()
