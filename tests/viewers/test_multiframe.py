"""Enhanced multi-frame images: each frame in its place, echoes and time points apart, cine times."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from app.cli import run
from tests.viewers.conftest import lut_item
from tests.viewers.phantoms import AXIAL, CORONAL, place_values, slice_values, turned
from tests.viewers.test_dicom import grey_dataset
from viewers.assembly import frame_stack, image_volume, volume_of
from viewers.browser import browser_plane, geometry_json
from viewers.errors import MixedOrientationError, TooFewSlicesError, UnevenSpacingError
from viewers.intake import open_image
from viewers.nifti import read_nifti
from viewers.planes import PlaneView
from viewers.stack import FrameKey, passes, slice_plane
from viewers.store import load, save
from viewers.study import StudyReader
from viewers.view import default_view, render

SPACING = (0.8, 0.5)


def item(**attributes):
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def enhanced(frames, cosines=AXIAL, shape=(10, 12), **more):
    """Make an enhanced image of frames (distance along the normal, macros by name, what to add to values)."""
    normal = np.cross(cosines[:3], cosines[3:])
    pixels, groups = [], []
    for distance, macros, added in frames:
        position = np.array([-20.0, -30.0, 10.0]) + normal * distance
        pixels.append(slice_values(position, cosines, SPACING, shape) + added)
        group = item(
            PlanePositionSequence=Sequence([item(ImagePositionPatient=[f"{v:.6f}" for v in position])]),
            **{name: Sequence([item(**values)]) for name, values in macros.items()},
        )
        groups.append(group)
    dataset = grey_dataset(np.stack(pixels), 16, **more)
    dataset.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence([item(PixelSpacing=list(SPACING), SliceThickness=2)]),
                PlaneOrientationSequence=Sequence(
                    [item(ImageOrientationPatient=[f"{v:.10f}" for v in cosines])]
                ),
            )
        ]
    )
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.3", "1.2.3.4", "1.2.5"
    return dataset


def echo(number):
    return {"MREchoSequence": {"EffectiveEchoTime": 10.0 * number}}


@pytest.fixture
def stored(write, tmp_path):
    """Return a function that stores a dataset's image and opens it again."""

    def make(dataset):
        save(open_image(write(dataset)), tmp_path / "kept")
        return load(tmp_path / "kept")

    return make


@pytest.mark.parametrize("cosines", [AXIAL, CORONAL, turned(20)])
def test_frames_in_any_order_form_the_volume(stored, cosines):
    """Frames stand in the volume by their places, whatever their order in the file."""
    order = [3, 0, 4, 1, 2]
    image = stored(enhanced([(2.0 * n, {}, 0) for n in order], cosines))
    assert image.describes.passes == ()
    stack, numbers = frame_stack(image)
    assert numbers == (1, 3, 4, 0, 2)
    assert stack.steps_mm() == pytest.approx([2.0] * 4, abs=1e-5)
    volume = image_volume(image)
    assert volume.spacing_mm == pytest.approx((2.0, 0.8, 0.5), abs=1e-5)
    for index in ((0, 0, 0), (3, 7, 2), (11, 9, 4)):
        value = volume.code_map.values()[volume.array[index[::-1]]]
        assert value == pytest.approx(int(place_values(volume.to_mm(index))), abs=1)


@pytest.mark.parametrize("reverse", [False, True])
def test_neighbours_are_mapped_not_copied(stored, reverse):
    """Frames that follow each other, up or down, are not copied."""
    distances = [2.0 * n for n in range(5)]
    image = stored(enhanced([(d, {}, 0) for d in (distances[::-1] if reverse else distances)]))
    volume = image_volume(image)
    assert isinstance(volume.array, np.memmap)
    assert volume.affine[2, 2] == pytest.approx(2.0)
    assert (volume.array.strides[0] < 0) == reverse


@pytest.mark.parametrize(
    ("macro", "values"),
    [
        ("MREchoSequence", [{"EffectiveEchoTime": 10.0}, {"EffectiveEchoTime": 80.0}]),
        ("MRDiffusionSequence", [{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}]),
        ("FrameContentSequence", [{"TemporalPositionIndex": 1}, {"TemporalPositionIndex": 2}]),
        ("CardiacSynchronizationSequence", [{"NominalCardiacTriggerDelayTime": t} for t in (0.0, 40.0)]),
        ("FrameContentSequence", [{}, {}]),
    ],
)
@pytest.mark.parametrize("interleaved", [False, True])
def test_echoes_and_times_are_volumes_of_their_own(stored, macro, values, interleaved):
    """Frames at one place are told apart by what the file says, else by their order."""
    frames = [(2.0 * n, {macro: values[part]}, 1000 * part) for part in range(2) for n in range(4)]
    if interleaved:
        frames = [frames[n + 4 * part] for n in range(4) for part in range(2)]
    image = stored(enhanced(frames))
    expected = (0, 1) * 4 if interleaved else (0,) * 4 + (1,) * 4
    assert image.describes.passes == expected
    for part in range(2):
        frame = expected.index(part)
        volume = image_volume(image, frame)
        assert volume.array.shape[0] == 4
        meta, payload = browser_plane(image, frame, PlaneView("axial", 14.0))
        value = np.frombuffer(payload, "<u2").reshape(meta["height"], meta["width"])[0, 0]
        assert value == place_values(volume.to_mm((0, 0, 2))) + 1000 * part
    assert image_volume(image, 0) is not image_volume(image, expected.index(1))
    assert geometry_json(image)["passes"] == list(expected)


