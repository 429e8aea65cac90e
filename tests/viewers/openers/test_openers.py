"""Every opener: the same pixels at the same places, microns with their source, and no word of a header."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from tests.viewers.conftest import TEST_FILES
from tests.viewers.openers import made
from viewers.color_profile import ColorTransform
from viewers.errors import (
    LevelOutOfRangeError,
    NotAnImageError,
    NotASlideError,
    OpenError,
    RegionOutOfBoundsError,
    UnsupportedImageError,
)
from viewers.geometry import Region, SizePx
from viewers.limits import Limits
from viewers.openers import is_slide, open_slide
from viewers.openers.source import Source
from viewers.openers.tiled import as_rgb
from viewers.openers.vendor import open_source as open_with_openslide
from viewers.slide import MicronsPerPixel, downsample_of

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "viewers_slides.json").read_text())
REAL = Path(__file__).parents[2] / "data" / "cmu_small_region.svs"

LOSSLESS = {
    "tiff-lzw": lambda folder: made.write_tiff(folder / "a.tif", compression="lzw"),
    "tiff-deflate": lambda folder: made.write_tiff(folder / "a.tif", compression="deflate", bigtiff=True),
    "tiff-packbits": lambda folder: made.write_tiff(folder / "a.tif", compression="packbits"),
    "tiff-none": lambda folder: made.write_tiff(folder / "a.tif", compression=None),
    "tiff-planes": lambda folder: made.write_tiff(folder / "a.tif", compression="lzw", planarconfig=2),
    "tiff-predictor": lambda folder: made.write_tiff(folder / "a.tif", compression="lzw", predictor=True),
    "tiff-big-endian": lambda folder: made.write_tiff(folder / "a.tif", compression="lzw", byteorder=">"),
    "ome": lambda folder: made.write_ome(folder / "a.ome.tif", compression="zstd"),
    "wsm-native": lambda folder: made.write_wsm(folder / "w", made.EXPLICIT),
    "wsm-jpeg2000": lambda folder: made.write_wsm(folder / "w", made.JPEG_2000),
    "wsm-rle-spread": lambda folder: made.write_wsm(folder / "w", made.RLE, spread=True),
    "png": lambda folder: _flat(folder / "a.png"),
    "tiff-strips": lambda folder: _flat(folder / "a.tif", compression="tiff_lzw"),
    "bmp": lambda folder: _flat(folder / "a.bmp"),
}
LOSSY = {
    "tiff-jpeg": lambda folder: made.write_tiff(folder / "a.tif"),
    "aperio": lambda folder: made.write_aperio(folder / "a.svs"),
    "ome-jpeg": lambda folder: made.write_ome(folder / "a.ome.tif", bigtiff=True),
    "wsm-jpeg": lambda folder: made.write_wsm(folder / "w"),
    "wsm-offsets": lambda folder: made.write_wsm(folder / "w", extended=True),
    "wsm-concatenation": lambda folder: made.write_concatenation(folder / "w"),
}
ALL = LOSSLESS | LOSSY


def _flat(path, **options):
    Pillow.fromarray(made.tissue()).save(path, **options)
    return path


def first_file(path):
    return path if path.is_file() else min(path.rglob("*.dcm"))


def difference(one, other):
    return int(np.abs(one.astype(np.int16) - other).max())


def sha256(rgb):
    return hashlib.sha256(rgb.tobytes()).hexdigest()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_golden_regions(kind, tmp_path):
    """The same few regions have the same bytes through every opener without losses."""
    with open_slide(LOSSLESS[kind](tmp_path)) as slide:
        checked = [golden for golden in GOLDEN["tissue"] if golden["level"] < len(slide.levels)]
        assert len(checked) == (2 if len(slide.levels) == 1 else 5)
        for golden in checked:
            rgb = slide.read_region(tuple(golden["origin"]), golden["level"], SizePx(*golden["size"]))
            assert sha256(rgb) == golden["sha256"], golden


def test_golden_regions_of_a_real_slide():
    """A real Aperio slide decodes to the bytes it always did, the same as OpenSlide's."""
    with open_slide(REAL) as slide, openslide.OpenSlide(REAL) as reference:
        for golden in GOLDEN["cmu_small_region.svs"]:
            rgb = slide.read_region(tuple(golden["origin"]), 0, SizePx(*golden["size"]))
            assert sha256(rgb) == golden["sha256"], golden
            other = np.asarray(reference.read_region(golden["origin"], 0, golden["size"]))[..., :3]
            assert np.array_equal(rgb, other)


