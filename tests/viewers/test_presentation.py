"""Presentation states: what they say of window, turn, part, shutters and drawings, as DCMTK shows it."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.sequence import Sequence

from i18n.text import visual_order
from tests.viewers.conftest import lut_item
from tests.viewers.phantoms import write_series
from tests.viewers.states import (
    COLOR,
    add_overlay,
    annotation,
    item,
    layer,
    polyline,
    reference,
    state,
    text,
)
from tests.viewers.test_dicom import NOISE, color_dataset, grey_dataset
from viewers.browser import browser_frame
from viewers.errors import InvalidViewError
from viewers.geometry import Region
from viewers.limits import Limits
from viewers.store import load
from viewers.study import read_studies
from viewers.view import View, default_view, presented_view, render
from viewers.window import Window
from viewers.worker import Intake

DCMP2PGM = shutil.which("dcmp2pgm")
KEEPING = Limits(graphics=True)
HOUNSFIELD = {"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}
NAME = "مريم العبدالله"


def voi(center, width):
    return Sequence([item(WindowCenter=center, WindowWidth=width)])


@pytest.fixture
def seen(tmp_path):
    """Return a function that reads files together and opens the first series."""

    def look(*datasets, limits=KEEPING, visual_order=str):
        folder = tmp_path / "in"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for number, dataset in enumerate(datasets):
            dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        reader, studies = read_studies(folder, key=b"k" * 32, limits=limits, visual_order=visual_order)
        with reader:
            series = studies[0].series[0]
            kept = load(series.keep(tmp_path / "kept"))
            return kept, [found.key for found in (*reader.findings, *kept.findings)]

    return look


CASES = {
    "window": {},
    "inverse": {"PresentationLUTShape": "INVERSE"},
    "stored values": {"RescaleIntercept": 0, "SoftcopyVOILUTSequence": voi(1100, 300)},
    "other slope": {"RescaleSlope": 2, "RescaleIntercept": 7, "SoftcopyVOILUTSequence": voi(2107, 600)},
    "quarter turn": {"ImageRotation": 90, "ImageHorizontalFlip": "N"},
    "half turn": {"ImageRotation": 180, "ImageHorizontalFlip": "N"},
    "flipped": {"ImageRotation": 0, "ImageHorizontalFlip": "Y"},
    "turned, then flipped": {"ImageRotation": 90, "ImageHorizontalFlip": "Y"},
    "turned on, then flipped": {"ImageRotation": 270, "ImageHorizontalFlip": "Y"},
    "VOI LUT": {
        "SoftcopyVOILUTSequence": Sequence([item(VOILUTSequence=lut_item(-200, 12, np.arange(500) * 8))])
    },
    "presentation LUT": {
        "PresentationLUTShape": None,
        "PresentationLUTSequence": lut_item(0, 16, np.linspace(0, 255.99, 4096) ** 2),
    },
}


@pytest.mark.skipif(DCMP2PGM is None, reason="DCMTK's dcmp2pgm is not installed")
@pytest.mark.parametrize("name", CASES)
def test_shown_as_dcmtk_shows_it(ct, seen, tmp_path, name):
    """Windows in the state's own values, turns, inversion and tables, within one grey level."""
    del ct.PixelPaddingValue
    ct.WindowCenter, ct.WindowWidth = 40, 400
    wanted = state(ct, **(HOUNSFIELD | {"SoftcopyVOILUTSequence": voi(100, 300)} | CASES[name]))
    image, found = seen(ct, wanted)
    assert "finding.presentations" in found
    ours = render(image, presented_view(image, 0, 1))[:, :, 0]
    target = tmp_path / "drawn.pgm"
    command = [
        DCMP2PGM,
        "-q",
        "-p",
        str(tmp_path / "in" / "1.dcm"),
        str(tmp_path / "in" / "0.dcm"),
        str(target),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    theirs = np.asarray(Pillow.open(target))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert (ours != render(image, default_view(image))[:, :, 0]).any()


def test_part_of_the_frame(ct, seen):
    """The displayed area is the view's region, whatever corner is named first."""
    for area in ([20, 30, 99, 119], [20, 119, 99, 30], [99, 119, 20, 30]):
        image, _ = seen(ct, state(ct, area=area))
        assert presented_view(image, 0, 1).region == Region(19, 29, 80, 90)
    for area in ([1, 1, 128, 128], [-50, -50, 500, 500]):
        image, _ = seen(ct, state(ct, area=area))
        assert presented_view(image, 0, 1).region is None


def test_shutters_hide(ct, seen):
    """What is outside of the shutter is black in the state's view, and only there."""
    edges = dict(zip(("Left", "Right"), (20, 100), strict=True), Upper=10, Lower=90)
    shutter = {
        f"Shutter{side}{'Vertical' if side in {'Left', 'Right'} else 'Horizontal'}Edge": value
        for side, value in edges.items()
    }
    image, _ = seen(ct, state(ct, ShutterShape="RECTANGULAR", **shutter), limits=Limits())
    view = presented_view(image, 0, 1)
    drawn = render(image, view)[:, :, 0]
    shown = np.zeros((128, 128), bool)
    shown[9:90, 19:100] = True
    assert not drawn[~shown].any()
    assert np.array_equal(
        drawn[shown], render(image, dataclasses.replace(view, presentation=None))[:, :, 0][shown]
    )
    assert np.array_equal(
        render(image, dataclasses.replace(view, inverted=True))[:, :, 0][~shown], drawn[~shown]
    )


def test_drawings_lie_where_they_are_said_to(ct, seen):
    """In pixels of the image and in parts of the screen, also when that is turned."""
    line = polyline([(10.5, 20.5), (30.5, 20.5)])
    for rotation, flip, ends in (
        (0, "N", [(0.5, 0.25), (0.75, 0.25)]),
        (90, "N", [(0.75, 0.5), (0.75, 0.75)]),
        (180, "Y", [(0.5, 0.75), (0.75, 0.75)]),
    ):
        on_screen = polyline(ends, units="DISPLAY")
        wanted = state(
            ct,
            ImageRotation=rotation,
            ImageHorizontalFlip=flip,
            GraphicLayerSequence=layer(),
            GraphicAnnotationSequence=Sequence([annotation(line, on_screen)]),
        )
        image, _ = seen(ct, wanted)
        marked = image.presentations(0)[0].drawn.marked(128, 128)
        places = {tuple(place) for place in np.argwhere(marked).tolist()}
        assert {(20, column) for column in range(10, 31)} <= places
        assert {(32, column) for column in range(65, 96)} <= places
        assert len(places) == 21 + 33


def test_shapes(ct, seen):
    """Circles, ellipses, curves, points and filled shapes."""
    shapes = (
        polyline([(30, 30), (40, 30)], kind="CIRCLE"),
        polyline([(70, 80), (110, 80), (90, 70), (90, 90)], kind="ELLIPSE", filled="Y"),
        polyline([(20, 100), (40, 90), (60, 100)], kind="INTERPOLATED"),
        polyline([(100, 20)], kind="POINT"),
    )
    sequence = Sequence([annotation(*shapes)])
    image, _ = seen(ct, state(ct, GraphicLayerSequence=layer(), GraphicAnnotationSequence=sequence))
    marked = image.presentations(0)[0].drawn.marked(128, 128)
    assert marked[30, 40]
    assert marked[20, 30]
    assert not marked[30, 30]
    assert marked[80, 90]
    assert marked[72:88, 88:92].all()
    assert marked[90, 40]
    assert marked[20, 97:103].all()


def test_text_is_drawn_upright_and_kept_as_pixels_only(ct, seen, tmp_path):
    """Arabic and Latin letters; nothing of it can be read in what is stored."""
    wanted = state(
        ct,
        SpecificCharacterSet="ISO_IR 192",
        GraphicLayerSequence=layer(),
        GraphicAnnotationSequence=Sequence(
            [annotation(text("Nodule 5 mm", box=[10.0, 100.0, 90.0, 110.0]), text(NAME, anchor=(20, 20)))]
        ),
    )
    image, _ = seen(ct, wanted)
    marked = image.presentations(0)[0].drawn.marked(128, 128)
    assert 100 < marked[95:].sum() < 600
    assert 40 < marked[:60].sum() < 600
    for path in (tmp_path / "kept").rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            assert b"Nodule" not in raw
            assert NAME.encode() not in raw
    wanted.ImageRotation, wanted.ImageHorizontalFlip = 90, "Y"
    turned, _ = seen(ct, wanted)
    view = presented_view(turned, 0, 1)
    upright = render(turned, view)[:, :, 0] == 255
    plain = render(turned, dataclasses.replace(view, graphics=False))[:, :, 0] == 255
    first = np.argwhere(marked[95:])
    written = marked[
        95 + first[:, 0].min() : 96 + first[:, 0].max(), first[:, 1].min() : first[:, 1].max() + 1
    ]
    assert _found(written, upright & ~plain, upright)


def test_text_is_put_into_visual_order(ct, seen, tmp_path):
    """Lines are drawn as whoever reads the file orders them; brackets in Arabic open on the right."""
    line = "(عقدة 5 mm)"
    wanted = state(
        ct,
        SpecificCharacterSet="ISO_IR 192",
        GraphicLayerSequence=layer(),
        GraphicAnnotationSequence=Sequence([annotation(text(line, anchor=(20, 20)))]),
    )
    ordered, written = (
        seen(ct, wanted, visual_order=order)[0].presentations(0)[0].drawn
        for order in (visual_order, lambda _: visual_order(line))
    )
    assert visual_order(line)[0] == "("
    assert visual_order(line)[-1] == ")"
    assert visual_order(line).index("5 mm") < visual_order(line).index(visual_order("عقدة"))
    assert np.array_equal(ordered.marked(128, 128), written.marked(128, 128))
    as_stored = seen(ct, wanted)[0].presentations(0)[0].drawn
    assert not np.array_equal(ordered.marked(128, 128), as_stored.marked(128, 128))
    with Intake(visual_order=visual_order) as intake:  # in its process too
        read = intake.open_study(tmp_path / "in", tmp_path / "child", KEEPING, key=b"k" * 32)
    there = load(tmp_path / "child" / read.studies[0].series[0].digest).presentations(0)[0].drawn
    assert np.array_equal(ordered.marked(128, 128), there.marked(128, 128))


def _found(pattern, added, shown):
    """Whether a pattern stands somewhere in a picture, upright."""
    rows, columns = pattern.shape
    return any(
        (shown[y : y + rows, x : x + columns] | ~pattern).all() and added[y : y + rows, x : x + columns].any()
        for y in range(shown.shape[0] - rows + 1)
        for x in range(shown.shape[1] - columns + 1)
    )


def test_no_drawings_unless_they_may_be_kept(ct, seen):
    """By default window, part, turn and shutters are taken, drawings and text are not, and that is said."""
    words = annotation(text("Nodule", anchor=(20, 20)), polyline([(1, 1), (9, 9)]))
    wanted = state(
        ct,
        **HOUNSFIELD,
        SoftcopyVOILUTSequence=voi(100, 300),
        GraphicLayerSequence=layer(),
        GraphicAnnotationSequence=Sequence([words]),
    )
    image, found = seen(ct, wanted, limits=Limits())
    shown = image.presentations(0)[0]
    assert (shown.drawn, shown.window) == (None, Window(100, 300))
    assert "finding.presentation_graphics_left_out" in found
    assert "Nodule" not in repr(shown)


def test_overlays_a_state_shows(ct, seen):
    """Of the image's overlays, those the state activates; with its own overlays beside them."""
    first, second = np.zeros((128, 128), bool), np.zeros((128, 128), bool)
    first[5, 5] = second[9, 9] = True
    add_overlay(add_overlay(ct, first), second, group=0x6002)
    wanted = state(ct, GraphicLayerSequence=layer())
    wanted.add_new((0x6002, 0x1001), "CS", "LAYER")
    add_overlay(wanted, np.ones((1, 1)), group=0x6004, origin=(21, 31))
    image, _ = seen(ct, wanted)
    view = presented_view(image, 0, 1)
    with_them, without = (render(image, dataclasses.replace(view, graphics=on)) for on in (True, False))
    assert np.argwhere((with_them != without).any(axis=2)).tolist() == [[9, 9], [20, 30]]


def test_what_the_page_gets(ct, seen):
    """Layers cut at the frame's edges, and the view each state asks for."""
    marked = np.zeros((128, 128), bool)
    marked[3, 9] = True
    add_overlay(ct, marked, origin=(2, -1))
    shutter = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [60, 70], "RadiusOfCircularShutter": 40}
    drawings = Sequence([annotation(polyline([(5, 5), (9, 5)]))])
    wanted = state(ct, GraphicLayerSequence=layer(), GraphicAnnotationSequence=drawings, **shutter)
    image, _ = seen(ct, wanted)
    meta, _ = browser_frame(image, 0)
    json.dumps(meta, allow_nan=False)
    assert [(one["kind"], one["presentation"]) for one in meta["layers"]] == [
        ("overlay", None),
        ("hidden", 1),
        ("drawn", 1),
    ]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(meta["layers"][0]["bits"]), np.uint8))
    assert np.argwhere(bits.reshape(128, 128)).tolist() == [[4, 7]]
    assert meta["presentations"] == [
        {"number": 1, "overlays": [], "view": presented_view(image, 0, 1).to_json()}
    ]


