"""Weights in pickled files, ``pytorch_model*.bin``: tensors and nothing else are read from them.

torch reads them with ``weights_only=True``, whose unpickler builds tensors and plain containers and refuses
every other name; a file in the newer format is mapped into memory, not read.

References
----------
``torch.load``, https://docs.pytorch.org/docs/stable/generated/torch.load.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch

__all__ = ["blocks_of", "format_name", "is_pickled", "read_pickled"]

_FORMAT_NAMES: Final = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
}  # fmt: skip
"""torch's names of numbers -> those of safetensors."""


def is_pickled(path: Path) -> bool:
    """Whether a weight file is a pickle, by its name."""
    return path.suffix == ".bin"


def read_pickled(path: Path) -> Mapping[str, torch.Tensor]:
    """Read the tensors of one file.

    Raises
    ------
    CheckpointError
        If the file holds anything but dense tensors by name, or cannot be read.
    """
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        reason = f"{path.name} cannot be read as tensors alone ({first}); download it again"
        raise CheckpointError(source=path.parent, reason=reason) from error
    for name, value in state.items() if isinstance(state, dict) else [("the file", state)]:
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            reason = f"{path.name} holds more than tensors by name ({str(name)[:80]}: {type(value).__name__})"
            raise CheckpointError(source=path.parent, reason=f"{reason}; expected a checkpoint's weights")
        format_name(path, name, value)
    return dict(state)


def _is_archive(path: Path) -> bool:
    """Whether a file is in torch's newer format, a zip archive, which can be mapped."""
    import zipfile

    return zipfile.is_zipfile(path)


def format_name(path: Path, name: str, tensor: torch.Tensor) -> str:
    """Return safetensors' name of a tensor's numbers.

    Raises
    ------
    CheckpointError
        If it has none.
    """
    found = _FORMAT_NAMES.get(str(tensor.dtype).removeprefix("torch."))
    if found is None:
        reason = f"{name} in {path.name} has numbers of {tensor.dtype}; expected {', '.join(_FORMAT_NAMES)}"
        raise CheckpointError(source=path.parent, reason=reason)
    return found


def blocks_of(tensor: torch.Tensor, size: int) -> Iterator[bytes]:
    """Bytes of a tensor in order, at most ``size`` at once."""
    import torch

    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, flat.numel(), size):
        yield flat[start : start + size].numpy().tobytes()
