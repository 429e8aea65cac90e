"""A whole slide: pixels at several levels of detail behind one coordinate frame, whatever the scanner.

The frame: x counts columns from the left edge and y rows from the top edge of **level 0**, the level of
most detail, both from 0, in whole pixels. A place is always given in it; a size read is given in pixels of
the level that is read. Openers turn what their formats mean by a place into this frame.

The level rule: pixel (i, j) of a level with downsample d shows level 0 from (i d, j d) to ((i + 1) d,
(j + 1) d). The downsample is the whole number n if the level's size is level 0's divided by n, rounded
down or up; else the mean of the two ratios. A place that falls inside a pixel of a level reads from that
pixel on, so never more than one pixel of that level away.

A :class:`Slide` is an allow-list: sizes, microns per pixel, the kind of scanner and findings. No text of a
header, no label and no macro image is read into it.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from viewers.errors import LevelOutOfRangeError, RegionOutOfBoundsError
from viewers.geometry import Region, SizePx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from viewers.color_profile import ColorTransform
    from viewers.findings import Finding

__all__ = ["Level", "MicronsPerPixel", "Slide", "SlideFacts", "SlidePixels", "downsample_of", "make_levels"]

_ONE_POWER: Final = 10.0
"""Microns per pixel times magnification: a scan called 40x has 0.25 microns per pixel, 20x has 0.5."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of detail."""

    size: SizePx
    downsample: float
    """Pixels of level 0 along one of its pixels: 1 at level 0."""
    tile: SizePx
    """What the file stores as one piece: reads along its borders are the cheapest."""


@dataclass(frozen=True, slots=True)
class MicronsPerPixel:
    """Size of a level-0 pixel in the specimen.

    Raises
    ------
    ValueError
        If a size is not above 0 and finite.
    """

    x: float
    y: float
    source: str
    """What the file says it in: the name of a tag or property."""

    def __post_init__(self) -> None:
        if not (0 < self.x < math.inf and 0 < self.y < math.inf):
            raise ValueError(f"microns per pixel are above 0, found {self.x} x {self.y}")

    @property
    def magnification(self) -> float:
        """Power of the objective that scans at this resolution by convention: 10 / microns per pixel."""
        return _ONE_POWER / math.sqrt(self.x * self.y)


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """Everything about a slide but its pixels; the same before and after it is stored."""

    vendor: str
    """Kind of scanner or file, from a fixed list."""
    levels: tuple[Level, ...]
    """By growing downsample, the first is 1."""
    mpp: MicronsPerPixel | None
    findings: tuple[Finding, ...] = ()


class SlidePixels(Protocol):
    """Where a slide's pixels come from; all but :meth:`close` may be called from several threads at once."""

    def read(self, level: int, region: Region) -> NDArray[np.uint8]:
        """Read RGB, shape (rows, columns, 3), of a region in pixels of the level, inside it.

        Raises
        ------
        OpenError
            If the pixels cannot be decoded.
        """
        ...

    def encoded_tile(self, level: int, column: int, row: int) -> bytes | None:
        """Return one stored tile as a JPEG that stands alone, or ``None`` when it is none."""
        ...

    def content(self) -> Iterator[bytes]:
        """Yield what identifies the pixels, for the digest."""
        ...

    def close(self) -> None:
        """Let go of the files; reading afterwards is a mistake."""
        ...


