"""The one training loop: optimisers, schedules, clipping, running averages, regular saving."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["cosine", "hold_then_fall", "optimisers", "run"]

Loss = tuple[torch.Tensor, dict[str, float]]


def optimisers(
    named: Iterable[tuple[str, nn.Parameter]], rate: float, decay: float = 0.02
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside transformer blocks, AdamW for the rest.

    From random weights Muon needs about half the steps AdamW does; ``match_rms_adamw`` makes one rate
    fit both.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            (matrices if parameter.ndim == 2 and "layers." in name else others).append(parameter)
    made: list[torch.optim.Optimizer] = []
    if others:
        made.append(torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0))
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return made


def cosine(progress: float) -> float:
    """Share of the peak rate: warm-up over 3 %, then a cosine to 0 (the paper's schedule)."""
    if progress < 0.03:
        return max(progress / 0.03, 0.02)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.03) / 0.97)))


def hold_then_fall(progress: float) -> float:
    """Share of the peak rate: warm-up over 2 %, held, then a straight line to 3 % over the last 30 %."""
    return min(1.0, max(progress / 0.02, 0.05), max(0.03, (1 - progress) / 0.3))


def run(
    name: str,
    loss_of: Callable[[], Loss],
    made: list[torch.optim.Optimizer],
    minutes: float,
    *,
    schedule: Callable[[float], float] = hold_then_fall,
    report: Callable[[str], None] = print,
    save: Callable[[], None] | None = None,
    save_every_s: float = 120,
    mixed: bool = False,
) -> dict[str, float]:
    """Train for a wall time.

    Parameters
    ----------
    name : str
        Stands in every line of the report.
    loss_of : callable
        Draws a batch; gives its loss and figures to average.
    made : list of torch.optim.Optimizer
        Their rates at the call are the peak rates.
    minutes : float
        Wall time.
    schedule : callable
        Progress (0 to 1) to the share of the peak rate.
    report, save : callable
        Told every 20 steps; called at most every ``save_every_s`` seconds and at the end.
    mixed : bool
        Multiply matrices in bfloat16: almost three times faster where the CPU has instructions for it,
        slower where it has not.

    Returns
    -------
    dict of str to float
        Running averages, among them ``loss`` and ``first_loss``.
    """
    peaks = [[group["lr"] for group in optimiser.param_groups] for optimiser in made]
    trained = [p for optimiser in made for group in optimiser.param_groups for p in group["params"]]
    begun = saved = time.monotonic()
    step, average, first = 0, dict[str, float](), 0.0
    while (progress := (time.monotonic() - begun) / 60 / minutes) < 1:
        for optimiser, rates in zip(made, peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = peak * schedule(progress)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss, figures = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        for optimiser in made:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        keep = min(0.95, 1 - 1 / step)
        figures = {"loss": float(loss.detach()), **figures}
        first = first or figures["loss"]
        average |= {
            key: keep * average.get(key, value) + (1 - keep) * value for key, value in figures.items()
        }
        if step % 20 == 0:
            words = " ".join(f"{key} {value:.3f}" for key, value in average.items())
            report(f"{name}: step {step}, {(time.monotonic() - begun) / 60:.1f} min, {words}")
        if save is not None and time.monotonic() - saved > save_every_s:
            save()
            saved = time.monotonic()
    if save is not None:
        save()
    return {**average, "first_loss": first, "steps": float(step)}