def test_each_image_has_its_own(tmp_path):
    """A state that names two slices of three shows these, each with the window stated for it."""
    datasets = [pydicom.dcmread(path) for path in write_series(tmp_path / "raw", count=3, shape=(8, 9))]
    each = Sequence(
        item(
            WindowCenter=100 * number,
            WindowWidth=50,
            ReferencedImageSequence=Sequence([reference(dataset)]),
        )
        for number, dataset in enumerate(datasets[:2], 1)
    )
    rescale = {"RescaleSlope": datasets[0].RescaleSlope, "RescaleIntercept": datasets[0].RescaleIntercept}
    folder = tmp_path / "in"
    folder.mkdir()
    for number, dataset in enumerate(
        (*datasets, state(*datasets[:2], SoftcopyVOILUTSequence=each, **rescale))
    ):
        dataset.save_as(folder / str(number), enforce_file_format=True)
    reader, studies = read_studies(folder, key=b"k" * 32)
    with reader:
        image = load(studies[0].series[0].keep(tmp_path / "kept"))
    windows = [[one.window for one in image.presentations(frame)] for frame in range(3)]
    assert windows == [[Window(100, 50)], [Window(200, 50)], []]
    assert Window(200, 50) in [window.transform for window in image.windows(1)]
    with pytest.raises(InvalidViewError):
        presented_view(image, 2, 1)