@pytest.mark.parametrize("kind", ALL)
def test_levels_are_the_picture_reduced(kind, tmp_path):
    """Each level, at its own downsample, is the picture averaged; within what JPEG loses."""
    full = made.tissue()
    with open_slide(ALL[kind](tmp_path)) as slide:
        assert slide.size == SizePx(made.WIDTH, made.HEIGHT)
        assert slide.levels[0].downsample == 1
        for number, level in enumerate(slide.levels):
            rgb = slide.read_region((0, 0), number, level.size)
            assert rgb.flags.c_contiguous
            expected = made.reduced(full, int(level.downsample))
            assert difference(rgb, expected) <= (0 if kind in LOSSLESS else 12)


READ_BY_OPENSLIDE = [
    kind
    for kind in ALL
    if kind.startswith(("tiff", "aperio", "wsm"))
    and kind not in {"tiff-planes", "tiff-strips", "tiff-big-endian", "wsm-rle-spread"}
]


@pytest.mark.parametrize("kind", READ_BY_OPENSLIDE)
def test_openslide_reads_the_same(kind, tmp_path):
    """What OpenSlide can read too has the same levels and pixels as OpenSlide's."""
    path = ALL[kind](tmp_path)
    with open_slide(path) as slide, openslide.OpenSlide(first_file(path)) as reference:
        assert [(level.size.width, level.size.height) for level in slide.levels] == list(
            reference.level_dimensions
        )
        for number, level in enumerate(slide.levels):
            down = int(level.downsample)
            size = level.size.width // 2, level.size.height // 2
            theirs = np.asarray(reference.read_region((40 * down, 16 * down), number, size))[..., :3]
            assert difference(slide.read_region((40 * down, 16 * down), number, SizePx(*size)), theirs) == 0


def test_openslide_itself_is_an_opener(tmp_path):
    """The opener of scanners' own formats gives the same pixels, sizes and findings."""
    path = made.write_aperio(tmp_path / "a.svs")
    with open_with_openslide(Source((path,)), Limits()) as theirs, open_slide(path) as ours:
        assert theirs.vendor == ours.vendor == "aperio"
        assert theirs.levels == ours.levels
        assert theirs.findings == ours.findings
        assert (theirs.mpp.x, theirs.mpp.source) == (ours.mpp.x, "openslide.mpp")
        for number, level in enumerate(ours.levels):
            place = (20 * int(level.downsample), 8 * int(level.downsample))
            size = SizePx(level.size.width - 20, level.size.height - 8)
            assert (
                difference(theirs.read_region(place, number, size), ours.read_region(place, number, size))
                == 0
            )
        assert theirs.encoded_tile(0, 0, 0) is None


@pytest.mark.parametrize("kind", ALL)
def test_nothing_of_a_header_comes_out(kind, tmp_path):
    """Names in headers are in no fact, finding, representation, tile or digest's input."""
    path = ALL[kind](tmp_path)
    with open_slide(path) as slide:
        said = f"{slide!r} {slide.describes} {slide.findings} {slide.source!r}"
        assert made.NAME not in said
        content = b"".join(slide.source.content())
        assert made.NAME.encode() not in content
        tile = slide.encoded_tile(0, 0, 0)
        assert tile is None or made.NAME.encode() not in tile


