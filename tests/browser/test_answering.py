"""Under an answer how much it depends on the image; the model's loading in words; a choice of adapters."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ask, start_server, upload


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    """Serve the demonstration model in its own process, with an adapter that changes what it says."""
    from app.model import DEMONSTRATION_FOLDER
    from tests.engine.test_adapters import build_adapter

    folder = tmp_path_factory.mktemp("demonstration")
    adapter = build_adapter(folder / "scrambled", DEMONSTRATION_FOLDER, 1, projector=False)
    started = start_server(folder, BACKEND="local", ADAPTERS=f"garbled={adapter}", DEVICE="cpu", THREADS="1")
    yield started
    started.stop()


def test_the_meter_and_the_adapters_on_a_real_model(open_page, ct_file, demonstration):
    """Measured after the answer is shown, kept with it; another adapter answers the next question."""
    page = open_page(url=demonstration.url)
    upload(page, ct_file)
    ask(page, "Write a report about this image.", wait=False)
    answer = page.locator("#chat .answer").last
    expect(answer).to_have_attribute("data-state", "complete", timeout=120_000)
    expect(answer.locator(".grounding summary")).to_contain_text("ead from the image")
    answer.locator(".grounding summary").click()
    rows = answer.locator(".grounding li")
    assert rows.count() > 4
    expect(rows.first.locator(".nats")).to_have_text(re.compile(r"^[+−]?\d\.\d\d$"))

    chooser = page.locator("#chat .adapter")
    expect(chooser.locator("option")).to_have_text(["No adapter", "garbled"])
    chooser.select_option("garbled")
    ask(page, "Write a report about this image.")
    assert page.locator("#chat .prose").last.inner_text() != page.locator("#chat .prose").first.inner_text()

    page.reload()
    expect(page.locator("#chat .answer").first.locator(".grounding summary")).to_be_visible()
    expect(chooser).to_have_value("garbled")
    page.locator(".language").click()
    expect(page.locator("#chat .grounding summary").first).to_contain_text("مستند إلى الصورة")
    expect(chooser.locator("option").first).to_have_text("بلا مهايئ")


def test_without_adapters_there_is_nothing_to_choose(open_page, ct_file):
    """Nor a value where what answers cannot measure one."""
    page = open_page()
    upload(page, ct_file)
    with page.expect_response("**/grounding") as asked:
        ask(page, "What is shown?")
    assert asked.value.json() == {"grounding": None}
    expect(page.locator("#chat .adapter")).to_be_hidden()
    expect(page.locator("#chat .grounding")).to_have_count(0)


STATE = """async (answer) => {
  const { stateWords } = await import("./page/js/chat/turn.js");
  const words = stateWords({ state: "streaming", text: "", queue: 0, ...answer });
  return words.map((one) => one.textContent ?? one).join("");
}"""


WORDS = [
    ("en-GB", {"loading": "starting"}, "Starting the model"),
    (
        "en-GB",
        {"loading": "weights", "read": 0.42, "seconds": 11.2},
        "Loading the model: weights · 42 % · About 12 s left",
    ),
    (
        "ar-SA",
        {"loading": "libraries", "seconds": 8},
        "جارٍ تحميل النموذج: المكتبات · المتبقي نحو \u20688\u2069 ث",
    ),
    ("en-GB", {"loading": None, "read": 0.5}, "Reading the image and the question · 50 %"),
]


@pytest.mark.parametrize(("locale", "answer", "words"), WORDS)
def test_while_the_model_loads_the_page_says_how_far(open_page, locale, answer, words):
    """Stage, share and seconds, as far as they are known."""
    assert open_page(locale=locale).evaluate(STATE, answer) == words
