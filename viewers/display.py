"""What a dataset says about showing its frames: orientation, spacing, windows, inversion, facts.

In: a dataset, read through :mod:`viewers.attributes`. Out: the frozen values of an image. Functional
groups are looked up for the frame, then shared, then the dataset itself.

References
----------
DICOM PS3.3 C.7.6.16 (functional groups), C.7.6.2 (image plane), 10.7 (pixel spacing),
C.11.2 (VOI LUT), C.11.6 (presentation LUT shape).
"""

from __future__ import annotations

import re
from itertools import accumulate, zip_longest
from typing import TYPE_CHECKING, Final

from viewers.attributes import code, get, group_item, integer, items, number, numbers, texts, uid
from viewers.findings import Finding, finding
from viewers.geometry import (
    CalibratedRegion,
    EdgeMarks,
    PixelSpacingMm,
    Region,
    marks_from_cosines,
    marks_from_letters,
)
from viewers.image import FrameDisplay
from viewers.luts import voi_luts
from viewers.pixels import Rescale
from viewers.places import nuclear_directions
from viewers.vocabulary import (
    BURNED_IN_MODALITIES,
    CODE_FACTS,
    MODALITIES,
    NUMBER_FACTS,
    PROJECTION_MODALITIES,
    known_name,
)
from viewers.window import VoiLut, Window, usable_window

if TYPE_CHECKING:
    from pydicom import Dataset

    from viewers.pixels import PixelFormat

__all__ = [
    "burned_in",
    "calibrated_regions",
    "frame_displays",
    "frame_times",
    "inverted",
    "is_label_map",
    "modality",
    "pixel_aspect",
    "rescales",
    "shows_stored",
    "spacing",
    "technical_facts",
]

_LETTERS: Final = re.compile(r"[LRAPHF]{1,3}")
_QUADRUPED: Final = re.compile(r"(LE|RT|D|V|CR|CD|M|L|R)+")
_MAGNIFICATION: Final = "EstimatedRadiographicMagnificationFactor"
_LONGEST_MS: Final = 3.6e6
"""Frames more than an hour apart are a mistake of the header."""
_ASPECT_LIMIT: Final = 10.0
"""Pixels more than ten times longer than wide are mistakes of a header."""
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_UNTRANSFORMED: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.12.{number}" for number in (1, 2, 3))
"""X-ray angiography, fluoroscopy and the retired biplane images."""
_RECONSTRUCTED: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.13.1.{number}" for number in (1, 2, 3))
"""Slices made of projections (angiographic, craniofacial, breast tomosynthesis): their pixels are in the
patient, not at the detector, whatever their modality."""
_MOST_REGIONS: Final = 64
_CENTIMETRES: Final = 3
"""PhysicalUnitsXDirection (PS3.3 C.8.5.5.1.15)."""
_LABEL_MAP: Final = "1.2.840.10008.5.1.4.1.1.66.7"


def modality(dataset: Dataset) -> str:
    """Return the modality, if it is one the standard defines; else the empty string."""
    return code(dataset, "Modality", MODALITIES)


def technical_facts(dataset: Dataset) -> dict[str, str]:
    """Allow-listed attributes by keyword; codes from lists, and numbers."""
    facts = {keyword: code(dataset, keyword, known) for keyword, known in CODE_FACTS.items()}
    for keyword in NUMBER_FACTS:
        value = number(dataset, keyword)
        facts[keyword] = "" if value is None else f"{value:.6g}"
    if hounsfield(dataset):
        facts["RescaleType"] = "HU"
    return {keyword: value for keyword, value in facts.items() if value}


def shows_stored(dataset: Dataset) -> bool:
    """Whether stored values are what is shown, whatever modality LUT or rescaling the file states.

    That of angiography leads back to what the detector saw, for subtraction and measuring only, and is not
    for display (PS3.3 C.8.7.1.1.2); windows count in stored values.
    """
    return uid(dataset, "SOPClassUID") in _UNTRANSFORMED