@pytest.mark.parametrize("kind", ["aperio", "wsm-jpeg"])
def test_labels_are_told_of_and_left_alone(kind, tmp_path):
    """A label is a finding; no level shows it."""
    with open_slide(ALL[kind](tmp_path)) as slide:
        assert "finding.label_present" in [found.key for found in slide.findings]
        assert all(level.size.width >= made.WIDTH // 4 for level in slide.levels)


@pytest.mark.parametrize(
    ("kind", "mpp"),
    [
        ("aperio", MicronsPerPixel(0.499, 0.499, "aperio.MPP")),
        ("ome", MicronsPerPixel(0.25, 0.25, "OME PhysicalSize")),
        ("wsm-native", MicronsPerPixel(0.5, 0.5, "DICOM PixelSpacing")),
        ("tiff-lzw", None),
        ("png", None),
    ],
)
def test_microns_per_pixel_and_their_source(kind, mpp, tmp_path):
    """Microns per pixel are read from where each format says them; else it is said that they are missing."""
    with open_slide(ALL[kind](tmp_path)) as slide:
        assert slide.mpp == mpp
        assert ("finding.mpp_missing" in [found.key for found in slide.findings]) == (mpp is None)


@pytest.mark.parametrize(
    ("resolution", "unit", "microns"),
    [((40_000, 20_000), 3, (0.25, 0.5)), ((101_600, 101_600), 2, (0.25, 0.25)), ((300, 300), 2, None)],
)
def test_resolution_of_plain_pyramids(resolution, unit, microns, tmp_path):
    """Pixels per centimetre or inch count when a microscope can have them, and not when a printer does."""
    path = made.write_tiff(tmp_path / "a.tif", resolution=resolution, resolutionunit=unit)
    with open_slide(path) as slide:
        found = None if slide.mpp is None else (slide.mpp.x, slide.mpp.y)
        assert found == microns


def test_magnification():
    """0.25 microns per pixel is 40x, 0.5 is 20x."""
    assert MicronsPerPixel(0.25, 0.25, "").magnification == 40
    assert MicronsPerPixel(0.5, 0.5, "").magnification == 20
    for impossible in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0"):
            MicronsPerPixel(0.25, impossible, "")


@pytest.mark.parametrize(
    ("full", "size", "downsample"),
    [
        ((46_000, 32_914), (11_500, 8_228), 4),
        ((46_000, 32_914), (2_875, 2_057), 16),
        ((2220, 2967), (3, 3), 1024),
        ((1000, 1000), (333, 333), 3),
        ((1000, 1000), (334, 334), 3),
        ((1000, 1000), (400, 400), 2.5),
        ((1, 1), (1, 1), 1),
    ],
)
def test_level_rule(full, size, downsample):
    """A downsample is the whole number that made the size, rounded down or up, else the ratio."""
    assert downsample_of(SizePx(*full), SizePx(*size)) == downsample


@pytest.mark.parametrize(
    ("origin", "level", "size"),
    [
        ((-1, 0), 0, (10, 10)),
        ((0, 0), 0, (made.WIDTH + 1, 10)),
        ((made.WIDTH - 9, 0), 0, (10, 10)),
        ((0, made.HEIGHT), 0, (1, 1)),
        ((0, 0), 1, (made.WIDTH // 2 + 1, 10)),
        ((made.WIDTH, 0), 2, (1, 1)),
        ((10**30, 0), 0, (1, 1)),
    ],
)
def test_out_of_bounds_raises(origin, level, size, tmp_path):
    """What is not wholly on the slide is refused, at every level."""
    with open_slide(made.write_tiff(tmp_path / "a.tif")) as slide, pytest.raises(RegionOutOfBoundsError):
        slide.read_region(origin, level, SizePx(*size))


@pytest.mark.parametrize("level", [-1, 3])
def test_levels_that_are_not_there(level, tmp_path):
    """A level is named by its number, from 0, and by nothing else."""
    with open_slide(made.write_tiff(tmp_path / "a.tif")) as slide, pytest.raises(LevelOutOfRangeError):
        slide.read_region((0, 0), level, SizePx(1, 1))


def test_tiles_put_together_are_the_region(tmp_path):
    """A region over many tiles, read by several threads, equals the same read a tile at a time."""
    rgb = made.tissue(1100, 900)
    with open_slide(made.write_tiff(tmp_path / "a.tif", (1,), rgb=rgb, compression="lzw")) as slide:
        assert np.array_equal(slide.read_region((3, 5), 0, SizePx(1000, 800)), rgb[5:805, 3:1003])


def test_level_for_a_downsample(tmp_path):
    """The level chosen has at least the detail asked for, and no more than it must."""
    with open_slide(made.write_tiff(tmp_path / "a.tif")) as slide:
        assert [slide.level_for(down) for down in (0.5, 1, 1.9, 2, 3.99, 4, 1000)] == [0, 0, 0, 1, 1, 2, 2]


def test_sparse_frames(tmp_path):
    """Frames in any order stand where they say; a place without one is white."""
    with open_slide(made.write_wsm(tmp_path / "w", made.EXPLICIT, sparse=True)) as slide:
        rgb = slide.read_region((0, 0), 0, slide.size)
    full = made.tissue()
    assert (rgb[: made.TILE, : made.TILE] == 255).all()
    assert np.array_equal(rgb[:, made.TILE :], full[:, made.TILE :])
    assert np.array_equal(rgb[made.TILE :], full[made.TILE :])


def test_files_of_one_series_only(tmp_path):
    """Of two slides in one folder the one with the largest level is opened, whole and alone."""
    made.write_wsm(tmp_path / "w" / "one")
    made.write_wsm(tmp_path / "w" / "two", rgb=made.tissue(400, 300))
    with open_slide(tmp_path / "w") as slide:
        assert [level.size.width for level in slide.levels] == [660, 330, 165]


def test_stored_tiles_stand_alone(tmp_path):
    """A tile passed on is a JPEG any program reads, equal to the slide's pixels, RGB and YCbCr alike."""
    for path in (
        made.write_aperio(tmp_path / "a.svs"),
        made.write_huge(tmp_path / "b.tif", 3000, 2000, (1, 4)),
        REAL,
    ):
        with open_slide(path) as slide:
            tile = slide.levels[0].tile
            read = np.asarray(Pillow.open(io.BytesIO(slide.encoded_tile(0, 1, 0))).convert("RGB"))
            place = (tile.width, 0)
            assert difference(read, slide.read_region(place, 0, tile)) <= 1


def test_colors_become_srgb(tmp_path):
    """A profile is applied as Pillow applies it; tiles then are no longer passed on as they are."""
    profile = made.wide_profile()
    path = made.write_aperio(tmp_path / "a.svs", profile=profile)
    with open_slide(path) as slide, open_slide(made.write_aperio(tmp_path / "b.svs")) as plain:
        whole = SizePx(600, 400)
        stored = Pillow.fromarray(plain.read_region((30, 40), 0, whole))
        expected = ImageCms.profileToProfile(
            stored, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        )
        assert difference(slide.read_region((30, 40), 0, whole), np.asarray(expected)) <= 1
        assert difference(np.asarray(stored), np.asarray(expected)) > 20
        assert slide.encoded_tile(0, 0, 0) is None
        assert "finding.color_profile_applied" in [found.key for found in slide.findings]


def test_a_profile_of_srgb_changes_nothing(tmp_path):
    """The usual profile leaves colours, and the passing on of tiles, as they are."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert not ColorTransform(profile).changes()
    with open_slide(made.write_aperio(tmp_path / "a.svs", profile=profile)) as slide:
        assert slide.encoded_tile(0, 0, 0) is not None


def test_a_profile_that_is_none(tmp_path):
    """Bytes that are no profile are a finding, and the pixels are shown as they are stored."""
    with open_slide(made.write_aperio(tmp_path / "a.svs", profile=b"no profile" * 20)) as slide:
        assert "finding.color_profile_unusable" in [found.key for found in slide.findings]
        assert difference(slide.read_region((0, 0), 0, slide.size), made.tissue()) <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(orientation, tmp_path):
    """The orientation of EXIF is applied; nothing else of it is kept."""
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E] = orientation, made.NAME
    Pillow.fromarray(made.tissue(40, 30)).save(tmp_path / "a.png", exif=exif)
    with open_slide(tmp_path / "a.png") as slide:
        assert (slide.size.width > slide.size.height) == (orientation < 5)
        assert made.NAME.encode() not in b"".join(slide.source.content())


def test_photographs_of_16_bits_cmyk_and_alpha(tmp_path):
    """Flat pictures of all kinds become sRGB of 8 bits."""
    wide = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    Pillow.fromarray(wide).save(tmp_path / "wide.png")
    with open_slide(tmp_path / "wide.png") as slide:
        rgb = slide.read_region((0, 0), 0, slide.size)
        assert rgb[0, 0, 0] < 5
        assert rgb[-1, -1, 0] > 250
    Pillow.new("CMYK", (9, 9), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    with open_slide(tmp_path / "ink.jpg") as slide:
        red, green, blue = slide.read_region((4, 4), 0, SizePx(1, 1))[0, 0]
        assert red > 200
        assert max(green, blue) < 60
    Pillow.new("RGBA", (9, 9), (255, 0, 0, 128)).save(tmp_path / "glass.png")
    with open_slide(tmp_path / "glass.png") as slide:
        assert slide.read_region((4, 4), 0, SizePx(1, 1))[0, 0].tolist() == [128, 0, 0]


def test_photographs_with_a_profile(tmp_path):
    """A photograph's profile is applied, its transparency kept apart."""
    profile = made.wide_profile()
    expected = ColorTransform(profile).apply(np.full((1, 1, 3), 100, np.uint8))[0, 0]
    Pillow.new("RGB", (5, 5), (100, 100, 100)).save(tmp_path / "a.png", icc_profile=profile)
    Pillow.new("RGBA", (5, 5), (100, 100, 100, 255)).save(tmp_path / "b.png", icc_profile=profile)
    for name in ("a.png", "b.png"):
        with open_slide(tmp_path / name) as slide:
            assert slide.read_region((2, 2), 0, SizePx(1, 1))[0, 0].tolist() == expected.tolist()
            assert "finding.color_profile_applied" in [found.key for found in slide.findings]


def test_16_bits_grey_and_alpha_of_tiles():
    """Tiles of other kinds become RGB: upper bits, grey three times, transparent over white."""
    assert as_rgb(np.full((2, 2), 0xAB12, np.uint16)).tolist() == [[[0xAB] * 3] * 2] * 2
    assert as_rgb(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]
    assert as_rgb(np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)).tolist() == [
        [[255] * 3, [10, 20, 30]]
    ]
    for wrong in (np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2), np.float32), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match="pixels of"):
            as_rgb(wrong)


