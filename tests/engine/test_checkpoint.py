"""Opening checkpoints: decided from config.json, strict about tensors, with errors that say what to do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from engine.checkpoint import LoadOptions, choose_device, choose_dtype, load
from engine.errors import (
    CheckpointError,
    CheckpointKeysError,
    CheckpointNotFoundError,
    MissingTokenizerError,
    UnsupportedCheckpointError,
)
from engine.messages import ImagePart
from tests.engine.tiny import random_image, rewrite_config

if TYPE_CHECKING:
    from pathlib import Path

    from engine.checkpoint import LoadedModel

CPU = LoadOptions(device="cpu", dtype="float32")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """Copy the tiny checkpoint, to be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "checkpoint")


def test_the_name_of_the_folder_decides_nothing(folder: Path) -> None:
    """A folder called otherwise opens the same."""
    renamed = folder.rename(folder.with_name("phi3-lora-llava_llama"))

    assert load(renamed, CPU).model.config.model_type == "llava"


def test_no_folder_and_no_cached_id_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a checkpoint and an id not downloaded give the same clear error."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for source in (tmp_path / "nowhere", tmp_path, "MBZUAI/not-downloaded"):
        with pytest.raises(CheckpointNotFoundError, match=r"expected a folder that holds config\.json"):
            load(source, CPU)


def test_a_broken_config_is_named(folder: Path) -> None:
    """config.json that is not JSON says so."""
    (folder / "config.json").write_text("{", encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load(folder, CPU)


def test_another_structure_is_refused_by_name(folder: Path) -> None:
    """A model_type that is not computed here is named."""
    rewrite_config(folder, model_type="bert")

    with pytest.raises(UnsupportedCheckpointError, match="found model_type 'bert'"):
        load(folder, CPU)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "mismatched"])
def test_tensors_that_do_not_fit_are_listed(folder: Path, damage: str) -> None:
    """A missing, unexpected or mismatched tensor stops the loading and is named."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "linear_1.weight" in name)
    if damage == "missing":
        del tensors[name]
    elif damage == "unexpected":
        tensors["model.surprise.weight"] = torch.zeros(2)
        name = "model.surprise.weight"
    else:
        tensors[name] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(CheckpointError) as caught:
        load(folder, CPU)

    assert isinstance(caught.value, CheckpointKeysError)
    assert caught.value.values[damage] == 1
    assert name in str(caught.value)


def test_a_missing_tokenizer_says_which_file_to_put_where(folder: Path) -> None:
    """Without tokenizer.json the error names file and folder."""
    (folder / "tokenizer.json").unlink()

    with pytest.raises(MissingTokenizerError, match=r"Put the checkpoint's tokenizer\.json into that folder"):
        load(folder, CPU)


def test_a_broken_tokenizer_is_named(folder: Path) -> None:
    """tokenizer.json that is not a tokenizer says so."""
    (folder / "tokenizer.json").write_text("[]", encoding="utf-8")

    with pytest.raises(MissingTokenizerError, match="cannot be read"):
        load(folder, CPU)


def test_missing_weights_are_a_checkpoint_error(folder: Path) -> None:
    """A folder with config.json and nothing else says that the weights are missing."""
    (folder / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"safetensors"):
        load(folder, CPU)


def test_cuda_without_cuda_is_refused_with_a_way_out() -> None:
    """Asking for a GPU that is not there says what to choose instead."""
    import torch

    if torch.cuda.is_available():
        assert choose_device("cuda")[0].type == "cuda"
        return
    with pytest.raises(CheckpointError, match="choose auto or cpu"):
        choose_device("cuda")


def test_device_and_precision_come_with_their_reason() -> None:
    """What was chosen and why can be shown."""
    device, why_device = choose_device("cpu")
    dtype, why_dtype = choose_dtype("float32", device)

    assert (device.type, str(dtype)) == ("cpu", "torch.float32")
    assert "asked for" in why_device
    assert "asked for" in why_dtype


@pytest.mark.parametrize(("rows", "columns"), [(28, 28), (20, 60), (90, 31)])
def test_preprocessing_pads_resizes_and_normalises(tiny: LoadedModel, rows: int, columns: int) -> None:
    """Pixel values equal padding to a square with the mean colour, bicubic resizing, CLIP normalisation."""
    image = random_image(3, rows, columns)
    side = max(rows, columns)
    square = Image.new("RGB", (side, side), (122, 116, 104))
    square.paste(Image.fromarray(image.pixels), ((side - columns) // 2, (side - rows) // 2))
    expected = np.asarray(square.resize((28, 28), Image.Resampling.BICUBIC), np.float64) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    expected = ((expected - mean) / std).transpose(2, 0, 1)

    values = tiny.pixel_values(ImagePart(image.pixels))[0].numpy()

    assert values.shape == (3, 28, 28)
    np.testing.assert_allclose(values, expected, atol=2e-6)


def test_the_image_token_is_never_sampled(tiny: LoadedModel) -> None:
    """The placeholder's id and unused reserved tokens are suppressed; the ends of a turn stop."""
    assert tiny.renderer.profile.image_token_id in tiny.suppressed_ids
    assert tiny.renderer.end_of_turn in tiny.stop_ids
    assert not set(tiny.suppressed_ids) & tiny.stop_ids
