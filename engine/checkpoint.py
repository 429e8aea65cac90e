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
from engine.chat_files import own_tokenizer, read_settings
from engine.completing import Manner, complete
from engine.errors import (
    AdapterBaseMissingError,
    AdapterError,
    CheckpointError,
    CheckpointNotFoundError,
    MissingTokenizerError,
    UnsupportedCheckpointError,
)
from engine.families import FAMILIES, stock_config
from engine.foreign import understood
from engine.loaded import LoadedModel
from engine.memory import check_memory
from engine.precision import check_quantisation, choose_device, choose_dtype, quantise_on_cpu
from engine.stock_prompt import bos_count
from engine.weights import LoadProgress, Placement, load_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.adapter_files import AdapterFolder
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
    _use_threads(options)
    placement, reason = _placement(options)
    with understood(folder):
        config, known = _known_config(source, folder)
        tokenizer = _tokenizer_of(folder, config)
        read_settings(folder, "generation_config.json")
        if options.check_memory:
            check_memory(source, folder, known, placement)
        model = load_weights(folder, config, tokenizer, placement, progress)
        manner = Manner(placement, reason, options.chat_layout)
        return complete(str(source), folder, config, model, tokenizer, manner=manner)


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
    placement, reason = _placement(options)
    known: dict[str, Any] | None = None
    if is_adapter(folder):
        base = _base_of(read_adapter(folder))
        known = read_config(base)
        if known.get("model_type") != "llama":
            return inspect(base, options)
        folder = base
    with understood(folder):
        if known is None:
            config, known = _known_config(source, folder)
            _tokenizer_of(folder, config)
        needed, free = check_memory(source, folder, known, placement)
    return Inspection(needed, free, reason)


def _known_config(source: object, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a configuration, as it stands there and with what it leaves to its family's defaults."""
    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in _KINDS:
        expected = " or ".join(map(repr, _KINDS))
        raise UnsupportedCheckpointError(source=source, found=f"model_type {kind!r}", expected=expected)
    _check_numbers(folder, config | config.get("text_config", {}))
    return config, stock_config(folder, config).to_dict() if kind in FAMILIES else config


def _check_numbers(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what transformers would compute with and nobody could use."""
    counts = dict.fromkeys(("hidden_size", "vocab_size", "num_hidden_layers", "max_position_embeddings"), 1)
    for name, least in (counts | {"rope_theta": 1, "bos_count": 0}).items():
        value = config.get(name, least)
        if not isinstance(value, int | float) or value < least:
            reason = f"config.json says {name} = {value!r}, expected a number of at least {least}"
            raise CheckpointError(source=folder, reason=reason)


def _tokenizer_of(folder: Path, config: dict[str, Any]) -> Any:
    return own_tokenizer(folder) if config["model_type"] in FAMILIES else load_tokenizer(folder)


def _use_threads(options: LoadOptions) -> None:
    import torch

    if options.threads < 0:
        raise ValueError(f"threads must be 0 or more, found {options.threads}")
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
        with understood(folder):
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
    manner = Manner(placement, reason, options.chat_layout)
    return complete(adapter.base, folder, config, model, tokenizer, manner=manner)


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
