"""LLaVA and its relatives among the models transformers itself knows, each opened as the folder describes it.

Decided from ``config.json``: its ``model_type`` names the family, its parts name language model and vision
tower. What the engine does with keys, values and prompts was tried with the parts listed here; a folder
with another one is refused with its name instead of being computed in the hope that it fits.

References
----------
LLaVA-NeXT: https://llava-vl.github.io/blog/2024-01-30-llava-next; LLaVA-OneVision, arXiv 2408.03326;
ViP-LLaVA, arXiv 2312.00784; Video-LLaVA, arXiv 2311.10122.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

from engine.chat_files import read_settings
from engine.errors import CheckpointError, UnsupportedCheckpointError
from engine.foreign import understood

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.messages import ImagePart

__all__ = ["FAMILIES", "Family", "check_layers", "image_length", "image_processor", "stock_config"]


@dataclass(frozen=True, slots=True)
class Family:
    """How one family is computed."""

    model: str
    """Its class in transformers."""
    images: Literal["square", "tiles", "tiles_alone"] = "square"
    """One square an image; the whole and tiles of it; or tiles only for the one image of a conversation."""
    processor: str = "LlavaImageProcessorPil"
    """Class that prepares images where the folder names none. The one that computes with PIL: with
    torchvision installed the other one resizes to slightly different pixels."""


FAMILIES: dict[str, Family] = {
    "llava": Family("LlavaForConditionalGeneration"),
    "vipllava": Family("VipLlavaForConditionalGeneration"),
    "llava_next": Family("LlavaNextForConditionalGeneration", "tiles", "LlavaNextImageProcessorPil"),
    "llava_next_video": Family(
        "LlavaNextVideoForConditionalGeneration", "tiles", "LlavaNextImageProcessorPil"
    ),
    "llava_onevision": Family(
        "LlavaOnevisionForConditionalGeneration", "tiles_alone", "LlavaOnevisionImageProcessorPil"
    ),
    "video_llava": Family("VideoLlavaForConditionalGeneration", processor="VideoLlavaImageProcessor"),
}
"""By ``model_type``. Of the two for videos, images are read."""
TEXT_MODELS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3")
"""Language models whose attention is computed over the engine's own keys and values."""
VISION_TOWERS = ("clip_vision_model", "siglip_vision_model")
_PROCESSORS = re.compile(r"((?:CLIP|Siglip|(?:Video)?Llava(?:Next|Onevision)?)ImageProcessor)(?:Fast|Pil)?")
_CLIP = "clip_vision_model"


def stock_config(folder: Path, config: dict[str, Any]) -> Any:
    """Read a folder's configuration as transformers does.

    Parameters
    ----------
    folder : Path
        The checkpoint.
    config : dict
        Its ``config.json``, whose ``model_type`` is one of :data:`FAMILIES`.

    Returns
    -------
    transformers.PreTrainedConfig

    Raises
    ------
    CheckpointError
        If transformers cannot make sense of it.
    UnsupportedCheckpointError
        If one of its parts is not computed here.
    """
    from transformers import AutoConfig

    with understood(folder):
        read = AutoConfig.for_model(**config)
        parts = (("text_config", TEXT_MODELS), ("vision_config", VISION_TOWERS))
        found = [(name, str(getattr(read, name).model_type), allowed) for name, allowed in parts]
    for name, kind, allowed in found:
        if kind not in allowed:
            raise UnsupportedCheckpointError(
                source=folder,
                found=f"{name} of the model_type {kind!r}",
                expected=" or ".join(map(repr, allowed)),
            )
    check_layers(folder, read)
    return read


def check_layers(folder: Path, config: Any) -> None:
    """Refuse a layer of the vision tower that it does not have.

    Raises
    ------
    CheckpointError
        Names the layer and how many there are.
    """
    chosen = getattr(config, "vision_feature_layer", None) or getattr(config, "vision_feature_layers", None)
    count = config.vision_config.num_hidden_layers
    for layer in chosen if isinstance(chosen, list | tuple) else [-1 if chosen is None else chosen]:
        if not -count - 1 <= layer <= count:
            reason = f"config.json takes layer {layer} of a vision tower with {count} layers"
            raise CheckpointError(source=folder, reason=reason)