def test_grey_and_white_is_zero(tmp_path):
    """Grey pyramids are shown grey, and those that count from white the right way round."""
    grey = made.tissue()[..., 1]
    for kind in ("minisblack", "miniswhite"):
        import tifffile

        with tifffile.TiffWriter(tmp_path / f"{kind}.tif") as writer:
            for step in (1, 2):
                writer.write(grey[::step, ::step], tile=(256, 256), photometric=kind, metadata=None)
        with open_slide(tmp_path / f"{kind}.tif") as slide:
            rgb = slide.read_region((0, 0), 0, slide.size)
            assert np.array_equal(rgb[..., 2], grey if kind == "minisblack" else 255 - grey)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_pyramids(orientation, tmp_path):
    """A tiled TIFF that is to be turned is shown as the upright picture it is, or refused by name."""
    path = tmp_path / "a.tif"
    turned = [(274, 3, 1, orientation, True)]
    made.write_tiff(path, (1, 2), compression="lzw", extratags=turned)
    with open_slide(path) as slide, Pillow.open(path) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
        assert np.array_equal(slide.read_level(0, Region(0, 0, *upright.shape[1::-1])), upright)
        assert (slide.size.width > slide.size.height) == (orientation < 5)
    small = Limits(pixels_per_frame=made.WIDTH * made.HEIGHT - 1)
    with pytest.raises(UnsupportedImageError, match=f"orientation {orientation}"):
        open_slide(path, small)


