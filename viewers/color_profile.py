"""Colours of a scanner or camera to sRGB, by the ICC profile the file carries.

The profile is used and left behind: its texts name devices and programs and never leave this module.
"""

from __future__ import annotations

import hashlib
import io
import struct
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ColorTransform", "bare_profile", "color_transform"]

_PROFILE_BYTES: Final = 16 * 2**20
"""Scanners' profiles of large tables have about 1 MiB."""
_STEPS: Final = 9
"""Levels of each channel in the grid that is tried: 729 colours."""

_HEADER: Final = 128
_COLOR_TAGS: Final = frozenset(
    {
        b"A2B0",
        b"A2B1",
        b"A2B2",
        b"bTRC",
        b"bXYZ",
        b"chad",
        b"gTRC",
        b"gXYZ",
        b"kTRC",
        b"rTRC",
        b"rXYZ",
        b"wtpt",
    }
)
"""Elements of a profile that turn its colours into others; the rest are texts, names and measurements."""


def bare_profile(profile: bytes) -> bytes:
    """Return a profile with what its colours need and nothing else: no text, no maker, no model.

    Raises
    ------
    ValueError
        If it is no profile, or says it is longer than it is.

    References
    ----------
    ICC.1:2022 sections 7.2 (header), 7.3 (tag table), 9.2 (tags).
    """
    if len(profile) < _HEADER + 4 or profile[36:40] != b"acsp":
        raise ValueError("no profile")
    size, count = struct.unpack_from(">L", profile)[0], struct.unpack_from(">L", profile, _HEADER)[0]
    if not _HEADER + 4 + 12 * count <= size <= len(profile):
        raise ValueError("a profile of another length")
    found: dict[bytes, bytes] = {}
    for number in range(count):
        name, start, length = struct.unpack_from(">4sLL", profile, _HEADER + 4 + 12 * number)
        if name in _COLOR_TAGS and _HEADER <= start <= start + length <= size:
            found[name] = profile[start : start + length]
    at, table, body = _HEADER + 4 + 12 * len(found), b"", b""
    for name, data in found.items():
        table += struct.pack(">4sLL", name, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(profile[:_HEADER])
    struct.pack_into(">L", header, 0, at + len(body))
    for first, last in ((4, 8), (48, 64), (80, _HEADER)):  # program, maker, model, creator, id and reserved
        header[first:last] = bytes(last - first)
    return bytes(header) + struct.pack(">L", len(found)) + table + body


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
