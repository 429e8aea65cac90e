"""What is on screen, as a frozen value, and the one renderer that draws it.

The browser, the model, the history and the report all get the array :func:`render` returns.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import (
    FrameOutOfRangeError,
    InvalidViewError,
    RegionOutOfBoundsError,
    ViewMismatchError,
)
from viewers.geometry import Region
from viewers.image import ColorFrame
from viewers.record import Types, strict
from viewers.vocabulary import known_name
from viewers.window import VoiLut, Window, build_lut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from viewers.image import Image

__all__ = ["View", "default_view", "describe_view", "display_size", "render", "render_png"]

_NUMBER: Final = (int, float)
_VIEW: Final[Mapping[str, Types]] = {
    "image": str,
    "frame": int,
    "window": (dict, type(None)),
    "voi_lut": (int, type(None)),
    "inverted": bool,
    "region": (dict, type(None)),
}
_WINDOW: Final[Mapping[str, Types]] = {"center": _NUMBER, "width": _NUMBER, "function": str, "name": str}
_REGION: Final[Mapping[str, Types]] = dict.fromkeys(("x", "y", "width", "height"), int)


@dataclass(frozen=True, slots=True)
class View:
    """Exactly what is on screen.

    Grey images have a window or the index of one of the frame's VOI LUTs; colour images have neither.
    """

    image: str
    """Digest of the image."""
    frame: int = 0
    """Counted from 0."""
    window: Window | None = None
    voi_lut: int | None = None
    inverted: bool = False
    region: Region | None = None
    """Pixels of the frame's native grid; ``None`` for the whole frame."""

    @property
    def digests(self) -> tuple[str, ...]:
        """Digest of the one image it shows; see :class:`viewers.shown.Shown`."""
        return (self.image,)

    def draw(self, open_: Callable[[str], Image]) -> NDArray[np.uint8]:
        """Draw it with :func:`render`; see :class:`viewers.shown.Shown`."""
        return render(open_(self.image), self)

    def to_json(self) -> dict[str, Any]:
        """JSON values, with every entry present."""
        window, region = self.window, self.region
        return {
            "image": self.image,
            "frame": self.frame,
            "window": None if window is None else {name: getattr(window, name) for name in _WINDOW},
            "voi_lut": self.voi_lut,
            "inverted": self.inverted,
            "region": None if region is None else {name: getattr(region, name) for name in _REGION},
        }

    @classmethod
    def from_json(cls, value: Any) -> View:
        """Read JSON values from anywhere; whether they fit an image is checked by :func:`render`.

        Raises
        ------
        InvalidViewError
            If an entry is missing, unknown, wrongly typed, or a window that cannot be.
        """
        record = strict(value, _VIEW, _invalid)
        window, region = record["window"], record["region"]
        return cls(
            record["image"],
            record["frame"],
            None if window is None else _window_from_json(strict(window, _WINDOW, _invalid)),
            record["voi_lut"],
            record["inverted"],
            None if region is None else Region(**strict(region, _REGION, _invalid)),
        )


def _invalid(entry: str, found: str, expected: str) -> Exception:
    return InvalidViewError(entry=entry, found=found, expected=expected)


def _window_from_json(record: dict[str, Any]) -> Window:
    if known_name(record["name"]) != record["name"]:
        raise InvalidViewError(entry="window.name", found="?", expected="a usual name")
    try:
        return Window(float(record["center"]), float(record["width"]), record["function"], record["name"])
    except (ValueError, OverflowError) as error:
        expected = "width > 0; LINEAR: width >= 1; LINEAR, LINEAR_EXACT, SIGMOID"
        raise InvalidViewError(entry="window", found="?", expected=expected) from error


def default_view(image: Image, frame: int = 0) -> View:
    """Return the view a frame is first shown with: its default window, the whole frame.

    Raises
    ------
    FrameOutOfRangeError
    OpenError
        If the frame cannot be decoded.
    """
    chosen = image.default_window(frame)
    if chosen is None:
        image.frame(frame)
        return View(image.digest, frame)
    window = chosen.transform if isinstance(chosen.transform, Window) else None
    return View(image.digest, frame, window, chosen.voi_lut, image.inverted_by_default)


def _transform(image: Image, view: View) -> Window | VoiLut | None:
    """Check a view against its image and find what turns values into grey levels."""
    if view.image != image.digest:
        raise ViewMismatchError(found=view.image[:12], expected=image.digest[:12])
    if not 0 <= view.frame < image.frame_count:
        raise FrameOutOfRangeError(found=view.frame + 1, count=image.frame_count)
    if view.region is not None and not view.region.inside(image.size):
        region, size = view.region, image.size
        found = f"{region.x}, {region.y}, {region.width} x {region.height}"
        raise RegionOutOfBoundsError(found=found, expected=f"{size.width} x {size.height}")
    if image.is_color:
        if view.window is not None or view.voi_lut is not None or view.inverted:
            raise InvalidViewError(entry="window", found="grey", expected="colour: none")
        return None
    if (view.window is None) == (view.voi_lut is None):
        raise InvalidViewError(entry="window", found="both or none", expected="window or voi_lut")
    if view.window is not None:
        return view.window
    luts = image.voi_luts(view.frame)
    assert view.voi_lut is not None  # noqa: S101 - for the type checker: excluded just above
    if not 0 <= view.voi_lut < len(luts):
        raise InvalidViewError(entry="voi_lut", found=view.voi_lut, expected=f"0-{len(luts) - 1}")
    return luts[view.voi_lut]


