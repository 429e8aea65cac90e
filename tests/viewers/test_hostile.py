"""Files that are damaged, absurd or made to do harm end in an error that says why, quickly."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tracemalloc
import zipfile
import zlib

import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.encaps import encapsulate

from tests.viewers.conftest import TEST_FILES, relabelled
from viewers.attributes import texts, uid
from viewers.deid import Policy, deidentify
from viewers.errors import (
    CorruptHeaderError,
    CorruptPixelDataError,
    DecompressionBombError,
    MissingDecoderError,
    NoPixelDataError,
    NotAnImageError,
    OpenError,
    TooLargeError,
    TruncatedFileError,
    UnsupportedImageError,
)
from viewers.intake import open_image
from viewers.limits import Limits

RAW = (TEST_FILES / "CT_small.dcm").read_bytes()
PIXELS = RAW.find(b"\xe0\x7f\x10\x00OW")
ROWS = RAW.find(b"\x28\x00\x10\x00US")


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens bytes as a file with a misleading name."""

    def open_bytes(raw, limits=None):
        path = tmp_path / "innocent.png"
        path.write_bytes(raw)
        return open_image(path, limits)

    return open_bytes


def modified(source, **values):
    """Bytes of a bundled file with attributes replaced."""
    dataset = pydicom.dcmread(TEST_FILES / source)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../x.dcm", RAW)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", "0 bytes"),
        (zipped(), "ZIP"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"<html></html>", "XML/HTML"),
        (b"\x7fELF" + bytes(200), "ELF"),
        (random.Random(1).randbytes(50_000), "50000 bytes"),
    ],
    ids=["empty", "zip", "pdf", "html", "elf", "random"],
)
def test_what_is_no_image_is_named(opened, raw, found):
    """A file of another kind is refused by its content, and the message says what it is."""
    with pytest.raises(NotAnImageError) as caught:
        opened(raw)
    assert caught.value.values["found"] == found


@pytest.mark.parametrize("group", [b"\x08\x00", b"\x02\x00", b"\x00\x08"])
@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_behind_a_plausible_start_are_refused(opened, group, seed):
    """Bytes that begin like a DICOM object without preamble but are noise are refused."""
    with pytest.raises(OpenError):
        opened(group + random.Random(seed).randbytes(20_000))


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_escape(opened, seed):
    """A file with random bytes changed opens or raises an OpenError, never anything else."""
    chance = random.Random(seed)
    raw = bytearray(RAW)
    for _ in range(30):
        raw[chance.randrange(132, PIXELS)] = chance.randrange(256)
    try:
        image = opened(bytes(raw))
    except OpenError:
        return
    assert image.windows(0) or image.is_color


