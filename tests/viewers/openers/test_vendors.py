"""Slides of scanners' own formats: opened, drawn, kept and drawn again, with nothing of their names."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.viewers.openers import made, vendors
from viewers.errors import CorruptHeaderError, MissingCompanionError
from viewers.geometry import SizePx
from viewers.openers import is_slide, open_slide
from viewers.slide_intake import SlideIntake
from viewers.slide_store import keep, load

WRITERS = {
    "hamamatsu vms": vendors.write_vms,
    "mirax": vendors.write_mirax,
    "hamamatsu ndpi": lambda folder: vendors.write_ndpi(folder / "slide.ndpi"),
    "leica": lambda folder: vendors.write_scn(folder / "slide.scn"),
    "philips": lambda folder: vendors.write_philips(folder / "slide.tiff"),
    "trestle": lambda folder: vendors.write_trestle(folder / "slide.tif"),
}


@pytest.fixture(params=sorted(WRITERS))
def vendor(request):
    """Name of a kind of slide."""
    return request.param


def drawn_right(slide):
    """Compare the upper left corner at every level of whole halves with the picture it was made of."""
    whole = made.tissue(*vendors.WHOLE) if slide.vendor == "hamamatsu" else made.tissue()
    for number, level in enumerate(slide.levels):
        if level.downsample not in {1, 2, 4}:
            continue
        factor = int(level.downsample)
        expected = made.reduced(whole, factor)[:100, :150]
        got = slide.read_region((0, 0), number, SizePx(150, 100)).astype(int)
        assert np.abs(got - expected).max() <= 24, (number, factor)
        assert np.abs(got - expected).mean() <= 2, (number, factor)


def test_a_scanners_own_slide_is_drawn_as_it_was_written(vendor, tmp_path):
    """Pixels stand where they should at every level; kind and microns per pixel are read from the file."""
    path = WRITERS[vendor](tmp_path)
    assert is_slide(path)
    with open_slide(path) as slide:
        assert slide.vendor == vendor.split()[0]
        assert len(slide.levels) >= 3
        assert slide.mpp is not None
        assert (slide.mpp.x, slide.mpp.y) == pytest.approx((vendors.MPP, vendors.MPP), rel=0.01)
        drawn_right(slide)


def test_a_scanners_own_slide_is_kept_and_says_so(vendor, tmp_path):
    """Its files are kept under other names, with a finding; what is drawn of them is the same."""
    path = WRITERS[vendor](_made(tmp_path / "given"))
    with open_slide(path) as slide:
        whole = slide.read_region((0, 0), 0, SizePx(300, 200))
        kept = keep(slide, tmp_path / "kept")
    shutil.rmtree(tmp_path / "given")
    with load(kept) as stored:
        assert "finding.original_kept" in {found.key for found in stored.findings}
        np.testing.assert_array_equal(stored.read_region((0, 0), 0, SizePx(300, 200)), whole)


def _made(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", ["mirax", "hamamatsu vms"])
def test_files_that_arrive_under_other_names_find_each_other(kind, tmp_path):
    """Files sent one by one come with the names their owner gave them, in whatever order."""
    given = _made(tmp_path / "given")
    WRITERS[kind](given)
    paths = sorted((path for path in given.rglob("*") if path.is_file()), reverse=True)
    names = [f"case 7/{path.relative_to(given).as_posix()}" for path in paths]
    sent = _made(tmp_path / "sent")
    for number, path in enumerate(paths):
        path.rename(sent / str(number))
    with SlideIntake() as intake:
        kept = intake.open([sent / str(n) for n in range(len(paths))], tmp_path / "kept", names=names)
    with load(kept) as stored:
        drawn_right(stored)


@pytest.mark.parametrize(("kind", "lost"), [("mirax", "Data0000.dat"), ("hamamatsu vms", "part.jpg")])
def test_a_file_that_is_missing_is_named_as_missing(kind, lost, tmp_path):
    """A slide without one of its files says how many are there and how many are expected."""
    path = WRITERS[kind](tmp_path)
    next(tmp_path.rglob(lost)).unlink()
    with pytest.raises(MissingCompanionError):
        open_slide(path)


def test_a_cut_index_is_a_named_error(tmp_path):
    """MIRAX whose index ends too early is refused by name."""
    path = vendors.write_mirax(tmp_path)
    index = tmp_path / "slide" / "Index.dat"
    index.write_bytes(index.read_bytes()[:48])
    with pytest.raises(CorruptHeaderError):
        open_slide(path)


@pytest.mark.parametrize("kind", ["mirax", "hamamatsu vms"])
def test_a_main_file_alone_is_no_picture(kind, tmp_path):
    """What MIRAX's main file is by itself, a small JPEG, is not shown in the slide's place."""
    path = WRITERS[kind](_made(tmp_path / "given"))
    alone = path.rename(tmp_path / path.name)
    with pytest.raises(MissingCompanionError):
        open_slide(alone)
    assert not is_slide(alone)
