"""Pictures as tensors: the product's own preprocessing, label numbers, and a stream of batches.

A picture is padded to a square with CLIP's mean colour, resized (bicubic) and normalised, exactly as
``LlavaImageProcessorPil(do_pad=True)`` does; a test holds the two equal.
"""

from __future__ import annotations

import multiprocessing
import queue
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from engine.training.anatomy import KINDS
from engine.training.phantoms import NOTHING, Attributes, Phantom, draw_attributes, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import NDArray

__all__ = [
    "CATEGORIES",
    "IMAGE_SIDE",
    "PATCH",
    "PictureBatch",
    "label_of",
    "lesion_map",
    "normalise",
    "picture_stream",
    "squared",
]

IMAGE_SIDE, PATCH = 192, 16
"""Pixels along the square image and along one patch of the vision tower."""
_PAD = (122, 116, 104)
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
CATEGORIES: dict[str, tuple[str, ...]] = {
    "kind": (*(kind.name for kind in KINDS), NOTHING),
    "plane": ("", "axial", "sagittal", "frontal"),
    "contrast": ("", "plain", "enhanced", "T1", "T2"),
    "quality": ("good", "noisy"),
    "lesion": ("no", "yes"),
    "side": ("left", "right"),
    "size": ("small", "large"),
    "tone": ("bright", "dark"),
}
"""Words a picture is labelled with; a word that does not apply has the label -100."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureBatch:
    """Pictures and what they show.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (batch, IMAGE_SIDE, IMAGE_SIDE, 3)
        Padded and resized, not normalised.
    labels : ndarray of int64, shape (batch, len(CATEGORIES))
        Numbers into ``CATEGORIES``, -100 where a word does not apply.
    lesions : ndarray of float32, shape (batch, patches)
        1 where a patch touches the lesion.
    attributes : tuple of Attributes
        The same as words.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    lesions: NDArray[np.float32]
    attributes: tuple[Attributes, ...]


def squared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad to a square with CLIP's mean colour and resize to ``IMAGE_SIDE``."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = Image.new("RGB", (side, side), _PAD)
    square.paste(Image.fromarray(pixels), ((side - width) // 2, (side - height) // 2))
    return np.asarray(square.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC))


def normalise(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """CLIP-normalised float32 tensor (batch, 3, side, side) of uint8 (batch, side, side, 3)."""
    import torch

    values = (pixels.astype(np.float32) / 255 - _MEAN) / _STD
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def label_of(attributes: Attributes) -> list[int]:
    """Label numbers in the order of ``CATEGORIES``."""
    words = {
        "kind": attributes.kind,
        "plane": attributes.plane,
        "contrast": attributes.contrast,
        "quality": attributes.quality,
        "lesion": "yes" if attributes.lesion else "no",
        "side": attributes.side,
        "size": attributes.size,
        "tone": attributes.tone,
    }
    return [names.index(words[name]) if words[name] in names else -100 for name, names in CATEGORIES.items()]


def lesion_map(phantom: Phantom) -> NDArray[np.float32]:
    """1 for every patch of the padded square that touches the lesion; shape (patches,)."""
    across = IMAGE_SIDE // PATCH
    x, y, radius = phantom.lesion_box
    if radius == 0:
        return np.zeros(across * across, dtype=np.float32)
    height, width = phantom.pixels.shape[:2]
    side = max(height, width)
    centre_x, centre_y = (x * width + (side - width) / 2) / side, (y * height + (side - height) / 2) / side
    middles = (np.arange(across) + 0.5) / across
    reach = 0.5 / across
    gap_x = np.maximum(np.abs(middles - centre_x) - reach, 0)
    gap_y = np.maximum(np.abs(middles - centre_y) - reach, 0)
    touched: NDArray[np.bool_] = gap_x[None, :] ** 2 + gap_y[:, None] ** 2 < (radius * 0.9) ** 2
    return touched.astype(np.float32).reshape(-1)


def _batch(random: Random, size: int, nothing: float) -> PictureBatch:
    phantoms = [render(draw_attributes(random, nothing), random) for _ in range(size)]
    return PictureBatch(
        pixels=np.stack([squared(phantom.pixels) for phantom in phantoms]),
        labels=np.array([label_of(phantom.attributes) for phantom in phantoms], dtype=np.int64),
        lesions=np.stack([lesion_map(phantom) for phantom in phantoms]),
        attributes=tuple(phantom.attributes for phantom in phantoms),
    )


def _produce(channel: multiprocessing.Queue[PictureBatch], seed: int, size: int, nothing: float) -> None:
    random = Random(seed)
    while True:
        channel.put(_batch(random, size, nothing))


def picture_stream(
    seed: int, size: int, *, nothing: float = 0.08, background: bool = True
) -> Iterator[PictureBatch]:
    """Endless batches from one seed; drawn in a second process when ``background``."""
    if not background:
        random = Random(seed)
        while True:
            yield _batch(random, size, nothing)
    context = multiprocessing.get_context("spawn")
    channel: multiprocessing.Queue[PictureBatch] = context.Queue(maxsize=4)
    worker = context.Process(target=_produce, args=(channel, seed, size, nothing), daemon=True)
    worker.start()
    try:
        while True:
            try:
                yield channel.get(timeout=5)
            except queue.Empty:
                if not worker.is_alive():
                    raise RuntimeError("the process that draws pictures has ended") from None
    finally:
        worker.terminate()
        worker.join()
