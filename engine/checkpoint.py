"""A checkpoint's folder or Hub id becomes a model that is ready to answer.

What to do is decided from ``config.json`` alone, never from a path's name. Loading is strict: a missing,
unexpected or mismatched tensor is an error with the list. Code of the checkpoint is never run and pickle
weights are never read.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.convert import RENAMES, image_token_id, llava_config
from engine.errors import (
    CheckpointError,
    CheckpointKeysError,
    CheckpointNotFoundError,
    MissingTokenizerError,
    UnsupportedCheckpointError,
)
from engine.prompt import PromptProfile, PromptRenderer

if TYPE_CHECKING:
    import torch

    from engine.messages import ImagePart

__all__ = [
    "LoadOptions",
    "LoadedModel",
    "bos_count",
    "choose_device",
    "choose_dtype",
    "load",
    "load_tokenizer",
    "read_config",
]

_LOG = logging.getLogger("bimedix2.engine")
_BOS_COUNT = {"llava": 1, "llava_llama": 2}
"""Kinds of ``config.json`` that are opened, with their copies of ``<|begin_of_text|>``: upstream trained the
original ones with 2, see :class:`engine.prompt.PromptProfile`."""
_STOP_TOKENS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
"""Llama 3.1 ends a turn with any of these; the original configs name only the last."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    dtype: str = "auto"
    """``auto``, ``float32``, ``bfloat16`` or ``float16``."""
    threads: int = 0
    """CPU threads; 0 leaves torch's own choice. torch keeps one number for the whole process."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with everything needed to ask it."""

    name: str
    """Folder name or Hub id; also the first part of every cache key."""
    model: Any
    """``transformers.LlavaForConditionalGeneration``, in evaluation mode."""
    renderer: PromptRenderer
    image_processor: Any
    """``LlavaImageProcessorPil``: pads to a square with the mean colour, resizes, normalises."""
    tokenizer: Any
    """``tokenizers.Tokenizer``."""
    stop_ids: frozenset[int]
    suppressed_ids: tuple[int, ...]
    """Never sampled: the image token and unused reserved ones."""
    device: torch.device
    dtype: torch.dtype
    reason: str
    """Why this device and precision, in one English sentence."""

    def pixel_values(self, image: ImagePart) -> torch.Tensor:
        """Prepare an image for the vision tower.

        Returns
        -------
        tensor, shape (1, 3, height, width)
            Padded to a square, resized bicubically, normalised, on the model's device in its dtype.
        """
        from PIL import Image

        batch = self.image_processor(images=Image.fromarray(image.pixels), return_tensors="pt")
        values: torch.Tensor = batch["pixel_values"].to(self.device, self.dtype)
        return values


