"""Overlays of a dataset: drawings and text of one bit over its frames, as layers.

Overlays may name the patient; whether they are looked at is the caller's decision.

References
----------
DICOM PS3.3 C.9.2 (overlay plane), PS3.5 8.1.2 (encoding of overlays).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.attributes import PARSER_FAILURES
from viewers.layer import Layer, layer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["FIRST_GROUP", "activated_overlays", "overlay_groups", "read_overlays"]

FIRST_GROUP: Final = 0x6000
"""First of the even groups 6000 to 601E."""
_ROWS, _COLUMNS, _FRAMES, _ORIGIN, _FIRST_FRAME = 0x0010, 0x0011, 0x0015, 0x0050, 0x0051
_ALLOCATED, _POSITION, _ACTIVATION, _DATA = 0x0100, 0x0102, 0x1001, 0x3000
_LARGEST: Final = 2**27
"""Pixels of one overlay's frame."""


def overlay_groups(dataset: Dataset) -> list[int]:
    """Return the groups that describe an overlay."""
    # Tags only: going through a dataset itself parses every value.
    tags = tuple(dataset.keys())
    return sorted(tag.group for tag in tags if tag.group & 0xFF01 == FIRST_GROUP and tag.element == _ROWS)


def activated_overlays(dataset: Dataset) -> tuple[int, ...]:
    """Return the groups of the image's overlays that a presentation state shows (PS3.3 C.11.7)."""
    tags = tuple(dataset.keys())
    groups = [t.group for t in tags if t.group & 0xFF01 == FIRST_GROUP and t.element == _ACTIVATION]
    return tuple(sorted(group for group in groups if _value(dataset, group, _ACTIVATION)))


def read_overlays(
    dataset: Dataset,
    frames: int,
    stored: Callable[[int], NDArray[Any] | None],
    *,
    big_endian: bool,
) -> tuple[tuple[Layer, ...], ...]:
    """Read what is drawn over each frame.

    Parameters
    ----------
    frames : int
        Of the image.
    stored : callable
        Gives the words of a frame as they stand in the file, shape (rows, columns), for overlays that
        older files keep in their unused bits; ``None`` when they cannot be had.
    big_endian : bool
        Whether words of overlays are.

    Returns
    -------
    tuple of tuple of Layer
        One entry for each frame. An overlay that is damaged is left out.
    """
    made: list[list[Layer]] = [[] for _ in range(frames)]
    for group in overlay_groups(dataset):
        for frame, marked, x, y in _planes(dataset, group, frames, stored, big_endian=big_endian):
            layer = layer_of(marked, x, y, group)
            if layer is not None:
                made[frame].append(layer)
    return tuple(tuple(layers) for layers in made)


def _planes(
    dataset: Dataset,
    group: int,
    frames: int,
    stored: Callable[[int], NDArray[Any] | None],
    *,
    big_endian: bool,
) -> list[tuple[int, NDArray[np.bool_], int, int]]:
    """Frame of the image, marked pixels and place of each frame of one overlay."""
    rows, columns = (_whole(dataset, group, element) for element in (_ROWS, _COLUMNS))
    if not rows or not columns or rows < 1 or columns < 1 or rows * columns > _LARGEST:
        return []
    origin = _value(dataset, group, _ORIGIN)
    try:
        y, x = (int(item) - 1 for item in origin)
    except PARSER_FAILURES:
        y = x = 0
    shown = _shown_on(dataset, group, frames)
    data = _value(dataset, group, _DATA)
    if isinstance(data, bytes):
        size = rows * columns
        bits = _unpacked(data, big_endian=big_endian)
        if bits.size < size * (max(own for _, own in shown) + 1 if shown else 0):
            return []
        return [
            (frame, bits[own * size : (own + 1) * size].reshape(rows, columns).astype(bool), x, y)
            for frame, own in shown
        ]
    return _embedded(dataset, group, stored, (rows, columns), [frame for frame, _ in shown])


def _shown_on(dataset: Dataset, group: int, frames: int) -> list[tuple[int, int]]:
    """Frames of the image with the overlay's own frame that is drawn over each (PS3.3 C.9.2.1.1)."""
    own = _whole(dataset, group, _FRAMES)
    if own is None:
        return [(frame, 0) for frame in range(frames)]
    first = (_whole(dataset, group, _FIRST_FRAME) or 1) - 1
    return [(first + number, number) for number in range(min(own, frames)) if 0 <= first + number < frames]


def _unpacked(data: bytes, *, big_endian: bool) -> NDArray[np.uint8]:
    if big_endian:
        even = data if len(data) % 2 == 0 else data + b"\0"
        data = np.frombuffer(even, ">u2").astype("<u2").tobytes()
    return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")


def _embedded(
    dataset: Dataset,
    group: int,
    stored: Callable[[int], NDArray[Any] | None],
    size: tuple[int, int],
    shown: list[int],
) -> list[tuple[int, NDArray[np.bool_], int, int]]:
    """Overlay in an unused bit of the pixels (retired, PS3.5 8.1.2): it lies on the frame as a whole."""
    allocated, bit = (_whole(dataset, group, element) for element in (_ALLOCATED, _POSITION))
    if not allocated or allocated < 2 or bit is None or not 0 <= bit < allocated:
        return []
    made = []
    for frame in shown:
        words = stored(frame)
        if words is not None and words.shape == size and words.dtype.itemsize * 8 == allocated:
            made.append((frame, words & words.dtype.type(1 << bit) != 0, 0, 0))
    return made


def _value(dataset: Dataset, group: int, element: int) -> Any:
    tag = group << 16 | element
    try:
        return dataset[tag].value if tag in dataset else None
    except PARSER_FAILURES:
        return None


def _whole(dataset: Dataset, group: int, element: int) -> int | None:
    value = _value(dataset, group, element)
    try:
        return None if value is None or value == "" else int(value)
    except PARSER_FAILURES:
        return None
