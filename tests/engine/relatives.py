"""Tiny random checkpoints of LLaVA's relatives, as transformers itself writes them: model and processor."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.families import FAMILIES
from tests.engine.tiny import LLAMA3_SPLIT, SENTENCES, build_phi3_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

_IMAGES = (
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
)
_TEXTS = (
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] }}{% endfor %}"
)
_ANSWER = (
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ part['text'] }}{% endgeneration %}{% endfor %}"
)
VICUNA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': ' }}{% endif %}" + _IMAGES + "{% if message['role'] != 'assistant' %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] + ' ' }}{% endfor %}{% else %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ part['text'] + ' ' }}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""LLaVA 1.5's: no control token between the turns."""
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    + _IMAGES + _TEXTS + "{{ ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' }}" + _ANSWER
    + "{{ eos_token }}{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)  # fmt: skip
"""LLaVA-NeXT's on Mistral: no system message."""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}" + _IMAGES + "{{ '\n' }}"
    + _TEXTS + "{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)  # fmt: skip
"""LLaVA-OneVision's."""
HUMAN = (
    "{% for message in messages %}{{ '###Human: ' if message['role'] == 'user' else '###Assistant: ' }}"
    + _IMAGES + "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] | trim }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '###Assistant:' }}{% endif %}"
)  # fmt: skip
"""ViP-LLaVA's."""


@dataclass(frozen=True, slots=True)
class Relative:
    """What a folder is made of."""

    family: str
    text: str = "llama"
    tokenizer: str = "sentences"
    """``sentences``: of SentencePiece's kind; ``bytes``: Qwen's kind."""
    template: str = VICUNA
    vision: str = "clip_vision_model"
    settings: dict[str, Any] = field(default_factory=dict)
    tokenizer_class: str = ""
    """Class that ``tokenizer_config.json`` names; empty: the one that takes the file as it is."""


RELATIVES = {
    "llava, Llama 2": Relative("llava"),
    "llava, Llama 2 by its class": Relative("llava", tokenizer_class="LlamaTokenizer"),
    "llava, Mistral": Relative("llava", "mistral", template=MISTRAL),
    "llava, Qwen 2 and SigLIP": Relative(
        "llava", "qwen2", "bytes", CHATML, "siglip_vision_model",
        {"vision_feature_select_strategy": "full", "vision_feature_layer": -1},
    ),
    "llava, Qwen 3": Relative("llava", "qwen3", "bytes", CHATML),
    "llava, Gemma": Relative("llava", "gemma", template=HUMAN),
    "llava, Phi-3": Relative("llava", "phi3", template=HUMAN),
    "vipllava": Relative("vipllava", template=HUMAN, settings={"vision_feature_layers": [-2, 1]}),
    "llava_next, Mistral": Relative("llava_next", "mistral", template=MISTRAL),
    "llava_next, Llama 2": Relative("llava_next"),
    "llava_next_video": Relative("llava_next_video"),
    "llava_onevision": Relative(
        "llava_onevision", "qwen2", "bytes", CHATML, "siglip_vision_model",
        {"vision_feature_layer": -1, "vision_aspect_ratio": "anyres_max_9"},
    ),
    "video_llava": Relative("video_llava"),
}  # fmt: skip
VIDEO_PROCESSOR = ("llava_onevision", "video_llava")
"""Families whose processor wants torchvision for videos; tokenizer and image processor lie in the folder."""
_SIDE, _PATCH = 28, 7
_GRID = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]


def build_relative(folder: Path, relative: Relative, *, seed: int = 0) -> Path:
    """Write a checkpoint of a family with its processor; returns the folder."""
    import torch
    import transformers
    from transformers import CONFIG_MAPPING, GenerationConfig

    torch.manual_seed(seed)
    tokenizer = _tokenizer(relative)
    config = CONFIG_MAPPING[relative.family](
        text_config=_text(relative.text, len(tokenizer)),
        vision_config=_vision(relative.vision),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        **_own_settings(relative, tokenizer),
    )
    model = getattr(transformers, FAMILIES[relative.family].model)(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    model.save_pretrained(folder)
    _write_processor(folder, relative, config, tokenizer)
    if relative.tokenizer_class:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        settings["tokenizer_class"] = relative.tokenizer_class
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _own_settings(relative: Relative, tokenizer: Any) -> dict[str, Any]:
    settings = dict(relative.settings)
    if relative.family in ("llava_next", "llava_next_video", "llava_onevision"):
        settings["image_grid_pinpoints"] = _GRID
    if relative.family in ("llava_next_video", "video_llava", "llava_onevision"):
        settings["video_token_index"] = tokenizer.convert_tokens_to_ids("<video>")
    return settings


def _text(kind: str, vocabulary: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "max_position_embeddings": 1024,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if kind == "mistral":
        settings["sliding_window"] = 24
    if kind in ("gemma", "qwen3"):
        settings["head_dim"] = 8
    if kind == "phi3":
        settings["original_max_position_embeddings"] = 1024
    return settings


def _vision(kind: str) -> dict[str, Any]:
    settings = {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": _SIDE,
        "patch_size": _PATCH,
    }
    return settings | ({"vision_use_head": False} if kind.startswith("siglip") else {})


def _tokenizer(relative: Relative) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if relative.tokenizer == "sentences":
        made = build_phi3_tokenizer()
    else:
        made = _bytes()
        ends = {"eos_token": "<|im_end|>"}
    made.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in ("<image>", "<video>")]
    )
    extra = {"image_token": "<image>", "video_token": "<video>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, extra_special_tokens=extra, **ends)


def _bytes() -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def _write_processor(folder: Path, relative: Relative, config: Any, tokenizer: Any) -> None:
    import transformers

    square = {"height": _SIDE, "width": _SIDE}
    clip = relative.vision.startswith("clip")
    settings: dict[str, Any] = (
        {"size": {"shortest_edge": _SIDE}, "crop_size": square} if clip else {"size": square}
    )
    kind = FAMILIES[relative.family]
    if kind.images != "square":
        settings["image_grid_pinpoints"] = _GRID
    elif relative.family != "video_llava":
        settings |= {"do_pad": True} if clip else {}
    name = kind.processor if clip or kind.images != "square" else "SiglipImageProcessorPil"
    images = getattr(transformers, name)(**settings)
    tokenizer.chat_template = relative.template
    if relative.family in VIDEO_PROCESSOR:
        tokenizer.save_pretrained(folder)
        images.save_pretrained(folder)
        return
    next_one = kind.images == "tiles"
    processor = transformers.LlavaNextProcessor if next_one else transformers.LlavaProcessor
    processor(
        image_processor=images,
        tokenizer=tokenizer,
        chat_template=relative.template,
        patch_size=_PATCH,
        num_additional_image_tokens=int(clip),
        vision_feature_select_strategy=getattr(config, "vision_feature_select_strategy", "default"),
    ).save_pretrained(folder)


def without_template(folder: Path) -> Path:
    """Take the chat template out of a folder."""
    (folder / "chat_template.jinja").unlink()
    for name in ("tokenizer_config.json", "processor_config.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            content.pop("chat_template", None)
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder
