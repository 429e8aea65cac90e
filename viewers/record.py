"""Values of an image as JSON and back, strictly: the form in which they are stored and sent to the page."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from viewers.findings import TEMPLATES, Finding
from viewers.geometry import CalibratedRegion, EdgeMarks, PixelSpacingMm, Region, SizePx
from viewers.image import FrameDisplay, ImageFacts, Origin
from viewers.layer import LAYER, Layer, Presentation, layer_from_json, layer_to_json
from viewers.stack import SlicePlane, slice_plane
from viewers.window import CodeMap, VoiLut, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Types", "code_map_from_json", "code_map_to_json", "facts_from_json", "facts_to_json", "strict"]

Types = type | tuple[type, ...]
_T = TypeVar("_T")
_NUMBER: Final = (int, float)
_FACTS: Final[Mapping[str, Types]] = {
    "kind": str,
    "modality": str,
    "facts": dict,
    "size": list,
    "is_color": bool,
    "spacing": (dict, type(None)),
    "pixel_aspect": _NUMBER,
    "inverted_by_default": bool,
    "stored_codes": list,
    "prefers_stored": bool,
    "findings": list,
    "displays": list,
    "frames": list,
    "planes": list,
    "passes": list,
    "times_s": list,
    "calibrated": list,
    "origin": dict,
}
_SINCE_2: Final[Mapping[str, Any]] = {
    "planes": [],
    "passes": [],
    "times_s": [],
    "calibrated": [],
    "origin": asdict(Origin()),
}
"""Entries that records of version 1 lack, with what they would say."""
_ORIGIN: Final[Mapping[str, Types]] = dict.fromkeys(("study", "series", "space", "patient"), str)
_SINCE_PATIENT: Final[Mapping[str, str]] = {"patient": ""}
"""What earlier records do not say of an origin."""
_CALIBRATED: Final[Mapping[str, Types]] = {"region": dict, "spacing": dict}
_REGION: Final[Mapping[str, Types]] = dict.fromkeys(("x", "y", "width", "height"), int)
_WINDOW: Final[Mapping[str, Types]] = {"center": _NUMBER, "width": _NUMBER, "function": str, "name": str}
_VOI_LUT: Final[Mapping[str, Types]] = {"first": int, "table": list, "bits": int, "name": str}
_SPACING: Final[Mapping[str, Types]] = {"row": _NUMBER, "column": _NUMBER, "source": str, "calibrated": bool}
_MARKS: Final[Mapping[str, Types]] = dict.fromkeys(("left", "right", "top", "bottom"), str)
_DISPLAY: Final[Mapping[str, Types]] = {
    "marks": dict,
    "windows": list,
    "voi_luts": list,
    "overlays": list,
    "presentations": list,
}
_NO_LAYERS: Final[Mapping[str, Any]] = {"overlays": [], "presentations": []}
"""Left out of records of images that have none, so that these are as they always were."""
_PRESENTATION: Final[Mapping[str, Types]] = {
    "number": int,
    "window": (dict, type(None)),
    "lut": (dict, type(None)),
    "inverted": (bool, type(None)),
    "region": (dict, type(None)),
    "rotation": int,
    "flipped": bool,
    "hidden": (dict, type(None)),
    "drawn": (dict, type(None)),
    "overlays": list,
}
_FINDING: Final[Mapping[str, Types]] = {"key": str, "values": dict}
_CODE_MAP: Final[Mapping[str, Types]] = {
    "offset": _NUMBER,
    "slope": _NUMBER,
    "intercept": _NUMBER,
    "table": (str, type(None)),
    "padding": (list, type(None)),
}


def strict(
    value: Any, entries: Mapping[str, Types], fail: Callable[[str, str, str], Exception]
) -> dict[str, Any]:
    """Check that ``value`` is a JSON object with exactly ``entries`` of those types; a bool is no number.

    Parameters
    ----------
    fail : callable
        Makes the exception to raise from the entry's name, what was found and what was expected.
    """
    if not isinstance(value, dict):
        raise fail("view", type(value).__name__, "object")
    for name in sorted(entries.keys() ^ value.keys(), key=str):
        # A name that came from outside is not repeated: it may hold anything.
        raise fail(
            name if name in entries else "?", "missing" if name in entries else "unknown", ", ".join(entries)
        )
    for name, types in entries.items():
        wanted = types if isinstance(types, tuple) else (types,)
        if not isinstance(value[name], wanted) or (isinstance(value[name], bool) and bool not in wanted):
            raise fail(name, type(value[name]).__name__, "/".join(kind.__name__ for kind in wanted))
    return value


def _fail(entry: str, found: str, expected: str) -> Exception:
    return ValueError(f"{entry} is {found}, expected {expected}")


def facts_to_json(facts: ImageFacts, *, findings: bool = True) -> dict[str, Any]:
    """Facts as JSON values. Displays that frames share are written once.

    Parameters
    ----------
    findings : bool
        ``False`` for the content hash, which must not change when more is noticed, when the installation's
        key does, or when a version knows entries that say nothing of this image.
    """
    displays = list(dict.fromkeys(facts.frames))
    position = {display: index for index, display in enumerate(displays)}
    record: dict[str, Any] = {
        "kind": facts.kind,
        "modality": facts.modality,
        "facts": dict(facts.facts),
        "size": [facts.size.width, facts.size.height],
        "is_color": facts.is_color,
        "spacing": None if facts.spacing is None else asdict(facts.spacing),
        "pixel_aspect": facts.pixel_aspect,
        "inverted_by_default": facts.inverted_by_default,
        "stored_codes": list(facts.stored_codes),
        "prefers_stored": facts.prefers_stored,
        "displays": [_display_to_json(display) for display in displays],
        "frames": [position[display] for display in facts.frames],
        **_since_2(facts),
    }
    if findings:
        record["findings"] = [{"key": found.key, "values": dict(found.values)} for found in facts.findings]
        record["origin"] = asdict(facts.origin)
    else:
        record = {name: value for name, value in record.items() if name not in _SINCE_2 or value}
    return record


def _since_2(facts: ImageFacts) -> dict[str, Any]:
    return {
        "planes": [plane and [*plane.position_mm, *plane.cosines] for plane in facts.planes],
        "passes": list(facts.passes),
        "times_s": list(facts.times_s),
        "calibrated": [asdict(part) for part in facts.calibrated],
    }


def _display_to_json(display: FrameDisplay) -> dict[str, Any]:
    layers = {
        "overlays": [layer_to_json(layer) for layer in display.overlays],
        "presentations": [_presentation_to_json(shown) for shown in display.presentations],
    }
    return {
        "marks": asdict(display.marks),
        "windows": [asdict(window) for window in display.windows],
        "voi_luts": [_lut_to_json(lut) for lut in display.voi_luts],
        **{name: value for name, value in layers.items() if value},
    }


def _lut_to_json(lut: VoiLut) -> dict[str, Any]:
    return asdict(lut) | {"table": list(lut.table)}


def _presentation_to_json(shown: Presentation) -> dict[str, Any]:
    return {
        "number": shown.number,
        "window": None if shown.window is None else asdict(shown.window),
        "lut": None if shown.lut is None else _lut_to_json(shown.lut),
        "inverted": shown.inverted,
        "region": None if shown.region is None else asdict(shown.region),
        "rotation": shown.rotation,
        "flipped": shown.flipped,
        "hidden": None if shown.hidden is None else layer_to_json(shown.hidden),
        "drawn": None if shown.drawn is None else layer_to_json(shown.drawn),
        "overlays": list(shown.overlays),
    }


def facts_from_json(value: Any, version: int = 2) -> ImageFacts:
    """Facts from JSON values.

    Parameters
    ----------
    version : int
        Of the record they stand in; entries that version 1 did not have are empty then.

    Raises
    ------
    ValueError, TypeError, IndexError, KeyError
        If anything is missing, unknown, wrongly typed or out of range.
    """
    record = strict(_SINCE_2 | value if version < 2 else value, _FACTS, _fail)
    if record["kind"] not in {"dicom", "picture"}:
        raise _fail("kind", "?", "dicom/picture")
    displays = [_display_from_json(item) for item in record["displays"]]
    spacing = None if record["spacing"] is None else _spacing_from_json(record["spacing"])
    low, high = record["stored_codes"]
    return ImageFacts(
        kind=record["kind"],
        modality=record["modality"],
        facts={str(key): str(text) for key, text in record["facts"].items()},
        size=SizePx(*record["size"]),
        is_color=record["is_color"],
        spacing=spacing,
        pixel_aspect=record["pixel_aspect"],
        inverted_by_default=record["inverted_by_default"],
        stored_codes=(low, high),
        prefers_stored=record["prefers_stored"],
        findings=tuple(_finding_from_json(item) for item in record["findings"]),
        frames=tuple(displays[index] for index in record["frames"]),
        planes=_each_frame(record, "planes", [_plane_from_json(item) for item in record["planes"]]),
        passes=_each_frame(record, "passes", [int(item) for item in record["passes"]]),
        times_s=_each_frame(record, "times_s", [float(item) for item in record["times_s"]]),
        calibrated=tuple(_calibrated_from_json(item) for item in record["calibrated"]),
        origin=Origin(**strict(_SINCE_PATIENT | record["origin"], _ORIGIN, _fail)),
    )


def _each_frame(record: dict[str, Any], name: str, found: list[_T]) -> tuple[_T, ...]:
    if len(found) not in {0, len(record["frames"])}:
        raise _fail(name, str(len(found)), f"0 or {len(record['frames'])} entries")
    return tuple(found)


def _plane_from_json(value: Any) -> SlicePlane | None:
    if value is None:
        return None
    made = slice_plane([float(item) for item in value[:3]], [float(item) for item in value[3:]])
    if made is None:
        raise _fail("planes", "?", "a position and two perpendicular directions")
    return made


def _spacing_from_json(value: Any) -> PixelSpacingMm:
    return PixelSpacingMm(**strict(value, _SPACING, _fail))


def _calibrated_from_json(value: Any) -> CalibratedRegion:
    record = strict(value, _CALIBRATED, _fail)
    region = Region(**strict(record["region"], _REGION, _fail))
    return CalibratedRegion(region, _spacing_from_json(record["spacing"]))


def _display_from_json(value: Any) -> FrameDisplay:
    record = strict({**_NO_LAYERS, **value} if isinstance(value, dict) else value, _DISPLAY, _fail)
    return FrameDisplay(
        EdgeMarks(**strict(record["marks"], _MARKS, _fail)),
        tuple(_window_from_json(item) for item in record["windows"]),
        tuple(_lut_from_json(item) for item in record["voi_luts"]),
        tuple(_layer_from_json(item) for item in record["overlays"]),
        tuple(_presentation_from_json(item) for item in record["presentations"]),
    )


def _window_from_json(value: Any) -> Window:
    return Window(**strict(value, _WINDOW, _fail))


def _lut_from_json(value: Any) -> VoiLut:
    record = strict(value, _VOI_LUT, _fail)
    return VoiLut(**(record | {"table": tuple(record["table"])}))


def _layer_from_json(value: Any) -> Layer:
    return layer_from_json(strict(value, LAYER, _fail))


def _presentation_from_json(value: Any) -> Presentation:
    record = strict(value, _PRESENTATION, _fail)
    if record["rotation"] not in {0, 90, 180, 270}:
        raise _fail("rotation", "?", "0, 90, 180, 270")

    def read(name: str, how: Callable[[Any], _T]) -> _T | None:
        return None if record[name] is None else how(record[name])

    return Presentation(
        record["number"],
        read("window", _window_from_json),
        read("lut", _lut_from_json),
        record["inverted"],
        read("region", lambda item: Region(**strict(item, _REGION, _fail))),
        record["rotation"],
        record["flipped"],
        read("hidden", _layer_from_json),
        read("drawn", _layer_from_json),
        tuple(int(group) for group in record["overlays"]),
    )


def _finding_from_json(value: Any) -> Finding:
    record = strict(value, _FINDING, _fail)
    if record["key"] not in TEMPLATES:
        raise _fail("finding", "?", "a known key")
    return Finding(record["key"], record["values"])


def code_map_to_json(code_map: CodeMap) -> dict[str, Any]:
    """Code map as JSON values; a table is base64 of 65536 little-endian float64."""
    table = code_map.table
    return {
        "offset": code_map.offset,
        "slope": code_map.slope,
        "intercept": code_map.intercept,
        "table": None if table is None else base64.b64encode(table.astype("<f8").tobytes()).decode("ascii"),
        "padding": None if code_map.padding is None else list(code_map.padding),
    }


def code_map_from_json(value: Any) -> CodeMap:
    """Code map from JSON values.

    Raises
    ------
    ValueError, TypeError
        If anything is missing, unknown, wrongly typed or out of range.
    """
    record = strict(value, _CODE_MAP, _fail)
    text, padding = record["table"], record["padding"]
    table = (
        None
        if text is None
        else np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
    )
    pair = None if padding is None else (int(padding[0]), int(padding[1]))
    return CodeMap(record["offset"], record["slope"], record["intercept"], table, pair)
