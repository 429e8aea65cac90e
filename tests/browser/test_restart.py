"""On one's own machine: the history outlives the process, and the demonstration model answers."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.sync_api import expect

from i18n.catalogue import Catalogue
from i18n.text import direction
from tests.browser.conftest import ask, start_server, upload


@pytest.fixture
def folder(tmp_path):
    """Make a data folder that several processes use, one after the other."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.timeout(600)  # a start with a real model on a busy machine
def test_history_outlives_the_process_and_the_model_sees_ct(open_page, folder, ct_file):
    """Killed in mid-answer and started with the demonstration model: all is there, and it names CT."""
    first = start_server(folder)
    page = open_page(locale="ar", url=first.url)
    upload(page, ct_file)
    ask(page, "سؤال قبل إعادة التشغيل")
    ask(page, "كلمة " * 200, wait=False)
    expect(page.locator("#chat .answer").last.locator(".prose")).to_contain_text("كلمة كلمة")
    first.process.kill()
    first.process.wait()
    expect(page.locator(".notice").first).to_contain_text(Catalogue().text("ui.server_lost", "ar")[:20])
    page.close()
    open_page.seen.clear()  # the browser reports the lost connection
    second = start_server(folder, BACKEND="local", THREADS="1")
    try:
        page = open_page(locale="ar", url=second.url)
        expect(page.locator("#chat .bubble").first).to_have_text("سؤال قبل إعادة التشغيل")
        cut_off = page.locator("#chat .answer[data-state=interrupted]")
        expect(cut_off.locator(".prose")).to_contain_text("كلمة كلمة")
        expect(cut_off).to_contain_text(Catalogue().text("ui.state.interrupted", "ar"))
        expect(page.locator("#viewer .corner.start")).to_contain_text("CT")
        expect(page.locator(".demonstration")).to_be_visible()
        page.locator("#history .new-thread").click()
        expect(page.locator("#chat .turn")).to_have_count(0)
        ask(page, "ما نوع هذا الفحص؟", wait=False)
        answer = page.locator("#chat .answer").last
        expect(answer).to_have_attribute("data-state", "complete", timeout=200_000)
        said = answer.locator(".prose").inner_text()
        assert direction(said) == "rtl"
        assert re.search(r"CT|مقطعي", said), said
    finally:
        second.stop()