def hounsfield(dataset: Dataset) -> bool:
    """Whether modality values are Hounsfield units: those of CT, unless it says otherwise (PS3.3 C.8.2.1)."""
    if modality(dataset) != "CT" or "LOCALIZER" in texts(dataset, "ImageType"):
        return False
    transform = group_item(dataset, 0, "PixelValueTransformationSequence")
    source = dataset if transform is None else transform
    return number(source, "RescaleSlope") is not None and (texts(source, "RescaleType") or ["HU"])[0] in {
        "HU",
        "",
    }


def burned_in(dataset: Dataset) -> Finding | None:
    """Return the warning that pixels may hold names, unless the file says they do not."""
    stated = code(dataset, "BurnedInAnnotation", {"YES", "NO"})
    if stated == "YES":
        return finding("burned_in_stated")
    kind = modality(dataset)
    suspicious = kind in BURNED_IN_MODALITIES or uid(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE)
    return finding("burned_in_possible", modality=kind or "OT") if suspicious and not stated else None


def inverted(dataset: Dataset, photometric: str) -> bool:
    """Whether low values are white: as the presentation LUT says, else the photometric interpretation."""
    shape = code(dataset, "PresentationLUTShape", {"IDENTITY", "INVERSE"})
    return shape == "INVERSE" if shape else photometric == "MONOCHROME1"


def rescales(dataset: Dataset, frame_count: int, found: list[Finding]) -> tuple[Rescale, ...]:
    """Slope and intercept of each frame, or one for all when frames do not differ."""
    each = [_rescale(dataset, index, found) for index in range(frame_count if _per_frame(dataset) else 1)]
    return tuple(each) if len(set(each)) > 1 else (each[0],)


def _per_frame(dataset: Dataset) -> bool:
    return get(dataset, "PerFrameFunctionalGroupsSequence") is not None


def _rescale(dataset: Dataset, frame: int, found: list[Finding]) -> Rescale:
    transform = group_item(dataset, frame, "PixelValueTransformationSequence")
    source = dataset if transform is None else transform
    stated = get(source, "RescaleSlope") is not None or get(source, "RescaleIntercept") is not None
    slope, intercept = number(source, "RescaleSlope"), number(source, "RescaleIntercept")
    if shows_stored(dataset):
        return Rescale()
    if not stated:
        dose = number(dataset, "DoseGridScaling")
        return Rescale(dose) if dose else Rescale()
    if not slope or intercept is None or abs(slope) > 1e9 or abs(intercept) > 1e12:
        _once(found, finding("rescale_unusable"))
        return Rescale()
    return Rescale(slope, intercept)


def _once(found: list[Finding], noticed: Finding) -> None:
    if noticed not in found:
        found.append(noticed)


def frame_displays(
    dataset: Dataset, fmt: PixelFormat, *, big_endian: bool, found: list[Finding]
) -> tuple[FrameDisplay, ...]:
    """Collect marks, windows and VOI LUTs of each frame."""
    known: dict[tuple[int, bool], tuple[VoiLut, ...]] = {}

    def luts(frame: int) -> tuple[VoiLut, ...]:
        """Read the tables of a frame; those that frames share are read once."""
        own = group_item(dataset, frame, "FrameVOILUTSequence")
        source = own if own is not None and get(own, "VOILUTSequence") is not None else dataset
        # The input of a VOI LUT is the modality LUT's output, which may be negative for unsigned pixels too.
        signed = fmt.signed or _rescale(dataset, frame, []).intercept < 0
        key = (id(source), signed)
        if key not in known:
            known[key] = _voi_luts_of(source, signed=signed, big_endian=big_endian)
        return known[key]

    each = [
        FrameDisplay(_marks(dataset, index, found))
        if fmt.is_color
        else FrameDisplay(_marks(dataset, index, found), _windows(dataset, index, found), luts(index))
        for index in range(fmt.frame_count if _per_frame(dataset) else 1)
    ]
    return tuple(each) if len(each) > 1 else (each[0],) * fmt.frame_count


