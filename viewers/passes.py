"""Which images go through the patient together, where places are taken more than once.

Echoes, time points and repeated acquisitions share the places of a scan. What a header states about them is
used where it tells whole passes apart, and not where it only differs from image to image, as the time
after the heartbeat does from breath-hold to breath-hold: such times are ranked at each place instead. Images
that cannot be told apart stay together, with their places doubled, so that no volume is made of a mixture.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Placed", "told_apart"]

Value = tuple[float, ...]

_ABOUT: Final = 0.75
"""Part of the places that every time point has to cover: some slices may be missing."""
_MOST_PARTS: Final = 2
"""Acquisitions for each image at the place with most of them: scans that overlap a little are few, and
those of one table position each are many."""
_FEW: Final = 2
"""Images that stay alone although others lie at the same place."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One image as far as passes go."""

    place: float
    """Along the normal, in millimetres, rounded: the same place is the same number."""
    stated: tuple[Value, ...]
    """What numbers passes, the same entries for all images: echo, time point, acquisition. Empty where the
    header says nothing."""
    timed: tuple[Value, ...]
    """When it was taken, as measured: not the same for the images of one pass."""
    order: tuple[float, ...]
    """Order of the images where nothing else tells."""


def told_apart(images: Sequence[Placed]) -> list[list[int]]:
    """Split images of one direction into passes.

    Returns
    -------
    list of list of int
        Indices of the images of each pass, in the order of their places; of a pass that stays at one place,
        in the order of time. Passes are in the order of what tells them apart.
    """
    everything = list(range(len(images)))
    if len({image.place for image in images}) < 2:
        return [_by_time(images, everything)] if everything else []
    parts = [everything]
    stated = [([image.stated[n] for image in images], True) for n in range(len(images[0].stated))]
    timed = [([image.timed[n] for image in images], False) for n in range(len(images[0].timed))]
    for values, numbered in (*stated, *timed):
        parts = list(chain.from_iterable(_split(images, part, values, numbered=numbered) for part in parts))
    return _joined(images, list(chain.from_iterable(_layers(images, part) for part in parts)))


def _taken(images: Sequence[Placed], part: Iterable[int]) -> Counter[float]:
    return Counter(images[n].place for n in part)


def _split(
    images: Sequence[Placed], part: list[int], values: Sequence[Value], *, numbered: bool
) -> list[list[int]]:
    """Split a part in which places are doubled by stated values, if these go through all of it."""
    taken = _taken(images, part)
    most = max(taken.values())
    groups: dict[Value, list[int]] = {}
    for n in part:
        groups.setdefault(values[n], []).append(n)
    if most == 1 or len(groups) == 1:
        return [part]
    covered = [_taken(images, group) for group in groups.values()]
    everywhere = all(len(places) >= _ABOUT * len(taken) for places in covered)
    once = max(max(places.values()) for places in covered) == 1
    if not everywhere and not (numbered and once and len(groups) <= _MOST_PARTS * most):
        return [part]
    return [group for _, group in sorted(groups.items())]


def _layers(images: Sequence[Placed], part: list[int]) -> list[list[int]]:
    """Split what no value tells apart: by the order at each place, where that cannot mix passes."""
    taken = _taken(images, part)
    counts = set(taken.values())
    if counts == {1}:
        return [_by_place(images, part)]
    if len(counts) == 1:
        for number in range(len(images[0].timed)):
            times = {(images[n].place, images[n].timed[number]) for n in part}
            if all(time for _, time in times) and len(times) == len(part):
                return _ranked(images, _by_values(part, [image.timed[number] for image in images]))
    ordered = sorted(part, key=lambda n: images[n].order)
    runs: list[list[int]] = []
    seen: set[float] = set()
    for n in ordered:
        if not runs or images[n].place in seen:
            runs.append([])
            seen = set()
        runs[-1].append(n)
        seen.add(images[n].place)
    if len(runs) == max(counts):
        return [_by_place(images, run) for run in runs]
    # At each place one after the other. Where one place lacks an image, nothing says which.
    return _ranked(images, ordered) if len(counts) == 1 else [_by_place(images, ordered)]


def _by_values(part: Iterable[int], values: Sequence[Value]) -> list[int]:
    return sorted(part, key=values.__getitem__)


def _ranked(images: Sequence[Placed], ordered: Iterable[int]) -> list[list[int]]:
    """Give the first image at each place to the first pass, and so on."""
    layers: list[list[int]] = []
    taken: Counter[float] = Counter()
    for n in ordered:
        place = images[n].place
        if taken[place] == len(layers):
            layers.append([])
        layers[taken[place]].append(n)
        taken[place] += 1
    return [_by_place(images, layer) for layer in layers]


def _joined(images: Sequence[Placed], passes: list[list[int]]) -> list[list[int]]:
    """Join images that are each alone at the same place: a place that was watched is one pass."""
    alone = Counter(images[one[0]].place for one in passes if len(one) == 1)
    made: list[list[int]] = []
    watched: dict[float, list[int]] = {}
    for one in passes:
        place = images[one[0]].place
        if len(one) > 1 or alone[place] <= _FEW:
            made.append(one)
        elif place in watched:
            watched[place] += one
        else:
            watched[place] = list(one)
            made.append(watched[place])
    for joined in watched.values():
        joined[:] = _by_time(images, joined)
    return made


def _by_place(images: Sequence[Placed], part: Iterable[int]) -> list[int]:
    return sorted(part, key=lambda n: (images[n].place, images[n].order))


def _by_time(images: Sequence[Placed], part: list[int]) -> list[int]:
    """Sort by the first time that all images have and no two share, else by their order."""
    for number in range(len(images[0].timed)):
        times = {n: images[n].timed[number] for n in part}
        if all(times.values()) and len(set(times.values())) == len(part):
            return sorted(part, key=lambda n: times[n])
    return sorted(part, key=lambda n: images[n].order)
