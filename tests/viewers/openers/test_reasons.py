"""Reasons a user is told are words: what was found and what was expected, no name of a Python class."""

from __future__ import annotations

import re
import shutil

import pytest
from pydicom import dcmread

from tests.viewers.conftest import TEST_FILES
from tests.viewers.openers import made
from viewers.errors import (
    CorruptHeaderError,
    CorruptPixelDataError,
    CorruptTileError,
    OpenError,
    StoredImageError,
)
from viewers.geometry import SizePx
from viewers.intake import open_image
from viewers.openers import open_slide
from viewers.slide_store import keep, load

CLASS = re.compile(r"\b[A-Z]\w*(Error|Exception)\b")


def said(error):
    assert CLASS.search(str(error.value)) is None, str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("compression", "reason"),
    [("jpeg", "damaged JPEG"), ("lzw", "damaged data"), ("jpeg2000", "damaged JPEG 2000")],
)
def test_a_damaged_tile(compression, reason, tmp_path):
    """What kind of data is damaged is told."""
    path = made.write_tiff(tmp_path / "a.tif", (1,), compression=compression)
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        place, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    raw = bytearray(path.read_bytes())
    raw[place : place + length] = b"\xff" * length
    path.write_bytes(raw)
    with open_slide(path) as slide, pytest.raises(CorruptTileError) as error:
        slide.read_region((0, 0), 0, SizePx(9, 9))
    assert reason in said(error)


def test_a_missing_attribute(tmp_path):
    """The attribute a DICOM slide lacks is named."""
    made.write_wsm(tmp_path / "w")
    for path in (tmp_path / "w").glob("*.dcm"):
        dataset = dcmread(path)
        del dataset.TotalPixelMatrixColumns
        dataset.save_as(path)
    with pytest.raises(CorruptHeaderError) as error:
        open_slide(tmp_path / "w")
    assert "TotalPixelMatrixColumns is missing, expected VL WSM" in said(error)


def test_a_damaged_tiff(tmp_path):
    """A TIFF without its pages."""
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + (5000).to_bytes(4, "little") + bytes(100))
    with pytest.raises(OpenError) as error:
        open_slide(path)
    assert "unreadable pages" in said(error)


def test_a_damaged_picture(tmp_path):
    """A PNG cut short."""
    path = tmp_path / "a.png"
    source = made.write_tiff(tmp_path / "a.tif", (1,), compression="lzw")
    from PIL import Image as Pillow

    with Pillow.open(source) as picture:
        picture.save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CorruptPixelDataError) as error:
        open_image(path)
    assert "damaged PNG" in said(error)


def test_a_damaged_store(tmp_path):
    """A stored slide whose record is cut short, or gone."""
    with open_slide(made.write_tiff(tmp_path / "a.tif")) as slide:
        home = keep(slide, tmp_path / "kept")
    record = home / "slide.json"
    record.write_text(record.read_text()[:20])
    with pytest.raises(StoredImageError) as error:
        load(home)
    assert "damaged" in said(error)
    shutil.rmtree(home)
    with pytest.raises(StoredImageError) as error:
        load(home)
    assert "missing" in said(error)


def test_headers_with_nothing_to_show():
    """Real files of other kinds name no class either."""
    for name in ("reportsi.dcm", "rtplan.dcm", "CT_small.dcm"):
        with pytest.raises(OpenError) as error:
            open_slide(TEST_FILES / name)
        said(error)
