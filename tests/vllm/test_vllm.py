"""A real vLLM, the distributed engine, on one CPU: the same promises as from a model in this process.

Excluded from the ordinary run; ``make test-vllm`` builds the environment and runs them.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import PromptTooLongError, ServerModelError
from engine.export import convert
from engine.messages import Delta, Finished, GenerationOptions, Message
from engine.remote import RemoteBackend
from tests.engine.contract import BackendContract, Subject, said
from tests.engine.test_remote import free_port, wait_for
from tests.engine.tiny import SPOKEN, build_speaking, random_image

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
CONTEXT = 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkpoint that speaks, in the classic names vLLM wants; it has no head narrower than 32."""
    made = tmp_path_factory.mktemp("vllm")
    convert(build_speaking(made / "source", width=128), made / "classic")
    return made / "classic"


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Run vLLM, once."""
    python = os.environ.get("VLLM_PYTHON", ".venv-vllm/bin/python")
    if not Path(python).exists():
        pytest.fail(f"no vLLM at {python}: run make test-vllm, or name its Python in VLLM_PYTHON")
    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "speaking", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--max-model-len", str(CONTEXT), "--enforce-eager", "--dtype", "bfloat16"]
    log = folder.parent / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_for(address + "/health", process, log, seconds=600)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def backend(url: str) -> Iterator[RemoteBackend]:
    with closing(RemoteBackend(url, "speaking")) as opened:
        yield opened


class TestContract(BackendContract):
    """The seam's promises."""

    @pytest.fixture
    def subject(self, backend: RemoteBackend, url: str) -> Subject:
        return Subject(
            backend=backend,
            arabic=[Message.of("user", random_image(1, 40, 28), "أين الآفة؟")],
            arabic_answer=SPOKEN,
            long=[Message.of("user", "long")],
            refused=[Message.of("user", "word " * 2000)],
            fresh=lambda: RemoteBackend(url, "speaking"),
            patience_s=60,
        )


def test_it_counts_a_prompt_as_we_do(backend: RemoteBackend, folder: Path) -> None:
    """Chat template and image tokens agree: as many tokens as a model in this process would read."""
    from engine.checkpoint import LoadOptions, load

    messages = [
        Message.of("user", random_image(1, 40, 28), "Which side?"),
        Message.of("assistant", "Left."),
        Message.of("user", random_image(2), "وهذه؟"),
    ]
    last = list(backend.stream(messages, GenerationOptions()))[-1]

    assert isinstance(last, Finished)
    local = load(folder, LoadOptions(device="cpu", dtype="float32", threads=1))
    assert last.usage.prompt_tokens == len(local.renderer.render(messages).ids)


def test_too_long_is_told_with_its_limit(backend: RemoteBackend) -> None:
    """Its own sentence is understood."""
    with pytest.raises(PromptTooLongError) as caught:
        list(backend.stream([Message.of("user", "word " * 2000)], GenerationOptions()))

    assert caught.value.values["limit"] == CONTEXT - 32


def test_an_answer_that_does_not_fit_is_asked_for_shorter(backend: RemoteBackend) -> None:
    """More tokens asked for than the context holds: the answer gets what room there is."""
    options = GenerationOptions(max_new_tokens=2 * CONTEXT)

    assert said(list(backend.stream([Message.of("user", "Hello")], options))) == SPOKEN


def test_an_unknown_model_is_answered_with_the_names(url: str) -> None:
    """The names come from the server."""
    with closing(RemoteBackend(url, "another")) as stranger:
        assert stranger.models() == ("speaking",)
        with pytest.raises(ServerModelError) as caught:
            list(stranger.stream([Message.of("user", "Hello")], GenerationOptions()))

    assert caught.value.values["expected"] == "speaking"


def test_answers_at_the_same_time_do_not_mix(backend: RemoteBackend) -> None:
    """Eight questions batched by the server, read in turn."""
    streams = [backend.stream([Message.of("user", f"Question {n}")], GenerationOptions()) for n in range(8)]
    for stream in streams:
        next(event for event in stream if isinstance(event, Delta))

    assert all(isinstance(list(stream)[-1], Finished) for stream in streams)
