"""A checkpoint rewritten as a folder that stock transformers and vLLM open.

The tensors are not touched: each file gets a new header with the classic names, and its bytes are copied
in blocks, so that memory stays the same whatever the checkpoint's size. The folder is built beside its
place and put there in one step when it is whole; a run that was interrupted goes on with the next file.

References
----------
The classic names are those of https://huggingface.co/llava-hf and of vLLM's ``llava`` model.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from engine.checkpoint import bos_count, load_tokenizer, read_config
from engine.convert import image_token_id, llava_config
from engine.errors import CheckpointError, DestinationExistsError, DiskSpaceError, UnsupportedCheckpointError
from engine.layouts import CONTROL_TOKENS
from engine.manifest import MANIFEST_NAME, Manifest
from engine.pickled import blocks_of, read_pickled
from engine.shards import INDEX_NAME, Shard, StoredTensor, file_sha256, shards_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["CLASSIC_NAMES", "MANIFEST_NAME", "Change", "Conversion", "classic_name", "convert"]

CLASSIC_NAMES: dict[str, str] = {
    r"^model\.vision_tower\.vision_tower\.(vision_model\.)?": "vision_tower.vision_model.",
    r"^(model\.)?vision_tower\.(vision_model\.)?": "vision_tower.vision_model.",
    r"^model\.mm_projector\.0\.": "multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "multi_modal_projector.linear_2.",
    r"^(model\.)?multi_modal_projector\.": "multi_modal_projector.",
    r"^model\.language_model\.": "language_model.model.",
    r"^language_model\.": "language_model.",
    r"^model\.(embed_tokens|layers|norm)\.": r"language_model.model.\1.",
    r"^lm_head\.": "language_model.lm_head.",
}
"""Key of an original checkpoint, or of one that transformers 5 wrote, to the classic one; first match."""

_LEFT_OUT = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")
"""Buffers that old releases stored among the weights; they are computed, not learned."""
_BLOCK = 4 * 1024 * 1024
_SPARE_BYTES = 64 * 1024 * 1024
"""Room for tokenizer, configuration and index."""
_EOS_TOKENS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")


class Change(Protocol):
    """What is done to some tensors on their way; they are held in memory one at a time."""

    @property
    def identity(self) -> str:
        """Tells this change from another one; stands in the manifest."""
        ...

    def check(self, tensors: Mapping[str, StoredTensor]) -> None:
        """Refuse tensors, by their classic names, that it does not fit; asked before anything is written.

        Raises
        ------
        CheckpointError
            Names what does not fit.
        """
        ...

    def changes(self, name: str) -> bool:
        """Whether the tensor of this classic name is changed."""
        ...

    def apply(self, name: str, tensor: StoredTensor, data: bytes) -> bytes:
        """Return the changed bytes, as many as there were."""
        ...


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion wrote."""

    folder: Path
    tensors: int
    """Tensors written."""
    left_out: tuple[str, ...]
    """Names of stored buffers that are computed and were not copied."""
    bytes: int
    """Bytes of all tensors written."""


def classic_name(key: str) -> str | None:
    """Return the classic name of a key; ``None`` if it belongs to no known part."""
    for pattern, replacement in CLASSIC_NAMES.items():
        new, count = re.subn(pattern, replacement, key)
        if count:
            return new
    return None