def test_frames_of_other_directions_are_told_apart(stored):
    """A scout among axial frames is a pass of its own; frames without a place form no volume."""
    dataset = enhanced([(2.0 * n, {}, 0) for n in range(4)])
    scout = Sequence([item(ImageOrientationPatient=[str(v) for v in CORONAL])])
    dataset.PerFrameFunctionalGroupsSequence[3].PlaneOrientationSequence = scout
    image = stored(dataset)
    assert image.describes.passes == (0, 0, 0, 1)
    assert image_volume(image).array.shape[0] == 3
    del dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    with pytest.raises(MixedOrientationError) as caught:
        image_volume(stored(dataset))
    assert caught.value.values == {"found": 1, "count": 4}


def test_uneven_frames_say_so(stored):
    """A missing frame is an error with the numbers."""
    image = stored(enhanced([(d, {}, 0) for d in (0.0, 2.0, 6.0, 8.0)]))
    with pytest.raises(UnevenSpacingError, match=r"2\.000 to 4\.000 mm"):
        image_volume(image)


def test_a_multi_frame_file_is_a_series_and_a_volume(write, tmp_path, capsys, monkeypatch):
    """Its geometry is listed, its volume written, a plane of it drawn, as of single slices."""
    monkeypatch.setenv("BIMEDIX2_DATA_FOLDER", str(tmp_path / "data"))
    write(enhanced([(2.0 * n, echo(part), 500 * part) for n in range(4) for part in (1, 2)]))
    (tmp_path / "in").mkdir()
    (tmp_path / "made.dcm").rename(tmp_path / "in" / "made.dcm")
    with StudyReader(tmp_path / "in") as reader:
        for _ in reader:
            pass
        (series,) = reader.studies()[0].series
        assert (series.frame_count, len(series.stack.planes), series.findings) == (8, 4, ())
        made = volume_of(series)
        assert made.array.dtype == np.int16
        assert made.array[1, 2, 3] == place_values(made.to_mm((3, 2, 1))) + 500
    assert run(["studies", str(tmp_path / "in"), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["studies"][0]["series"][0]
    assert listed["affine_lps_mm"][2][2] == pytest.approx(2.0)
    assert listed["slice_spacing_mm"] == [2, 2, 2]
    assert run(["volume", str(tmp_path / "in"), str(tmp_path / "out.nii")]) == 0
    assert np.array_equal(read_nifti(tmp_path / "out.nii").array, made.array)


def test_passes_of_plain_slices():
    """Without a doubled place there is one pass; keys are not looked at then."""
    planes = [slice_plane((0, 0, z), AXIAL) for z in (0.0, 1.0, 2.0)]
    assert passes(planes, [FrameKey(stated=((n,),)) for n in (1.0, 2.0, 3.0)]) == ()
    assert passes([*planes, planes[1]], [FrameKey()] * 4) == (0, 0, 0, 1)
    assert passes([*planes, None], [FrameKey()] * 4) == ()
    assert passes([], []) == ()
    radial = [slice_plane((0, 0, 0), turned(n)) for n in range(90)]
    assert passes(radial, [FrameKey()] * 90) == ()


def test_a_beating_heart_has_as_many_passes_as_phases(stored):
    """The time after the heartbeat differs between breath-holds: it is ranked at each place."""
    beat = (810.0, 795.5, 842.0, 801.0)
    frames = [
        (8.0 * n, {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": t * beat[n] / 5}}, t)
        for n in range(4)
        for t in range(5)
    ]
    image = stored(enhanced(frames))
    assert image.describes.passes == (0, 1, 2, 3, 4) * 4
    assert image_volume(image, 7).array.shape[0] == 4


def test_segments_are_never_one_volume(stored):
    """Frames of another segment are another pass, also where no place is taken twice."""
    segments = [(1, (0, 1, 2, 3)), (2, (4, 5, 6))]
    frames = [
        (2.0 * n, {"SegmentIdentificationSequence": {"ReferencedSegmentNumber": segment}}, 0)
        for segment, places in segments
        for n in places
    ]
    image = stored(enhanced(frames, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG"))
    assert image.describes.passes == (0,) * 4 + (1,) * 3
    assert image_volume(image, 5).array.shape[0] == 3


def test_dimensions_tell_frames_apart(stored):
    """What a frame's dimension index counts besides places is a pass; frames may come in any order."""
    order = [(place, turn) for place in range(4) for turn in ((2, 0, 1) if place % 2 else (0, 1, 2))]
    frames = [
        (2.0 * place, {"FrameContentSequence": {"DimensionIndexValues": [1, place + 1, turn + 1]}}, turn)
        for place, turn in order
    ]
    dataset = enhanced(frames)
    pointers = (0x00209056, 0x00200032, 0x00189089)
    dataset.DimensionIndexSequence = Sequence([item(DimensionIndexPointer=pointer) for pointer in pointers])
    assert stored(dataset).describes.passes == tuple(turn for _, turn in order)


@pytest.mark.parametrize("named", [True, False])
def test_label_maps_are_shown_in_all_greys(stored, named):
    """Labels 1 and 2 of 8 bits are as bright as greys allow, and the same in every frame."""
    dataset = enhanced([(2.0 * n, {}, 0) for n in range(3)], SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7")
    dataset.Modality, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = "SEG", 8, 8, 7
    labels = np.zeros((3, 10, 12), np.uint8)
    labels[:, :, 4:8], labels[1:, :, 8:] = 1, 2
    dataset.PixelData = labels.tobytes()
    if named:
        dataset.SegmentSequence = Sequence([item(SegmentNumber=n) for n in (1, 2)])
    image = stored(dataset)
    shown = [render(image, default_view(image, n))[:, :, 0] for n in range(3)]
    if named:
        assert [(one[5, 1], one[5, 6], one[5, -2]) for one in shown] == [
            (0, 128, 0 if n == 0 else 255) for n in range(3)
        ]
    assert all(one.max() >= 128 for one in shown)


@pytest.mark.parametrize(("sop_class", "calibrated"), [("13.1.3", True), ("13.1.2", True), ("13.1.4", False)])
def test_spacing_of_reconstructed_slices_is_in_the_patient(stored, sop_class, calibrated):
    """Breast tomosynthesis is of modality MG, but its slices are measured as those of a scan are."""
    dataset = enhanced([(n, {}, 0) for n in range(3)], Modality="MG")
    dataset.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    assert stored(dataset).spacing.calibrated is calibrated


@pytest.mark.parametrize("shared", [True, False])
def test_voi_luts_of_frames(stored, shared):
    """A VOI LUT of the functional groups is the frame's first choice; one frame may have another."""
    dataset = enhanced([(2.0 * n, {}, 0) for n in range(3)])
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1, 1]
    tables = [np.arange(1024) ** 2 // 1024, 1023 - np.arange(1024)]
    groups = [item(VOILUTSequence=lut_item(0, 10, table)) for table in tables]
    if shared:
        dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = Sequence(groups[:1])
    else:
        for group, own in zip(dataset.PerFrameFunctionalGroupsSequence, (0, 1, 0), strict=True):
            group.FrameVOILUTSequence = Sequence([groups[own]])
    image = stored(dataset)
    for frame, own in enumerate((0, 0, 0) if shared else (0, 1, 0)):
        assert image.default_window(frame).key == "lut-1"
        shown = render(image, default_view(image, frame))[:, :, 0]
        codes = image.frame(frame).codes
        assert np.array_equal(shown, np.rint(tables[own][codes] * 255 / 1023))


def test_a_place_that_is_watched_is_one_pass(stored):
    """Frames of one place follow each other in time and form no volume."""
    image = stored(
        enhanced([(8.0, {"FrameContentSequence": {"TemporalPositionIndex": t}}, t) for t in (1, 2, 3)])
    )
    assert image.describes.passes == ()
    with pytest.raises(TooFewSlicesError):
        image_volume(image)


def test_thousands_of_frames_open_in_seconds(write):
    """Groups are looked up one by one: twice the frames take about twice as long, not four times."""
    shortest = []
    for count in (150, 600):
        path = write(enhanced([(2.0 * n, echo(1), 0) for n in range(count)], shape=(2, 2)))
        taken = []
        for _ in range(4):
            began = time.process_time()
            assert len(open_image(path).describes.planes) == count
            taken.append(time.process_time() - began)
        shortest.append(min(taken))
    assert shortest[1] < 10 * shortest[0]


@pytest.mark.parametrize(
    ("attributes", "times"),
    [
        ({"FrameTime": "40"}, (0.0, 0.04, 0.08)),
        ({"FrameTimeVector": ["0", "30", "50"]}, (0.0, 0.03, 0.08)),
        ({"RecommendedDisplayFrameRate": 25}, (0.0, 0.04, 0.08)),
        ({"CineRate": 50}, (0.0, 0.02, 0.04)),
        ({"FrameTime": "0"}, ()),
        ({"FrameTime": "1e12"}, ()),
        ({"FrameTimeVector": ["0", "30"]}, ()),
        ({}, ()),
    ],
)
def test_cine_times(stored, attributes, times):
    """When frames begin, from whichever attribute says it; nothing when none does or it cannot be."""
    image = stored(grey_dataset(np.zeros((3, 8, 8), int), 16, **attributes))
    assert image.describes.times_s == times
