"""Nothing leaves, nobody sees another's, and text stays text."""

from __future__ import annotations

import shutil

from playwright.sync_api import expect
from pydicom.data import get_testdata_file

from i18n.catalogue import Catalogue
from tests.browser.conftest import ask, from_menu, upload

ATTACKS = [
    '<img src=x onerror="document.body.dataset.hit=1">',
    "${document.body.dataset.hit=1}",
    "{{constructor.constructor('document.body.dataset.hit=1')()}}",
    "</script><script>document.body.dataset.hit=1</script>",
    "[x](javascript:document.body.dataset.hit=1)",
    "![x](https://elsewhere.example/picture.png)",
]


def test_text_is_never_markup(open_page):
    """A title, a question or an answer that looks like code is shown, not run, and fetches nothing."""
    page = open_page()
    for attack in ATTACKS:
        ask(page, attack)
    from_menu(page, "ui.rename")
    page.locator("dialog input").fill("".join(ATTACKS[:3]))
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_have_count(0)
    page.reload()
    expect(page.locator("#chat .bubble")).to_have_text(ATTACKS)
    for answer, attack in zip(page.locator("#chat .prose").all(), ATTACKS, strict=True):
        expect(answer).to_contain_text(attack)
    expect(page.locator("#history .thread-title")).to_have_text("".join(ATTACKS[:3]))
    assert page.evaluate("document.body.dataset.hit") is None
    assert page.locator("#chat .prose :is(a, img, script)").count() == 0


def test_two_visitors_never_mix(open_page, ct_file):
    """Asking at once, each sees their own conversation and image only, before and after a reload."""
    first, second = open_page(), open_page()
    upload(first, ct_file)
    upload(second, get_testdata_file("MR_small.dcm", download=False))
    long = "word " * 40
    ask(first, f"first visitor {long}", wait=False)
    ask(second, f"second visitor {long}", wait=False)
    for page, mine, other in ((first, "first", "second"), (second, "second", "first")):
        expect(page.locator("#chat .answer[data-state=complete]")).to_have_count(1)
        page.reload()
        expect(page.locator("#chat .prose")).to_contain_text(f"{mine} visitor")
        expect(page.locator("#history .thread-title")).to_have_count(1)
        assert f"{other} visitor" not in page.locator("body").inner_text()
    expect(first.locator("#viewer .corner.start")).to_contain_text("CT")
    expect(second.locator("#viewer .corner.start")).to_contain_text("MR")


def test_another_visitors_ids_open_nothing(open_page, ct_file):
    """Ids of an image or a conversation are worth nothing to somebody else."""
    owner, other = open_page(), open_page()
    upload(owner, ct_file)
    ask(owner, "Mine alone")
    view = owner.evaluate("import('/page/js/viewer.js').then((m) => m.viewer.view())")
    assert other.request.get(f"{other.url}images/{view['image']}").status == 404
    other.evaluate("(view) => import('/page/js/viewer.js').then((m) => m.viewer.show(view))", view)
    expect(other.locator(".notice")).to_have_text(Catalogue().text("history.image_not_found", "en"))
    open_page.seen.clear()  # the browser reports the refusal
    other.locator(".notice button").click()
    # the page is made to believe that the other visitor's conversation is the one it shows
    thread = owner.evaluate("document.querySelector('.thread.current').dataset.thread")
    other.evaluate(
        "(id) => document.dispatchEvent(new CustomEvent('bimedix2:open', { detail: { id } }))", thread
    )
    expect(other.locator(".notice")).to_have_text(Catalogue().text("history.thread_not_found", "en"))
    expect(other.locator("#chat .turn")).to_have_count(0)


def test_no_request_leaves_the_server(open_page, server, ct_file):
    """A whole session later the process has looked up and connected to nothing but this machine."""
    page = open_page()
    upload(page, ct_file)
    ask(page, "Where do you call?")
    assert server.reached <= {"127.0.0.1", "localhost", "::1", "None"}


def test_questions_are_not_kept_in_the_browser(open_page):
    """Nothing said stays in the browser's own storage."""
    page = open_page()
    ask(page, "Patient Smith, number 123")
    stored = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
    assert "Smith" not in stored


def test_identity_is_not_in_the_log(open_page, server, tmp_path, ct_file):
    """Neither a file's name nor what the header says of the patient reaches the server's log."""
    named = tmp_path / "SMITH_JOHN_1970.dcm"
    shutil.copyfile(ct_file, named)
    page = open_page()
    upload(page, str(named))
    ask(page, "Question about Smith")
    log = (server.folder / "log").read_text(encoding="utf-8")
    assert "SMITH" not in log.upper()
    assert "CompressedSamples" not in log
    assert "Traceback" not in log
