"""No comment stays in a codestream, wherever it stands, and no pixel changes."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from viewers.openers.jpeg import bare_jpeg, bare_jpeg2000, read_tile

MARK = b"ZZMARK"
COMMENT = b"\xff\xfe" + (2 + len(MARK)).to_bytes(2, "big") + MARK
COLOR = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
GREY = np.random.default_rng(2).integers(0, 4096, (64, 96), np.uint16)


def jpeg(**options):
    stream = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x010E] = MARK.decode()
    Pillow.fromarray(COLOR).save(stream, "JPEG", comment=MARK, exif=exif, **options)
    return stream.getvalue()


def between_scans():
    """Return a progressive JPEG with a comment before each scan but the first."""
    first, *scans = jpeg(progressive=True).split(b"\xff\xda")
    assert len(scans) > 2
    return first + b"\xff\xda" + (COMMENT + b"\xff\xda").join(scans)


def in_tile_part(*, open_ended=False):
    """Return a JPEG 2000 codestream with a comment in its tile-part, and lengths of tile-parts."""
    data = imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", reversible=True)
    comment = b"\xff\x64" + (4 + len(MARK)).to_bytes(2, "big") + b"\0\x01" + MARK
    start = data.index(b"\xff\x90")
    body = data.index(b"\xff\x93", start)
    length = int.from_bytes(data[start + 6 : start + 10], "big") + len(comment)
    lengths = b"\xff\x55" + (8).to_bytes(2, "big") + b"\0\x40" + length.to_bytes(4, "big")
    stated = (0 if open_ended else length).to_bytes(4, "big")
    part = data[start : start + 6] + stated + data[start + 10 : body] + comment + data[body:]
    return data[:start] + lengths + part


@pytest.mark.parametrize(
    "data",
    [
        jpeg(),
        jpeg(progressive=True),
        jpeg(restart_marker_blocks=2),
        jpeg(keep_rgb=True),
        between_scans(),
        jpeg() + MARK,
    ],
)
def test_jpeg(data):
    """Baseline and progressive, with restarts, comments, EXIF and bytes after the end."""
    decoded = imagecodecs.jpeg8_decode(data)
    assert MARK in data
    bare = bare_jpeg(data)
    assert MARK not in bare
    assert np.array_equal(imagecodecs.jpeg8_decode(bare), decoded)
    tile = read_tile(data)
    alone = tile.alone(b"", ycbcr=tile.ycbcr)
    assert MARK not in alone + tile.bare()
    assert np.array_equal(imagecodecs.jpeg8_decode(alone), decoded)


@pytest.mark.parametrize(
    ("encode", "decode"),
    [
        (imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
        (imagecodecs.ljpeg_encode, imagecodecs.ljpeg_decode),
    ],
)
def test_lossless_kinds(encode, decode):
    """JPEG-LS and lossless JPEG of 12 bits, whose frames and stuffing differ."""
    data = encode(GREY)
    bare = bare_jpeg(data[:2] + COMMENT + data[2:] + MARK)
    assert MARK not in bare
    assert np.array_equal(decode(bare), GREY)


@pytest.mark.parametrize("open_ended", [False, True])
def test_jpeg2000(open_ended):
    """Comments of tile-parts go, and so do the lengths they were counted in."""
    data = in_tile_part(open_ended=open_ended) + MARK
    assert np.array_equal(imagecodecs.jpeg2k_decode(data), GREY)
    bare = bare_jpeg2000(data)
    assert MARK not in bare
    assert b"\xff\x55\x00\x08" not in bare
    assert np.array_equal(imagecodecs.jpeg2k_decode(bare), GREY)


def test_wrapped_jpeg2000():
    """Of a file of boxes the codestream stays."""
    bare = bare_jpeg2000(imagecodecs.jpeg2k_encode(GREY, codecformat="jp2", reversible=True))
    assert bare.startswith(b"\xff\x4f\xff\x51")
    assert np.array_equal(imagecodecs.jpeg2k_decode(bare), GREY)


def test_what_is_damaged_ends():
    """Every cut of a codestream is read to its end without an error."""
    progressive, wavelets = between_scans(), in_tile_part()
    for cut in range(2, len(progressive), 7):
        bare_jpeg(progressive[:cut])
        read_tile(progressive[:cut])
    for cut in range(2, len(wavelets), 7):
        bare_jpeg2000(wavelets[:cut])
    assert bare_jpeg(b"no JPEG") is None
    assert bare_jpeg2000(b"no JPEG 2000") is None
