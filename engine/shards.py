"""Weight files read at the level of their headers: safetensors without torch, pickles with its help.

A file begins with eight bytes, the little-endian length of a JSON header; the header names each tensor
with its dtype, shape and byte range in what follows. That is all that converting, estimating memory and
checking a download need. A pickle, which has no such header, is mapped and its tensors are listed.

References
----------
The safetensors format, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import CheckpointError
from engine.pickled import format_name, is_pickled, read_pickled

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "INDEX_NAME",
    "PICKLE_INDEX_NAME",
    "Shard",
    "StoredTensor",
    "check_index",
    "file_sha256",
    "open_shard",
    "shard_files",
    "shards_of",
]

INDEX_NAME = "model.safetensors.index.json"
PICKLE_INDEX_NAME = "pytorch_model.bin.index.json"
_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000
"""Bytes; the limit the safetensors library itself sets."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as its file's header describes it."""

    name: str
    dtype: str
    """The format's name, e.g. ``BF16``."""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the end of the header; in a pickle, from its first tensor."""
    stop: int
    """Byte after the last one."""

    @property
    def elements(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Shard:
    """One weight file."""

    path: Path
    data_start: int
    """Byte of the file where the tensors begin; 0 in a pickle."""
    tensors: tuple[StoredTensor, ...]
    """In the order of their bytes."""

    @property
    def is_pickled(self) -> bool:
        """Whether it is a pickle, in which tensors have no place of their own."""
        return is_pickled(self.path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shard_files(folder: Path) -> list[Path]:
    """List a checkpoint's weight files: those the index names, or all where there is no index.

    Pickles count only where there are no safetensors.

    Raises
    ------
    CheckpointError
        If there is none, or the index cannot be read or names a file that is missing.
    """
    index = _index_of(folder)
    if index.is_file():
        files = [folder / name for name in _indexed_names(folder, index)]
    else:
        pattern = "*.safetensors" if index.name == INDEX_NAME else "pytorch_model*.bin"
        files = sorted(folder.glob(pattern))
        _check_numbering(folder, files, index.name)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        reason = f"its index names files that are missing ({', '.join(missing[:4])}); download them again"
        raise CheckpointError(source=folder, reason=reason)
    if not files:
        raise CheckpointError(
            source=folder, reason="there is no safetensors file; download the weights again"
        )
    return files


def _index_of(folder: Path) -> Path:
    """Return where the index would be: beside pickles if there is nothing else."""
    tensors, pickles = folder / INDEX_NAME, folder / PICKLE_INDEX_NAME
    if tensors.is_file() or any(folder.glob("*.safetensors")):
        return tensors
    return pickles if pickles.is_file() or any(folder.glob("pytorch_model*.bin")) else tensors


def check_index(folder: Path) -> None:
    """Check that the index, which transformers goes by, says of every tensor where it is.

    Raises
    ------
    CheckpointError
        If there are several files and no index, or it and the files differ.
    """
    shards = shards_of(folder)
    path = _index_of(folder)
    if not path.is_file():
        if len(shards) > 1:
            reason = f"there are {len(shards)} weight files and no {path.name}; download it too"
            raise CheckpointError(source=folder, reason=reason)
        return
    index = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(index.get("metadata"), dict):
        raise CheckpointError(source=folder, reason=f"{path.name} has no metadata; download it again")
    held = {tensor.name: shard.path.name for shard in shards for tensor in shard.tensors}
    named = index["weight_map"]
    # one that is in no file at all is listed with the others that are missing, when the model is loaded
    wrong = sorted(name for name, file in held.items() if named.get(name) != file)
    if wrong:
        place = f"{wrong[0]} is in {held[wrong[0]]}, and it names {named.get(wrong[0], 'no file')}"
        reason = f"{path.name} is of another download: {place}"
        raise CheckpointError(source=folder, reason=reason)


def _indexed_names(folder: Path, index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{index.name} cannot be read ({error}); download it again"
        raise CheckpointError(source=folder, reason=reason) from error
    strange = [name for name in names if not isinstance(name, str) or "/" in name or "\\" in name]
    if strange:
        reason = f"{index.name} names a file outside the folder ({strange[0]})"
        raise CheckpointError(source=folder, reason=reason)
    return sorted(names)


def _check_numbering(folder: Path, files: list[Path], index: str) -> None:
    """Refuse numbered shards of which some are missing, when no index could tell."""
    for file in files:
        pieces = file.stem.rsplit("-of-", 1)
        if len(pieces) == 2 and pieces[1].isdigit() and int(pieces[1]) != len(files):
            reason = (
                f"{file.name} says there are {int(pieces[1])} files, found {len(files)}, and {index} "
                "is missing; download the missing files again"
            )
            raise CheckpointError(source=folder, reason=reason)


def open_shard(path: Path) -> Shard:
    """Read one file's header and check that the file is as long as it says.

    Raises
    ------
    CheckpointError
        If the file is neither safetensors nor a pickle of tensors, or is shorter or longer than it says.
    """
    if is_pickled(path):
        return _listed(path)
    try:
        shard = _read_header(path)
        found = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        reason = f"{path.name} cannot be read ({error}); download it again"
        raise CheckpointError(source=path.parent, reason=reason) from error
    expected = shard.data_start + max((tensor.stop for tensor in shard.tensors), default=0)
    if found != expected:
        reason = f"{path.name} has {found} bytes, and its header says {expected}; download it again"
        raise CheckpointError(source=path.parent, reason=reason)
    return shard


def _listed(path: Path) -> Shard:
    """List a pickle's tensors as if they lay one after the other."""
    tensors, at = [], 0
    for name, tensor in read_pickled(path).items():
        stop = at + tensor.numel() * tensor.element_size()
        tensors.append(StoredTensor(name, format_name(path, name, tensor), tuple(tensor.shape), at, stop))
        at = stop
    return Shard(path, 0, tuple(tensors))


def _read_header(path: Path) -> Shard:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(_LENGTH_BYTES))
        if length > _LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    tensors = [
        StoredTensor(name, entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
        for name, entry in header.items()
    ]
    for tensor in tensors:
        bits = _BITS.get(tensor.dtype)
        if bits is not None and tensor.elements * bits != (tensor.stop - tensor.start) * 8:
            raise ValueError(f"{tensor.name} has another size than its shape says")
    tensors.sort(key=lambda tensor: (tensor.start, tensor.stop))
    return Shard(path, _LENGTH_BYTES + length, tuple(tensors))


def shards_of(folder: Path) -> list[Shard]:
    """Open all of a checkpoint's shards; a tensor that stands in two of them is an error.

    Raises
    ------
    CheckpointError
        See :func:`shard_files` and :func:`open_shard`.
    """
    shards = [open_shard(file) for file in shard_files(folder)]
    owner: dict[str, str] = {}
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in owner:
                reason = f"{tensor.name} stands in {owner[tensor.name]} and in {shard.path.name}"
                raise CheckpointError(source=folder, reason=f"{reason}; remove the file of another download")
            owner[tensor.name] = shard.path.name
    return shards
