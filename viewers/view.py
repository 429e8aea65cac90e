"""What is on screen, as a frozen value, and the one renderer that draws it.

The browser, the model, the history and the report all get the array :func:`render` returns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import (
    FrameOutOfRangeError,
    InvalidViewError,
    RegionOutOfBoundsError,
    ViewMismatchError,
)
from viewers.geometry import PixelSpacingMm, Region, SizePx
from viewers.image import ColorFrame, GreyFrame
from viewers.planes import PlaneView, plane_frame, plane_grid
from viewers.png import png
from viewers.proportions import display_size, squared, turned
from viewers.record import Types, strict
from viewers.rules import Rule
from viewers.vocabulary import known_name
from viewers.window import VoiLut, Window, build_lut, levels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from viewers.geometry import EdgeMarks
    from viewers.image import Frame, Image
    from viewers.layer import Presentation

__all__ = [
    "PlaneView",
    "View",
    "default_view",
    "describe_view",
    "display_size",
    "marked_pixels",
    "presented_view",
    "render",
    "render_png",
    "shown_frame",
    "shown_presentation",
]

_NUMBER: Final = (int, float)
_VIEW: Final[Mapping[str, Types]] = {
    "image": str,
    "frame": int,
    "window": (dict, type(None)),
    "voi_lut": (int, type(None)),
    "inverted": bool,
    "region": (dict, type(None)),
    "rotation": int,
    "flipped": bool,
    "plane": (dict, type(None)),
    "rule": (dict, type(None)),
    "graphics": bool,
    "presentation": (int, type(None)),
}
_ADDED: Final[Mapping[str, Any]] = {
    "rotation": 0,
    "flipped": False,
    "plane": None,
    "rule": None,
    "graphics": False,
    "presentation": None,
}
"""Entries that views of earlier versions lack, with what they would say."""
_ROTATIONS: Final = (0, 90, 180, 270)
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
    """Pixels of the frame's native grid, or of the plane's; ``None`` for all of it."""
    rotation: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""
    flipped: bool = False
    """Whether left and right are exchanged, before the rotation."""
    plane: PlaneView | None = None
    """A plane through the volume the frame belongs to; ``None`` for the frame itself."""
    rule: Rule | None = None
    """How grey levels are laid out as colours; ``None`` for grey as displayed."""
    graphics: bool = False
    """Whether drawings over the frame are shown: its overlays, or those of the presentation; planes of a
    volume have none."""
    presentation: int | None = None
    """Number of a presentation state whose shutters hide parts of the frame, and whose drawings are shown."""

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
            "rotation": self.rotation,
            "flipped": self.flipped,
            "plane": None if self.plane is None else self.plane.to_json(),
            "rule": None if self.rule is None else self.rule.to_json(),
            "graphics": self.graphics,
            "presentation": self.presentation,
        }

    @classmethod
    def from_json(cls, value: Any) -> View:
        """Read JSON values from anywhere; whether they fit an image is checked by :func:`render`.

        Raises
        ------
        InvalidViewError
            If an entry is missing, unknown, wrongly typed, or a window that cannot be.
        """
        record = strict({**_ADDED, **value} if isinstance(value, dict) else value, _VIEW, _invalid)
        window, region, plane, rule = (record[name] for name in ("window", "region", "plane", "rule"))
        if record["rotation"] not in _ROTATIONS:
            raise InvalidViewError(entry="rotation", found="?", expected="0, 90, 180, 270")
        return cls(
            record["image"],
            record["frame"],
            None if window is None else _window_from_json(strict(window, _WINDOW, _invalid)),
            record["voi_lut"],
            record["inverted"],
            None if region is None else Region(**strict(region, _REGION, _invalid)),
            record["rotation"],
            record["flipped"],
            None if plane is None else PlaneView.from_json(plane),
            None if rule is None else Rule.from_json(rule),
            record["graphics"],
            record["presentation"],
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


def default_view(image: Image, frame: int = 0, plane: PlaneView | None = None) -> View:
    """Return the view a frame, or a plane through it, is first shown with: its default window, all of it.

    Raises
    ------
    FrameOutOfRangeError
    OpenError
        If the frame cannot be decoded.
    """
    chosen = image.default_window(frame)
    if chosen is None:
        image.frame(frame)
        return View(image.digest, frame, plane=plane)
    window = chosen.transform if isinstance(chosen.transform, Window) else None
    return View(image.digest, frame, window, chosen.voi_lut, image.inverted_by_default, plane=plane)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Pixels a view chooses from: those of its frame, or of its plane."""

    size: SizePx
    spacing: PixelSpacingMm | None
    pixel_aspect: float
    marks: EdgeMarks


