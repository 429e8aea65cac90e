"""Many conversations about one picture in one sequence.

The conversations share their beginning (system text and the picture). It is written once; each
conversation's rest follows as a block which sees that beginning and itself, at the positions it would
have alone. So the loss of a pack equals the loss of its conversations one by one, for less than half of
the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.prompt import Rendered

__all__ = ["Pack", "PackedBatch", "collate", "pack"]

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Pack:
    """Conversations behind their shared beginning."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    """The id itself where it is learned, -100 elsewhere."""
    positions: tuple[int, ...]
    segments: tuple[int, ...]
    """0 in the shared beginning, then 1, 2, ... per conversation."""
    digests: tuple[str, ...]
    """Pictures in the order in which they fill the image slots."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """Packs as tensors.

    Ids, labels and positions are int64 (batch, length); the mask is boolean (batch, 1, length, length),
    True where attention is allowed.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    digests: tuple[str, ...]


def _virtual(rendered: Rendered) -> list[object]:
    """Ids, with those of an image replaced by what the image is."""
    ids: list[object] = list(rendered.ids)
    for slot in rendered.image_slots:
        ids[slot.start : slot.start + slot.length] = [(slot.digest, offset) for offset in range(slot.length)]
    return ids


def _shared_length(conversations: Sequence[Rendered]) -> int:
    """Length of the common beginning; no part of an image and no learned token is in it."""
    virtual = [_virtual(one) for one in conversations]
    limit = min(len(ids) for ids in virtual) - 1
    shared = 0
    while shared < limit and all(ids[shared] == virtual[0][shared] for ids in virtual):
        if conversations[0].loss_mask[shared]:
            break
        shared += 1
    for slot in conversations[0].image_slots:
        if slot.start < shared < slot.start + slot.length:
            shared = slot.start
    return shared


def pack(conversations: Sequence[Rendered]) -> Pack:
    """Pack conversations.

    Parameters
    ----------
    conversations : sequence of Rendered
        Rendered for training; at least one.
    """
    shared = _shared_length(conversations)
    first = conversations[0]
    ids, positions, segments = list(first.ids[:shared]), list(range(shared)), [0] * shared
    labels = [_IGNORED] * shared
    digests = [slot.digest for slot in first.image_slots if slot.start < shared]
    for number, one in enumerate(conversations, start=1):
        rest = len(one.ids) - shared
        ids.extend(one.ids[shared:])
        learned = zip(one.ids[shared:], one.loss_mask[shared:], strict=True)
        labels.extend(token if wanted else _IGNORED for token, wanted in learned)
        positions.extend(range(shared, shared + rest))
        segments.extend([number] * rest)
        digests.extend(slot.digest for slot in one.image_slots if slot.start >= shared)
    return Pack(tuple(ids), tuple(labels), tuple(positions), tuple(segments), tuple(digests))


def collate(packs: Sequence[Pack], pad: int) -> PackedBatch:
    """Put packs into one batch, filled up to a multiple of 16 with ``pad``."""
    length = -(-max(len(one.ids) for one in packs) // 16) * 16

    def filled(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])

    segments = filled([one.segments for one in packs], -1)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    keys, queries = segments[:, None, :], segments[:, :, None]
    mask = causal[None] & ((keys == 0) | (keys == queries))
    # a label stands one place to the right of the token that predicts it: the last token of a block
    # never predicts the first of the next, because a block never begins with a learned token
    return PackedBatch(
        ids=filled([one.ids for one in packs], pad),
        labels=filled([one.labels for one in packs], _IGNORED),
        positions=filled([one.positions for one in packs], 0),
        mask=mask[:, None],
        digests=tuple(digest for one in packs for digest in one.digests),
    )
