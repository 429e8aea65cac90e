"""What a page needs to draw frames and planes by itself and to link them: pixels, code maps, places.

Places are the patient's, in millimetres (LPS). A page that shows several planes at once needs three
sums only, which are the same here and in JavaScript::

    place[i]  = origin[i] + column * column_mm[i] + row * row_mm[i]            of pixel (column, row)
    column    = sum((place[i] - origin[i]) * column_mm[i]) / sum(column_mm[i] ** 2)
    row       = sum((place[i] - origin[i]) * row_mm[i]) / sum(row_mm[i] ** 2)

The origin of a plane is the place of its pixel (0, 0); its entry along ``axis`` is the plane's position.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from viewers.assembly import image_volume
from viewers.errors import VolumeError
from viewers.image import ColorFrame
from viewers.planes import PlaneView, plane_frame
from viewers.record import code_map_to_json
from viewers.rules import rule_keys
from viewers.view import presented_view
from viewers.volume import PLANES

if TYPE_CHECKING:
    from viewers.geometry import EdgeMarks, PixelSpacingMm
    from viewers.image import Frame, Image
    from viewers.layer import Layer, Presentation
    from viewers.stack import SlicePlane
    from viewers.volume import Volume
    from viewers.window import NamedWindow

__all__ = ["browser_frame", "browser_plane", "geometry_json"]


def browser_frame(image: Image, frame: int) -> tuple[dict[str, Any], bytes]:
    """Everything a page needs to draw one frame by itself.

    Returns
    -------
    meta : dict
        JSON values: ``digest``, ``frame`` (from 0), ``frames``, ``width``, ``height``, ``format``
        (``u16`` or ``rgb``), ``pixel_aspect`` (height of a pixel divided by its width), ``spacing``
        (millimetres; or ``None``), ``marks`` at the edges, ``inverted``, and for grey ``code_map``
        (see :mod:`viewers.window` for the arithmetic) and ``windows``; ``plane`` is ``None``; ``rules``
        names the rules of :mod:`viewers.rules` that may be chosen; ``place`` is where the frame lies
        (``origin``, ``column_mm``, ``row_mm``; or ``None``); ``layers`` are drawings and shutters over
        the frame, each with its ``kind`` (``overlay``, ``drawn``, ``hidden``), ``group``,
        ``presentation`` and ``bits``; ``presentations`` the states that show it, with their ``view``.
    payload : bytes
        Row by row: little-endian uint16 codes, or R, G, B bytes.

    Raises
    ------
    FrameOutOfRangeError
    OpenError
        If the frame cannot be decoded.
    """
    pixels = image.frame(frame)
    meta = _meta(image, frame) | {
        "width": image.size.width,
        "height": image.size.height,
        "pixel_aspect": image.pixel_aspect,
        "spacing": _spacing_json(image.spacing),
        "marks": _marks_json(image.orientation(frame)),
        "plane": None,
        "place": frame_place(image, frame),
        "layers": _layers(image, frame),
        "presentations": [_presented(image, frame, shown) for shown in image.presentations(frame)],
    }
    return meta | _pixels_meta(image, frame, pixels), _payload(pixels)


def _layers(image: Image, frame: int) -> list[dict[str, Any]]:
    """Overlays of a frame and the layers of its presentations, for the page to lay over it."""
    own = [_marked(image, layer, "overlay") for layer in image.overlays(frame)]
    for shown in image.presentations(frame):
        for kind, layer in (("hidden", shown.hidden), ("drawn", shown.drawn)):
            if layer is not None:
                own.append(_marked(image, layer, kind) | {"presentation": shown.number})
    return own


def _marked(image: Image, layer: Layer, kind: str) -> dict[str, Any]:
    """Cut a layer at the frame's edges; its bits row after row, the first in the highest bit, in base64."""
    marked = layer.marked(image.size.height, image.size.width)
    bits = base64.b64encode(np.packbits(marked).tobytes()).decode("ascii")
    return {"kind": kind, "group": layer.group, "presentation": None, "bits": bits}


def _presented(image: Image, frame: int, shown: Presentation) -> dict[str, Any]:
    """Return a presentation state's number, the groups of overlays it shows and the view it asks for."""
    view = presented_view(image, frame, shown.number).to_json()
    return {"number": shown.number, "overlays": list(shown.overlays), "view": view}


def browser_plane(image: Image, frame: int, shown: PlaneView) -> tuple[dict[str, Any], bytes]:
    """Everything a page needs to draw one plane through the volume a frame belongs to.

    Returns
    -------
    meta : dict
        As of :func:`browser_frame`; the ``windows`` are those of the frame, ``plane`` is the plane's view.
    payload : bytes
        Row by row: little-endian uint16 codes.

    Raises
    ------
    FrameOutOfRangeError
    VolumeError
        If the image is no volume, or the plane does not meet it.
    OpenError
        If a frame cannot be decoded.
    """
    pixels, cut = plane_frame(image, frame, shown)
    row, column = cut.spacing_mm
    meta = _meta(image, frame) | {
        "width": pixels.codes.shape[1],
        "height": pixels.codes.shape[0],
        "pixel_aspect": row / column,
        "spacing": {"row": row, "column": column, "source": "ImagePositionPatient", "calibrated": True},
        "marks": _marks_json(cut.marks),
        "plane": shown.to_json(),
        "layers": [],
        "presentations": [],
        "place": {
            "origin": cut.affine[:3, 3].tolist(),
            "column_mm": cut.affine[:3, 0].tolist(),
            "row_mm": cut.affine[:3, 1].tolist(),
        },
    }
    return meta | _pixels_meta(image, frame, pixels), _payload(pixels)


