"""The last step of every opener: colours, and what is worth saying of any slide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from viewers.color_profile import bare_profile, color_transform
from viewers.findings import finding
from viewers.slide import Slide

if TYPE_CHECKING:
    from viewers.slide import SlideFacts, SlidePixels

__all__ = ["opened_slide"]


def opened_slide(facts: SlideFacts, pixels: SlidePixels, profile: bytes | None = None) -> Slide:
    """Make the slide an opener returns, with what its levels and profile lack noted.

    Parameters
    ----------
    profile : bytes, optional
        ICC profile of its colours; what is kept of it is what its colours need.
    """
    found = list(facts.findings)
    colors = None
    try:
        profile = bare_profile(profile) if profile else None
        colors = color_transform(profile)
    except ValueError:
        found.append(finding("color_profile_unusable"))
    if colors is not None:
        found.append(finding("color_profile_applied"))
    if facts.mpp is None:
        found.append(finding("mpp_missing"))
    return Slide(replace(facts, findings=tuple(found)), pixels, colors, profile=profile if colors else None)
