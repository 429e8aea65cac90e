"""Headers of one study to series: what belongs together is told by geometry and time, not by names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from viewers.findings import Finding, finding
from viewers.geometry import SizePx
from viewers.origin import origin
from viewers.passes import Placed, told_apart
from viewers.series import Series
from viewers.stack import TILT_DEGREES, Stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from viewers.headers import Common, Header
    from viewers.image import Origin
    from viewers.limits import Limits
    from viewers.series import Instance

__all__ = ["by_patient", "once", "series_of", "shared_studies"]

_LONGEST_MS: Final = 3.6e6
"""After a heartbeat; more is a mistake of the header."""


def series_of(name: str, headers: list[Header], key: bytes, limits: Limits) -> Iterator[Series]:
    """Split what one UID names into series that are one scan each, in the order of their places.

    Parameters
    ----------
    name : str
        UID of the series; only a pseudonym of it, made with ``key``, goes on.
    """
    parts = [part for group in _alike(headers) for part in _times(group)]
    for number, part in enumerate(parts, 1):
        found = [finding("series_split", part=number, parts=len(parts))] if len(parts) > 1 else []
        yield _one_series(_origin(name, number, part[0], key), part, found, limits)


def _origin(name: str, number: int, first: Header, key: bytes) -> Origin:
    return origin(key, first.study, (name, number), first.space, first.patient)


def _one_series(origin: Origin, headers: list[Header], found: list[Finding], limits: Limits) -> Series:
    first = headers[0]
    planes = first.common.planes or tuple(header.instance.plane for header in headers)
    stack = Stack(planes, first.common.spacing)
    missing = sum(plane is None for plane in stack.planes)
    if missing and len(stack.planes) > 1:
        found.append(finding("position_missing", count=missing))
    if len(stack.planes) > 2 and not missing:
        found += _stack_findings(stack)
    return Series(
        origin.series,
        first.common.modality,
        first.common.facts,
        SizePx(*first.common.size),
        first.common.kind[0] == "color",
        stack,
        tuple(_watched(header) if stack.is_one_place() else header.instance for header in headers),
        tuple(found),
        limits,
        origin,
    )


def _watched(header: Header) -> Instance:
    """Image of a place that was watched, with its time."""
    _, _, trigger, _ = header.time or ((),) * 4
    known = len(trigger) == 1 and abs(trigger[0]) < _LONGEST_MS
    return replace(header.instance, begins_s=trigger[0] / 1000) if known else header.instance


def once(headers: Sequence[Header]) -> list[Header]:
    """Keep one of each SOP instance of a patient, the first that was read."""
    return list({(header.sop, header.patient): header for header in reversed(headers)}.values())[::-1]


def shared_studies(headers: Iterable[Header]) -> dict[str, int]:
    """Count the patients of each study UID under which several stand, as broken exports make them.

    Files that name no patient count as one of their own; pictures, which have no header, do not count.
    """
    patients: dict[str, set[str]] = {}
    for header in headers:
        if header.sop != header.series:  # a picture's, see viewers.headers.picture_header
            patients.setdefault(header.study, set()).add(header.patient)
    return {study: len(several) for study, several in patients.items() if len(several) > 1}


def by_patient(headers: Sequence[Header]) -> list[Header]:
    """Give each patient of a shared study UID a study, series and coordinates of their own."""
    shared = shared_studies(headers)
    return [_own(header) if header.study in shared else header for header in headers]


def _own(header: Header) -> Header:
    if header.sop == header.series:
        return header
    patient = header.patient
    return replace(
        header,
        study=f"{header.study}\0{patient}",
        series=f"{header.series}\0{patient}",
        space=f"{header.space}\0{patient}" if header.space else "",
    )


def _alike(headers: list[Header]) -> list[list[Header]]:
    """Split images of one series that differ in size, kind, spacing, orientation or having a position."""
    groups: list[list[Header]] = []
    for header in headers:
        for group in groups:
            if _same(group[0], header):
                group.append(header)
                break
        else:
            groups.append([header])
    return groups


def _same(one: Header, other: Header) -> bool:
    if one.common is not other.common and not _same_kind(one.common, other.common):
        return False
    a, b = one.instance.plane, other.instance.plane
    if one.common.frames > 1 or other.common.frames > 1 or (a is None) != (b is None):
        return False
    return a is None or b is None or a.parallel(b)


def _same_kind(one: Common, other: Common) -> bool:
    if (one.size, one.kind, one.modality) != (other.size, other.kind, other.modality):
        return False
    if (one.spacing is None) != (other.spacing is None):
        return False
    if one.spacing is None or other.spacing is None:
        return True
    return all(abs(x - y) <= 1e-3 * x for x, y in zip(one.spacing, other.spacing, strict=True))


def _times(group: list[Header]) -> list[list[Header]]:
    """Split a group into passes through the patient, each sorted along the normal.

    Echoes, time points and acquisitions that the headers tell apart are separated by them, the rest by
    instance number; see :mod:`viewers.passes`.
    """
    first = group[0].instance.plane
    if first is None:
        return [sorted(group, key=_by_number)]
    normal = first.normal
    return [[group[n] for n in part] for part in told_apart([_placed(header, normal) for header in group])]


def _placed(header: Header, normal: tuple[float, float, float]) -> Placed:
    plane = header.instance.plane
    place = round(plane.along(normal), 2) if plane is not None else 0.0
    echo, position, trigger, diffusion = header.time or ((),) * 4
    stated = (echo, position, diffusion, (float(header.acquisition),))
    return Placed(place, stated, (position, trigger), _by_number(header))


def _by_number(header: Header) -> tuple[int, int, int]:
    number = header.instance.number
    return header.acquisition, number if number is not None else header.instance.index, header.instance.index


def _stack_findings(stack: Stack) -> list[Finding]:
    if stack.is_one_place():
        return []
    found = []
    uneven = stack.uneven()
    if uneven is not None:
        found.append(finding("uneven_spacing", smallest=round(uneven[0], 3), largest=round(uneven[2], 3)))
    shifted = stack.shifted_mm() if uneven is None else 0.0
    if shifted:
        return [*found, finding("slices_shifted", distance=round(shifted, 2))]
    tilt = stack.tilt_degrees()
    if tilt > TILT_DEGREES:
        found.append(finding("gantry_tilt", degrees=round(tilt, 1)))
    return found
