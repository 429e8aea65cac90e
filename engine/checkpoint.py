"""A checkpoint's folder or Hub id becomes a model that is ready to answer.

What to do is decided from ``config.json`` alone, never from a path's name. Loading is strict: a missing,
unexpected or mismatched tensor is an error with the list. Code of the checkpoint is never run and pickle
weights are never read.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.adapter_files import is_adapter, read_adapter
from engine.chat_files import own_tokenizer
from engine.errors import (
    AdapterBaseMissingError,
    AdapterError,
    CheckpointError,
    CheckpointNotFoundError,
    MissingTokenizerError,
    UnsupportedCheckpointError,
)
from engine.families import FAMILIES, image_processor, stock_config
from engine.loaded import CroppingModel, LoadedModel, TilingModel
from engine.memory import check_memory
from engine.precision import check_quantisation, choose_device, choose_dtype, quantise_on_cpu
from engine.prompt import PromptProfile, PromptRenderer
from engine.stock_prompt import bos_count, stock_renderer
from engine.weights import LoadProgress, Placement, load_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.adapter_files import AdapterFolder
    from engine.families import Family
    from engine.messages import ImagePart
    from engine.precision import Quantisation

__all__ = [
    "Inspection",
    "LoadOptions",
    "LoadProgress",
    "LoadedModel",
    "bos_count",
    "choose_device",
    "choose_dtype",
    "inspect",
    "load",
    "load_tokenizer",
    "read_config",
]

_LOG = logging.getLogger("bimedix2.engine")
_KINDS = ("llava_llama", "phi3_v", *FAMILIES)
"""The ``model_type`` of what is opened."""
_STOP_TOKENS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|end|>", "<|endoftext|>")
"""Llama 3.1 ends a turn with any of the first three, of which the original configs name only the last;
Phi-3 with one of the others."""
_UNUSED_TOKENS = ("<|reserved_special_token_", "<|placeholder")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N``, or ``split``: every GPU and what is left in main memory."""
    dtype: str = "auto"
    """``auto``, ``float32``, ``bfloat16`` or ``float16``."""
    threads: int = 0
    """CPU threads; 0 leaves torch's own choice. torch keeps one number for the whole process."""
    quantisation: Quantisation = "none"
    """``int8`` or ``int4`` by bitsandbytes, for GPUs; ``cpu-int8`` for CPUs, there about twice as fast."""
    check_memory: bool = True
    """Refuse a model that would not fit, before loading it."""
    chat_layout: str = "auto"
    """How conversations are written: ``auto`` follows the folder's chat template or, for BiMediX2's own, its
    training. For folders without a template: ``llama3``, ``vicuna``, ``llama2`` or ``chatml``."""


def load(
    source: str | Path,
    options: LoadOptions | None = None,
    progress: Callable[[LoadProgress], None] | None = None,
) -> LoadedModel:
    """Open a checkpoint.

    Parameters
    ----------
    source : str or Path
        A folder with ``config.json``, or the id of a checkpoint that the Hub's local cache holds. A
        folder with an adapter opens the model it was made for and switches to the adapter.
    options : LoadOptions, optional
        Device, precision and threads.
    progress : callable, optional
        Told how far the weights are loaded, a few times a second.

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
    NotEnoughMemoryError
        If the model would not fit; says what would.
    QuantisationError
        If the quantisation cannot be used here.
    AdapterBaseMissingError
        If the source is an adapter and the model it was made for is not on this computer.
    """
    options = options or LoadOptions()
    folder = _folder_of(source)
    if is_adapter(folder):
        return _load_adapter(folder, options, progress)
    config, known = _known_config(source, folder)
    _use_threads(options)
    placement, reason = _placement(options)
    tokenizer = _tokenizer_of(folder, config)
    if options.check_memory:
        check_memory(source, folder, known, placement)
    model = load_weights(folder, config, tokenizer, placement, progress)
    manner = _Manner(placement, reason, options.chat_layout)
    return _complete(str(source), folder, config, model, tokenizer, manner=manner)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a checkpoint before it is loaded."""

    needed: int
    """Memory it will take, in bytes."""
    free: int
    """Memory there is for it, in bytes."""
    reason: str
    """Why this device and precision, in one English sentence."""


def inspect(source: str | Path, options: LoadOptions | None = None) -> Inspection:
    """Look at a checkpoint without loading it: is it of a kind that opens, does it fit.

    Parameters
    ----------
    source : str or Path
        As :func:`load`; of an adapter the model it was made for is looked at.
    options : LoadOptions, optional
        As :func:`load`.

    Raises
    ------
    CheckpointError
        What :func:`load` would raise before it reads the weights.
    """
    options = options or LoadOptions()
    folder = _folder_of(source)
    if is_adapter(folder):
        base = _base_of(read_adapter(folder))
        if read_config(base).get("model_type") != "llama":
            return inspect(base, options)
        config = known = read_config(base)
    else:
        base = folder
        config, known = _known_config(source, folder)
        _tokenizer_of(folder, config)
    placement, reason = _placement(options)
    needed, free = check_memory(source, base, known, placement)
    return Inspection(needed, free, reason)


def _known_config(source: object, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a configuration, as it stands there and with what it leaves to its family's defaults."""
    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in _KINDS:
        expected = " or ".join(map(repr, _KINDS))
        raise UnsupportedCheckpointError(source=source, found=f"model_type {kind!r}", expected=expected)
    return config, stock_config(folder, config).to_dict() if kind in FAMILIES else config


