"""A stored slide's description as JSON and back, strictly."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from viewers.findings import TEMPLATES, Finding
from viewers.geometry import SizePx
from viewers.openers.tiled import Coding
from viewers.openers.vendor import VENDORS
from viewers.record import Types, strict
from viewers.slide import Level, MicronsPerPixel, SlideFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "StoredSlide", "slide_from_json", "slide_to_json"]

KINDS: Final = VENDORS | {"", "ome", "picture", "tiff"}
"""Every kind of slide there can be."""
_SOURCES: Final = frozenset(
    {"openslide.mpp", "aperio.MPP", "OME PhysicalSize", "TIFF XResolution", "DICOM PixelSpacing"}
)
_VERSION: Final = 1
_NUMBER: Final = (int, float)
_SLIDE: Final[Mapping[str, Types]] = {
    "version": int,
    "digest": str,
    "tiles_sha256": str,
    "original": (str, type(None)),
    "vendor": str,
    "mpp": (dict, type(None)),
    "findings": list,
    "levels": list,
    "codings": list,
}
_MPP: Final[Mapping[str, Types]] = {"x": _NUMBER, "y": _NUMBER, "source": str}
_FINDING: Final[Mapping[str, Types]] = {"key": str, "values": dict}
_LEVEL: Final[Mapping[str, Types]] = {"size": list, "downsample": _NUMBER, "tile": list}
_CODING: Final[Mapping[str, Types]] = {"name": str, "ycbcr": bool, "tables": str}
_LONGEST_VALUE: Final = 40
_NAMES: Final = ("jpeg", "jpeg2000", "png")


@dataclass(frozen=True, slots=True)
class StoredSlide:
    """What is known of a stored slide before its pixels are opened."""

    digest: str
    tiles_sha256: str
    """Of the file of tiles; of nothing when the original is kept."""
    original: str | None
    """Name of the file to open when the original is kept, else ``None``."""
    facts: SlideFacts
    codings: tuple[Coding, ...]
    """One for each level; none when the original is kept."""


def slide_to_json(stored: StoredSlide) -> dict[str, Any]:
    """Turn into JSON values."""
    facts = stored.facts
    mpp = facts.mpp
    return {
        "version": _VERSION,
        "digest": stored.digest,
        "tiles_sha256": stored.tiles_sha256,
        "original": stored.original,
        "vendor": facts.vendor,
        "mpp": None if mpp is None else {"x": mpp.x, "y": mpp.y, "source": mpp.source},
        "findings": [{"key": found.key, "values": dict(found.values)} for found in facts.findings],
        "levels": [_level_to_json(level) for level in facts.levels],
        "codings": [_coding_to_json(coding) for coding in stored.codings],
    }


def slide_from_json(value: Any) -> StoredSlide:
    """Read JSON values.

    Raises
    ------
    ValueError, TypeError
        If anything is missing, unknown, wrongly typed or out of range.
    """
    record = strict(value, _SLIDE, _fail)
    if record["version"] != _VERSION:
        raise _fail("version", str(record["version"]), str(_VERSION))
    if record["vendor"] not in KINDS:
        raise _fail("vendor", "?", "a known kind")
    levels = tuple(_level_from_json(item) for item in record["levels"])
    codings = tuple(_coding_from_json(item) for item in record["codings"])
    if not levels or len(codings) != (0 if record["original"] else len(levels)):
        raise _fail("levels", str(len(levels)), str(len(codings)))
    findings = tuple(_finding_from_json(item) for item in record["findings"])
    facts = SlideFacts(record["vendor"], levels, _mpp_from_json(record["mpp"]), findings)
    return StoredSlide(record["digest"], record["tiles_sha256"], record["original"], facts, codings)


def _fail(entry: str, found: str, expected: str) -> Exception:
    return ValueError(f"{entry} is {found}, expected {expected}")


def _mpp_from_json(value: Any) -> MicronsPerPixel | None:
    if value is None:
        return None
    record = strict(value, _MPP, _fail)
    if record["source"] not in _SOURCES:
        raise _fail("mpp.source", "?", "a known source")
    return MicronsPerPixel(float(record["x"]), float(record["y"]), record["source"])


def _finding_from_json(value: Any) -> Finding:
    record = strict(value, _FINDING, _fail)
    if record["key"] not in TEMPLATES:
        raise _fail("finding", "?", "a known key")
    for told in record["values"].values():
        if type(told) not in {int, float, str} or len(str(told)) > _LONGEST_VALUE:
            raise _fail("finding", "?", f"numbers and codes of at most {_LONGEST_VALUE} characters")
    found = Finding(record["key"], record["values"])
    str(found)  # every value its sentence names is there
    return found


def _level_to_json(level: Level) -> dict[str, Any]:
    return {
        "size": [level.size.width, level.size.height],
        "downsample": level.downsample,
        "tile": [level.tile.width, level.tile.height],
    }


def _level_from_json(value: Any) -> Level:
    record = strict(value, _LEVEL, _fail)
    if not record["downsample"] >= 1:
        raise _fail("downsample", str(record["downsample"]), ">= 1")
    return Level(_size(record["size"]), float(record["downsample"]), _size(record["tile"]))


def _size(value: list[Any]) -> SizePx:
    if len(value) != 2 or not all(type(side) is int for side in value):
        raise _fail("size", "?", "two whole numbers")
    return SizePx(*value)


def _coding_to_json(coding: Coding) -> dict[str, Any]:
    tables = base64.b64encode(coding.tables).decode("ascii")
    return {"name": coding.name, "ycbcr": coding.ycbcr, "tables": tables}


def _coding_from_json(value: Any) -> Coding:
    record = strict(value, _CODING, _fail)
    if record["name"] not in _NAMES:
        raise _fail("coding", "?", "/".join(_NAMES))
    tables = base64.b64decode(record["tables"], validate=True)
    return Coding(record["name"], record["ycbcr"], tables)
