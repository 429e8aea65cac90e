"""A whole slide in the page: moved over, a region marked, asked about in Arabic, and found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ask
from tests.viewers.openers import made, vendors

SLIDE = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"
VIEW = "import('/page/js/viewer.js').then((m) => m.viewer.view())"


def opened(page):
    """Open the real slide and wait until it can be moved."""
    page.set_input_files("#viewer .file", str(SLIDE))
    expect(page.locator("#viewer .slide-scale span")).to_contain_text("m")
    page.wait_for_function(
        f"{VIEW}.then((view) => view?.region.width === 2220 && view.region.height === 2967)"
    )
    return page.locator("#viewer .slide-map")


def test_a_region_of_a_slide_is_asked_about_and_found_again(open_page):
    """The marked region is what is asked about; its evidence link flies back to the same place."""
    page = open_page(locale="ar")
    opened(page)
    whole = page.evaluate(VIEW)
    assert (whole["region"]["x"], whole["region"]["y"]) == (0, 0)
    page.locator("#viewer .slide-region").click()
    box = page.locator("#viewer .slide-map").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 60, box["y"] + box["height"] / 2 - 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + 40, steps=4)
    page.mouse.up()
    marked = page.evaluate(VIEW)
    assert 0 < marked["region"]["width"] < whole["region"]["width"]
    ask(page, "ما هذا النسيج؟")
    expect(page.locator("#chat .answer")).to_contain_text("1 image(s)")
    page.locator("#viewer .slide-clear").click()
    page.locator("#viewer .slide-fit").click()
    page.locator("#chat .evidence").click()
    page.wait_for_function(f"{VIEW}.then((view) => view.region.x === {marked['region']['x']})")
    assert page.evaluate(VIEW) == marked
    page.reload()
    expect(page.locator("#viewer .marked")).to_be_visible()
    assert page.evaluate(VIEW) == marked
    assert page.evaluate("getComputedStyle(document.querySelector('#viewer .slide-map')).direction") == "ltr"


def test_the_overview_goes_first_when_asked_for(open_page):
    """With the switch on the model is given two pictures: the whole slide, then the region."""
    page = open_page()
    opened(page)
    page.locator("#viewer .slide-map").press("PageUp")
    page.locator("#viewer .slide-overview").check()
    page.locator("#viewer .slide-map").press("Enter")
    ask(page, "Which tissue?")
    expect(page.locator("#chat .answer")).to_contain_text("2 image(s)")


def moved(page, slide, *keys):
    """Press keys, wait until the map stands still before one that marks and at the end; returns the view."""
    for key in keys:
        if key in ("Enter", "p"):
            page.wait_for_timeout(700)
        slide.press(key)
    page.wait_for_timeout(700)
    return page.evaluate(VIEW)


def test_everything_is_done_by_keyboard(open_page):
    """Pan, zoom, steps of magnification, turns, region and point; nothing ever mirrors the slide."""
    page = open_page(locale="ar")
    slide = opened(page)
    near = moved(page, slide, "PageUp", "PageUp")
    assert page.locator("#viewer .magnifications option").first.text_content() == "20×"
    assert near["region"]["width"] < 2220 / 2
    right = moved(page, slide, "ArrowRight")
    assert right["region"]["x"] > near["region"]["x"]
    assert right["region"]["y"] == near["region"]["y"]
    down = moved(page, slide, "ArrowDown")
    assert down["region"]["y"] > right["region"]["y"]
    assert moved(page, slide, "-")["region"]["width"] > down["region"]["width"]
    assert moved(page, slide, "]")["rotation"] == 90
    turned = page.evaluate(VIEW)
    assert moved(page, slide, "ArrowRight")["region"]["y"] < turned["region"]["y"], "to the right on screen"
    assert moved(page, slide, "[")["rotation"] == 0
    marked = moved(page, slide, "Enter")
    expect(page.locator("#viewer .marked")).to_have_count(1)
    point = moved(page, slide, "p")
    expect(page.locator("#viewer .pointed")).to_have_count(1)
    centre = [point["point"][axis] - marked["region"][axis] for axis in "xy"]
    assert abs(centre[0] - marked["region"]["width"] / 2) < 3
    assert abs(centre[1] - marked["region"]["height"] / 2) < 3
    assert moved(page, slide, "Escape")["point"] is None
    expect(page.locator("#viewer .marked")).to_have_count(0)
    assert moved(page, slide, "f")["region"]["width"] == 2220
    assert page.evaluate(
        "[...document.querySelectorAll('#viewer .slide-map canvas')].every((one) => "
        "new DOMMatrix(getComputedStyle(one).transform).a > 0)"
    )


def test_a_point_is_asked_about_and_found_again(open_page):
    """Pointed at by mouse: the model is told where it is, and its evidence link flies back to it."""
    page = open_page()
    opened(page)
    page.locator("#viewer .slide-point").click()
    box = page.locator("#viewer .slide-map").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    expect(page.locator("#viewer .pointed")).to_be_visible()
    marked = page.evaluate(VIEW)
    region, point = marked["region"], marked["point"]
    assert region["x"] <= point["x"] < region["x"] + region["width"]
    ask(page, "What is here?")
    answer = page.locator("#chat .answer").last
    expect(answer).to_contain_text("The point asked about lies in picture 1 at 50 % of the width")
    expect(answer).to_contain_text("µm")
    page.locator("#viewer .slide-clear").click()
    page.locator("#chat .evidence").click()
    page.wait_for_function(f"{VIEW}.then((view) => view.point?.x === {point['x']})")
    assert page.evaluate(VIEW) == marked
    expect(page.locator("#viewer .pointed")).to_be_visible()


def test_a_grid_is_offered_with_its_pictures_and_its_time(open_page):
    """What detail costs is said before; the parts are drawn on the slide and given to the model."""
    page = open_page()
    slide = opened(page)
    slide.press("p")
    assert moved(page, slide, "+", "+", "+", "+", "+", "+", "p")["region"]["width"] < 672
    slide.press("g")
    expect(page.locator("#notices")).to_contain_text("full detail already")
    moved(page, slide, "Escape", "f")
    ask(page, "Anything?")

    def none_fits(route):
        choices = route.fetch().json()["choices"]
        route.fulfill(json={"choices": [{**one, "never": True} for one in choices]})

    page.route("**/grid?*", none_fits)
    slide.press("g")
    expect(page.locator("dialog .grid-choice").last).to_contain_text("more than this model has room for")
    expect(page.locator("dialog .primary")).to_be_disabled()
    page.unroute("**/grid?*", none_fits)
    page.keyboard.press("Escape")
    slide.press("g")
    expect(page.locator("dialog .grid-choice").last).to_contain_text("Pictures: 13")
    expect(page.locator("dialog .grid-choice").last).to_contain_text("s to read")
    page.locator("dialog .grid-choice input").last.check()
    page.locator("dialog .primary").click()
    expect(page.locator("#viewer .marked.cut")).to_be_visible()
    expect(page.locator("#viewer .slide-sees")).to_contain_text("3×4 · [13]")
    ask(page, "And in detail?")
    expect(page.locator("#chat .answer").last).to_contain_text("Pictures 2 to 13: the parts of that region")
    page.locator("#viewer .slide-grid").click()
    assert page.evaluate(VIEW)["grid"] == 0


def test_a_slide_that_is_gone_and_tiles_that_fail_are_said(open_page):
    """Tiles that do not arrive are asked for again and then named; the page goes on."""
    page = open_page()
    failing = {"on": True}
    page.route("**/tiles/**", lambda route: route.abort() if failing["on"] else route.continue_())
    page.set_input_files("#viewer .file", str(SLIDE))
    expect(page.locator("#notices")).to_contain_text("Parts of the slide did not arrive", timeout=30_000)
    failing["on"] = False
    page.locator("#notices button").first.click()
    page.route(
        "**/images/*", lambda route: route.fulfill(status=404, json={"error": {"en": "Gone.", "ar": "-"}})
    )
    page.evaluate(
        "import('/page/js/viewer.js').then((m) => m.viewer.show({ slide: 'f'.repeat(64), "
        "region: { x: 0, y: 0, width: 1, height: 1 }, rotation: 0, overview: false }))"
    )
    expect(page.locator("#notices")).to_contain_text("Gone.")
    open_page.seen[:] = [one for one in open_page.seen if "console" not in one]  # the failures themselves


@pytest.mark.parametrize("kind", ["mirax", "dicom"])
def test_a_slide_of_several_files_opens_from_a_folder(open_page, kind, tmp_path):
    """A folder with a slide's files, or with the levels of a DICOM slide in folders, opens as one slide."""
    folder = tmp_path / "case"
    vendors.write_mirax(folder) if kind == "mirax" else made.write_wsm(folder, spread=True)
    page = open_page(locale="ar")
    page.set_input_files("#viewer .folder", str(folder))
    expect(page.locator("#viewer .slide-scale span")).to_contain_text("m", timeout=30_000)
    width = 1024 if kind == "mirax" else made.WIDTH
    page.wait_for_function(f"{VIEW}.then((view) => view?.region.width === {width})")
    expect(page.locator("#viewer .slide-map canvas").first).to_be_visible()
    ask(page, "ما هذا النسيج؟")
    expect(page.locator("#chat .answer").last).to_contain_text("1 image(s)")


