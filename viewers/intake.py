"""The door for files nobody has looked at: what they are is read from their bytes, never from their name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from viewers.browser import browser_frame
from viewers.decoder import decoders
from viewers.errors import NotAnImageError, TooLargeError, UnsupportedImageError
from viewers.limits import Limits
from viewers.sniff import PICTURES_UNREAD, sniff

if TYPE_CHECKING:
    from collections.abc import Callable

    from viewers.image import Image

__all__ = ["browser_frame", "decoders", "open_image"]


def open_image(
    path: Path | str,
    limits: Limits | None = None,
    progress: Callable[[float], None] | None = None,
    *,
    key: bytes | None = None,
) -> Image:
    """Open one file, DICOM or picture, de-identified.

    Parameters
    ----------
    limits : Limits, optional
        How much the file may ask for.
    progress : callable, optional
        Called with the part done, 0 to 1.
    key : bytes, optional
        For pseudonyms of the patient and study it belongs to; without one that is not kept.

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
    image = _open(raw, limits, key)
    if limits.mask_text:
        from viewers.burned_in import without_text

        image = without_text(image, limits)
    tell(1.0)
    return image


def _open(raw: bytes, limits: Limits, key: bytes | None) -> Image:
    kind = sniff(raw)
    if kind == "dicom":
        from viewers.dicom import open_dicom

        return open_dicom(raw, limits, key)
    if kind == "picture":
        from viewers.picture import open_picture

        return open_picture(raw, limits)
    if kind == "nifti":
        from viewers.nifti import open_nifti

        return open_nifti(raw, limits)
    if kind in PICTURES_UNREAD:
        raise UnsupportedImageError(found=kind, expected="JPEG, PNG, TIFF, WebP")
    raise NotAnImageError(found=kind)
