"""Conversations in both languages about drawn pictures, asked of the demonstration model wherever it runs."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from engine.messages import GenerationOptions, ImagePart, Message
from engine.training.dialogue import converse
from engine.training.phantoms import draw_attributes, render
from tests.engine.contract import said

if TYPE_CHECKING:
    from engine.backend import Backend

OPTIONS = GenerationOptions(max_new_tokens=96)
PICTURES, TURNS = 2, 3


def golden_conversations() -> list[list[Message]]:
    """Questions of several turns about two pictures, in either language; answers are to be filled in."""
    random = Random(20)
    found = []
    while len(found) < 2 * PICTURES:
        phantom = render(draw_attributes(random, nothing=0.0), random)
        if not phantom.attributes.lesion:
            continue
        for language in ("en", "ar"):
            turns = converse([phantom.attributes], random, TURNS, language=language, switching=0.0)
            first, *later = [turn.question for turn in turns]
            picture = ImagePart(phantom.pixels)
            found.append([Message.of("user", picture, first), *(Message.of("user", text) for text in later)])
    return found


def answers(backend: Backend, questions: list[Message]) -> list[str]:
    """Hold a conversation greedily, each answer becoming part of what follows."""
    conversation: list[Message] = []
    found = []
    for question in questions:
        conversation.append(question)
        found.append(said(list(backend.stream(conversation, OPTIONS))))
        conversation.append(Message.of("assistant", found[-1]))
    return found
