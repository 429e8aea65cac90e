"""A LLaVA put together from its parts: a plain Llama, a CLIP folder, and the projector an adapter brings.

That is how LLaVA's training leaves its LoRA runs: the adapter's folder has ``config.json``, the LoRA and
the projector, and names the Llama and the vision tower it was trained on, which have folders of their own.
A ``<pad>`` row that training added to the Llama's vocabulary (128,257 rows instead of 128,256) is not
needed: it is never fed nor sampled, and an adapter that brings it is attached all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.convert import check_supported, image_token_id
from engine.errors import AdapterError, CheckpointError
from engine.weights import Placement, check_report, number_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from engine.adapter_files import AdapterFolder

__all__ = ["Parts", "assemble"]

_PROJECTOR = "model.multi_modal_projector."


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the parts are."""

    adapter: AdapterFolder
    """Brings the projector."""
    config: dict[str, Any]
    """LLaVA's ``config.json`` beside the adapter."""
    language: Path
    """Folder of the Llama."""
    tower: Path
    """Folder of the CLIP."""


def assemble(parts: Parts, tokenizer: Any, placement: Placement) -> Any:
    """Load the parts and join them.

    Returns
    -------
    transformers.LlavaForConditionalGeneration
        Without the LoRA, in evaluation mode.

    Raises
    ------
    AdapterError
        If the adapter's folder has no projector.
    UnsupportedCheckpointError, CheckpointKeysError, CheckpointError
        If its structure is not computed here, or a part's files do not fit.
    """
    import torch
    from transformers import CLIPVisionModel, LlamaForCausalLM, LlavaForConditionalGeneration

    check_supported(parts.adapter.folder, parts.config)
    language = _part(LlamaForCausalLM, parts.language, number_arguments(placement), strict=True)
    # the released CLIP is one file with the text half, and pickled; transformers reads that with weights_only
    tower = _part(CLIPVisionModel, parts.tower, {"dtype": placement.dtype}, strict=False)
    config = _config(parts, language.config, tower.config, image_token_id(tokenizer, parts.adapter.folder))
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.language_model = language.model
    model.lm_head = language.lm_head
    model.model.vision_tower = tower
    model.model.multi_modal_projector = _projector(parts.adapter, config, placement)
    model.generation_config = language.generation_config
    if placement.quantisation == "none" and not placement.split:
        model = model.to(placement.device)
    else:
        tower.to(placement.device)
        model.model.multi_modal_projector.to(placement.device)
    return model.eval()


def _part(kind: Any, folder: Path, arguments: dict[str, Any], *, strict: bool) -> Any:
    from safetensors import SafetensorError

    try:
        model, report = kind.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            use_safetensors=True if strict else None,
            trust_remote_code=False,
            **arguments,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(source=folder, reason=str(error).rstrip(".")) from error
    check_report(folder, report if strict else dict(report, unexpected_keys=()))
    return model


def _config(parts: Parts, text: Any, vision: Any, image_token: int) -> Any:
    from transformers import LlavaConfig

    whole = parts.config.get("mm_vision_select_feature", "patch") == "cls_patch"
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2 + whole,
        projector_hidden_act="gelu",
        vision_feature_layer=parts.config.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy="full" if whole else "default",
        tie_word_embeddings=False,
    )


def _projector(adapter: AdapterFolder, config: Any, placement: Placement) -> Any:
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    projector = LlavaMultiModalProjector(config)
    tensors = {key.removeprefix(_PROJECTOR): value for key, value in adapter.saved.items()}
    try:
        projector.load_state_dict(tensors)
    except RuntimeError as error:
        lines = " ".join(str(error).split())
        raise AdapterError(source=adapter.folder, reason=f"its projector does not fit: {lines}") from error
    return projector.to(placement.dtype)
