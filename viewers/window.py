"""From a stored code to a grey level: modality transform, window or VOI LUT, inversion.

A grey frame holds *codes*, 16-bit unsigned integers. :class:`CodeMap` says which modality value
(Hounsfield units for CT) a code stands for; a :class:`Window` or :class:`VoiLut` turns that value into a
grey level. Both steps are folded into one table of 65536 bytes by :func:`build_lut`, so that a picture
is ``lut[codes]`` wherever it is drawn.

The browser builds the same table while a window is dragged. Its numbers are IEEE float64 as well, so the
order of operations below must be kept to the letter to get the same bytes::

    value   = (code - offset) * slope + intercept          # or table[code]
    LINEAR        y = 0                                    if value <= center - 0.5 - (width - 1) / 2
                  y = 255                                  if value >  center - 0.5 + (width - 1) / 2
                  y = ((value - (center - 0.5)) / (width - 1) + 0.5) * 255        otherwise
    LINEAR_EXACT  y = 0                                    if value <= center - width / 2
                  y = 255                                  if value >  center + width / 2
                  y = ((value - center) / width + 0.5) * 255                      otherwise
    SIGMOID       y = 255 / (1 + exp(-4 * (value - center) / width))
    VOI LUT       y = table[min(max(round(value) - first, 0), length - 1)] * 255 / (2 ** bits - 1)
    grey    = round(min(max(y, 0), 255))
    grey    = 255 - grey                                   if inverted
    grey    = 0                                            if padding_low <= code <= padding_high

``round`` rounds half to even (``numpy.rint``); in JavaScript::

    const f = Math.floor(y), d = y - f;  d < 0.5 ? f : d > 0.5 ? f + 1 : f + (f & 1)

``exp`` of two libraries may differ in the last bit, which changes a grey level only if ``y`` lies within
that bit of a half; at the centre, where it would matter, ``exp(0)`` is exactly 1.

References
----------
DICOM PS3.3 C.11.1 (modality LUT), C.11.2.1.2 and C.11.2.1.3 (window and VOI LUT functions),
C.7.5.1.1.2 (pixel padding), C.11.6 (presentation LUT shape).
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CODES",
    "CodeMap",
    "NamedWindow",
    "VoiFunction",
    "VoiLut",
    "Window",
    "build_lut",
    "levels",
    "range_window",
    "usable_window",
    "window_output",
]

CODES = 65536
"""How many codes there are."""

VoiFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

_PIECE = 65536
"""Codes looked up at a time: half a megabyte as the indices numpy works with."""
_LARGEST = 1e31
"""Centres and widths beyond this are mistakes; decimal pixels are looked at up to 1e30 either way."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window in modality values.

    Raises
    ------
    ValueError
        If a number is not finite or absurd, the width is not above 0, or is below 1 for ``LINEAR``,
        which the standard forbids; see :func:`usable_window` for windows from files.
    """

    center: float
    width: float
    function: VoiFunction = "LINEAR"
    name: str = ""
    """One of the few names that identify nobody, e.g. ``BONE``; empty otherwise."""

    def __post_init__(self) -> None:
        if self.function not in get_args(VoiFunction):
            raise ValueError(f"expected one of {get_args(VoiFunction)}, found {self.function!r}")
        if not (abs(self.center) <= _LARGEST and 0 < self.width <= _LARGEST):
            raise ValueError(
                f"a window has a finite centre and a width above 0, found {self.center}/{self.width}"
            )
        if self.function == "LINEAR" and self.width < 1:
            raise ValueError(f"a LINEAR window is at least 1 wide, found {self.width}; use LINEAR_EXACT")
        object.__setattr__(self, "center", float(self.center))
        object.__setattr__(self, "width", float(self.width))


@dataclass(frozen=True, slots=True)
class VoiLut:
    """A VOI LUT: ``table[i]`` is the output, of ``bits`` bits, for the modality value ``first + i``."""

    first: int
    table: tuple[int, ...]
    bits: int
    name: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.table) <= CODES or not 1 <= self.bits <= 16:
            raise ValueError(
                f"a VOI LUT has 1 to 65536 entries of 1 to 16 bits, found {len(self.table)}, {self.bits}"
            )
        if min(self.table) < 0 or max(self.table) >= 2**self.bits:
            raise ValueError(
                f"VOI LUT entries need {self.bits} bits, found {min(self.table)} to {max(self.table)}"
            )


@dataclass(frozen=True, slots=True)
class NamedWindow:
    """A window or VOI LUT a reader may choose."""

    key: str
    """Stable: ``file-1``, ``lut-1``, a preset's key, ``stored``, ``full_range`` or ``auto``."""
    transform: Window | VoiLut
    source: Literal["file", "preset", "pixels"]
    voi_lut: int | None = None
    """Index among the frame's VOI LUTs, for a view; ``None`` for a window."""

    @property
    def label_key(self) -> str:
        """Key of its label in the catalogue; the file's own are told apart by their number or name."""
        return f"preset.{self.key.rpartition('-')[0] if self.source == 'file' else self.key}"