def _grid(image: Image, view: View) -> _Grid:
    if view.plane is None:
        return _Grid(image.size, image.spacing, image.pixel_aspect, image.orientation(view.frame))
    grid = plane_grid(image, view.frame, view.plane)
    row, column = grid.spacing_mm
    spacing = PixelSpacingMm(row, column, "ImagePositionPatient", calibrated=True)
    return _Grid(SizePx(grid.columns, grid.rows), spacing, row / column, grid.marks)


def _checked(image: Image, view: View) -> _Grid:
    """Check a view against its image."""
    if view.image != image.digest:
        raise ViewMismatchError(found=view.image[:12], expected=image.digest[:12])
    if not 0 <= view.frame < image.frame_count:
        raise FrameOutOfRangeError(found=view.frame + 1, count=image.frame_count)
    if view.rotation not in _ROTATIONS:
        raise InvalidViewError(entry="rotation", found=view.rotation, expected="0, 90, 180, 270")
    grid = _grid(image, view)
    if view.region is not None and not view.region.inside(grid.size):
        region, size = view.region, grid.size
        found = f"{region.x}, {region.y}, {region.width} x {region.height}"
        raise RegionOutOfBoundsError(found=found, expected=f"{size.width} x {size.height}")
    if view.rule is not None:
        view.rule.check(image)
    shown_presentation(image, view)
    _transform(image, view)
    return grid


def _transform(image: Image, view: View) -> Window | VoiLut | None:
    """Find what turns values into grey levels."""
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
    """Draw a view: the region cut out, grey levels, square pixels, then flipped, then turned.

    Pixels that are not square are stretched along their longer side to
    :func:`~viewers.proportions.display_size`, by linear interpolation between the grey levels of
    neighbouring pixels along that side, in integers of 1/65536 and rounded half up; nothing is ever
    shrunk. Square pixels are not touched.

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
    VolumeError
        If it shows a plane and the image is no volume, or the plane is outside of it.
    OpenError
        If the frame cannot be decoded.
    """
    drawn = _drawn(image, view)
    if drawn.ndim == 2:
        drawn = np.repeat(drawn[:, :, None], 3, axis=2)
    return np.ascontiguousarray(drawn, dtype=np.uint8)


def _drawn(image: Image, view: View) -> NDArray[np.uint8]:
    """Draw a view; grey pictures have two axes."""
    grid = _checked(image, view)
    frame = shown_frame(image, view)
    pixels = frame.rgb if isinstance(frame, ColorFrame) else frame.codes
    grey = _levels(image, view, frame, _cut(pixels, view))
    for marked, level in marked_pixels(image, view):
        changed = _cut(marked, view)
        grey = np.where(changed if grey.ndim == 2 else changed[:, :, None], level, grey)
    return turned(squared(grey, grid.pixel_aspect), view.rotation, flipped=view.flipped)


def _cut(pixels: NDArray[Any], view: View) -> NDArray[Any]:
    if view.region is None:
        return pixels
    region = view.region
    return pixels[region.y : region.y + region.height, region.x : region.x + region.width]


def shown_presentation(image: Image, view: View) -> Presentation | None:
    """Return the presentation a view shows.

    Raises
    ------
    InvalidViewError
        If the frame has none of that number.
    """
    if view.presentation is None:
        return None
    known = image.presentations(view.frame)
    found = next((one for one in known if one.number == view.presentation), None)
    if found is None:
        expected = ", ".join(str(one.number) for one in known) or "-"
        raise InvalidViewError(entry="presentation", found=view.presentation, expected=expected)
    return found


def marked_pixels(image: Image, view: View) -> Iterator[tuple[NDArray[np.bool_], np.uint8]]:
    """Yield the pixels of a frame that layers change, bool (rows, columns), and the grey level they get.

    First those a presentation's shutters hide, then what is drawn. Nothing for planes of a volume.

    Raises
    ------
    InvalidViewError
        If the layers were damaged.
    """
    if view.plane is not None:
        return
    size, shown = image.size, shown_presentation(image, view)
    layers = [] if shown is None or shown.hidden is None else [(shown.hidden, np.uint8(0))]
    if view.graphics:
        own = image.overlays(view.frame)
        own = own if shown is None else tuple(layer for layer in own if layer.group in shown.overlays)
        drawn = () if shown is None or shown.drawn is None else (shown.drawn,)
        layers += [(layer, np.uint8(255)) for layer in (*own, *drawn)]
    for layer, level in layers:
        try:
            marked = layer.marked(size.height, size.width)
        except ValueError as error:
            raise InvalidViewError(entry="graphics", found="?", expected="bits") from error
        yield marked, level


