"""A model of the released structure with random weights: its time is real, its words are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.checkpoint import LoadedModel
from engine.messages import Delta, Finished, GenerationOptions
from engine.prompt import PromptProfile, PromptRenderer
from tests.engine.tiny import build_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.local import LocalBackend
    from engine.messages import Message

__all__ = ["decoding_speed", "random_model", "stream"]

_TOWER = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
"""CLIP ViT-L/14 at 336 px, as in BiMediX2: 576 tokens an image."""
_VOCABULARY = 32000


def random_model(*, layers: int = 22, tower: bool = True) -> LoadedModel:
    """Make a Llama of 312 million parameters (at 22 layers) with a vision tower.

    Parameters
    ----------
    layers : int
        Of the language model.
    tower : bool
        Without it the tower has one layer, for questions without an image.
    """
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    image_id = tokenizer.token_to_id("<image>")
    config = LlavaConfig(
        vision_config=_TOWER if tower else _TOWER | {"num_hidden_layers": 2},
        text_config={
            "model_type": "llama",
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_hidden_layers": layers,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "vocab_size": _VOCABULARY,
            "max_position_embeddings": 8192,
        },
        image_token_id=image_id,
        image_seq_length=576,
    )
    profile = PromptProfile(image_token_id=image_id, image_length=576, context_length=8192)
    return LoadedModel(
        name="random",
        model=LlavaForConditionalGeneration(config).eval(),
        renderer=PromptRenderer(tokenizer, profile),
        image_processor=LlavaImageProcessorPil(
            do_pad=True, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=tokenizer,
        stop_ids=frozenset(),
        # ids without a text would make answers that cannot be told apart
        suppressed_ids=(image_id, *range(tokenizer.get_vocab_size(), _VOCABULARY)),
        device=torch.device("cpu"),
        dtype=torch.float32,
        reason="benchmark",
    )


def stream(backend: LocalBackend, messages: Sequence[Message], tokens: int) -> tuple[Finished, str]:
    """Ask for an answer of so many tokens; its last event and its text."""
    *events, last = backend.stream(messages, GenerationOptions(max_new_tokens=tokens))
    assert isinstance(last, Finished)
    return last, "".join(event.text for event in events if isinstance(event, Delta))


def decoding_speed(finished: Finished) -> float:
    """Tokens a second from the second token on."""
    seconds = finished.timings.total_s - (finished.timings.first_token_s or 0.0)
    return (finished.usage.completion_tokens - 1) / seconds
