"""Pre-training of the small vision tower, which replaces CLIP's.

Every patch learns two things: whether it touches the lesion (from a middle layer on), and, at the layer
LLaVA reads, the words of the whole picture. The dense target is what makes so small a tower learn to
find lesions at all; the words at every patch spread the finding over the image, so that the language
model can read it anywhere.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from engine.training.pictures import CATEGORIES, PictureBatch, normalise
from engine.training.structure import vision_states

__all__ = ["PictureReader"]

_NAMES = list(CATEGORIES)
_LOCAL = tuple((_NAMES.index(name), number) for name in ("side", "size", "tone") for number in (0, 1))
"""Column and number of the words that a lesion's patches carry."""
_LOCAL_WEIGHT = 20.0
_DENSE_WEIGHT, _WORD_WEIGHT, _LESION_BALANCE = 10.0, 0.7, 8.0


class PictureReader(nn.Module):
    """Heads over a vision tower; thrown away after pre-training.

    Parameters
    ----------
    tower : CLIPVisionModel
        Trained in place.
    """

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower
        width = tower.config.hidden_size
        self.middle = nn.Linear(width, 1)
        self.final = nn.Linear(width, 1)
        self.local = nn.Linear(width, len(_LOCAL))
        count = sum(map(len, CATEGORIES.values()))
        self.words = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, count))
        self.pooled = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, count))

    def forward(
        self, pixels: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits: lesion (two layers), its words there, the picture's words per patch and pooled."""
        states = vision_states(self.tower, pixels)
        middle = states[max(0, len(states) - 3)]
        dense = [self.middle(middle)[..., 0], self.final(states[-1])[..., 0]]
        last = states[-1]
        pooled = self.pooled(torch.cat([last.mean(1), last.amax(1)], dim=-1))
        return dense, self.local(last), self.words(last), pooled

    def loss(self, batch: PictureBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Weighted sum of all targets; shares of right words per category (``*``: by the pooled head)."""
        dense, local, words, pooled = self(normalise(batch.pixels))
        target, labels = torch.from_numpy(batch.lesions), torch.from_numpy(batch.labels)
        dense, local, words, pooled = (
            [one.float() for one in dense],
            local.float(),
            words.float(),
            pooled.float(),
        )
        balance = torch.tensor(_LESION_BALANCE)
        dense_loss = sum(
            (
                _DENSE_WEIGHT / 2 * F.binary_cross_entropy_with_logits(one, target, pos_weight=balance)
                for one in dense
            ),
            start=torch.zeros(()),
        )
        total = dense_loss
        # "a lesion on the left lies here" is learned long before "the lesion of this picture is on the left"
        wanted = torch.stack([labels[:, column] == number for column, number in _LOCAL], dim=-1).float()
        named = F.binary_cross_entropy_with_logits(
            local, target[..., None] * wanted[:, None], pos_weight=balance
        )
        total = total + _LOCAL_WEIGHT * named
        right = {"local": float(named.detach()), "dense": float(dense_loss.detach() / _DENSE_WEIGHT)}
        widths = [len(names) for names in CATEGORIES.values()]
        columns = zip(CATEGORIES, words.split(widths, dim=-1), pooled.split(widths, dim=-1), strict=True)
        for column, (name, each, whole) in enumerate(columns):
            known = labels[:, column] >= 0
            if not known.any():
                continue  # cross-entropy over nothing is not a number
            wanted = labels[known, column]
            spread = wanted[:, None].expand(-1, each.shape[1])
            total = total + _WORD_WEIGHT * F.cross_entropy(each[known].flatten(0, 1), spread.flatten())
            total = total + _WORD_WEIGHT * F.cross_entropy(whole[known], wanted)
            right[name] = float((each[known].mean(1).argmax(-1) == wanted).float().mean())
            right[f"{name}*"] = float((whole[known].argmax(-1) == wanted).float().mean())
        return total, right
