"""Original LLaVA checkpoints (``llava_llama``) as transformers' ``LlavaForConditionalGeneration``.

One visible rename table and one config mapping; the weights stay where they are and are memory-mapped.
Upstream's own program is a fork of LLaVA that current transformers cannot load (``KeyError:
'llava_llama'``); the structure itself is that of LLaVA 1.5 and needs no code of the checkpoint.

References
----------
LLaVA 1.5, arXiv 2310.03744: features of the vision tower's layer -2 without the class token, a projector
of two linear layers with GELU between, spliced into the language model's embeddings.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from engine.errors import CheckpointError, MissingTokenizerError, UnsupportedCheckpointError
from engine.shards import shards_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RENAMES", "check_supported", "image_token_id", "llava_config", "rename", "tensor_shapes"]

RENAMES: dict[str, str] = {
    r"^model\.vision_tower\.vision_tower\.(vision_model\.)?": "model.vision_tower.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
}
"""Original key (regular expression) to transformers' key; ``lm_head.weight`` is the same in both."""

_TOWER = "model.vision_tower.vision_tower."
_TEXT_FIELDS = (
    "attention_bias", "attention_dropout", "bos_token_id", "eos_token_id", "head_dim", "hidden_act",
    "hidden_size", "initializer_range", "intermediate_size", "max_position_embeddings", "mlp_bias",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "pad_token_id", "rms_norm_eps",
    "rope_scaling", "rope_theta", "tie_word_embeddings", "vocab_size",
)  # fmt: skip
_CLIP_HEAD_WIDTH = 64
"""Every CLIP vision transformer has heads of 64, so the width gives their number."""


def rename(key: str) -> str:
    """Return transformers' name of an original key."""
    for pattern, replacement in RENAMES.items():
        new, count = re.subn(pattern, replacement, key)
        if count:
            return new
    return key


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of every tensor in a folder's weight files, from their headers only.

    Raises
    ------
    CheckpointError
        If there are no weights, or a file named by the index is missing or damaged.
    """
    return {tensor.name: tensor.shape for shard in shards_of(folder) for tensor in shard.tensors}


def llava_config(folder: Path, config: dict[str, Any], image_token: int) -> Any:
    """Map an original ``config.json`` to transformers' ``LlavaConfig``.

    Parameters
    ----------
    folder : Path
        The checkpoint; the vision tower's geometry is read from its tensors' shapes.
    config : dict
        Its ``config.json``.
    image_token : int
        Id that marks image positions; see :func:`image_token_id`.

    Raises
    ------
    UnsupportedCheckpointError
        If the projector, the way of slicing images or the image markers are other ones.
    CheckpointError
        If the vision tower is not among the tensors.
    """
    from transformers import LlavaConfig

    check_supported(folder, config)
    vision = _vision_geometry(folder, tensor_shapes(folder), str(config.get("mm_vision_tower")))
    whole = config.get("mm_vision_select_feature", "patch") == "cls_patch"
    return LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **vision},
        text_config={"model_type": "llama"} | {name: config[name] for name in _TEXT_FIELDS if name in config},
        image_token_id=image_token,
        image_seq_length=(vision["image_size"] // vision["patch_size"]) ** 2 + whole,
        projector_hidden_act="gelu",
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy="full" if whole else "default",
        tie_word_embeddings=config.get("tie_word_embeddings", False),
    )


def check_supported(folder: Path, config: dict[str, Any]) -> None:
    """Refuse an original ``config.json`` of another structure.

    Raises
    ------
    UnsupportedCheckpointError
        Names the first field that differs, what was found and what would be computed.
    """
    expected: dict[str, tuple[Any, ...]] = {
        "mm_projector_type": ("mlp2x_gelu",),
        "mm_patch_merge_type": ("flat", None),
        "mm_use_im_start_end": (False, None),
        "mm_use_im_patch_token": (False, None),
        "image_aspect_ratio": ("pad", None),
        "mm_vision_select_feature": ("patch", "cls_patch", None),
    }
    for name, allowed in expected.items():
        if config.get(name) not in allowed:
            known = " or ".join(str(value) for value in allowed if value is not None)
            raise UnsupportedCheckpointError(
                source=folder, found=f"{name} = {config.get(name)!r}", expected=f"{name} = {known}"
            )


def _vision_geometry(folder: Path, shapes: dict[str, tuple[int, ...]], tower: str) -> dict[str, int]:
    """Tell the vision tower's geometry from its tensors."""
    inside = {
        key.removeprefix(_TOWER).removeprefix("vision_model."): shape
        for key, shape in shapes.items()
        if key.startswith(_TOWER)
    }
    if "embeddings.patch_embedding.weight" not in inside:
        reason = (
            f"its files hold no vision tower; expected the tensors of {tower} among them "
            f"(model.vision_tower.*). Use the merged checkpoint"
        )
        raise CheckpointError(source=folder, reason=reason)
    width, _, patch, _ = inside["embeddings.patch_embedding.weight"]
    positions = inside["embeddings.position_embedding.weight"][0] - 1
    layers = {int(found[1]) for key in inside if (found := re.match(r"encoder\.layers\.(\d+)\.", key))}
    return {
        "hidden_size": width,
        "intermediate_size": inside["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + max(layers),
        "num_attention_heads": width // _CLIP_HEAD_WIDTH,
        "image_size": math.isqrt(positions) * patch,
        "patch_size": patch,
    }


def image_token_id(tokenizer: Any, source: object) -> int:
    """Choose the id that marks image positions.

    Upstream marks them with -200, outside the vocabulary, so Llama's tokenizer has no such token. An
    unused reserved one takes its place: no row is added to the embedding, no logit appears, and that
    row is never read because the features are written over it.

    Raises
    ------
    MissingTokenizerError
        If the tokenizer has neither ``<image>`` nor a reserved token.
    """
    existing = tokenizer.token_to_id("<image>")
    if existing is not None:
        return int(existing)
    reserved = [
        number
        for name, number in tokenizer.get_vocab(with_added_tokens=True).items()
        if name.startswith("<|reserved_special_token_")
    ]
    if not reserved:
        reason = "it has neither <image> nor an unused <|reserved_special_token_N|> to stand for an image"
        raise MissingTokenizerError(source=source, reason=reason)
    return int(max(reserved))
