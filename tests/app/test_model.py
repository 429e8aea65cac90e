"""Choosing and preparing the model: found missing at once, loaded in the background, errors carried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.errors import SettingsError
from app.model import DEMONSTRATION_FOLDER, PreparingBackend, describe_model, open_backend
from app.settings import Settings
from engine.errors import BackendUnavailableError, CheckpointNotFoundError, UnsupportedCheckpointError
from engine.messages import Delta, Finished, GenerationOptions, Message, Queued
from tests.engine.tiny import build_checkpoint, rewrite_config

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = [Message.of("user", "Hi")]
SHORT = GenerationOptions(max_new_tokens=4)


def test_without_a_choice_it_is_the_demonstration_model() -> None:
    """The default says what it is and why."""
    info = describe_model(Settings())

    assert info.is_demonstration
    assert info.source == str(DEMONSTRATION_FOLDER)
    assert "no checkpoint was chosen" in info.reason


def test_the_demonstration_model_by_its_path_is_still_one() -> None:
    """Naming its folder does not hide the notice."""
    assert describe_model(Settings(model=str(DEMONSTRATION_FOLDER))).is_demonstration


def test_another_checkpoint_is_named_after_its_folder() -> None:
    """A folder's or repository's last part is the name, and it is no demonstration."""
    for source in ("/models/BiMediX2-8B-Bi", "MBZUAI/BiMediX2-8B-Bi"):
        info = describe_model(Settings(model=source))
        assert (info.name, info.is_demonstration) == ("BiMediX2-8B-Bi", False)


@pytest.mark.parametrize("model", ["/nowhere", "./nowhere", "~/nowhere", "nowhere"])
def test_a_missing_folder_is_found_before_the_page_starts(model: str) -> None:
    """A typing mistake in --model ends the start, not the first question."""
    with pytest.raises(CheckpointNotFoundError, match="nowhere"):
        open_backend(Settings(model=model))


def test_an_unknown_backend_is_refused_by_name() -> None:
    """The error lists the backends there are."""
    with pytest.raises(SettingsError, match="local or remote or scripted"):
        open_backend(Settings(backend="magic"))


def test_questions_wait_while_the_model_loads(tmp_path: Path) -> None:
    """A question asked before the model is ready is answered when it is."""
    backend, _ = open_backend(Settings(model=str(build_checkpoint(tmp_path)), device="cpu", threads=1))
    told: list[str] = []
    backend.start(lambda reason, seconds: told.append(reason) if seconds > 0 else None)

    events = list(backend.stream(QUESTION, SHORT))
    backend.close()

    assert told
    assert "cpu was asked for" in told[0]
    assert isinstance(events[-1], Finished)
    assert all(event == Queued(1) for event in events if isinstance(event, Queued))
    with pytest.raises(BackendUnavailableError, match="closed"):
        next(backend.stream(QUESTION, SHORT))


def test_an_error_while_loading_reaches_whoever_asks(tmp_path: Path) -> None:
    """Every question gets the reason; so does wait."""
    folder = build_checkpoint(tmp_path)
    rewrite_config(folder, model_type="bert")
    backend, _ = open_backend(Settings(model=str(folder)))

    for _ in range(2):
        with pytest.raises(UnsupportedCheckpointError, match="bert"):
            list(backend.stream(QUESTION, SHORT))
    with pytest.raises(UnsupportedCheckpointError, match="bert"):
        backend.wait()


def test_scripted_can_be_chosen_for_tests() -> None:
    """The scripted backend goes through the same door."""
    settings = replace(Settings(), backend="scripted")
    backend = PreparingBackend(settings, describe_model(settings))

    events = list(backend.stream(QUESTION, SHORT))
    backend.close()

    assert "".join(event.text for event in events if isinstance(event, Delta)).startswith("0 image(s)")
