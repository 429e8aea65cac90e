"""Without a mouse: keys of other keyboards, windows, moving, pointing, and where the focus goes."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from i18n.catalogue import Catalogue
from tests.browser.conftest import ask, upload
from tests.browser.made import SPACING_MM
from tests.browser.test_study import VIEWER, open_folder, press, view

TEXT = Catalogue().text
TYPED = """([key, code]) => document.activeElement.dispatchEvent(
  new KeyboardEvent('keydown', { key, code, bubbles: true, cancelable: true }))"""


def test_keys_of_an_arabic_keyboard(open_page, ct_file):
    """What is written there by the same keys does the same: letters, digits and brackets."""
    page = open_page(locale="ar")
    upload(page, ct_file)
    first = view(page)
    page.locator("#viewer .pixels").focus()
    page.evaluate(TYPED, ["٢", "Digit2"])
    assert view(page)["window"] != first["window"]
    page.evaluate(TYPED, ["ه", "KeyI"])
    assert view(page)["inverted"] is not first["inverted"]
    page.evaluate(TYPED, ["د", "BracketRight"])
    assert view(page)["rotation"] == 90
    page.locator("#chat .chat-scroll").focus()
    page.evaluate(TYPED, ["س", "KeyS"])
    expect(page.locator("#history .search")).to_be_focused()


def test_window_and_place_by_keys(open_page, ct_file):
    """Comma and full stop change the width, with Shift the centre; Shift and arrows move the picture."""
    page = open_page()
    upload(page, ct_file)
    before = view(page)["window"]
    press(page, ".")
    wider = view(page)["window"]
    assert wider["width"] == pytest.approx(before["width"] * 1.1, abs=1)
    press(page, ",", 2)
    assert view(page)["window"]["width"] < before["width"]
    press(page, "Shift+>")
    assert view(page)["window"]["center"] > before["center"]
    place = page.evaluate(VIEWER.format(".painter.placement"))
    press(page, "Shift+ArrowLeft", 2)
    assert page.evaluate(VIEWER.format(".painter.placement"))["left"] == place["left"] - 80


def test_pointing_in_linked_planes_by_keys(open_page, two_series):
    """Enter takes the crosshair, arrows move it by a pixel, and the other planes go along."""
    page = open_page()
    open_folder(page, two_series)
    press(page, "m")
    panes = page.locator("#viewer .pane")
    expect(panes).to_have_count(4)
    expect(page.locator("#viewer .crosshair")).to_have_count(4)
    before = page.evaluate(VIEWER.format(".study.layout.panes[0].overlay.point"))
    panes.nth(0).locator(".pixels").focus()
    page.keyboard.press("x")
    for key in ("Enter", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    after = page.evaluate(VIEWER.format(".study.layout.panes[0].overlay.point"))
    assert after[:2] == pytest.approx([before[0] + 2 * SPACING_MM, before[1] + SPACING_MM])
    x, y = (int(value / SPACING_MM + 0.5) * SPACING_MM for value in after[:2])  # planes lie on the voxels
    for at, corner in ((1, f"Y {y:g} mm"), (2, f"X {x:g} mm")):
        expect(panes.nth(at).locator(".corner.top-end")).to_contain_text(corner)
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    expect(panes.nth(0).locator(".corner.end")).to_contain_text("/14")


def test_help_is_complete_and_can_quieten_the_letters(open_page, ct_file):
    """Every key the viewer knows stands in the help; letters outside the image can be turned off."""
    page = open_page()
    upload(page, ct_file)
    page.locator("body").press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    script = """import('/page/js/study/shortcuts.js').then(({ SHORTCUTS }) =>
      SHORTCUTS.flatMap(({ match }) => Object.keys(match)).filter((key) => key.length === 1))"""
    shown = {key.lower() for key in dialog.locator("kbd").all_inner_texts()}
    known = set(page.evaluate(script)) - {"="}
    assert known <= shown
    box = dialog.get_by_role("checkbox")
    expect(box).to_be_checked()
    assert box.evaluate("(one) => getComputedStyle(one).appearance") != "none"  # else a tick is not drawn
    box.uncheck()
    page.keyboard.press("Escape")
    expect(page.locator("#header .help")).not_to_be_focused()
    page.locator("#chat .chat-scroll").press("s")
    expect(page.locator("#history .search")).not_to_be_focused()
    page.locator("#header .help").click()
    dialog.get_by_role("checkbox").check()
    page.keyboard.press("Escape")
    expect(page.locator("#header .help")).to_be_focused()
    page.locator("#chat .chat-scroll").press("s")
    expect(page.locator("#history .search")).to_be_focused()


def test_focus_stays_where_things_are_drawn_anew(open_page, two_series):
    """After a translation, a removed measurement and a deleted conversation there is a next place."""
    page = open_page()
    open_folder(page, two_series)
    ask(page, "One")
    twin = page.locator("#chat .answer-tools .tool:has(use[href$='#translate'])")
    twin.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#chat .twin[data-state=complete]")).to_be_visible()
    assert page.evaluate("document.activeElement.closest('.turn') !== null")
    twin.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#chat .twin")).to_have_count(0)
    expect(twin).to_be_focused()
    for _ in range(2):
        press(page, "b")
        press(page, "Enter", 2)
    bins = page.locator("#viewer .measure").get_by_role("button", name=TEXT("ui.measure_remove", "en"))
    expect(bins).to_have_count(2)
    bins.first.focus()
    page.keyboard.press("Enter")
    expect(bins).to_have_count(1)
    expect(bins).to_be_focused()
    page.keyboard.press("Enter")
    expect(bins).to_have_count(0)
    expect(page.locator("#viewer .pixels")).to_be_focused()
    page.locator("#history .new-thread").click()
    ask(page, "Two")
    page.locator("#history .thread-tools .tool").first.focus()
    for key in ("Enter", "End", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("dialog").get_by_role("button", name=TEXT("ui.delete", "en"), exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#history .thread")).to_have_count(1)
    assert page.evaluate("document.activeElement.closest('#history') !== null")
