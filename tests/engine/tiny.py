"""Checkpoints of the released structure at tiny size, made in a second, with random weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.messages import ImagePart

if TYPE_CHECKING:
    from pathlib import Path

CONTROL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<image>",
)
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SENTENCES = (
    "A chat between a curious user and an artificial intelligence assistant.",
    "Which side is the lesion on? The lesion is on the left side of the image.",
    "في أي جهة تقع الآفة؟ تقع الآفة في يسار الصورة.",
    "system user assistant\n\n",
)


def build_tokenizer() -> Any:
    """Build a byte-level BPE with Llama 3's split and control tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in CONTROL_TOKENS]
    )
    return tokenizer


def build_checkpoint(folder: Path, *, seed: int = 0, context_length: int = 512, image_size: int = 28) -> Path:
    """Write a tiny random LLaVA with 4 image tokens; returns the folder."""
    import torch
    from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": image_size,
            "patch_size": 14,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": context_length,
            "rope_theta": 500000.0,
        },
        image_token_id=tokenizer.token_to_id("<image>"),
        image_seq_length=(image_size // 14) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        # wider than a fresh initialisation, so that greedy choices have clear winners
        torch.nn.init.normal_(parameter, std=0.25) if parameter.ndim > 1 else None
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.token_to_id("<|eot_id|>"))
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def random_image(seed: int, rows: int = 28, columns: int = 28) -> ImagePart:
    """Make an image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    return ImagePart(pixels)


def rewrite_config(folder: Path, **changes: object) -> None:
    """Change fields of a checkpoint's config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(changes)
    path.write_text(json.dumps(config), encoding="utf-8")
