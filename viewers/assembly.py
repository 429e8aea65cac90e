"""Volumes made of the slices of a series, or of the frames of an image that is stored.

A series is read from its files into measured values. A stored image has its codes on disk already: its
volume is those codes, memory-mapped and not copied, with the one line that turns them into values.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np

from viewers.errors import FrameOutOfRangeError, MixedOrientationError, TooLargeError, VolumeError
from viewers.image import GreyFrame
from viewers.stack import Stack
from viewers.volume import Volume
from viewers.window import CODES, CodeMap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from viewers.image import Image
    from viewers.series import Series

__all__ = ["frame_stack", "image_volume", "measured", "value_volume", "volume_of"]

_LOOKING: Final = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """Volumes of one image, by pass; made one at a time, without holding up other images."""

    volumes: dict[int, Volume] = field(default_factory=dict)
    rounded: set[int] = field(default_factory=set)
    """Passes whose codes mean their values only within a step."""
    values: dict[int, Volume] = field(default_factory=dict)
    """Of passes in ``rounded``, as they were asked for: float32."""
    making: threading.Lock = field(default_factory=threading.Lock)


_MADE: Final[WeakKeyDictionary[Image, _Made]] = WeakKeyDictionary()
"""For as long as the image is open."""


def frame_stack(image: Image, frame: int = 0) -> tuple[Stack, tuple[int, ...]]:
    """Stack of the frames that go through the patient together with ``frame``, and their numbers.

    They are in the order of their places; those of other echoes or time points are left out.

    Raises
    ------
    MixedOrientationError
        If the frame does not say where it lies.
    """
    facts = image.describes
    numbers = [
        n for n in range(image.frame_count) if not facts.passes or facts.passes[n] == facts.passes[frame]
    ]
    planes = [facts.planes[n] for n in numbers] if facts.planes else [None] * len(numbers)
    known = [plane for plane in planes if plane is not None]
    if len(known) < len(planes):
        raise MixedOrientationError(found=len(planes) - len(known), count=len(planes))
    order = sorted(range(len(known)), key=lambda n: known[n].along(known[0].normal))
    spacing = image.spacing
    return (
        Stack(tuple(known[n] for n in order), (spacing.row, spacing.column) if spacing else None),
        tuple(numbers[n] for n in order),
    )


def image_volume(image: Image, frame: int = 0) -> Volume:
    """Volume of an image's frames, as codes; made once and kept as long as the image is.

    Parameters
    ----------
    frame : int
        Any frame of the echo or time point that is wanted, from 0.

    Raises
    ------
    FrameOutOfRangeError
    VolumeError
        If the frames form no volume, with the numbers.
    OpenError
        If a frame of an image that is not stored cannot be decoded.
    """
    known, number = _known(image, frame)
    with known.making:
        return _volume(known, number, image, frame)


def value_volume(image: Image, frame: int = 0) -> Volume | None:
    """Values of :func:`image_volume` where its codes mean them only within a step; ``None`` where exactly.

    Slices of PET have slopes of their own, and a bladder is thousands of times as bright as a liver: codes
    for both are too coarse to measure with.

    Returns
    -------
    Volume or None
        float32, in the same places; padding has the smallest value.

    Raises
    ------
    FrameOutOfRangeError, VolumeError, OpenError
        As :func:`image_volume`.
    """
    known, number = _known(image, frame)
    with known.making:
        volume = _volume(known, number, image, frame)
        if number in known.rounded and number not in known.values:
            _, numbers = frame_stack(image, frame)
            array, maps = image.stacked()
            values = np.empty(volume.array.shape, np.float32)
            low = np.float32(volume.code_map.intercept) if volume.code_map is not None else np.float32(0)
            for target, n in zip(values, numbers, strict=True):
                table = maps[n].values().astype(np.float32)
                table[maps[n].padded()] = low
                target[...] = table[array[n]]
            known.values[number] = Volume(values, volume.affine, image.describes)
        return known.values.get(number)


def _known(image: Image, frame: int) -> tuple[_Made, int]:
    if not 0 <= frame < image.frame_count:
        raise FrameOutOfRangeError(found=frame + 1, count=image.frame_count)
    number = image.describes.passes[frame] if image.describes.passes else 0
    with _LOOKING:
        return _MADE.setdefault(image, _Made()), number


def _volume(known: _Made, number: int, image: Image, frame: int) -> Volume:
    if number not in known.volumes:
        known.volumes[number], rounded = _made(image, frame)
        if rounded:
            known.rounded.add(number)
    return known.volumes[number]


def _made(image: Image, frame: int) -> tuple[Volume, bool]:
    """Volume of codes, and whether they mean the values only within a step."""
    if image.is_color:
        raise VolumeError(reason="RGB")
    stack, numbers = frame_stack(image, frame)
    affine = stack.affine()
    array, maps = image.stacked()
    codes, chosen = _ordered(array, numbers), [maps[n] for n in numbers]
    code_map, exact = chosen[0], True
    if any(other != chosen[0] for other in chosen[1:]) or chosen[0].table is not None or chosen[0].slope <= 0:
        codes, code_map, exact = _recoded(codes, chosen)
    return Volume(codes, affine, image.describes, code_map), not exact


def _ordered(array: NDArray[np.uint16], numbers: Sequence[int]) -> NDArray[np.uint16]:
    """Frames in this order; without a copy when they follow each other, up or down."""
    first, last, count = numbers[0], numbers[-1], len(numbers)
    if list(numbers) == list(range(first, last + 1)):
        return array[first : last + 1]
    if list(numbers) == list(range(first, last - 1, -1)):
        return array[last : first + 1][::-1]
    return array[np.asarray(numbers)] if count else array[:0]


def _recoded(codes: NDArray[np.uint16], maps: Sequence[CodeMap]) -> tuple[NDArray[np.uint16], CodeMap, bool]:
    """Codes that mean the same in all slices, and whether exactly; code 0 is padding.

    Whole numbers stay exact when they span few enough; others are in 65535 equal steps of the whole volume.
    """
    tables = [(code_map.values(), code_map.padded()) for code_map in maps]
    present = [
        np.flatnonzero((np.bincount(layer.ravel(), minlength=CODES) > 0) & ~padded)
        for layer, (_, padded) in zip(codes, tables, strict=True)
    ]
    found = np.concatenate([values[there] for there, (values, _) in zip(present, tables, strict=True)])
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
    exact = high - low < CODES - 1 and bool(np.equal(found, np.rint(found)).all())
    step = 1.0 if exact or high == low else (high - low) / (CODES - 2)
    made = np.empty(codes.shape, np.uint16)
    for layer, target, (values, padded) in zip(codes, made, tables, strict=True):
        table = np.clip(np.rint((values - low) / step) + 1, 1, CODES - 1).astype(np.uint16)
        table[padded] = 0
        target[...] = table[layer]
    return made, CodeMap(1.0, step, low, padding=(0, 0)), exact or high == low


def volume_of(series: Series, progress: Callable[[float], None] | None = None) -> Volume:
    """Read a series into a volume of rescaled values.

    Raises
    ------
    VolumeError
        If its slices form none, with the numbers.
    OpenError
        If a slice cannot be decoded, or all together are larger than the limits.
    OSError
    """
    from viewers.series import SliceFrames

    series.stack.check()
    if len(series.instances) == 1:
        image = series.open()
        return value_volume(image) or measured(image_volume(image))
    source = SliceFrames(series.instances, series.limits)
    stack = Stack(tuple(instance.plane for instance in source.instances), series.stack.spacing_mm)
    affine = stack.affine()
    facts = source.facts(series.findings)
    if facts.is_color:
        raise VolumeError(reason="RGB")
    shape = (len(source.instances), facts.size.height, facts.size.width)
    if math.prod(shape) * 2 > series.limits.decoded_bytes:
        raise TooLargeError(
            quantity="decoded bytes", found=math.prod(shape) * 2, limit=series.limits.decoded_bytes
        )
    codes, maps = np.empty(shape, np.uint16), []
    for index in range(shape[0]):
        frame = source.read(index)
        assert isinstance(frame, GreyFrame)  # noqa: S101 - for the type checker: colour was refused
        codes[index] = frame.codes
        maps.append(frame.code_map)
        if progress is not None:
            progress((index + 1) / shape[0])
    return Volume(_rescaled(codes, maps), affine, facts)


def _rescaled(codes: NDArray[np.uint16], maps: list[CodeMap]) -> NDArray[Any]:
    """Codes to values; in place when they are whole numbers of 16 bits, which most CT and MR are."""
    shifts = [_whole_shift(layer, code_map) for layer, code_map in zip(codes, maps, strict=True)]
    if all(shift is not None for shift in shifts):
        for layer, shift in zip(codes, shifts, strict=True):
            np.add(layer, np.uint16((shift or 0) % 65536), out=layer)
        return codes.view(np.int16)
    values = np.empty(codes.shape, np.float32)
    for layer, made, code_map in zip(codes, values, maps, strict=True):
        made[...] = code_map.values()[layer]
    return values


def measured(volume: Volume) -> Volume:
    """Return a volume of values, where a stored image's is one of codes."""
    if volume.code_map is None:
        return volume
    codes = np.array(volume.array, np.uint16)
    return Volume(_rescaled(codes, [volume.code_map] * len(codes)), volume.affine, volume.describes)


def _whole_shift(layer: NDArray[np.uint16], code_map: CodeMap) -> int | None:
    """Find what to add to codes to have values; ``None`` when that is not enough or does not fit."""
    shift = code_map.intercept - code_map.offset
    if code_map.table is not None or code_map.slope != 1 or shift != int(shift):
        return None
    fits = int(layer.min()) + shift >= -32768 and int(layer.max()) + shift <= 32767
    return int(shift) if fits else None
