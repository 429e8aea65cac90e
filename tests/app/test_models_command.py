"""bimedix2 models: exit statuses and sentences, in both languages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from app.cli import run
from tests.engine.test_adapters import build_adapter
from tests.engine.tiny import build_checkpoint, build_original

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIMEDIX2_DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)


def test_list_names_size_licence_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    """Every released checkpoint has a line, in the language asked for."""
    assert run(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("CC BY-NC-SA 4.0  not on this computer" in line for line in lines) == 5

    assert run(["models", "list", "--language", "ar"]) == 0
    assert "غير موجود على هذا الحاسوب" in capsys.readouterr().out


def test_mirror_convert_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fetched from a mirror into the data folder, converted, checked; a damaged file ends with status 1."""
    mirror = build_original(tmp_path / "mirror")

    assert run(["models", "download", "MBZUAI/BiMediX2-8B", "--from", str(mirror)]) == 0
    fetched = tmp_path / "data" / "models" / "BiMediX2-8B"
    assert (fetched / "config.json").is_file()
    assert "non-commercial" in capsys.readouterr().out

    converted = tmp_path / "converted"
    assert run(["models", "convert", str(fetched), str(converted)]) == 0
    said = capsys.readouterr().out
    assert f"tensors were written to {converted}" in said
    peak, largest = (int(number) for number in re.findall(r"(\d+) MB", said))
    assert 20 < peak < 8000
    assert largest < 10
    assert run(["models", "convert", str(fetched), str(converted)]) == 1
    assert "exists already" in capsys.readouterr().err

    assert run(["models", "verify", str(converted)]) == 0
    assert "SHA-256 compared" in capsys.readouterr().out
    shard = converted / "model-00001-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert run(["models", "verify", str(converted)]) == 1
    assert "model-00001-of-00003.safetensors: damaged" in capsys.readouterr().out


def test_merge_writes_a_folder_and_refuses_a_strange_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The adapter's base by its name; another one only when told, and never of other shapes."""
    base = build_checkpoint(tmp_path / "base")
    adapter = build_adapter(tmp_path / "adapter", base, 1)
    moved = base.rename(tmp_path / "moved")

    assert run(["models", "merge", str(moved), str(adapter), str(tmp_path / "merged")]) == 1
    assert "was made for" in capsys.readouterr().err
    arguments = ["models", "merge", str(moved), str(adapter), str(tmp_path / "merged"), "--any-base"]
    assert run(arguments) == 0
    assert "Peak memory" in capsys.readouterr().out
    assert run(["models", "verify", str(tmp_path / "merged")]) == 0


def test_verify_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a checkpoint, and an id that is not here, are named."""
    for source in (str(tmp_path), "MBZUAI/BiMediX2-4B"):
        assert run(["models", "verify", source]) == 1
        assert "No model was found at" in capsys.readouterr().err
