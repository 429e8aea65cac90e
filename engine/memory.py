"""Whether a model fits, found out before loading it: memory needed against memory free.

What is needed is worked out from the headers of the weight files, so that it holds for any checkpoint;
what is free is asked of the operating system, of the container's limit, and of the GPU's driver.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import NotEnoughMemoryError, NothingFitsError
from engine.models import KNOWN
from engine.shards import shards_of

if TYPE_CHECKING:
    import torch

    from engine.weights import Placement

__all__ = ["check_memory", "memory_free", "memory_needed"]

_DTYPE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_LINEAR_BYTES = {"int8": 1.0, "cpu-int8": 1.0, "int4": 0.5 + 4 / 64}
"""Bytes a weight of the language model's linear layers takes; nf4 keeps a float32 scale for each 64."""
_CONTEXT = 4096
"""Tokens of the conversation for which room is kept."""
_WORKING = 0.05
"""Share of the weights for what is computed in between."""
_FIXED = 300_000_000
"""Bytes for the libraries themselves."""
_CGROUP = Path("/sys/fs/cgroup")


def memory_needed(folder: Path, config: dict[str, Any], dtype: str, quantisation: str = "none") -> int:
    """Estimate the memory a model takes while it answers, in bytes.

    Parameters
    ----------
    folder : Path
        The checkpoint; only the headers of its files are read.
    config : dict
        Its ``config.json``.
    dtype : str
        ``float32``, ``bfloat16`` or ``float16``.
    quantisation : str
        See :data:`engine.precision.Quantisation`.

    Raises
    ------
    CheckpointError
        If the weight files cannot be read.
    """
    number = _DTYPE_BYTES["float32" if quantisation == "cpu-int8" else dtype]
    weights = 0.0
    for shard in shards_of(folder):
        for tensor in shard.tensors:
            linear = _is_quantised(tensor.name, tensor.shape, quantisation)
            weights += tensor.elements * (_LINEAR_BYTES[quantisation] if linear else number)
    return round(weights * (1 + _WORKING) + _cache_bytes(config, number) + _FIXED)


def _is_quantised(name: str, shape: tuple[int, ...], quantisation: str) -> bool:
    if quantisation == "none" or len(shape) != 2:
        return False
    if name.endswith("lm_head.weight"):
        return quantisation == "cpu-int8"
    return "_proj.weight" in name and "vision" not in name


def _cache_bytes(config: dict[str, Any], number: float) -> float:
    """Keys and values of one conversation."""
    text = config.get("text_config") or config
    heads = text.get("num_attention_heads") or 1
    width = text.get("head_dim") or (text.get("hidden_size") or 0) // heads
    layers, kept = text.get("num_hidden_layers") or 0, text.get("num_key_value_heads") or heads
    return float(2 * layers * kept * width * number * _CONTEXT)


def memory_free(device: torch.device, *, split: bool = False) -> tuple[int, str]:
    """Memory that can be had now, in bytes, and what kind it is.

    With ``split`` all GPUs and main memory together.
    """
    import torch

    if split:
        cards = sum(torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count()))
        return cards + _ram_free(), "VRAM + RAM"
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]), "VRAM"
    return _ram_free(), "RAM"


def _ram_free() -> int:
    import psutil

    free = int(psutil.virtual_memory().available)
    try:  # a container's own limit
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        cached = _cgroup_cache()
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - used + cached))


def _cgroup_cache() -> int:
    """Bytes of files kept in memory, which the system gives back when asked."""
    lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))


def check_memory(
    source: object, folder: Path, config: dict[str, Any], placement: Placement
) -> tuple[int, int]:
    """Compare what is needed with what is free.

    Returns
    -------
    tuple of int
        Bytes needed and bytes free.

    Raises
    ------
    NotEnoughMemoryError
        If it does not fit, but something else would, which is named with its size.
    NothingFitsError
        If no precision and no smaller released model fits.
    """
    dtype = str(placement.dtype).removeprefix("torch.")
    needed = memory_needed(folder, config, dtype, placement.quantisation)
    free, place = memory_free(placement.device, split=placement.split)
    if needed <= free:
        return needed, free
    fitting = _fitting(folder, config, placement.device, needed, free)
    numbers = {"source": source, "needed": _gb(needed), "place": place, "found": _gb(free)}
    if not fitting:
        raise NothingFitsError(**numbers, fitting="")
    raise NotEnoughMemoryError(**numbers, fitting=", ".join(fitting))


def _fitting(folder: Path, config: dict[str, Any], device: torch.device, needed: int, free: int) -> list[str]:
    """Name what would fit: other precisions of this model, then the largest smaller released model."""
    ways = {
        "cpu": [("bfloat16", "none"), ("float32", "cpu-int8")],
        "cuda": [("bfloat16", "none"), ("bfloat16", "int8"), ("bfloat16", "int4")],
    }[device.type]
    sizes = {
        (dtype if way == "none" else way): memory_needed(folder, config, dtype, way) for dtype, way in ways
    }
    fitting = [f"{name} ({_gb(size)})" for name, size in sizes.items() if size <= free and size < needed]
    smaller = [known for known in KNOWN if known.bytes * (1 + _WORKING) + _FIXED <= free < needed]
    if smaller and not fitting:
        best = max(smaller, key=lambda known: known.bytes)
        fitting.append(f"{best.hub_id}, bfloat16 ({_gb(best.bytes)})")
    return fitting


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
