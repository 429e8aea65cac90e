"""Folders that are broken in every way a download, a hand or a stranger can break them.

Each must end in an error of the checkpoint that says what was found; none in a traceback, none half opened.
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from engine.checkpoint import LoadOptions, inspect, load
from engine.errors import CheckpointError, CheckpointKeysError
from engine.shards import INDEX_NAME
from tests.engine.tiny import build_original, build_phi3v

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = LoadOptions(device="cpu", dtype="float32")
KINDS = ("llava", "llava_llama", "phi3_v")


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make one folder of each kind."""
    made = tmp_path_factory.mktemp("whole")
    return {
        "llava": tiny_folder,
        "llava_llama": build_original(made / "original"),
        "phi3_v": build_phi3v(made / "phi"),
    }


@pytest.fixture
def copy(whole: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a folder, to be broken."""
    return lambda kind: shutil.copytree(whole[kind], tmp_path / kind)


def refused(folder: Path) -> str:
    """Load a folder, which must fail; returns what is said."""
    with pytest.raises(CheckpointError) as caught:
        load(folder, CPU)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def set_field(folder: Path, field: str, value: Any) -> None:
    """Change a field where this kind of folder keeps it."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    (config.get("text_config", config) if field in TEXT_FIELDS else config)[field] = value
    path.write_text(json.dumps(config), encoding="utf-8")


TEXT_FIELDS = {
    "hidden_size": ["x", 0, -1, None, 33],
    "num_attention_heads": [0, "4", None, 3],
    "num_hidden_layers": [0, -1, "two", 3],
    "num_key_value_heads": [0, 3, "x"],
    "vocab_size": [0, 5, "a"],
    "rope_scaling": ["x", {"type": "nonsense"}, 5],
    "rope_theta": ["a", 0],
    "max_position_embeddings": ["x", 0, None],
}
OWN_FIELDS = {
    "llava": {
        "vision_feature_layer": [99, "a"],
        "image_token_index": [-5, 10**7, "x"],
        "quantization_config": [{"quant_method": "gptq", "bits": 4}, "x"],
        "bos_count": ["x", -3],
        "vision_config": ["x", {"model_type": "clip_vision_model", "image_size": 0}],
    },
    "llava_llama": {
        "mm_vision_select_layer": [99, "a", [-2, -1]],
        "mm_projector_type": ["linear", None, 5],
        "eos_token_id": ["x", [None], {}],
        "bos_count": ["x", -3],
    },
    "phi3_v": {"embd_layer": ["x", {}], "img_processor": ["x"], "eos_token_id": ["x", {}]},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_numbers_of_the_language_model_without_sense(
    copy: Callable[[str], Path], kind: str, field: str
) -> None:
    """Of the wrong type, zero, or another model's."""
    folder = copy(kind)
    for value in TEXT_FIELDS[field]:
        set_field(folder, field, value)
        refused(folder)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in KINDS for field in OWN_FIELDS[kind]])
def test_settings_of_its_own_without_sense(copy: Callable[[str], Path], kind: str, field: str) -> None:
    """Layers that do not exist, tokens that do not exist, other projectors, other quantisations."""
    folder = copy(kind)
    for value in OWN_FIELDS[kind][field]:
        set_field(folder, field, value)
        refused(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[]"),
        ("config.json", b"null"),
        ("config.json", "{}".encode("utf-16")),
        ("config.json", b'{"model_type": ["llava"]}'),
        ("tokenizer.json", b""),
        ("tokenizer.json", b"{}"),
        ("generation_config.json", b"{"),
        ("generation_config.json", b"[]"),
        ("preprocessor_config.json", b"{"),
        ("preprocessor_config.json", b"[1]"),
        ("preprocessor_config.json", b'{"image_mean": "x", "num_crops": "y"}'),
    ],
)
def test_files_of_settings_that_cannot_be_read(
    copy: Callable[[str], Path], kind: str, name: str, content: bytes
) -> None:
    """Named in the error; a file of stop tokens that transformers would pass over is one of them."""
    folder = copy(kind)
    (folder / name).write_bytes(content)

    said = refused(folder)
    assert name in said or "model_type" in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-50]),
        lambda file: file.write_bytes(file.read_bytes() + b"more"),
        lambda file: file.write_bytes(file.read_bytes()[:20]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 4\n"
        ),
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["too short", "too long", "header cut", "empty", "pointer of git", "gone", "a folder"],
)
def test_weight_files_that_are_not_whole(
    copy: Callable[[str], Path], kind: str, damage: Callable[[Path], object]
) -> None:
    """Found in the headers, before anything is loaded."""
    folder = copy(kind)
    damage(next(folder.glob("*.safetensors")))

    said = refused(folder)
    with pytest.raises(CheckpointError):
        inspect(folder, CPU)
    assert "download" in said


