"""Conversations about phantoms: who asks what, in which words, in which language, and the true answers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.messages import ImagePart, Message
from engine.training.answers import GENERAL_TYPES, IMAGE_TYPES, Language, answer
from engine.training.phrases import ASKED, FOLLOW_UPS, FOLLOW_UPS_HELD_OUT, HELD_OUT, expand

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    import numpy as np
    from numpy.typing import NDArray

    from engine.training.phantoms import Attributes

__all__ = ["Turn", "as_messages", "ask", "converse", "questions"]

_SHARES = {
    "modality": 1.0,
    "body": 1.0,
    "plane": 0.7,
    "lesion": 1.2,
    "side": 1.7,
    "size": 1.5,
    "tone": 0.8,
    "contrast": 0.7,
    "quality": 0.6,
    "describe": 0.9,
    "report": 0.45,
    "compare": 0.15,
    "who": 0.1,
    "can": 0.1,
    "doctor": 0.1,
    "thanks": 0.1,
    "hello": 0.07,
    "refuse": 0.45,
}
_DIACRITICS = "\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652"
_LOOSE = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا"})


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer."""

    kind: str
    language: Language
    question: str
    answer: str
    picture: int | None = None
    """Number of the picture this turn brings, or None."""


@functools.cache
def questions(kind: str, language: Language, *, held_out: bool, follow_up: bool = False) -> tuple[str, ...]:
    """All wordings of a question type; what is held out is never among those trained on."""
    if held_out:
        source = FOLLOW_UPS_HELD_OUT if follow_up else HELD_OUT
        return source[language][kind]
    kept = {
        _bare(text) for table in (HELD_OUT, FOLLOW_UPS_HELD_OUT) for text in table[language].get(kind, ())
    }
    source = FOLLOW_UPS if follow_up else ASKED
    texts = [text for pattern in source[language][kind] for text in expand(pattern)]
    return tuple(" ".join(text.split()) for text in texts if _bare(text) not in kept)


def _bare(text: str) -> str:
    """Comparison form: letters and digits only."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter == " ").strip()


def _typed(text: str, language: Language, random: Random) -> str:
    """Write a question the way people type: case, punctuation, diacritics, hamza and slips."""
    if random.random() < 0.25:
        text = text.rstrip("?.!؟")
    if random.random() < 0.06:
        text += random.choice((" ", "  ", "!", "??", " ?", "..."))
    if language == "en":
        roll = random.random()
        if roll < 0.25:
            text = text.lower()
        elif roll < 0.28:
            text = text.upper()
        if random.random() < 0.12:
            text = random.choice(("Please: ", "please, ", "Doctor asks: ", "Hi, ", "OK. ", "So, ")) + text
    else:
        if random.random() < 0.25:
            text = text.translate(_LOOSE)
        if random.random() < 0.1:
            text = text.replace("؟", "?")
        if random.random() < 0.1:
            text = "".join(letter for letter in text if letter not in _DIACRITICS)
        if random.random() < 0.06:
            text = "".join(
                letter
                + (
                    random.choice("\u064e\u064f\u0650\u0652")
                    if letter.isalpha() and random.random() < 0.2
                    else ""
                )
                for letter in text
            )
        if random.random() < 0.1:
            text = random.choice(("من فضلك، ", "لو سمحت، ", "حسنًا، ", "مرحبًا، ")) + text
    if random.random() < 0.08 and len(text) > 8:
        place = random.randrange(1, len(text) - 2)
        text = (
            text[:place]
            + random.choice(("", text[place] * 2, text[place + 1] + text[place]))
            + text[place + 1 :]
        )
    return text


def ask(kind: str, language: Language, random: Random, *, held_out: bool, follow_up: bool = False) -> str:
    """Word a question; training wordings vary in typing, held-out ones are clean."""
    if follow_up and kind not in FOLLOW_UPS[language]:
        follow_up = False
    text = random.choice(questions(kind, language, held_out=held_out, follow_up=follow_up))
    return text if held_out else _typed(text, language, random)


def converse(
    pictures: Sequence[Attributes],
    random: Random,
    turns: int,
    *,
    language: Language | None = None,
    switching: float = 0.3,
    held_out: bool = False,
    kinds: Sequence[str] = (),
    arrivals: Sequence[int] | None = None,
) -> list[Turn]:
    """Make up a conversation.

    Parameters
    ----------
    pictures : sequence of Attributes
        Shown in order; may be empty.
    random : random.Random
        Source of all choices.
    turns : int
        Questions asked.
    language : {"en", "ar"}, optional
        Language of the first question; drawn if not given.
    switching : float
        Chance per turn of changing the language.
    held_out : bool
        Word the questions in phrasings never trained on.
    kinds : sequence of str
        Question types in order; drawn where not given.
    arrivals : sequence of int, optional
        Turn in which each picture arrives; the first in turn 0, later ones spread, if not given.
    """
    speaking: Language = language or ("en" if random.random() < 0.5 else "ar")
    if arrivals is None:
        later = random.sample(range(1, turns), len(pictures) - 1) if len(pictures) > 1 else []
        arrivals = [0, *sorted(later)][: len(pictures)]
    made: list[Turn] = []
    shown: list[Attributes] = []
    last = ""
    for index in range(turns):
        if index and random.random() < switching:
            speaking = "ar" if speaking == "en" else "en"
        arrived = arrivals.index(index) if index in arrivals else None
        if arrived is not None:
            shown.append(pictures[arrived])
        kind = kinds[index] if index < len(kinds) else _next_kind(random, len(shown), last)
        follow_up = bool(last in IMAGE_TYPES and shown and kind in IMAGE_TYPES and random.random() < 0.5)
        question = ask(kind, speaking, random, held_out=held_out, follow_up=follow_up)
        now = shown[-1] if shown else None
        reply = answer(kind, speaking, now, shown[-2] if len(shown) > 1 else None)
        made.append(Turn(kind, speaking, question, reply, arrived))
        last = kind
    return made


def _next_kind(random: Random, shown: int, last: str) -> str:
    if shown > 1 and random.random() < 0.12:
        return "compare"
    if last == "lesion" and random.random() < 0.5:
        return random.choice(("side", "size", "tone"))
    names = [*IMAGE_TYPES, "compare", *GENERAL_TYPES]
    weights = [_SHARES[name] * (8 if shown == 0 and name in GENERAL_TYPES else 1) for name in names]
    return random.choices(names, weights)[0]


def as_messages(turns: Sequence[Turn], pixels: Sequence[NDArray[np.uint8]]) -> list[Message]:
    """Write a conversation as messages for the product's prompt renderer."""
    messages: list[Message] = []
    for turn in turns:
        parts = [ImagePart(pixels[turn.picture])] if turn.picture is not None else []
        messages.extend([Message.of("user", *parts, turn.question), Message.of("assistant", turn.answer)])
    return messages
