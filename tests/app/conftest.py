"""A workspace on a temporary folder with a scripted backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.history.store import HistoryStore
from app.model import ModelInfo
from app.session import Workspace
from app.settings import Settings
from engine.scripted import ScriptedBackend
from viewers.worker import Intake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Make settings that keep everything in a temporary folder."""
    return Settings(data_folder=tmp_path / "data")


@pytest.fixture
def backend() -> ScriptedBackend:
    """Make a backend that tells what arrived."""
    return ScriptedBackend()


@pytest.fixture(scope="session")
def intake() -> Iterator[Intake]:
    """Start the process that reads uploads, once."""
    with Intake() as started:
        yield started


@pytest.fixture
def workspace(settings: Settings, backend: ScriptedBackend, intake: Intake) -> Iterator[Workspace]:
    """Open a workspace over the scripted backend."""
    settings.uploads_folder.mkdir(parents=True)
    settings.images_folder.mkdir()
    store = HistoryStore.open(settings.database_path)
    info = ModelInfo("scripted", "scripted", is_demonstration=False, reason="a test")
    opened = Workspace(settings, store, backend, info, intake)
    yield opened
    opened._intake = Intake()  # the shared one serves the next test
    opened.close()
