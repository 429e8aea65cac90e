"""One file's header as grouping needs it: what it has in common with others, and where its image lies.

What files of a series share is described once for all of them; only the few numbers that differ are read
of each. Identifiers live here and in the reader only, never in what a study says of itself.

References
----------
DICOM PS3.3 A.1.2 (study, series, instance), C.7.6.2 (image plane).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from viewers import display
from viewers.attributes import PARSER_FAILURES, cut_short, get, group_item, integer, numbers, texts, uid
from viewers.errors import CorruptHeaderError, NoPixelDataError, OpenError, TruncatedFileError
from viewers.limits import Limits
from viewers.mosaic import is_mosaic, mosaic_planes
from viewers.origin import patient_name
from viewers.places import frame_passes, frame_planes
from viewers.series import Instance, SourceFile
from viewers.skim import PATIENT
from viewers.stack import slice_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom import Dataset

    from viewers.archive import FoundFile
    from viewers.dataset import ParsedFile
    from viewers.mosaic import Mosaic
    from viewers.pixels import Rescale
    from viewers.skim import Skimmed
    from viewers.stack import SlicePlane

__all__ = [
    "Common",
    "Header",
    "check_length",
    "described",
    "guarded",
    "parsed_header",
    "picture_header",
    "skimmed_header",
]

_TIMES: Final = ("EchoNumbers", "TemporalPositionIdentifier", "TriggerTime")
_UNDEFINED: Final = 0xFFFFFFFF
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """What files with the same description share."""

    modality: str
    facts: dict[str, str]
    size: tuple[int, int]
    kind: tuple[str, ...]
    """Whatever else images of one series have in common: colours, image type."""
    frames: int
    cosines: tuple[float, ...]
    spacing: tuple[float, float] | None
    rescale: Rescale | None = None
    """Of the first frame; ``None`` when values are told by a table."""
    planes: tuple[SlicePlane | None, ...] = ()
    """Of the frames of one pass through a multi-frame file, in the order of their places."""


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What grouping needs of one file; lives inside the reader only."""

    study: str
    series: str
    sop: str
    space: str
    """FrameOfReferenceUID."""
    patient: str
    """What the header calls the patient, as :func:`viewers.origin.patient_name`."""
    common: Common
    time: tuple[tuple[float, ...], ...]
    acquisition: int
    instance: Instance = field(repr=False)


def picture_header(found: FoundFile, limits: Limits) -> Header:
    """Open a picture or NIfTI file, which has no header to speak of: it is a series of its own."""
    from viewers.intake import open_image

    image = open_image(found.path, limits)
    instance = Instance(found.index, image.frame_count, None, None, SourceFile(found.path, None))
    name = f"picture {found.index}"
    size = (image.size.width, image.size.height)
    kind = ("color" if image.is_color else "grey",)
    facts = image.describes
    spacing = None if facts.spacing is None else (facts.spacing.row, facts.spacing.column)
    first = [n for n in range(image.frame_count) if not facts.passes or facts.passes[n] == facts.passes[0]]
    planes = _ordered([facts.planes[n] for n in first]) if facts.planes and image.frame_count > 1 else ()
    common = Common("", {}, size, kind, image.frame_count, (), spacing, planes=planes)
    return Header("", name, name, "", "", common, (), 0, instance)


def check_length(skimmed: Skimmed, size: int) -> None:
    """Compare where the pixels end with the size of the file.

    Raises
    ------
    TruncatedFileError
        If the file ends before they do.
    """
    if skimmed.pixels is None:
        return
    _, at, length = skimmed.pixels
    if length != _UNDEFINED and at + length > size:
        raise TruncatedFileError(part="pixels", found=size - at, expected=length)


def guarded(work: Callable[..., _T], *arguments: Any) -> _T:
    """Call what reads a dataset; what a damaged one raises there becomes an error of ours."""
    try:
        return work(*arguments)
    except OpenError:
        raise
    except PARSER_FAILURES as error:
        raise CorruptHeaderError(
            attribute="dataset", found=type(error).__name__, expected="DICOM PS3.10"
        ) from error


def described(skimmed: Skimmed) -> Common:
    """Collect what files with the same description as this one share.

    Raises
    ------
    OpenError
        If it describes no picture.
    """
    return _common(skimmed.parsed())


def _check_picture(parsed: ParsedFile) -> None:
    from viewers.dicom import object_kind

    dataset = parsed.dataset
    if min(integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0) > 0:
        return
    kind = object_kind(dataset, parsed.media_class)
    if cut_short(dataset) or kind.endswith("Image Storage"):
        raise TruncatedFileError(part="attributes", found="?", expected="Rows, Columns")
    raise NoPixelDataError(found=kind or "?")