def test_a_slide_without_its_files_says_what_is_missing(open_page, tmp_path):
    """The main file of an MRXS slide, chosen alone, is not shown as the small picture it is."""
    page = open_page()
    page.set_input_files("#viewer .file", str(vendors.write_mirax(tmp_path)))
    expect(page.locator("#notices")).to_contain_text("incomplete", timeout=30_000)
    assert page.evaluate(VIEW) is None


def test_two_slides_and_several_regions_in_one_conversation(open_page, tmp_path):
    """Each question keeps its own place; every link flies back to its slide and region, in any order."""
    page = open_page()
    slide = opened(page)
    first = moved(page, slide, "PageUp", "Enter")
    assert first["region"]["height"] < 2967
    ask(page, "First region?")
    second = moved(page, slide, "Escape", "PageUp", "ArrowDown", "]", "Enter")
    ask(page, "Second region?")
    page.set_input_files("#viewer .file", str(vendors.write_ndpi(tmp_path / "other.ndpi")))
    page.wait_for_function(f"{VIEW}.then((view) => view?.region.width === {vendors.WHOLE[0]})")
    third = moved(page, slide, "p")
    assert third["slide"] != first["slide"]
    ask(page, "Another slide?")
    links = page.locator("#chat .evidence:not(.carried)")
    expect(links).to_have_count(3)
    for number, expected in ((0, first), (2, third), (1, second), (0, first)):
        links.nth(number).click()
        page.wait_for_function(
            f"{VIEW}.then((view) => view.slide === '{expected['slide']}' "
            f"&& view.region.x === {expected['region']['x']} && view.rotation === {expected['rotation']})"
        )
        page.wait_for_timeout(300)
        assert page.evaluate(VIEW) == expected
    page.set_viewport_size({"width": 700, "height": 600})
    page.wait_for_timeout(500)
    assert page.evaluate(VIEW) == first, "a window of another size moves no mark"
    expect(page.locator("#viewer .marked")).to_be_visible()
