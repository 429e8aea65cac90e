"""What of a slide is on screen: the model's detail, microns, magnification, grids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.viewers.openers import made
from viewers.errors import InvalidViewError, RegionOutOfBoundsError, ViewMismatchError
from viewers.geometry import Region
from viewers.openers import open_slide
from viewers.scaled import scaled_size
from viewers.shown import draw, shown_from_json
from viewers.slide_grid import plan_grid
from viewers.slide_view import (
    LONGEST_PX,
    MODEL_PX,
    SlideView,
    describe_slide_view,
    draw_region,
    render_slide,
    scale_of,
    thumbnail,
    whole_slide,
)

REAL = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"
REGIONS = st.builds(
    Region, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**6)
)


@st.composite
def views(draw):
    """Any view, with and without a point in its region."""
    region = draw(REGIONS)
    x, y = draw(st.integers(0, region.width - 1)), draw(st.integers(0, region.height - 1))
    point = draw(st.sampled_from((None, (region.x + x, region.y + y))))
    rotation, parts = draw(st.sampled_from((0, 90, 180, 270))), draw(st.sampled_from((0, 2, 9, 16)))
    return SlideView(draw(st.text(max_size=64)), region, rotation, draw(st.booleans()), point, parts)


VIEWS = views()


@pytest.fixture(scope="module")
def slide():
    """Return the real slide."""
    with open_slide(REAL) as opened:
        yield opened


@given(VIEWS)
def test_json_and_back(view):
    """A view survives JSON, through the door for whatever is on screen."""
    assert shown_from_json(json.loads(json.dumps(view.to_json()))) == view
    assert view.digests == (view.slide,)


GOOD = {
    "slide": "a" * 64, "region": {"x": 0, "y": 0, "width": 9, "height": 9}, "rotation": 0, "overview": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"slide": 7}, {"region": None}, {"region": {"x": 0}}, {"rotation": 45}, {"rotation": 90.0},
        {"rotation": True}, {"overview": 1}, {"extra": 1}, {"image": "b"},
        {"region": {"x": 0.5, "y": 0, "width": 9, "height": 9}},
    ],
)  # fmt: skip
def test_json_of_anything_else_is_refused(change):
    """Missing, unknown and wrongly typed entries are named."""
    with pytest.raises(InvalidViewError):
        shown_from_json(GOOD | change)
    for name in GOOD:
        with pytest.raises(InvalidViewError):
            shown_from_json({key: value for key, value in GOOD.items() if key != name})


@given(st.integers(1, 400_000), st.integers(1, 400_000))
def test_the_model_gets_its_detail(width, height):
    """The shorter side has 336 to 671 pixels, or its own where it has fewer; only long strips have less."""
    scale = scale_of(Region(0, 0, width, height))
    drawn = scaled_size(Region(0, 0, width, height), scale)
    assert max(drawn) <= LONGEST_PX
    assert scale & (scale - 1) == 0
    if max(width, height) / min(width, height) <= LONGEST_PX / (2 * MODEL_PX):
        assert min(drawn) >= min(MODEL_PX, width, height)
        assert min(drawn) <= 2 * MODEL_PX
    if scale == 1:
        assert drawn == (width, height)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_what_is_drawn(slide, rotation):
    """The picture is the region averaged, turned clockwise, the same through every door."""
    region = Region(101, 203, 1200, 1000)
    view = SlideView(slide.digest, region, rotation)
    rgb = render_slide(slide, view)
    full = slide.read_level(0, region).astype(np.float64)
    expected = full.reshape(500, 2, 600, 2, 3).mean((1, 3))
    turned = np.rot90(expected, -rotation // 90)
    assert rgb.shape == turned.shape == ((500, 600, 3) if rotation % 180 == 0 else (600, 500, 3))
    assert np.abs(rgb - turned).max() <= 0.5
    assert np.array_equal(draw(view, lambda _: slide), rgb)
    assert np.array_equal(draw_region(slide, region, rotation), rgb)


def test_nothing_is_enlarged(slide):
    """A small region comes out in its own pixels."""
    region = Region(500, 600, 50, 40)
    rgb = render_slide(slide, SlideView(slide.digest, region))
    assert np.array_equal(rgb, slide.read_level(0, region))


def test_views_that_do_not_fit(slide):
    """A view of another slide, or off this one, is refused; in the description too."""
    for make in (render_slide, describe_slide_view):
        with pytest.raises(ViewMismatchError):
            make(slide, SlideView("b" * 64, Region(0, 0, 9, 9)))
        for region in (Region(-1, 0, 9, 9), Region(2212, 0, 9, 9), Region(0, 0, 0, 9)):
            with pytest.raises(RegionOutOfBoundsError):
                make(slide, SlideView(slide.digest, region))


def test_description(slide):
    """Magnification, microns and level are those of the picture the model gets."""
    told = describe_slide_view(slide, SlideView(slide.digest, Region(0, 0, 2000, 1000), 90, overview=True))
    assert told == {
        "kind": "slide",
        "region_px": [0, 0, 2000, 1000],
        "rotation": 90,
        "overview": True,
        "pictures": 2,
        "point": None,
        "parts": [1, 1],
        "parts_scale": 4,
        "parts_magnification": 5.01,
        "size_px": [500, 1000],
        "scale": 2,
        "level": 0,
        "mpp": 0.998,
        "magnification": 10.02,
        "size_um": [998.0, 499.0],
        "mpp_source": "aperio.MPP",
    }


def test_description_without_microns(tmp_path):
    """A slide that does not say its microns is described in pixels alone."""
    with open_slide(made.write_tiff(tmp_path / "a.tif")) as slide:
        told = describe_slide_view(slide, whole_slide(slide))
        assert [told[name] for name in ("mpp", "magnification", "size_um", "mpp_source")] == [None] * 4


def test_overview_goes_first(slide):
    """A view with context is two pictures, the whole and then the region; else one."""
    view = SlideView(slide.digest, Region(5, 5, 400, 400), 180, overview=True)
    overview, region = view.parts(slide)
    assert overview.region == Region(0, 0, 2220, 2967)
    assert (overview.rotation, region.rotation) == (180, 180)
    assert region == SlideView(slide.digest, Region(5, 5, 400, 400), 180)
    assert region.parts(slide) == (region,)


def test_thumbnail(slide):
    """The overview has at most the pixels asked for, and more than half as many."""
    for longest in (64, 500, 1024, 5000):
        rgb = thumbnail(slide, longest)
        assert min(longest, 2967) / 2 < max(rgb.shape) <= max(longest, 1)


@given(REGIONS, st.integers(1, 40))
def test_grids_cover_the_region_once(region, most):
    """Parts do not overlap, cover the region, are not too many, and give the model its pixels."""
    grid = plan_grid(SlideView("a", region), most)
    rows = len(grid.tiles) // grid.columns
    assert len(grid.tiles) == grid.columns * rows <= most
    assert grid.images == len(grid.tiles) + 1
    assert grid.overview.region == region
    parts = [tile.region for tile in grid.tiles]
    assert sum(part.width * part.height for part in parts) == region.width * region.height
    assert {part.y for part in parts[: grid.columns]} == {region.y}
    assert parts[0].x == region.x
    assert parts[-1].x + parts[-1].width == region.x + region.width
    assert parts[-1].y + parts[-1].height == region.y + region.height
    for part in parts:
        assert part.width >= min(region.width, MODEL_PX * grid.scale)
        assert part.height >= min(region.height, MODEL_PX * grid.scale)


@pytest.mark.parametrize(
    ("rotation", "corners"),
    [
        (0, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]),
        (90, [(0, 2), (0, 1), (0, 0), (1, 2), (1, 1), (1, 0)]),
        (180, [(1, 2), (0, 2), (1, 1), (0, 1), (1, 0), (0, 0)]),
        (270, [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1), (0, 2)]),
    ],
)
def test_parts_are_read_as_they_are_seen(rotation, corners):
    """The first part is the upper left one of the picture as it is turned, and rows follow."""
    grid = plan_grid(SlideView("a", Region(0, 0, 672, 1008), rotation))
    assert [(tile.region.x // 336, tile.region.y // 336) for tile in grid.tiles] == corners
    assert grid.columns == (2 if rotation % 180 == 0 else 3)


def test_a_grid_is_shown_after_the_region_and_the_overview(slide):
    """With a grid the model is shown the whole, the region, and its parts in more detail."""
    view = SlideView(slide.digest, Region(0, 0, 2220, 2966), overview=True, grid=16)
    told, parts = describe_slide_view(slide, view), view.parts(slide)
    assert told["parts"] == [3, 4]
    assert told["pictures"] == len(parts) == 14
    assert told["parts_magnification"] > told["magnification"]
    assert [part.region for part in parts[:2]] == [Region(0, 0, 2220, 2967), view.region]
    whole = SlideView(slide.digest, Region(0, 0, 2220, 2967), overview=True)
    assert len(whole.parts(slide)) == 1, "the same picture twice says nothing"
    small = SlideView(slide.digest, Region(0, 0, 400, 400), grid=16)
    assert len(small.parts(slide)) == describe_slide_view(slide, small)["pictures"] == 1


@pytest.mark.parametrize(
    ("rotation", "place"), [(0, (0.1, 0.2)), (90, (0.8, 0.1)), (180, (0.9, 0.8)), (270, (0.2, 0.9))]
)
def test_a_point_is_told_where_it_is_seen(slide, rotation, place):
    """Turned with the picture, in parts of its width and height."""
    view = SlideView(slide.digest, Region(100, 100, 1000, 500), rotation, point=(200, 200))
    assert describe_slide_view(slide, view)["point"] == pytest.approx(place, abs=0.002)


def test_points_and_grids_that_cannot_be_are_refused():
    """A point outside its region and a grid of too many parts are no view; views of before had neither."""
    region = Region(0, 0, 50, 50)
    for options in ({"point": (50, 0)}, {"point": (0, -1)}, {"grid": 1}, {"grid": 17}):
        with pytest.raises(InvalidViewError):
            SlideView("a", region, **options)
    whole = SlideView("a", region).to_json()
    assert SlideView.from_json({n: v for n, v in whole.items() if n not in {"point", "grid"}}) == SlideView(
        "a", region
    )
    for wrong in ({"point": {"x": 1}}, {"point": [1, 2]}, {"grid": None}, {"point": {"x": 1.5, "y": 2}}):
        with pytest.raises(InvalidViewError):
            SlideView.from_json(whole | wrong)


def test_grids_use_the_detail_they_may():
    """More parts mean more detail; a region the model sees whole is one part."""
    view = SlideView("a", Region(0, 0, 4096, 4096))
    grids = [plan_grid(view, most) for most in (1, 4, 16, 36, 144)]
    assert [len(grid.tiles) for grid in grids] == [1, 1, 9, 36, 144]
    assert [grid.scale for grid in grids] == [8, 8, 4, 2, 1]
    assert len(plan_grid(SlideView("a", Region(7, 7, 600, 500))).tiles) == 1
    with pytest.raises(ValueError, match="at least one"):
        plan_grid(view, 0)
