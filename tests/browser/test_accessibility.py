"""axe-core in every state of every page, both languages and colours: no violation of WCAG 2.1 A and AA."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import expect

from i18n.catalogue import Catalogue
from tests.browser.conftest import PASSWORD, ask, from_menu, held
from tests.browser.test_study import drag, open_folder, press

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
SLIDE = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"
TEXT = Catalogue().text
RULES = "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] })"
AT_ONCE = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync('* { transition: none !important; }');
  document.adoptedStyleSheets = [sheet];
}"""
both_languages = pytest.mark.parametrize("locale", ["en", "ar"])


class Checker:
    """Runs the rules in light and in dark, and tells the state a violation was found in."""

    def __init__(self, page):
        self.page = page

    def __call__(self, state: str) -> None:
        """Find nothing."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
            self.page.evaluate(AT_ONCE)
        for theme in ("light", "dark"):
            self.page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
            found = self.page.evaluate(RULES)
            marks = [
                (one["id"], node["html"][:200], node["failureSummary"][:200])
                for one in found["violations"]
                for node in one["nodes"][:2]
            ]
            assert (state, theme, marks) == (state, theme, [])


@both_languages
def test_conversation(open_page, locale):
    """Nothing open; an answer with a translation; dialogs and menus of history and chat; search; a notice."""
    page = open_page(locale=locale)
    check = Checker(page)
    check("empty")
    ask(page, "What is **shown** here?\n\n- one 5 mm\n- two\n\n| a | b |\n|---|---|\n| `c` | < 0.5 |")
    page.locator("#chat .answer-tools .tool:has(use[href$='#translate'])").click()
    expect(page.locator("#chat .difference").first).to_be_visible()
    check("an answer and its translation")
    opens = {
        "judgement": "#chat .answer-tools .tool:has(use[href$='#flag'])",
        "another wording": "#chat .asked-tools .tool:has(use[href$='#pen'])",
        "help": "#header .help",
        "quick questions": "#chat .quick .tool",
    }
    for state, button in opens.items():
        page.locator(button).first.click()
        expect(page.locator("dialog")).to_be_visible()
        check(state)
        if state == "quick questions":
            page.locator("dialog .prompt-list .tool").first.click()
            expect(page.locator("dialog")).to_have_count(2)
            check("a dialog over a dialog")
            page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
    for key in ("ui.rename", "ui.edit_tags", "ui.delete"):
        from_menu(page, key, locale)
        check(key)
        page.keyboard.press("Escape")
    page.locator("#history .thread-tools .tool").click()
    check("menu")
    page.keyboard.press("Escape")
    page.locator("#history .filter").click()
    page.locator("#history .search").fill("shown")
    expect(page.locator("#history .hit").first).to_be_visible()
    check("search")
    page.set_input_files("#history .import-file", {"name": "x.zip", "mimeType": "", "buffer": b"no archive"})
    expect(page.locator(".notice")).to_be_visible()
    check("notice")
    open_page.seen.clear()  # the browser reports the refusal


@both_languages
def test_studies(open_page, two_series, locale):
    """Series with measurements and chosen slices; linked planes; side by side; preview; the bar's menu."""
    page = open_page(locale=locale)
    check = Checker(page)
    open_folder(page, two_series)
    page.locator("#viewer [data-tool=ellipse]").click()
    drag(page, (4, 4), (24, 20))
    expect(page.locator("#viewer .measure")).to_have_count(1)
    for key in ("s", "PageDown", "s"):
        press(page, key)
    check("measured and chosen")
    page.locator("#viewer .tray .button").first.click()
    expect(page.locator("#viewer .preview img")).to_be_visible()
    check("preview of chosen slices")
    page.locator("#viewer .preview .button").click()
    page.locator("#viewer .tray .button").last.click()
    ask(page, "One")
    check("a study asked about")
    page.locator("#viewer [data-do=mpr]").click()
    expect(page.locator("#viewer .pane")).to_have_count(4)
    page.locator("#viewer .projection").select_option("mip")
    check("linked planes")
    page.locator("#viewer [data-do=compare]").click()
    expect(page.locator("#viewer .pane")).to_have_count(2)
    check("side by side")
    page.set_viewport_size({"width": 900, "height": 800})
    page.locator("#viewer .overflow").click()
    expect(page.locator(".menu")).to_be_visible()
    check("menu of the bar")
    page.keyboard.press("Escape")
    page.locator("#header .drawer").click()
    check("drawer")


@both_languages
def test_a_study_on_its_way(open_page, two_series, locale):
    """The progress of an upload, over an empty stage."""
    page = open_page(locale=locale)
    with held(page, "**/studies/*/files"):
        page.set_input_files("#viewer .folder", str(two_series))
        expect(page.locator("#viewer .progress")).to_be_visible()
        Checker(page)("progress")
        page.locator("#viewer .progress-cancel").click()
        expect(page.locator("#viewer .progress")).to_be_hidden()


@both_languages
def test_slide(open_page, locale):
    """A whole slide with a marked region, the choice of a grid, a point."""
    page = open_page(locale=locale)
    page.set_input_files("#viewer .file", str(SLIDE))
    expect(page.locator("#viewer .slide-scale span")).to_contain_text("m")
    check = Checker(page)
    check("slide")
    page.locator("#viewer .slide-map").press("Enter")
    check("region of a slide")
    page.locator("#viewer .slide-map").press("g")
    expect(page.locator("dialog .grid-choice").first).to_be_visible()
    check("grid of a slide")
    page.keyboard.press("Escape")
    page.locator("#viewer .slide-map").press("p")
    check("point on a slide")


@pytest.mark.parametrize(("locale", "clinician"), [("en-GB", "amal"), ("ar-SA", "badr")])
def test_pages_of_several_users(chromium, users_server, locale, clinician):
    """Sign-in with its error, the lock's cover, the account of an administrator, the reviewer's page."""
    context = chromium.new_context(locale=locale, reduced_motion="reduce")
    page = context.new_page()
    check = Checker(page)
    page.goto(users_server.url)
    check("sign in")
    sign_in(page, clinician, "wrong")
    expect(page.locator(".error")).not_to_be_empty()
    check("not signed in")
    sign_in(page, clinician, PASSWORD)
    expect(page.locator(".masthead .user")).to_be_visible()
    ask(page, "A question for the reviewer")
    check("a page with its user")
    page.locator(".masthead .user button").click()
    expect(page.locator("dialog.lock")).to_be_visible()
    check("cover")
    for name, path, ready in (("rita", "review", "nav .rows li"), ("root", "account", "#sign-ins .rows li")):
        context.clear_cookies()
        page.goto(users_server.url)
        sign_in(page, name, PASSWORD)
        expect(page.locator("#password")).to_have_count(0)
        page.goto(f"{users_server.url}/{path}")
        expect(page.locator(ready).first).to_be_visible()
        check(path)
    context.close()


def sign_in(page, name: str, password: str) -> None:
    """Fill the form in and send it."""
    page.fill("#name", name)
    page.fill("#password", password)
    page.keyboard.press("Enter")