def geometry_json(image: Image, frame: int = 0) -> dict[str, Any]:
    """Where an image lies in the patient, and the planes that can be cut through it.

    Parameters
    ----------
    frame : int
        Of several time points or echoes, one of the one that is wanted.

    Returns
    -------
    dict
        ``affine`` (4 x 4, (column, row, slice, 1) to millimetres; or ``None``); ``reason`` (``key`` and
        ``values`` of the error) when there is none; ``slice_spacing_mm``; ``frames``: the ``place`` of
        each frame (or ``None``) in the image's order; ``passes`` and ``times_s`` of each frame, empty
        when they are not said; ``study``, ``series``, ``space``: pseudonyms, images with the same
        non-empty ``space`` share coordinates; ``planes``: for ``axial``, ``coronal``, ``sagittal``
        their ``width``, ``height``, ``pixel_aspect``, ``spacing_mm`` (row, column), ``marks``,
        ``axis`` (0 x, 1 y, 2 z), ``origin``, ``column_mm``, ``row_mm`` and the ``low_mm``, ``high_mm``,
        ``step_mm``, ``count`` of their positions; empty when there is no volume.

    Raises
    ------
    OpenError
        If a frame of an image that is not stored cannot be decoded.
    """
    facts = image.describes
    volume, reason = None, None
    try:
        volume = image_volume(image, frame)
        if not volume.is_straight:
            # The page will ask for a plane soon; until then there is time.
            threading.Thread(target=volume.prepare, name="planes", daemon=True).start()
    except VolumeError as error:
        reason = {"key": error.key, "values": {name: str(value) for name, value in error.values.items()}}
    return {
        "affine": None if volume is None else volume.affine.tolist(),
        "reason": reason,
        "slice_spacing_mm": None if volume is None else volume.spacing_mm[0],
        "frames": [frame_place(image, index) for index in range(image.frame_count)],
        "passes": list(facts.passes),
        "times_s": list(facts.times_s),
        **asdict(facts.origin),
        "planes": {} if volume is None else {plane: _plane_json(volume, plane) for plane in PLANES},
    }


def frame_place(image: Image, frame: int) -> dict[str, list[float]] | None:
    """Place of a frame's first pixel, and of the step to the next column and row, in millimetres."""
    planes, spacing = image.describes.planes, image.spacing
    plane: SlicePlane | None = planes[frame] if planes else None
    if plane is None or spacing is None:
        return None
    return {
        "origin": list(plane.position_mm),
        "column_mm": [value * spacing.column for value in plane.cosines[:3]],
        "row_mm": [value * spacing.row for value in plane.cosines[3:]],
    }


def _plane_json(volume: Volume, plane: Any) -> dict[str, Any]:
    grid, positions = volume.grid(plane), volume.positions_mm(plane)
    return {
        "width": grid.columns,
        "height": grid.rows,
        "pixel_aspect": grid.spacing_mm[0] / grid.spacing_mm[1],
        "spacing_mm": list(grid.spacing_mm),
        "marks": _marks_json(grid.marks),
        "axis": grid.axis,
        "origin": grid.affine[:3, 3].tolist(),
        "column_mm": grid.affine[:3, 0].tolist(),
        "row_mm": grid.affine[:3, 1].tolist(),
        "low_mm": float(positions[0]),
        "high_mm": float(positions[-1]),
        "step_mm": float(positions[1] - positions[0]) if positions.size > 1 else 0.0,
        "count": int(positions.size),
    }


def _meta(image: Image, frame: int) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "frame": frame,
        "frames": image.frame_count,
        "format": "rgb" if image.is_color else "u16",
        "inverted": image.inverted_by_default,
        "rules": list(rule_keys(image)),
    }


def _pixels_meta(image: Image, frame: int, pixels: Frame) -> dict[str, Any]:
    chosen = image.default_window(frame)
    return {
        "windows": [_window_meta(window) for window in image.windows(frame)],
        "default": chosen.key if chosen is not None else None,
        "code_map": None if isinstance(pixels, ColorFrame) else code_map_to_json(pixels.code_map),
    }


def _payload(pixels: Frame) -> bytes:
    if isinstance(pixels, ColorFrame):
        return pixels.rgb.tobytes()
    return np.ascontiguousarray(pixels.codes, dtype="<u2").tobytes()


def _spacing_json(spacing: PixelSpacingMm | None) -> dict[str, Any] | None:
    return None if spacing is None else asdict(spacing)


def _marks_json(marks: EdgeMarks) -> dict[str, str]:
    return {"left": marks.left, "right": marks.right, "top": marks.top, "bottom": marks.bottom}


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