class Slide:
    """An opened slide. Safe to share between threads.

    Parameters
    ----------
    facts : SlideFacts
    pixels : SlidePixels
    colors : ColorTransform, optional
        To sRGB, when the file's colours are not.
    digest : str, optional
        If it is known already; else it is made of the content when it is first asked for.
    profile : bytes, optional
        The ICC profile ``colors`` was made from, so that a copy can be kept with it.
    """

    kind: Final = "slide"

    def __init__(
        self,
        facts: SlideFacts,
        pixels: SlidePixels,
        colors: ColorTransform | None = None,
        digest: str | None = None,
        *,
        profile: bytes | None = None,
    ) -> None:
        self._facts, self._pixels, self._colors = facts, pixels, colors
        self.profile = profile
        self._digest = digest
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Slide {self.vendor} {self.size.width}x{self.size.height} {len(self.levels)} levels>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def describes(self) -> SlideFacts:
        """All facts as one frozen value."""
        return self._facts

    @property
    def source(self) -> SlidePixels:
        """Where the pixels come from, before colours are turned into sRGB."""
        return self._pixels

    @property
    def colors(self) -> ColorTransform | None:
        """What turns the source's colours into sRGB; ``None`` when they are."""
        return self._colors

    @property
    def vendor(self) -> str:
        """Kind of scanner or file."""
        return self._facts.vendor

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels of detail by growing downsample."""
        return self._facts.levels

    @property
    def size(self) -> SizePx:
        """Size of level 0, in pixels."""
        return self._facts.levels[0].size

    @property
    def mpp(self) -> MicronsPerPixel | None:
        """Microns per pixel of level 0, or ``None`` when lengths can only be given in pixels."""
        return self._facts.mpp

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the reader should know about this slide."""
        return self._facts.findings

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, of the sizes and all stored pixels; reads the whole slide the first time."""
        with self._lock:
            if self._digest is None:
                self._digest = content_digest(self._facts, self._pixels)
            return self._digest

    def level_for(self, downsample: float) -> int:
        """Return the level of least detail that still has at least the detail of ``downsample``."""
        fitting = [number for number, level in enumerate(self.levels) if level.downsample <= downsample]
        return fitting[-1] if fitting else 0

    def read_region(self, origin: tuple[int, int], level: int, size: SizePx) -> NDArray[np.uint8]:
        """Read a rectangle of one level.

        Parameters
        ----------
        origin : tuple of int
            x and y of its upper left corner, in pixels of level 0.
        level : int
            From 0.
        size : SizePx
            In pixels of that level.

        Returns
        -------
        ndarray of uint8, shape (rows, columns, 3)
            sRGB, 0-255, C-contiguous. What the scanner left out is white.

        Raises
        ------
        LevelOutOfRangeError, RegionOutOfBoundsError
            If there is no such level, or a part of the rectangle is outside it.
        OpenError
            If the pixels cannot be decoded.
        """
        if not 0 <= level < len(self.levels):
            raise LevelOutOfRangeError(found=level, count=len(self.levels))
        chosen = self.levels[level]
        x, y = (int(place // chosen.downsample) for place in origin)
        region = Region(x, y, size.width, size.height)
        if not region.inside(chosen.size):
            found = f"{origin[0]}, {origin[1]}, {size.width} x {size.height} / {level}"
            expected = f"{chosen.size.width} x {chosen.size.height}"
            raise RegionOutOfBoundsError(found=found, expected=expected)
        return self.read_level(level, region)

    def read_level(self, level: int, region: Region) -> NDArray[np.uint8]:
        """Read a region in pixels of a level that is known to be inside it, as sRGB."""
        rgb = self._pixels.read(level, region)
        if self._colors is not None:
            rgb = self._colors.apply(rgb)
        return np.ascontiguousarray(rgb)

    def encoded_tile(self, level: int, column: int, row: int) -> bytes | None:
        """Return one stored tile as it is, a JPEG in sRGB, or ``None`` when it must be decoded first."""
        return None if self._colors is not None else self._pixels.encoded_tile(level, column, row)

    def close(self) -> None:
        """Let go of the files."""
        self._pixels.close()


def downsample_of(full: SizePx, size: SizePx) -> float:
    """Downsample of a level of ``size`` below level 0 of ``full``; see the level rule above."""
    ratios = full.width / size.width, full.height / size.height
    mean = max(1.0, sum(ratios) / 2)
    # Of several whole numbers that fit a small level, the power of two is what made it.
    for whole in (2 ** round(math.log2(mean)), round(mean), math.floor(mean), math.ceil(mean)):
        across, down = full.width / whole - size.width, full.height / whole - size.height
        if abs(across) < 1 and abs(down) < 1:
            return float(whole)
    return mean


def make_levels(sizes: list[tuple[SizePx, SizePx]]) -> tuple[Level, ...]:
    """Levels from (size, tile) pairs by falling size."""
    full = sizes[0][0]
    return tuple(Level(size, downsample_of(full, size), tile) for size, tile in sizes)


def content_digest(facts: SlideFacts, pixels: SlidePixels) -> str:
    """SHA-256 of sizes, microns per pixel and stored pixels."""
    mpp = facts.mpp
    described: dict[str, Any] = {
        "levels": [[level.size.width, level.size.height, level.downsample] for level in facts.levels],
        "mpp": None if mpp is None else [mpp.x, mpp.y],
    }
    made = hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    for chunk in pixels.content():
        made.update(chunk)
    return made.hexdigest()
