"""An adapter merged to disk: the numbers of the attached one, in a folder that anybody opens."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from engine.checkpoint import LoadOptions, load
from engine.errors import AdapterBaseError, AdapterError, UnsupportedCheckpointError
from engine.export import convert
from engine.manifest import MANIFEST_NAME
from engine.merging import merge
from engine.shards import shards_of
from tests.engine.test_adapters import build_adapter, logits
from tests.engine.tiny import build_checkpoint, build_original, rewrite_config

if TYPE_CHECKING:
    from pathlib import Path

CPU = LoadOptions(device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("merging") / "base", seed=3)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_adapter(tmp_path_factory.mktemp("adapters") / "one", base, 1)


def test_the_merged_folder_computes_what_the_attached_adapter_does(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    """LoRA and projector both; the folder needs neither the adapter nor peft."""
    import torch

    done = merge(base, adapter, tmp_path / "merged")

    merged, plain = load(done.folder, CPU), load(base, CPU)
    plain.adapters.attach(adapter)
    unmerged = logits(plain)
    plain.adapters.use("one")
    torch.testing.assert_close(logits(merged), logits(plain), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(merged), unmerged, atol=1e-2)
    assert merged.adapters.names == ()


def test_stock_transformers_opens_it(base: Path, adapter: Path, tmp_path: Path) -> None:
    """Every key is one it knows, none is missing."""
    from transformers import LlavaForConditionalGeneration

    folder = merge(base, adapter, tmp_path / "merged").folder
    _, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)

    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_an_original_checkpoint_in_shards_and_its_own_numbers(tmp_path: Path) -> None:
    """The rename table and the merge meet; bfloat16 stays bfloat16, within its precision."""
    import torch
    from safetensors.torch import load_file, save_file

    original = build_original(tmp_path / "original")
    for shard in shards_of(original):
        halved = {name: value.bfloat16() for name, value in load_file(shard.path).items()}
        save_file(halved, shard.path)
    plain = convert(original, tmp_path / "plain").folder
    adapter = build_adapter(tmp_path / "one", plain, 2)
    rename_base(adapter, "hospital/original")

    merged = merge(original, adapter, tmp_path / "merged").folder

    assert {tensor.dtype for shard in shards_of(merged) for tensor in shard.tensors} == {"BF16"}
    attached, found = load(original, CPU), logits(load(merged, CPU))
    without = logits(attached)
    attached.adapters.attach(adapter)
    attached.adapters.use("one")
    expected = logits(attached)
    # every weight is rounded to 8 bits of mantissa once more
    assert torch.dist(found, expected) < 0.02 * expected.norm()
    assert torch.dist(without, expected) > 0.2 * expected.norm()


def rename_base(adapter: Path, name: str) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": name}))


def test_rank_stabilised_and_single_factors_are_those_of_peft(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    """Alpha / sqrt(r), and an alpha of one layer's own."""
    import torch

    special = shutil.copytree(adapter, tmp_path / "special")
    file = special / "adapter_config.json"
    changed = {"use_rslora": True, "alpha_pattern": {r"language_model\.layers\.0\.self_attn\.q_proj": 3}}
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    merged, plain = load(merge(base, special, tmp_path / "merged").folder, CPU), load(base, CPU)
    plain.adapters.attach(special)
    plain.adapters.use("special")

    torch.testing.assert_close(logits(merged), logits(plain), atol=1e-4, rtol=1e-4)
    plain.adapters.attach(adapter)
    plain.adapters.use("one")
    assert not torch.allclose(logits(merged), logits(plain), atol=1e-2)


def test_another_base_is_refused_by_name_and_by_shape(adapter: Path, tmp_path: Path) -> None:
    """Before anything is written; shapes are checked also when the name is to be overlooked."""
    other = build_checkpoint(tmp_path / "other", width=48)

    with pytest.raises(AdapterBaseError, match=r"made for .*base, and the model loaded is other"):
        merge(other, adapter, tmp_path / "merged")
    with pytest.raises(AdapterBaseError, match="where it is"):
        merge(other, adapter, tmp_path / "merged", any_base=True)
    assert not list(tmp_path.glob("merged*"))


def test_a_renamed_base_is_taken_when_told(base: Path, adapter: Path, tmp_path: Path) -> None:
    """Its shapes fit."""
    renamed = shutil.copytree(base, tmp_path / "renamed")
    with pytest.raises(AdapterBaseError):
        merge(renamed, adapter, tmp_path / "merged")
    assert merge(renamed, adapter, tmp_path / "merged", any_base=True).folder.is_dir()


def test_copies_of_another_adapter_s_interrupted_run_are_not_taken_over(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    """Neither is a plain conversion's: the manifest tells them apart."""
    whole = convert(base, tmp_path / "merged").folder
    plain = (whole / "model.safetensors").read_bytes()
    manifest = json.loads((whole / MANIFEST_NAME).read_text())
    whole.rename(tmp_path / "merged.partial")
    import engine.manifest

    for name, entry in manifest["files"].items():
        entry["source_state"] = engine.manifest._state_of(base / name) if (base / name).exists() else []
    (tmp_path / "merged.partial" / MANIFEST_NAME).write_text(json.dumps(manifest))

    merged = merge(base, adapter, tmp_path / "merged").folder

    assert (merged / "model.safetensors").read_bytes() != plain


def test_what_cannot_be_merged_is_said(base: Path, adapter: Path, tmp_path: Path) -> None:
    """A folder that is no adapter, and a base of another structure."""
    with pytest.raises(AdapterError, match=r"adapter_config\.json"):
        merge(base, base, tmp_path / "merged")
    other = shutil.copytree(base, tmp_path / "base")
    rewrite_config(other, model_type="phi3_v")
    with pytest.raises(UnsupportedCheckpointError, match="phi3_v"):
        merge(other, adapter, tmp_path / "merged")