def convert(
    source: Path,
    destination: Path,
    progress: Callable[[int, int], None] | None = None,
    change: Change | None = None,
) -> Conversion:
    """Write a checkpoint anew with classic names, processor, chat template and manifest.

    Parameters
    ----------
    source : Path
        A ``llava_llama`` checkpoint, or a ``llava`` one with other names.
    destination : Path
        Where the new folder goes; must not exist. ``<name>.partial`` beside it is used meanwhile.
    progress : callable, optional
        Called with the bytes copied so far and in all.
    change : Change, optional
        What is done to some tensors on their way.

    Raises
    ------
    DestinationExistsError
        If there is something at ``destination``.
    DiskSpaceError
        If the disk has not enough room.
    CheckpointError
        If the source cannot be read, has keys of no known part, or two keys with one new name, or the
        change does not fit it.
    """
    if destination.exists():
        raise DestinationExistsError(location=destination)
    config = read_config(source)
    if config.get("model_type") not in ("llava", "llava_llama"):
        found = f"model_type {config.get('model_type')!r}"
        raise UnsupportedCheckpointError(source=source, found=found, expected="'llava' or 'llava_llama'")
    tokenizer = load_tokenizer(source)
    if any(tokenizer.token_to_id(name) is None for name in CONTROL_TOKENS["llama3"]):
        # its chat template would be written anew, and in the wrong words
        found = "a tokenizer without the control tokens of Llama 3"
        raise UnsupportedCheckpointError(
            source=source, found=found, expected="BiMediX2's chat layout; others open as they are"
        )
    shards = shards_of(source)
    plans = _plan(source, shards)
    if change is not None:
        change.check({name: tensor for plan in plans.values() for tensor, name in plan})
    image_token = image_token_id(tokenizer, source)
    mapped = _config_of(source, config, image_token)
    partial = destination.with_name(destination.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    total = sum(tensor.stop - tensor.start for plan in plans.values() for tensor, _ in plan)
    manifest = Manifest(partial, change.identity if change else "")
    _check_room(partial, total - manifest.bytes_done())
    meter = _Meter(total, progress)
    for shard in shards:
        name = _written_name(shard)
        plan = plans[name]
        if manifest.holds(shard.path, name):
            meter.add(sum(tensor.stop - tensor.start for tensor, _ in plan))
        else:
            manifest.add(shard.path, name, *_copy_shard(shard, plan, partial / name, meter, change))
    _write_index(partial, plans, total)
    _write_rest(source, partial, mapped, image_token)
    manifest.finish(source, config)
    partial.rename(destination)
    return Conversion(
        destination,
        sum(map(len, plans.values())),
        tuple(t.name for shard in shards for t in shard.tensors if _LEFT_OUT.search(t.name)),
        total,
    )


_Plan = list[tuple[StoredTensor, str]]


def _written_name(shard: Shard) -> str:
    """Name of a shard's copy, which is always safetensors."""
    if not shard.is_pickled:
        return shard.path.name
    return shard.path.name.replace("pytorch_model", "model", 1).removesuffix(".bin") + ".safetensors"


class _Meter:
    """Bytes copied so far, told to whoever asked for it."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


def _plan(source: Path, shards: list[Shard]) -> dict[str, _Plan]:
    """Decide every tensor's new name before anything is written; the names must be distinct."""
    plans: dict[str, _Plan] = {}
    taken: dict[str, str] = {}
    unknown: list[str] = []
    for shard in shards:
        plan = plans.setdefault(_written_name(shard), [])
        for tensor in shard.tensors:
            if _LEFT_OUT.search(tensor.name):
                continue
            new = classic_name(tensor.name)
            if new is None:
                unknown.append(tensor.name)
                continue
            if new in taken:
                reason = f"{taken[new]} and {tensor.name} would both become {new}"
                raise CheckpointError(source=source, reason=f"{reason}; remove one of them")
            taken[new] = tensor.name
            plan.append((tensor, new))
    if unknown:
        reason = f"{len(unknown)} tensors belong to no known part ({', '.join(unknown[:4])})"
        raise CheckpointError(source=source, reason=f"{reason}; expected a LLaVA of Llama and CLIP")
    return plans


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise DiskSpaceError(location=folder, needed=_gb(needed + _SPARE_BYTES), found=_gb(free))


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _copy_shard(
    shard: Shard, plan: _Plan, destination: Path, meter: _Meter, change: Change | None
) -> tuple[str, str]:
    """Write one file under its new header; the SHA-256 of what was read and of what was written."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor, name in plan:
        size = tensor.stop - tensor.start
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    written = hashlib.sha256()
    pickled = read_pickled(shard.path) if shard.is_pickled else None
    with shard.path.open("rb") as source, destination.open("wb") as target:
        for block in (struct.pack("<Q", len(text)), text):
            target.write(block)
            written.update(block)
        for tensor, name in plan:
            if pickled is not None:
                blocks = blocks_of(pickled[tensor.name], _BLOCK)
            else:
                blocks = _blocks(source, shard.data_start + tensor.start, tensor.stop - tensor.start)
            if change is not None and change.changes(name):
                blocks = iter([change.apply(name, tensor, b"".join(blocks))])
            for block in blocks:
                target.write(block)
                written.update(block)
                meter.add(len(block))
    return file_sha256(shard.path), written.hexdigest()


def _blocks(stream: Any, start: int, length: int) -> Iterator[bytes]:
    stream.seek(start)
    while length:
        block = stream.read(min(_BLOCK, length))
        if not block:
            raise OSError("the file became shorter while it was read")
        length -= len(block)
        yield block


def _write_index(folder: Path, plans: dict[str, _Plan], total: int) -> None:
    weight_map = {name: file for file, plan in plans.items() for _, name in plan}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _config_of(source: Path, config: dict[str, Any], image_token: int) -> dict[str, Any]:
    """Write every field out, because another release's defaults may differ."""
    from transformers import LlavaConfig

    if config["model_type"] == "llava_llama":
        mapped: dict[str, Any] = llava_config(source, config, image_token).to_dict()
        # releases of transformers before 5 know the rotation by these names only
        old_names = ("rope_theta", "rope_scaling")
        mapped["text_config"] |= {name: config[name] for name in old_names if config.get(name) is not None}
    else:
        mapped = LlavaConfig.from_dict(config).to_dict()
    mapped |= {"architectures": ["LlavaForConditionalGeneration"], "bos_count": bos_count(config)}
    return mapped


def _write_rest(source: Path, folder: Path, config: dict[str, Any], image_token: int) -> None:
    """Write what is not weights: configuration, tokenizer, chat template and processor."""
    from engine.processor_files import write_processor

    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens", ())}
    generation = _generation_config(source)
    generation["eos_token_id"] = [ids[name] for name in _EOS_TOKENS if name in ids]
    if "<|begin_of_text|>" in ids:
        generation["bos_token_id"] = ids["<|begin_of_text|>"]
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2), encoding="utf-8")
    write_processor(source, folder, config, tokenizer, image_token)


def _generation_config(source: Path) -> dict[str, Any]:
    path = source / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CheckpointError(source=source, reason=f"{path.name} cannot be read: {error}") from error
