"""Asking, stopping, answering again, and finding it all after a reload."""

from __future__ import annotations

import pydicom
import pydicom.uid
import pytest
from playwright.sync_api import expect

from i18n.catalogue import Catalogue
from tests.browser.conftest import ask, from_menu, upload

LONG = {
    "en": "Please describe " + "every part of this image in detail " * 20,
    "ar": "من فضلك صف " + "كل جزء من هذه الصورة بالتفصيل " * 20,
}


def last_answer(page):
    return page.locator("#chat .answer").last


def test_question_about_the_view_is_answered_and_kept(open_page, ct_file):
    """The model is given the image, the answer arrives, and a reload shows everything again."""
    page = open_page()
    upload(page, ct_file)
    ask(page, "What is shown here?")
    expect(last_answer(page)).to_contain_text("1 image(s) in 1 message(s); you asked: What is shown here?")
    expect(page.locator("#chat .evidence")).to_have_count(1)
    expect(page.locator("#history .thread-title")).to_have_text("What is shown here?")
    page.reload()
    expect(last_answer(page)).to_contain_text("you asked: What is shown here?")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(page.locator("#viewer .corner.start")).to_contain_text("CT")


def test_streaming_fetches_no_picture_again(open_page, ct_file):
    """However many pieces an answer comes in, the picture of its question is fetched at most once."""
    page = open_page()
    upload(page, ct_file)
    fetched = []
    page.on("request", lambda one: fetched.append(one.url) if "/render?" in one.url else None)
    ask(page, "word " * 40)
    assert len(fetched) <= 1  # none where the strip of images has shown the same picture


def test_the_same_view_is_not_sent_twice(open_page, ct_file):
    """A second question about an unchanged view adds no image; a changed window does."""
    page = open_page()
    upload(page, ct_file)
    ask(page, "First")
    ask(page, "Second")
    expect(last_answer(page)).to_contain_text("1 image(s) in 3 message(s)")
    expect(page.locator("#chat .evidence.carried")).to_have_count(1)
    page.locator("#viewer .presets").select_option("lung")
    ask(page, "Third")
    expect(last_answer(page)).to_contain_text("2 image(s) in 5 message(s)")
    expect(page.locator("#chat .evidence:not(.carried)")).to_have_count(2)


def test_question_without_the_image(open_page, ct_file):
    """The switch beside the question leaves the image out."""
    page = open_page()
    upload(page, ct_file)
    page.locator("#chat .with-image").uncheck()
    ask(page, "A general question")
    expect(last_answer(page)).to_contain_text("0 image(s)")


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_stopped_answer_keeps_its_beginning(open_page, locale):
    """Stopping in mid-answer keeps what was said, marked as stopped, also after a reload."""
    page = open_page(locale=locale)
    ask(page, LONG[locale], wait=False)
    expect(last_answer(page).locator(".prose")).to_contain_text("you asked")
    page.locator("#chat .stop").click()
    expect(last_answer(page)).to_have_attribute("data-state", "stopped")
    text = last_answer(page).locator(".prose").inner_text()
    assert 0 < len(text) < len(LONG[locale])
    said = {"en": "Stopped by you", "ar": Catalogue().text("ui.state.stopped", "ar")}[locale]
    page.reload()
    expect(last_answer(page)).to_have_attribute("data-state", "stopped")
    expect(last_answer(page).locator(".prose")).to_contain_text(text[:20])
    expect(last_answer(page).locator(".answer-state")).to_contain_text(said)
    expect(page.locator("#chat .stop")).to_be_hidden()


def test_an_answer_goes_on_while_its_page_is_loaded_again(open_page):
    """A page that goes away stops nothing: the answer is seen growing, and can be stopped, afterwards."""
    page = open_page()
    ask(page, LONG["en"], wait=False)
    expect(last_answer(page).locator(".prose")).to_contain_text("you asked")
    page.reload()
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    expect(last_answer(page).locator(".prose")).to_contain_text(LONG["en"].strip()[-40:])
    expect(page.locator("#chat .stop")).to_be_hidden()
    ask(page, LONG["en"] * 3, wait=False)
    page.reload()
    expect(last_answer(page)).to_have_attribute("data-state", "streaming")
    page.locator("#chat .stop").click()
    expect(last_answer(page)).to_have_attribute("data-state", "stopped")


def test_escape_in_the_question_stops_its_answer(open_page):
    """The focus is still there after Enter. A question too long to be sent is kept whole and refused."""
    page = open_page()
    ask(page, LONG["en"], wait=False)
    page.keyboard.press("Escape")
    expect(last_answer(page)).to_have_attribute("data-state", "stopped")
    box = page.locator("#chat .question")
    box.fill("x" * 8001)
    expect(page.locator("#chat .too-long")).to_contain_text("8001 characters")
    box.press("Enter")
    expect(page.locator(".notice")).to_contain_text("at most 8000")
    expect(box).to_have_value("x" * 8001)
    box.fill("x" * 8000)
    expect(page.locator("#chat .too-long")).to_be_hidden()
    expect(page.locator("#chat .turn")).to_have_count(1)


def test_answering_again_keeps_the_earlier_answer(open_page):
    """A second answer to the same question is shown; the first stays reachable."""
    page = open_page()
    ask(page, "Twice please")
    page.locator("#chat .answer [aria-label='Answer again']").click()
    expect(page.locator("#chat .version")).to_have_text("Answer 2 of 2")
    expect(last_answer(page)).to_have_attribute("data-state", "complete")
    page.locator("#chat [aria-label='Previous answer']").click()
    expect(page.locator("#chat .version")).to_have_text("Answer 1 of 2")
    page.reload()
    expect(page.locator("#chat .version")).to_have_text("Answer 2 of 2")


