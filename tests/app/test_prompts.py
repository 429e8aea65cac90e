"""Quick questions: those that come along, and what readers make of them."""

from __future__ import annotations

import pytest

from app.errors import PromptTextError
from app.history.store import HistoryStore
from app.prompts import PromptBook, built_in
from i18n.text import language_of

ME, OTHER = "me", "other"


@pytest.fixture
def book(tmp_path):
    """Make the book of a history in memory-like storage."""
    with HistoryStore.open(tmp_path / "history.sqlite") as store:
        yield PromptBook(store)


def texts(book, owner, language="en"):
    return [one.texts.get(language, "") for one in book.prompts(owner)]


def test_every_task_comes_in_both_languages():
    """Describe, compare, differential, report, summary and explanation are there, each in its language."""
    prompts = {one.id: one for one in built_in()}
    assert {"describe", "compare", "differential", "report", "summarise", "explain"} <= set(prompts)
    for one in prompts.values():
        assert {name: language_of(text) for name, text in one.texts.items()} == {"en": "en", "ar": "ar"}
        assert one.needs in ("", "region", "answer", "two_images")
    assert len(prompts) == len(built_in())


def test_a_question_worded_differently_is_its_owners_alone(book):
    """One language changes, the other stays, and nobody else sees it."""
    book.word(ME, "describe", "en", "  Say what\nyou see. ")
    first = book.prompts(ME)[0]
    assert (first.texts["en"], first.changed) == ("Say what you see.", ("en",))
    assert first.texts["ar"] == built_in()[0].texts["ar"]
    assert book.prompts(OTHER) == list(built_in())
    book.restore(ME, "describe")
    assert book.prompts(ME) == list(built_in())


def test_an_own_question_comes_last_and_can_go_again(book):
    """What a reader adds is offered after what came along, in the order it was added."""
    first = book.word(ME, None, "ar", "هل توجد حصاة؟")
    book.word(ME, None, "en", "Any stone?")
    assert texts(book, ME)[-1] == "Any stone?"
    assert book.prompts(ME)[-2].texts == {"ar": "هل توجد حصاة؟"}
    book.word(ME, first, "en", "A stone?")
    assert book.prompts(ME)[-2].texts == {"ar": "هل توجد حصاة؟", "en": "A stone?"}
    book.restore(ME, first)
    assert texts(book, ME)[-1] == "Any stone?"
    assert len(book.prompts(ME)) == len(built_in()) + 1


def test_a_question_is_taken_off_the_list_in_one_language(book):
    """An empty text hides it; in the other language it is still there."""
    book.word(ME, "report", "en", "")
    report = next(one for one in book.prompts(ME) if one.id == "report")
    assert report.texts == {"en": "", "ar": next(o for o in built_in() if o.id == "report").texts["ar"]}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [(None, ""), (None, " \n"), ("nothing", "x"), ("own-1", "x"), ("describe", "x" * 1001)],
)
def test_what_cannot_be_kept_is_refused(book, prompt, text):
    """Empty own ones, unknown ones and overlong ones change nothing."""
    with pytest.raises(PromptTextError):
        book.word(ME, prompt, "en", text)
    assert book.prompts(ME) == list(built_in())


def test_own_questions_are_limited(book):
    """A hundred is more than anybody reads; a page must not be made to carry more."""
    for number in range(100):
        book.word(ME, None, "en", f"Question {number}?")
    with pytest.raises(PromptTextError):
        book.word(ME, None, "en", "One more?")
