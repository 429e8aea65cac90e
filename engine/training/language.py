"""Batches of packed conversations, and their loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.messages import ImagePart
from engine.training.dialogue import Turn, as_messages, converse
from engine.training.packing import Pack, PackedBatch, collate, pack
from engine.training.structure import vision_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from engine.prompt import PromptRenderer, Rendered
    from engine.training.phantoms import Attributes

__all__ = ["Mixture", "image_features", "packed_batch", "packed_loss"]

_OPENING_WEIGHTS = (10.0, 6.0, 6.0, 3.0)
_SYSTEM_TOKENS = 45
"""About as many tokens stand before the first picture; only used to guess a pack's length."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a batch consists of."""

    length: int = 640
    """Tokens a pack is filled up to: conversations are added while they fit, so that little is padding."""
    turns: int = 5
    """Most turns of a conversation."""
    second_picture: float = 0.3
    """Chance per pack of one conversation that goes on to another picture."""
    text_packs: float = 0.6
    """Chance per batch of a pack that begins without a picture."""


def _stand_ins(count: int) -> tuple[list[np.ndarray[Any, np.dtype[np.uint8]]], dict[str, int]]:
    """One pixel per picture: the renderer needs only an identity, the features are computed apart."""
    pixels = [np.full((1, 1, 3), index, dtype=np.uint8) for index in range(count)]
    return pixels, {ImagePart(one).digest: index for index, one in enumerate(pixels)}


def _filled(make: Callable[[], Rendered], length: int, shared: int) -> Pack:
    """Pack conversations of one picture until the next would not fit; at least one, at most twelve."""
    made = [make()]
    total = len(made[0].ids)
    while len(made) < 12:
        following = make()
        total += len(following.ids) - shared
        if total > length:
            break
        made.append(following)
    return pack(made)


def packed_batch(
    attributes: Sequence[Attributes], renderer: PromptRenderer, pad: int, random: Random, mixture: Mixture
) -> tuple[PackedBatch, list[int]]:
    """Make conversations about these pictures; name the picture of each image slot."""
    pixels, numbers = _stand_ins(len(attributes))

    def rendered(turns: Sequence[Turn], *chosen: int) -> Rendered:
        return renderer.render(as_messages(turns, [pixels[index] for index in chosen]), for_training=True)

    def about(index: int) -> Rendered:
        own = attributes[index]
        if mixture.turns > 1 and random.random() < mixture.second_picture / 4:
            other = random.randrange(len(attributes))
            count = random.randint(2, min(4, mixture.turns))
            return rendered(converse([own, attributes[other]], random, count), index, other)
        return rendered(converse([own], random, min(random.choice((1, 2, 3, 3, 4, 5)), mixture.turns)), index)

    def without(index: int) -> Rendered:
        if mixture.turns > 1 and random.random() < 0.15:
            return rendered(converse([attributes[index]], random, 3, arrivals=[random.choice((1, 2))]), index)
        return rendered(converse([], random, random.randint(1, 3)))

    shared = renderer.profile.image_length + _SYSTEM_TOKENS
    packs = [_filled(partial(about, index), mixture.length, shared) for index in range(len(attributes))]
    if random.random() < mixture.text_packs:
        packs.append(
            _filled(lambda: without(random.randrange(len(attributes))), mixture.length, _SYSTEM_TOKENS)
        )
    batch = collate(packs, pad)
    return batch, [numbers[digest] for digest in batch.digests]


def image_features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Compute what the projector reads, without a gradient; (batch, patches, vision width)."""
    with torch.no_grad():
        return vision_states(model.model.vision_tower, pixels)[-1]


def _opening_weights(learned: torch.Tensor) -> torch.Tensor:
    """Weigh the first tokens of every answer: they decide which question was understood."""
    weight = torch.ones(learned.shape)
    begins = learned.clone()
    begins[:, 1:] &= ~learned[:, :-1]
    for offset, value in enumerate(_OPENING_WEIGHTS):
        moved = torch.zeros_like(begins)
        moved[:, offset:] = begins[:, : begins.shape[1] - offset]
        weight[moved & learned] = value
    return weight


def packed_loss(
    model: Any, batch: PackedBatch, features: torch.Tensor, weights: torch.Tensor, *, openings: bool = True
) -> tuple[torch.Tensor, float]:
    """Weighted cross-entropy of the learned tokens, and the share predicted right.

    Parameters
    ----------
    model : LlavaForConditionalGeneration
        Its projector and language model are run.
    batch : PackedBatch
        Conversations.
    features : tensor, shape (slots, patches, vision width)
        Patch features in the order of the image slots.
    weights : tensor, shape (vocabulary,)
        Weight of each token as a target.
    openings : bool
        Weigh the first tokens of every answer more.
    """
    embedded = model.get_input_embeddings()(batch.ids)
    if len(features):
        projected = model.model.multi_modal_projector(features).flatten(0, 1)
        slots = (batch.ids == model.config.image_token_id)[..., None]
        embedded = embedded.masked_scatter(slots, projected.to(embedded.dtype))
    hidden = model.model.language_model(
        inputs_embeds=embedded, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state[:, :-1]
    targets = batch.labels[:, 1:]
    learned = targets != -100
    logits, wanted = model.lm_head(hidden[learned]).float(), targets[learned]
    weight = weights[wanted]
    if openings:
        weight = torch.maximum(weight, _opening_weights(learned)[learned])
    loss = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
    return loss, float((logits.argmax(-1) == wanted).float().mean())