class Harmful:
    """Unpickled by an ordinary unpickler, it leaves a file behind."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, ("harm", "w")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda file: torch_save({"a": Harmful()}, file), "cannot be read as tensors alone"),
        (lambda file: file.write_bytes(pickle.dumps({"a": Harmful()}, protocol=2)), "as tensors alone"),
        (lambda file: torch_save({"a": [1]}, file), "holds more than tensors by name (a: list)"),
        (lambda file: torch_save([1], file), "holds more than tensors by name (the file: list)"),
        (lambda file: file.write_bytes(b""), "cannot be read as tensors alone"),
        (lambda file: file.write_bytes(b"PK\x03\x04" + bytes(60)), "cannot be read as tensors alone"),
        (lambda file: file.write_bytes(b"version https://git-lfs"), "cannot be read as tensors alone"),
        (lambda file: torch_save({"a": Harmful}, file), "cannot be read as tensors alone"),
    ],
    ids=["code", "plain code", "a list", "no names", "empty", "cut", "pointer of git", "a class"],
)
def test_pickles_give_tensors_or_nothing(
    copy: Callable[[str], Path],
    write: Callable[[Path], object],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """What else a pickled weight file holds is not built, and the error names the file."""
    folder = copy("llava")
    next(folder.glob("*.safetensors")).unlink()
    write(folder / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)

    assert said in refused(folder)
    assert "pytorch_model.bin" in refused(folder)
    assert list(tmp_path.glob("harm")) == []


def torch_save(content: object, file: Path) -> None:
    """Pickle as torch does."""
    import torch

    torch.save(content, file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: [], "cannot be read"),
        (lambda _: {"metadata": {}}, "cannot be read"),
        (lambda _: {"metadata": {}, "weight_map": ["a"]}, "cannot be read"),
        (lambda old: {"weight_map": old["weight_map"]}, "has no metadata"),
        (lambda old: old | {"weight_map": old["weight_map"] | {"x": "nowhere.safetensors"}}, "missing"),
        (lambda old: old | {"weight_map": {k: f"../{v}" for k, v in old["weight_map"].items()}}, "outside"),
        (lambda old: old | {"weight_map": dict.fromkeys(old["weight_map"], "/etc/passwd")}, "outside"),
        (lambda old: old | {"weight_map": dict.fromkeys(old["weight_map"], 5)}, "outside"),
        (lambda old: old | {"weight_map": dict(list(old["weight_map"].items())[1:])}, "another download"),
        (
            lambda old: old | {"weight_map": old["weight_map"] | {"lm_head.weight": _other(old)}},
            "lm_head.weight is in",
        ),
    ],
)
def test_an_index_that_does_not_fit(copy: Callable[[str], Path], change: Any, said: str) -> None:
    """Broken, naming files that are not there or not here, or of another download."""
    folder = copy("llava_llama")
    path = folder / INDEX_NAME
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")

    assert said in refused(folder)


def _other(index: dict[str, Any]) -> str:
    own = index["weight_map"]["lm_head.weight"]
    return next(name for name in sorted(set(index["weight_map"].values())) if name != own)


def test_several_files_without_an_index_are_told(copy: Callable[[str], Path]) -> None:
    """Which file is missing stands in the error."""
    folder = copy("llava_llama")
    (folder / INDEX_NAME).unlink()

    assert f"no {INDEX_NAME}" in refused(folder)


def test_all_tensors_that_do_not_fit_are_in_the_log(
    copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The sentence names some with both shapes, the log every one."""
    folder = copy("llava_llama")
    set_field(folder, "num_hidden_layers", 6)
    set_field(folder, "vocab_size", 5)
    with caplog.at_level(logging.ERROR), pytest.raises(CheckpointKeysError) as caught:
        load(folder, CPU)

    assert caught.value.values["missing"] == 36
    assert "… 38" in str(caught.value)
    assert "lm_head.weight: (383, 32) instead of (5, 32)" in caplog.text
    assert caplog.text.count("layers.5.") == 9


@pytest.mark.parametrize("device", ["tpu", "", "cuda:x", "meta", "cuda:99"])
def test_a_device_that_is_not_known_is_named(whole: dict[str, Path], device: str) -> None:
    """Also one that torch knows and nobody can compute with here."""
    with pytest.raises(CheckpointError, match="device"):
        load(whole["llava"], LoadOptions(device=device))


@pytest.mark.parametrize("wrong", [{"dtype": "float99"}, {"dtype": "int8"}, {"threads": -1}])
def test_options_nobody_could_mean_are_mistakes_of_the_program(
    whole: dict[str, Path], wrong: dict[str, Any]
) -> None:
    """Not errors of the folder."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        load(whole["llava"], LoadOptions(**({"device": "cpu"} | wrong)))
