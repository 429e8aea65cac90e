"""The plain ways that ours are measured against."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.checkpoint import LoadedModel
    from engine.messages import Message

__all__ = ["generate_speed"]


def generate_speed(loaded: LoadedModel, messages: list[Message], tokens: int) -> float:
    """Tokens a second of transformers' generate, from the second token on."""
    import torch

    rendered = loaded.renderer.render(messages)
    ids = torch.tensor([rendered.ids])
    images = [image for message in messages for image in message.images]
    pixels = {"pixel_values": torch.cat([loaded.pixel_values(image) for image in images])} if images else {}
    clock = _Clock()
    loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **pixels,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
        streamer=clock,
    )
    return (tokens - 1) / (clock.times[-1] - clock.times[1])


class _Clock:
    """A streamer that notes when each piece came: the prompt, then each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left over."""
