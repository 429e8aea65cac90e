"""Slides that are cut, absurd or made to do harm end in a named error, quickly and in little memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from tests.viewers.openers import made
from viewers.errors import (
    CorruptHeaderError,
    CorruptTileError,
    DecompressionBombError,
    OpenError,
    TooLargeError,
    TruncatedFileError,
    UnsupportedImageError,
)
from viewers.geometry import Region
from viewers.limits import Limits
from viewers.openers import is_slide, open_slide


def entry(raw, tag):
    """Where the entry of a tag begins in the first page of a little-endian TIFF."""
    place = struct.unpack_from("<L", raw, 4)[0]
    count = struct.unpack_from("<H", raw, place)[0]
    entries = [place + 2 + 12 * number for number in range(count)]
    return next(at for at in entries if struct.unpack_from("<H", raw, at)[0] == tag)


def changed(path, **tags):
    """Write values straight into entries of the first page."""
    raw = bytearray(path.read_bytes())
    for tag, value in tags.items():
        at = entry(raw, int(tag[1:]))
        struct.pack_into("<HL", raw, at + 2, 4, 1)
        struct.pack_into("<L", raw, at + 8, value)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("write", [made.write_tiff, made.write_aperio, made.write_ome])
@pytest.mark.parametrize("part", [0.01, 0.2, 0.5, 0.9, 0.99])
def test_cut_files(write, part, tmp_path):
    """A file cut anywhere is refused, or opens with what is there; never anything else."""
    raw = write(tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(raw[: int(len(raw) * part)])
    try:
        with open_slide(tmp_path / "a") as slide:  # what stands after the cut was a label
            assert part > 0.8
            assert slide.read_level(0, Region(0, 0, 660, 460)).shape == (460, 660, 3)
    except OpenError:
        assert not is_slide(tmp_path / "a")


def test_a_slide_whose_pixels_are_cut_off(tmp_path):
    """A slide whose tiles reach beyond the end says how long it is and how long it should be."""
    path = made.write_huge(tmp_path / "a.tif", 3000, 2000, (1,))
    raw = bytearray(path.read_bytes())
    at = struct.unpack_from("<Q", raw, 8)[0]
    entries = [at + 8 + 20 * number for number in range(struct.unpack_from("<Q", raw, at)[0])]
    place = next(at for at in entries if struct.unpack_from("<H", raw, at)[0] == 324)
    struct.pack_into("<Q", raw, struct.unpack_from("<Q", raw, place + 12)[0], len(raw) - 10)
    path.write_bytes(raw)
    with pytest.raises(TruncatedFileError) as caught:
        open_slide(path)
    assert caught.value.values["found"] == len(raw) < caught.value.values["expected"]


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("syntax", [made.JPEG, made.EXPLICIT, made.RLE])
def test_cut_dicom(syntax, part, tmp_path):
    """The same for DICOM slides; cut between frames the bytes found and expected are said."""
    path = made.write_wsm(tmp_path / "w", syntax) / "0.dcm"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    with pytest.raises(OpenError):
        open_slide(path)


@pytest.mark.parametrize(
    ("tags", "error"),
    [
        ({"_256": 2**32 - 1, "_257": 2**32 - 1}, TooLargeError),
        ({"_256": 2**20, "_257": 2**18}, CorruptHeaderError),
        ({"_256": 0}, OpenError),
        ({"_322": 2**31, "_323": 2**31}, TooLargeError),
        ({"_322": 0}, OpenError),
        ({"_324": 2**32 - 1}, OpenError),
        ({"_259": 65_000}, OpenError),
    ],
)
def test_absurd_tags(tags, error, tmp_path):
    """Sizes, places and kinds that cannot be are refused before memory is taken."""
    path = changed(made.write_tiff(tmp_path / "a.tif", compression="lzw"), **tags)
    tracemalloc.start()
    try:
        with pytest.raises(error):
            open_slide(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"TotalPixelMatrixColumns": 2**31 - 1, "TotalPixelMatrixRows": 2**31 - 1}, TooLargeError),
        ({"TotalPixelMatrixColumns": 100_000}, CorruptHeaderError),
        ({"NumberOfFrames": 2**30}, OpenError),
        ({"NumberOfFrames": 2}, UnsupportedImageError),
        ({"Rows": 0}, CorruptHeaderError),
        ({"Rows": 65_535, "Columns": 65_535}, TooLargeError),
        ({"PhotometricInterpretation": "YILMAZ"}, UnsupportedImageError),
        ({"SamplesPerPixel": 4}, UnsupportedImageError),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]}, OpenError),
    ],
)
def test_absurd_attributes(attributes, error, tmp_path):
    """Attributes that cannot be are refused, and names in them are not repeated."""
    dataset = made.wsm_dataset(made.tissue(), 1)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(error) as caught:
        open_slide(tmp_path / "a.dcm")
    assert "YILMAZ" not in str(caught.value)


def test_a_tile_that_asks_for_more_than_a_tile(tmp_path):
    """A JPEG of 65,500 x 65,500 where a tile of 256 x 256 should be is never given to the decoder."""
    path = made.write_tiff(tmp_path / "a.tif", (1,))
    raw = bytearray(path.read_bytes())
    with open_slide(path) as slide:
        at = int(slide.source.grids[0].offsets[0])
    frame = raw.index(b"\xff\xc0", at)
    struct.pack_into(">HH", raw, frame + 5, 65_500, 65_500)
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with open_slide(path) as slide, pytest.raises(CorruptTileError):
            slide.read_level(0, Region(0, 0, 10, 10))
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_tile_that_inflates_without_end(tmp_path):
    """A deflated tile of 0.4 MB that would become 400 MB takes no such memory."""
    import resource

    path = made.write_tiff(tmp_path / "a.tif", (1,), rgb=made.tissue(256, 256), compression="deflate")
    bomb = zlib.compress(bytes(400 * 2**20), 9)
    raw = path.read_bytes() + bomb
    path.write_bytes(raw)
    changed(path, _324=len(raw) - len(bomb), _325=len(bomb))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_slide(path) as slide:
        try:
            drawn = slide.read_level(0, Region(0, 0, 10, 10))
        except CorruptTileError:
            drawn = np.zeros((10, 10, 3), np.uint8)
    assert not drawn.any()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 200 * 2**20


def test_photographs_beyond_the_limit(tmp_path):
    """A picture of more pixels than allowed is refused by its size, before it is decoded."""
    from PIL import Image as Pillow

    Pillow.new("1", (20_000, 20_000)).save(tmp_path / "a.png")
    with pytest.raises((TooLargeError, DecompressionBombError)):
        open_slide(tmp_path / "a.png")
    with pytest.raises(TooLargeError):
        open_slide(tmp_path / "a.png", Limits(file_bytes=100))


def test_pages_in_a_circle(tmp_path):
    """Pages that name each other without end are read once."""
    path = made.write_tiff(tmp_path / "a.tif", (1,), compression="lzw")
    raw = bytearray(path.read_bytes())
    place = struct.unpack_from("<L", raw, 4)[0]
    count = struct.unpack_from("<H", raw, place)[0]
    struct.pack_into("<L", raw, place + 2 + 12 * count, place)
    path.write_bytes(raw)
    try:
        open_slide(path).close()
    except OpenError:
        return


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_never_escape(seed, tmp_path):
    """A slide with bytes changed opens, shows or is refused; nothing else comes out."""
    chance = random.Random(seed)
    path = made.write_aperio(tmp_path / "a.svs", rgb=made.tissue(300, 270))
    raw = bytearray(path.read_bytes())
    for _ in range(20):
        raw[chance.randrange(4, len(raw))] = chance.randrange(256)
    path.write_bytes(raw)
    try:
        with open_slide(path) as slide:
            slide.read_level(0, Region(0, 0, 10, 10))
    except OpenError:
        return


def test_other_files_beside_a_slide_are_not_read(tmp_path):
    """Only what is given is opened: the levels in the other files of the folder are not there."""
    folder = made.write_wsm(tmp_path / "w")
    with open_slide(folder / "0.dcm") as one, open_slide(folder) as all_of_them:
        assert (len(one.levels), len(all_of_them.levels)) == (1, 3)


def test_sequences_where_a_text_should_be_are_not_written_out(tmp_path):
    """Nested sequences in place of the colours' name are refused at once: writing them out takes minutes."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    dataset = made.wsm_dataset(made.tissue(300, 270), 1)
    inner = Dataset()
    for _ in range(60):
        outer = Dataset()
        outer.add_new(0x00280004, "SQ", Sequence([inner, Dataset()]))
        inner = outer
    dataset.add_new(0x00280004, "SQ", Sequence([inner]))
    path = tmp_path / "slide.dcm"
    dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(OpenError):
        open_slide(path)


def test_no_more_than_the_colours_of_a_profile_is_kept(tmp_path):
    """A profile loses its texts, and what a wrong length adds from the rest of the file; colours stay."""
    from viewers.color_profile import ColorTransform, bare_profile
    from viewers.slide_store import keep

    profile = made.wide_profile()
    bare = bare_profile(profile + made.NAME.encode())
    assert len(bare) < len(profile)
    assert b"cprt" in profile
    assert b"cprt" not in bare
    rgb = made.tissue()
    assert np.array_equal(ColorTransform(bare).apply(rgb), ColorTransform(profile).apply(rgb))
    for wrong in (b"", profile[:100], profile[:-1], b"\0" * 500):
        with pytest.raises(ValueError, match="profile"):
            bare_profile(wrong)
    path = made.write_aperio(tmp_path / "a.svs", profile=profile)
    raw = bytearray(path.read_bytes())
    at = entry(raw, 34675)
    struct.pack_into("<L", raw, at + 4, len(raw) - struct.unpack_from("<L", raw, at + 8)[0])
    path.write_bytes(raw)
    with open_slide(path) as slide:
        assert slide.profile == bare
        kept = keep(slide, tmp_path / "kept")
    assert made.NAME.encode() not in (kept / "profile.icc").read_bytes()
