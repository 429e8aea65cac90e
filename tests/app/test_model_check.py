"""What ``bimedix2 doctor`` says of the chosen model, without loading it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from app.doctor import report
from app.model import DEMONSTRATION_FOLDER
from app.model_check import examine_model
from app.settings import Settings
from engine import memory
from tests.engine.fake_server import FakeServer, Reply, error_body, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with served() as running:
        yield running


def keys(settings: Settings) -> dict[str, str]:
    """Every finding's key and its sentence in English; its Arabic one must be there as well."""
    found = list(examine_model(settings))
    assert report(found, "ar")
    return {finding.key: report([finding], "en").splitlines()[1] for finding in found}


def test_the_reason_is_that_of_the_settings() -> None:
    """Device and precision as the engine will choose them, and the memory it will take."""
    said = keys(Settings())
    assert "because this CPU" in said["cli.doctor_precision"] or "float32" in said["cli.doctor_precision"]
    assert "needs about 0." in said["cli.doctor_memory"]

    said = keys(Settings(model=str(DEMONSTRATION_FOLDER), quantisation="cpu-int8", device="cpu"))
    assert "cpu was asked for; int8 on the CPU was asked for" in said["cli.doctor_precision"]


def test_what_does_not_fit_is_told_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own sentence, with its proposal."""
    monkeypatch.setattr(memory, "memory_free", lambda *_, **__: (330_000_000, "RAM"))

    assert "These would fit: bfloat16" in keys(Settings())["engine.not_enough_memory"]


def test_a_folder_that_would_not_open_fails_with_its_reason(tmp_path: Path) -> None:
    """Found out before anybody asks a question."""
    folder = shutil.copytree(DEMONSTRATION_FOLDER, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    said = keys(Settings(model=str(folder)))
    assert "there is no tokenizer.json" in said["engine.tokenizer_missing"]

    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "found model_type 'bert'" in keys(Settings(model=str(folder)))["engine.checkpoint_unsupported"]

    assert "There is no model at" in keys(Settings(model="/nowhere"))["cli.doctor_model_missing"]


def remote(server: FakeServer, **more: str) -> Settings:
    return Settings(backend="remote", **({"remote_url": server.url, "remote_model": "served"} | more))


def test_a_server_is_asked_for_its_models_and_its_meter(server: FakeServer) -> None:
    """The model is there; the meter is off, with the reason the server's own answer gives."""
    plain = Reply([json.dumps({"usage": {"prompt_tokens": 4}}).encode()], headers=JSON)
    server.replies += [plain, Reply([error_body("extra fields not permitted")], 400, JSON)]
    said = keys(remote(server))
    assert "served" in said["cli.doctor_model"]
    assert "extra fields not permitted" in said["cli.doctor_no_meter"]

    listed = [None, *({"7": {"logprob": -1.0, "decoded_token": text}} for text in ("a", "yes", "<eot>"))]
    scored = json.dumps({"usage": {"prompt_tokens": 4}, "prompt_logprobs": listed}).encode()
    two = Reply([json.dumps({"usage": {"prompt_tokens": 2}}).encode()], headers=JSON)
    server.replies += [two, Reply([scored], headers=JSON)]
    assert "cli.doctor_meter" in keys(remote(server))


def test_what_is_wrong_with_a_server_is_said(server: FakeServer) -> None:
    """Another model's name, a missing setting, an unsafe address, nobody there."""
    assert (
        "no model called other; it has: served"
        in keys(remote(server, remote_model="other"))["engine.server_model"]
    )
    assert list(keys(remote(server, remote_model=""))) == ["app.settings"]
    assert list(keys(remote(server, remote_url="http://far.example"))) == ["engine.server_address"]
    server.close()
    assert list(keys(remote(server))) == ["engine.server_unreachable"]
