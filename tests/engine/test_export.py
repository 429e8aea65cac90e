"""Conversion to the classic names: every tensor arrives, stock transformers opens it, memory stays low."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import engine.export
import engine.manifest
from engine.checkpoint import LoadOptions, load
from engine.errors import CheckpointError, DestinationExistsError, DiskSpaceError, UnsupportedCheckpointError
from engine.export import MANIFEST_NAME, classic_name, convert
from engine.messages import Message
from engine.shards import INDEX_NAME, PICKLE_INDEX_NAME, file_sha256, shards_of
from tests.engine.tiny import build_checkpoint, build_original, random_image, rewrite_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.checkpoint import LoadedModel

CPU = LoadOptions(device="cpu", dtype="float32", threads=1)
CONVERSATION = [
    Message.of("user", random_image(1, 40, 20), "Which side?"),
    Message.of("assistant", "Left."),
    Message.of("user", "وحجمها؟"),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_original(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def converted(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(original, tmp_path_factory.mktemp("converted") / "model").folder


def logits(loaded: LoadedModel):
    import torch

    rendered = loaded.renderer.render(CONVERSATION)
    with torch.inference_mode():
        return loaded.model(
            input_ids=torch.tensor([rendered.ids]),
            pixel_values=loaded.pixel_values(CONVERSATION[0].images[0]),
        ).logits


def test_the_converted_folder_gives_the_same_ids_and_logits(original: Path, converted: Path) -> None:
    """Prompt and logits are those of the original, twice <|begin_of_text|> included."""
    import torch

    before, after = load(original, CPU), load(converted, CPU)

    assert after.renderer.render(CONVERSATION) == before.renderer.render(CONVERSATION)
    assert after.stop_ids == before.stop_ids
    # where a file's bytes lie in memory decides which kernel multiplies them: not bitwise
    torch.testing.assert_close(logits(after), logits(before), atol=1e-5, rtol=0)


def test_stock_transformers_opens_it(original: Path, converted: Path) -> None:
    """AutoProcessor and LlavaForConditionalGeneration, with no argument of ours, give our ids and logits."""
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(converted)
    model, report = LlavaForConditionalGeneration.from_pretrained(converted, output_loading_info=True)
    picture = Image.fromarray(CONVERSATION[0].images[0].pixels)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "Which side?"}]
    inputs = processor.apply_chat_template(
        [
            {"role": "user", "content": content},
            {"role": "assistant", "content": "Left."},
            {"role": "user", "content": [{"type": "text", "text": "وحجمها؟"}]},
        ],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    loaded = load(original, CPU)

    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert tuple(inputs["input_ids"][0].tolist()) == loaded.renderer.render(CONVERSATION).ids
    torch.testing.assert_close(
        inputs["pixel_values"], loaded.pixel_values(CONVERSATION[0].images[0]), atol=1e-5, rtol=0
    )
    with torch.inference_mode():
        theirs = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]).logits
    torch.testing.assert_close(theirs, logits(loaded), atol=1e-4, rtol=0)
    assert set(model.generation_config.eos_token_id) == set(loaded.stop_ids)


def test_every_tensor_is_accounted_for(original: Path, converted: Path) -> None:
    """Each stored tensor is copied byte by byte under its classic name, or is one of the computed buffers."""
    import torch
    from safetensors.torch import load_file

    before = {key: value for shard in shards_of(original) for key, value in load_file(shard.path).items()}
    after = {key: value for shard in shards_of(converted) for key, value in load_file(shard.path).items()}
    copied = {key for key in before if not key.endswith(("inv_freq", "position_ids"))}

    assert {classic_name(key) for key in copied} == set(after)
    assert all(torch.equal(before[key], after[classic_name(key) or ""]) for key in copied)
    roots = {key.split(".")[0] for key in after}
    assert roots == {"language_model", "vision_tower", "multi_modal_projector"}
    assert "language_model.lm_head.weight" in after
    assert "vision_tower.vision_model.embeddings.class_embedding" in after
    index = json.loads((converted / INDEX_NAME).read_text())
    assert set(index["weight_map"]) == set(after)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in after.values())


def test_the_manifest_holds_both_hashes_of_every_file(original: Path, converted: Path) -> None:
    """The manifest names every file of the folder with its SHA-256, and that of the shard it came from."""
    files = json.loads((converted / MANIFEST_NAME).read_text())["files"]

    assert set(files) == {path.name for path in converted.iterdir()} - {MANIFEST_NAME}
    for name, entry in files.items():
        assert entry["sha256"] == file_sha256(converted / name)
        if name.startswith("model-"):
            assert entry["source_sha256"] == file_sha256(original / name)


def test_names_that_transformers_writes_become_classic_ones(tmp_path: Path) -> None:
    """A folder saved by transformers 5 is rewritten for vLLM, and opens as before."""
    import torch

    source = build_checkpoint(tmp_path / "saved")
    target = convert(source, tmp_path / "classic").folder

    names = {tensor.name for shard in shards_of(target) for tensor in shard.tensors}
    assert any(name.startswith("vision_tower.vision_model.encoder.") for name in names)
    assert any(name.startswith("language_model.model.layers.") for name in names)
    torch.testing.assert_close(logits(load(target, CPU)), logits(load(source, CPU)), atol=1e-5, rtol=0)


def test_nothing_is_overwritten(original: Path, tmp_path: Path) -> None:
    """A destination that exists is refused, and left as it was."""
    (tmp_path / "there").mkdir()

    with pytest.raises(DestinationExistsError, match="exists already"):
        convert(original, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_an_interrupted_run_goes_on_with_the_next_file(
    original: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop in the second shard there is no destination yet; the next run copies two of three."""
    copied: list[str] = []
    copy = engine.export._copy_shard

    def counted(shard, *arguments):
        if len(copied) == 1 and arguments[1].parents[1] == tmp_path and not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        copied.append(shard.path.name)
        return copy(shard, *arguments)

    monkeypatch.setattr(engine.export, "_copy_shard", counted)
    with pytest.raises(KeyboardInterrupt):
        convert(original, tmp_path / "model")
    assert not (tmp_path / "model").exists()

    convert(original, tmp_path / "model")

    assert copied == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    for file in converted.iterdir():
        assert file_sha256(tmp_path / "model" / file.name) == file_sha256(file), file.name


