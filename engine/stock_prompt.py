"""How conversations are written for a folder: as BiMediX2 was trained, or as its own chat template says.

A template counts if it knows images. Llama 3's own, which most folders of its relatives carry along, does
not: there BiMediX2's training is followed, see :mod:`engine.prompt`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.chat_files import chosen_template, template_names
from engine.errors import MissingTokenizerError, UnsupportedCheckpointError
from engine.families import FAMILIES, image_length
from engine.layouts import CONTROL_TOKENS
from engine.messages import ImagePart, Message
from engine.prompt import PromptProfile, PromptRenderer

if TYPE_CHECKING:
    from pathlib import Path

    from engine.template import ChatTemplate

__all__ = ["bos_count", "stock_renderer"]

_BOS_COUNT = {"llava": 1, "llava_llama": 2}
"""Copies of ``<|begin_of_text|>``: upstream trained the original checkpoints with 2, see
:class:`engine.prompt.PromptProfile`."""


def bos_count(config: dict[str, Any]) -> int:
    """Return how many ``<|begin_of_text|>`` the checkpoint expects; a converted one says it itself."""
    return int(config.get("bos_count", _BOS_COUNT.get(config["model_type"], 1)))


def stock_renderer(
    folder: Path, config: dict[str, Any], model: Any, tokenizer: Any, *, source: str, layout: str
) -> PromptRenderer:
    """Make what writes conversations for a LLaVA of transformers.

    Parameters
    ----------
    folder : Path
        The checkpoint.
    config : dict
        Its ``config.json``.
    model : transformers.PreTrainedModel
        As it was loaded.
    tokenizer : tokenizers.Tokenizer
        The folder's.
    source : str
        Named in errors.
    layout : str
        See :attr:`engine.checkpoint.LoadOptions.chat_layout`.

    Raises
    ------
    MissingTokenizerError
        If the tokenizer has no token that stands for an image.
    UnsupportedCheckpointError
        If the folder does not say how conversations are written, or says it in a way that cannot be used.
    """
    length = image_length(model)
    text = model.config.text_config
    profile = PromptProfile(
        image_token_id=model.config.image_token_id,
        image_length=length(_trial_image(), False),  # noqa: FBT003  # two arguments without names
        # further on, longrope takes other frequencies, and keys already computed would be wrong
        context_length=min(
            text.max_position_embeddings, getattr(text, "original_max_position_embeddings", None) or 1 << 40
        ),
        bos_count=bos_count(config),
        coarse_among_others=FAMILIES[model.config.model_type].images == "tiles_alone",
    )
    has_llama3 = all(tokenizer.token_to_id(name) is not None for name in CONTROL_TOKENS["llama3"])
    upstream = PromptRenderer(tokenizer, profile, source, length) if has_llama3 else None
    if config["model_type"] == "llava_llama" and layout == "auto" and upstream is not None:
        return upstream
    image_token = _image_token(tokenizer, profile, source)
    template = None if layout == "llama3" else chosen_template(folder, layout, image_token, tokenizer)
    if template is not None and not (
        upstream is not None and layout == "auto" and not template.writes_images
    ):
        theirs = _following(template, folder, profile, tokenizer, source=source, length=length)
        return upstream if upstream is not None and _write_alike(upstream, theirs) else theirs
    if upstream is None:
        raise UnsupportedCheckpointError(
            source=source,
            found="no chat template, and a tokenizer without the control tokens of Llama 3 or ChatML",
            expected="chat_template.jinja in the folder, or the chat layout vicuna, llama2 or chatml",
        )
    return upstream


def _trial_image() -> ImagePart:
    return ImagePart(np.zeros((1, 1, 3), np.uint8))


def _write_alike(ours: PromptRenderer, theirs: PromptRenderer) -> bool:
    """Whether a template is BiMediX2's layout in other words; then the words are not needed."""
    asked = Message.of("user", _trial_image(), "a")
    trials = (
        [asked, Message.of("assistant", "b"), Message.of("user", "c")],
        [Message.of("system", "d"), asked],
    )
    return all(ours.render(trial).ids == theirs.render(trial).ids for trial in trials)


def _image_token(tokenizer: Any, profile: PromptProfile, source: str) -> str:
    added = tokenizer.get_added_tokens_decoder().get(profile.image_token_id)
    if added is None:
        reason = (
            f"it has no added token of the id {profile.image_token_id}, which config.json gives to images"
        )
        raise MissingTokenizerError(source=source, reason=reason)
    return str(added.content)


def _following(
    template: ChatTemplate, folder: Path, profile: PromptProfile, tokenizer: Any, *, source: str, length: Any
) -> PromptRenderer:
    drafted = replace(profile, layout="template", template=template, end_of_turn_id=-1)
    renderer = PromptRenderer(tokenizer, drafted, source, length)
    if renderer.controls is None:
        raise ValueError("a template needs control tokens")
    end = template.end_of_turn(renderer.controls)
    if end is None:
        end = tokenizer.token_to_id(template_names(folder).get("eos_token", "</s>"))
    if end is None:
        reason = "it has no token that ends an answer (eos_token in tokenizer_config.json)"
        raise MissingTokenizerError(source=source, reason=reason)
    renderer.profile = replace(drafted, end_of_turn_id=end)
    return renderer
