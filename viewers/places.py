"""Where the frames of one file lie in the patient, and which of them go through it together.

Enhanced images say it of each frame in their functional groups. Two older kinds have rules of their own: the
planes of a dose grid follow the first one at stated offsets, the slices of a nuclear reconstruction the
position of a detector.

References
----------
DICOM PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups), C.7.6.17 (dimensions), C.8.8.3.2 (grid frame
offset vector), C.8.4.8 to C.8.4.15 (nuclear medicine: multi-frame, detector, reconstruction).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from viewers.attributes import get, group_item, integer, items, number, numbers, texts, uid
from viewers.stack import FrameKey, SlicePlane, passes, slice_plane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

__all__ = ["frame_passes", "frame_planes", "nuclear_directions"]

_STATED: Final = (
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
)
"""Functional groups that number frames at one place."""
_TIMED: Final = (
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
)
"""Functional groups that say when a frame was taken."""
_POSITIONS: Final = frozenset(
    {0x00200032, 0x00200037, 0x00209057, 0x00209056, 0x00209301, 0x00209302, 0x0048021E, 0x0048021F}
    | {0x0040072A, 0x0040073A, 0x0040074A, 0x00201041}
)
"""What a dimension of frames points to when it counts places: position and orientation in the patient, the
volume or the slide, and where a frame stands in its stack."""
_NUCLEAR: Final = "1.2.840.10008.5.1.4.1.1.20"
_RECONSTRUCTED: Final = frozenset({"RECON TOMO", "RECON GATED TOMO"})
_NUCLEAR_PASSES: Final = (
    "EnergyWindowVector",
    "RRIntervalVector",
    "TimeSlotVector",
)
"""Which pass each frame of a nuclear image belongs to, beside its slice."""
_SAME_MM: Final = 0.01


def frame_planes(dataset: Dataset, count: int) -> tuple[SlicePlane | None, ...]:
    """Collect where each frame lies; empty when none says."""
    if get(dataset, "PerFrameFunctionalGroupsSequence") is not None:
        planes = tuple(_frame_plane(dataset, index) for index in range(count))
    elif count > 1:
        planes = _dose_planes(dataset, count) or _nuclear_planes(dataset, count)
    else:
        planes = (_plane(dataset),)
    return planes if any(plane is not None for plane in planes) else ()


def _plane(source: Dataset) -> SlicePlane | None:
    return slice_plane(numbers(source, "ImagePositionPatient"), numbers(source, "ImageOrientationPatient"))


def _frame_plane(dataset: Dataset, frame: int) -> SlicePlane | None:
    place = group_item(dataset, frame, "PlanePositionSequence")
    facing = group_item(dataset, frame, "PlaneOrientationSequence")
    if place is None or facing is None:
        return None
    return slice_plane(numbers(place, "ImagePositionPatient"), numbers(facing, "ImageOrientationPatient"))


def _following(first: SlicePlane, away_mm: Sequence[float]) -> tuple[SlicePlane | None, ...]:
    """Return planes at distances from a first one along its normal."""
    normal = first.normal
    return tuple(
        slice_plane([a + away * b for a, b in zip(first.position_mm, normal, strict=True)], first.cosines)
        for away in away_mm
    )


def _dose_planes(dataset: Dataset, count: int) -> tuple[SlicePlane | None, ...]:
    """Return the planes of a dose grid: offsets from the first plane, or coordinates along the patient."""
    offsets, first = numbers(dataset, "GridFrameOffsetVector"), _plane(dataset)
    if len(offsets) != count or first is None:
        return ()
    if offsets[0] == 0:
        return _following(first, offsets)
    x, y, z = first.position_mm
    across = abs(first.normal[2])
    if abs(offsets[0] - z) > _SAME_MM or across < 1 - 1e-6:
        return ()
    return tuple(slice_plane((x, y, offset), first.cosines) for offset in offsets)


def nuclear_directions(dataset: Dataset) -> list[float]:
    """Directions of the rows and columns of a nuclear reconstruction; empty for everything else."""
    detectors = _detectors(dataset)
    return numbers(detectors[0], "ImageOrientationPatient") if detectors else []


def _detectors(dataset: Dataset) -> Sequence[Dataset]:
    kind = [text.upper() for text in texts(dataset, "ImageType")[2:3]]
    if uid(dataset, "SOPClassUID") != _NUCLEAR or _RECONSTRUCTED.isdisjoint(kind):
        return ()
    return items(dataset, "DetectorInformationSequence")


def _nuclear_planes(dataset: Dataset, count: int) -> tuple[SlicePlane | None, ...]:
    """Return the slices of a reconstruction; the sign of their spacing says which way they follow."""
    detectors = _detectors(dataset)
    first = _plane(detectors[0]) if detectors else None
    step = number(dataset, "SpacingBetweenSlices")
    slices = numbers(dataset, "SliceVector")
    if not slices and integer(dataset, "NumberOfSlices") == count:
        slices = [float(n) for n in range(1, count + 1)]
    if first is None or not step or len(slices) != count:
        return ()
    return _following(first, [(slice_ - 1) * step for slice_ in slices])


def frame_passes(dataset: Dataset, planes: tuple[SlicePlane | None, ...]) -> tuple[int, ...]:
    """Tell segments, time points, echoes and b-values of an image apart; see :mod:`viewers.passes`."""
    if len(planes) < 2:
        return ()
    if get(dataset, "PerFrameFunctionalGroupsSequence") is None:
        return passes(planes, _nuclear_keys(dataset, len(planes)))
    kept = [n for n, pointer in enumerate(_dimensions(dataset)) if pointer not in _POSITIONS]
    return passes(planes, [_pass_key(dataset, index, kept) for index in range(len(planes))])


def _nuclear_keys(dataset: Dataset, count: int) -> list[FrameKey]:
    vectors = [numbers(dataset, keyword) for keyword in _NUCLEAR_PASSES]
    stated = [[(value,) for value in vector] for vector in vectors if len(vector) == count]
    return [FrameKey(stated=tuple(vector[n] for vector in stated)) for n in range(count)]


def _dimensions(dataset: Dataset) -> list[int | None]:
    """Return what each entry of a frame's dimension index points to."""
    return [integer(item, "DimensionIndexPointer") for item in items(dataset, "DimensionIndexSequence")]


def _pass_key(dataset: Dataset, frame: int, dimensions: list[int]) -> FrameKey:
    content = group_item(dataset, frame, "FrameContentSequence")
    values = [] if content is None else numbers(content, "DimensionIndexValues")
    return FrameKey(
        part=_grouped(dataset, frame, "SegmentIdentificationSequence", "ReferencedSegmentNumber"),
        stated=tuple(_grouped(dataset, frame, *names) for names in _STATED),
        timed=(
            *(_grouped(dataset, frame, *names) for names in _TIMED),
            *((values[n],) if n < len(values) else () for n in dimensions),
        ),
    )


def _grouped(dataset: Dataset, frame: int, macro: str, keyword: str) -> tuple[float, ...]:
    item = group_item(dataset, frame, macro)
    value = None if item is None else number(item, keyword)
    return () if value is None else (value,)
