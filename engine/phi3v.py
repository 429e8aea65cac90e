"""Phi-3.5-Vision (``phi3_v``, BiMediX2-4B) from transformers' own Phi3 and CLIP, not the checkpoint's code.

The released checkpoint brings a program of its own, written for a transformers of 2024, which today's
cannot run and which nobody should have to trust. What it computes is small: CLIP features of every
square, 2 x 2 neighbours joined, a learned separator at the end of each line, another between the squares
and the whole image, two linear layers with GELU between, and Phi-3 over the result.

References
----------
Phi-3 technical report, arXiv 2404.14219; longrope: LongRoPE, arXiv 2402.13753.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Phi3Config,
    Phi3Model,
    PreTrainedConfig,
    PreTrainedModel,
)

from engine.crops import CropGrid, CropSettings
from engine.errors import CheckpointError, MissingTokenizerError, UnsupportedCheckpointError
from engine.shards import shards_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "RENAMES",
    "Phi3Vision",
    "Phi3VisionConfig",
    "crop_settings",
    "image_token_id",
    "phi3v_config",
    "renames_for",
]

_TOWER = "model.vision_embed_tokens.img_processor.vision_model."
_TEXT_FIELDS = (
    "attention_dropout", "bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "initializer_range",
    "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "original_max_position_embeddings", "pad_token_id", "rms_norm_eps", "rope_theta",
    "sliding_window", "tie_word_embeddings", "vocab_size",
)  # fmt: skip
RENAMES: dict[str, str] = {
    r"^model\.vision_embed_tokens\.img_processor\.vision_model\.": "model.vision_tower.",
    r"^model\.vision_embed_tokens\.img_projection\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.vision_embed_tokens\.img_projection\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.vision_embed_tokens\.sub_GN$": "model.line_end.weight",
    r"^model\.vision_embed_tokens\.glb_GN$": "model.between.weight",
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
}
"""Released key (regular expression) to :class:`Phi3Vision`'s; ``lm_head.weight`` is the same in both."""
_CLIP_HEAD_WIDTH = 64
_DEFAULT_CROPS = 4
"""``num_crops`` of Phi-3.5-Vision's own processor."""


class Phi3VisionConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers ships no types
    """Configuration of the two parts, and which of the tower's layers is read."""

    model_type = "phi3_v_native"
    sub_configs = {"text_config": Phi3Config, "vision_config": CLIPVisionConfig}  # noqa: RUF012  # its own way

    def __init__(
        self, text_config: Any = None, vision_config: Any = None, vision_layer: int = -2, **kwargs: Any
    ) -> None:
        self.text_config = Phi3Config(**text_config) if isinstance(text_config, dict) else text_config
        self.vision_config = (
            CLIPVisionConfig(**vision_config) if isinstance(vision_config, dict) else vision_config
        )
        self.vision_layer = vision_layer
        super().__init__(**kwargs)


