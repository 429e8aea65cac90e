"""Arabic and English: first paint, switching, direction, narrow pages."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from i18n.catalogue import Catalogue
from tests.browser.conftest import ask, upload

RECORD_TEXTS = """
  window.seenTexts = new Set();
  window.seenDirections = new Set();
  new MutationObserver(() => {
    if (!document.body) return;
    for (const line of document.body.innerText.split('\\n')) window.seenTexts.add(line.trim());
    window.seenDirections.add(document.documentElement.dir);
  }).observe(document, { subtree: true, childList: true, characterData: true });
"""


def text(key, locale, **values):
    return Catalogue().text(key, locale, **values)


def test_first_paint_is_arabic(open_page):
    """A browser that prefers Arabic never sees an English word of the page, nor a left-to-right one."""
    page = open_page(locale="ar-SA", script=RECORD_TEXTS)
    expect(page.locator("#history h2")).to_have_text(text("ui.history", "ar"))
    seen = set(page.evaluate("[...window.seenTexts]"))
    english = {value for key, value in Catalogue().table("en").items() if key.startswith(("ui.", "app."))}
    assert not seen & (english - {"English", "العربية"})
    assert page.evaluate("[...window.seenDirections]") == ["rtl"]
    expect(page).to_have_title(text("app.title", "ar"))


def test_switch_without_reload_keeps_everything(open_page, ct_file):
    """Texts and direction change in place; conversation, image, draft and the page itself stay."""
    page = open_page()
    upload(page, ct_file)
    ask(page, "A question in English")
    page.locator("#chat .question").fill("half a sentence")
    page.evaluate("window.sameDocument = 1")
    page.locator("#header .language").click()
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
    expect(page.locator("#history .new-thread")).to_have_text(text("ui.new_conversation", "ar"))
    expect(page.locator("#chat .question")).to_have_attribute("placeholder", text("ui.ask_placeholder", "ar"))
    expect(page.locator("#chat .question")).to_have_value("half a sentence")
    expect(page.locator("#chat .bubble")).to_have_text("A question in English")
    expect(page.locator("#viewer .corner.start")).to_contain_text("CT")
    assert page.evaluate("window.sameDocument") == 1
    page.reload()
    expect(page.locator("#history h2")).to_have_text(text("ui.history", "ar"))
    page.locator("#header .language").click()
    expect(page.locator("html")).to_have_attribute("dir", "ltr")
    expect(page.locator("#history h2")).to_have_text(text("ui.history", "en"))


def test_columns_mirror_and_the_viewer_does_not(open_page, ct_file):
    """In Arabic the history stands right and the chat left; the viewer's bars keep their places."""
    page = open_page(locale="ar")
    upload(page, ct_file)
    places = {name: page.locator(f"#{name}").bounding_box()["x"] for name in ("history", "viewer", "chat")}
    assert places["chat"] < places["viewer"] < places["history"]
    left, stage = (
        page.locator(f"#viewer {name}").bounding_box()["x"] for name in ("[data-tool=window]", ".pixels")
    )
    assert left < stage
    opens, inverts = (
        page.locator(f"#viewer {name}").bounding_box()["x"] for name in (".open-file", "[data-do=invert]")
    )
    assert opens < inverts


def test_each_message_has_its_own_direction(open_page):
    """English in an Arabic page runs left to right, Arabic in an English page right to left."""
    page = open_page(locale="ar")
    ask(page, "Is there a fracture?")
    expect(page.locator("#chat .bubble").last).to_have_attribute("dir", "ltr")
    ask(page, "هل يوجد كسر؟")
    expect(page.locator("#chat .bubble").last).to_have_attribute("dir", "rtl")
    page.locator("#header .language").click()
    expect(page.locator("#chat .bubble").last).to_have_attribute("dir", "rtl")
    ask(page, "RUL: عقدة رئوية قياسها 12.5 mm في الفص العلوي")
    expect(page.locator("#chat .bubble").last).to_have_attribute("dir", "rtl")


def test_measurement_reads_in_order(open_page):
    """Inside an Arabic sentence a number still stands before its unit on screen."""
    page = open_page(locale="ar")
    ask(page, "القياس 12.5 mm في الفص الأيمن")
    places = page.evaluate("""() => {
      const node = document.querySelector('#chat .bubble').firstChild;
      const at = (text) => {
        const range = document.createRange();
        const start = node.data.indexOf(text);
        range.setStart(node, start);
        range.setEnd(node, start + text.length);
        return range.getBoundingClientRect().left;
      };
      return [at('12.5'), at('mm')];
    }""")
    assert places[0] < places[1]


def test_error_in_the_language_of_the_page(open_page, tmp_path):
    """What went wrong with a file is said in Arabic."""
    bad = tmp_path / "empty.dcm"
    bad.write_bytes(b"")
    page = open_page(locale="ar")
    page.set_input_files("#viewer .file", str(bad))
    expect(page.locator(".notice")).to_have_text(text("app.upload_empty", "ar"))
    open_page.seen.clear()  # the browser reports the refusal


def test_notices_stay_visible(open_page):
    """Research use and the kind of model are said in both languages, whatever is open."""
    page = open_page()
    for locale in ("en", "ar"):
        expect(page.locator(".research")).to_have_text(text("app.research_notice", locale))
        expect(page.locator(".demonstration")).to_contain_text(text("app.demo_notice", locale))
        expect(page.locator(".model")).to_contain_text("scripted")
        expect(page.locator(".demonstration")).to_be_visible()
        page.locator("#header .language").click()


def test_one_screen(open_page, ct_file):
    """At 1400 x 900 nothing scrolls but the columns."""
    page = open_page()
    upload(page, ct_file)
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [1400, 900]
    box = page.locator("#chat .composer").bounding_box()
    assert box["y"] + box["height"] <= 900


@pytest.mark.parametrize("size", [(700, 450), (1280, 560)])
def test_a_low_page_scrolls(open_page, ct_file, size):
    """At 200 % zoom the image keeps a height to be read at, and no tool is out of sight."""
    page = open_page(size=size)
    upload(page, ct_file)
    assert page.locator("#viewer .stage").bounding_box()["height"] >= 260
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    rail = page.locator("#viewer .rail").bounding_box()
    for tool in page.locator("#viewer .rail .tool").all():
        box = tool.bounding_box()
        assert rail["y"] <= box["y"]
        assert box["y"] + box["height"] <= rail["y"] + rail["height"]
    page.locator("#chat .composer").scroll_into_view_if_needed()
    expect(page.locator("#chat .send")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_narrow_page(open_page, ct_file, locale):
    """On a telephone viewer and chat stand one above the other, and the history opens over them."""
    page = open_page(locale=locale, size=(390, 844))
    upload(page, ct_file)
    ask(page, "هل يوجد كسر؟")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    viewer, chat = (page.locator(f"#{name}").bounding_box() for name in ("viewer", "chat"))
    assert viewer["y"] + viewer["height"] <= chat["y"]
    expect(page.locator("#history")).to_be_hidden()
    page.locator("#header .drawer").click()
    expect(page.locator("#history .thread-open")).to_be_visible()
    page.locator("#history .thread-open").click()
    expect(page.locator("#history")).to_be_hidden()
    drawer = page.locator("#header .drawer")
    drawer.click()
    expect(page.locator("#history .new-thread")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#history")).to_be_hidden()
    expect(drawer).to_be_focused()
    drawer.click()
    page.mouse.click(340 if locale == "en" else 50, 800)  # beside it
    expect(page.locator("#history")).to_be_hidden()
    expect(drawer).to_have_attribute("aria-expanded", "false")