@pytest.mark.parametrize(
    "source", ["MR_small_RLE.dcm", "JPGExtended.dcm", "693_J2KI.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes_in_compressed_pixels_never_escape(opened, source, seed):
    """Damaged codestreams open or raise an OpenError, never anything else."""
    chance = random.Random(seed)
    raw = bytearray((TEST_FILES / source).read_bytes())
    start = raw.rfind(b"\xe0\x7f\x10\x00")
    for _ in range(20):
        raw[chance.randrange(start + 20, len(raw))] = chance.randrange(256)
    try:
        image = opened(bytes(raw))
    except OpenError:
        return
    assert image.frame_count == 1


@pytest.mark.parametrize("length", [132, 140, 200, 340, 1000, 3000, 5000, 6000, 7000, 20_000, 39_000])
def test_a_truncated_file_is_refused(opened, length):
    """A file cut anywhere is refused; cut inside its pixels, with the bytes found and expected."""
    with pytest.raises(OpenError) as caught:
        opened(RAW[:length])
    if length > PIXELS + 12:
        assert isinstance(caught.value, TruncatedFileError)
        assert caught.value.values == {"part": "pixels", "found": length - PIXELS - 12, "expected": 32768}


def test_pixel_data_of_an_impossible_representation(opened):
    """A value representation that does not exist, on the last element, is an error of ours."""
    with pytest.raises(OpenError):
        opened(RAW[: PIXELS + 4] + b"\x4f\xff" + RAW[PIXELS + 6 :])


def test_a_preamble_alone_is_refused(opened):
    """Less than a preamble is no image, whatever follows is missing."""
    with pytest.raises(NotAnImageError):
        opened(bytes(100))
    # This file's preamble begins as a TIFF does, so that is what its first 100 bytes are.
    with pytest.raises(UnsupportedImageError):
        opened(RAW[:100])


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (modified("CT_small.dcm", Rows=65535, Columns=65535), TooLargeError),
        (modified("CT_small.dcm", NumberOfFrames=2_000_000_000), TooLargeError),
        (modified("CT_small.dcm", NumberOfFrames=1000), TruncatedFileError),
        (modified("CT_small.dcm", Rows=0), CorruptHeaderError),
        (modified("CT_small.dcm", BitsAllocated=13), UnsupportedImageError),
        (modified("CT_small.dcm", PixelRepresentation=7), CorruptHeaderError),
        (modified("CT_small.dcm", PhotometricInterpretation="PATIENT NAME"), UnsupportedImageError),
        (modified("CT_small.dcm", SamplesPerPixel=4), UnsupportedImageError),
        (modified("MR_small_RLE.dcm", Rows=65535, Columns=65535), TooLargeError),
        (modified("MR_small_RLE.dcm", NumberOfFrames=2_000_000_000), TooLargeError),
        (modified("MR_small_RLE.dcm", Rows=128), CorruptPixelDataError),
        (modified("MR_small_RLE.dcm", NumberOfFrames=3), CorruptPixelDataError),
        (modified("MR_small_jp2klossless.dcm", Rows=65535, Columns=65535), TooLargeError),
        (modified("MR_small_jp2klossless.dcm", Rows=63), CorruptPixelDataError),
    ],
)
def test_absurd_attributes_are_refused_before_allocating(opened, raw, error):
    """Sizes come from headers and are checked before memory is taken: below 64 MiB in every case."""
    tracemalloc.start()
    try:
        with pytest.raises(error):
            opened(raw)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_too_large_says_found_and_limit(opened):
    """The error names the quantity, what was found and what is allowed."""
    with pytest.raises(TooLargeError) as caught:
        opened(modified("CT_small.dcm", Rows=20_000, Columns=20_000))
    assert caught.value.values == {"quantity": "pixels per frame", "found": 400_000_000, "limit": 100_000_000}
    with pytest.raises(TooLargeError) as caught:
        opened(RAW, Limits(file_bytes=1000))
    assert caught.value.values == {"quantity": "bytes", "found": len(RAW), "limit": 1000}


