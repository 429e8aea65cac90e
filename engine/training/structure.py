"""The demonstration model's structure: a LLaVA small enough to be trained on two CPU cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.training.pictures import IMAGE_SIDE, PATCH

if TYPE_CHECKING:
    import torch

__all__ = ["IMAGE_LENGTH", "build_model", "demo_config", "vision_states"]

IMAGE_LENGTH = (IMAGE_SIDE // PATCH) ** 2
"""Tokens one image fills."""


def demo_config(
    vocabulary: int, image_token: int, end_of_turn: int, pad: int, begin: int, *, tiny: bool = False
) -> Any:
    """Build the ``LlavaConfig``; ``tiny`` is the smoke test's size."""
    from transformers import LlavaConfig

    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    if not tiny:
        vision = {
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
        }
        text = {
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
    return LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "image_size": IMAGE_SIDE,
            "patch_size": PATCH,
            **vision,
        },
        text_config={
            "model_type": "llama",
            **text,
            "vocab_size": vocabulary,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "max_position_embeddings": 2048,
            "bos_token_id": begin,
            "eos_token_id": end_of_turn,
            "pad_token_id": pad,
            "tie_word_embeddings": False,
        },
        image_token_index=image_token,
        image_seq_length=IMAGE_LENGTH,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
    )


def build_model(config: Any) -> Any:
    """Make a model with random weights and two-dimensional sine positions in the vision tower."""
    import torch
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration(config)
    table = model.model.vision_tower.embeddings.position_embedding.weight
    with torch.no_grad():
        table[1:] = _sine_positions(IMAGE_SIDE // PATCH, table.shape[1]) * 0.3
    return model


def _sine_positions(across: int, width: int) -> torch.Tensor:
    """Sine and cosine of row and column at ``width / 4`` wavelengths, shape (across ** 2, width)."""
    import torch

    rates = torch.exp(-torch.linspace(0, 3.0, width // 4))
    angles = torch.arange(across)[:, None] * rates[None]
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = line[:, None].expand(across, across, -1)
    columns = line[None].expand(across, across, -1)
    return torch.cat([rows, columns], dim=-1).reshape(across * across, -1)


def vision_states(tower: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Patch features after each layer up to the one LLaVA reads (-2); each (batch, patches, hidden).

    The last layer is left out: LLaVA never uses its output.
    """
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    states = []
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        states.append(hidden[:, 1:])
    return states
