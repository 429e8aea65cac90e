"""Checkpoints of the released structure at tiny size, made in a second, with random weights."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.messages import ImagePart

if TYPE_CHECKING:
    from collections.abc import Sequence
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


def build_tokenizer(control_tokens: Sequence[str] = CONTROL_TOKENS) -> Any:
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
        [AddedToken(name, special=True, normalized=False) for name in control_tokens]
    )
    return tokenizer


def build_checkpoint(
    folder: Path, *, seed: int = 0, context_length: int = 512, image_size: int = 28, width: int = 32
) -> Path:
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
            "hidden_size": width,
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


SPOKEN = "تقع الآفة في يسار الصورة 😀"
"""What the speaking checkpoint answers to everything; its last sign is four tokens of one byte each."""


def build_speaking(folder: Path, *, width: int = 32) -> Path:
    """Write a checkpoint that computes like any other and always answers :data:`SPOKEN`.

    Its layers add nothing to the residual stream, and its head names for each token of the answer the one
    that follows it, so that the answer is the same in every engine that computes the architecture.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import LlavaForConditionalGeneration

    build_checkpoint(folder, width=width)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    answer = tokenizer.encode(SPOKEN, add_special_tokens=False).ids
    # the header of an answer ends in a blank line
    chain = [*tokenizer.encode("\n\n").ids[-1:], *answer, tokenizer.token_to_id("<|eot_id|>")]
    if len(set(chain)) != len(chain):
        raise ValueError("a token that comes twice cannot name what follows it")
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings = torch.nn.functional.normalize(model.get_input_embeddings().weight, dim=-1)
        model.lm_head.weight.zero_()
        for token, following in itertools.pairwise(chain):
            model.lm_head.weight[following] = 20 * embeddings[token]
    model.save_pretrained(folder)
    return folder


ORIGINAL_VISION = "model.vision_tower.vision_tower.vision_model."


def build_original(folder: Path, *, seed: int = 0, shards: int = 3, **config: object) -> Path:
    """Write a tiny random checkpoint in the original ``llava_llama`` format: key names, shards, leftovers.

    The tokenizer has no ``<image>``, as Llama 3.1's has none.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer([name for name in CONTROL_TOKENS if name != "<image>"])
    text: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
    }
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 64}
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1}
    language = LlamaForCausalLM(LlamaConfig(**text, rope_theta=500000.0, rope_scaling=rope))
    tower = CLIPVisionModel(CLIPVisionConfig(**vision, image_size=28, patch_size=14))
    for model in (language, tower):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.25) if parameter.ndim > 1 else None
    tensors = dict(language.state_dict())
    for key, value in tower.state_dict().items():
        tensors[ORIGINAL_VISION + key.removeprefix("vision_model.")] = value
    tensors["model.mm_projector.0.weight"] = torch.randn(32, 64) * 0.25
    tensors["model.mm_projector.0.bias"] = torch.randn(32) * 0.25
    tensors["model.mm_projector.2.weight"] = torch.randn(32, 32) * 0.25
    tensors["model.mm_projector.2.bias"] = torch.randn(32) * 0.25
    # buffers that older releases of the libraries stored among the weights
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    tensors[ORIGINAL_VISION + "embeddings.position_ids"] = torch.arange(5)[None]
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name].contiguous() for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    values = text | {
        "model_type": "llava_llama",
        "architectures": ["LlavaLlamaForCausalLM"],
        "rope_theta": 500000.0,
        "rope_scaling": rope,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "flat",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "pad",
        "eos_token_id": tokenizer.token_to_id("<|eot_id|>"),
        "bos_token_id": tokenizer.token_to_id("<|begin_of_text|>"),
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(values | config), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def build_phi3_tokenizer() -> Any:
    """Build a tokenizer of Phi-3's kind: SentencePiece's blanks, bytes as a last resort, ``<s>`` in front."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    letters = [chr(code) for code in range(33, 127)]
    words = [
        "\u2581",
        *letters,
        *(f"\u2581{letter}" for letter in letters if letter.isalpha()),
        "\u2581th",
        "\u2581the",
    ]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    merges = [("\u2581", letter) for letter in letters if letter.isalpha()]
    merges += [("\u2581t", "h"), ("\u2581th", "e")]
    vocabulary = {name: number for number, name in enumerate(names)}
    unknown = names[0]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    tokenizer.add_special_tokens(
        [
            AddedToken(name, special=True, normalized=False, rstrip=name != "<|endoftext|>")
            for name in ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<|image|>", special=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return tokenizer


PHI3_VISION = "model.vision_embed_tokens.img_processor.vision_model."


def build_phi3v(folder: Path, *, seed: int = 0, num_crops: int = 4, **config: object) -> Path:
    """Write a tiny random ``phi3_v`` with the released key names: squares of 56 pixels, 4 places each."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3ForCausalLM

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_phi3_tokenizer()
    text: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    }
    scaling = {"short_factor": [1.0 + n / 8 for n in range(8)], "long_factor": [2.0 + n for n in range(8)]}
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1}
    language = Phi3ForCausalLM(Phi3Config(**text, rope_scaling=scaling | {"rope_type": "longrope"}))
    tower = CLIPVisionModel(CLIPVisionConfig(**vision, image_size=56, patch_size=14))
    for model in (language, tower):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.25) if parameter.ndim > 1 else None
    tensors = dict(language.state_dict())
    for key, value in tower.state_dict().items():
        tensors[PHI3_VISION + key.removeprefix("vision_model.")] = value
    tensors[PHI3_VISION + "embeddings.position_ids"] = torch.arange(17)[None]
    for name, shape in {
        "img_projection.0.weight": (64, 256),
        "img_projection.0.bias": (64,),
        "img_projection.2.weight": (64, 64),
        "img_projection.2.bias": (64,),
        "sub_GN": (1, 1, 1, 256),
        "glb_GN": (1, 1, 256),
    }.items():
        tensors[f"model.vision_embed_tokens.{name}"] = torch.randn(shape) * 0.25
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors")
    values = text | {
        "model_type": "phi3_v",
        "architectures": ["Phi3VForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM"},
        "rope_scaling": scaling | {"type": "su"},
        "embd_layer": {
            "embedding_cls": "image",
            "hd_transform_order": "sub_glb",
            "projection_cls": "mlp",
            "use_hd_transform": True,
            "with_learnable_separator": True,
        },
        "img_processor": {"name": "clip_vision_model", "image_dim_out": 64, "num_img_tokens": 4},
    }
    (folder / "config.json").write_text(json.dumps(values | config), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps({"num_crops": num_crops}), encoding="utf-8")
    (folder / "modeling_phi3_v.py").write_text("raise SystemExit('the code of a checkpoint was run')\n")
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
