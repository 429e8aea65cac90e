"""Packing changes the cost, never the loss."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from engine.messages import ImagePart
from engine.training.dialogue import as_messages, converse
from engine.training.language import Mixture, image_features, packed_batch, packed_loss
from engine.training.packing import collate, pack
from engine.training.phantoms import draw_attributes

if TYPE_CHECKING:
    from engine.prompt import Rendered

PIXELS = [np.full((1, 1, 3), value, dtype=np.uint8) for value in range(2)]
NUMBERS = {ImagePart(one).digest: index for index, one in enumerate(PIXELS)}


def _conversations(shop: Any) -> list[Rendered]:
    random = Random(3)
    shown = [draw_attributes(random), draw_attributes(random)]
    turns = [converse(shown[:1], random, count) for count in (1, 3, 2)]
    turns.append(converse(shown, random, 3, arrivals=[0, 2]))
    return [shop.renderer.render(as_messages(one, PIXELS), for_training=True) for one in turns]


def _loss(shop: Any, packs: list[Any], features: torch.Tensor) -> tuple[float, int]:
    batch = collate(packs, 0)
    slots = [NUMBERS[digest] for digest in batch.digests]
    with torch.no_grad():
        loss, _ = packed_loss(
            shop.model, batch, features[slots], torch.ones_like(shop.weights), openings=False
        )
    return float(loss), int((batch.labels != -100).sum())


def test_packed_loss_equals_unpacked_loss(shop: Any) -> None:
    """The mean over all learned tokens is the same packed and one by one, also with a second picture."""
    conversations = _conversations(shop)
    features = image_features(
        shop.model, torch.randn(2, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    )
    together, count = _loss(shop, [pack(conversations)], features)
    apart = [_loss(shop, [pack([one])], features) for one in conversations]
    assert count == sum(tokens for _, tokens in apart)
    assert together == pytest.approx(sum(loss * tokens for loss, tokens in apart) / count, rel=1e-5)


def test_another_conversation_never_shows_through(shop: Any) -> None:
    """The first conversation's loss does not depend on what it is packed with."""
    conversations = _conversations(shop)
    features = image_features(
        shop.model, torch.randn(2, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    )
    pair, count = _loss(shop, [pack(conversations[:2])], features)
    first, first_count = _loss(shop, [pack(conversations[:1])], features)
    second, second_count = _loss(shop, [pack(conversations[1:2])], features)
    assert pair * count == pytest.approx(first * first_count + second * second_count, rel=1e-5)


def test_shared_beginning_is_written_once(shop: Any) -> None:
    """A pack holds one copy of the system text and the picture; blocks restart at its end."""
    conversations = _conversations(shop)
    made = pack(conversations)
    shared = made.segments.count(0)
    assert shared > shop.renderer.profile.image_length
    assert len(made.ids) == shared + sum(len(one.ids) - shared for one in conversations)
    for number in range(1, 5):
        assert made.positions[made.segments.index(number)] == shared
    assert len(made.digests) == 2


def test_pictures_that_differ_are_not_shared(shop: Any) -> None:
    """Conversations about two pictures of equal ids share only what stands before them."""
    random = Random(3)
    turns = converse([draw_attributes(random)], random, 2)
    rendered = [shop.renderer.render(as_messages(turns, [pixels]), for_training=True) for pixels in PIXELS]
    made = pack(rendered)
    assert made.segments.count(0) == rendered[0].image_slots[0].start
    assert len(made.digests) == 2


def test_a_batch_names_the_picture_of_every_slot(shop: Any) -> None:
    """As many slots are named as there are image tokens, and lengths keep to the budget."""
    random = Random(7)
    shown = [draw_attributes(random) for _ in range(4)]
    batch, slots = packed_batch(shown, shop.renderer, 0, random, Mixture(length=500))
    image_tokens = int((batch.ids == shop.renderer.profile.image_token_id).sum())
    assert image_tokens == len(slots) * shop.renderer.profile.image_length
    assert set(range(4)) <= set(slots)
    assert (batch.labels != -100).sum() > 100