def test_frames_of_a_file(seen):
    """Only the frames a reference names are shown by it."""
    dataset = grey_dataset(np.stack([np.eye(8) * 9] * 3))
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.4", "1.2.5"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    image, _ = seen(dataset, state(dataset, frames=[2, 3]))
    assert [len(image.presentations(frame)) for frame in range(3)] == [0, 1, 1]


def test_colour_images(seen):
    """A colour state turns and cuts; there is no window to set."""
    dataset = color_dataset(NOISE)
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.4", "1.2.5"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    image, _ = seen(dataset, state(dataset, sop_class=COLOR, ImageRotation=90, ImageHorizontalFlip="N"))
    drawn = render(image, presented_view(image, 0, 1))
    assert np.array_equal(drawn, np.rot90(NOISE.astype(np.uint8), -1))


def test_states_without_images_are_told(ct, seen):
    """One that names nothing that is here, and one of a kind that changes what colours mean."""
    other = copy.deepcopy(ct)
    other.SOPInstanceUID = "1.2.3.4.5"
    blending = state(ct, sop_class="1.2.840.10008.5.1.4.1.1.11.4")
    image, found = seen(ct, state(other), blending)
    assert found.count("finding.presentation_states") == 1
    assert image.presentations(0) == ()
    with pytest.raises(InvalidViewError):
        render(image, dataclasses.replace(default_view(image), presentation=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageRotation": 45},
        {"SoftcopyVOILUTSequence": voi(float("nan"), 1e30)},
        {"RescaleSlope": 0},
        {"GraphicAnnotationSequence": Sequence([annotation(polyline([(float("inf"), 1), (2, -1e9)]))])},
        {"GraphicAnnotationSequence": Sequence([annotation(text("x" * 1000, anchor=(1e5, -1e5)))])},
        {"GraphicAnnotationSequence": Sequence([annotation(text("", anchor=(1, 1)))])},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 2, 3]},
    ],
)
def test_damaged_states_do_no_harm(ct, seen, changes):
    """The image is shown, whatever a state says."""
    image, _ = seen(ct, state(ct, **changes))
    view = presented_view(image, 0, 1)
    assert render(image, view).shape == (128, 128, 3)
    assert View.from_json(json.loads(json.dumps(view.to_json()))) == view