@pytest.mark.parametrize("kind", ["i2", "f2", "f4"])
def test_numbers_that_are_no_shades(kind, tmp_path):
    """Samples of signed and floating-point numbers are not supported, which is no damage."""
    import tifffile

    grey = (made.tissue()[..., 1] / 2 - 50).astype(kind)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            writer.write(grey[::step, ::step], tile=(256, 256), photometric="minisblack", metadata=None)
    with pytest.raises(UnsupportedImageError, match=r"(int|float) (16|32) bit"):
        open_slide(path)


def test_pictures_in_strips_say_what_they_are(tmp_path):
    """Of a picture that is only left to the next opener that one says why it is not shown."""
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 30), np.float32), photometric="minisblack")
    with pytest.raises(UnsupportedImageError, match="found float 32 bit"):
        open_slide(tmp_path / "a.tif")


def test_further_channels_are_told_of(tmp_path):
    """Of several channels the first is shown, and the others are counted."""
    import tifffile

    channels = np.stack([made.tissue()[..., channel] for channel in range(3)])
    tifffile.imwrite(tmp_path / "a.ome.tif", channels, tile=(256, 256), metadata={"axes": "CYX"})
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert np.array_equal(slide.read_region((0, 0), 0, slide.size)[..., 0], channels[0])
        found = next(found for found in slide.findings if found.key == "finding.channels_left_out")
        assert found.values == {"count": 2}


