"""An adapter added to its base on the disk: a folder that stock transformers and vLLM open.

The base is copied file by file as in :mod:`engine.export`; a tensor the adapter changes is held in memory,
the product of its two halves is added in float32, and it is stored as the numbers it was. A projector the
adapter brings takes the place of the base's.

References
----------
LoRA, arXiv 2106.09685: W + B A * alpha / r; rank-stabilised, arXiv 2312.03732: alpha / sqrt(r).
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from engine.adapter_files import read_adapter
from engine.checkpoint import read_config
from engine.errors import AdapterBaseError, AdapterError, UnsupportedCheckpointError
from engine.export import Conversion, classic_name, convert

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from engine.adapter_files import AdapterFolder
    from engine.shards import StoredTensor

__all__ = ["merge"]

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def merge(
    base: Path,
    adapter: Path,
    destination: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    any_base: bool = False,
) -> Conversion:
    """Write a base with an adapter added to it.

    Parameters
    ----------
    base : Path
        A ``llava_llama`` or ``llava`` checkpoint.
    adapter : Path
        Folder of a LoRA made for it, in peft's or in LLaVA's layout.
    destination : Path
        Where the new folder goes; must not exist.
    progress : callable, optional
        Called with the bytes copied so far and in all.
    any_base : bool
        Take an adapter that names another base, if its shapes fit.

    Raises
    ------
    AdapterError
        If the adapter cannot be read.
    AdapterBaseError
        If it was made for another model, by name or by shapes.
    CheckpointError
        As :func:`engine.export.convert`.
    """
    read = read_adapter(adapter)
    if read.vocabulary:
        names = ", ".join(read.vocabulary)
        raise AdapterError(
            source=adapter, reason=f"it brings {names}, which are not merged; attach it instead"
        )
    wanted, name = PurePath(read.base).name.lower(), base.resolve().name
    if not any_base and wanted and wanted not in _names_of(base):
        raise AdapterBaseError(source=adapter, expected=read.base, found=name)
    kind = read_config(base).get("model_type")
    if kind not in ("llava", "llava_llama"):
        expected = "'llava' or 'llava_llama', the complete model"
        raise UnsupportedCheckpointError(source=base, found=f"model_type {kind!r}", expected=expected)
    return convert(base, destination, progress, _Merge(read, name))


def _names_of(base: Path) -> set[str]:
    """Names a base goes by: its folder's, and its repository's where the folder lies in the Hub's cache."""
    folders = (base.name, base.resolve().name, base.resolve().parent.parent.name.rpartition("--")[2])
    return {name.lower() for name in folders}


class _Merge:
    """The change that an adapter makes."""

    def __init__(self, adapter: AdapterFolder, base: str) -> None:
        self._adapter = adapter
        self._base = base
        halves = {key.rsplit(".lora_", 1)[0] for key in adapter.lora}
        self._layers = {_classic(f"{layer}.weight"): layer for layer in halves}
        self._replaced = {_classic(key): value for key, value in adapter.saved.items()}

    @property
    def identity(self) -> str:
        return f"adapter {self._adapter.digest}"

    def check(self, tensors: Mapping[str, StoredTensor]) -> None:
        for name in (*self._layers, *self._replaced):
            stored = tensors.get(name)
            if stored is None:
                raise self._unfit(f"a model that has {name}", self._base)
            made = self._shape(name)
            if stored.shape != made:
                raise self._unfit(
                    f"a model whose {name} is {made}", f"{self._base}, where it is {stored.shape}"
                )
            if stored.dtype not in _DTYPES:
                found = f"{self._base}, where it is {stored.dtype}"
                raise self._unfit(f"{name} as {' or '.join(_DTYPES)}", found)

    def _unfit(self, expected: str, found: str) -> AdapterBaseError:
        return AdapterBaseError(source=self._adapter.folder, expected=expected, found=found)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self._replaced:
            return tuple(self._replaced[name].shape)
        first, second = self._halves(name)
        return int(second.shape[0]), int(first.shape[1])

    def _halves(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        layer = self._layers[name]
        return tuple(self._adapter.lora[f"{layer}.lora_{half}.weight"] for half in "AB")  # type: ignore[return-value]

    def changes(self, name: str) -> bool:
        return name in self._layers or name in self._replaced

    def apply(self, name: str, tensor: StoredTensor, data: bytes) -> bytes:
        import torch

        dtype = getattr(torch, _DTYPES[tensor.dtype])
        if name in self._replaced:
            return _bytes(self._replaced[name].to(dtype))
        stored = torch.frombuffer(bytearray(data), dtype=dtype).reshape(tensor.shape)
        first, second = (half.float() for half in self._halves(name))
        scale = _scale(self._adapter.config, self._layers[name], first.shape[0])
        return _bytes(stored.float().addmm_(second, first, alpha=scale).to(dtype))


def _classic(key: str) -> str:
    """Name of a loaded model's tensor in the folder that is written."""
    return classic_name(key) or key


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """Factor of a layer's product, as peft computes it."""
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    own = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", layer))
    alpha = float(next(own, config.get("lora_alpha", 8)))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
