"""A whole slide in the page: moved over, a region marked, asked about in Arabic, and found again."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import ask

SLIDE = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"
VIEW = "import('/page/js/viewer.js').then((m) => m.viewer.view())"


def test_a_region_of_a_slide_is_asked_about_and_found_again(open_page):
    """The marked region is what is asked about; its evidence link flies back to the same place."""
    page = open_page(locale="ar")
    page.set_input_files("#viewer .file", str(SLIDE))
    expect(page.locator("#viewer .slide-scale span")).to_contain_text("m")
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
    page.set_input_files("#viewer .file", str(SLIDE))
    expect(page.locator("#viewer .slide-scale span")).to_contain_text("m")
    page.locator("#viewer .slide-overview").check()
    page.locator("#viewer .slide-map").press("Enter")
    ask(page, "Which tissue?")
    expect(page.locator("#chat .answer")).to_contain_text("2 image(s)")
