"""How much an answer depends on its image.

A model may say about noise what it says about a radiograph. The measure compares how likely it finds
its own answer with the image and with a blank one in its place: if that changes little, the answer was
not read from the image. It says nothing of whether the answer is right.

In: something that scores answers (:class:`Scorer`) and a conversation. Out: :class:`ImageDependence`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from engine.messages import ImagePart, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "ImageDependence",
    "Level",
    "Scorer",
    "SentenceDependence",
    "blank_like",
    "dependence",
    "is_measurable",
    "measure",
    "with_blanks",
]

Level = Literal["strong", "weak", "none"]

STRONG, WEAK = 0.5, 0.1
"""Nats a token. 0.5 means that the image makes each token of the answer 1.6 times as likely on average,
so an answer of ten tokens about 150 times; below 0.1 it makes less difference than the wording does."""
_MEAN_COLOUR = (122, 116, 104)
"""CLIP's mean in 8 bits: what becomes zero when an image is normalised."""
_SENTENCE = re.compile(r"[^.!?؟\n]*[.!?؟\n]+\s*|[^.!?؟\n]+$")


class Scorer(Protocol):
    """Tells how likely an answer is, as local backends do; for servers see :mod:`engine.remote_scores`."""

    def log_likelihoods(
        self, messages: Sequence[Message], stopped: Callable[[], bool] = bool, adapter: str | None = None
    ) -> list[tuple[int, float]] | None:
        """See :meth:`engine.local.LocalBackend.log_likelihoods`."""
        ...

    def text_of(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        ...


@dataclass(frozen=True, slots=True)
class SentenceDependence:
    """One sentence of an answer."""

    text: str
    difference: float
    """Mean log-likelihood with the image minus without, in nats a token."""
    level: Level


@dataclass(frozen=True, slots=True)
class ImageDependence:
    """The whole answer and its sentences."""

    difference: float
    """Mean log-likelihood of the answer's tokens with the image minus with a blank one, in nats a token."""
    level: Level
    """``strong``: read from the image; ``weak``: partly; ``none``: a blank image would be told the same."""
    sentences: tuple[SentenceDependence, ...]


def blank_like(image: ImagePart) -> ImagePart:
    """Make an image of the same size that shows nothing: CLIP's mean colour everywhere."""
    return ImagePart(np.broadcast_to(np.array(_MEAN_COLOUR, np.uint8), image.pixels.shape))


def measure(
    scorer: Scorer,
    messages: Sequence[Message],
    stopped: Callable[[], bool] = bool,
    adapter: str | None = None,
) -> ImageDependence | None:
    """Measure the last answer of a conversation.

    Costs one reading of the conversation with blank images, and one of the answer.

    Parameters
    ----------
    scorer : Scorer
        Usually the backend that gave the answer.
    messages : sequence of Message
        Ends with the answer.
    stopped : callable
        Asked between pieces of work; once it returns ``True``, ``None`` is returned.
    adapter : str, optional
        The adapter that gave the answer.

    Returns
    -------
    ImageDependence or None
        ``None`` when stopped, when the conversation has no image or the answer no text, or where a
        likelihood is no finite number.
    """
    if not is_measurable(messages):
        return None
    seen = scorer.log_likelihoods(messages, stopped, adapter)
    blind = scorer.log_likelihoods(with_blanks(messages), stopped, adapter) if seen else None
    if seen is None or blind is None:
        return None
    ids = [token for token, _ in seen[:-1]]  # the end of the turn is no part of the text
    differences = [with_image - without for (_, with_image), (_, without) in zip(seen, blind, strict=True)][
        :-1
    ]
    if not differences or not np.isfinite(differences).all():
        return None
    starts = [len(scorer.text_of(ids[:position])) for position in range(len(ids))]
    return dependence(scorer.text_of(ids), starts, differences)


def is_measurable(messages: Sequence[Message]) -> bool:
    """Whether a conversation has an image and its answer a text."""
    return bool(messages[-1].text) and any(message.images for message in messages)


def with_blanks(messages: Sequence[Message]) -> list[Message]:
    """Return the conversation with a blank image in the place of each."""
    return [_blank(message) for message in messages]


def dependence(text: str, starts: Sequence[int], differences: Sequence[float]) -> ImageDependence:
    """Sum up what was measured of each token.

    Parameters
    ----------
    text : str
        The answer.
    starts : sequence of int
        Where in it each token begins, in characters.
    differences : sequence of float
        Log-likelihood of each token with the image minus without, in nats.
    """
    mean = float(np.mean(differences))
    return ImageDependence(mean, _level(mean), tuple(_sentences(text, starts, differences)))


def _blank(message: Message) -> Message:
    parts = (blank_like(part) if isinstance(part, ImagePart) else part for part in message.parts)
    return Message(message.role, tuple(parts))


def _level(difference: float) -> Level:
    if difference >= STRONG:
        return "strong"
    return "weak" if difference >= WEAK else "none"


def _sentences(
    text: str, starts: Sequence[int], differences: Sequence[float]
) -> Iterator[SentenceDependence]:
    """Group tokens by the sentence in which their first letter stands; blanks go with what follows them."""
    firsts = [start + len(text[start:]) - len(text[start:].lstrip()) for start in starts]
    for match in _SENTENCE.finditer(text):
        inside = [
            d for first, d in zip(firsts, differences, strict=True) if match.start() <= first < match.end()
        ]
        if inside and match.group().strip():
            mean = float(np.mean(inside))
            yield SentenceDependence(match.group().strip(), mean, _level(mean))
