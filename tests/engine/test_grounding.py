"""The image-dependence meter: exact likelihoods, sentences, levels, cancelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.grounding import blank_like, measure
from engine.local import LocalBackend
from engine.messages import Message
from tests.engine.tiny import random_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.checkpoint import LoadedModel

CONVERSATION = [Message.of("user", random_image(1), "Which side?"), Message.of("assistant", "The left side.")]


def plain_log_likelihoods(loaded: LoadedModel, messages: list[Message]) -> list[tuple[int, float]]:
    """Score by one forward pass of the whole conversation."""
    import torch

    rendered = loaded.renderer.render(messages, for_training=True)
    pixels = [loaded.pixel_values(image) for message in messages for image in message.images]
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([rendered.ids]), pixel_values=torch.cat(pixels)).logits[
            0
        ]
    end = len(rendered.ids)
    start = end - rendered.loss_mask[::-1].index(False)
    values = torch.log_softmax(logits, -1)
    return [(rendered.ids[i], float(values[i - 1, rendered.ids[i]])) for i in range(start, end)]


@pytest.mark.parametrize("chunk", [7, 256])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "after the answer"])
def test_likelihoods_equal_one_plain_forward(tiny: LoadedModel, chunk: int, warm: bool) -> None:
    """In chunks, and from what is cached, the numbers are those of one pass over everything."""
    from engine.messages import GenerationOptions

    backend = LocalBackend(tiny, prefill_chunk=chunk)
    if warm:
        list(backend.stream(CONVERSATION[:1], GenerationOptions(max_new_tokens=6)))

    found = backend.log_likelihoods(CONVERSATION)

    expected = plain_log_likelihoods(tiny, CONVERSATION)
    assert found is not None
    assert [token for token, _ in found] == [token for token, _ in expected]
    np.testing.assert_allclose([v for _, v in found], [v for _, v in expected], atol=1e-4)


def test_only_the_last_answer_is_judged(tiny: LoadedModel) -> None:
    """Earlier answers are part of the prompt."""
    longer = [*CONVERSATION, Message.of("user", "And?"), Message.of("assistant", "Large.")]

    found = LocalBackend(tiny).log_likelihoods(longer)

    assert found is not None
    assert [token for token, _ in found] == [*tiny.renderer.encode("Large."), tiny.renderer.end_of_turn]


def test_scoring_leaves_the_conversation_s_cache_whole(tiny: LoadedModel) -> None:
    """After measuring, the next question still reuses everything."""
    from engine.messages import Delta, Finished, GenerationOptions

    backend, options = LocalBackend(tiny), GenerationOptions(max_new_tokens=6)
    events = list(backend.stream(CONVERSATION[:1], options))
    reply = Message.of("assistant", "".join(e.text for e in events if isinstance(e, Delta)))
    measure(backend, [CONVERSATION[0], reply])

    last = list(backend.stream([CONVERSATION[0], reply, Message.of("user", "And?")], options))[-1]

    assert isinstance(last, Finished)
    assert last.usage.reused_tokens >= len(tiny.renderer.render(CONVERSATION[:1]).ids)


class FakeScorer:
    """Letters are tokens; capital letters need the image."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def log_likelihoods(
        self, messages: Sequence[Message], stopped: Callable[[], bool] = bool, _adapter: str | None = None
    ) -> list[tuple[int, float]] | None:
        if stopped():
            return None
        blank = all(image == blank_like(image) for message in messages for image in message.images)
        self.asked.append(blank)
        return [(ord(c), -3.0 if blank and c.isupper() else -1.0) for c in messages[-1].text] + [(0, -9.0)]

    def text_of(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def judged(text: str, **more: object):
    messages = [Message.of("user", random_image(1), "?"), Message.of("assistant", text)]
    return measure(FakeScorer(), messages, **more)


@pytest.mark.parametrize(
    ("text", "difference", "level"),
    [("ABCD", 2.0, "strong"), ("abcd", 0.0, "none"), ("Abcdefgh", 0.25, "weak")],
)
def test_mean_difference_and_level(text: str, difference: float, level: str) -> None:
    """The mean over the answer's tokens decides the level; the end of the turn does not count."""
    found = judged(text)

    assert (found.difference, found.level) == (difference, level)


def test_each_sentence_has_its_own_value() -> None:
    """English and Arabic sentences are told apart; the blank between two belongs to the second."""
    found = judged("AB. ab؟ A؟")

    assert [(s.text, round(s.difference, 2)) for s in found.sentences] == [
        ("AB.", 1.33),
        ("ab؟", 0.0),
        ("A؟", 0.67),
    ]


def test_without_an_image_or_an_answer_there_is_nothing_to_measure() -> None:
    """Text-only conversations and empty answers give None, without computing."""
    scorer = FakeScorer()

    assert measure(scorer, [Message.of("user", "?"), Message.of("assistant", "A")]) is None
    assert measure(scorer, [Message.of("user", random_image(1), "?"), Message.of("assistant", "")]) is None
    assert scorer.asked == []


def test_it_can_be_stopped() -> None:
    """A reader who asks the next question need not wait for the measure of the last."""
    assert judged("ABC", stopped=lambda: True) is None


def test_a_blank_image_has_the_size_and_the_mean_colour(tiny: LoadedModel) -> None:
    """What the vision tower gets for it is nearly zero everywhere."""
    blank = blank_like(random_image(1, 20, 30))

    assert blank.pixels.shape == (20, 30, 3)
    assert float(tiny.pixel_values(blank).abs().max()) < 0.02
