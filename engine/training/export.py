"""A trained model as the folder the product, transformers and vLLM open.

Weights are bfloat16 safetensors under the classic names (``language_model.model.*``,
``vision_tower.vision_model.*``), which vLLM expects and transformers renames while loading.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from engine.prompt import SYSTEM_TEXT
from engine.training.pictures import IMAGE_SIDE, PATCH
from engine.training.vocabulary import BEGIN, END_OF_TURN, IMAGE, PAD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from tokenizers import Tokenizer

__all__ = ["CLASSIC_NAMES", "classic_name", "export_model"]

CLASSIC_NAMES = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.vision_tower\.", "vision_tower.vision_model."),
    (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
)
"""transformers 5 key (regular expression) to the name in the file."""
_CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- if messages[0]['role'] != 'system' %}{{- '<|start_header_id|>system<|end_header_id|>\n\n"
    + SYSTEM_TEXT.replace("'", "\\'")
    + "<|eot_id|>' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'image' %}{{- '<image>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'text' %}{{- part['text'] }}"
    "{%- endif %}{%- endfor %}"
    "{%- endif %}{{- '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
"""For other programs that read this folder; the product writes conversations with ``engine.prompt``."""


def classic_name(key: str) -> str:
    """Return the name in the file for a key of the running model."""
    for pattern, replacement in CLASSIC_NAMES:
        new, count = re.subn(pattern, replacement, key)
        if count:
            return new
    return key


def _processor_config() -> dict[str, Any]:
    image = {
        "image_processor_type": "LlavaImageProcessorPil",
        "do_pad": True,
        "size": {"shortest_edge": IMAGE_SIDE},
        "crop_size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    return {
        "processor_class": "LlavaProcessor",
        "image_token": IMAGE,
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "image_processor": image,
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export_model(state: Mapping[str, torch.Tensor], config: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the whole folder except the model card and the evaluation.

    Parameters
    ----------
    state : mapping of str to tensor
        ``LlavaForConditionalGeneration.state_dict()``.
    config : LlavaConfig
        Its structure.
    tokenizer : tokenizers.Tokenizer
        With the control tokens.
    folder : Path
        Made if missing; files of the same names are replaced.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        classic_name(key): value.detach().to(torch.bfloat16).contiguous() for key, value in state.items()
    }
    unfinished = folder / "model.safetensors.part"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(folder / "model.safetensors")
    described = config.to_dict()
    described.update(architectures=["LlavaForConditionalGeneration"], dtype="bfloat16")
    _write(folder / "config.json", described)
    ids = {
        name: tokenizer.token_to_id(token)
        for name, token in (("bos_token_id", BEGIN), ("eos_token_id", END_OF_TURN), ("pad_token_id", PAD))
    }
    _write(folder / "generation_config.json", {**ids, "do_sample": False, "max_new_tokens": 256})
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END_OF_TURN,
            "pad_token": PAD,
            "image_token": IMAGE,
            "extra_special_tokens": {"image_token": IMAGE},
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": 2048,
            "chat_template": _CHAT_TEMPLATE,
            "processor_class": "LlavaProcessor",
        },
    )
    processor = _processor_config()
    _write(folder / "processor_config.json", processor)
    _write(folder / "preprocessor_config.json", processor["image_processor"])
    (folder / "chat_template.jinja").write_text(_CHAT_TEMPLATE, encoding="utf-8")
