"""Weights become a model that is ready to be asked: prompts, images, and tokens that end an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.chat_files import read_settings
from engine.errors import CheckpointError
from engine.families import FAMILIES, image_processor
from engine.foreign import understood
from engine.loaded import CroppingModel, LoadedModel, TilingModel
from engine.messages import ImagePart
from engine.prompt import PromptProfile, PromptRenderer
from engine.stock_prompt import stock_renderer

if TYPE_CHECKING:
    from pathlib import Path

    from engine.families import Family
    from engine.weights import Placement

__all__ = ["Manner", "complete"]

_STOP_TOKENS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|end|>", "<|endoftext|>")
"""Llama 3.1 ends a turn with any of the first three, of which the original configs name only the last;
Phi-3 with one of the others."""
_UNUSED_TOKENS = ("<|reserved_special_token_", "<|placeholder")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model is used, and why so."""

    placement: Placement
    reason: str
    chat_layout: str


def complete(
    name: str, folder: Path, config: dict[str, Any], model: Any, tokenizer: Any, *, manner: Manner
) -> LoadedModel:
    """Add what is needed to ask a model.

    Parameters
    ----------
    name : str
        What the model is called, for errors and caches.
    folder : Path
        Where its settings are.
    config : dict
        Its ``config.json``.
    model : transformers.PreTrainedModel
        As :func:`engine.weights.load_weights` gives it.
    tokenizer : tokenizers.Tokenizer
        The folder's.
    manner : Manner
        Where it computes, and how conversations are written.

    Raises
    ------
    CheckpointError
        If the folder's settings cannot be used.
    """
    cropping = config["model_type"] == "phi3_v"
    if cropping:
        kind: type[LoadedModel] = CroppingModel
        renderer, preparation = _phi3_parts(folder, model, tokenizer, name)
    else:
        kind = TilingModel if _family(config).images != "square" else LoadedModel
        renderer = stock_renderer(folder, config, model, tokenizer, source=name, layout=manner.chat_layout)
        preparation = image_processor(folder, model.config)
    loaded = kind(
        name=name,
        model=model,
        renderer=renderer,
        image_processor=preparation,
        tokenizer=tokenizer,
        stop_ids=_stop_ids(folder, model, tokenizer, renderer),
        suppressed_ids=_suppressed_ids(model, renderer.profile, tokenizer),
        device=manner.placement.device,
        dtype=manner.placement.dtype,
        reason=manner.reason,
    )
    with understood(folder, "preprocessor_config.json"):
        _try_image(folder, loaded)
    return loaded


def _try_image(folder: Path, loaded: LoadedModel) -> None:
    """Prepare an image: settings without sense are found out now, not at the first question with one."""
    found = loaded.pixel_values(ImagePart(np.zeros((2, 3, 3), np.uint8))).shape[-2:]
    side = loaded.model.config.vision_config.image_size
    if tuple(found) != (side, side):
        reason = (
            f"preprocessor_config.json makes images of {tuple(found)} pixels, the vision tower takes {side}"
        )
        raise CheckpointError(source=folder, reason=reason)


def _family(config: dict[str, Any]) -> Family:
    return FAMILIES.get(config["model_type"], FAMILIES["llava"])  # llava_llama has become a llava


def _phi3_parts(folder: Path, model: Any, tokenizer: Any, source: str) -> tuple[PromptRenderer, Any]:
    from engine import phi3v
    from engine.crops import crop_grid, image_tokens

    with understood(folder, "preprocessor_config.json"):
        settings = phi3v.crop_settings(folder, model.config)
    patches = settings.side // model.config.vision_config.patch_size

    def image_length(image: ImagePart, _coarse: bool) -> int:  # noqa: FBT001  # the renderer's two arguments
        rows, columns, _ = image.pixels.shape
        return image_tokens(crop_grid(rows, columns, settings), patches)

    text = model.config.text_config
    profile = PromptProfile(
        image_token_id=phi3v.image_token_id(tokenizer, folder),
        image_length=image_tokens(crop_grid(1, 1, settings), patches),
        # further on, longrope takes other frequencies, and keys already computed would be wrong
        context_length=min(text.max_position_embeddings, text.original_max_position_embeddings),
        system_text="",
        layout="phi3",
    )
    return PromptRenderer(tokenizer, profile, source, image_length), settings


def _stop_ids(folder: Path, model: Any, tokenizer: Any, renderer: PromptRenderer) -> frozenset[int]:
    ids: list[Any] = [renderer.end_of_turn, *(tokenizer.token_to_id(name) for name in _STOP_TOKENS)]
    # transformers takes a file it cannot read for none, and answers would not end
    places = [read_settings(folder, "generation_config.json").get("eos_token_id")]
    configs = (getattr(model, "generation_config", None), model.config, model.config.text_config)
    places += [getattr(config, "eos_token_id", None) for config in configs]
    for configured in places:
        ids += configured if isinstance(configured, list) else [configured]
    return frozenset(number for number in ids if isinstance(number, int))


def _suppressed_ids(model: Any, profile: PromptProfile, tokenizer: Any) -> tuple[int, ...]:
    reserved = {
        number
        for name, number in tokenizer.get_vocab(with_added_tokens=True).items()
        if name.startswith(_UNUSED_TOKENS)
    }
    video = getattr(model.config, "video_token_id", None)
    rows = model.lm_head.out_features  # a tokenizer may know tokens that the model has no row for
    found = reserved | {profile.image_token_id} | ({video} if video is not None else set())
    return tuple(sorted(number for number in found if number < rows))
