"""Tiny checkpoints shared by the engine's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.tiny import build_checkpoint, build_speaking

if TYPE_CHECKING:
    from pathlib import Path

    from engine.checkpoint import LoadedModel


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny checkpoint, once."""
    return build_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def speaking_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkpoint that always gives the same Arabic answer, once."""
    return build_speaking(tmp_path_factory.mktemp("speaking"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LoadedModel:
    """Load the tiny checkpoint, once."""
    from engine.checkpoint import LoadOptions, load

    return load(tiny_folder, LoadOptions(device="cpu", dtype="float32", threads=1))