def load(source: str | Path, options: LoadOptions | None = None) -> LoadedModel:
    """Open a checkpoint.

    Parameters
    ----------
    source : str or Path
        A folder with ``config.json``, or the id of a checkpoint that the Hub's local cache holds.
    options : LoadOptions, optional
        Device, precision and threads.

    Raises
    ------
    CheckpointNotFoundError
        If neither exists.
    UnsupportedCheckpointError
        If ``config.json`` names a structure this engine does not compute.
    CheckpointKeysError
        If the tensors do not fit it.
    MissingTokenizerError
        If there is no usable ``tokenizer.json``.
    """
    options = options or LoadOptions()
    folder = _folder_of(source)
    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in _BOS_COUNT:
        expected = " or ".join(map(repr, _BOS_COUNT))
        raise UnsupportedCheckpointError(source=source, found=f"model_type {kind!r}", expected=expected)

    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    device, device_reason = choose_device(options.device)
    dtype, dtype_reason = choose_dtype(options.dtype, device)
    tokenizer = load_tokenizer(folder)
    model = _load_weights(folder, config, tokenizer, dtype).to(device).eval()
    profile = _profile(model.config, bos_count(config))
    renderer = PromptRenderer(tokenizer, profile, str(source))
    return LoadedModel(
        name=str(source),
        model=model,
        renderer=renderer,
        image_processor=_image_processor(folder, model.config),
        tokenizer=tokenizer,
        stop_ids=_stop_ids(model, tokenizer),
        suppressed_ids=_suppressed_ids(profile, tokenizer),
        device=device,
        dtype=dtype,
        reason=f"{device_reason}; {dtype_reason}",
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a folder.

    Raises
    ------
    CheckpointNotFoundError
        If the folder has none.
    CheckpointError
        If it is not JSON.
    """
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(source=folder) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(source=folder, reason=f"config.json cannot be read: {error}") from error
    return config


def choose_device(wish: str = "auto") -> tuple[torch.device, str]:
    """Choose where to compute, and say why.

    Raises
    ------
    CheckpointError
        If CUDA was asked for and is not there.
    """
    import torch

    if wish == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"{torch.cuda.get_device_name(0)} found"
        return torch.device("cpu"), "no GPU found: computing on the CPU"
    device = torch.device(wish)
    if device.type == "cuda" and not torch.cuda.is_available():
        reason = f"the device {wish} was asked for, but torch finds no CUDA; choose auto or cpu"
        raise CheckpointError(source=wish, reason=reason)
    return device, f"{wish} was asked for"


def choose_dtype(wish: str, device: torch.device) -> tuple[torch.dtype, str]:
    """Choose the precision, and say why.

    Notes
    -----
    A CPU without bfloat16 instructions multiplies bfloat16 matrices several times slower than float32
    ones, so float32 is the choice there although it takes twice the memory.
    """
    import torch

    if wish != "auto":
        return getattr(torch, wish), f"{wish} was asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "bfloat16, which the GPU computes natively"
        return torch.float16, "float16, because the GPU has no bfloat16"
    if _cpu_has_bfloat16():
        return torch.bfloat16, "bfloat16, which this CPU computes natively"
    return torch.float32, "float32, because this CPU has no bfloat16 instructions"


def _cpu_has_bfloat16() -> bool:
    import torch

    # private names: where a torch release lacks them, float32 is the safe answer
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        probe = getattr(torch.cpu, name, None)
        if probe is not None and probe():
            return True
    return False


def _folder_of(source: str | Path) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(source, local_files_only=True))
        except LocalEntryNotFoundError as error:
            raise CheckpointNotFoundError(source=source) from error
    raise CheckpointNotFoundError(source=source)


def _load_weights(folder: Path, config: dict[str, Any], tokenizer: Any, dtype: torch.dtype) -> Any:
    """Load strictly, memory-mapped; original checkpoints through the rename table."""
    from safetensors import SafetensorError
    from transformers import LlavaForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # it would write into the answer on a terminal
    original: dict[str, Any] = {}
    if config["model_type"] == "llava_llama":
        mapped = llava_config(folder, config, image_token_id(tokenizer, folder))
        original = {"config": mapped, "key_mapping": dict(RENAMES)}
    try:
        model, report = LlavaForConditionalGeneration.from_pretrained(
            folder,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below with the others, by name
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **original,
        )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(source=folder, reason=str(error).rstrip(".")) from error
    missing, unexpected, mismatched = (
        sorted(map(str, report.get(kind, ())))
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    )
    if missing or unexpected or mismatched:
        raise CheckpointKeysError(
            source=folder,
            missing=len(missing),
            unexpected=len(unexpected),
            mismatched=len(mismatched),
            names=", ".join((missing + unexpected + mismatched)[:8]),
        )
    return model


def bos_count(config: dict[str, Any]) -> int:
    """Copies of ``<|begin_of_text|>`` the checkpoint was trained with; a converted one says it itself."""
    return int(config.get("bos_count", _BOS_COUNT[config["model_type"]]))


def load_tokenizer(folder: Path) -> Any:
    """Read ``tokenizer.json`` of a folder.

    Returns
    -------
    tokenizers.Tokenizer

    Raises
    ------
    MissingTokenizerError
        If there is none, or it cannot be read.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise MissingTokenizerError(source=folder, reason="there is no tokenizer.json")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise MissingTokenizerError(
            source=folder, reason=f"tokenizer.json cannot be read: {error}"
        ) from error


def _profile(config: Any, bos: int) -> PromptProfile:
    vision, text = config.vision_config, config.text_config
    patches = (vision.image_size // vision.patch_size) ** 2
    return PromptProfile(
        image_token_id=config.image_token_id,
        image_length=patches + (config.vision_feature_select_strategy == "full"),
        context_length=text.max_position_embeddings,
        bos_count=bos,
    )


def _image_processor(folder: Path, config: Any) -> Any:
    """Build the image processor from the vision tower's size.

    Always padding to a square, as LLaVA 1.5 was trained: a processor that crops the centre would hide
    the borders of the image from the model. The PIL class is named, because with torchvision
    installed the other one resizes to slightly different pixels.
    """
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    side = config.vision_config.image_size
    saved: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            saved = json.loads((folder / name).read_text(encoding="utf-8"))
            saved = saved.get("image_processor", saved)
            break
    chosen = {key: saved[key] for key in ("image_mean", "image_std", "rescale_factor") if key in saved}
    return LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **chosen
    )


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured])
    ids |= {tokenizer.token_to_id(name) for name in _STOP_TOKENS}
    return frozenset(number for number in ids if number is not None)


def _suppressed_ids(profile: PromptProfile, tokenizer: Any) -> tuple[int, ...]:
    reserved = {
        number
        for name, number in tokenizer.get_vocab(with_added_tokens=True).items()
        if name.startswith("<|reserved_special_token_")
    }
    return tuple(sorted(reserved | {profile.image_token_id}))