def _tokenizer_of(folder: Path, config: dict[str, Any]) -> Any:
    return own_tokenizer(folder) if config["model_type"] in FAMILIES else load_tokenizer(folder)


def _use_threads(options: LoadOptions) -> None:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)


def _placement(options: LoadOptions) -> tuple[Placement, str]:
    """Decide device and numbers, and say why."""
    import torch

    device, device_reason = choose_device(options.device)
    dtype, dtype_reason = choose_dtype(options.dtype, device)
    check_quantisation(options.quantisation, device)
    if options.quantisation == "cpu-int8":
        dtype, dtype_reason = torch.float32, "int8 on the CPU was asked for"
    elif options.quantisation != "none":
        dtype_reason = f"{options.quantisation} was asked for, {dtype_reason}"
    placement = Placement(device, dtype, options.quantisation, split=options.device == "split")
    return placement, f"{device_reason}; {dtype_reason}"


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a model is used, and why so."""

    placement: Placement
    reason: str
    chat_layout: str


def _complete(
    name: str, folder: Path, config: dict[str, Any], model: Any, tokenizer: Any, *, manner: _Manner
) -> LoadedModel:
    """Add what is needed to ask a model."""
    cropping = config["model_type"] == "phi3_v"
    if cropping:
        kind: type[LoadedModel] = CroppingModel
        renderer, preparation = _phi3_parts(folder, model, tokenizer, name)
    else:
        kind = TilingModel if _family(config).images != "square" else LoadedModel
        renderer = stock_renderer(folder, config, model, tokenizer, source=name, layout=manner.chat_layout)
        preparation = image_processor(folder, model.config)
    return kind(
        name=name,
        model=model,
        renderer=renderer,
        image_processor=preparation,
        tokenizer=tokenizer,
        stop_ids=_stop_ids(model, tokenizer, renderer),
        suppressed_ids=_suppressed_ids(model, renderer.profile, tokenizer),
        device=manner.placement.device,
        dtype=manner.placement.dtype,
        reason=manner.reason,
    )


def _family(config: dict[str, Any]) -> Family:
    return FAMILIES.get(config["model_type"], FAMILIES["llava"])  # llava_llama has become a llava


def _phi3_parts(folder: Path, model: Any, tokenizer: Any, source: str) -> tuple[PromptRenderer, Any]:
    from engine import phi3v
    from engine.crops import crop_grid, image_tokens

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


def _load_adapter(
    folder: Path, options: LoadOptions, progress: Callable[[LoadProgress], None] | None
) -> LoadedModel:
    """Open the model an adapter was made for, and switch to the adapter.

    Layers that torch has made int8 take no adapter: there it is merged first.
    """
    adapter = read_adapter(folder)
    base = _base_of(adapter)
    on_cpu_int8 = options.quantisation == "cpu-int8"
    whole = replace(options, quantisation="none", dtype="float32") if on_cpu_int8 else options
    if read_config(base).get("model_type") == "llama":
        loaded = _load_assembled(adapter, base, whole)
    else:
        loaded = load(adapter.base, whole, progress)
    name = loaded.adapters.attach(folder)
    loaded.adapters.use(name)
    if on_cpu_int8:
        loaded.adapters.merge(name)
        quantise_on_cpu(loaded.model)
    return loaded


def _base_of(adapter: AdapterFolder) -> Path:
    """Folder of the model an adapter was made for."""
    try:
        base = _folder_of(adapter.base)
    except CheckpointNotFoundError as error:
        raise AdapterBaseMissingError(source=adapter.folder, base=adapter.base or "(not named)") from error
    if is_adapter(base):
        reason = f"the model it was made for ({base}) is an adapter itself"
        raise AdapterError(source=adapter.folder, reason=reason)
    return base


def _load_assembled(adapter: AdapterFolder, base: Path, options: LoadOptions) -> LoadedModel:
    """Open an adapter whose base is a plain Llama: the vision tower has a folder of its own."""
    from engine.assembled import Parts, assemble

    folder, config = adapter.folder, read_config(adapter.folder)
    if config.get("model_type") != "llava_llama":
        found = f"model_type {config.get('model_type')!r}"
        raise UnsupportedCheckpointError(source=folder, found=found, expected="'llava_llama'")
    tower = str(config.get("mm_vision_tower"))
    try:
        tower_folder = _folder_of(tower)
    except CheckpointNotFoundError as error:
        raise AdapterBaseMissingError(source=folder, base=tower) from error
    _use_threads(options)
    placement, reason = _placement(options)
    if options.check_memory:
        check_memory(base, base, read_config(base), placement)
    tokenizer = load_tokenizer(folder if (folder / "tokenizer.json").is_file() else base)
    model = assemble(Parts(adapter, config, base, tower_folder), tokenizer, placement)
    manner = _Manner(placement, reason, options.chat_layout)
    return _complete(adapter.base, folder, config, model, tokenizer, manner=manner)


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
    if not isinstance(config, dict):
        raise CheckpointError(source=folder, reason="config.json holds no settings")
    return config


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


def _stop_ids(model: Any, tokenizer: Any, renderer: PromptRenderer) -> frozenset[int]:
    ids = {renderer.end_of_turn} | {tokenizer.token_to_id(name) for name in _STOP_TOKENS}
    for place in (getattr(model, "generation_config", None), model.config, model.config.text_config):
        configured = getattr(place, "eos_token_id", None)
        ids |= set(configured if isinstance(configured, list) else [configured])
    return frozenset(number for number in ids if number is not None)


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
