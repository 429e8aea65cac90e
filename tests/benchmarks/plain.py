"""The plain ways that ours are measured against."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.checkpoint import LoadedModel
    from engine.messages import Message

__all__ = ["generate_speed"]


def generate_speed(loaded: LoadedModel, messages: list[Message], tokens: int) -> float:
    """Tokens a second of transformers' generate, from the second token on."""
    import torch

    rendered = loaded.renderer.render(messages)
    ids = torch.tensor([rendered.ids])
    pixels = torch.cat([loaded.pixel_values(image) for image in messages[0].images])

    def seconds(count: int) -> float:
        began = time.perf_counter()
        loaded.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixels,
            min_new_tokens=count,
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - began

    return (tokens - 1) / (seconds(tokens) - seconds(1))
