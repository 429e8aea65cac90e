"""Finding, marking, branching, translating, taking out and bringing in conversations, in the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from i18n.catalogue import Catalogue
from tests.browser.conftest import ask, from_menu, held, upload

TEXT = Catalogue().text


def answer_tool(page, icon, which=-1):
    return page.locator(f"#chat .answer-tools .tool:has(use[href$='#{icon}'])").nth(which)


def test_search_finds_the_turn_and_goes_there(open_page):
    """A word of an earlier conversation, in any spelling, leads back to its question."""
    page = open_page(locale="ar")
    ask(page, "هل توجد عُقدة قياسها 12.5 mm؟")
    page.locator("#history .new-thread").click()
    ask(page, "سؤال آخر")
    page.locator("#history .search").fill("عقده")
    expect(page.locator("#history .hit").first).to_be_visible()
    expect(page.locator("#history .threads")).to_be_hidden()
    expect(page.locator("#history mark").first).to_have_text("عُقدة")
    page.locator("#history .hit-open").last.click()
    expect(page.locator("#chat .bubble")).to_contain_text("12.5 mm")
    page.locator("#history .search").press("Escape")
    expect(page.locator("#history .thread")).to_have_count(2)
    page.locator("#history .search").fill("لا شيء كهذا")
    expect(page.locator("#history .history-empty")).to_have_text(TEXT("ui.search_empty", "ar"))


def test_filters_act_without_words_and_a_failed_search_says_so(open_page):
    """A judgement alone finds its answer; what the server refuses is no empty list."""
    page = open_page()
    ask(page, "Which side?")
    page.locator("#history .filter").click()
    page.locator("#history .by-feedback").select_option("any")
    expect(page.locator("#history .history-empty")).to_contain_text("Nothing was found")
    filters, empty = (page.locator(f"#history .{one}").bounding_box() for one in ("filters", "history-empty"))
    assert 0 <= empty["y"] - (filters["y"] + filters["height"]) < 40  # below what was asked for
    page.locator("#history .by-feedback").select_option("")
    page.locator("#history .by-since").fill("2020-01-01")
    expect(page.locator("#history .hit")).to_have_count(2)
    page.route("**/history/search?*", lambda route: route.fulfill(status=500, json={}))
    page.locator("#history .search").fill("side")
    expect(page.locator(".notice")).to_contain_text("The search failed")
    open_page.seen[:] = [one for one in open_page.seen if "500" not in one]


def test_pins_and_tags(open_page):
    """A pinned conversation stands first; a tag leaves only its own."""
    page = open_page()
    ask(page, "First question")
    page.locator("#history .new-thread").click()
    ask(page, "Second question")
    titles = page.locator("#history .threads .thread-title")
    expect(titles.first).to_have_text("Second question")
    from_menu(page, "ui.pin", at=1)
    expect(titles.first).to_have_text("First question")
    from_menu(page, "ui.edit_tags")
    page.locator("dialog input[type=text]").fill("lung, رئة")
    page.keyboard.press("Enter")
    page.locator("#history .tag-row .chip", has_text="رئة").click()
    expect(titles).to_have_count(1)
    page.locator("#history .tag-row .chip", has_text="رئة").click()
    expect(titles).to_have_count(2)


def test_edit_and_branch_leave_the_original(open_page):
    """Asking differently begins a conversation of its own; so does going on from an earlier turn."""
    page = open_page()
    ask(page, "Which side?")
    ask(page, "And how large?")
    page.locator("#chat .turn").first.hover()
    page.locator("#chat .asked-tools .tool:has(use[href$='#pen'])").first.click()
    page.locator("dialog textarea").fill("Which lobe?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#chat .bubble")).to_have_text(["Which lobe?"])
    expect(page.locator(".notice")).to_contain_text("A new conversation was begun")
    accent = page.locator("#chat .send").evaluate("(node) => getComputedStyle(node).backgroundColor")
    expect(page.locator(".notice")).to_have_css("border-inline-start-color", accent)  # no failure
    expect(page.locator("#chat .answer[data-state=complete]")).to_have_count(1)
    expect(page.locator("#history .thread")).to_have_count(2)
    page.locator("#history .thread-open", has_text="Which side?").click()
    expect(page.locator("#chat .bubble")).to_have_text(["Which side?", "And how large?"])
    page.locator("#chat .turn").first.hover()
    page.locator("#chat .asked-tools .tool:has(use[href$='#fork'])").first.click()
    expect(page.locator("#chat .bubble")).to_have_text(["Which side?"])
    expect(page.locator("#history .thread")).to_have_count(3)


def test_two_pages_on_one_conversation_show_the_same(open_page):
    """A page learns what another one has asked or deleted: when it asks, and when it is looked at again."""
    page = open_page()
    ask(page, "Asked first?")
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator("#chat .bubble")).to_have_text(["Asked first?"])
    ask(other, "Asked in the other page?")
    ask(page, "Asked last?")
    said = ["Asked first?", "Asked in the other page?", "Asked last?"]
    expect(page.locator("#chat .bubble")).to_have_text(said)
    other.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(other.locator("#chat .bubble")).to_have_text(said)

    from_menu(other, "ui.delete")
    other.locator("dialog .danger").click()
    expect(other.locator("#history .thread")).to_have_count(0)
    page.locator("#chat .question").fill("Asked too late?")
    page.locator("#chat .question").press("Enter")
    expect(page.locator(".notice")).to_contain_text("may have been deleted")
    expect(page.locator("#chat .turn")).to_have_count(0)
    expect(page.locator("#history .thread")).to_have_count(0)
    expect(page.locator("#chat .question")).to_have_value("Asked too late?")


def test_translation_is_marked_and_checked(open_page):
    """The twin stands under its answer, says what it is, and what in it differs; a reload keeps it."""
    page = open_page()
    ask(page, "Is it 12.5 mm?")
    answer_tool(page, "translate").click()
    twin = page.locator("#chat .twin")
    expect(twin).to_contain_text(TEXT("ui.twin_label", "en"))
    # the scripted backend repeats its orders, so numbers are there that the answer does not have
    expect(twin.locator(".difference")).to_have_count(2)
    expect(twin.locator(".difference").first).to_contain_text(TEXT("ui.difference.language", "en"))
    expect(twin.locator(".difference").last).to_contain_text("Check the numbers")
    expect(page.locator("#chat .answer")).to_have_count(1)
    page.reload()
    expect(twin.locator(".difference").last).to_be_visible()
    answer_tool(page, "translate").click()
    expect(twin).to_have_count(0)


def test_judgement_is_kept(open_page):
    """What is wrong with an answer is said by reasons and words, shown, found again, and taken back."""
    page = open_page(locale="ar")
    ask(page, "أي جانب؟")
    answer_tool(page, "flag").click()
    page.get_by_role("checkbox", name=TEXT("ui.reason.wrong_side", "ar")).check()
    page.locator("dialog textarea").fill("x" * 4001)
    page.locator("dialog .primary").click()
    expect(page.locator("dialog .too-long")).to_be_visible()  # and the dialog stays
    page.locator("dialog textarea").fill("في اليمين 3×2 cm")
    page.locator("dialog .primary").click()
    words = page.locator("#chat .judgement-words")
    expect(words).to_have_text("في اليمين \u20663×2\u00a0cm\u2069")  # as it is read
    page.reload()
    expect(words).to_have_text("في اليمين \u20663×2\u00a0cm\u2069")
    answer_tool(page, "flag").click()
    expect(page.locator("dialog textarea")).to_have_value("في اليمين 3×2 cm")  # as it was said
    page.keyboard.press("Escape")
    expect(page.locator("#chat .judgement")).to_contain_text(TEXT("ui.reason.wrong_side", "ar"))


def test_export_and_import(open_page, ct_file, tmp_path):
    """A conversation leaves as one file and comes back with its picture, as another conversation."""
    page = open_page()
    upload(page, ct_file)
    ask(page, "What is shown?")
    with page.expect_download() as download:
        from_menu(page, "ui.export")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    other = open_page()
    other.set_input_files("#history .import-file", str(file))
    expect(other.locator("#chat .bubble")).to_have_text("What is shown?")
    expect(other.locator("#viewer .corner.start")).to_contain_text("CT")
    expect(other.locator("#history .thread")).to_have_count(1)


def test_quick_questions_are_worded_by_the_reader(open_page, ct_file):
    """A question of one's own is offered, asked by a click, and there after a reload."""
    page = open_page()
    upload(page, ct_file)
    page.locator("#chat .quick .tool").click()
    page.get_by_role("button", name=TEXT("ui.prompt_add", "en")).click()
    page.locator("dialog textarea").fill("Any stone in the kidney?")
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name=TEXT("ui.close", "en")).click()
    page.reload()
    expect(page.locator("#viewer .drop-hint")).to_be_visible()
    upload(page, ct_file)
    page.locator("#chat .quick-question", has_text="Any stone in the kidney?").click()
    expect(page.locator("#chat .answer[data-state=complete]")).to_contain_text("Any stone in the kidney?")


