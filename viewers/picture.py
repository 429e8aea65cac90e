"""PNG, JPEG, TIFF, BMP, WebP and GIF to an :class:`~viewers.image.Image`.

Grey stays grey (8 or 16 bits); palettes, CMYK and colours become sRGB of 8 bits by the file's ICC profile,
if it has one; transparency is laid over black, the background of a reading room. The EXIF orientation is
applied, all other metadata (EXIF, GPS, comments, the profile itself) stays behind. Pages of a TIFF are
frames if they are of the first page's size and kind; of animations, and of the several pictures some
cameras put into one JPEG, the first is shown.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from viewers.errors import (
    CorruptPixelDataError,
    DecompressionBombError,
    TooLargeError,
    UnsupportedImageError,
)
from viewers.findings import Finding, finding
from viewers.geometry import SizePx
from viewers.image import ColorFrame, Frame, FrameDisplay, GreyFrame, Image, ImageFacts, display_digest
from viewers.record import facts_to_json
from viewers.silence import collected_warnings
from viewers.window import CodeMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viewers.color_profile import ColorTransform
    from viewers.limits import Limits

__all__ = ["FORMATS", "open_picture"]

FORMATS: Final = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_GREY_16: Final = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
_GREY_8: Final = frozenset({"1", "L"})
_COLOR: Final = frozenset({"RGB", "RGBA", "RGBX", "P", "PA", "LA", "La", "RGBa", "CMYK", "YCbCr", "LAB"})
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _PLANES = 256, 257, 258, 262, 274, 284
"""Tags of a TIFF (TIFF 6.0 section 8)."""
_APART: Final = 2
_STARTS: Final = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8", "JPEG"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    (b"GIF8", "GIF"),
)
_EXPECTED: Final = "8/16 bit L; 8 bit RGB, RGBA, P, CMYK"
_FAILURES: Final = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    IndexError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    MemoryError,
    AttributeError,
)
"""What Pillow raises on damaged files."""


@dataclass(frozen=True, slots=True)
class _Pages:
    """Pages of one picture file that have the size and kind of the first."""

    raw: bytes
    indices: tuple[int, ...]

    def read(self, index: int) -> Frame:
        """Decode one page; see :class:`viewers.image.FrameSource`."""
        try:
            with collected_warnings(), _opened(self.raw) as picture:
                picture.seek(self.indices[index])
                stored = _planes_joined(self.raw, picture, self.indices[index])
                return _frame(_upright(stored), white_is=_white(picture))
        except _FAILURES as error:
            raise CorruptPixelDataError(frame=index + 1, reason=_reason(self.raw, error)) from error


def open_picture(raw: bytes, limits: Limits) -> Image:
    """Open a picture file's bytes; its first page is decoded to prove that it can be.

    Raises
    ------
    OpenError
        With the reason; see the tree in :mod:`viewers.errors`.
    """
    found: list[Finding] = []
    try:
        with collected_warnings(), _opened(raw) as picture:
            mode, bits = _described(picture, limits)
            indices = _alike(picture, limits, found)
            if mode not in _GREY_8 | _GREY_16 and picture.has_transparency_data:
                found.append(finding("transparency"))
            if picture.format in {"JPEG", "MPO"}:
                found.append(finding("lossy"))
            found += _profile_findings(picture)
    except Pillow.DecompressionBombError as error:
        # Pillow's own limit, for sizes far above ours by default; it does not say the size as a number.
        limit = 2 * (Pillow.MAX_IMAGE_PIXELS or 0)
        raise DecompressionBombError(quantity="pixels per frame", found=f"> {limit}", limit=limit) from error
    except UnidentifiedImageError as error:
        raise UnsupportedImageError(found=_kind(raw), expected=_EXPECTED) from error
    except _FAILURES as error:
        raise CorruptPixelDataError(frame=1, reason=_reason(raw, error)) from error
    pages = _Pages(raw, indices)
    first = pages.read(0)
    facts = _facts(first, len(indices), bits, tuple(found))
    return Image(facts, pages, display_digest(facts_to_json(facts, findings=False), raw))


def _kind(raw: bytes) -> str:
    return next((name for start, name in _STARTS if raw.startswith(start)), "TIFF")


def _reason(raw: bytes, error: Exception) -> str:
    """Say in words why a picture is not shown; what Pillow says may quote the file."""
    return "not enough memory" if isinstance(error, MemoryError) else f"damaged {_kind(raw)}"


def _opened(raw: bytes) -> Pillow.Image:
    # The pixel limit is checked in _described from the size alone, which Pillow reads without decoding.
    return Pillow.open(io.BytesIO(raw), formats=FORMATS)


def _described(picture: Pillow.Image, limits: Limits) -> tuple[str, int]:
    width, height = picture.size
    if width * height > limits.pixels_per_frame:
        raise DecompressionBombError(
            quantity="pixels per frame", found=width * height, limit=limits.pixels_per_frame
        )
    if picture.mode not in _GREY_8 | _GREY_16 | _COLOR:
        found = "float 32 bit" if picture.mode == "F" else picture.mode
        raise UnsupportedImageError(found=found, expected=_EXPECTED)
    return picture.mode, 16 if picture.mode in _GREY_16 else 8


def _profile_findings(picture: Pillow.Image) -> list[Finding]:
    if not picture.info.get("icc_profile"):
        return []
    if picture.mode in _GREY_8 | _GREY_16:
        return [finding("color_profile_ignored")]
    try:
        changed = _profile(picture) is not None
    except ValueError:
        return [finding("color_profile_unusable")]
    return [finding("color_profile_applied")] if changed else []


def _profile(picture: Pillow.Image) -> ColorTransform | None:
    """Return the transform of a colour picture's profile; ``None`` when its colours are sRGB already.

    Raises
    ------
    ValueError
        If the profile cannot be used.
    """
    from viewers.color_profile import color_transform

    return color_transform(picture.info.get("icc_profile"), "CMYK" if picture.mode == "CMYK" else "RGB")


def _alike(picture: Pillow.Image, limits: Limits, found: list[Finding]) -> tuple[int, ...]:
    """Pages that can be frames beside the first."""
    count = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    if count > limits.frames:
        raise TooLargeError(quantity="frames", found=count, limit=limits.frames)
    first = (picture.size, picture.mode)
    alike = []
    for index in range(count):
        picture.seek(index)
        if (picture.size, picture.mode) == first:
            alike.append(index)
    picture.seek(0)
    if len(alike) < count:
        found.append(finding("pages_left_out", count=count - len(alike)))
    further = getattr(picture, "n_frames", 1) - 1
    if picture.format != "TIFF" and further > 0:
        found.append(finding("animation_left_out", count=further))
    decoded = picture.size[0] * picture.size[1] * 3 * len(alike)
    if decoded > limits.decoded_bytes:
        raise TooLargeError(quantity="decoded bytes", found=decoded, limit=limits.decoded_bytes)
    return tuple(alike)


def _upright(picture: Pillow.Image) -> Pillow.Image:
    turned = ImageOps.exif_transpose(picture)
    turned.load()
    return turned


def _white(picture: Pillow.Image) -> int:
    """Return the code that is white where a TIFF counts from white and Pillow does not turn it; else 0."""
    tags = getattr(picture, "tag_v2", {})
    if picture.mode not in _GREY_16 or tags.get(_PHOTOMETRIC, 1) != 0:
        return 0
    return int(2 ** tags.get(_BITS, (16,))[0] - 1)


def _planes_joined(raw: bytes, picture: Pillow.Image, page: int) -> Pillow.Image:
    """Return the picture; TIFF colours of 16 bits in planes apart, which Pillow tears, as tifffile has them.

    Of 16 bits the upper 8 are kept, as Pillow does with those that are not apart.
    """
    tags = getattr(picture, "tag_v2", {})
    if tags.get(_PLANES) != _APART or len(picture.getbands()) == 1 or tags.get(_BITS, (8,))[0] <= 8:
        return picture
    from tifffile import TiffFile

    logging.getLogger("tifffile").disabled = True  # its messages repeat what tags hold
    with TiffFile(io.BytesIO(raw)) as tiff:
        planes = np.asarray(tiff.pages[page].asarray())
    # Pillow's size is that of the upright picture.
    shape = (len(picture.getbands()), tags.get(_HEIGHT), tags.get(_WIDTH))
    if planes.dtype != np.uint16 or planes.shape != shape:
        raise UnsupportedImageError(found=f"{picture.mode}, planes apart", expected=_EXPECTED)
    joined = Pillow.fromarray((np.moveaxis(planes, 0, 2) >> 8).astype(np.uint8), picture.mode)
    joined.info |= {key: picture.info[key] for key in ("icc_profile",) if key in picture.info}
    joined.getexif()[_ORIENTATION] = tags.get(_ORIENTATION, 1)
    return joined


def _frame(picture: Pillow.Image, *, white_is: int = 0) -> Frame:
    if picture.mode in _GREY_8:
        codes = np.asarray(picture.convert("L")).astype(np.uint16)
        return GreyFrame(_frozen(codes), CodeMap())
    if picture.mode in _GREY_16:
        wide = np.asarray(picture)
        if wide.min() < 0 or wide.max() > 65535:
            raise UnsupportedImageError(found="32-bit", expected="8 or 16 bit grey")
        codes = wide.astype(np.uint16)
        return GreyFrame(_frozen(white_is - np.minimum(codes, white_is) if white_is else codes), CodeMap())
    return ColorFrame(_frozen(_over_black(picture, _srgb(picture))))


def _srgb(picture: Pillow.Image) -> NDArray[np.uint8]:
    """Colours without their transparency."""
    try:
        colors = _profile(picture)
    except ValueError:
        colors = None
    if colors is not None and picture.mode == "CMYK":
        return colors.apply(np.asarray(picture))
    rgb = np.asarray(picture.convert("RGB"))
    return rgb if colors is None else colors.apply(rgb)


def _over_black(picture: Pillow.Image, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not picture.has_transparency_data:
        return rgb
    over = Pillow.fromarray(rgb)
    over.putalpha(picture.convert("RGBA").getchannel("A"))
    return np.asarray(
        Pillow.alpha_composite(Pillow.new("RGBA", over.size, (0, 0, 0, 255)), over).convert("RGB")
    )


def _frozen(pixels: Any) -> Any:
    pixels = np.ascontiguousarray(pixels).copy()
    pixels.setflags(write=False)
    return pixels


def _facts(first: Frame, count: int, bits: int, found: tuple[Finding, ...]) -> ImageFacts:
    pixels = first.rgb if isinstance(first, ColorFrame) else first.codes
    return ImageFacts(
        kind="picture",
        modality="",
        facts={"BitsStored": str(bits)},
        size=SizePx(pixels.shape[1], pixels.shape[0]),
        is_color=isinstance(first, ColorFrame),
        spacing=None,
        pixel_aspect=1.0,
        inverted_by_default=False,
        stored_codes=(0, 2**bits - 1),
        prefers_stored=bits == 8,
        findings=found,
        frames=(FrameDisplay(),) * count,
    )
