"""Overlays: kept only where they may be, drawn where they lie, as DCMTK draws them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as Pillow

from tests.viewers.phantoms import write_series
from tests.viewers.states import add_overlay
from tests.viewers.test_dicom import NOISE, RAMP, color_dataset, grey_dataset
from viewers.errors import InvalidViewError
from viewers.geometry import Region
from viewers.intake import open_image
from viewers.layer import Layer, layer_from_json, layer_of, layer_to_json
from viewers.limits import Limits
from viewers.planes import PlaneView
from viewers.store import load, save
from viewers.study import read_studies
from viewers.view import default_view, render

KEEPING = Limits(graphics=True)
DCMJ2PNM = shutil.which("dcmj2pnm")
MARKED = np.random.default_rng(3).random((40, 60)) > 0.5


def overlaid(image, **changes):
    return render(image, dataclasses.replace(default_view(image), graphics=True, **changes))


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 20))), st.integers(-5, 9), st.integers(-5, 9))
def test_a_layer_marks_what_it_was_made_of(marked, x, y):
    """Through JSON and back, and cut at the frame's edges."""
    layer = layer_of(marked, x, y, 0x6002)
    if layer is None:
        assert not marked.any()
        return
    again = layer_from_json(json.loads(json.dumps(layer_to_json(layer))))
    assert again == layer
    whole = np.zeros((60, 60), bool)
    whole[20 + y : 20 + y + marked.shape[0], 20 + x : 20 + x + marked.shape[1]] = marked
    assert np.array_equal(again.marked(10, 12), whole[20:30, 20:32])


@pytest.mark.parametrize(
    "changes",
    [{"width": 0}, {"height": 2**20, "width": 2**20}, {"x": 10**6}],
)
def test_a_layer_that_cannot_be(changes):
    """Sizes and places of records are looked at before anything is allocated."""
    with pytest.raises(ValueError, match="a size and a place"):
        dataclasses.replace(layer_of(MARKED), **changes)


def test_damaged_bits_are_an_error_of_the_view(write):
    """Neither zlib's own error nor more bytes than the layer has."""
    image = open_image(write(add_overlay(grey_dataset(RAMP), np.ones((8, 8)))), KEEPING)
    for packed in (b"no zlib", layer_of(MARKED[:2]).packed):
        broken = Layer(0, 0, 80, 80, packed)
        frames = tuple(dataclasses.replace(shown, overlays=(broken,)) for shown in image.describes.frames)
        facts = dataclasses.replace(image.describes, frames=frames)
        with pytest.raises(InvalidViewError):
            overlaid(type(image)(facts, image._source, image.digest))


def test_nothing_is_kept_unless_it_may_be(write):
    """By default an overlay is counted and left behind."""
    path = write(add_overlay(grey_dataset(RAMP), np.ones((8, 8))))
    image = open_image(path)
    assert image.overlays(0) == ()
    assert [found.key for found in image.findings][1:] == ["finding.overlays_left_out"]
    kept = open_image(path, KEEPING)
    assert [found.key for found in kept.findings][1:] == ["finding.overlays"]
    assert len(kept.overlays(0)) == 1
    assert kept.digest != image.digest


