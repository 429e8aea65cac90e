"""What hides in pixel data beside the pixels does not leave, and no pixel changes."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from PIL import ImageCms
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.sequence import Sequence

from tests.viewers.conftest import TEST_FILES, relabelled
from viewers.deid import Policy, deidentify
from viewers.image import ColorFrame
from viewers.intake import open_image

POLICY = Policy(b"0123456789abcdef")
MARK = b"ZZMARK"
CODES = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128) % 4096


@pytest.fixture
def grey(ct):
    """Return 128 x 128 pixels of 12 bits in 16."""
    ct.BitsStored, ct.HighBit, ct.PixelRepresentation = 12, 11, 0
    ct.WindowCenter, ct.WindowWidth = 2048, 4096
    del ct.PixelPaddingValue
    ct.PixelData = CODES.tobytes()
    return ct


def written(dataset):
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def drawn(grey):
    """Draw a square into bit 12 of each word, as retired overlays are, and describe it."""
    words = CODES.copy()
    words[20:40, 20:40] |= 1 << 12
    for element, vr, value in (
        (0x0010, "US", 128),
        (0x0011, "US", 128),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 16),
        (0x0102, "US", 12),
    ):
        grey.add_new(0x60000000 | element, vr, value)
    return words


@pytest.mark.parametrize("order", ["<", ">"])
def test_overlays_in_unused_bits_go(grey, order, write):
    """Bits above the value are cleared, whatever the order of bytes; the picture stays."""
    grey.PixelData = drawn(grey).astype(f"{order}u2").tobytes()
    if order == ">":
        grey.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    made = deidentify(grey, POLICY).dataset
    assert np.array_equal(np.frombuffer(made.PixelData, f"{order}u2").reshape(128, 128), CODES)
    if order == "<":
        assert np.array_equal(open_image(write(made)).frame(0).codes, CODES)


def test_signs_are_extended(grey):
    """Words of negative values keep all their upper bits, and padding stays padding."""
    values = CODES.astype(np.int16) - 2048
    grey.PixelRepresentation = 1
    grey.add_new(0x00280120, "SS", -2048)
    stray = values.copy()
    stray[::2] ^= 1 << 13
    grey.PixelData = stray.tobytes()
    made = deidentify(grey, POLICY).dataset
    assert np.array_equal(np.frombuffer(made.PixelData, "<i2").reshape(128, 128), values)
    assert made.PixelPaddingValue == -2048


def test_values_in_the_upper_bits_of_a_word(grey):
    """Where the value ends at bit 15, what is below it goes."""
    grey.HighBit = 15
    grey.PixelData = (CODES << 4 | 5).astype("<u2").tobytes()
    made = deidentify(grey, POLICY).dataset
    assert np.array_equal(np.frombuffer(made.PixelData, "<u2").reshape(128, 128), CODES << 4)


def test_padding_outside_the_stored_bits(grey, write):
    """A value of padding that no pixel can have pads nothing, before and after."""
    words = CODES.copy()
    words[:10] = 63536
    grey.PixelData = words.tobytes()
    grey.add_new(0x00280120, "US", 63536)
    before = open_image(write(grey, "before.dcm")).frame(0)
    after = open_image(write(deidentify(grey, POLICY).dataset)).frame(0)
    assert np.array_equal(before.codes, after.codes)
    assert before.code_map.padding == after.code_map.padding


def test_overlays_in_rle_go(grey, write):
    """RLE keeps whole words, so its frames are looked into; those without anything there stay RLE."""
    from pydicom.pixels.encoders import RLELosslessEncoder

    def compress(words):
        encoded = RLELosslessEncoder.encode(
            words.tobytes(),
            rows=128,
            columns=128,
            samples_per_pixel=1,
            number_of_frames=1,
            bits_allocated=16,
            bits_stored=16,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
        grey.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
        grey.PixelData = encapsulate([encoded])
        grey["PixelData"].VR, grey["PixelData"].is_undefined_length = "OB", True
        return deidentify(grey, POLICY).dataset

    plain = compress(CODES)
    assert plain.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert plain.PixelData == grey.PixelData
    made = compress(drawn(grey))
    assert np.array_equal(np.frombuffer(made.PixelData, "<u2").reshape(128, 128), CODES)
    assert np.array_equal(open_image(write(made)).frame(0).codes, CODES)


def test_nothing_follows_the_last_pixel(grey):
    """Native data is as long as its pixels; data that is too short stays, for the opener to say so."""
    grey.PixelData += MARK * 4
    assert deidentify(grey, POLICY).dataset.PixelData == CODES.tobytes()
    grey.PixelData = CODES.tobytes()[:100]
    assert deidentify(grey, POLICY).dataset.PixelData == CODES.tobytes()[:100]


@pytest.mark.parametrize("extended", [False, True])
def test_frames_without_comments(grey, extended, write):
    """EXIF, comments and what follows each frame go; offsets name the new places."""
    exif = Pillow.Exif()
    exif[0x010E] = MARK.decode()
    frames = []
    for shift in (0, 3):
        stream = io.BytesIO()
        Pillow.fromarray((CODES >> 4 + shift).astype(np.uint8)).save(
            stream, "JPEG", comment=MARK, exif=exif, quality=95
        )
        frames.append(stream.getvalue() + MARK)
    grey.BitsAllocated = grey.BitsStored = 8
    grey.HighBit, grey.NumberOfFrames = 7, 2
    grey.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    if extended:
        data, grey.ExtendedOffsetTable, grey.ExtendedOffsetTableLengths = encapsulate_extended(frames)
        grey.PixelData = data
    else:
        grey.PixelData = encapsulate(frames)
    grey["PixelData"].VR, grey["PixelData"].is_undefined_length = "OB", True
    assert MARK in written(grey)
    made = deidentify(grey, POLICY).dataset
    assert MARK not in written(made)
    before, after = open_image(write(grey, "before.dcm")), open_image(write(made))
    for index in range(2):
        assert np.array_equal(before.frame(index).codes, after.frame(index).codes)
    assert "ExtendedOffsetTable" not in made
    assert len(list(generate_frames(made.PixelData, number_of_frames=2))) == 2


@pytest.mark.parametrize(
    "name",
    [
        "693_J2KI.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "JPEG-lossy.dcm",
        "JPEGLSNearLossless_16.dcm",
        "SC_jpeg_no_color_transform.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_jpeg_app14_dcmd.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_real_frames_stay_what_they_are(name, write):
    """Frames of real files decode to the same after the comments of their encoders went."""
    source = TEST_FILES / name
    made = deidentify(pydicom.dcmread(source), POLICY).dataset
    before, after = open_image(source).frame(0), open_image(write(made)).frame(0)
    attribute = "rgb" if isinstance(before, ColorFrame) else "codes"
    assert np.array_equal(getattr(before, attribute), getattr(after, attribute))


def test_jpeg_2000_without_comments(grey, write):
    """OpenJPEG writes its name into each codestream."""
    encoded = imagecodecs.jpeg2k_encode(CODES, codecformat="j2k", reversible=True, bitspersample=12)
    grey.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    grey.PixelData = encapsulate([encoded])
    grey["PixelData"].VR, grey["PixelData"].is_undefined_length = "OB", True
    assert b"OpenJPEG" in encoded
    made = deidentify(grey, POLICY).dataset
    assert b"OpenJPEG" not in made.PixelData
    assert np.array_equal(open_image(write(made)).frame(0).codes, CODES)


def test_jpeg_xl_without_boxes(grey, write):
    """Boxes of EXIF and XMP go, whether their size is short or long."""
    encoded = imagecodecs.jpegxl_encode(CODES, lossless=True, usecontainer=True, bitspersample=12)
    short = (8 + len(MARK)).to_bytes(4, "big") + b"xml " + MARK
    long = (1).to_bytes(4, "big") + b"Exif" + (16 + len(MARK)).to_bytes(8, "big") + MARK
    at = encoded.index(b"jxlc") - 4
    grey.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    grey.PixelData = encapsulate([encoded[:at] + short + long + encoded[at:]])
    grey["PixelData"].VR, grey["PixelData"].is_undefined_length = "OB", True
    path = write(grey, "before.dcm")
    path.write_bytes(relabelled(path.read_bytes(), "1.2.840.10008.1.2.4.110"))
    before = open_image(path)
    deidentify(pydicom.dcmread(path), POLICY).save(path)
    assert MARK not in path.read_bytes()
    after = open_image(path)
    assert np.array_equal(after.frame(0).codes, before.frame(0).codes)
    assert np.array_equal(after.frame(0).codes, CODES)


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"]
)
def test_what_was_not_searched_is_told(grey, syntax):
    """Video is not taken apart, and what is no frame of its kind cannot be; the reader is told."""
    grey.file_meta.TransferSyntaxUID = syntax
    grey.PixelData = b"no items" if syntax.endswith(".5") else encapsulate([MARK])
    grey["PixelData"].VR, grey["PixelData"].is_undefined_length = "OB", True
    assert "finding.pixels_not_searched" in [item.key for item in deidentify(grey, POLICY).findings]


def test_what_was_searched_is_not_told(grey):
    """Of plain pixels, and of a report without any, nothing needs to be said."""
    assert "finding.pixels_not_searched" not in [item.key for item in deidentify(grey, POLICY).findings]
    del grey.PixelData
    assert "finding.pixels_not_searched" not in [item.key for item in deidentify(grey, POLICY).findings]


def test_profiles_keep_colours_only():
    """Texts of a profile go, at every level; one that is none goes altogether."""
    dataset = pydicom.dcmread(TEST_FILES / "examples_rgb_color.dcm")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = "sRGB built-in".encode("utf-16-be")
    assert text in profile
    path = Dataset()
    path.ICCProfile = profile
    dataset.ICCProfile = profile + MARK
    dataset.OpticalPathSequence = Sequence([path])
    made = deidentify(dataset, POLICY).dataset
    for cleaned in (made.ICCProfile, made.OpticalPathSequence[0].ICCProfile):
        assert text not in cleaned
        assert MARK not in cleaned
        ImageCms.ImageCmsProfile(io.BytesIO(cleaned))
    dataset.ICCProfile = MARK
    assert "ICCProfile" not in deidentify(dataset, POLICY).dataset