def _voi_luts_of(source: Dataset, *, signed: bool, big_endian: bool) -> tuple[VoiLut, ...]:
    names = [known_name(" ".join(texts(item, "LUTExplanation"))) for item in items(source, "VOILUTSequence")]
    luts = voi_luts(source, signed=signed, big_endian=big_endian)
    return tuple(
        VoiLut(lut.first, tuple(lut.table.tolist()), lut.bits, name if len(names) == len(luts) else "")
        for lut, name in zip_longest(luts, names[: len(luts)], fillvalue="")
        if not isinstance(lut, str)
    )


def _windows(dataset: Dataset, frame: int, found: list[Finding]) -> tuple[Window, ...]:
    own = group_item(dataset, frame, "FrameVOILUTSequence")
    source = own if own is not None and get(own, "WindowCenter") is not None else dataset
    function = code(source, "VOILUTFunction", {"LINEAR", "LINEAR_EXACT", "SIGMOID"})
    names = [known_name(name) for name in texts(source, "WindowCenterWidthExplanation")]
    windows = []
    stated = zip(numbers(source, "WindowCenter"), numbers(source, "WindowWidth"), strict=False)
    for index, (center, width) in enumerate(stated):
        window = usable_window(center, width, function, names[index] if index < len(names) else "")
        if window is None:
            _once(found, finding("window_unusable", center=f"{center:g}", width=f"{width:g}"))
        else:
            windows.append(window)
    return tuple(windows) or _label_window(dataset)


def _label_window(dataset: Dataset) -> tuple[Window, ...]:
    """Return the window in which the labels of a label map are as far apart as greys allow, in all frames."""
    if not is_label_map(dataset):
        return ()
    labels = [integer(item, "SegmentNumber") or 0 for item in items(dataset, "SegmentSequence")]
    most = float(max(labels, default=0))
    window = usable_window(most / 2, most, "LINEAR_EXACT", "") if most > 0 else None
    return () if window is None else (window,)


def is_label_map(dataset: Dataset) -> bool:
    """Whether stored values are numbers of segments (PS3.3 C.8.20)."""
    return uid(dataset, "SOPClassUID") == _LABEL_MAP


def _marks(dataset: Dataset, frame: int, found: list[Finding]) -> EdgeMarks:
    plane = group_item(dataset, frame, "PlaneOrientationSequence")
    cosines = numbers(dataset if plane is None else plane, "ImageOrientationPatient")
    cosines = cosines or nuclear_directions(dataset)
    if cosines:
        marks = marks_from_cosines(cosines)
        if marks is None:
            _once(found, finding("orientation_unusable"))
        return marks or EdgeMarks()
    stated = [text.upper() for text in texts(dataset, "PatientOrientation")]
    if len(stated) == 2 and all(_LETTERS.fullmatch(text) for text in stated):
        return marks_from_letters(stated[0][:2], stated[1][:2])
    return EdgeMarks()


def spacing(dataset: Dataset, found: list[Finding]) -> PixelSpacingMm | None:
    """Pixel spacing of the first frame with where it comes from, or ``None``."""
    measures = group_item(dataset, 0, "PixelMeasuresSequence")
    sources = [(measures, "PixelSpacing")] if measures is not None else []
    sources += [
        (dataset, key) for key in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    ]
    for source, keyword in sources:
        values = numbers(source, keyword) if source is not None else []
        if len(values) == 2:
            magnified = _magnification(dataset) if keyword == "ImagerPixelSpacing" else None
            if magnified is not None:
                made = _spacing(values[0] / magnified, values[1] / magnified, _MAGNIFICATION, calibrated=True)
            else:
                made = _spacing(values[0], values[1], keyword, _calibrated(dataset, keyword))
            if made is not None:
                return made
            _once(found, finding("spacing_unusable"))
    return _ultrasound_spacing(dataset)


def _magnification(dataset: Dataset) -> float | None:
    """How much larger the detector sees the patient, as far as the geometry of the exposure tells."""
    factor = number(dataset, _MAGNIFICATION)
    return factor if factor is not None and 1 <= factor <= _ASPECT_LIMIT else None