@dataclass(frozen=True, eq=False)
class CodeMap:
    """How a code becomes a modality value, and which codes are padding.

    Parameters
    ----------
    offset, slope, intercept : float
        ``value = (code - offset) * slope + intercept`` in float64; ``offset`` is 32768 for signed data.
    table : ndarray of float64, shape (65536,), optional
        Values by code, when a modality LUT says them; then the three numbers are not used.
    padding : tuple of (low, high) codes, inclusive, optional
        Codes that hold no measurement; they are drawn black and left out of automatic windows.
    """

    offset: float = 0.0
    slope: float = 1.0
    intercept: float = 0.0
    table: NDArray[np.float64] | None = field(default=None, repr=False)
    padding: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.table is not None and (self.table.shape != (CODES,) or not np.isfinite(self.table).all()):
            raise ValueError(f"a code table is 65536 finite numbers, found shape {self.table.shape}")
        if not all(map(math.isfinite, (self.offset, self.slope, self.intercept))):
            raise ValueError("offset, slope and intercept are finite")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CodeMap):
            return NotImplemented
        mine = (self.offset, self.slope, self.intercept, self.padding)
        theirs = (other.offset, other.slope, other.intercept, other.padding)
        if mine != theirs or (self.table is None) != (other.table is None):
            return False
        return self.table is None or bool(np.array_equal(self.table, other.table))  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return hash((self.offset, self.slope, self.intercept, self.padding))

    def values(self) -> NDArray[np.float64]:
        """Modality value of every code, float64 of shape (65536,)."""
        if self.table is not None:
            return self.table
        return (np.arange(CODES, dtype=np.float64) - self.offset) * self.slope + self.intercept

    def padded(self) -> NDArray[np.bool_]:
        """Whether a code is padding, bool of shape (65536,)."""
        codes = np.arange(CODES)
        if self.padding is None:
            return np.zeros(CODES, dtype=np.bool_)
        return np.asarray((codes >= self.padding[0]) & (codes <= self.padding[1]))


def build_lut(code_map: CodeMap, transform: Window | VoiLut, *, inverted: bool = False) -> NDArray[np.uint8]:
    """Grey level of every code; the arithmetic is written out in this module's docstring.

    Returns
    -------
    ndarray of uint8, shape (65536,)
        Read-only; the last few tables are kept, because frames of one series share them.
    """
    return _build_lut(code_map, transform, inverted)


@lru_cache(maxsize=64)
def _build_lut(code_map: CodeMap, transform: Window | VoiLut, inverted: bool) -> NDArray[np.uint8]:  # noqa: FBT001
    ramp = isinstance(transform, Window) and transform.function != "SIGMOID" and code_map.table is None
    if ramp and code_map.slope > 0:
        assert isinstance(transform, Window)  # noqa: S101 - for the type checker: looked at above
        grey = _ramp(code_map, transform)
    else:
        value = code_map.values()
        y = window_output(value, transform) if isinstance(transform, Window) else _voi_lut(value, transform)
        grey = np.rint(np.clip(y, 0.0, 255.0)).astype(np.uint8)
    if inverted:
        grey = 255 - grey
    if code_map.padding is not None:
        grey[code_map.padding[0] : code_map.padding[1] + 1] = 0
    grey.setflags(write=False)
    return grey


