"""Layers over a frame: pixels that are drawn white on it, or hidden of it, as packed bits with a place.

And how another program's presentation state shows a frame, of which its layers are a part.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from viewers.geometry import Region
    from viewers.window import VoiLut, Window

__all__ = ["LAYER", "Layer", "Presentation", "layer_from_json", "layer_of", "layer_to_json"]

_LARGEST: Final = 2**28
"""Pixels of a layer: an overlay has at most 65535 rows and columns, and stands for a picture's pixels."""
_FARTHEST: Final = 2**16
LAYER: Final[Mapping[str, type]] = {
    **dict.fromkeys(("x", "y", "width", "height", "group"), int),
    "bits": str,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """Marked pixels of a rectangle of a frame, which may reach beyond it.

    Raises
    ------
    ValueError
        If it is empty or too large.
    """

    x: int
    """Column of the frame its first column lies on; may be negative."""
    y: int
    width: int
    height: int
    packed: bytes = field(repr=False)
    """Row after row, eight pixels a byte, the first in the highest bit; compressed by zlib."""
    group: int = 0
    """Of an overlay, 0x6000 to 0x601E: presentation states name it; 0 for anything else."""

    def __post_init__(self) -> None:
        sizes = self.width > 0 and self.height > 0 and self.width * self.height <= _LARGEST
        if not sizes or max(abs(self.x), abs(self.y)) > _FARTHEST:
            raise ValueError(f"a layer has a size and a place, found {self.width} x {self.height}")

    def marked(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """Which pixels of a frame of that size are marked, bool of shape (rows, columns).

        Raises
        ------
        ValueError
            If the bits are damaged.
        """
        count = (self.width * self.height + 7) // 8
        try:
            raw = zlib.decompressobj().decompress(self.packed, count)
        except zlib.error as error:
            raise ValueError("bits of a layer: zlib") from error
        if len(raw) != count:
            raise ValueError(f"bits of a layer: {len(raw)} bytes, expected {count}")
        flat = np.unpackbits(np.frombuffer(raw, np.uint8), count=self.width * self.height)
        bits = flat.reshape(self.height, self.width)
        made = np.zeros((rows, columns), np.bool_)
        left, top = max(self.x, 0), max(self.y, 0)
        right, bottom = min(self.x + self.width, columns), min(self.y + self.height, rows)
        if left < right and top < bottom:
            part = bits[top - self.y : bottom - self.y, left - self.x : right - self.x]
            made[top:bottom, left:right] = part
        return made


@dataclass(frozen=True, slots=True)
class Presentation:
    """How a state shows one frame."""

    number: int
    """Of the state among those read, from 1: the same for all images it names."""
    window: Window | None = None
    lut: VoiLut | None = None
    inverted: bool | None = None
    """``None`` when the state does not say."""
    region: Region | None = None
    """Part of the frame that is shown; ``None`` for all of it."""
    rotation: int = 0
    """Degrees clockwise, after flipping; as of :class:`viewers.view.View`."""
    flipped: bool = False
    hidden: Layer | None = None
    """Pixels outside of its shutters."""
    drawn: Layer | None = None
    """Its drawings and text; ``None`` also where they are not kept."""
    overlays: tuple[int, ...] = ()
    """Groups of the image's own overlays it shows."""


def layer_of(marked: NDArray[Any], x: int = 0, y: int = 0, group: int = 0) -> Layer | None:
    """Make a layer of marked pixels, shape (rows, columns); ``None`` when none is marked."""
    rows, columns = np.asarray(marked.any(axis=1)), np.asarray(marked.any(axis=0))
    if not rows.any():
        return None
    top, left = int(rows.argmax()), int(columns.argmax())
    bottom, right = rows.size - int(rows[::-1].argmax()), columns.size - int(columns[::-1].argmax())
    part = np.ascontiguousarray(marked[top:bottom, left:right], np.bool_)
    packed = zlib.compress(np.packbits(part).tobytes())
    return Layer(x + left, y + top, right - left, bottom - top, packed, group)


def layer_to_json(layer: Layer) -> dict[str, Any]:
    """Write a layer as JSON values."""
    return {
        "x": layer.x,
        "y": layer.y,
        "width": layer.width,
        "height": layer.height,
        "group": layer.group,
        "bits": base64.b64encode(layer.packed).decode("ascii"),
    }


def layer_from_json(record: Mapping[str, Any]) -> Layer:
    """Read a layer from JSON values of the types of :data:`LAYER`.

    Raises
    ------
    ValueError
        If they are no layer's.
    """
    packed = base64.b64decode(record["bits"], validate=True)
    return Layer(record["x"], record["y"], record["width"], record["height"], packed, record["group"])