def test_copy_gives_the_text_as_it_was_said(open_page, server):
    """No invisible direction marks come along."""
    page = open_page(locale="ar")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    ask(page, "القياس 12.5 mm في الفص الأيمن")
    assert "\u2066" in last_answer(page).locator(".prose").inner_text()
    last_answer(page).locator(".answer-tools .tool").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith("القياس 12.5 mm في الفص الأيمن")
    assert not set("\u2066\u2067\u2068\u2069\u200e\u200f") & set(copied)


def test_enter_sends_and_shift_enter_breaks_the_line(open_page):
    """The keys of every chat."""
    page = open_page()
    box = page.locator("#chat .question")
    box.fill("one")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    assert box.input_value() == "one\ntwo"
    box.press("Enter")
    expect(page.locator("#chat .bubble")).to_have_text("one\ntwo")
    expect(box).to_have_value("")


def test_evidence_brings_the_view_back(open_page, ct_file):
    """One click on a question's picture restores image, window, inversion and region exactly."""
    page = open_page()
    upload(page, ct_file)
    page.locator("#viewer .presets").select_option("bone")
    page.locator("#viewer [data-do=invert]").click()
    page.locator("#viewer [data-tool=region]").click()
    box = page.locator("#viewer .pixels").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 320, box["y"] + 380)
    page.mouse.up()
    view = page.evaluate("import('/page/js/viewer.js').then((m) => m.viewer.view())")
    assert view["region"]["width"] > 2
    ask(page, "What is in this region?")
    page.locator("#viewer [data-do=reset]").click()
    expect(page.locator("#viewer .region-shape")).to_be_hidden()
    page.locator("#chat .evidence").click()
    expect(page.locator("#viewer .region-shape")).to_be_visible()
    assert page.evaluate("import('/page/js/viewer.js').then((m) => m.viewer.view())") == view
    size = f"{view['region']['width']}×{view['region']['height']} px"
    expect(page.locator("#chat .evidence-label")).to_contain_text(size)
    page.reload()
    expect(page.locator("#viewer .region-shape")).to_be_visible()
    assert page.evaluate("import('/page/js/viewer.js').then((m) => m.viewer.view())") == view


def test_rename_delete_and_new(open_page, ct_file):
    """A conversation gets another name; deleted, it and its image are gone; another can begin."""
    page = open_page()
    upload(page, ct_file)
    ask(page, "Older question")
    page.locator("#history .new-thread").click()
    expect(page.locator("#chat .turn")).to_have_count(0)
    ask(page, "Newer question")
    titles = page.locator("#history .thread-title")
    expect(titles).to_have_text(["Newer question", "Older question"])
    from_menu(page, "ui.rename", at=1)
    page.locator("dialog input").fill("Second opinion")
    page.keyboard.press("Enter")
    expect(titles).to_have_text(["Newer question", "Second opinion"])
    page.locator("#history .thread-open", has_text="Second opinion").click()
    expect(page.locator("#chat .bubble")).to_have_text("Older question")
    for at, title in ((1, "Second opinion"), (0, "Newer question")):
        from_menu(page, "ui.delete", at=at)
        page.locator("dialog .danger").click()
        expect(page.locator("#history .thread-open", has_text=title)).to_have_count(0)
    expect(page.locator("#chat .turn")).to_have_count(0)
    expect(page.locator("#viewer .drop-hint")).to_be_visible()
    page.reload()
    expect(page.locator("#history .history-empty")).to_be_visible()


def test_cancelled_deletion_deletes_nothing(open_page):
    """Escape means no."""
    page = open_page()
    ask(page, "Keep me")
    from_menu(page, "ui.delete")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.reload()
    expect(page.locator("#history .thread-title")).to_have_text("Keep me")


def test_long_conversation_shows_its_end_and_the_rest_on_demand(open_page):
    """Thirty messages are drawn; the earlier ones come with a button."""
    page = open_page()
    for number in range(16):
        page.locator("#chat .question").fill(f"Question {number}")
        page.locator("#chat .question").press("Enter")
        expect(page.locator("#chat .bubble").last).to_have_text(f"Question {number}")
        expect(page.locator("#chat .stop")).to_be_hidden()
    expect(page.locator("#chat .turn")).to_have_count(15)
    page.reload()
    expect(page.locator("#chat .turn")).to_have_count(15)
    expect(page.locator("#chat .bubble").last).to_have_text("Question 15")
    page.locator("#chat .earlier").click()
    expect(page.locator("#chat .turn")).to_have_count(16)
    expect(page.locator("#chat .bubble").first).to_have_text("Question 0")


def test_an_image_of_another_patient_is_pointed_out(open_page, ct_file, tmp_path):
    """By the pseudonyms, before anything is asked; a new conversation is one click away."""
    other = pydicom.dcmread(ct_file)
    other.PatientID, other.PatientName = "another", "Another^One"
    other.StudyInstanceUID, other.SOPInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    other.PixelData = other.PixelData[::-1]
    other.save_as(tmp_path / "other.dcm")
    page = open_page()
    note = page.locator("#chat .other-patient")
    upload(page, ct_file)
    expect(note).to_be_hidden()
    ask(page, "What is shown?")
    expect(note).to_be_hidden()
    upload(page, str(tmp_path / "other.dcm"))
    expect(note).to_be_visible()
    page.locator("#chat .with-image").uncheck()
    expect(note).to_be_hidden()
    page.locator("#chat .with-image").check()
    page.reload()
    expect(page.locator("#chat .bubble")).to_have_count(1)
    upload(page, str(tmp_path / "other.dcm"))
    expect(note).to_be_visible()
    note.locator(".begin").click()
    expect(page.locator("#chat .turn")).to_have_count(0)
    expect(note).to_be_hidden()