@pytest.mark.skipif(DCMJ2PNM is None, reason="DCMTK's dcmj2pnm is not installed")
@pytest.mark.parametrize("case", ["inside", "over the edge", "two", "in unused bits", "big endian"])
def test_drawn_as_dcmtk_draws_them(ct, tmp_path, write, case):
    """White where marked, the rest as before, within one grey level."""
    del ct.PixelPaddingValue
    ct.WindowCenter, ct.WindowWidth = 40, 400
    if case == "over the edge":
        add_overlay(ct, MARKED, origin=(-10, 100))
    elif case == "in unused bits":
        _embed(ct)
    else:
        add_overlay(ct, MARKED, origin=(10, 20))
    if case == "two":
        add_overlay(ct, MARKED[:30, :30], group=0x6004, origin=(90, 5))
    if case == "big endian":
        path = tmp_path / "little.dcm"
        ct.save_as(path)
        done = ["dcmconv", "+tb", str(path), str(tmp_path / "made.dcm")]
        subprocess.run(done, check=True, capture_output=True, timeout=60)
        path = tmp_path / "made.dcm"
    else:
        path = write(ct)
    ours = overlaid(open_image(path, KEEPING))[:, :, 0]
    command = [DCMJ2PNM, "-q", "+Wi", "1", "+op", str(path), str(tmp_path / "drawn.pgm")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    theirs = np.asarray(Pillow.open(tmp_path / "drawn.pgm"))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    plain = render(open_image(path), default_view(open_image(path)))[:, :, 0]
    assert (ours != plain).any()
    assert (ours[ours != plain] == 255).all()


def _embed(ct):
    """Put an overlay into the highest bit of the pixels, as files of before 2004 do."""
    marked = np.random.default_rng(4).random((128, 128)) > 0.8
    values = np.clip(ct.pixel_array.astype(np.int32), 0, 4095).astype(np.uint16)
    ct.PixelData = (values | marked.astype(np.uint16) << 15).tobytes()
    ct.PixelRepresentation, ct.BitsStored, ct.HighBit = 0, 12, 11
    for element, vr, value in (
        (0x10, "US", 128),
        (0x11, "US", 128),
        (0x40, "CS", "G"),
        (0x50, "SS", [1, 1]),
        (0x100, "US", 16),
        (0x102, "US", 15),
    ):
        ct.add_new((0x6000, element), vr, value)


def test_the_part_of_the_frame_and_its_turn(write):
    """An overlay is cut and turned with the frame it lies on, and never inverted."""
    marked = np.zeros((8, 8), bool)
    marked[2, 5] = True
    image = open_image(write(add_overlay(grey_dataset(RAMP * 0, 16), marked)), KEEPING)
    assert np.argwhere(overlaid(image)[:, :, 0] == 255).tolist() == [[2, 5]]
    cut = overlaid(image, region=Region(4, 1, 3, 2))[:, :, 0]
    assert np.argwhere(cut == 255).tolist() == [[1, 1]]
    assert np.argwhere(overlaid(image, rotation=90)[:, :, 0] == 255).tolist() == [[5, 5]]
    assert np.argwhere(overlaid(image, flipped=True)[:, :, 0] == 255).tolist() == [[2, 2]]


def test_over_colours(write):
    """Colour frames get them too."""
    marked = np.zeros(NOISE.shape[:2], bool)
    marked[1:3, 2:4] = True
    image = open_image(write(add_overlay(color_dataset(NOISE), marked)), KEEPING)
    drawn = overlaid(image)
    assert (drawn[marked] == 255).all()
    assert np.array_equal(drawn[~marked], render(image, default_view(image))[~marked])


def test_each_frame_has_its_own(write):
    """An overlay of several frames begins at the frame it names; one of a single frame lies on all."""
    frames = np.stack([RAMP, RAMP, RAMP, RAMP])
    several = np.zeros((2, 8, 8), bool)
    several[0, 0, 0] = several[1, 7, 7] = True
    image = open_image(write(add_overlay(grey_dataset(frames), several, frames=2, first=2)), KEEPING)
    assert [len(image.overlays(index)) for index in range(4)] == [0, 1, 1, 0]
    assert (image.overlays(1)[0].x, image.overlays(2)[0].x) == (0, 7)
    single = open_image(write(add_overlay(grey_dataset(frames), several[0])), KEEPING)
    assert [len(single.overlays(index)) for index in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("element", "value"),
    [(0x3000, b"\1"), (0x0010, 0), (0x0011, 65535), (0x0015, 10**6), (0x0100, 16)],
)
def test_damaged_overlays_are_left_out(write, element, value):
    """The picture opens, whatever an overlay says."""
    dataset = add_overlay(grey_dataset(RAMP), np.eye(8))
    vr = {0x3000: "OW", 0x0015: "IS"}.get(element, "US")
    dataset.add_new((0x6000, element), vr, value)
    if element == 0x0100:
        del dataset[0x6000, 0x3000]
    image = open_image(write(dataset), KEEPING)
    assert overlaid(image).shape == (8, 8, 3)


def test_stored_and_loaded_again(write, tmp_path):
    """A stored image draws the same, and its record without overlays is as it always was."""
    image = open_image(write(add_overlay(grey_dataset(RAMP), np.eye(8))), KEEPING)
    save(image, tmp_path / "kept")
    again = load(tmp_path / "kept")
    assert again.digest == image.digest
    assert np.array_equal(overlaid(again), overlaid(image))
    save(open_image(write(grey_dataset(RAMP))), tmp_path / "plain")
    record = json.loads((tmp_path / "plain" / "image.json").read_text())
    assert record["facts"]["displays"][0].keys() == {"marks", "windows", "voi_luts"}


def test_slices_of_a_series_keep_their_own(tmp_path):
    """Overlays in unused bits are those of their own slice, though the headers are the same."""
    import pydicom

    for number, path in enumerate(write_series(tmp_path / "in", count=3, shape=(8, 8))):
        dataset = pydicom.dcmread(path)
        marked = np.zeros((8, 8), bool)
        marked[number, number] = True
        add_overlay(dataset, marked).save_as(path)
    reader, studies = read_studies(tmp_path / "in", key=b"k" * 32, limits=KEEPING)
    with reader:
        image = load(studies[0].series[0].keep(tmp_path / "kept"))
    assert [(image.overlays(n)[0].x, image.overlays(n)[0].y) for n in range(3)] == [(0, 0), (1, 1), (2, 2)]
    plane = default_view(image, 0, PlaneView("axial", image.describes.planes[1].position_mm[2]))
    drawn = dataclasses.replace(plane, graphics=True)
    assert np.array_equal(render(image, drawn), render(image, plane))