@pytest.mark.parametrize(
    ("kind", "expected"), [(kind, kind not in {"png", "bmp", "tiff-strips"}) for kind in ALL]
)
def test_what_is_a_slide(kind, expected, tmp_path):
    """Pyramids and scanners' files are slides; flat pictures are not, though they open as one."""
    assert is_slide(ALL[kind](tmp_path)) is expected


def test_what_is_no_slide(tmp_path):
    """A text is no slide and does not open; nor does an empty folder."""
    (tmp_path / "a.txt").write_text("no slide")
    assert not is_slide(tmp_path / "a.txt")
    with pytest.raises(NotAnImageError):
        open_slide(tmp_path / "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OpenError):
        open_slide(tmp_path / "empty")


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_dicom_that_is_no_slide(name):
    """An image of another kind is not called damaged, whatever its preamble begins with."""
    path = TEST_FILES / name
    assert path.read_bytes().startswith(b"II*")
    with pytest.raises(NotASlideError, match=f"found {name[:2]} Image Storage, expected VL Whole Slide"):
        open_slide(path)
    assert not is_slide(path)


def test_digest_is_of_pixels_and_not_of_words(tmp_path):
    """Two copies that differ in a header's text are one slide; another pixel or resolution makes another."""
    rgb = made.tissue(600, 500)
    digests = []
    for name, options in (
        ("a", {"description": "one"}),
        ("b", {"description": "two"}),
        ("c", {"rgb": np.where(np.arange(500)[:, None, None] == 7, 0, rgb).astype(np.uint8)}),
        ("d", {"resolution": (40_000, 40_000), "resolutionunit": 3}),
    ):
        with open_slide(made.write_tiff(tmp_path / name, **({"rgb": rgb} | options))) as slide:
            digests.append(slide.digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_region_of_a_level_from_between_its_pixels(tmp_path):
    """A place inside a pixel of a level reads from that pixel on."""
    with open_slide(made.write_tiff(tmp_path / "a.tif", compression="lzw")) as slide:
        whole = slide.read_level(2, Region(0, 0, 165, 115))
        assert np.array_equal(slide.read_region((43, 87), 2, SizePx(30, 20)), whole[21:41, 10:40])
