"""What each attribute of a DICOM file does to its pixels, on variants of real files."""

from __future__ import annotations

import math
import struct
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.viewers.conftest import TEST_FILES, lut_item, relabelled, without_padding
from viewers.geometry import EdgeMarks
from viewers.image import ColorFrame, GreyFrame
from viewers.intake import open_image
from viewers.view import View, default_view, render
from viewers.window import Window, build_lut


def keys(image):
    """Names of an image's findings without the common prefix."""
    return [found.key.removeprefix("finding.") for found in image.findings]


def stored(image, frame=0):
    """Return the stored values of a grey frame, as integers."""
    grey = image.frame(frame)
    assert isinstance(grey, GreyFrame)
    return grey.codes.astype(np.int64) - int(grey.code_map.offset)


def grey_dataset(values, bits=16, *, signed=False, **attributes):
    """Make a small secondary-capture-free grey dataset of one or several frames."""
    values = np.asarray(values)
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.4", "MR"
    frames = values if values.ndim == 3 else values[None]
    dataset.Rows, dataset.Columns = frames.shape[1:]
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(signed)
    dataset.PixelData = frames.astype(f"<{'i' if signed else 'u'}{bits // 8}").tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def color_dataset(rgb, photometric="RGB", *, planar=0):
    """Make a small 8-bit colour dataset."""
    dataset = grey_dataset(rgb[:, :, 0], 8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, photometric
    dataset.PlanarConfiguration = planar
    dataset.PixelData = (np.moveaxis(rgb, -1, 0) if planar else rgb).astype(np.uint8).tobytes()
    return dataset


RAMP = np.arange(64, dtype=np.int64).reshape(8, 8)
AT_DETECTOR = {"ImagerPixelSpacing": [0.1, 0.1]}
FIDUCIAL = {"PixelSpacingCalibrationType": "FIDUCIAL"}
NOISE = np.random.default_rng(5).integers(0, 256, (6, 8, 3))


def test_ct_small_opens(ct):
    """The facts of a real CT: Hounsfield units, spacing, sides, padding, and the right default."""
    image = open_image(TEST_FILES / "CT_small.dcm")
    assert (image.kind, image.modality, image.frame_count, image.is_color) == ("dicom", "CT", 1, False)
    assert (image.size.width, image.size.height) == (128, 128)
    assert np.array_equal(stored(image), ct.pixel_array)
    frame = image.frame(0)
    values = frame.code_map.values()[frame.codes]
    assert np.array_equal(values, ct.pixel_array * 1.0 - 1024)
    assert frame.code_map.padding == (30768, 30768)
    assert image.orientation(0) == EdgeMarks("R", "L", "A", "P")
    assert (image.spacing.row, image.spacing.source, image.spacing.calibrated) == (
        0.661468,
        "PixelSpacing",
        True,
    )
    assert image.facts["RescaleType"] == "HU"
    assert image.default_window(0).key == "soft_tissue"
    assert image.frame(0) is image.frame(0)


def test_two_named_windows(ct, write):
    """A file's windows come first, in its order, and keep only names that identify nobody."""
    ct.WindowCenter, ct.WindowWidth = [40, 300], [400, 2000]
    ct.WindowCenterWidthExplanation = ["SOFT TISSUE", "MUELLER^HANS"]
    image = open_image(write(ct))
    first, second = image.windows(0)[:2]
    assert (first.key, first.transform) == ("file-1", Window(40, 400, "LINEAR", "SOFT TISSUE"))
    assert (second.key, second.transform) == ("file-2", Window(300, 2000))
    assert image.default_window(0) == first


def test_unusable_windows_are_noticed(ct, write):
    """A window of 0/0 is left out and reported; a width below 1 becomes exact."""
    ct.WindowCenter, ct.WindowWidth = [0, 0.5], [0, 0.25]
    image = open_image(write(ct))
    assert [w.transform for w in image.windows(0) if w.source == "file"] == [
        Window(0.5, 0.25, "LINEAR_EXACT")
    ]
    assert "window_unusable" in keys(image)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("vr", ["OW", "US"])
def test_voi_lut_sequence(ct, write, bits, vr):
    """A VOI LUT of 8, 12 or 16 bits maps values to the whole range of greys, and clamps beyond its ends."""
    ramp = np.linspace(0, 2**bits - 1, 2000).astype(int)
    ct.VOILUTSequence = lut_item(-1000, bits, ramp, vr=vr)
    image = open_image(write(without_padding(ct)))
    view = default_view(image)
    assert (image.default_window(0).key, view.voi_lut, view.window) == ("lut-1", 0, None)
    values = stored(image) - 1024
    expected = np.rint(ramp[np.clip(values + 1000, 0, 1999)] * 255.0 / (2**bits - 1))
    assert np.array_equal(render(image, view)[:, :, 0], expected)


def test_voi_lut_of_packed_bytes(ct, write):
    """Two entries of 8 bits in one word, more than 256 of them, are read in their order."""
    ramp = np.linspace(255, 0, 512).astype(int)
    ct.VOILUTSequence = lut_item(0, 8, ramp, packed=True)
    image = open_image(write(without_padding(ct)))
    expected = ramp[np.clip(stored(image) - 1024, 0, 511)]
    assert np.array_equal(render(image, default_view(image))[:, :, 0], expected)


@pytest.mark.parametrize("bits", [12, 16])
def test_modality_lut(ct, write, bits):
    """A modality LUT replaces slope and intercept; the window then sees its output."""
    table = np.minimum(np.arange(3000) * 2, 4095)
    ct.ModalityLUTSequence = lut_item(100, bits, table, kind="US")
    del ct.RescaleSlope, ct.RescaleIntercept
    image = open_image(write(ct))
    frame = image.frame(0)
    expected = table[np.clip(stored(image) - 100, 0, 2999)]
    assert np.array_equal(frame.code_map.values()[frame.codes], expected)


@pytest.mark.parametrize("relationship", ["LOG", "LIN"])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize(
    ("sop_class", "applied"), [("12.1", False), ("12.2", False), ("12.3", False), ("1.1", True)]
)
def test_the_modality_lut_of_angiography_is_not_shown(write, sop_class, applied, rescaled, relationship):
    """It is not for display: stored values are shown and measured, as DCMTK shows them."""
    dataset = grey_dataset(RAMP, 8, Modality="XA", PixelIntensityRelationship=relationship)
    dataset.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    if rescaled:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 3, -7, "OD"
    else:
        dataset.ModalityLUTSequence = lut_item(0, 16, np.arange(64) ** 2, kind="OD")
    image = open_image(write(dataset))
    frame = image.frame(0)
    expected = (3 * RAMP - 7 if rescaled else RAMP**2) if applied else RAMP
    assert np.array_equal(frame.code_map.values()[frame.codes], expected)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", None, False),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_inversion(ct, write, photometric, shape, inverted):
    """The presentation LUT's shape decides, and MONOCHROME1 only without it."""
    ct.PhotometricInterpretation = photometric
    if shape:
        ct.PresentationLUTShape = shape
    assert open_image(write(ct)).inverted_by_default is inverted


@pytest.mark.parametrize("encoded", [-2000, 63536])
def test_padding_of_signed_pixels(ct, write, encoded):
    """A padding value is found whether it was written signed or unsigned, and drawn black."""
    ct.add_new(0x00280120, "SS" if encoded < 0 else "US", encoded)
    pixels = ct.pixel_array.copy()
    pixels[:20] = -2000
    ct.PixelData = pixels.tobytes()
    image = open_image(write(ct))
    view = default_view(image)
    for inverted in (False, True):
        assert not render(image, View(view.image, 0, view.window, inverted=inverted))[:20].any()
    full = next(window for window in image.windows(0) if window.key == "full_range")
    assert full.transform.center - full.transform.width / 2 == pixels[20:].min() - 1024


@pytest.mark.parametrize(
    ("signed", "padding", "padded"),
    [
        (False, (65535,), ()),
        (False, (63536,), ()),
        (False, (63536, 65535), ()),
        (False, (4090, 65535), range(4090, 4096)),
        (False, (4095,), (4095,)),
        (True, (-32768,), ()),
        (True, (32768,), ()),
        (True, (63536,), (-2000,)),
        (True, (2096,), (-2000,)),
        (True, (-32768, -2000), range(-2048, -1999)),
        (True, (32768, 63536), range(-2048, -1999)),
    ],
)
def test_padding_that_the_stored_bits_cannot_hold(write, signed, padding, padded):
    """Of 12 stored bits no pixel can be 65535: nothing that was measured becomes padding for it."""
    values = np.arange(4096).reshape(64, 64) - (2048 if signed else 0)
    dataset = grey_dataset(values & 0xFFF, 16, BitsStored=12, HighBit=11, PixelRepresentation=int(signed))
    for tag, value in zip((0x00280120, 0x00280121), padding, strict=False):
        dataset.add_new(tag, "SS" if value < 0 else "US", value)
    image = open_image(write(dataset))
    assert np.array_equal(stored(image), values)
    frame = image.frame(0)
    assert np.array_equal(frame.code_map.padded()[frame.codes], np.isin(values, list(padded)))


def test_padding_range(write):
    """PixelPaddingRangeLimit widens padding to a range, in either order."""
    image = open_image(write(grey_dataset(RAMP, PixelPaddingValue=10, PixelPaddingRangeLimit=5)))
    frame = image.frame(0)
    assert frame.code_map.padding == (5, 10)
    assert (frame.code_map.padded()[frame.codes] == ((RAMP >= 5) & (RAMP <= 10))).all()


def test_high_bits_are_removed_and_signs_extended(write):
    """Overlay bits above BitsStored do not reach the values; 12-bit two's complement does."""
    values = np.array([[-2048, -1], [0, 2047]])
    dataset = grey_dataset((values & 0xFFF) | 0x5000, 16)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
    assert np.array_equal(stored(open_image(write(dataset))), values)


def test_left_aligned_bits_are_shifted(write):
    """HighBit 15 with 12 bits stored: the low 4 bits are not part of the value."""
    dataset = grey_dataset((RAMP << 4) | 3, 16, HighBit=15, BitsStored=12)
    assert np.array_equal(stored(open_image(write(dataset))), RAMP)


def test_32_bits_are_exact_when_they_span_little(write):
    """Large integers that span fewer than 65535 steps keep their values exactly."""
    values = RAMP * 1000 + 3_000_000_000
    image = open_image(write(grey_dataset(values, 32, RescaleSlope=0.5, RescaleIntercept=7)))
    frame = image.frame(0)
    assert np.array_equal(frame.code_map.values()[frame.codes], values * 0.5 + 7)
    assert "quantised" not in keys(image)


def test_32_bits_are_quantised_in_stated_steps(write):
    """A wider span is quantised: every value within half of the step the finding states."""
    values = RAMP * 60_000_000
    image = open_image(write(grey_dataset(values, 32)))
    frame = image.frame(0)
    step = next(found for found in image.findings if found.key == "finding.quantised").values["step"]
    assert np.abs(frame.code_map.values()[frame.codes] - values).max() <= step / 2 * 1.000001
    assert step == values.max() / 65534


@pytest.mark.parametrize("bits", [32, 64])
def test_float_pixels(write, bits):
    """Float pixels are quantised; what is not a number is padding."""
    values = np.linspace(-1.5, 2.5, 64).reshape(8, 8)
    values[0, :2] = math.nan, math.inf
    dataset = grey_dataset(RAMP, 8)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = bits
    name, kind = ("FloatPixelData", "<f4") if bits == 32 else ("DoubleFloatPixelData", "<f8")
    setattr(dataset, name, values.astype(kind).tobytes())
    image = open_image(write(dataset))
    frame = image.frame(0)
    assert frame.codes[0, :2].tolist() == [0, 0]
    assert "values_clipped" in keys(image)
    inside = np.isfinite(values)
    assert np.abs(frame.code_map.values()[frame.codes] - values)[inside].max() < 4 / 65534
    assert not render(image, default_view(image))[0, :2].any()


def test_one_bit_frames_do_not_begin_on_bytes(write):
    """Frames of 5 x 3 single bits follow each other without a gap; 1 is drawn white."""
    frames = np.random.default_rng(2).integers(0, 2, (5, 3, 5))
    dataset = grey_dataset(frames, 8)
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    packed = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    image = open_image(write(dataset))
    for index in range(5):
        assert np.array_equal(stored(image, index), frames[index])
        assert np.array_equal(render(image, default_view(image, index))[:, :, 0], frames[index] * 255)


@pytest.mark.parametrize("planar", [0, 1])
def test_planar_configuration(write, planar):
    """Samples or planes first: the same picture."""
    image = open_image(write(color_dataset(NOISE, planar=planar)))
    assert np.array_equal(image.frame(0).rgb, NOISE)
    assert image.windows(0) == ()
    assert image.default_window(0) is None
    assert np.array_equal(render(image, default_view(image)), NOISE)


def test_ybr_full(write):
    """YBR_FULL is converted by PS3.3 C.7.6.3.1.2; grey stays grey, and colours return within 2."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    ybr = np.clip(np.rint(NOISE @ matrix.T + [0, 128, 128]), 0, 255).astype(np.uint8)
    rgb = open_image(write(color_dataset(ybr, "YBR_FULL"))).frame(0).rgb
    assert np.abs(rgb.astype(int) - NOISE).max() <= 2
    grey = np.stack([NOISE[:, :, 0], np.full((6, 8), 128), np.full((6, 8), 128)], axis=-1)
    assert np.array_equal(
        open_image(write(color_dataset(grey, "YBR_FULL"))).frame(0).rgb[:, :, 1], NOISE[:, :, 0]
    )


def test_ybr_full_422(write):
    """Subsampled native colour: two luminances share one pair of chrominances."""
    dataset = color_dataset(NOISE, "YBR_FULL_422")
    groups = np.empty((6, 4, 4), np.uint8)
    groups[..., :2] = NOISE[:, :, 0].reshape(6, 4, 2)
    groups[..., 2:] = 128
    dataset.PixelData = groups.tobytes()
    rgb = open_image(write(dataset)).frame(0).rgb
    assert np.array_equal(rgb, np.repeat(NOISE[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("columns", [8, 7])
def test_ybr_full_422_that_is_not_subsampled(write, columns):
    """A label of halved colours over pixels that all have their own is found out by the length."""
    pixels = NOISE[:, :columns]
    wrong, right = color_dataset(pixels, "YBR_FULL_422"), color_dataset(pixels, "YBR_FULL")
    image = open_image(write(wrong))
    assert "color_not_halved" in keys(image)
    assert np.array_equal(image.frame(0).rgb, open_image(write(right)).frame(0).rgb)


def test_16_bit_color_is_scaled(write):
    """Colours of 16 bits keep their proportion: the largest is 255."""
    dataset = color_dataset(NOISE)
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelData = (NOISE * 257).astype("<u2").tobytes()
    assert np.array_equal(open_image(write(dataset)).frame(0).rgb, NOISE)


def palette_dataset(bits, *, big_endian=False, first=0):
    """Make a ramp of 64 palette indices, and the colours they stand for."""
    colors = np.random.default_rng(9).integers(0, 256, (64, 3))
    dataset = grey_dataset(RAMP + first, 8)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for channel, name in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [64, first, bits])
        table = colors[:, channel]
        words = table.astype(np.uint8).tobytes() if bits == 8 else (table * 257).astype("<u2").tobytes()
        if big_endian:
            words = np.frombuffer(words, "<u2").astype(">u2").tobytes()
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", words)
    return dataset, colors


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("first", [0, 3])
def test_palettes(write, bits, big_endian, first):
    """Palettes of 8 and 16 bits, in both byte orders, from any first index."""
    dataset, colors = palette_dataset(bits, big_endian=big_endian, first=first)
    if big_endian:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset["PixelData"].VR = "OB"
    image = open_image(write(dataset))
    assert image.is_color
    assert np.array_equal(image.frame(0).rgb, colors[RAMP])


def test_segmented_palette(write):
    """Discrete, linear and indirect segments expand to the colours they mean."""
    dataset, _ = palette_dataset(16)
    # 2 words as they are, a line of 6 to 0x0800, then both segments again from byte offset 0.
    words = [0, 2, 0, 0x0200, 1, 6, 0x0800, 2, 2, 0, 0]
    once = [0, 0x0200, 0x0300, 0x0400, 0x0500, 0x0600, 0x0700, 0x0800]
    for name in ("Red", "Green", "Blue"):
        del dataset[f"{name}PaletteColorLookupTableData"]
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [16, 0, 16])
        dataset.add_new(
            f"Segmented{name}PaletteColorLookupTableData", "OW", np.asarray(words, "<u2").tobytes()
        )
    rgb = open_image(write(dataset)).frame(0).rgb
    expected = np.array(once + once)[np.minimum(RAMP, 15)] >> 8
    assert np.array_equal(rgb[:, :, 0], expected)


def functional_groups():
    """Make an enhanced image of two frames that differ in rescale, window and orientation."""
    dataset = grey_dataset(np.stack([RAMP, RAMP]))
    shared, frames = Dataset(), []
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.25], 3
    shared.PixelMeasuresSequence = Sequence([measures])
    for slope, center, cosines in ((2, 50, [1, 0, 0, 0, 1, 0]), (3, 70, [0, 1, 0, 0, 0, -1])):
        group, value, voi, plane = Dataset(), Dataset(), Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, -slope, "US"
        voi.WindowCenter, voi.WindowWidth = center, 10
        plane.ImageOrientationPatient = cosines
        group.PixelValueTransformationSequence = Sequence([value])
        group.FrameVOILUTSequence = Sequence([voi])
        group.PlaneOrientationSequence = Sequence([plane])
        frames.append(group)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


def test_functional_groups(write):
    """Each frame has its own rescale, window and sides; the spacing is the shared one."""
    image = open_image(write(functional_groups()))
    assert image.frame(1).code_map.values()[10] == 27.0
    assert image.frame(0).code_map.values()[10] == 18.0
    assert [image.default_window(i).transform.center for i in range(2)] == [50, 70]
    assert image.orientation(0) == EdgeMarks("R", "L", "A", "P")
    assert image.orientation(1) == EdgeMarks("A", "P", "H", "F")
    assert (image.spacing.row, image.spacing.column, image.pixel_aspect) == (0.5, 0.25, 2.0)
    assert render(image, default_view(image)).shape == (16, 8, 3)


@pytest.mark.parametrize(
    ("cosines", "marks"),
    [
        ([1, 0, 0, 0, 1, 0], EdgeMarks("R", "L", "A", "P")),
        ([1, 0, 0, 0, 0, -1], EdgeMarks("R", "L", "H", "F")),
        ([0, 1, 0, 0, 0, -1], EdgeMarks("A", "P", "H", "F")),
        ([-1, 0, 0, 0, 1, 0], EdgeMarks("L", "R", "A", "P")),
        ([0.8, 0.6, 0, 0, 0, -1], EdgeMarks("RA", "LP", "H", "F")),
        ([0.995004, 0.0998334, 0, -0.0998334, 0.995004, 0], EdgeMarks("R", "L", "A", "P")),
    ],
)
def test_orientation_letters(ct, write, cosines, marks):
    """Axial, coronal, sagittal, mirrored, oblique and slightly tilted planes; lengths within the standard."""
    ct.ImageOrientationPatient = cosines
    assert open_image(write(ct)).orientation(0) == marks


def test_a_localizer_is_not_in_hounsfield_units(ct, write):
    """The overview image of a CT is windowed by its pixels, not by presets for Hounsfield units."""
    ct.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    image = open_image(write(ct))
    assert image.default_window(0).key == "auto"
    assert "RescaleType" not in image.facts


@pytest.mark.parametrize("written", ["CSPINE", "C SPINE", "C-SPINE"])
def test_body_parts_as_scanners_write_them(ct, write, written):
    """Spaces and hyphens do not hide a body part; its presets come first."""
    ct.add_new(0x00180015, "LO", written)
    image = open_image(write(ct))
    assert image.facts["BodyPartExamined"] == "CSPINE"
    assert image.default_window(0).key == "spine"


@pytest.mark.parametrize("cosines", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 1, 0]])
def test_impossible_orientations_show_no_side(ct, write, cosines):
    """Directions that are no rotation give no letters and a finding: a wrong side is worse than none."""
    ct.ImageOrientationPatient = cosines
    image = open_image(write(ct))
    assert image.orientation(0) == EdgeMarks()
    assert "orientation_unusable" in keys(image)


@pytest.mark.parametrize(
    ("stated", "marks"),
    [
        (["L", "F"], EdgeMarks("R", "L", "H", "F")),
        (["AR", "FP"], EdgeMarks("PL", "AR", "HA", "FP")),
        (["MUELLER", "HANS"], EdgeMarks()),
        (["L"], EdgeMarks()),
    ],
)
def test_patient_orientation(write, stated, marks):
    """PatientOrientation names the right and the bottom edge; anything but directions is dropped."""
    assert open_image(write(grey_dataset(RAMP, PatientOrientation=stated))).orientation(0) == marks


@pytest.mark.parametrize(
    ("modality", "attributes", "expected"),
    [
        ("CT", {"PixelSpacing": [0.5, 0.4]}, (0.5, 0.4, "PixelSpacing", True)),
        ("DX", AT_DETECTOR, (0.1, 0.1, "ImagerPixelSpacing", False)),
        ("DX", AT_DETECTOR | {"PixelSpacing": [0.1, 0.1]}, (0.1, 0.1, "PixelSpacing", False)),
        ("DX", AT_DETECTOR | {"PixelSpacing": [0.09, 0.09]}, (0.09, 0.09, "PixelSpacing", True)),
        ("CR", FIDUCIAL | {"PixelSpacing": [0.1, 0.1]}, (0.1, 0.1, "PixelSpacing", True)),
        ("CR", {"NominalScannedPixelSpacing": [0.2, 0.2]}, (0.2, 0.2, "NominalScannedPixelSpacing", False)),
        ("MR", {"PixelSpacing": [0, 0]}, None),
        ("MR", {"PixelSpacing": [1, 1000]}, None),
        ("MR", {}, None),
    ],
)  # fmt: skip
def test_pixel_spacing(write, modality, attributes, expected):
    """Where a spacing comes from, and whether lengths hold in the patient."""
    spacing = open_image(write(grey_dataset(RAMP, Modality=modality, **attributes))).spacing
    found = spacing and (spacing.row, spacing.column, spacing.source, spacing.calibrated)
    assert found == expected


def test_ultrasound_spacing(write):
    """One region in centimetres gives millimetres; two regions give none."""
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.04
    dataset = grey_dataset(RAMP, Modality="US", SequenceOfUltrasoundRegions=Sequence([region]))
    spacing = open_image(write(dataset)).spacing
    assert (spacing.row, spacing.column) == (pytest.approx(0.4), pytest.approx(0.2))
    dataset.SequenceOfUltrasoundRegions = Sequence([region, region])
    assert open_image(write(dataset)).spacing is None


def test_aspect_ratio_without_spacing(write):
    """PixelAspectRatio (vertical, horizontal) makes pixels square when no spacing is known."""
    image = open_image(write(grey_dataset(RAMP, PixelAspectRatio=[2, 1])))
    assert image.pixel_aspect == 2.0
    assert render(image, default_view(image)).shape == (16, 8, 3)


@pytest.mark.parametrize(("slope", "intercept"), [("0", "0"), ("nan", "0"), ("1", "1e30")])
def test_unusable_rescale_is_noticed(ct, tmp_path, write, slope, intercept):
    """A slope of 0 or what is not a number is not applied, and reported."""
    raw = write(ct).read_bytes()
    for tag, text in ((b"\x28\x00\x53\x10DS", slope), (b"\x28\x00\x52\x10DS", intercept)):
        at = raw.index(tag)
        length = struct.unpack_from("<H", raw, at + 6)[0]
        padded = text.encode() + b" " * (len(text) % 2)
        raw = raw[: at + 6] + struct.pack("<H", len(padded)) + padded + raw[at + 8 + length :]
    path = tmp_path / "rescale.dcm"
    path.write_bytes(raw)
    image = open_image(path)
    assert "rescale_unusable" in keys(image)
    assert image.frame(0).code_map.slope == 1.0


def test_eight_bits_without_a_window_are_shown_as_stored(write):
    """Without window or rescale, 8 bits keep their grey levels; 16 bits are windowed automatically."""
    assert open_image(write(grey_dataset(RAMP, 8))).default_window(0).key == "stored"
    assert np.array_equal(
        render(image := open_image(write(grey_dataset(RAMP, 8))), default_view(image))[:, :, 0], RAMP
    )
    assert open_image(write(grey_dataset(RAMP, 16))).default_window(0).key == "auto"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_without_preamble_and_meta(tmp_path, syntax):
    """A dataset alone, without preamble and transfer syntax, is read and reported as repaired."""
    dataset = grey_dataset(RAMP)
    del dataset.file_meta
    path = tmp_path / "bare.dcm"
    dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=False)
    image = open_image(path)
    assert np.array_equal(stored(image), RAMP)
    assert keys(image) == ["no_preamble", "transfer_syntax_repaired"]


def test_native_pixels_labelled_as_compressed(write, tmp_path):
    """Uncompressed pixels under the label of JPEG-LS are read as they are, and reported."""
    path = tmp_path / "label.dcm"
    path.write_bytes(relabelled(write(grey_dataset(RAMP)).read_bytes(), "1.2.840.10008.1.2.4.80"))
    image = open_image(path)
    assert np.array_equal(stored(image), RAMP)
    assert "transfer_syntax_repaired" in keys(image)


def test_a_wrong_compression_label(tmp_path):
    """JPEG 2000 under the label of JPEG-LS decodes by what it is, and is reported."""
    raw = relabelled((TEST_FILES / "MR_small_jp2klossless.dcm").read_bytes(), "1.2.840.10008.1.2.4.80")
    path = tmp_path / "label.dcm"
    path.write_bytes(raw)
    image = open_image(path)
    assert np.array_equal(stored(image), stored(open_image(TEST_FILES / "MR_small.dcm")))
    assert "codestream_differs" in keys(image)


def compressed(frames, uid, write, tmp_path, **attributes):
    """Open a dataset whose pixels are the given codestreams."""
    dataset = grey_dataset(RAMP, **attributes)
    dataset.NumberOfFrames = len(frames)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate(list(frames))
    path = tmp_path / "compressed.dcm"
    path.write_bytes(relabelled(write(dataset).read_bytes(), uid))
    return open_image(path)


def raw_deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def test_deflated_image_frames(write, tmp_path):
    """Deflated Image Frame Compression, which pydicom has no decoder for."""
    frames = [raw_deflate(values.astype("<u2").tobytes()) for values in (RAMP, RAMP[::-1])]
    image = compressed(frames, "1.2.840.10008.1.2.8.1", write, tmp_path)
    assert np.array_equal(stored(image, 0), RAMP)
    assert np.array_equal(stored(image, 1), RAMP[::-1])


def test_deflated_dataset(write):
    """A deflated dataset is the same image as the one it was made of."""
    dataset = grey_dataset(RAMP)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    assert np.array_equal(stored(open_image(write(dataset))), RAMP)


def test_one_bit_run_length(write, tmp_path):
    """RLE of a segmentation of single bits, which pydicom refuses."""
    bits = (RAMP % 3 == 0).astype(np.uint8)
    packed = imagecodecs.packbits_encode(np.packbits(bits, bitorder="little").tobytes())
    frame = struct.pack("<16L", 1, 64, *[0] * 14) + packed
    image = compressed([frame], str(RLELossless), write, tmp_path, BitsAllocated=1, BitsStored=1, HighBit=0)
    assert np.array_equal(stored(image), bits)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"])
def test_retired_jpeg_processes(write, tmp_path, uid):
    """Transfer syntaxes retired long ago, still in archives, decode."""
    frame = imagecodecs.jpeg8_encode((RAMP * 4).astype(np.uint8), level=100)
    image = compressed([frame], uid, write, tmp_path, BitsAllocated=8, BitsStored=8, HighBit=7)
    assert np.abs(stored(image) - RAMP * 4).max() <= 2
    assert "lossy" in keys(image)


def test_jpeg_xl(write, tmp_path):
    """JPEG XL without losses gives the values back."""
    frame = imagecodecs.jpegxl_encode(RAMP.astype(np.uint16), lossless=True)
    image = compressed([frame], "1.2.840.10008.1.2.4.110", write, tmp_path)
    assert np.array_equal(stored(image), RAMP)


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"]
)
def test_signed_values_of_unsigned_codestreams(write, tmp_path, uid):
    """Codestreams that carry two's complement as unsigned get their sign back from BitsStored."""
    values = RAMP * 60 - 2000
    bits = (values & 0xFFF).astype(np.uint16)
    encode = {
        "80": imagecodecs.jpegls_encode,
        "70": lambda array: imagecodecs.ljpeg_encode(array, bitspersample=12),
        "90": lambda array: imagecodecs.jpeg2k_encode(
            array, codecformat="j2k", reversible=True, level=0, bitspersample=12
        ),
    }[uid[-2:]]
    image = compressed([encode(bits)], uid, write, tmp_path, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(stored(image), values)


def test_lossy_overshoot_is_clamped(write, tmp_path):
    """A lossy value above BitsStored becomes the largest, it does not wrap to black."""
    bright = np.full((8, 8), 255, np.uint8)
    frame = imagecodecs.jpeg8_encode(bright, level=100)
    image = compressed(
        [frame], "1.2.840.10008.1.2.4.50", write, tmp_path, BitsAllocated=8, BitsStored=7, HighBit=6
    )
    assert (stored(image) == 127).all()


@pytest.mark.parametrize("stored_bits", [12, 16])
def test_codestreams_of_fewer_bits_than_stored(write, tmp_path, stored_bits):
    """An 8-bit codestream in a dataset of 12 or 16 bits keeps its values, lossy or not, signed or not."""
    words = {"BitsStored": stored_bits, "HighBit": stored_bits - 1}
    values = (RAMP * 4).astype(np.uint8)
    lossy = compressed(
        [imagecodecs.jpeg8_encode(values, level=100)], "1.2.840.10008.1.2.4.51", write, tmp_path, **words
    )
    assert np.abs(stored(lossy) - values).max() <= 2
    lossless = compressed(
        [imagecodecs.jpegls_encode(values)], "1.2.840.10008.1.2.4.80", write, tmp_path, **words
    )
    assert np.array_equal(stored(lossless), values)
    negative = (RAMP - 32).astype(np.int8)
    frame = imagecodecs.jpeg2k_encode(negative, codecformat="j2k", level=0, reversible=True)
    signed = compressed([frame], "1.2.840.10008.1.2.4.90", write, tmp_path, PixelRepresentation=1, **words)
    assert np.array_equal(stored(signed), negative)


@pytest.mark.parametrize("nothing", [1e38, -3.4e38, math.nan, -math.inf])
def test_huge_floats_stand_for_nothing(write, nothing):
    """The numbers float images fill their background with do not stretch the steps, nor overflow."""
    values = np.linspace(1, 2, 64).reshape(8, 8)
    values[3] = nothing
    dataset = grey_dataset(RAMP, 8)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 64
    dataset.DoubleFloatPixelData = values.astype("<f8").tobytes()
    frame = open_image(write(dataset)).frame(0)
    assert not frame.codes[3].any()
    assert np.abs(frame.code_map.values()[frame.codes] - values)[:3].max() < 1e-4


def test_padding_of_float_pixels(write):
    """Float images state their padding in an attribute of their own."""
    dataset = grey_dataset(RAMP, 8)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 32
    dataset.FloatPixelData = RAMP.astype("<f4").tobytes()
    dataset.FloatPixelPaddingValue = 0.0
    frame = open_image(write(dataset)).frame(0)
    assert (frame.codes == 0).sum() == 1
    assert frame.code_map.padding == (0, 0)


@pytest.mark.parametrize(
    ("modality", "stated", "expected"),
    [
        ("US", None, "burned_in_possible"),
        ("US", "NO", None),
        ("CT", None, None),
        ("CT", "YES", "burned_in_stated"),
        ("OT", "JOHN DOE", "burned_in_possible"),
    ],
)
def test_burned_in_text_is_pointed_out(write, modality, stated, expected):
    """Kinds of image that often show a name say so, unless the file denies it."""
    dataset = grey_dataset(RAMP, Modality=modality)
    if stated:
        dataset.BurnedInAnnotation = stated
    found = [key for key in keys(open_image(write(dataset))) if key.startswith("burned")]
    assert found == ([expected] if expected else [])


def test_warnings_of_the_parser_become_a_finding(ct, write, recwarn):
    """A header that breaks the standard is read; nothing is printed or raised, nothing of it repeated."""
    path = write(ct)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.2X"))
    image = open_image(path)
    assert "header_warnings" in keys(image)
    assert not recwarn.list


def test_digest_is_of_content(ct, write):
    """Equal pixels and facts have equal digests whoever the patient is; a changed pixel has another."""
    first = open_image(write(ct)).digest
    ct.PatientName, ct.StudyDate, ct.InstitutionName = "Other^Name", "20200101", "Elsewhere"
    assert open_image(write(ct)).digest == first
    ct.WindowCenter, ct.WindowWidth = 40, 80
    assert open_image(write(ct)).digest != first
    assert open_image(write(grey_dataset(RAMP))).digest != open_image(write(grey_dataset(RAMP + 1))).digest


def test_reference_renderer(ct, write):
    """The table equals the equations applied to each pixel by itself, in float64."""
    ct.WindowCenter, ct.WindowWidth = 40, 400
    image = open_image(write(without_padding(ct)))
    x = ct.pixel_array.astype(float) * 1.0 - 1024
    y = np.where(x <= 39.5 - 199.5, 0, np.where(x > 39.5 + 199.5, 255, ((x - 39.5) / 399 + 0.5) * 255))
    drawn = render(image, default_view(image))
    assert np.array_equal(drawn[:, :, 0], np.rint(y))
    frame = image.frame(0)
    assert np.array_equal(drawn[:, :, 1], build_lut(frame.code_map, Window(40, 400))[frame.codes])
    assert not isinstance(frame, ColorFrame)


def wide_profile():
    """Return an ICC profile of a device whose tone curve is not sRGB's."""
    from tests.viewers.openers.made import wide_profile as made

    return made()


@pytest.mark.parametrize("palette", [False, True])
def test_colours_are_brought_to_srgb(write, palette):
    """A colour profile is applied, also behind a palette, and said so; one of sRGB changes nothing."""
    from PIL import ImageCms

    name = "examples_palette.dcm" if palette else "SC_rgb_small_odd.dcm"
    plain = pydicom.dcmread(TEST_FILES / name)
    if "ICCProfile" in plain:
        del plain.ICCProfile
    shown = {}
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind, profile in (("none", None), ("srgb", srgb), ("wide", wide_profile()), ("broken", b"\0" * 200)):
        if profile is not None:
            plain.ICCProfile = profile
        shown[kind] = open_image(write(plain, f"{kind}.dcm"))
    pixels = {kind: image.frame(0).rgb for kind, image in shown.items()}
    keys = {kind: [item.key for item in image.findings] for kind, image in shown.items()}
    assert np.array_equal(pixels["none"], pixels["srgb"])
    assert np.array_equal(pixels["none"], pixels["broken"])
    assert not np.array_equal(pixels["none"], pixels["wide"])
    assert "finding.color_profile_applied" in keys["wide"]
    assert "finding.color_profile_unusable" in keys["broken"]
    assert "finding.color_profile_applied" not in keys["none"] + keys["srgb"]
    assert shown["none"].digest == shown["srgb"].digest != shown["wide"].digest


@pytest.mark.parametrize(
    "changes",
    [
        {"RescaleIntercept": "-1000"},
        {"PixelPaddingValue": 0},
        {"PixelRepresentation": 0},
        {"BitsStored": 12, "HighBit": 11},
        {"PhotometricInterpretation": "MONOCHROME1"},
    ],
)
def test_equal_pixels_that_mean_something_else_are_another_image(ct, write, changes):
    """The digest, under which an image is stored and found again, covers what turns pixels into a picture."""
    first = open_image(write(ct, "first.dcm"))
    for keyword, value in changes.items():
        if keyword == "PixelPaddingValue":
            ct[keyword].value = value
        else:
            setattr(ct, keyword, value)
    assert open_image(write(ct, "second.dcm")).digest != first.digest