class _Separator(nn.Module):
    """A learned vector; a module, so that it is brought where it is needed when the model is spread out."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, like: torch.Tensor) -> torch.Tensor:
        """Return the vector, shape (1, width), on the device and in the numbers of another tensor."""
        return self.weight.reshape(1, -1).to(like)


class _Body(nn.Module):
    def __init__(self, config: Phi3VisionConfig) -> None:
        super().__init__()
        joined, width = 4 * config.vision_config.hidden_size, config.text_config.hidden_size
        self.language_model = Phi3Model(config.text_config)
        self.vision_tower = CLIPVisionModel(config.vision_config)
        self.multi_modal_projector = nn.ModuleDict(
            {"linear_1": nn.Linear(joined, width), "linear_2": nn.Linear(width, width)}
        )
        # the shapes in which they are stored
        self.line_end = _Separator(1, 1, 1, joined)
        self.between = _Separator(1, 1, joined)


class Phi3Vision(PreTrainedModel):  # type: ignore[misc]  # transformers ships no types
    """Phi-3 that reads squares of an image; the same parts under the same names as transformers' LLaVA."""

    config_class = Phi3VisionConfig
    base_model_prefix = "model"
    _no_split_modules = ("Phi3DecoderLayer", "CLIPEncoderLayer")
    # a second copy of the token embedding, where it was saved under both of its names
    _keys_to_ignore_on_load_unexpected = (r"vision_embed_tokens\.wte\.",)
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: Phi3VisionConfig) -> None:
        super().__init__(config)
        self.model = _Body(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Token embedding of the language model."""
        embeddings: nn.Module = self.model.language_model.get_input_embeddings()
        return embeddings

    def image_features(self, inputs: torch.Tensor, grid: CropGrid) -> torch.Tensor:
        """Features of one image as the language model takes them.

        Parameters
        ----------
        inputs : tensor, shape (1 + squares, 3, side, side)
            The whole image, then its squares; see :func:`engine.crops.cut`.
        grid : CropGrid
            How the squares lie.

        Returns
        -------
        tensor, shape (image tokens, hidden size)
            Squares line by line, separator, whole image line by line.
        """
        output = self.model.vision_tower(inputs, output_hidden_states=True)
        features = output.hidden_states[self.config.vision_layer][:, 1:]
        squares = self._lines(features[1:], grid.rows, grid.columns)
        whole = self._lines(features[:1], 1, 1)
        joined = torch.cat([squares, self.model.between(squares), whole])
        projector = self.model.multi_modal_projector
        projected: torch.Tensor = projector["linear_2"](nn.functional.gelu(projector["linear_1"](joined)))
        return projected

    def _lines(self, features: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Join 2 x 2 neighbours and lay the squares side by side, each line ended by the separator.

        ``features``: (squares, patches, width) -> (lines * (places + 1), 4 * width).
        """
        width = features.shape[-1]
        half = round(features.shape[1] ** 0.5) // 2
        grid = features.reshape(rows, columns, half, 2, half, 2, width)
        # rows of squares, lines within, columns of squares, places within, then the four neighbours
        grid = grid.permute(0, 2, 1, 4, 3, 5, 6).reshape(rows * half, columns * half, 4 * width)
        ends = self.model.line_end(grid).expand(rows * half, 1, -1)
        return torch.cat([grid, ends], dim=1).reshape(-1, 4 * width)

    def forward(
        self, inputs_embeds: torch.Tensor, past_key_values: Any = None, **kwargs: Any
    ) -> torch.Tensor:
        """Logits of embedded tokens, shape (1, tokens, vocabulary)."""
        output = self.model.language_model(
            inputs_embeds=inputs_embeds, past_key_values=past_key_values, **kwargs
        )
        logits: torch.Tensor = self.lm_head(output.last_hidden_state)
        return logits


def renames_for(folder: Path) -> dict[str, str]:
    """Rename table for a folder; the token embedding may be saved under the image embedding's name for it."""
    names = {tensor.name for shard in shards_of(folder) for tensor in shard.tensors}
    if "model.embed_tokens.weight" in names:
        return dict(RENAMES)
    return RENAMES | {r"^model\.vision_embed_tokens\.wte\.": "model.language_model.embed_tokens."}


def phi3v_config(folder: Path, config: dict[str, Any]) -> Phi3VisionConfig:
    """Map a released ``config.json``; the vision tower's geometry is that of its tensors.

    Raises
    ------
    UnsupportedCheckpointError
        If images are cut or laid out in another way than Phi-3.5-Vision's.
    CheckpointError
        If the vision tower is not among the tensors.
    """
    _check_supported(folder, config)
    shapes = {tensor.name: tensor.shape for shard in shards_of(folder) for tensor in shard.tensors}
    text = {name: config[name] for name in _TEXT_FIELDS if name in config}
    if config.get("rope_scaling"):
        scaling = dict(config["rope_scaling"])
        kind = scaling.pop("type", scaling.pop("rope_type", "longrope"))
        text["rope_scaling"] = scaling | {"rope_type": "longrope" if kind in ("su", "yarn") else kind}
    image = config.get("img_processor") or {}
    return Phi3VisionConfig(text, _vision_geometry(folder, shapes), image.get("layer_idx", -2))


def _check_supported(folder: Path, config: dict[str, Any]) -> None:
    layer = config.get("embd_layer") or {}
    expected: dict[str, tuple[Any, ...]] = {
        "use_hd_transform": (True,),
        "with_learnable_separator": (True,),
        "hd_transform_order": ("sub_glb",),
        "projection_cls": ("mlp", None),
    }
    for name, allowed in expected.items():
        if layer.get(name) not in allowed:
            raise UnsupportedCheckpointError(
                source=folder,
                found=f"embd_layer.{name} = {layer.get(name)!r}",
                expected=f"embd_layer.{name} = {allowed[0]!r}",
            )


def _vision_geometry(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    inside = {key.removeprefix(_TOWER): shape for key, shape in shapes.items() if key.startswith(_TOWER)}
    if "embeddings.patch_embedding.weight" not in inside:
        raise CheckpointError(source=folder, reason=f"its files hold no vision tower ({_TOWER}*)")
    width, _, patch, _ = inside["embeddings.patch_embedding.weight"]
    positions = inside["embeddings.position_embedding.weight"][0] - 1
    layers = [int(key.split(".")[2]) for key in inside if key.startswith("encoder.layers.")]
    return {
        "hidden_size": width,
        "intermediate_size": inside["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + max(layers),
        "num_attention_heads": width // _CLIP_HEAD_WIDTH,
        "image_size": round(positions**0.5) * patch,
        "patch_size": patch,
    }


def crop_settings(folder: Path, config: Phi3VisionConfig) -> CropSettings:
    """How this checkpoint's processor cuts images."""
    path = folder / "preprocessor_config.json"
    saved: dict[str, Any] = {}
    if path.is_file():
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(source=folder, reason=f"{path.name} cannot be read: {error}") from error
    normal = {
        ours: tuple(saved[theirs])
        for ours, theirs in (("mean", "image_mean"), ("std", "image_std"))
        if theirs in saved
    }
    most = int(saved.get("num_crops", _DEFAULT_CROPS))
    return CropSettings(side=config.vision_config.image_size, most=most, **normal)


def image_token_id(tokenizer: Any, source: object) -> int:
    """Choose the id that marks image positions; the released program uses negative numbers there.

    Raises
    ------
    MissingTokenizerError
        If the tokenizer has neither ``<|image|>`` nor an unused placeholder.
    """
    for name in ("<|image|>", "<|placeholder6|>", "<|placeholder5|>", "<|placeholder1|>"):
        number = tokenizer.token_to_id(name)
        if number is not None:
            return int(number)
    raise MissingTokenizerError(source=source, reason="it has neither <|image|> nor a placeholder for it")
