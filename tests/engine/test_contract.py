"""The promises of the seam, kept by the backends that work in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.local import LocalBackend
from engine.messages import Message
from engine.scripted import ScriptedBackend
from tests.engine.contract import BackendContract, Subject
from tests.engine.tiny import SPOKEN, random_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.checkpoint import LoadedModel

ARABIC = [Message.of("user", random_image(1), "أين الآفة؟")]
LONG = [Message.of("user", "long")]


def respond(messages: Sequence[Message]) -> str:
    return " ".join(["word"] * 400) if messages[-1].text == "long" else SPOKEN


class TestScripted(BackendContract):
    """The backend of tests and documentation."""

    @pytest.fixture
    def subject(self) -> Subject:
        backend = ScriptedBackend(respond=respond)
        return Subject(backend, ARABIC, SPOKEN, LONG, refused=[], fresh=ScriptedBackend)


@pytest.fixture(scope="module")
def speaking(speaking_folder: Path) -> LoadedModel:
    """Load the checkpoint that speaks, once."""
    from engine.checkpoint import LoadOptions, load

    return load(speaking_folder, LoadOptions(device="cpu", dtype="float32", threads=1))


class TestLocal(BackendContract):
    """A model in this process."""

    @pytest.fixture
    def subject(self, speaking: LoadedModel) -> Subject:
        too_long = [Message.of("user", "word " * 600)]
        return Subject(
            LocalBackend(speaking), ARABIC, SPOKEN, LONG, too_long, fresh=lambda: LocalBackend(speaking)
        )
