"""Deep Zoom: pure arithmetic over any size, the same as OpenSlide's, and tiles of the right pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image as Pillow

from tests.viewers.openers import made
from viewers.deepzoom import DeepZoom, TileAddress, deep_zoom, draw_tile, encode_tile, read_address
from viewers.errors import RegionOutOfBoundsError, TileOutOfRangeError
from viewers.geometry import Region, SizePx
from viewers.openers import open_slide
from viewers.scaled import read_scaled, scaled_size

REAL = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"


class _Sized:
    """As much of an OpenSlide as its generator of tiles looks at."""

    properties: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, width, height):
        self.level_count, self.level_dimensions, self.level_downsamples = 1, ((width, height),), (1.0,)

    def get_best_level_for_downsample(self, _downsample):
        return 0


@given(st.integers(1, 300_000), st.integers(1, 300_000), st.sampled_from((128, 240, 256, 1000)))
@settings(max_examples=100)
def test_the_pyramid_is_openslides(width, height, tile):
    """Levels, their sizes and their numbers of tiles are those of openslide.deepzoom."""
    zoom = DeepZoom(SizePx(width, height), tile)
    reference = DeepZoomGenerator(_Sized(width, height), tile, 0)
    assert zoom.levels == reference.level_count
    for level in range(zoom.levels):
        size = zoom.level_size(level)
        assert (size.width, size.height) == reference.level_dimensions[level]
        assert zoom.tiles(level) == reference.level_tiles[level]
    assert zoom.level_size(0) == SizePx(1, 1)
    assert zoom.level_size(zoom.levels - 1) == zoom.size


@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
@settings(max_examples=60)
def test_tiles_cover_a_level_once(width, height, data):
    """A level's tiles are disjoint, cover the slide, and are as large as they say."""
    zoom = DeepZoom(SizePx(width, height), 256)
    level = data.draw(st.integers(0, zoom.levels - 1))
    columns, rows = zoom.tiles(level)
    regions = [
        zoom.region(TileAddress(level, column, row)) for row in range(rows) for column in range(columns)
    ]
    assert all(region.inside(zoom.size) for region in regions)
    assert sum(region.width * region.height for region in regions) == width * height
    assert len({(region.x, region.y) for region in regions}) == len(regions)
    sizes = [scaled_size(region, zoom.scale(level)) for region in regions]
    assert sum(size[0] for size in sizes[:columns]) == zoom.level_size(level).width
    assert sum(size[1] for size in sizes[::columns]) == zoom.level_size(level).height
    assert max(max(size) for size in sizes) <= 256


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "1/2_3", "1/2_3.png", "1/2_3.jpeg/", "1/2_3.jpeg\n", "-1/0_0.jpeg", "1/-2_3.jpeg",
        "a/b_c.jpeg", "../../../etc/passwd", "1/2_3.jpeg?x", "1/2_3.jpegx", "1//2_3.jpeg", "001/2_3.jpeg",
        "1/2_99999999.jpeg",
        "1/٢_٣.jpeg", "1e1/0_0.jpeg", " 1/2_3.jpeg", "%31/2_3.jpeg", "1/2_3.JPEG", "1/2.5_3.jpeg",
    ],
)  # fmt: skip
def test_malicious_addresses(text):
    """What is not exactly an address is refused, and not repeated."""
    with pytest.raises(TileOutOfRangeError) as caught:
        read_address(text)
    assert caught.value.values["found"] == "?"


def test_addresses():
    """Level, column and row, with either ending."""
    assert read_address("12/3_45.jpeg") == read_address("12/3_45.jpg") == TileAddress(12, 3, 45)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text):
    """No text does anything else."""
    try:
        address = read_address(text)
    except TileOutOfRangeError:
        return
    assert min(address.level, address.column, address.row) >= 0


@pytest.mark.parametrize(
    "address",
    [
        (-1, 0, 0),
        (14, 0, 0),
        (13, 20, 0),
        (13, 0, 12),
        (13, -1, 0),
        (13, 0, -1),
        (0, 1, 0),
        (99, 0, 0),
        (5, 10**6, 0),
    ],
)
def test_tiles_outside_raise_before_anything_is_read(address):
    """Addresses outside the pyramid are refused by arithmetic alone."""
    with pytest.raises(TileOutOfRangeError):
        encode_tile(None, DeepZoom(SizePx(5000, 3000)), TileAddress(*address))


def test_dzi():
    """The description says size, tile and format."""
    text = DeepZoom(SizePx(5000, 3000), 240).dzi()
    assert 'TileSize="240"' in text
    assert '<Size Width="5000" Height="3000"/>' in text


