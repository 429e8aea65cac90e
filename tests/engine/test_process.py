"""A backend in a child process: the seam's promises, and every way a child can fail."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from engine import pipe
from engine.child import _how
from engine.errors import (
    AnswerFailedError,
    BackendUnavailableError,
    EngineError,
    ProcessCrashedError,
    ProcessGivenUpError,
    ProcessHungError,
    PromptTooLongError,
)
from engine.loading import LoadTimes
from engine.messages import (
    Delta,
    Event,
    Finished,
    GenerationOptions,
    ImagePart,
    Loading,
    Message,
    Reading,
    TextPart,
)
from engine.process import ProcessBackend, ProcessLimits
from tests.engine.contract import BackendContract, Subject, said
from tests.engine.tiny import random_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FACTORY = "tests.engine.faulty:open_faulty"
NEVER = "tests.engine.faulty:open_never"
QUICK = ProcessLimits(backoff_s=0.05)
OPTIONS = GenerationOptions()


def ask(backend: ProcessBackend, question: str, *images: ImagePart) -> str:
    return said(list(backend.stream([Message.of("user", *images, question)], OPTIONS)))


@contextmanager
def opened(
    factory: str = FACTORY, limits: ProcessLimits = QUICK, **arguments: Any
) -> Iterator[ProcessBackend]:
    with closing(ProcessBackend(factory, arguments, limits=limits)) as backend:
        yield backend


def process_id(backend: ProcessBackend) -> int:
    """Id of the child, once it is ready."""
    backend.wait()
    assert backend.process_id is not None
    return backend.process_id


def eventually(condition: Any, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def shared() -> Iterator[ProcessBackend]:
    """One child for all tests that leave it alive or see to it that it comes back."""
    with opened(delay_s=0.002) as backend:
        backend.wait()
        yield backend


@pytest.fixture(scope="module")
def model(speaking_folder: Path) -> Iterator[ProcessBackend]:
    """Open a real, tiny model in a child."""
    arguments = {"source": str(speaking_folder), "device": "cpu", "dtype": "float32", "threads": 1}
    with opened("engine.opening:open_local", **arguments) as backend:
        yield backend


class TestContract(BackendContract):
    """The seam's promises hold through the pipe."""

    @pytest.fixture
    def subject(self, shared: ProcessBackend) -> Subject:
        return Subject(
            backend=shared,
            arabic=[Message.of("user", random_image(1), "أين الآفة؟")],
            arabic_answer="you asked: أين الآفة؟",
            long=[Message.of("user", "long")],
            refused=[],
            fresh=lambda: ProcessBackend(FACTORY),
        )


class TestContractOfAModel(BackendContract):
    """The same with a real model in the child."""

    @pytest.fixture
    def subject(self, model: ProcessBackend) -> Subject:
        from tests.engine.tiny import SPOKEN

        return Subject(
            backend=model,
            arabic=[Message.of("user", random_image(1), "أين الآفة؟")],
            arabic_answer=SPOKEN,
            long=[Message.of("user", "long")],
            refused=[Message.of("user", "word " * 600)],
            fresh=lambda: ProcessBackend(FACTORY),
        )

    def test_it_tells_why_this_device(self, model: ProcessBackend) -> None:
        """Name and reason come from the child."""
        model.wait()
        assert "cpu was asked for; float32 was asked for" in model.reason

    def test_answers_can_be_scored_through_the_pipe(self, model: ProcessBackend) -> None:
        """The likelihood of an answer and the text of its tokens are those of the model."""
        from tests.engine.tiny import SPOKEN

        messages = [Message.of("user", random_image(1), "أين؟"), Message.of("assistant", SPOKEN)]
        scores = model.log_likelihoods(messages)

        assert scores is not None
        assert model.text_of([token for token, _ in scores]) == SPOKEN


# --- failures of one answer ---


