"""Choosing and preparing the model: found missing at once, loaded in the background, errors carried."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import FileAccessError, SettingsError
from app.model import (
    DEMONSTRATION_FOLDER,
    PreparedBackend,
    PreparingBackend,
    describe_model,
    open_backend,
)
from app.settings import Settings
from engine.errors import (
    BackendUnavailableError,
    CheckpointNotFoundError,
    EngineError,
    UnsupportedCheckpointError,
)
from engine.messages import Delta, Finished, GenerationOptions, Loading, Message
from engine.scripted import ScriptedBackend
from tests.engine.tiny import build_checkpoint, rewrite_config

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


def test_an_unknown_choice_is_refused_by_name(tmp_path: Path) -> None:
    """A typing mistake is found before the page starts."""
    with pytest.raises(SettingsError, match="none or int8"):
        open_backend(Settings(model=str(tmp_path), quantisation="int3"))
    with pytest.raises(SettingsError, match="auto or llama3 or vicuna"):
        open_backend(Settings(model=str(tmp_path), chat_layout="llama4"))
    with pytest.raises(SettingsError, match="0 or more"):
        open_backend(Settings(model=str(tmp_path), threads=-1))


@pytest.fixture(params=[True, False], ids=["own process", "this process"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Make settings of a tiny checkpoint, in a process of its own or in this one."""
    folder = build_checkpoint(tmp_path / "checkpoint")
    data = tmp_path / "data"
    return Settings(data_folder=data, model=str(folder), device="cpu", threads=1, model_process=request.param)


def test_questions_wait_while_the_model_loads(local: Settings) -> None:
    """A question asked before the model is ready is answered when it is."""
    backend, _ = open_backend(local)
    told: list[str] = []
    backend.start(lambda reason, seconds: told.append(reason) if seconds > 0 else None)

    events = list(backend.stream(QUESTION, SHORT))
    backend.close()

    assert told
    assert "cpu was asked for" in told[0]
    assert isinstance(events[-1], Finished)
    loading = [event for event in events if isinstance(event, Loading)]
    assert loading[0].stage in {"starting", "libraries"}
    assert all(event.seconds_left is None or event.seconds_left >= 0 for event in loading)
    with pytest.raises(BackendUnavailableError, match="closed"):
        next(backend.stream(QUESTION, SHORT))


def test_an_error_while_loading_reaches_whoever_asks(local: Settings) -> None:
    """Every question gets the reason; so does wait."""
    rewrite_config(Path(local.model), model_type="bert")
    backend, _ = open_backend(local)

    for _ in range(2):
        with pytest.raises(UnsupportedCheckpointError, match="bert"):
            list(backend.stream(QUESTION, SHORT))
    with pytest.raises(UnsupportedCheckpointError, match="bert"):
        backend.wait()
    backend.close()


@pytest.mark.parametrize("local", [True], indirect=True)
def test_a_model_killed_in_mid_answer_ends_one_answer(local: Settings) -> None:
    """The page lives on: the running answer fails with a reason, the next question is answered."""
    backend, _ = open_backend(local)
    backend.wait()
    stream = backend.stream(QUESTION, GenerationOptions(max_new_tokens=450))
    next(stream)
    os.kill(backend.process_id, signal.SIGKILL)

    with pytest.raises(EngineError, match="being started again"):
        list(stream)
    assert isinstance(list(backend.stream(QUESTION, SHORT))[-1], Finished)
    backend.close()


def test_a_model_closed_while_it_loads_is_freed() -> None:
    """Nothing is left behind when the page is closed before the model was ready."""
    begin = threading.Event()
    inner = ScriptedBackend()

    def opener(_tell: object) -> tuple[ScriptedBackend, str]:
        begin.wait(10)
        return inner, "late"

    backend = PreparingBackend("late", opener)
    backend.start()
    backend.close()
    begin.set()

    with pytest.raises(BackendUnavailableError, match="closed"):
        list(backend.stream(QUESTION, SHORT))
    with pytest.raises(BackendUnavailableError):
        list(inner.stream(QUESTION, SHORT))


@pytest.mark.parametrize("missing", ["remote_url", "remote_model"])
def test_a_remote_backend_needs_address_and_model(missing: str) -> None:
    """The error names the setting that is empty."""
    settings = replace(
        Settings(backend="remote", remote_url="http://127.0.0.1:9", remote_model="m"), **{missing: ""}
    )
    backend, _ = open_backend(settings)

    with pytest.raises(SettingsError, match=missing):
        backend.wait()


def test_a_remote_backend_takes_its_key_from_a_file(tmp_path: Path) -> None:
    """The key stands in a file; a missing file is named."""
    settings = Settings(backend="remote", remote_url="http://127.0.0.1:9", remote_model="BiMediX2-70B")
    (tmp_path / "key").write_text("secret\n", encoding="utf-8")

    backend, info = open_backend(replace(settings, remote_key_file=tmp_path / "key"))
    backend.wait()
    assert (info.name, info.is_demonstration) == ("BiMediX2-70B", False)
    assert "127.0.0.1" in backend.reason
    backend.close()

    backend, _ = open_backend(replace(settings, remote_key_file=tmp_path / "none"))
    with pytest.raises(FileAccessError, match="none"):
        backend.wait()


def test_every_backend_is_prepared_the_same_way(local: Settings) -> None:
    """Whatever is chosen can be started, waited for, asked why, and closed."""
    for settings in (local, Settings(backend="scripted"), Settings(backend="remote")):
        backend, _ = open_backend(settings)
        assert isinstance(backend, PreparedBackend)
        backend.close()


def test_scripted_can_be_chosen_for_tests() -> None:
    """The scripted backend goes through the same door."""
    backend, info = open_backend(Settings(backend="scripted"))

    events = list(backend.stream(QUESTION, SHORT))
    backend.close()

    assert info.name == "scripted"
    assert "".join(event.text for event in events if isinstance(event, Delta)).startswith("0 image(s)")
