"""Windows to choose from: usual ones by modality and body part, and ones computed from the pixels.

Keys are stable and in no language; the catalogue translates ``preset.<key>``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from viewers.window import CODES, CodeMap, NamedWindow, Window, range_window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["CT_PRESETS", "PIXEL_KEYS", "ct_presets", "pixel_windows"]

CT_PRESETS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "soft_tissue": (40, 400),
        "lung": (-600, 1500),
        "mediastinum": (40, 400),
        "bone": (500, 2000),
        "brain": (40, 80),
        "stroke": (35, 40),
        "subdural": (75, 215),
        "posterior_fossa": (35, 150),
        "temporal_bone": (700, 4000),
        "sinus": (300, 2000),
        "neck": (50, 350),
        "abdomen": (60, 400),
        "liver": (80, 150),
        "angiography": (300, 600),
        "spine": (50, 250),
    }
)
"""Centre and width in Hounsfield units, as usual in reading rooms."""

PIXEL_KEYS: Final = ("stored", "full_range", "auto")
"""``stored``: everything the stored bits can say. ``full_range``: smallest to largest value of this frame.
``auto``: 1st to 99th percentile of this frame; padding never counts."""

_BY_BODY_PART: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "HEAD": ("brain", "subdural", "stroke", "bone", "temporal_bone", "sinus", "posterior_fossa"),
        "BRAIN": ("brain", "stroke", "subdural", "posterior_fossa", "bone"),
        "SKULL": ("bone", "brain", "temporal_bone", "sinus"),
        "NECK": ("neck", "soft_tissue", "bone"),
        "CHEST": ("mediastinum", "lung", "bone"),
        "LUNG": ("lung", "mediastinum", "bone"),
        "HEART": ("mediastinum", "angiography", "lung"),
        "ABDOMEN": ("abdomen", "liver", "lung", "bone"),
        "LIVER": ("liver", "abdomen", "bone"),
        "PELVIS": ("soft_tissue", "bone"),
        "SPINE": ("spine", "bone", "soft_tissue"),
    }
)


def ct_presets(body_part: str) -> tuple[NamedWindow, ...]:
    """Return every CT preset, those usual for the body part (BodyPartExamined, or empty) first."""
    first = _BY_BODY_PART.get(body_part, _BY_BODY_PART["SPINE"] if body_part.endswith("SPINE") else ())
    keys = dict.fromkeys((*first, *CT_PRESETS))
    return tuple(NamedWindow(key, Window(*CT_PRESETS[key]), "preset") for key in keys)


def pixel_windows(
    codes: NDArray[np.uint16], code_map: CodeMap, stored: tuple[float, float]
) -> tuple[NamedWindow, ...]:
    """Windows computed from one frame, in the order of :data:`PIXEL_KEYS`.

    Parameters
    ----------
    codes : ndarray of uint16, shape (rows, columns)
    stored : tuple of (low, high)
        Modality values of the smallest and the largest value the stored bits can hold.
    """
    counts = np.bincount(codes.reshape(-1), minlength=CODES)
    counts[code_map.padded()] = 0
    present = np.flatnonzero(counts)
    if present.size == 0:
        edges = [stored, stored, stored]
    else:
        value = code_map.values()[present]
        order = np.argsort(value, kind="stable")
        value, cumulative = value[order], np.cumsum(counts[present][order])
        low, high = (value[np.searchsorted(cumulative, cumulative[-1] * part)] for part in (0.01, 0.99))
        full = (float(value[0]), float(value[-1]))
        edges = [stored, full, (float(low), float(high)) if high > low else full]
    return tuple(
        NamedWindow(key, range_window(*edge), "pixels") for key, edge in zip(PIXEL_KEYS, edges, strict=True)
    )
