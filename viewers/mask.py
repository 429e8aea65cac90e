"""Pixels made black: outside the regions an ultrasound machine states, and where text is found.

References
----------
DICOM PS3.3 C.8.5.5 (US region calibration).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from viewers.attributes import integer, items
from viewers.image import ColorFrame
from viewers.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydicom import Dataset

    from viewers.burned_in import TextMask
    from viewers.pixels import DicomFrames

__all__ = ["mask_outside_regions", "mask_text"]

_EDGES = ("X0", "Y0", "X1", "Y1")


def mask_outside_regions(dataset: Dataset, limits: Limits | None = None) -> bool:
    """Blacken, in place, what lies in no ultrasound region; the pixels are then uncompressed.

    Returns
    -------
    bool
        ``False`` when the file states no usable region: then nothing was changed.

    Raises
    ------
    OpenError
        If the pixels cannot be decoded.
    """
    boxes = [_box(region) for region in items(dataset, "SequenceOfUltrasoundRegions")]
    found = [box for box in boxes if box is not None]
    if not found or len(found) < len(boxes):
        return False
    frames = _frames(dataset, limits or Limits())
    if frames is None:
        return False
    outside = np.ones((frames.format.rows, frames.format.columns), bool)
    for left, top, right, bottom in found:
        outside[top : bottom + 1, left : right + 1] = False
    _blacken(dataset, frames, lambda _: outside)
    return True


def mask_text(dataset: Dataset, limits: Limits | None = None) -> TextMask | None:
    """Blacken, in place, what looks like text; the pixels are then uncompressed, if there was any.

    Returns
    -------
    TextMask or None
        What was done; ``None`` when the pixels are of a kind that cannot be written anew.

    Raises
    ------
    TextDetectorMissingError
        If the extra ``ocr`` is not installed.
    OpenError
        If the pixels cannot be decoded.
    """
    from viewers.burned_in import TextMask
    from viewers.text_detector import text_detector

    text_detector()
    used = limits or Limits()
    frames = _frames(dataset, used)
    if frames is None or frames.mosaic is not None:
        return None
    mask = TextMask(used, frames.format.photometric == "MONOCHROME1")
    hidden = []
    for index in range(frames.format.frame_count):
        outside = np.zeros((frames.format.rows, frames.format.columns), bool)
        for region in mask.regions(frames.read(index)):
            outside[region.y : region.y + region.height, region.x : region.x + region.width] = True
        hidden.append(outside)
    if mask.covered:
        _blacken(dataset, frames, lambda index: hidden[index])
    return mask


def _frames(dataset: Dataset, limits: Limits) -> DicomFrames | None:
    """Pixels that can be written anew as plain numbers; ``None`` when they cannot."""
    if "PixelData" not in dataset:
        return None
    from viewers.dataset import ParsedFile
    from viewers.dicom import describe

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    parsed = ParsedFile(dataset, syntax, "", big_endian=syntax == "1.2.840.10008.1.2.2")
    frames, _ = describe(parsed, limits)
    fmt = frames.format
    plain = fmt.is_color or not (fmt.signed or fmt.bits_stored > 16 or fmt.bits_allocated == 1)
    return frames if plain else None


def _blacken(dataset: Dataset, frames: DicomFrames, hidden: Callable[[int], NDArray[np.bool_]]) -> None:
    fmt = frames.format
    black = 2**fmt.bits_stored - 1 if fmt.photometric == "MONOCHROME1" else 0
    made = []
    for index in range(fmt.frame_count):
        frame = frames.read(index)
        pixels = (frame.rgb if isinstance(frame, ColorFrame) else frame.codes).copy()
        pixels[hidden(index)] = 0 if isinstance(frame, ColorFrame) else black
        made.append(pixels)
    _write(dataset, np.stack(made), color=fmt.is_color, bits=fmt.bits_stored)


def _box(region: Dataset) -> tuple[int, int, int, int] | None:
    edges = [integer(region, f"RegionLocation{'Min' if edge[1] == '0' else 'Max'}{edge}") for edge in _EDGES]
    left, top, right, bottom = edges
    if left is None or top is None or right is None or bottom is None:
        return None
    return (left, top, right, bottom) if 0 <= left <= right and 0 <= top <= bottom else None


def _write(dataset: Dataset, pixels: NDArray[Any], *, color: bool, bits: int) -> None:
    from pydicom.dataelem import DataElement

    wide = not color and bits > 8
    data = pixels.astype("<u2" if wide else np.uint8).tobytes()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SamplesPerPixel = 3 if color else 1
    if color:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        # Frames are read as sRGB: what says how to get there from the stored colours would be used twice.
        spent = [name for name in dataset.dir("Palette") if "LookupTable" in name]
        for keyword in [*spent, *({"ICCProfile", "ColorSpace"} & set(dataset.dir()))]:
            del dataset[keyword]
    dataset.BitsAllocated = 16 if wide else 8
    dataset.BitsStored = bits if wide else 8 if color else bits
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset[0x7FE00010] = DataElement(0x7FE00010, "OW" if wide else "OB", data + b"\0" * (len(data) % 2))
