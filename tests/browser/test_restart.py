"""On one's own machine: the history outlives the process, and the demonstration model answers."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.sync_api import expect

from app.model import DEMONSTRATION_FOLDER
from i18n.text import direction
from tests.browser.conftest import ask, start_server, upload


@pytest.fixture
def folder(tmp_path):
    """Make a data folder that several processes use, one after the other."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_history_outlives_the_process_and_the_model_sees_ct(open_page, folder, ct_file):
    """Asked, ended, started with the real demonstration model: all is there, and it names the examination."""
    first = start_server(folder)
    page = open_page(url=first.url)
    upload(page, ct_file)
    ask(page, "سؤال قبل إعادة التشغيل")
    first.stop()
    second = start_server(folder, BACKEND="local", THREADS="1")
    try:
        page = open_page(locale="ar", url=second.url)
        expect(page.locator("#chat .bubble")).to_have_text("سؤال قبل إعادة التشغيل")
        expect(page.locator("#viewer .corner.start")).to_contain_text("CT")
        expect(page.locator(".demonstration")).to_be_visible()
        page.locator("#history .new-thread").click()
        expect(page.locator("#chat .turn")).to_have_count(0)
        assert (DEMONSTRATION_FOLDER / "config.json").is_file()
        ask(page, "ما نوع هذا الفحص؟", wait=False)
        answer = page.locator("#chat .answer").last
        expect(answer).to_have_attribute("data-state", "complete", timeout=120_000)
        said = answer.locator(".prose").inner_text()
        assert direction(said) == "rtl"
        assert re.search(r"CT|مقطعي", said), said
    finally:
        second.stop()