def _spacing(row: float, column: float, source: str, calibrated: bool) -> PixelSpacingMm | None:  # noqa: FBT001
    if not (1e-6 < row < 1e3 and 1e-6 < column < 1e3 and 1 / _ASPECT_LIMIT <= row / column <= _ASPECT_LIMIT):
        return None
    return PixelSpacingMm(row, column, source, calibrated)


def _calibrated(dataset: Dataset, keyword: str) -> bool:
    """Whether a spacing holds in the patient (PS3.3 10.7.1.3)."""
    if keyword != "PixelSpacing":
        return False
    reconstructed = uid(dataset, "SOPClassUID") in _RECONSTRUCTED
    projected = modality(dataset) in PROJECTION_MODALITIES and not reconstructed
    captured = uid(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE)
    if not projected and not captured:
        return True
    if code(dataset, "PixelSpacingCalibrationType", {"GEOMETRY", "FIDUCIAL"}):
        return True
    at_detector = numbers(dataset, "ImagerPixelSpacing")
    return bool(at_detector) and at_detector != numbers(dataset, "PixelSpacing")


def _ultrasound_spacing(dataset: Dataset) -> PixelSpacingMm | None:
    """Spacing of an ultrasound image with one region whose units are centimetres (PS3.3 C.8.5.5)."""
    regions = items(dataset, "SequenceOfUltrasoundRegions")
    return _region_spacing(regions[0]) if len(regions) == 1 else None


def _region_spacing(region: Dataset) -> PixelSpacingMm | None:
    if any(integer(region, f"PhysicalUnits{axis}Direction") != _CENTIMETRES for axis in "XY"):
        return None
    across, down = (abs(number(region, f"PhysicalDelta{axis}") or 0.0) * 10 for axis in "XY")
    return _spacing(down, across, "SequenceOfUltrasoundRegions", calibrated=True)


def calibrated_regions(dataset: Dataset, fmt: PixelFormat) -> tuple[CalibratedRegion, ...]:
    """Parts of an ultrasound screen whose units are centimetres in both directions (PS3.3 C.8.5.5)."""
    made = []
    for item in items(dataset, "SequenceOfUltrasoundRegions")[:_MOST_REGIONS]:
        known = _region_spacing(item)
        corners = [integer(item, f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if known is None or None in corners:
            continue
        left, top, right, bottom = (int(corner or 0) for corner in corners)
        if 0 <= left < right <= fmt.columns and 0 <= top < bottom <= fmt.rows:
            made.append(CalibratedRegion(Region(left, top, right - left, bottom - top), known))
    return tuple(made)


def frame_times(dataset: Dataset, fmt: PixelFormat) -> tuple[float, ...]:
    """Find when each frame of a cine loop begins, in seconds from the first (PS3.3 C.7.6.5); or nothing."""
    count = fmt.frame_count
    if count < 2:
        return ()
    steps = numbers(dataset, "FrameTimeVector")
    step = number(dataset, "FrameTime")
    rate = number(dataset, "RecommendedDisplayFrameRate") or number(dataset, "CineRate")
    if len(steps) == count and all(0 <= value < _LONGEST_MS for value in steps):
        # The first entry is the time before the first frame: always 0.
        return tuple(round(value / 1000, 6) for value in accumulate([0.0, *steps[1:]]))
    if step is None and rate is not None and rate > 0:
        step = 1000 / rate
    if step is None or not 0 < step < _LONGEST_MS:
        return ()
    return tuple(round(index * step / 1000, 6) for index in range(count))


def pixel_aspect(dataset: Dataset, known: PixelSpacingMm | None) -> float:
    """Height of a pixel divided by its width: from the spacing, else PixelAspectRatio, else 1."""
    if known is not None:
        return known.row / known.column
    ratio = numbers(dataset, "PixelAspectRatio")
    if (
        len(ratio) == 2
        and ratio[0] > 0
        and ratio[1] > 0
        and 1 / _ASPECT_LIMIT <= ratio[0] / ratio[1] <= _ASPECT_LIMIT
    ):
        return ratio[0] / ratio[1]
    return 1.0
