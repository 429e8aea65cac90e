"""Weights of a checkpoint's files in a model of transformers: strict, memory-mapped, with progress."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.convert import RENAMES, image_token_id, llava_config
from engine.errors import CheckpointError, CheckpointKeysError
from engine.families import FAMILIES, check_layers, stock_config
from engine.pickled import is_pickled
from engine.precision import bitsandbytes_config, quantise_on_cpu
from engine.shards import check_index, shard_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import torch

__all__ = ["LoadProgress", "Placement", "check_report", "load_weights", "number_arguments"]

_LOG = logging.getLogger("bimedix2.engine")
_REPORT_EVERY_S = 0.2
_SHOWN = 8
"""Names in the sentence of an error."""


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a model is loaded."""

    done: int
    """Tensors in place."""
    total: int
    seconds_left: float
    """Estimated from the rate so far."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights go and as what numbers."""

    device: torch.device
    dtype: torch.dtype
    quantisation: str = "none"
    split: bool = False
    """Over every GPU, the rest in main memory."""


def load_weights(
    folder: Path,
    config: dict[str, Any],
    tokenizer: Any,
    placement: Placement,
    progress: Callable[[LoadProgress], None] | None = None,
) -> Any:
    """Load a model, strictly; original checkpoints go through their rename table.

    Raises
    ------
    CheckpointKeysError
        If a tensor is missing, unknown or of another shape.
    CheckpointError
        If a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # it would write into the answer on a terminal
    check_index(folder)
    kind, arguments = _structure(folder, config, tokenizer)
    try:
        with _reporting(progress):
            model, report = kind.from_pretrained(
                folder,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below with the others, by name
                local_files_only=True,
                use_safetensors=not any(map(is_pickled, shard_files(folder))),
                weights_only=True,
                trust_remote_code=False,
                **arguments,
                **number_arguments(placement),
            )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(source=folder, reason=str(error).rstrip(".")) from error
    check_report(folder, report)
    if placement.quantisation == "cpu-int8":
        quantise_on_cpu(model)
    elif placement.quantisation == "none" and not placement.split:
        model = model.to(placement.device)
    return model.eval()


def _structure(folder: Path, config: dict[str, Any], tokenizer: Any) -> tuple[Any, dict[str, Any]]:
    """Class to build, and the arguments that map the files onto it."""
    import transformers

    if config["model_type"] == "phi3_v":
        from engine import phi3v

        mapped = phi3v.phi3v_config(folder, config)
        return phi3v.Phi3Vision, {"config": mapped, "key_mapping": phi3v.renames_for(folder)}
    if config["model_type"] == "llava_llama":
        mapped = llava_config(folder, config, image_token_id(tokenizer, folder))
        check_layers(folder, mapped)
        arguments = {"config": mapped, "key_mapping": dict(RENAMES)}
        return transformers.LlavaForConditionalGeneration, arguments
    family = FAMILIES[config["model_type"]]
    return getattr(transformers, family.model), {"config": stock_config(folder, config)}


def number_arguments(placement: Placement) -> dict[str, Any]:
    """Arguments of precision and place; int8 on the CPU is made from the numbers as they are stored."""
    if placement.quantisation == "cpu-int8":
        return {"dtype": "auto"}
    arguments: dict[str, Any] = {"dtype": placement.dtype}
    if placement.quantisation != "none":
        arguments["quantization_config"] = bitsandbytes_config(placement.quantisation, placement.dtype)
        arguments["device_map"] = {"": placement.device}
    if placement.split:
        arguments["device_map"] = "auto"
    return arguments


def check_report(folder: Path, report: dict[str, Any]) -> None:
    """Refuse what transformers reports as missing, unexpected or of another shape.

    Raises
    ------
    CheckpointKeysError
        With the numbers and the first names; all of them are in the log.
    """
    missing, unexpected, mismatched = (
        sorted(map(_named, report.get(kind, ())))
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    )
    if missing or unexpected or mismatched:
        names = missing + unexpected + mismatched
        _LOG.error("Tensors of %s that do not fit: %s", folder, ", ".join(names))
        raise CheckpointKeysError(
            source=folder,
            missing=len(missing),
            unexpected=len(unexpected),
            mismatched=len(mismatched),
            names=", ".join(names[:_SHOWN]) + (f" … {len(names)}" if len(names) > _SHOWN else ""),
        )


def _named(entry: Any) -> str:
    """Name of a tensor, with the shape in the file and the shape expected where these differ."""
    if isinstance(entry, str):
        return entry
    name, found, expected = entry
    return f"{name}: {tuple(found)} instead of {tuple(expected)}"


@contextmanager
def _reporting(progress: Callable[[LoadProgress], None] | None) -> Iterator[None]:
    """Have transformers' own progress bar told to a function while a model loads."""
    if progress is None:
        yield
        return
    from transformers.utils import logging as transformers_logging

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and hasattr(args[0], "__len__") and "weights" in str(kwargs.get("desc", "")):
            return _told(args[0], len(args[0]), progress)
        return factory(*args, **kwargs)

    previous = transformers_logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)


def _told(items: Iterable[Any], total: int, progress: Callable[[LoadProgress], None]) -> Iterator[Any]:
    began = told = time.monotonic()
    progress(LoadProgress(0, total, 0.0))
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told >= _REPORT_EVERY_S or done == total:
            told = now
            progress(LoadProgress(done, total, (now - began) / done * (total - done)))