def _deflated(size):
    """CT_small's header, deflated, with ``size`` bytes of zeros as pixels."""
    meta = RAW[: 144 + struct.unpack_from("<L", RAW, 140)[0]]
    old = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    new = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    assert old in meta
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(RAW[len(meta) : PIXELS] + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<L", size))
    for _ in range(size // 2**20):
        body += packer.compress(bytes(2**20))
    return meta.replace(old, new) + body + packer.flush()


def test_a_deflate_bomb_is_stopped(opened):
    """A deflated dataset of 300 MiB inside 0.3 MiB is stopped at the limit, not after inflating all of it."""
    raw = _deflated(300 * 2**20)
    assert len(raw) < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(DecompressionBombError):
            opened(raw, Limits(file_bytes=4 * 2**20))
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_a_jpeg_that_asks_for_more_than_its_header_says(opened):
    """A codestream of 65000 x 65000 behind a header of 100 x 100 is never given to the decoder."""
    dataset = pydicom.dcmread(TEST_FILES / "SC_rgb_jpeg_dcmtk.dcm")
    pixels = bytearray(dataset.PixelData)
    at = pixels.find(b"\xff\xc0")
    struct.pack_into(">HH", pixels, at + 5, 65000, 65000)
    dataset.PixelData = bytes(pixels)
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(CorruptPixelDataError, match="65000 x 65000"):
        opened(stream.getvalue())


def test_a_jpeg2000_that_asks_for_more_than_its_header_says(opened):
    """The same for the SIZ marker of JPEG 2000."""
    dataset = pydicom.dcmread(TEST_FILES / "MR_small_jp2klossless.dcm")
    pixels = bytearray(dataset.PixelData)
    at = pixels.find(b"\xff\x51")
    struct.pack_into(">II", pixels, at + 6, 60000, 60000)
    dataset.PixelData = bytes(pixels)
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(CorruptPixelDataError, match="60000 x 60000"):
        opened(stream.getvalue())


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"])
def test_run_length_and_deflate_bombs_stop_at_one_frame(opened, syntax):
    """A frame that unpacks to 64 MiB behind a header of 4 KiB is an error, and takes no such memory."""
    dataset = pydicom.dcmread(TEST_FILES / "MR_small_RLE.dcm")
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    rle = struct.pack("<16L", 1, 64, *[0] * 14) + bytes([129, 0]) * (2**26 // 128)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = packer.compress(bytes(2**26)) + packer.flush()
    dataset.PixelData = encapsulate([rle if syntax.endswith(".5") else deflated])
    stream = io.BytesIO()
    dataset.save_as(stream)
    raw = relabelled(stream.getvalue(), syntax)
    tracemalloc.start()
    try:
        with pytest.raises(OpenError):
            opened(raw)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [50, 3000])
def test_deep_nesting(opened, depth):
    """Deeply nested sequences of undefined length are refused or read, never a RecursionError."""
    opening = (
        struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    )
    raw = RAW[:ROWS] + opening * depth
    with pytest.raises(OpenError):
        opened(raw)


def test_millions_of_elements_are_refused(opened):
    """A header of a million empty elements stops at the limit before any of them is made."""
    tiny = b"".join(struct.pack("<HH2sH", 0x0009, 0x1000 + (n & 0xFFF), b"LO", 0) for n in range(600_000))
    with pytest.raises(TooLargeError, match="elements"):
        opened(RAW[: RAW.find(b"\x10\x00\x10\x00PN")] + tiny + RAW[PIXELS:])


@pytest.mark.parametrize(
    "preamble", [b"MZ", b"<html><script>alert(1)</script>", b"\x89PNG\r\n\x1a\n", b"II*\0"]
)
def test_a_dicom_file_in_disguise_is_read_as_dicom(opened, preamble):
    """What stands in the preamble is ignored: the DICM mark decides."""
    image = opened(preamble.ljust(128, b" ") + RAW[128:])
    assert (image.kind, image.modality) == ("dicom", "CT")


def test_a_picture_bomb_is_refused_unread(opened):
    """A PNG of 196 or 121 million pixels is refused from its size."""
    stream = io.BytesIO()
    Pillow.new("1", (14_000, 14_000)).save(stream, "PNG")
    with pytest.raises(DecompressionBombError) as caught:
        opened(stream.getvalue())
    assert caught.value.values["found"] == "> 178956970"
    small = io.BytesIO()
    Pillow.new("1", (11_000, 11_000)).save(small, "PNG")
    with pytest.raises(DecompressionBombError) as caught:
        opened(small.getvalue())
    assert caught.value.values["found"] == 121_000_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_a_truncated_picture_is_refused(opened, kind, part):
    """A picture cut short is an error, not a half grey picture."""
    stream = io.BytesIO()
    noise = random.Random(3).randbytes(64 * 64 * 3)
    Pillow.frombytes("RGB", (64, 64), noise).save(stream, kind)
    raw = stream.getvalue()
    with pytest.raises(OpenError):
        opened(raw[: int(len(raw) * part)])


def test_a_document_without_pixels_names_its_kind(opened):
    """A structured report is refused with the name of its SOP class."""
    with pytest.raises(NoPixelDataError, match="Basic Text SR Storage"):
        opened((TEST_FILES / "reportsi.dcm").read_bytes())


def test_an_unknown_class_is_not_repeated(opened):
    """A SOP class that is not the standard's may hold anything, and is not shown."""
    dataset = pydicom.dcmread(TEST_FILES / "reportsi.dcm")
    dataset.SOPClassUID = "1.2.3.4.5.6.7"
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.3.4.5.6.7"
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(NoPixelDataError) as caught:
        opened(stream.getvalue())
    assert caught.value.values == {"found": "SR"}


@pytest.mark.parametrize(("uid", "name"), [("1.2.840.10008.1.2.4.102", "MPEG-4"), ("1.2.3.4", "?")])
def test_a_missing_decoder_names_the_transfer_syntax(opened, uid, name):
    """Video and private transfer syntaxes are refused by name."""
    dataset = pydicom.dcmread(TEST_FILES / "MR_small_RLE.dcm")
    dataset.file_meta.TransferSyntaxUID = uid
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(MissingDecoderError) as caught:
        opened(stream.getvalue())
    assert caught.value.values["uid"] == uid
    assert name in str(caught.value.values["syntax"])


def test_values_of_headers_are_never_logged(opened, caplog, capfd):
    """Libraries quote what they find odd: nothing of it reaches a log, a warning or the terminal."""
    dataset = pydicom.dcmread(io.BytesIO(RAW))
    secret = b"DOE^JANE 17"
    for keyword in ("InstanceNumber", "SliceThickness", "StudyDate", "PatientAge", "KVP"):
        element = dataset[keyword]
        dataset[keyword] = pydicom.dataelem.RawDataElement(
            element.tag,
            element.VR,
            len(secret) + 1,
            secret + b" ",
            0,
            is_implicit_VR=False,
            is_little_endian=True,
        )
    stream = io.BytesIO()
    dataset.save_as(stream)
    assert secret in stream.getvalue()
    with caplog.at_level("DEBUG"):
        image = opened(stream.getvalue())
        deidentify(dataset, Policy(b"k" * 32)).save(io.BytesIO())
    assert image.facts.get("KVP") is None
    shown = caplog.text + "".join(capfd.readouterr())
    assert "DOE" not in shown


@pytest.mark.parametrize(
    ("vr", "value"), [(b"CS", b"ISO_IR 100\\a\0b\0"), (b"US", b"\x64\x00"), (b"SQ", b""), (b"FD", bytes(8))]
)
def test_character_sets_that_are_none(opened, vr, value):
    """Zeros, numbers and sequences in place of the character set's name: opened or refused by name."""
    at = RAW.index(b"\x08\x00\x05\x00CS")
    size = 8 + struct.unpack_from("<H", RAW, at + 6)[0]
    long = vr == b"SQ"
    head = b"\0\0" + struct.pack("<L", len(value)) if long else struct.pack("<H", len(value))
    raw = RAW[:at] + b"\x08\x00\x05\x00" + vr + head + value + RAW[at + size :]
    with contextlib.suppress(OpenError):
        assert opened(raw).modality == "CT"


def test_sequences_in_place_of_text_are_not_written_out():
    """Twenty sequences inside each other under one attribute: pydicom would write 2 ** 20 copies of it."""
    item = pydicom.Dataset()
    item.add_new(0x00080016, "SQ", [])
    for _ in range(40):
        outer = pydicom.Dataset()
        outer.add_new(0x00080016, "SQ", [item])
        item = outer
    assert texts(item, "SOPClassUID") == []
    assert uid(item, "SOPClassUID") == ""
