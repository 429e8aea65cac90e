"""Conversations say what the pictures show, in two languages."""

from __future__ import annotations

import re
from random import Random

import numpy as np
import pytest

from engine.training.answers import GENERAL_TYPES, IMAGE_TYPES, answer, caption
from engine.training.dialogue import as_messages, ask, converse, questions
from engine.training.phantoms import Attributes, draw_attributes
from engine.training.phrases import ASKED, FOLLOW_UPS, FOLLOW_UPS_HELD_OUT, HELD_OUT, expand

ALL_TYPES = (*IMAGE_TYPES, "compare", *GENERAL_TYPES)
CODES = {"CT", "MR", "T1", "T2"}


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def test_patterns_expand_to_every_choice() -> None:
    """Braces and bars stand for all combinations."""
    assert expand("{a|b} c{|d}") == ["a c", "a cd", "b c", "b cd"]


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("kind", ALL_TYPES)
def test_enough_wordings_and_none_shared(kind: str, language: str) -> None:
    """At least 12 wordings to learn from and 4 held out; the two differ by more than punctuation."""
    learned = {_plain(text) for text in questions(kind, language, held_out=False)}
    kept = {_plain(text) for text in questions(kind, language, held_out=True)}
    assert len(learned) >= 12
    assert len(kept) >= 4
    assert not learned & kept


def test_follow_ups_held_out_are_not_learned() -> None:
    """The short forms used to evaluate are nowhere in training."""
    for language in ("en", "ar"):
        for kind in FOLLOW_UPS_HELD_OUT[language]:
            kept = {_plain(text) for text in questions(kind, language, held_out=True, follow_up=True)}
            learned = {_plain(text) for text in questions(kind, language, held_out=False, follow_up=True)}
            assert kept
            assert not kept & (learned | {_plain(text) for text in questions(kind, language, held_out=False)})


def test_both_languages_have_the_same_types() -> None:
    """No question type exists in one language only."""
    for table in (ASKED, HELD_OUT, FOLLOW_UPS, FOLLOW_UPS_HELD_OUT):
        assert set(table["en"]) == set(table["ar"])


def test_arabic_holds_no_latin_words() -> None:
    """Arabic questions and answers use Latin letters for codes only."""
    random = Random(2)
    texts = [
        text for kind in ALL_TYPES for held in (False, True) for text in questions(kind, "ar", held_out=held)
    ]
    texts += [
        text
        for table in (FOLLOW_UPS, FOLLOW_UPS_HELD_OUT)
        for patterns in table["ar"].values()
        for p in patterns
        for text in expand(p)
    ]
    for _ in range(300):
        now, before = draw_attributes(random), draw_attributes(random)
        texts += [answer(kind, "ar", now, before) for kind in ALL_TYPES]
        texts += [answer(kind, "ar", None) for kind in IMAGE_TYPES]
    for text in texts:
        assert set(re.findall(r"[A-Za-z]+\d?", text)) <= CODES, text


def test_english_answers_hold_no_arabic() -> None:
    """And the other way round."""
    random = Random(2)
    for _ in range(100):
        for kind in ALL_TYPES:
            assert not re.search(
                "[\u0600-\u06ff]", answer(kind, "en", draw_attributes(random), draw_attributes(random))
            )


WORDS = {
    "side": {"en": {"left": "left", "right": "right"}, "ar": {"left": "يسار", "right": "يمين"}},
    "size": {"en": {"small": "small", "large": "large"}, "ar": {"small": "صغيرة", "large": "كبيرة"}},
    "tone": {"en": {"bright": "bright", "dark": "dark"}, "ar": {"bright": "ساطعة", "dark": "داكنة"}},
}


VESSELS = re.compile("the vessels are bright|فالأوعية ساطعة")
"""Said of contrast agent, not of a lesion."""


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("kind", ["side", "size", "tone"])
def test_answers_agree_with_the_attributes(kind: str, language: str) -> None:
    """The true word is said, its opposite is not; without a lesion neither is. Report and caption agree."""
    random = Random(6)
    for _ in range(200):
        shown = draw_attributes(random)
        words = WORDS[kind][language]
        said = {
            text: {word for word, spelt in words.items() if re.search(rf"\b{spelt}\b", VESSELS.sub("", text))}
            for text in (
                answer(kind, language, shown),
                caption(language, shown),
                answer("report", language, shown),
            )
        }
        for text, found in said.items():
            assert found == ({getattr(shown, kind)} if shown.lesion else set()), text


def test_lesion_answer_is_yes_exactly_with_a_lesion() -> None:
    """Yes or no, never both."""
    random = Random(3)
    for _ in range(100):
        shown = draw_attributes(random, nothing=0)
        assert answer("lesion", "en", shown).startswith("Yes" if shown.lesion else "No")
        assert answer("lesion", "ar", shown).startswith("نعم" if shown.lesion else "لا")


def test_without_a_picture_the_model_asks_for_one() -> None:
    """Every question about a picture gets the same request, refusals stay refusals."""
    for kind in (*IMAGE_TYPES, "compare"):
        assert answer(kind, "en", None) == "Please open an image first."
        assert answer(kind, "ar", None) == "يُرجى فتح صورة أولًا."
    assert "cannot answer" in answer("refuse", "en", None)


def test_answer_follows_the_language_of_its_question() -> None:
    """In conversations that change language, each answer has the script of its question."""
    random = Random(8)
    seen = set()
    for _ in range(100):
        turns = converse([draw_attributes(random)], random, 5, switching=0.5)
        seen.add(len({turn.language for turn in turns}))
        for turn in turns:
            for text in (turn.question, turn.answer):
                assert bool(re.search("[\u0600-\u06ff]", text)) == (turn.language == "ar"), text
    assert seen == {1, 2}


def test_latest_picture_is_the_one_asked_about() -> None:
    """After a second picture arrives, answers are about it; comparing names both."""
    random = Random(5)
    first = Attributes(
        "ct_head", "CT", "head", "axial", "plain", "good", lesion=False, side="", size="", tone=""
    )
    second = Attributes("fundus", "fundus", "eye", "", "", "good", lesion=False, side="", size="", tone="")
    kinds = ("body", "body", "compare")
    turns = converse([first, second], random, 3, language="en", switching=0, kinds=kinds, arrivals=[0, 1])
    assert [turn.picture for turn in turns] == [0, 1, None]
    assert "head" in turns[0].answer
    assert "retina" in turns[1].answer
    assert "CT of the head" in turns[2].answer
    assert "fundus" in turns[2].answer


def test_messages_carry_pictures_where_they_arrive() -> None:
    """One image part in the user message of the turn that brings it."""
    random = Random(1)
    turns = converse([draw_attributes(random)] * 2, random, 4, arrivals=[1, 3])
    pixels = [np.full((2, 2, 3), value, dtype=np.uint8) for value in (1, 2)]
    messages = as_messages(turns, pixels)
    assert [len(message.images) for message in messages] == [0, 0, 1, 0, 0, 0, 1, 0]
    assert [message.role for message in messages] == ["user", "assistant"] * 4


def test_typing_varies_in_training_and_not_in_evaluation() -> None:
    """Training questions vary in case, punctuation and spelling; held-out ones are as written."""
    random = Random(4)
    learned = {ask("side", "en", random, held_out=False) for _ in range(400)}
    assert len(learned - set(questions("side", "en", held_out=False))) > 50
    assert {ask("side", "en", random, held_out=True) for _ in range(50)} == set(HELD_OUT["en"]["side"])
