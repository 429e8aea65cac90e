"""Colours of a scanner or camera to sRGB, by the ICC profile the file carries.

The profile is used and left behind: its texts name devices and programs and never leave this module.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ColorTransform", "color_transform"]

_PROFILE_BYTES: Final = 16 * 2**20
"""Scanners' profiles of large tables have about 1 MiB."""
_STEPS: Final = 9
"""Levels of each channel in the grid that is tried: 729 colours."""


class ColorTransform:
    """Turns RGB or CMYK of one device into sRGB; safe to share between threads.

    Parameters
    ----------
    profile : bytes
        ICC profile of the device.
    mode : str
        ``RGB`` or ``CMYK``: what its colours are made of.

    Raises
    ------
    ValueError
        If it is no usable profile of such a device.

    References
    ----------
    ICC.1:2022 (profile format); IEC 61966-2-1 (sRGB).
    """

    def __init__(self, profile: bytes, mode: Literal["RGB", "CMYK"] = "RGB") -> None:
        self._mode: Final = mode
        self.identity: Final = hashlib.sha256(profile).digest()
        """Equal for equal profiles."""
        if len(profile) > _PROFILE_BYTES:
            raise ValueError("the profile is too large")
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            intent = ImageCms.Intent(ImageCms.getDefaultIntent(source))
            self._transform: Any = ImageCms.buildTransform(
                source, ImageCms.createProfile("sRGB"), mode, "RGB", intent
            )
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            raise ValueError(f"no usable profile of {mode}") from error

    def apply(self, colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return sRGB, shape (rows, columns, 3), of colours of shape (rows, columns, 3 or 4); 0-255."""
        picture = Pillow.fromarray(np.ascontiguousarray(colors), self._mode)
        return np.asarray(self._transform.apply(picture))

    def changes(self) -> bool:
        """Whether any colour moves by more than one level of 255: profiles of sRGB itself move none."""
        if self._mode != "RGB":
            return True
        steps = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(_STEPS, -1, 3)
        return bool(np.abs(self.apply(grid).astype(np.int16) - grid).max() > 1)


def color_transform(profile: bytes | None, mode: Literal["RGB", "CMYK"] = "RGB") -> ColorTransform | None:
    """Make the transform a profile asks for; ``None`` without a profile or when it would change nothing.

    Raises
    ------
    ValueError
        If there is a profile and it cannot be used.
    """
    if not profile:
        return None
    made = ColorTransform(profile, mode)
    return made if made.changes() else None
