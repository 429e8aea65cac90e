"""The door for files nobody has looked at: what they are is read from their bytes, never from their name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from viewers.decoder import decoders
from viewers.errors import NotAnImageError, TooLargeError
from viewers.image import ColorFrame
from viewers.limits import Limits
from viewers.record import code_map_to_json
from viewers.sniff import sniff

if TYPE_CHECKING:
    from collections.abc import Callable

    from viewers.image import Image
    from viewers.window import NamedWindow

__all__ = ["browser_frame", "decoders", "open_image"]


def open_image(
    path: Path | str, limits: Limits | None = None, progress: Callable[[float], None] | None = None
) -> Image:
    """Open one file, DICOM or picture, de-identified.

    Parameters
    ----------
    limits : Limits, optional
        How much the file may ask for.
    progress : callable, optional
        Called with the part done, 0 to 1.

    Raises
    ------
    OpenError
        If it is not an image that can be opened, with the reason.
    OSError
        If the file cannot be read.
    """
    limits = limits or Limits()
    tell = progress or (lambda _: None)
    source = Path(path)
    size = source.stat().st_size
    if size > limits.file_bytes:
        raise TooLargeError(quantity="bytes", found=size, limit=limits.file_bytes)
    tell(0.0)
    # The file may grow between the two calls: never read more than was looked at.
    with source.open("rb") as stream:
        raw = stream.read(size)
    tell(0.5)
    image = _open(raw, limits)
    tell(1.0)
    return image


def _open(raw: bytes, limits: Limits) -> Image:
    kind = sniff(raw)
    if kind == "dicom":
        from viewers.dicom import open_dicom

        return open_dicom(raw, limits)
    if kind == "picture":
        from viewers.picture import open_picture

        return open_picture(raw, limits)
    raise NotAnImageError(found=kind)


def browser_frame(image: Image, frame: int) -> tuple[dict[str, Any], bytes]:
    """Everything a page needs to draw one frame by itself.

    Returns
    -------
    meta : dict
        JSON values: ``digest``, ``frame`` (from 0), ``frames``, ``width``, ``height``, ``format``
        (``u16`` or ``rgb``), ``pixel_aspect`` (height of a pixel divided by its width), ``spacing``
        (millimetres; or ``None``), ``marks`` at the edges, ``inverted``, and for grey ``code_map``
        (see :mod:`viewers.window` for the arithmetic) and ``windows``.
    payload : bytes
        Row by row: little-endian uint16 codes, or R, G, B bytes.

    Raises
    ------
    FrameOutOfRangeError
    OpenError
        If the frame cannot be decoded.
    """
    pixels = image.frame(frame)
    marks, spacing = image.orientation(frame), image.spacing
    meta: dict[str, Any] = {
        "digest": image.digest,
        "frame": frame,
        "frames": image.frame_count,
        "width": image.size.width,
        "height": image.size.height,
        "format": "rgb" if image.is_color else "u16",
        "pixel_aspect": image.pixel_aspect,
        "spacing": None
        if spacing is None
        else {
            "row": spacing.row,
            "column": spacing.column,
            "source": spacing.source,
            "calibrated": spacing.calibrated,
        },
        "marks": {"left": marks.left, "right": marks.right, "top": marks.top, "bottom": marks.bottom},
        "inverted": image.inverted_by_default,
        "code_map": None,
        "windows": [_window_meta(window) for window in image.windows(frame)],
        "default": None,
    }
    chosen = image.default_window(frame)
    if isinstance(pixels, ColorFrame):
        return meta, pixels.rgb.tobytes()
    meta["default"] = chosen.key if chosen else None
    meta["code_map"] = code_map_to_json(pixels.code_map)
    return meta, np.ascontiguousarray(pixels.codes, dtype="<u2").tobytes()


def _window_meta(named: NamedWindow) -> dict[str, Any]:
    transform = named.transform
    common = {"key": named.key, "source": named.source, "name": transform.name, "voi_lut": named.voi_lut}
    if named.voi_lut is None:
        return common | {
            "center": transform.center,  # type: ignore[union-attr]
            "width": transform.width,  # type: ignore[union-attr]
            "function": transform.function,  # type: ignore[union-attr]
        }
    return common | {
        "first": transform.first,  # type: ignore[union-attr]
        "table": list(transform.table),  # type: ignore[union-attr]
        "bits": transform.bits,  # type: ignore[union-attr]
    }