def render(image: Image, view: View) -> NDArray[np.uint8]:
    """Draw a view: grey levels, cropped to the region, with square pixels.

    Pixels that are not square are stretched along their longer side to :func:`display_size`, by linear
    interpolation between the grey levels of neighbouring pixels along that side, in integers of 1/65536
    and rounded half up; nothing is ever shrunk. Square pixels are not touched.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        RGB, 0-255, C-contiguous; the same bytes for the same image and view on every machine.

    Raises
    ------
    ViewMismatchError
        If the view was made for another image.
    FrameOutOfRangeError, RegionOutOfBoundsError, InvalidViewError
        If the view does not fit the image.
    OpenError
        If the frame cannot be decoded.
    """
    transform = _transform(image, view)
    frame = image.frame(view.frame)
    pixels = frame.rgb if isinstance(frame, ColorFrame) else frame.codes
    if view.region is not None:
        region = view.region
        pixels = pixels[region.y : region.y + region.height, region.x : region.x + region.width]
    if not isinstance(frame, ColorFrame) and transform is not None:
        pixels = build_lut(frame.code_map, transform, inverted=view.inverted)[pixels]
    columns, rows = display_size(pixels.shape[1], pixels.shape[0], image.pixel_aspect)
    drawn = _stretched(_stretched(pixels, rows, axis=0), columns, axis=1)
    if drawn.ndim == 2:
        drawn = np.repeat(drawn[:, :, None], 3, axis=2)
    return np.ascontiguousarray(drawn, dtype=np.uint8)


def display_size(width: int, height: int, pixel_aspect: float) -> tuple[int, int]:
    """Width and height with square pixels: the longer side of the pixels grows, rounded half to even."""
    if pixel_aspect >= 1:
        return width, max(height, round(height * pixel_aspect))
    return max(width, round(width / pixel_aspect)), height


def _stretched(pixels: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """Linear interpolation along one axis; integer arithmetic, so that no machine rounds differently."""
    count = pixels.shape[axis]
    if length == count:
        return pixels
    # Centre of output pixel i in the input, in 1/65536 pixel: (i + 0.5) * count / length - 0.5.
    position = ((2 * np.arange(length, dtype=np.int64) + 1) * count * 65536 // (2 * length)) - 32768
    position = np.clip(position, 0, (count - 1) * 65536)
    low = position >> 16
    high = np.minimum(low + 1, count - 1)
    shape = [1] * pixels.ndim
    shape[axis] = length
    weight = (position & 65535).reshape(shape)
    near = np.take(pixels, low, axis=axis).astype(np.int64)
    far = np.take(pixels, high, axis=axis).astype(np.int64)
    return np.asarray((near * (65536 - weight) + far * weight + 32768) >> 16, dtype=np.uint8)


def render_png(image: Image, view: View) -> bytes:
    """Draw a view as PNG, without metadata; RGB of 8 bits.

    Raises
    ------
    ViewerError
        As :func:`render`.
    """
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(render(image, view)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def describe_view(image: Image, view: View) -> dict[str, Any]:
    """Facts about a view in no language, for the page, the command line and the report.

    Returns
    -------
    dict
        ``modality``; ``body_part``; ``frame`` (from 1) and ``frames``; ``center``, ``width``,
        ``function`` (``None`` without a window); ``voi_lut`` (from 1, or ``None``); ``inverted``;
        ``region_px`` as x, y, width, height (or ``None``); ``region_mm`` as width, height (``None``
        without spacing or region); ``size_px`` as width, height of what is shown; ``calibrated``.

    Raises
    ------
    ViewError
        If the view does not fit the image.
    """
    _transform(image, view)
    window, region, spacing = view.window, view.region, image.spacing
    shown = (region.width, region.height) if region else (image.size.width, image.size.height)
    return {
        "kind": image.kind,
        "modality": image.modality,
        "body_part": image.facts.get("BodyPartExamined", ""),
        "frame": view.frame + 1,
        "frames": image.frame_count,
        "center": window.center if window else None,
        "width": window.width if window else None,
        "function": window.function if window else None,
        "voi_lut": None if view.voi_lut is None else view.voi_lut + 1,
        "inverted": view.inverted,
        "region_px": [region.x, region.y, region.width, region.height] if region else None,
        "region_mm": _region_mm(region, spacing.column, spacing.row) if region and spacing else None,
        "size_px": list(shown),
        "calibrated": bool(spacing and spacing.calibrated),
    }


def _region_mm(region: Region, column_mm: float, row_mm: float) -> list[float]:
    return [round(region.width * column_mm, 3), round(region.height * row_mm, 3)]
