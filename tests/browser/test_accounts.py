"""Signing in, the cover and the reviewer in a real browser; hostile strings in every place that shows one."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect
from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement

from i18n.catalogue import Catalogue
from tests.browser.conftest import PASSWORD, ask, outside, upload

HOSTILE = [
    '<img src=x onerror="document.documentElement.dataset.hit=1">',
    "<svg/onload=document.documentElement.dataset.hit=1>",
    "</script><script>document.documentElement.dataset.hit=1</script>",
    "${document.documentElement.dataset.hit=1}",
    "{{constructor.constructor('document.documentElement.dataset.hit=1')()}}",
    "javascript:document.documentElement.dataset.hit=1",
    "[x](javascript:document.documentElement.dataset.hit=1)",
    "![x](https://elsewhere.example/a.png) <link rel=stylesheet href=//elsewhere.example/a.css>",
    "'\"><iframe src=https://elsewhere.example></iframe>",
    "\u202e<b>evil</b>\u2066 &lt;b&gt; %3Cscript%3E",
]


@pytest.fixture
def browser_of(chromium, users_server):
    """Open a page as somebody; nothing may run, fail or go elsewhere."""
    contexts, seen = [], []

    def open_as(name, locale="en-GB"):
        context = chromium.new_context(locale=locale, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda one: seen.append(one.url) if outside(one.url, users_server.url) else None)
        page.on("pageerror", lambda one: seen.append(f"error: {one}"))
        page.on("dialog", lambda one: seen.append(f"dialog: {one.message}"))
        page.goto(users_server.url)
        page.fill("#name", name)
        page.fill("#password", PASSWORD)
        page.keyboard.press("Enter")
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert seen == []


def ran(page):
    """Whether any of the strings was taken for something to run."""
    return page.evaluate("document.documentElement.dataset.hit")


@pytest.mark.parametrize("locale", ["en-GB", "ar-SA"])
def test_the_sign_in_page_is_right_at_first_paint(chromium, users_server, locale):
    """Language and direction stand in the markup, also without scripts; then the button switches both."""
    language = locale[:2]
    for scripts in (False, True):
        context = chromium.new_context(locale=locale, java_script_enabled=scripts)
        page = context.new_page()
        page.goto(users_server.url)
        expect(page.locator("html")).to_have_attribute("lang", language)
        expect(page.locator("html")).to_have_attribute("dir", "rtl" if language == "ar" else "ltr")
        expect(page.locator("form button")).to_have_text(
            Catalogue().text("account.sign_in", language), use_inner_text=True
        )
        if scripts:
            page.locator("button.language").click()
            expect(page.locator("html")).not_to_have_attribute("lang", language)
        context.close()


def test_a_page_nobody_uses_covers_itself(browser_of, users_server):
    """Nothing shows through, the draft is kept, only the password opens it; a second tab is covered too."""
    page = browser_of("amal")
    expect(page.locator(".masthead .user")).to_be_visible()
    second = page.context.new_page()
    second.goto(users_server.url)
    expect(second.locator(".masthead .user")).to_be_visible()
    page.locator("#chat .question").fill("A draft about Zanzibar")
    with page.expect_response("**/account/lock"):
        page.locator(".masthead .user button").click()
    for one in (page, second):
        expect(one.locator("dialog.lock")).to_be_visible()
        expect(one.locator("#chat .question")).not_to_be_visible()
        assert "Zanzibar" not in one.locator("body").inner_text()
    assert page.request.get(f"{users_server.url}/history/threads").status == 401
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("dialog.lock")).to_be_visible()
    page.fill("#lock-password", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("dialog.lock .error")).to_have_text(Catalogue().text("account.failed", "en"))
    page.fill("#lock-password", PASSWORD)
    page.keyboard.press("Enter")
    for one in (page, second):
        expect(one.locator("dialog.lock")).to_have_count(0)
    expect(page.locator("#chat .question")).to_have_value("A draft about Zanzibar")
    ask(page, "It still works")


def test_hostile_strings_are_text_everywhere(browser_of, users_server, ct_file, tmp_path):
    """Header values, file names, questions, answers, titles, tags, judgements, prompts, imports, reviews."""
    everything = " ".join(HOSTILE)
    dataset = dcmread(ct_file)
    for name in ("PatientName", "StudyDescription", "SeriesDescription", "BodyPartExamined", "Manufacturer"):
        tag = tag_for_keyword(name)
        dataset[tag] = DataElement(tag, dictionary_VR(tag), HOSTILE[0], validation_mode=IGNORE)
    named = tmp_path / "<img src=x onerror=document.documentElement.dataset.hit=1>.dcm"
    dataset.save_as(named)
    broken = tmp_path / "'\"><script>document.documentElement.dataset.hit=1.dcm"
    broken.write_bytes(b"no image")
    page = browser_of("amal")
    expect(page.locator("#chat .question")).to_be_visible()
    page.set_input_files("#viewer .file", str(broken))
    expect(page.locator(".notice").first).to_be_visible()
    page.locator(".notice button").first.click()
    upload(page, str(named))
    ask(page, everything)
    thread = page.locator(".thread.current").get_attribute("data-thread")
    answer = json.loads(page.request.get(f"{users_server.url}/review/threads").text())  # refused: no reviewer
    assert set(answer["error"]) == {"en", "ar"}
    post = {"sec-fetch-site": "same-origin"}
    base = f"{users_server.url}/history/threads/{thread}"
    page.request.post(f"{base}/tags", data={"tags": [one[:40] for one in HOSTILE]}, headers=post)
    prompts = page.request.post(f"{users_server.url}/prompts", data={"text": everything[:300]}, headers=post)
    assert prompts.status in (200, 422)
    archive = page.request.get(f"{base}/export").body()
    assert page.request.post(f"{users_server.url}/history/import", data=archive, headers=post).status == 200
    page.reload()
    expect(page.locator("#chat .bubble").last).to_contain_text(HOSTILE[0])
    expect(page.locator(".thread")).to_have_count(2)
    page.locator("#header .language").click()
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    assert page.locator("#chat .prose :is(a, img, script, iframe, link)").count() == 0
    assert ran(page) is None
    rita = browser_of("rita")
    rita.locator("nav .row").first.click()
    expect(rita.locator("article .said").last).to_contain_text(HOSTILE[0])
    assert rita.locator("article :is(a, script, iframe, link)").count() == 0
    assert ran(rita) is None
    root = browser_of("root")
    expect(root.locator("#users .rows li")).to_have_count(4)
    assert ran(root) is None
