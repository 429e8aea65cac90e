"""The two training stages of BiMediX2 on any LLaVA model, with the paper's rates.

Stage 1 aligns the projector: only its weights move, on plain picture-caption pairs without roles.
Stage 2 puts LoRA (rank 8, alpha 16) on the language model, trains it on conversations together with the
projector at a hundredth of stage 1's rate, and merges it.

References
----------
BiMediX2, arXiv 2412.07769, section 3; rates from its released scripts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from engine.prompt import ImageSlot, Rendered
from engine.training.loop import cosine, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.prompt import PromptRenderer

__all__ = ["LORA_TARGETS", "align_projector", "fine_tune", "plain_sample"]

LORA_TARGETS = r".*\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""Regular expression: the bare names (``q_proj``, ...) would also hit the vision tower."""
_STAGE_1_RATE, _STAGE_2_RATE, _STAGE_2_PROJECTOR_RATE = 1e-3, 2e-4, 2e-5

Loss = tuple[torch.Tensor, dict[str, float]]


def plain_sample(renderer: PromptRenderer, digest: str, caption: str) -> Rendered:
    """Write a picture and its caption without roles, as stage 1 does; the caption is learned."""
    profile = renderer.profile
    before = [renderer.token_id("<|begin_of_text|>")] * profile.bos_count
    image = [profile.image_token_id] * profile.image_length
    text = [*renderer.encode(caption), renderer.end_of_turn]
    mask = [False] * (len(before) + len(image)) + [True] * len(text)
    slot = ImageSlot(len(before), profile.image_length, digest)
    return Rendered((*before, *image, *text), (slot,), tuple(mask))


def align_projector(
    model: Any,
    loss_of: Callable[[], Loss],
    minutes: float,
    *,
    mixed: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, float]:
    """Stage 1: train the projector alone.

    Parameters
    ----------
    model : LlavaForConditionalGeneration
        Trained in place; everything but the projector is frozen meanwhile.
    loss_of : callable
        Draws a batch of :func:`plain_sample` and gives its loss.
    minutes : float
        Wall time.
    mixed : bool
        See :func:`engine.training.loop.run`.
    report : callable
        Told of the progress.
    """
    model.requires_grad_(False)  # noqa: FBT003
    projector = model.model.multi_modal_projector
    projector.requires_grad_(True)  # noqa: FBT003
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(projector.parameters(), lr=_STAGE_1_RATE, weight_decay=0.0)
    ]
    figures = run("stage 1, projector", loss_of, made, minutes, schedule=cosine, mixed=mixed, report=report)
    model.requires_grad_(True)  # noqa: FBT003
    return figures


def fine_tune(
    model: Any,
    loss_of: Callable[[], Loss],
    minutes: float,
    *,
    rate: float = _STAGE_2_RATE,
    mixed: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, float]:
    """Stage 2: train a LoRA adapter and the projector, then merge the adapter into the model.

    Parameters
    ----------
    model : LlavaForConditionalGeneration
        Trained in place.
    loss_of : callable
        Draws a batch of conversations and gives its loss for ``model``.
    minutes : float
        Wall time.
    rate : float
        Peak rate of the adapter.
    mixed : bool
        See :func:`engine.training.loop.run`.
    report : callable
        Told of the progress.
    """
    from peft import LoraConfig, get_peft_model

    model.requires_grad_(False)  # noqa: FBT003
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=LORA_TARGETS, bias="none"))
    adapter = [parameter for name, parameter in adapted.named_parameters() if "lora_" in name]
    projector = list(model.model.multi_modal_projector.parameters())
    for parameter in projector:
        parameter.requires_grad_(True)  # noqa: FBT003
    groups = [{"params": adapter, "lr": rate}, {"params": projector, "lr": _STAGE_2_PROJECTOR_RATE}]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, weight_decay=0.0)]
    figures = run("stage 2, LoRA", loss_of, made, minutes, schedule=cosine, mixed=mixed, report=report)
    adapted.merge_and_unload()
    model.requires_grad_(True)  # noqa: FBT003
    return figures
