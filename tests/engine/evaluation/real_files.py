"""Real images the demonstration model never saw, from pydicom's and scikit-image's packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import skimage

from engine.messages import ImagePart

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FILES", "real_images"]

_DICOM = Path(pydicom.__file__).parent / "data" / "test_files"
_PICTURES = Path(skimage.__file__).parent / "data"
FILES: dict[Path, str] = {
    _DICOM / "CT_small.dcm": "CT",
    _DICOM / "693_J2KI.dcm": "CT",
    _DICOM / "MR_small.dcm": "MR",
    _DICOM / "examples_overlay.dcm": "MR",
    _DICOM / "examples_rgb_color.dcm": "US",
    _DICOM / "examples_palette.dcm": "US",
    _DICOM / "JPEG2000.dcm": "NM",
    _PICTURES / "retina.jpg": "fundus",
    _PICTURES / "ihc.png": "histology",
    _DICOM / "image_dfl.dcm": "",  # a test pattern: nothing to recognise
}
"""File to modality as ``engine.training.answers`` spells it."""


def real_images() -> Iterator[tuple[str, str, ImagePart]]:
    """Each file's name, true modality and its default view, drawn as the viewer draws it."""
    from viewers.intake import open_image
    from viewers.view import default_view, render

    for path, modality in FILES.items():
        image = open_image(path)
        yield path.name, modality, ImagePart(render(image, default_view(image)))
