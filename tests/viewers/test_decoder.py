"""Codestreams looked at and decoded; what is available and what is not."""

from __future__ import annotations

import functools
import struct

import imagecodecs
import numpy as np
import pytest

from viewers.codestream import CodestreamHeader, frame_bytes, read_header, split_fragments
from viewers.decoder import CODECS, FrameShape, decode, decoders, native_values, require
from viewers.errors import CorruptPixelDataError, MissingDecoderError, TruncatedFileError

GREY = (np.arange(80, dtype=np.uint8) * 3).reshape(8, 10)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def items(*values, offsets=()):
    """Encapsulate fragments with a basic offset table."""
    table = struct.pack(f"<{len(offsets)}L", *offsets)
    parts = [struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value for value in (table, *values)]
    return memoryview(b"".join(parts) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))


def joined(data, count):
    return [frame_bytes(data, fragments) for fragments in split_fragments(data, count)]


def test_one_fragment_for_each_frame():
    """As many fragments as frames: one each, offset table or not."""
    assert joined(items(b"aa", b"bb", b"cc"), 3) == [b"aa", b"bb", b"cc"]
    assert joined(items(b"aa", b"bb", offsets=(0, 10)), 2) == [b"aa", b"bb"]


def test_one_frame_of_many_fragments():
    """All fragments belong to the only frame."""
    assert joined(items(b"aa", b"bb", b"cc"), 1) == [b"aabbcc"]


def test_frames_by_offset_table():
    """The offset table tells where frames begin when there are more fragments than frames."""
    assert joined(items(b"aa", b"bb", b"cc", offsets=(0, 20)), 2) == [b"aabb", b"cc"]
    assert joined(items(b"aa", b"bb", b"cc", offsets=(0, 10)), 2) == [b"aa", b"bbcc"]


def test_frames_by_codestream_start():
    """A fragment that begins a JPEG begins a frame, whatever a wrong offset table says."""
    for offsets in ((), (0, 22), (0, 0), (0, 24), (0, 12), (8, 30), (0,)):
        found = joined(items(b"\xff\xd8a.", b"bb", b"\xff\xd8c.", offsets=offsets), 2)
        assert found == [b"\xff\xd8a.bb", b"\xff\xd8c."]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (memoryview(b""), 1),
        (memoryview(b"not items at all"), 1),
        (items(), 1),
        (items(b"aa", b"bb", b"cc"), 2),
        (items(b"aa", b"bb", b"cc", offsets=(0, 999)), 2),
        (items(b"aa", b"bb", b"cc", offsets=(10, 20)), 2),
        (items(b"aa", b"bb", b"cc", offsets=(0, 0)), 2),
        (items(b"aa", b"bb", b"cc", offsets=(0, 14)), 2),
    ],
)
def test_fragments_that_fit_no_frames(data, count):
    """Missing items and contradicting counts are errors, never a guess."""
    with pytest.raises(ValueError, match=r"item|fragment"):
        split_fragments(data, count)


def test_a_fragment_cut_short_is_kept():
    """A last fragment that runs past the end is what is there: the decoder will say what is wrong with it."""
    assert joined(items(b"aabbcc")[:-12], 1) == [b"aa"]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (imagecodecs.jpeg8_encode(GREY), CodestreamHeader("jpeg8", 8, 10, 1, 8, color_transform=True)),
        (imagecodecs.jpeg8_encode(RGB), CodestreamHeader("jpeg8", 8, 10, 3, 8, color_transform=True)),
        (imagecodecs.ljpeg_encode(GREY), CodestreamHeader("ljpeg", 8, 10, 1, 8)),
        (imagecodecs.jpegls_encode(GREY), CodestreamHeader("jpegls", 8, 10, 1, 8)),
        (
            imagecodecs.jpeg2k_encode(GREY, codecformat="j2k"),
            CodestreamHeader("jpeg2k", 8, 10, 1, 8, color_transform=False),
        ),
        (
            imagecodecs.jpeg2k_encode(RGB, codecformat="j2k", mct=True),
            CodestreamHeader("jpeg2k", 8, 10, 3, 8, color_transform=True),
        ),
    ],
    ids=["jpeg grey", "jpeg color", "jpeg lossless", "jpeg-ls", "jpeg 2000", "jpeg 2000 rotated"],
)
def test_headers_of_codestreams(frame, expected):
    """Kind, size, components, precision and colour are read without decoding."""
    assert read_header(frame) == expected


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_a_cut_codestream_has_no_header(length):
    """Too few bytes give no header rather than an exception."""
    assert read_header(imagecodecs.jpeg2k_encode(GREY, codecformat="j2k")[: min(length, 40)]) is None
    read_header(imagecodecs.jpeg8_encode(GREY)[:length])


reversible = functools.partial(imagecodecs.jpeg2k_encode, codecformat="j2k", level=0, reversible=True)
LOSSLESS = {
    "1.2.840.10008.1.2.4.57": imagecodecs.ljpeg_encode,
    "1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_encode,
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode,
    "1.2.840.10008.1.2.4.90": reversible,
    "1.2.840.10008.1.2.4.92": reversible,
    "1.2.840.10008.1.2.4.201": functools.partial(imagecodecs.htj2k_encode, reversible=True),
    "1.2.840.10008.1.2.4.110": functools.partial(imagecodecs.jpegxl_encode, lossless=True),
}