def test_answers_in_a_fixed_language(open_page):
    """The choice holds for the conversation, also before its first question, and only for it."""
    page = open_page()
    page.locator("#chat .answer-language").select_option("ar")
    ask(page, "Which side?")
    expect(page.locator("#chat .answer")).to_contain_text("أجب باللغة العربية.")
    expect(page.locator("#chat .bubble")).to_have_text("Which side?")
    page.reload()
    expect(page.locator("#chat .answer-language")).to_have_value("ar")
    page.locator("#history .new-thread").click()
    expect(page.locator("#chat .answer-language")).to_have_value("")


def test_a_choice_made_before_the_page_has_its_first_answer_stays(open_page):
    """On a slow connection the reader is faster: the language chosen is the conversation's."""
    page = open_page()
    with held(page, "**/gradio_api/run/*") as routes:
        page.reload()
        page.locator("#chat .answer-language").select_option("ar")
        page.wait_for_timeout(500)
        assert routes
        while routes:
            routes.pop().continue_()
    page.wait_for_timeout(1500)
    ask(page, "Which side?")
    expect(page.locator("#chat .answer")).to_contain_text("أجب باللغة العربية.")


def test_a_draft_survives_a_reload(open_page):
    """What was being written is there again, in its own conversation only."""
    page = open_page()
    ask(page, "First")
    page.locator("#chat .question").fill("half a quest")
    page.reload()
    expect(page.locator("#chat .question")).to_have_value("half a quest")
    page.locator("#history .new-thread").click()
    expect(page.locator("#chat .question")).to_have_value("")


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_keyboard_alone(open_page, locale):
    """Help, search, question, answer's end, menu and new conversation without a mouse."""
    page = open_page(locale=locale)
    page.locator("body").press("?")
    expect(page.get_by_role("dialog")).to_contain_text(TEXT("ui.key_stop", locale))
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.locator("#chat .question")).to_be_focused()
    page.keyboard.type("Which side?/n")
    page.keyboard.press("Enter")
    expect(page.locator("#chat .answer[data-state=complete]")).to_contain_text("Which side?/n")
    page.locator("#history .thread-tools .tool").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("menuitem", name=TEXT("ui.delete", locale))).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#history .thread-tools .tool").first).to_be_focused()
    page.keyboard.press("s")
    page.keyboard.type("side")
    expect(page.locator("#history .hit").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#history .hit-open").first).to_be_focused()
    page.keyboard.press("n")
    expect(page.locator("#chat .question")).to_be_focused()
    expect(page.locator("#chat .turn")).to_have_count(0)


def test_colours_are_remembered(open_page):
    """Dark or light is chosen by a button and stays after a reload."""
    page = open_page(scheme="light")
    page.locator("#header .theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#header .theme")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("size", [(390, 844), (3840, 2160)])
def test_from_telephone_to_wall(open_page, size):
    """Nothing runs out of the screen, and the question can be written, on 390 and on 3840 pixels."""
    page = open_page(size=size)
    ask(page, "Which side?")
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    box = page.locator("#chat .composer").bounding_box()
    assert box["y"] + box["height"] <= size[1]