def presented_view(image: Image, frame: int, number: int) -> View:
    """Return the view a presentation state asks for; what it leaves open is as in :func:`default_view`.

    Raises
    ------
    InvalidViewError
        If the frame has no presentation of that number.
    OpenError
        If the frame cannot be decoded.
    """
    view = replace(default_view(image, frame), graphics=True, presentation=number)
    shown = shown_presentation(image, view)
    assert shown is not None  # noqa: S101 - for the type checker: a number was given
    if shown.window is not None:
        view = replace(view, window=shown.window, voi_lut=None)
    elif shown.lut is not None:
        view = replace(view, window=None, voi_lut=image.voi_luts(frame).index(shown.lut))
    inverted = view.inverted if shown.inverted is None else shown.inverted
    return replace(
        view, inverted=inverted, region=shown.region, rotation=shown.rotation, flipped=shown.flipped
    )


def shown_frame(image: Image, view: View) -> Frame:
    """Return the pixels a view chooses from, before region and window: of its frame or of its plane.

    Raises
    ------
    FrameOutOfRangeError, VolumeError, OpenError
        As :func:`render`.
    """
    if view.plane is None:
        return image.frame(view.frame)
    return plane_frame(image, view.frame, view.plane)[0]


def _levels(image: Image, view: View, frame: Frame, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    transform = _transform(image, view)
    if not isinstance(frame, GreyFrame) or transform is None:
        return np.asarray(pixels, np.uint8)
    if view.rule is None:
        return np.asarray(build_lut(frame.code_map, transform, inverted=view.inverted).take(pixels))
    tables = [build_lut(frame.code_map, window) for window in view.rule.windows]
    return np.stack([levels(table, pixels) for table in tables], axis=-1)


def render_png(image: Image, view: View) -> bytes:
    """Draw a view as PNG, without metadata: the pixels of :func:`render`, as grey levels where all are grey.

    Raises
    ------
    ViewerError
        As :func:`render`.
    """
    return png(_drawn(image, view))


def describe_view(image: Image, view: View) -> dict[str, Any]:
    """Facts about a view in no language, for the page, the command line and the report.

    Returns
    -------
    dict
        ``modality``; ``body_part``; ``frame`` (from 1) and ``frames``; ``center``, ``width``,
        ``function`` (``None`` without a window); ``voi_lut`` (from 1, or ``None``); ``inverted``;
        ``region_px`` as x, y, width, height (or ``None``); ``region_mm`` as width, height (``None``
        without spacing or region); ``size_px`` as width, height of what is shown; ``calibrated``;
        ``rotation``, ``flipped``; ``marks`` at the edges as they are on screen; ``plane``,
        ``position_mm``, ``projection``, ``thickness_mm`` (``None`` without a plane or projection);
        ``rule`` (its key in the catalogue) and ``channels`` (keys of presets), or ``None``;
        ``graphics`` whether drawings over the frame are shown; ``presentation`` (a number, or ``None``).

    Raises
    ------
    ViewError
        If the view does not fit the image.
    """
    grid = _checked(image, view)
    window, region, spacing, plane = view.window, view.region, grid.spacing, view.plane
    shown = (region.width, region.height) if region else (grid.size.width, grid.size.height)
    marks = grid.marks.turned(view.rotation, flipped=view.flipped)
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
        "rotation": view.rotation,
        "flipped": view.flipped,
        "marks": {"left": marks.left, "right": marks.right, "top": marks.top, "bottom": marks.bottom},
        "plane": plane.plane if plane else None,
        "position_mm": plane.position_mm if plane else None,
        "projection": plane.projection if plane else None,
        "thickness_mm": plane.thickness_mm if plane and plane.projection != "none" else None,
        "rule": view.rule.key if view.rule else None,
        "channels": list(view.rule.channels) if view.rule else None,
        "graphics": view.graphics,
        "presentation": view.presentation,
    }


def _region_mm(region: Region, column_mm: float, row_mm: float) -> list[float]:
    return [round(region.width * column_mm, 3), round(region.height * row_mm, 3)]