def test_a_run_that_died_before_its_last_step_goes_on(
    original: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is written and the folder has not its name yet: the next run ends well."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            convert(original, tmp_path / "model")

    made = convert(original, tmp_path / "model").folder

    for file in converted.iterdir():
        assert file_sha256(made / file.name) == file_sha256(file), file.name


def test_a_copy_that_changed_meanwhile_is_made_again(original: Path, tmp_path: Path) -> None:
    """A half-written or altered file of an interrupted run is not trusted."""
    whole = convert(original, tmp_path / "model").folder
    partial = whole.rename(tmp_path / "model.partial")
    manifest = json.loads((partial / MANIFEST_NAME).read_text())["files"]
    shard = "model-00002-of-00003.safetensors"
    for name, entry in manifest.items():
        entry["source_state"] = (
            engine.manifest._state_of(original / name) if (original / name).exists() else []
        )
    (partial / MANIFEST_NAME).write_text(json.dumps({"files": manifest}))
    (partial / shard).write_bytes(b"\0" * (partial / shard).stat().st_size)

    convert(original, tmp_path / "model")

    assert file_sha256(tmp_path / "model" / shard) == manifest[shard]["sha256"]


def test_two_keys_with_one_new_name_are_refused(tmp_path: Path) -> None:
    """A folder that holds a tensor in two spellings says which."""
    import torch
    from safetensors.torch import load_file, save_file

    build_original(tmp_path / "a", shards=1)
    (file,) = (tmp_path / "a").glob("*.safetensors")
    tensors = load_file(file) | {"language_model.model.norm.weight": torch.zeros(32)}
    save_file(tensors, file, metadata={"format": "pt"})
    (tmp_path / "a" / INDEX_NAME).unlink()

    with pytest.raises(CheckpointError, match=r"would both become language_model\.model\.norm\.weight"):
        convert(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b.partial").exists()


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    """Shards of two downloads in one folder are told apart, not merged."""
    folder = build_original(tmp_path / "a")
    (folder / INDEX_NAME).unlink()
    for number, file in enumerate(sorted(folder.glob("*.safetensors"))):
        file.rename(folder / f"part{number}.safetensors")
    (folder / "part9.safetensors").write_bytes((folder / "part0.safetensors").read_bytes())

    with pytest.raises(CheckpointError, match=r"stands in part0\.safetensors and in part9\.safetensors"):
        convert(folder, tmp_path / "b")


def test_a_missing_shard_is_named_with_and_without_index(tmp_path: Path) -> None:
    """The index names the missing file; without index the numbering gives it away."""
    folder = build_original(tmp_path / "a")
    (folder / "model-00002-of-00003.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"missing \(model-00002-of-00003\.safetensors\)"):
        convert(folder, tmp_path / "b")
    (folder / INDEX_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"there are 3 files, found 2"):
        convert(folder, tmp_path / "b")


def test_tensors_of_no_known_part_are_refused(tmp_path: Path) -> None:
    """What would be lost is named; nothing is written."""
    import torch
    from safetensors.torch import save_file

    folder = build_original(tmp_path / "a")
    (folder / INDEX_NAME).unlink()
    for number, file in enumerate(sorted(folder.glob("*.safetensors"))):
        file.rename(folder / f"part{number}.safetensors")
    save_file({"model.surprise.weight": torch.zeros(2)}, folder / "more.safetensors")

    with pytest.raises(CheckpointError, match=r"no known part \(model\.surprise\.weight\)"):
        convert(folder, tmp_path / "b")


def test_another_structure_is_refused(tmp_path: Path) -> None:
    """Only LLaVA is converted."""
    folder = build_original(tmp_path / "a")
    rewrite_config(folder, model_type="phi3_v")

    with pytest.raises(UnsupportedCheckpointError, match="phi3_v"):
        convert(folder, tmp_path / "b")


def test_a_full_disk_is_found_out_before_writing(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both numbers are named."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))

    with pytest.raises(DiskSpaceError, match=r"are needed, 0\.00 GB are free"):
        convert(original, tmp_path / "model")


MEASURE = """
import sys
from pathlib import Path
from engine.export import convert
convert(Path(sys.argv[1]), Path(sys.argv[2]))
# not getrusage: its figure begins with that of the process that started this one
status = Path("/proc/self/status").read_text()
print(next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")))
"""


def grow(folder: Path, megabytes: int) -> int:
    """Give each shard of a tiny original checkpoint a large tensor; the size of the largest file."""
    from safetensors.numpy import save_file

    index = json.loads((folder / INDEX_NAME).read_text())
    for number in range(3):
        name = f"model.layers.{number + 2}.mlp.up_proj.weight"
        file = f"grown-{number}.safetensors"
        save_file({name: np.full((megabytes, 512, 512), number, np.float32)}, folder / file)
        index["weight_map"][name] = file
    (folder / INDEX_NAME).write_text(json.dumps(index))
    return max(file.stat().st_size for file in folder.glob("*.safetensors"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_checkpoint(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Converting 200 MB in shards of 67 MB takes little more memory than converting a tiny checkpoint."""
    peaks = []
    for name, megabytes in (("small", 0), ("large", 64)):
        folder = build_original(tmp_path / name)
        largest = grow(folder, megabytes) if megabytes else 0
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, folder, tmp_path / f"{name}-out"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(engine.export.__file__).parents[1],
        )
        peaks.append(int(run.stdout.split()[-1]))
    extra = peaks[1] - peaks[0]
    measured = {"peak": peaks[1], "more than tiny": extra, "largest shard": largest}
    for name, count in measured.items():
        record_property(f"{name}, MB", round(count / 1e6))
    logging.getLogger("measured").warning("%s", measured)

    assert extra < largest / 2


def pickled(source: Path, destination: Path, *, legacy: bool = False) -> Path:
    """Copy a checkpoint with its weights as older programs write them."""
    import shutil

    import torch
    from safetensors.torch import load_file

    shutil.copytree(source, destination, ignore=shutil.ignore_patterns("*.safetensors*"))
    names = {}
    for shard in shards_of(source):
        name = shard.path.name.replace("model", "pytorch_model", 1).replace(".safetensors", ".bin")
        state = load_file(shard.path)
        torch.save(state, destination / name, _use_new_zipfile_serialization=not legacy)
        names |= dict.fromkeys(state, name)
    index = {"metadata": {"total_size": 0}, "weight_map": names}
    (destination / PICKLE_INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
    return destination


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_weights_open_and_convert(original: Path, tmp_path: Path, *, legacy: bool) -> None:
    """Tensors alone are read from them; loaded or converted they are the same weights."""
    import torch

    folder = pickled(original, tmp_path / "pickled", legacy=legacy)
    before = logits(load(original, CPU))

    torch.testing.assert_close(logits(load(folder, CPU)), before, atol=1e-5, rtol=0)
    made = convert(folder, tmp_path / "made").folder
    assert {file.suffix for file in made.iterdir()} == {".json", ".safetensors", ".jinja"}
    torch.testing.assert_close(logits(load(made, CPU)), before, atol=1e-5, rtol=0)
    assert json.loads((made / INDEX_NAME).read_text())["weight_map"].keys() == {
        tensor.name for shard in shards_of(made) for tensor in shard.tensors
    }


def test_pickles_of_another_download_are_found(original: Path, tmp_path: Path) -> None:
    """Several files need their index, and it must agree with them."""
    folder = pickled(original, tmp_path / "pickled")
    index = folder / PICKLE_INDEX_NAME
    whole = index.read_text(encoding="utf-8")
    index.write_text(whole.replace("00001-of", "00002-of", 1), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin\.index\.json is of another download"):
        load(folder, CPU)
    index.unlink()
    with pytest.raises(CheckpointError, match=r"3 weight files and no pytorch_model\.bin\.index\.json"):
        load(folder, CPU)
    next(folder.glob("*00002*.bin")).unlink()
    with pytest.raises(CheckpointError, match="says there are 3 files, found 2"):
        load(folder, CPU)
