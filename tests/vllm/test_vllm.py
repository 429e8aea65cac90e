"""A real vLLM, the distributed engine, on one CPU: the same promises as from a model in this process.

Excluded from the ordinary run; ``make test-vllm`` builds the environment and runs them.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.model import DEMONSTRATION_FOLDER
from engine.checkpoint import LoadOptions, load
from engine.errors import PromptTooLongError, ServerModelError
from engine.export import convert
from engine.local import LocalBackend
from engine.messages import Delta, Finished, GenerationOptions, Message
from engine.remote import RemoteBackend
from tests.engine.contract import BackendContract, Subject, said
from tests.engine.golden import answers, golden_conversations
from tests.engine.test_remote import free_port, wait_for
from tests.engine.tiny import SPOKEN, build_speaking, random_image

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
CONTEXT = 512
CPU = LoadOptions(device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkpoint that speaks, in the classic names vLLM wants; it has no head narrower than 32."""
    made = tmp_path_factory.mktemp("vllm")
    convert(build_speaking(made / "source", width=128), made / "classic")
    return made / "classic"


@contextmanager
def running(folder: Path, name: str, dtype: str, context: int) -> Iterator[str]:
    """Run vLLM with a folder; gives its address."""
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
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--max-model-len", str(context), "--enforce-eager", "--dtype", dtype]
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


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Run vLLM with the checkpoint that speaks, once."""
    with running(folder, "speaking", "bfloat16", CONTEXT) as address:
        yield address


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteBackend]:
    """Run vLLM with the demonstration model, in the numbers its figures were measured in."""
    folder = tmp_path_factory.mktemp("vllm") / "classic"
    convert(DEMONSTRATION_FOLDER, folder)
    with (
        running(folder, "demonstration", "float32", 1024) as address,
        closing(RemoteBackend(address, "demonstration")) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def demonstrated() -> Iterator[LocalBackend]:
    """Open the demonstration model in this process."""
    with closing(LocalBackend(load(DEMONSTRATION_FOLDER, CPU))) as opened:
        yield opened


@pytest.fixture
def backend(url: str) -> Iterator[RemoteBackend]:
    with closing(RemoteBackend(url, "speaking")) as opened:
        yield opened


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[LocalBackend]:
    """Open the same folder in this process."""
    with closing(LocalBackend(load(folder, CPU))) as opened:
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
    messages = [
        Message.of("user", random_image(1, 40, 28), "Which side?"),
        Message.of("assistant", "Left."),
        Message.of("user", random_image(2), "وهذه؟"),
    ]
    last = list(backend.stream(messages, GenerationOptions()))[-1]

    assert isinstance(last, Finished)
    assert last.usage.prompt_tokens == len(load(folder, CPU).renderer.render(messages).ids)


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


def test_the_meter_measures_as_a_model_in_this_process_does(
    backend: RemoteBackend, local: LocalBackend
) -> None:
    """The server gives log-probabilities, and with them the values of every sentence, but for rounding.

    It computes in bfloat16, the model here in float32.
    """
    assert backend.gives_scores()
    for image, answer in (
        (random_image(1, 40, 28), "Left. Large."),
        (random_image(2), SPOKEN),
        (random_image(3), "نعم، يسار.\nلا"),
    ):
        messages = [Message.of("user", image, "أين الآفة؟"), Message.of("assistant", answer)]
        here, there = local.image_dependence(messages), backend.image_dependence(messages)

        assert here is not None
        assert there is not None
        assert there.difference == pytest.approx(here.difference, abs=0.05)
        assert [one.text for one in there.sentences] == [one.text for one in here.sentences]
        for ours, theirs in zip(here.sentences, there.sentences, strict=True):
            assert theirs.difference == pytest.approx(ours.difference, abs=0.1)
    assert backend.no_scores == ""


def test_the_golden_conversations_are_the_local_ones(
    demonstration: RemoteBackend, demonstrated: LocalBackend
) -> None:
    """The demonstration model says the same here and there, in both languages, turn by turn."""
    for questions in golden_conversations():
        assert answers(demonstration, questions) == answers(demonstrated, questions)


def test_the_meter_tells_what_was_read_from_the_image(
    demonstration: RemoteBackend, demonstrated: LocalBackend
) -> None:
    """The same levels and nearly the same numbers for answers of the demonstration model."""
    for question, *_ in golden_conversations():
        messages = [question, Message.of("assistant", answers(demonstrated, [question])[0])]
        here, there = demonstrated.image_dependence(messages), demonstration.image_dependence(messages)

        assert here is not None
        assert there is not None
        assert there.difference == pytest.approx(here.difference, abs=0.02, rel=0.02)
        assert there.level == here.level


def test_answers_at_the_same_time_do_not_mix(backend: RemoteBackend) -> None:
    """Eight questions batched by the server, read in turn."""
    streams = [backend.stream([Message.of("user", f"Question {n}")], GenerationOptions()) for n in range(8)]
    for stream in streams:
        next(event for event in stream if isinstance(event, Delta))

    assert all(isinstance(list(stream)[-1], Finished) for stream in streams)