@pytest.mark.parametrize("question", ["raise early", "long raise"])
def test_an_engine_error_arrives_as_it_was_raised(shared: ProcessBackend, question: str) -> None:
    """Class and values are kept, before the answer and in the middle of it."""
    with pytest.raises(PromptTooLongError) as caught:
        ask(shared, question)

    assert caught.value.values == {"found": 7, "limit": 5}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("raise plain", "RuntimeError: boom"),
        ("raise unpicklable", "UnpicklableError"),
        ("raise exit", "SystemExit: 5"),
    ],
)
def test_an_unforeseen_error_ends_one_answer_only(
    shared: ProcessBackend, question: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named to the reader, its traceback goes to the parent's log, and the child lives on."""
    before = process_id(shared)
    with caplog.at_level(logging.ERROR, "bimedix2"), pytest.raises(AnswerFailedError, match=expected):
        ask(shared, question)

    assert "Traceback" in caplog.text
    assert "in stream" in caplog.text
    assert ask(shared, "still there?") == "you asked: still there?"
    assert process_id(shared) == before


def test_values_that_cannot_be_pickled_are_told_as_text(shared: ProcessBackend) -> None:
    """An error with a lock in it still says what it says."""
    with pytest.raises(EngineError, match="lock") as caught:
        ask(shared, "raise lock")

    assert isinstance(caught.value.values["reason"], str)


def test_what_a_library_prints_stays_out_of_standard_output() -> None:
    """The child's standard output is its parent's standard error: an answer on a terminal stays clean."""
    program = (
        "from engine.process import ProcessBackend\n"
        "from engine.messages import *\n"
        "if __name__ == '__main__':\n"
        f"    backend = ProcessBackend({FACTORY!r})\n"
        "    events = backend.stream([Message.of('user', 'print')], GenerationOptions())\n"
        "    print(''.join(event.text for event in events if isinstance(event, Delta)))\n"
        "    backend.close()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert ended.stdout == "you asked: print\n"
    assert "more noise" in ended.stderr


# --- a child that dies ---


def killed_at_the_first_piece(backend: ProcessBackend) -> None:
    for event in backend.stream([Message.of("user", "long")], OPTIONS):
        if isinstance(event, Delta):
            os.kill(process_id(backend), signal.SIGKILL)


def test_a_killed_child_ends_the_answer_clearly_and_comes_back(shared: ProcessBackend) -> None:
    """As the system's memory killer does it: the signal is named, and the next question works."""
    with pytest.raises(ProcessCrashedError, match="SIGKILL"):
        killed_at_the_first_piece(shared)

    assert ask(shared, "again") == "you asked: again"


@pytest.mark.parametrize(("question", "how"), [("long exit 3", "exit code 3"), ("long abort", "SIGABRT")])
def test_a_child_that_ends_itself_is_told_with_its_status(
    shared: ProcessBackend, question: str, how: str
) -> None:
    """What was said before is delivered before the error."""
    events: list[Event] = []
    with pytest.raises(ProcessCrashedError, match=how):
        events.extend(shared.stream([Message.of("user", question)], OPTIONS))

    assert said(events)
    assert ask(shared, "again") == "you asked: again"


def test_a_child_killed_while_idle_is_not_noticed_by_the_next_question(shared: ProcessBackend) -> None:
    """Even when the question comes before the death was seen, it is given to the next child."""
    before = process_id(shared)
    os.kill(before, signal.SIGKILL)

    assert ask(shared, "anyone?") == "you asked: anyone?"
    assert process_id(shared) != before


def test_all_running_answers_end_when_the_child_dies(shared: ProcessBackend) -> None:
    """Every reader gets an error of its own."""
    caught: list[ProcessCrashedError] = []

    def read() -> None:
        try:
            ask(shared, "long")
        except ProcessCrashedError as error:
            caught.append(error)

    shared.wait()
    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    life = shared._child
    assert life is not None
    assert eventually(lambda: sum(p.accepted for p in list(life._pending.values())) == 3)
    os.kill(process_id(shared), signal.SIGKILL)
    for reader in readers:
        reader.join(30)

    assert len(set(map(id, caught))) == 3


def test_a_child_that_keeps_dying_is_given_up_with_the_count() -> None:
    """The pauses between are bounded by the limit of restarts, and the error says that it is over."""
    limits = ProcessLimits(restarts=2, backoff_s=0.01)
    with opened(NEVER, limits, how="crash") as backend:
        with pytest.raises(ProcessGivenUpError) as caught:
            ask(backend, "hello?")
        assert caught.value.values == {"count": 3, "how": "exit code 9"}
        with pytest.raises(ProcessGivenUpError):
            ask(backend, "really?")


def test_a_child_that_was_given_up_is_tried_again_after_a_while() -> None:
    """A bad night does not need a new start of the program."""
    limits = ProcessLimits(restarts=1, backoff_s=0.01, again_s=0.5)
    with opened(limits=limits) as backend:
        for _ in range(2):
            child = process_id(backend)
            os.kill(child, signal.SIGKILL)
            assert eventually(lambda child=child: backend.process_id != child)
        with pytest.raises(ProcessGivenUpError):
            backend.wait()
        assert eventually(lambda: not backend._given_up)

        assert ask(backend, "hello?") == "you asked: hello?"


def test_a_finished_answer_forgives_earlier_deaths() -> None:
    """Only deaths in a row count: with one restart allowed, it dies three times and still answers."""
    with opened(limits=ProcessLimits(restarts=1, backoff_s=0.01)) as backend:
        for _ in range(3):
            with pytest.raises(ProcessCrashedError):
                ask(backend, "long exit 3")
            assert ask(backend, "fine?") == "you asked: fine?"


def test_a_child_killed_while_it_loads_is_not_noticed_by_who_waits() -> None:
    """The question goes to the next child; it was never begun."""
    with opened("tests.engine.faulty:open_slowly", seconds=2) as backend:
        stream = backend.stream([Message.of("user", "hello")], OPTIONS)
        next(event for event in stream if isinstance(event, Loading) and event.stage == "weights")
        first = backend.process_id
        assert first is not None
        os.kill(first, signal.SIGKILL)

        events = list(stream)

        assert said(events) == "you asked: hello"
        assert process_id(backend) != first


def test_a_child_killed_while_it_reads_the_prompt_ends_that_answer(shared: ProcessBackend) -> None:
    """Reading had begun, so that asking again is the reader's choice."""
    stream = shared.stream([Message.of("user", "read slowly")], OPTIONS)
    next(event for event in stream if isinstance(event, Reading) and event.tokens_read == 3)
    os.kill(process_id(shared), signal.SIGKILL)
    with pytest.raises(ProcessCrashedError, match="SIGKILL"):
        list(stream)

    assert ask(shared, "again") == "you asked: again"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_child_without_memory_says_so_and_lives_on() -> None:
    """As under ulimit or in a container: one answer fails with the reason, the next one is given."""
    with opened("tests.engine.faulty:open_hungry", megabytes=512) as backend:
        before = process_id(backend)
        with pytest.raises(AnswerFailedError, match="MemoryError"):
            ask(backend, "eat")
        assert ask(backend, "fine?") == "you asked: fine?"
        assert process_id(backend) == before


def test_many_threads_at_once_start_one_child() -> None:
    """Each gets its own answer, also when the child is killed under all of them."""
    with opened(delay_s=0.002) as backend:
        answers: list[str] = []
        before = len(psutil.Process().children())
        readers = [
            threading.Thread(target=lambda number=number: answers.append(ask(backend, f"long {number}")))
            for number in range(8)
        ]
        for reader in readers:
            reader.start()
        assert eventually(lambda: backend.process_id is not None)
        assert len(psutil.Process().children()) == before + 1
        for reader in readers:
            reader.join(60)
        assert len(answers) == 8


def test_closing_while_it_is_about_to_be_started_again_returns_at_once() -> None:
    """The pause before a restart is no reason to wait."""
    with opened(limits=ProcessLimits(backoff_s=30)) as backend:
        os.kill(process_id(backend), signal.SIGKILL)
        assert eventually(lambda: backend.process_id is None)
        began = time.monotonic()
        backend.close()
        assert time.monotonic() - began < 5
        with pytest.raises(BackendUnavailableError, match="closed"):
            ask(backend, "hello?")


# --- a child that hangs ---


def test_a_frozen_child_is_ended_and_replaced() -> None:
    """No sign of life within the limit: the process is killed although it is stopped."""
    with opened(limits=ProcessLimits(silence_s=1.0, backoff_s=0.05)) as backend:
        frozen = process_id(backend)
        with pytest.raises(ProcessHungError):
            ask(backend, "freeze")
        assert not psutil.pid_exists(frozen)


def test_an_answer_without_progress_is_ended_though_the_child_lives() -> None:
    """Signs of life alone do not count as progress."""
    with opened(limits=ProcessLimits(silence_s=30, progress_s=1.5, backoff_s=0.05)) as backend:
        backend.wait()
        with pytest.raises(ProcessHungError):
            ask(backend, "hang")


def test_a_child_stopped_while_it_loads_is_ended_and_the_question_goes_on() -> None:
    """Nobody but the log hears of it."""
    limits = ProcessLimits(silence_s=1.0, backoff_s=0.05)
    with opened("tests.engine.faulty:open_slowly", limits, seconds=1.5) as backend:
        stream = backend.stream([Message.of("user", "hello")], OPTIONS)
        next(event for event in stream if isinstance(event, Loading) and event.stage == "weights")
        first = backend.process_id
        assert first is not None
        os.kill(first, signal.SIGSTOP)

        assert said(list(stream)) == "you asked: hello"
        assert not psutil.pid_exists(first)


def test_a_load_that_tells_of_progress_may_take_as_long_as_it_needs() -> None:
    """Weights that keep coming are no hang, however long all of them take."""
    limits = ProcessLimits(progress_s=1.0)
    with opened("tests.engine.faulty:open_slowly", limits, seconds=2.4) as backend:
        before = time.monotonic()
        backend.wait()
        assert time.monotonic() - before > 2.4
        assert ask(backend, "fine?") == "you asked: fine?"


def test_the_second_load_is_forecast_from_the_first(tmp_path: Path) -> None:
    """Also by another program, from the file; at the end hardly anything is left."""
    for number in range(2):
        times = LoadTimes(tmp_path / "times.json")
        with closing(
            ProcessBackend("tests.engine.faulty:open_slowly", {"seconds": 2.0}, times=times)
        ) as backend:
            events = list(backend.stream([Message.of("user", "hello")], OPTIONS))
        loading = [event for event in events if isinstance(event, Loading)]
        left = [event.seconds_left for event in loading if event.seconds_left is not None]
        assert [event.stage for event in loading] == sorted(
            (event.stage for event in loading), key=("starting", "libraries", "weights", "finishing").index
        )
        assert all(0 <= seconds < 30 for seconds in left)
        assert left[-1] <= 1.5
        # the first load knows nothing before the weights show a pace
        assert (loading[0].seconds_left is None) == (number == 0)


def test_waiting_in_line_is_no_hang() -> None:
    """An answer that is told its place for longer than the limit is not cut; nor is an idle child."""
    with opened(limits=ProcessLimits(progress_s=1.0)) as backend:
        before = process_id(backend)
        assert ask(backend, "wait in line") == "you asked: wait in line"
        time.sleep(1.5)
        assert process_id(backend) == before


# --- loading ---


def test_a_question_during_loading_waits_its_turn_and_can_be_closed() -> None:
    """The reader is told a place at once and again and again, so that it can stop at any time."""
    with opened("tests.engine.faulty:open_slowly", seconds=0.5) as backend:
        told: list[tuple[str, float]] = []
        backend.start(lambda reason, seconds: told.append((reason, seconds)))
        impatient = backend.stream([Message.of("user", "first")], OPTIONS)
        assert isinstance(next(impatient), Loading)
        assert isinstance(next(impatient), Loading)
        impatient.close()

        events = list(backend.stream([Message.of("user", "second")], OPTIONS))

        assert isinstance(events[0], Loading)
        assert isinstance(events[-1], Finished)
        assert backend.name == "faulty"
        assert backend.reason == "the tests asked for it" == told[0][0]
        assert told[0][1] >= 0.5


def test_an_error_of_loading_is_told_and_the_next_question_tries_again(tmp_path: Path) -> None:
    """The error arrives as it was raised; once the cause is gone, the same backend works."""
    flag = tmp_path / "repaired"
    with opened(NEVER, how="engine", flag=str(flag)) as backend:
        with pytest.raises(PromptTooLongError):
            backend.wait()
        with pytest.raises(PromptTooLongError):
            ask(backend, "hello?")
        flag.touch()
        assert ask(backend, "and now?") == "you asked: and now?"


def test_an_unforeseen_end_of_loading_is_told() -> None:
    """Even sys.exit in a factory becomes a sentence."""
    with opened(NEVER, how="other") as backend, pytest.raises(EngineError, match="no model today"):
        backend.wait()


def test_arguments_that_cannot_cross_are_told() -> None:
    """Nobody waits for a child that cannot be started."""
    with opened(lock=threading.Lock()) as backend, pytest.raises(EngineError, match="cannot be started"):
        backend.wait()


def test_a_question_that_cannot_cross_is_told(shared: ProcessBackend) -> None:
    """The reader gets an error at once, and the next question works."""

    class Stuck(str):
        """A text no other process can make."""

        __slots__ = ()

    message = Message("user", (TextPart(Stuck("fine?")),))
    with pytest.raises(AnswerFailedError, match="pickle"):
        list(shared.stream([message], OPTIONS))

    assert ask(shared, "fine?") == "you asked: fine?"


# --- stopping ---


def test_one_of_two_streams_closed_leaves_the_other(shared: ProcessBackend) -> None:
    """The child stops working for the closed one, and finishes the other."""
    first = shared.stream([Message.of("user", "long a")], OPTIONS)
    second = shared.stream([Message.of("user", "long b")], OPTIONS)
    for stream in (first, second):
        next(event for event in stream if isinstance(event, Delta))
    first.close()

    assert isinstance(list(second)[-1], Finished)
    assert eventually(lambda: len(ask(shared, "threads").split()) == 1)


def test_scoring_stops_when_nobody_wants_it(shared: ProcessBackend) -> None:
    """The child's work ends as well, not only the waiting for it."""
    asked = iter([False, False, True, True])
    messages = [Message.of("user", "forever")]

    assert shared.log_likelihoods(messages, lambda: next(asked, True)) is None
    assert eventually(lambda: len(ask(shared, "threads").split()) == 1)
    assert shared.log_likelihoods([Message.of("user", "a"), Message.of("user", "b")]) == [(2, -0.5)]


def test_closing_ends_running_answers_and_loading() -> None:
    """Close returns soon in every state, and readers are told that it was closed."""
    with opened(delay_s=0.05) as backend:
        stream = backend.stream([Message.of("user", "long")], OPTIONS)
        next(event for event in stream if isinstance(event, Delta))
        child = process_id(backend)
        backend.close()
        with pytest.raises(BackendUnavailableError, match="closed"):
            list(stream)
        assert not psutil.pid_exists(child)
    with opened("tests.engine.faulty:open_slowly", seconds=60) as loading:
        loading.start()
        time.sleep(0.2)
        began = time.monotonic()
        loading.close()
        assert time.monotonic() - began < 5


@pytest.mark.skipif(sys.platform != "linux", reason="counts file descriptors in /proc")
def test_opening_and_closing_leaves_nothing_behind() -> None:
    """No zombie, no thread, no file descriptor."""
    with opened() as backend:
        backend.wait()  # starts multiprocessing's own tracker, which stays
    me = psutil.Process()
    before = (me.num_fds(), threading.active_count(), len(me.children()))
    for number in range(3):
        with opened() as backend:
            if number:
                backend.wait()
            else:
                backend.start()
    gc.collect()

    assert (me.num_fds(), threading.active_count(), len(me.children())) == before


@pytest.mark.parametrize("stop", ["kill", "exit"])
def test_the_child_dies_with_its_parent(stop: str) -> None:
    """A parent that is killed, or that ends without closing, leaves no model in memory and no noise."""
    program = (
        "import sys, time\n"
        "from engine.process import ProcessBackend\n"
        "if __name__ == '__main__':\n"
        f"    backend = ProcessBackend({FACTORY!r})\n"
        "    backend.wait()\n"
        "    print(backend.process_id, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if stop == "kill":
            parent.kill()
        _, noise = parent.communicate("\n", timeout=30)

    assert eventually(lambda: not psutil.pid_exists(child))
    assert noise == ""


def test_ctrl_c_is_left_to_the_parent(shared: ProcessBackend) -> None:
    """The signal a terminal sends to the whole group does not end the child."""
    os.kill(process_id(shared), signal.SIGINT)

    assert ask(shared, "still there?") == "you asked: still there?"


# --- images on the way ---


def test_an_image_crosses_once() -> None:
    """The second turn brings the new image only; beyond the budget an image is sent anew."""
    sender, receiver, held = pipe.Shelf(3 * 2352), pipe.Shelf(3 * 2352), {}
    first, second = random_image(1), random_image(2)
    turns = [
        ([first], 1), ([first, second], 1), ([second], 0),
        ([random_image(3), random_image(4)], 2), ([first], 1), ([first], 0),
    ]  # fmt: skip
    for images, expected in turns:
        messages = (Message.of("user", *images, "Which side?"),)
        packed = pipe.pack(messages, sender)
        assert len(packed.images) == expected
        assert pipe.unpack(packed, receiver, held) == messages
        assert list(held) == [digest for digest in held if digest in sender]


def test_images_arrive_as_they_were(shared: ProcessBackend) -> None:
    """Through the real pipe, in both turns, also one larger than any pipe's buffer."""
    large = ImagePart(np.random.default_rng(5).integers(0, 256, (700, 900, 3), np.uint8))
    small = random_image(6)

    assert ask(shared, "digests", large, small).split() == [large.digest, small.digest]
    assert ask(shared, "digests", small, large).split() == [small.digest, large.digest]


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exit code 0"), (-9, "signal SIGKILL"), (-250, "signal 250"), (None, "exit code None")],
)
def test_exit_statuses_have_names(status: int | None, text: str) -> None:
    """Signals are named where the system knows a name."""
    assert _how(status) == text