def image_processor(folder: Path, config: Any) -> Any:
    """Make what prepares images.

    For one square of a CLIP tower always padding, as LLaVA 1.5 was trained: a processor that crops the
    centre would hide the borders of the image from the model. Else what the folder says, or what its
    family does where it says nothing.
    """
    import transformers

    family = FAMILIES[config.model_type]
    saved = _saved(folder)
    side = config.vision_config.image_size
    if family.images == "square" and config.model_type != "video_llava" and _tower(config) == _CLIP:
        chosen = {key: saved[key] for key in ("image_mean", "image_std", "rescale_factor") if key in saved}
        size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        return transformers.LlavaImageProcessorPil(do_pad=True, **size, **chosen)
    name = family.processor
    if family.images == "square" and _tower(config) != _CLIP:
        name = "SiglipImageProcessorPil"
    if found := _PROCESSORS.fullmatch(str(saved.get("image_processor_type", ""))):
        name = f"{found.group(1)}Pil"
    kind = getattr(transformers, name, None) or getattr(transformers, name.removesuffix("Pil"))
    made = kind(**(saved or _default(family, config)))
    if config.model_type == "video_llava":
        # told, because of an image of one or three rows it would take the rows for colours
        return partial(made, return_legacy_image_output=False, input_data_format="channels_last")
    return made


def _tower(config: Any) -> str:
    return str(config.vision_config.model_type)


def _saved(folder: Path) -> dict[str, Any]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            saved = read_settings(folder, name)
            unused = ("processor_class", "auto_map", "feature_extractor_type")
            inner = saved.get("image_processor", saved)
            return {key: value for key, value in dict(inner).items() if key not in unused}
    return {}


def _default(family: Family, config: Any) -> dict[str, Any]:
    side = config.vision_config.image_size
    square = {"height": side, "width": side}
    if _tower(config) == _CLIP:
        settings: dict[str, Any] = {"size": {"shortest_edge": side}, "crop_size": square}
    else:
        settings = {"size": square}
    if family.images != "square":
        settings["image_grid_pinpoints"] = config.image_grid_pinpoints
    return settings


def image_length(model: Any) -> Callable[[ImagePart, bool], int]:
    """Make a function that tells how many tokens an image fills, without computing it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of one of :data:`FAMILIES`. Its own arithmetic is run over tensors without content.

    Returns
    -------
    callable
        Takes an image, and whether it is read whole only; returns the number of tokens.
    """
    config = model.config
    family = FAMILIES[config.model_type]
    square = _square_tokens(config)

    @lru_cache(maxsize=1024)
    def tiled(rows: int, columns: int) -> int:
        import torch
        from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

        tiles = image_size_to_num_patches(
            (rows, columns), config.image_grid_pinpoints, config.vision_config.image_size
        )
        arguments: dict[str, Any] = {"image_newline": torch.empty(1, device="meta")}
        if family.images == "tiles":
            arguments["vision_feature_select_strategy"] = config.vision_feature_select_strategy
        else:
            arguments["vision_aspect_ratio"] = config.vision_aspect_ratio
        features = [torch.empty(tiles, square, 1, device="meta")]
        packed, _ = model.model.pack_image_features(features, [(rows, columns)], **arguments)
        return int(packed[0].shape[0])

    def length(image: ImagePart, coarse: bool) -> int:  # noqa: FBT001  # the renderer's two arguments
        if family.images == "square":
            return square
        rows, columns, _ = image.pixels.shape
        return square + 1 if coarse else tiled(rows, columns)

    return length


def _square_tokens(config: Any) -> int:
    """Tokens of one square: what the tower gives for it, less the class token where that is dropped."""
    import torch
    from transformers import AutoModel

    side = config.vision_config.image_size
    with torch.device("meta"), torch.inference_mode():
        tower = AutoModel.from_config(config.vision_config)
        given = int(tower(torch.empty(1, 3, side, side)).last_hidden_state.shape[1])
    # ViP-LLaVA has no setting and always drops it
    dropped = getattr(config, "vision_feature_select_strategy", "default") == "default"
    return given - dropped