@pytest.mark.parametrize("uid", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 16])
def test_lossless_codings_give_the_values_back(uid, bits):
    """What was encoded comes out, for 8 and 16 bits."""
    values = GREY.astype(f"u{bits // 8}") * (257 if bits == 16 else 1)
    decoded, _ = decode(require(uid), LOSSLESS[uid](values), FrameShape(0, 8, 10, 1, bits, bits))
    assert np.array_equal(decoded, values)


def test_sizes_must_agree():
    """A codestream of another size, or with other components, than the header is never decoded."""
    codec = require("1.2.840.10008.1.2.4.80")
    for shape in (
        FrameShape(4, 8, 11, 1, 8, 8),
        FrameShape(4, 9, 10, 1, 8, 8),
        FrameShape(4, 8, 10, 3, 8, 8),
    ):
        with pytest.raises(CorruptPixelDataError) as caught:
            decode(codec, imagecodecs.jpegls_encode(GREY), shape)
        assert caught.value.values["frame"] == 5


def test_what_is_no_codestream_is_refused():
    """Rubbish under a JPEG label is an error that names the codec."""
    with pytest.raises(CorruptPixelDataError, match="jpegls"):
        decode(require("1.2.840.10008.1.2.4.80"), b"rubbish", FrameShape(0, 8, 10, 1, 8, 8))


@pytest.mark.parametrize(
    "data", [b"", bytes(10), struct.pack("<16L", 9, 64, *[0] * 14), struct.pack("<16L", 1, 64, *[0] * 14)]
)
def test_broken_run_lengths(data):
    """RLE without a header, with a wrong number of segments, or with too little in them is refused."""
    with pytest.raises(CorruptPixelDataError):
        decode(require("1.2.840.10008.1.2.5"), data, FrameShape(0, 8, 10, 1, 8, 8))


def test_native_frames_must_be_whole():
    """Too few bytes raise with the numbers."""
    with pytest.raises(TruncatedFileError) as caught:
        native_values(bytes(79), FrameShape(0, 8, 10, 1, 8, 8))
    assert caught.value.values == {"part": "pixels", "found": 79, "expected": 80}


def test_listing_of_decoders():
    """Each transfer syntax is listed once, with what decodes it; only video and remote have nothing."""
    listed = decoders()
    assert len({status.uid for status in listed}) == len(listed) == len(CODECS)
    assert all(status.available == bool(status.plugin) for status in listed)
    missing = {status.uid for status in listed if not status.available}
    assert missing == {uid for uid, codec in CODECS.items() if codec.codec in {"video", "remote"}}
    assert {status.plugin for status in listed} == {"", "numpy", "zlib", "imagecodecs"}


def test_names_are_the_standards():
    """UIDs and their lossy marks agree with pydicom's dictionary, where it knows them."""
    from pydicom.uid import UID_dictionary

    for uid, codec in CODECS.items():
        if uid in UID_dictionary and codec.codec not in {"none", "rle", "deflate", "video", "remote"}:
            name = UID_dictionary[uid][0]
            assert ("Lossless" in name and "Lossy" not in name) == (not codec.lossy), uid


def test_a_codec_that_is_not_compiled_in(monkeypatch):
    """Without the codec, the error names transfer syntax, plugin and package, and the listing says so."""
    monkeypatch.setattr(imagecodecs.JPEGLS, "available", False)
    with pytest.raises(MissingDecoderError) as caught:
        require("1.2.840.10008.1.2.4.80")
    assert caught.value.values == {
        "syntax": "JPEG-LS Lossless",
        "uid": "1.2.840.10008.1.2.4.80",
        "plugin": "imagecodecs",
        "package": "imagecodecs",
    }
    status = next(status for status in decoders() if status.uid.endswith(".4.80"))
    assert (status.available, status.plugin, status.missing) == (False, "", "imagecodecs")


@pytest.mark.parametrize(("precision", "left_out"), [(12, 1), (12, 2), (12, 4), (16, 4), (16, 8)])
def test_lossless_jpeg_that_leaves_bits_out(precision, left_out):
    """A point transform is undone: decoded values are as large as they were, their lowest bits 0."""
    values = (np.arange(96 * 80).reshape(96, 80) * 37 % 2**precision).astype(np.uint16)
    # What is coded with bits left out is what is coded of shorter values, but for what the headers say.
    kept = precision - left_out
    shorter = (values >> left_out).astype(np.uint8 if kept == 8 else np.uint16)
    coded = imagecodecs.ljpeg_encode(shorter, bitspersample=kept)
    frame = bytearray(coded)
    sof, sos = frame.index(b"\xff\xc3"), frame.index(b"\xff\xda")
    assert frame[sof + 4] == kept
    frame[sof + 4] = precision
    frame[sos + 9] |= left_out
    shape = FrameShape(0, 96, 80, 1, 16, precision)
    decoded, header = decode(CODECS["1.2.840.10008.1.2.4.70"], bytes(frame), shape)
    assert header == CodestreamHeader("ljpeg", 96, 80, 1, precision, None, left_out)
    assert np.array_equal(decoded, values >> left_out << left_out)
