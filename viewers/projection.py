"""Slabs of a volume seen as one picture: maximum, minimum and mean along the line of sight."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from viewers.volume import Plane, PlaneSlice, Volume

__all__ = ["PROJECTIONS", "Projection", "project", "slab"]

Projection = Literal["none", "mip", "minip", "mean"]

PROJECTIONS: Final[Mapping[str, np.ufunc]] = MappingProxyType(
    {"mip": np.maximum, "minip": np.minimum, "mean": np.add}
)


def project(
    volume: Volume,
    plane: Plane,
    projection: Projection = "mip",
    low_mm: float | None = None,
    high_mm: float | None = None,
) -> PlaneSlice:
    """Join the planes between two positions, or all of them.

    The mean of whole numbers is rounded half to even, so that it is of the volume's dtype again.

    Raises
    ------
    VolumeError
        If no plane of the volume lies in the slab.
    """
    positions = volume.positions_mm(plane)
    low = float(positions[0]) if low_mm is None else low_mm
    high = float(positions[-1]) if high_mm is None else high_mm
    made, count = volume.reduced(plane, low, high, PROJECTIONS[projection])
    if projection != "mean":
        return made
    return replace(made, values=_mean(made.values, count, volume.array.dtype))


def _mean(sums: NDArray[Any], count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    mean = sums / count
    return (mean if dtype.kind == "f" else np.rint(mean)).astype(dtype)


def slab(
    volume: Volume, plane: Plane, position_mm: float, projection: Projection, thickness_mm: float
) -> PlaneSlice:
    """Plane at a position, or the projection of the slab of a thickness around it.

    A slab takes in the planes of the volume whose places lie in it; one that is thinner than their
    distance may hold none, and shows the plane at its position.

    Raises
    ------
    VolumeError
        If the position is outside of the volume.
    """
    cut = volume.reslice(plane, position_mm)
    positions = volume.positions_mm(plane)
    low, high = position_mm - thickness_mm / 2, position_mm + thickness_mm / 2
    inside = np.count_nonzero((positions >= low - 1e-6) & (positions <= high + 1e-6))
    if projection == "none" or inside < 2:
        return cut
    return replace(project(volume, plane, projection, low, high), affine=cut.affine)
