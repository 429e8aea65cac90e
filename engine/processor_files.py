r"""Tokenizer, chat template and image processor as files that ``AutoProcessor`` opens.

The released original checkpoints have none of the processor's files, and their tokenizer has no
``<image>``: an unused reserved token is renamed to it, so that no row is added to the embedding.

The chat template is the one :mod:`engine.prompt` computes, written once more in Jinja for programs that
know nothing else; a test holds the two equal.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from engine.errors import MissingTokenizerError
from engine.prompt import SYSTEM_TEXT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["chat_template", "renamed_tokenizer", "write_processor"]

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3
"""PIL's number of the bicubic filter."""


def chat_template(bos_count: int) -> str:
    """Llama 3's layout as LLaVA uses it, in Jinja: images at the head of the message that brings them."""
    system = json.dumps(SYSTEM_TEXT)
    return (
        "{{- '<|begin_of_text|>' * " + str(bos_count) + " -}}"
        "{%- if messages[0]['role'] != 'system' -%}"
        "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + " + system + " + '<|eot_id|>' -}}"
        "{%- endif -%}"
        "{%- for message in messages -%}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}"
        "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
        "{%- for part in message['content'] -%}"
        "{%- if part['type'] in ('image', 'image_url') -%}{{- '<image>\\n' -}}{%- endif -%}"
        "{%- endfor -%}"
        "{%- for part in message['content'] -%}"
        "{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
        "{%- endfor -%}"
        "{%- endif -%}"
        "{{- '<|eot_id|>' -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}"
        "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}"
        "{%- endif -%}"
    )


def renamed_tokenizer(tokenizer: dict[str, Any], image_token: int) -> dict[str, Any]:
    """Return a ``tokenizer.json`` in which the token of this id is called ``<image>``.

    Raises
    ------
    MissingTokenizerError
        If that token is none of the added ones.
    """
    renamed: dict[str, Any] = json.loads(json.dumps(tokenizer))
    for entry in renamed["added_tokens"]:
        if entry["id"] == image_token:
            vocabulary = renamed["model"].get("vocab")
            if isinstance(vocabulary, dict) and entry["content"] in vocabulary:
                vocabulary["<image>"] = vocabulary.pop(entry["content"])
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            entry.update(content="<image>", special=True, **flags)
            return renamed
    reason = f"the token {image_token} that stands for an image is not among its added tokens"
    raise MissingTokenizerError(source="tokenizer.json", reason=reason)


def write_processor(
    source: Path, folder: Path, config: dict[str, Any], tokenizer: dict[str, Any], image_token: int
) -> None:
    """Write ``tokenizer*``, ``chat_template.jinja``, ``preprocessor_config`` and ``processor_config``."""
    renamed = renamed_tokenizer(tokenizer, image_token)
    _write(folder / "tokenizer.json", renamed)
    names = {entry["content"] for entry in renamed["added_tokens"]}
    pad = next((name for name in ("<pad>", "<|finetune_right_pad_id|>") if name in names), "<|eot_id|>")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": pad,
        "image_token": "<image>",
        "extra_special_tokens": {"image_token": "<image>"},
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": config["text_config"].get("max_position_embeddings", 131072),
        "processor_class": "LlavaProcessor",
    }
    _write(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(chat_template(config["bos_count"]), encoding="utf-8")
    saved = source / "preprocessor_config.json"
    if saved.is_file():
        shutil.copyfile(saved, folder / saved.name)
    else:
        _write(folder / saved.name, _image_settings(config["vision_config"]["image_size"]))
    _write(folder / "processor_config.json", _processor_settings(config))


def _image_settings(side: int) -> dict[str, Any]:
    return {
        "image_processor_type": "LlavaImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_pad": True,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "resample": _BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(_CLIP_MEAN),
        "image_std": list(_CLIP_STD),
    }


def _processor_settings(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": config["vision_config"]["patch_size"],
        "vision_feature_select_strategy": config["vision_feature_select_strategy"],
        "num_additional_image_tokens": 1,  # the class token, which the processor subtracts again
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