def _common(parsed: ParsedFile) -> Common:
    """Collect what files with the same description share, or raise NoPixelDataError without a picture."""
    _check_picture(parsed)
    dataset = parsed.dataset
    frames = max(integer(dataset, "NumberOfFrames") or 1, 1)
    size = (integer(dataset, "Columns") or 0, integer(dataset, "Rows") or 0)
    planes = _one_pass(dataset, frames) if frames > 1 else ()
    mosaic = _mosaic(parsed)
    if mosaic is not None:
        planes = _ordered(mosaic_planes(dataset, mosaic, (size[1], size[0])) or (None,) * mosaic.count)
        frames, size = mosaic.count, (mosaic.columns, mosaic.rows)
    spacing = _spacing(dataset)
    photometric = texts(dataset, "PhotometricInterpretation")
    color = integer(dataset, "SamplesPerPixel") == 3 or "PALETTE COLOR" in photometric
    return Common(
        modality=display.modality(dataset),
        facts=display.technical_facts(dataset),
        size=size,
        kind=("color" if color else "grey", *photometric[:1], *texts(dataset, "ImageType")[2:4]),
        frames=frames,
        cosines=tuple(numbers(dataset, "ImageOrientationPatient")),
        spacing=(spacing[0], spacing[1]) if len(spacing) == 2 and all(map(_possible, spacing)) else None,
        rescale=_rescale(dataset),
        planes=planes,
    )


def _rescale(dataset: Dataset) -> Rescale | None:
    told_by_table = get(dataset, "ModalityLUTSequence") is not None and not display.shows_stored(dataset)
    return None if told_by_table else display.rescales(dataset, 1, [])[0]


def _mosaic(parsed: ParsedFile) -> Mosaic | None:
    if not is_mosaic(parsed.dataset):
        return None
    from viewers.dicom import describe

    return describe(parsed, Limits())[0].mosaic


def _spacing(dataset: Dataset) -> list[float]:
    measures = group_item(dataset, 0, "PixelMeasuresSequence")
    return numbers(dataset if measures is None else measures, "PixelSpacing")


def _one_pass(dataset: Dataset, frames: int) -> tuple[SlicePlane | None, ...]:
    """Where the frames of the first echo or time point lie, along their normal."""
    planes = frame_planes(dataset, frames)
    numbers_of = frame_passes(dataset, planes) or (0,) * len(planes)
    first = [plane for plane, number in zip(planes, numbers_of, strict=True) if number == numbers_of[0]]
    return _ordered(first)


def _ordered(planes: Sequence[SlicePlane | None]) -> tuple[SlicePlane | None, ...]:
    """Order planes along the first one's normal; as they are when one of them is not known."""
    known = [plane for plane in planes if plane is not None]
    if len(known) < len(planes):
        return tuple(planes)
    return tuple(sorted(known, key=lambda plane: plane.along(known[0].normal)))


def _possible(length: float) -> bool:
    return math.isfinite(length) and 1e-6 < length < 1e3


def skimmed_header(found: FoundFile, skimmed: Skimmed, common: Common) -> Header:
    """Make the header of a file that was skimmed, with what it shares with others."""
    position = skimmed.numbers("ImagePositionPatient")
    number, acquisition = (skimmed.numbers(name) for name in ("InstanceNumber", "AcquisitionNumber"))
    value = skimmed.value("DiffusionBValue")
    diffusion = struct.unpack("<d", value) if len(value) == 8 else ()
    times = (*(tuple(skimmed.numbers(keyword)) for keyword in _TIMES), diffusion)
    return Header(
        study=skimmed.text("StudyInstanceUID"),
        series=skimmed.text("SeriesInstanceUID"),
        sop=skimmed.text("SOPInstanceUID") or f"file {found.index}",
        space=skimmed.text("FrameOfReferenceUID"),
        patient=_patient(skimmed),
        common=common,
        time=times,
        acquisition=_whole(acquisition) or 0,
        instance=Instance(
            found.index,
            common.frames,
            slice_plane(position, common.cosines),
            _whole(number),
            SourceFile(found.path, skimmed),
        ),
    )


def _patient(skimmed: Skimmed) -> str:
    """Name of the patient; the dataset is made only where its characters are not plain."""
    if all(skimmed.value(keyword).isascii() for keyword in PATIENT):
        return patient_name([skimmed.text(keyword).split("\\") for keyword in PATIENT])
    dataset = skimmed.parsed().dataset
    return patient_name([texts(dataset, keyword) for keyword in PATIENT])


def _whole(values: list[float]) -> int | None:
    return int(values[0]) if values and abs(values[0]) < 2**53 else None


def parsed_header(found: FoundFile, parsed: ParsedFile) -> Header:
    """Make the header of a file that had to be parsed as a whole.

    Raises
    ------
    OpenError
        If it describes no picture.
    """
    dataset, common = parsed.dataset, _common(parsed)
    plane = slice_plane(numbers(dataset, "ImagePositionPatient"), common.cosines)
    number = integer(dataset, "InstanceNumber")
    return Header(
        study=uid(dataset, "StudyInstanceUID"),
        series=uid(dataset, "SeriesInstanceUID"),
        sop=uid(dataset, "SOPInstanceUID") or f"file {found.index}",
        space=uid(dataset, "FrameOfReferenceUID"),
        patient=patient_name([texts(dataset, keyword) for keyword in PATIENT]),
        common=common,
        time=tuple(tuple(numbers(dataset, keyword)) for keyword in (*_TIMES, "DiffusionBValue")),
        acquisition=integer(dataset, "AcquisitionNumber") or 0,
        instance=Instance(found.index, common.frames, plane, number, SourceFile(found.path, None)),
    )