def levels(lut: NDArray[np.uint8], codes: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Look every code up: ``lut[codes]``, in pieces that stay in the processor's cache.

    Parameters
    ----------
    lut : ndarray of uint8, shape (65536,)
    codes : ndarray of uint16, of any shape

    Returns
    -------
    ndarray of uint8, of the shape of ``codes``
    """
    if codes.size <= _PIECE:
        return lut.take(codes)
    made = np.empty(codes.shape, np.uint8)
    rows = max(_PIECE // max(codes[0].size, 1), 1)
    index = np.empty((rows, *codes.shape[1:]), np.intp)
    for start in range(0, len(codes), rows):
        piece = codes[start : start + rows]
        wide = index[: len(piece)]
        wide[...] = piece
        # No code is outside the table; "clip" spares the copy that checking would need.
        lut.take(wide, out=made[start : start + rows], mode="clip")
    return made


def _ramp(code_map: CodeMap, window: Window) -> NDArray[np.uint8]:
    """Do the arithmetic only for the codes that are neither black nor white: most windows have few."""
    center, width = float(window.center), float(window.width)
    if window.function == "LINEAR":
        center, width = center - 0.5, width - 1.0

    def value(code: int) -> float:
        return (code - code_map.offset) * code_map.slope + code_map.intercept

    # Values rise with codes, so that both ends of the ramp are found by halving.
    start = bisect.bisect_right(range(CODES), center - width / 2.0, key=value)
    stop = max(bisect.bisect_right(range(CODES), center + width / 2.0, key=value), start)
    grey = np.zeros(CODES, np.uint8)
    grey[stop:] = 255
    if start < stop:
        codes = np.arange(start, stop, dtype=np.float64)
        y = window_output((codes - code_map.offset) * code_map.slope + code_map.intercept, window)
        grey[start:stop] = np.rint(np.clip(y, 0.0, 255.0))
    return grey


def window_output(value: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Output of a window, 0 to 255 and not rounded, for modality values of any shape."""
    center, width = float(window.center), float(window.width)
    if window.function == "SIGMOID":
        # A value far below the centre overflows exp to infinity, and 255 / infinity is the 0 it should be.
        with np.errstate(over="ignore"):
            return np.asarray(255.0 / (1.0 + np.exp(-4.0 * (value - center) / width)))
    if window.function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    y = np.zeros_like(value)
    high = value > center + width / 2.0
    y[high] = 255.0
    ramp = (value > center - width / 2.0) & ~high
    if width > 0:
        y[ramp] = ((value[ramp] - center) / width + 0.5) * 255.0
    return y


def _voi_lut(value: NDArray[np.float64], lut: VoiLut) -> NDArray[np.float64]:
    table = np.asarray(lut.table, dtype=np.float64)
    index = np.clip(np.rint(value) - lut.first, 0, len(table) - 1).astype(np.int64)
    return np.asarray(table[index] * 255.0 / (2.0**lut.bits - 1.0))


def usable_window(center: float, width: float, function: str = "LINEAR", name: str = "") -> Window | None:
    """Window as a file states it, or ``None`` when it cannot be used.

    A ``LINEAR`` width between 0 and 1, which the standard forbids and PET and diffusion images have,
    becomes ``LINEAR_EXACT``. An unknown function is read as ``LINEAR``, the standard's default.
    """
    known: VoiFunction = (
        "SIGMOID" if function == "SIGMOID" else "LINEAR_EXACT" if function == "LINEAR_EXACT" else "LINEAR"
    )
    if known == "LINEAR" and 0 < width < 1:
        known = "LINEAR_EXACT"
    try:
        return Window(center, width, known, name)
    except ValueError:
        return None


def range_window(low: float, high: float) -> Window:
    """Window that draws ``low`` black and ``high`` white."""
    return Window((low + high) / 2.0, high - low if high > low else 1.0, "LINEAR_EXACT")
