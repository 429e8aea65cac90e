"""Whether the image-dependence meter tells questions that need the image from those that do not.

Held-out drawings and wordings, as in :mod:`engine.evaluation.demo_model`; every question is asked with the
picture in the conversation, so that only what the answer says can make the difference. The model's own
answers are judged, right or wrong: a model that answers "are you a doctor?" with a finding counts against
the figure.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol

import numpy as np

from engine.backend import Backend, MeasuresGrounding
from engine.messages import Delta, GenerationOptions, ImagePart, Message
from engine.training.answers import GENERAL_TYPES, IMAGE_TYPES
from engine.training.dialogue import converse
from engine.training.phantoms import draw_attributes, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.training.dialogue import Turn

__all__ = ["Judged", "Measuring", "area_under_curve", "judge", "separation"]

_SEED = 777_778


class Measuring(Backend, MeasuresGrounding, Protocol):
    """A backend that can be asked for both."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One question, its answer, and what the meter says of it."""

    kind: str
    language: str
    turn: int
    """1 for the first question of a conversation."""
    difference: float
    """Nats a token."""
    level: str
    answer_s: float
    """Seconds the answer took."""
    measure_s: float
    """Seconds its measurement took, afterwards."""

    @property
    def needs_image(self) -> bool:
        """Whether the question cannot be answered without the image."""
        return self.kind in IMAGE_TYPES


def judge(backend: Measuring, pictures: int, *, seed: int = _SEED, turns: int = 1) -> list[Judged]:
    """Ask every type of question about many pictures in both languages, and measure every answer.

    Parameters
    ----------
    backend : Measuring
        Answers greedily.
    pictures : int
        Held-out pictures; 34 conversations about each.
    seed : int
        Never one of training's.
    turns : int
        Questions of a conversation. In later turns an earlier answer may say what is asked, so that the
        image is not needed for it any more.
    """
    random = Random(seed)
    found: list[Judged] = []
    for _ in range(pictures):
        phantom = render(draw_attributes(random, nothing=0.05), random)
        for language in ("en", "ar"):
            for kind in (*IMAGE_TYPES, *GENERAL_TYPES):
                others = random.choices((*IMAGE_TYPES, *GENERAL_TYPES), k=turns - 1)
                asked = converse(
                    [phantom.attributes],
                    random,
                    turns,
                    language=language,
                    switching=0.0,
                    held_out=True,
                    kinds=[kind, *others],
                )
                found += _conversation(backend, asked, ImagePart(phantom.pixels))
    return found


def _conversation(backend: Measuring, asked: Sequence[Turn], image: ImagePart) -> list[Judged]:
    messages: list[Message] = []
    found = []
    for place, turn in enumerate(asked, 1):
        brought = [image] if turn.picture is not None else []
        messages.append(Message.of("user", *brought, turn.question))
        began = time.perf_counter()
        events = backend.stream(messages, GenerationOptions(max_new_tokens=160))
        answer = "".join(event.text for event in events if isinstance(event, Delta))
        answered = time.perf_counter()
        messages.append(Message.of("assistant", answer))
        value = backend.image_dependence(messages)
        took = time.perf_counter() - answered
        if value is not None:
            found.append(
                Judged(
                    turn.kind,
                    turn.language,
                    place,
                    value.difference,
                    value.level,
                    answered - began,
                    took,
                )
            )
    return found


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Area under the receiver operating characteristic: how often a positive value is the larger one.

    Equal values count half.

    References
    ----------
    Hanley and McNeil, Radiology 143 (1982) 29-36.
    """
    larger = np.subtract.outer(np.asarray(positive), np.asarray(negative))
    return float(np.mean((larger > 0) + 0.5 * (larger == 0)))


def separation(judged: Sequence[Judged]) -> float:
    """Area under the curve between questions that need the image and those that do not."""
    return area_under_curve(
        [one.difference for one in judged if one.needs_image],
        [one.difference for one in judged if not one.needs_image],
    )