def averaged(rgb, factor):
    """Return the mean of squares of pixels, computed plainly."""
    height, width = rgb.shape[:2]
    rows, columns = np.arange(0, height, factor), np.arange(0, width, factor)
    sums = np.add.reduceat(np.add.reduceat(rgb.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.diff([*rows, height])[:, None] * np.diff([*columns, width])[None, :]
    return sums / counts[..., None]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """Return a slide without losses, of 900 x 700 pixels at 1, 4 and 16."""
    path = tmp_path_factory.mktemp("slides") / "a.tif"
    with open_slide(made.write_tiff(path, (1, 4), rgb=made.tissue(900, 700), compression="lzw")) as slide:
        yield slide


def test_tiles_show_the_mean_of_what_they_cover(pyramid):
    """At every level, tiles put together are the picture averaged; between levels of the file too."""
    zoom = deep_zoom(pyramid)
    for level in range(zoom.levels):
        scale, size = zoom.scale(level), zoom.level_size(level)
        columns, rows = zoom.tiles(level)
        drawn = np.vstack(
            [
                np.hstack(
                    [draw_tile(pyramid, zoom, TileAddress(level, column, row)) for column in range(columns)]
                )
                for row in range(rows)
            ]
        )
        assert drawn.shape == (size.height, size.width, 3)
        expected = averaged(made.tissue(900, 700), scale)
        assert np.abs(drawn.astype(np.int16) - expected).max() <= 1


@given(st.data(), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_any_region_at_any_scale(pyramid, data, scale):
    """A region is averaged as if from full detail, moved by less than a pixel of the level read."""
    width, height = data.draw(st.integers(1, 900)), data.draw(st.integers(1, 700))
    x, y = data.draw(st.integers(0, 900 - width)), data.draw(st.integers(0, 700 - height))
    region = Region(x, y, width, height)
    rgb = read_scaled(pyramid, region, scale)
    assert rgb.shape == (*scaled_size(region, scale)[::-1], 3)
    down = int(pyramid.levels[pyramid.level_for(scale)].downsample)
    part = made.tissue(900, 700)[y // down * down : y + height, x // down * down : x + width]
    expected = made.reduced(part, scale)[: rgb.shape[0], : rgb.shape[1]]
    inner = slice(0, height // scale - 1 or 1), slice(0, width // scale - 1 or 1)
    if height >= 2 * scale and width >= 2 * scale and scale % down == 0:
        assert np.abs(rgb[inner].astype(np.int16) - expected[inner]).max() <= 3


def test_bands_change_nothing(pyramid, monkeypatch):
    """A slide read in bands, for want of smaller levels, gives the same pixels as at once."""
    whole = Region(1, 2, 490, 390)
    expected = [read_scaled(pyramid, whole, scale) for scale in (1, 2, 3, 8, 64)]
    monkeypatch.setattr("viewers.scaled._BAND_PIXELS", 20_000)
    for scale, at_once in zip((1, 2, 3, 8, 64), expected, strict=True):
        in_bands = read_scaled(pyramid, whole, scale)
        assert np.abs(in_bands.astype(np.int16) - at_once).max() <= (1 if scale == 3 else 0)


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 901, 5), (0, 0, 5, 0), (899, 699, 2, 1)])
def test_regions_outside(pyramid, region):
    """A region that is not on the slide is refused."""
    with pytest.raises(RegionOutOfBoundsError):
        read_scaled(pyramid, Region(*region), 1)


def test_stored_tiles_are_passed_on(tmp_path):
    """At the file's own levels the scanner's tiles are passed on; edges and levels between are drawn."""
    with open_slide(made.write_huge(tmp_path / "a.tif", 3000, 2000, (1, 4))) as slide:
        zoom = deep_zoom(slide)
        top = zoom.levels - 1
        for address, own in (
            (TileAddress(top, 3, 2), True),
            (TileAddress(top - 2, 1, 0), True),
            (TileAddress(top - 1, 1, 1), False),
            (TileAddress(top, 11, 0), False),
            (TileAddress(top, 0, 7), False),
        ):
            jpeg = encode_tile(slide, zoom, address)
            stored = slide.encoded_tile(
                slide.level_for(zoom.scale(address.level)), address.column, address.row
            )
            assert (jpeg == stored) is own
            read = np.asarray(Pillow.open(io.BytesIO(jpeg)).convert("RGB")).astype(np.int16)
            drawn = draw_tile(slide, zoom, address)
            assert read.shape == drawn.shape
            assert np.abs(read - drawn).mean() < 3


def test_tiles_of_a_real_slide():
    """Tiles of the slide's own 240 pixels equal openslide.deepzoom's at full detail."""
    with open_slide(REAL) as slide, openslide.OpenSlide(REAL) as reference:
        zoom = deep_zoom(slide)
        assert zoom.tile == 240
        generator = DeepZoomGenerator(reference, 240, 0)
        for column, row in ((0, 0), (4, 7), (9, 12)):
            theirs = np.asarray(generator.get_tile(zoom.levels - 1, (column, row)))
            assert np.array_equal(draw_tile(slide, zoom, TileAddress(zoom.levels - 1, column, row)), theirs)


def test_flat_pictures_have_tiles(tmp_path):
    """A photograph is a pyramid too."""
    Pillow.fromarray(made.tissue()).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        zoom = deep_zoom(slide)
        drawn = draw_tile(slide, zoom, TileAddress(zoom.levels - 2, 0, 0))
        assert np.array_equal(drawn, made.reduced(made.tissue(), 2)[:256, :256])
