"""Adapters (LoRA) as they lie in folders, read into the loaded model's names.

Two layouts of a folder are read: peft's own (``adapter_config.json`` with ``adapter_model.safetensors``),
and LLaVA's (``adapter_model.bin`` with the projector in ``non_lora_trainables.bin``). Pickled files are
read with ``weights_only=True``, which builds tensors and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.convert import rename
from engine.errors import AdapterError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["LANGUAGE_TARGETS", "AdapterFolder", "is_adapter", "read_adapter"]

LANGUAGE_TARGETS = (
    r".*\.language_model\.layers\.\d+\.(self_attn\.(q|k|v|o|qkv)_proj|mlp\.(gate|up|down|gate_up)_proj)"
)
"""Layers that may carry an adapter, as the regular expression peft takes: none of the vision tower's."""
_PROJECTOR = "model.multi_modal_projector"
_CONFIG = "adapter_config.json"
VOCABULARY = ("model.language_model.embed_tokens.weight", "lm_head.weight")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (folder / _CONFIG).is_file()


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """An adapter as it was read, with its tensors under the loaded model's names."""

    folder: Path
    base: str
    """The model it was made for, as its config says; may be empty."""
    config: dict[str, Any]
    lora: dict[str, torch.Tensor]
    """``model.language_model.layers.0.self_attn.q_proj.lora_A.weight`` and so on."""
    saved: dict[str, torch.Tensor]
    """Whole layers that were trained along: the projector."""
    digest: str
    """SHA-256 of the weight files."""
    vocabulary: dict[str, torch.Tensor] = field(default_factory=dict)
    """Embedding and output layer, which peft writes along when training added a token such as ``<pad>``."""


def read_adapter(folder: Path) -> AdapterFolder:
    """Read an adapter's folder, in peft's or in LLaVA's layout.

    Raises
    ------
    AdapterError
        If files are missing, unreadable, or hold adapters of other layers than the language model's.
    """
    config = _read_config(folder)
    files = [
        folder / name
        for name in ("adapter_model.safetensors", "adapter_model.bin", "non_lora_trainables.bin")
        if (folder / name).is_file()
    ]
    if not files or files[0].name.startswith("non_lora"):
        raise AdapterError(source=folder, reason="there is neither adapter_model.safetensors nor .bin")
    if files[0].suffix == ".safetensors":
        files = [file for file in files if file.name != "adapter_model.bin"]
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        tensors |= {_own_name(key): value for key, value in _read_tensors(file).items()}
    lora = {key: value for key, value in tensors.items() if ".lora_" in key}
    vocabulary = {key: tensors.pop(key) for key in VOCABULARY if key in tensors}
    saved = {key: value for key, value in tensors.items() if ".lora_" not in key}
    strange = [key for key in lora if not re.fullmatch(LANGUAGE_TARGETS + r"\.lora_[AB]\.weight", key)]
    strange += [key for key in saved if not key.startswith(_PROJECTOR)]
    if strange or not lora:
        names = ", ".join(strange[:3]) or "none"
        reason = f"expected tensors of the language model's linear layers and the projector, found {names}"
        raise AdapterError(source=folder, reason=reason)
    digest = hashlib.sha256(b"".join(_digest(file) for file in [folder / _CONFIG, *files])).hexdigest()
    kept = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
    values = {name: config[name] for name in kept if config.get(name) is not None}
    base = str(config.get("base_model_name_or_path") or "")
    return AdapterFolder(folder, base, values, lora, saved, digest, vocabulary)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(source=folder, reason=f"{_CONFIG} cannot be read: {error}") from error
    if config.get("peft_type") != "LORA":
        raise AdapterError(source=folder, reason=f"found {config.get('peft_type')!r}, expected 'LORA'")
    if config.get("use_dora"):
        raise AdapterError(source=folder, reason="found DoRA, expected plain LoRA")
    return config


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise AdapterError(source=file.parent, reason=f"{file.name} cannot be read: {first}") from error


def _own_name(key: str) -> str:
    """Name of an adapter's tensor in the loaded model, from peft's, LLaVA's or an older transformers'."""
    key = key.removeprefix("base_model.").removeprefix("model.") if key.startswith("base_model.") else key
    key = key.removeprefix("model.") if key.startswith("model.model.") else key
    key = re.sub(r"\.lora_([AB])\.[^.]+\.weight$", r".lora_\1.weight", key)
    key = re.sub(r"^language_model\.model\.", "model.language_model.", key)
    key = re.sub(r"^multi_modal_projector\.", f"{_PROJECTOR}.", key)
    return rename(key)


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
