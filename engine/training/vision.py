"""Pre-training of the small vision tower, which replaces CLIP's.

Every patch learns two things: whether it touches the lesion (from a middle layer on), and, at the layer
LLaVA reads, the words of the whole picture. The dense target is what makes so small a tower learn to
find lesions at all; the words at every patch spread the finding over the image, so that the language
model can read it anywhere.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from engine.training.pictures import CATEGORIES, PictureBatch, normalise
from engine.training.structure import vision_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PictureReader", "optimisers", "train_vision"]

_DENSE_WEIGHT, _LESION_BALANCE = 4.0, 8.0


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
        count = sum(map(len, CATEGORIES.values()))
        self.words = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, count))
        self.pooled = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, count))

    def forward(self, pixels: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Lesion logits of the middle and last layer; word logits per patch and for the whole picture."""
        states = vision_states(self.tower, pixels)
        middle = states[max(0, len(states) - 3)]
        dense = [self.middle(middle)[..., 0], self.final(states[-1])[..., 0]]
        last = states[-1]
        return dense, self.words(last), self.pooled(torch.cat([last.mean(1), last.amax(1)], dim=-1))

    def loss(self, batch: PictureBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Weighted sum of all targets; shares of right words per category (``*``: by the pooled head)."""
        dense, words, pooled = self(normalise(batch.pixels))
        target, labels = torch.from_numpy(batch.lesions), torch.from_numpy(batch.labels)
        balance = torch.tensor(_LESION_BALANCE)
        total = sum(
            (_DENSE_WEIGHT / 2 * F.binary_cross_entropy_with_logits(one, target, pos_weight=balance) for one in dense),
            start=torch.zeros(()),
        )
        right = {"dense": float(total.detach() / _DENSE_WEIGHT)}
        widths = [len(names) for names in CATEGORIES.values()]
        columns = zip(CATEGORIES, words.split(widths, dim=-1), pooled.split(widths, dim=-1), strict=True)
        for column, (name, each, whole) in enumerate(columns):
            known = labels[:, column] >= 0
            if not known.any():
                continue  # cross-entropy over nothing is not a number
            wanted = labels[known, column]
            spread = wanted[:, None].expand(-1, each.shape[1])
            total = total + F.cross_entropy(each[known].flatten(0, 1), spread.flatten())
            total = total + F.cross_entropy(whole[known], wanted)
            right[name] = float((each[known].mean(1).argmax(-1) == wanted).float().mean())
            right[f"{name}*"] = float((whole[known].argmax(-1) == wanted).float().mean())
        return total, right


def optimisers(module: nn.Module, rate: float, decay: float = 0.02) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest (embeddings, heads, norms, biases)."""
    matrices, others = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and "layers." in name
            (matrices if inside else others).append(parameter)
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)]
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return made


def set_rate(made: list[torch.optim.Optimizer], step: int, progress: float, *, warm_up: int = 40) -> None:
    """Cosine schedule over ``progress`` (0 to 1) after a linear warm-up over ``warm_up`` steps."""
    share = min(1.0, (step + 1) / warm_up) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share


def train_vision(
    reader: PictureReader, stream: Iterator[PictureBatch], minutes: float, *, rate: float = 2e-3,
    report: Callable[[str], None] = print, save: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Train for a wall time; the last running share of right words per category is returned."""
    made = optimisers(reader, rate)
    begun, step, running = time.monotonic(), 0, dict[str, float]()
    average = 0.0
    while (progress := (time.monotonic() - begun) / 60 / minutes) < 1:
        set_rate(made, step, progress)
        loss, right = reader.loss(next(stream))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        for optimiser in made:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        keep = min(0.95, 1 - 1 / step)
        average = keep * average + (1 - keep) * loss.item()
        running = {name: keep * running.get(name, value) + (1 - keep) * value for name, value in right.items()}
        if step % 25 == 0:
            words = " ".join(f"{name} {value:.3f}" for name, value in running.items())
            report(f"vision step {step} {(time.monotonic() - begun) / 60:.1f} min loss {average:.3f} {words}")
            if save is not None and step % 100 == 0:
                save()
    return running
