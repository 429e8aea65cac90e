"""The meter behind the page, the choice of adapters, and what the page is told while the model loads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom.data
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.adapter_choice import AdapterChoice
from app.errors import AnswerNotFoundError, ThreadNotFoundError
from app.grounding_service import GroundingService
from app.history.store import HistoryStore
from app.model import ModelInfo
from app.session import Workspace
from app.ui import wire
from app.ui.guard import Guard
from app.web import routes
from engine.errors import AdapterUnknownError, BackendUnavailableError, PromptTooLongError
from engine.grounding import ImageDependence, SentenceDependence
from engine.messages import Delta, Finished, Loading, Timings, Usage
from engine.scripted import ScriptedBackend
from viewers.view import default_view
from viewers.worker import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from app.answer import AnswerUpdate
    from app.settings import Settings
    from engine.messages import Event, GenerationOptions, Message

CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
ME, OTHER = "local", "other"
MEASURED = ImageDependence(1.25, "strong", (SentenceDependence("Left.", 1.25, "strong"),))
VALUE = {
    "difference": 1.25,
    "level": "strong",
    "sentences": [{"text": "Left.", "difference": 1.25, "level": "strong"}],
}


class Measuring(ScriptedBackend):
    """Answers as told, and tells what it was asked to measure."""

    def __init__(self) -> None:
        super().__init__()
        self.measured: list[tuple[list[Message], str | None]] = []
        self.options: list[GenerationOptions] = []
        self.longest = 99
        self.wait = False
        self.started = threading.Event()

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        self.options.append(options)
        return super().stream(messages, options)

    def image_dependence(
        self, messages: Sequence[Message], stopped: Callable[[], bool] = bool, adapter: str | None = None
    ) -> ImageDependence | None:
        if len(messages) > self.longest:
            raise PromptTooLongError(found=len(messages), limit=self.longest)
        self.started.set()
        while self.wait and not stopped():
            threading.Event().wait(0.01)
        self.measured.append((list(messages), adapter))
        return None if stopped() else MEASURED


@pytest.fixture
def measuring() -> Measuring:
    return Measuring()


@pytest.fixture
def workspace(settings: Settings, measuring: Measuring, intake: Intake) -> Iterator[Workspace]:
    """Open a workspace over a backend that can measure, with two adapters."""
    settings.uploads_folder.mkdir(parents=True)
    settings.images_folder.mkdir()
    info = ModelInfo(
        "scripted", "scripted", is_demonstration=False, reason="a test", adapters=("chest", "أشعة")
    )
    opened = Workspace(settings, HistoryStore.open(settings.database_path), measuring, info, intake)
    yield opened
    opened._intake = Intake()
    opened.close()


def asked(workspace: Workspace, question: str = "Which side?", thread: str | None = None) -> AnswerUpdate:
    view = default_view(workspace.add_upload(ME, CT))
    return list(workspace.ask(ME, thread, question, [view], "run"))[-1]


# --- the meter ---


def test_an_answer_is_measured_once_and_kept(workspace: Workspace, measuring: Measuring) -> None:
    """With the pixels and words of its own conversation; the next time the value is read."""
    measuring.enqueue("Left.")
    update = asked(workspace)

    for _ in range(2):
        assert workspace.grounding.of(ME, update.thread_id, update.answer_id) == VALUE

    ((messages, adapter),) = measuring.measured
    assert [(message.role, message.text) for message in messages] == [
        ("user", "Which side?"),
        ("assistant", "Left."),
    ]
    assert messages[0].images == measuring.received[0][0].images
    assert adapter == ""
    stored = workspace.thread(ME, update.thread_id).turns[0].answers[0]
    assert stored.grounding == VALUE
    assert wire.turn_value(workspace.thread(ME, update.thread_id).turns[0], {})["answers"][0]["grounding"]


def test_earlier_turns_are_part_of_the_measure_and_the_oldest_left_out(
    workspace: Workspace, measuring: Measuring
) -> None:
    """As they were when the answer was given: what does not fit is left out, the picture is carried on."""
    measuring.enqueue("One.", "Two.")
    first = asked(workspace, "First?")
    second = asked(workspace, "Second?", first.thread_id)
    measuring.longest = 2

    assert workspace.grounding.of(ME, second.thread_id, second.answer_id) == VALUE

    ((messages, _),) = measuring.measured
    assert [message.text for message in messages] == ["Second?", "Two."]
    assert len(messages[0].images) == 1


def test_without_an_image_there_is_nothing_to_measure(workspace: Workspace, measuring: Measuring) -> None:
    """Neither for a translation, an answer that failed, or one of another model."""
    update = list(workspace.ask(ME, None, "Hello", [], "run"))[-1]
    assert workspace.grounding.of(ME, update.thread_id, update.answer_id) is None

    seen = asked(workspace)
    twin = list(workspace.translate(ME, seen.thread_id, seen.answer_id, "run"))[-1]
    assert workspace.grounding.of(ME, twin.thread_id, twin.answer_id) is None

    measuring.enqueue(BackendUnavailableError(reason="test"))
    failed = asked(workspace)
    assert workspace.grounding.of(ME, failed.thread_id, failed.answer_id) is None

    assert measuring.measured == []


def test_an_answer_of_another_model_is_not_judged_by_this_one(
    workspace: Workspace, measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its likelihood would say nothing about the model that gave it."""
    update = asked(workspace)
    monkeypatch.setattr(Measuring, "name", property(lambda _: "another"))

    assert workspace.grounding.of(ME, update.thread_id, update.answer_id) is None
    assert measuring.measured == []


def test_a_dependence_that_is_no_number_is_none(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is shown or kept of it, and the conversation can be exported."""
    update = asked(workspace)
    found = ImageDependence(1.25, "strong", (SentenceDependence("Left.", float("nan"), "strong"),))
    monkeypatch.setattr(Measuring, "image_dependence", lambda *_: found)

    assert workspace.grounding.of(ME, update.thread_id, update.answer_id) is None
    assert workspace.thread(ME, update.thread_id).turns[0].answers[0].grounding is None
    assert workspace.curation.export(ME, update.thread_id).is_file()


def test_somebody_else_s_answer_is_not_there(workspace: Workspace) -> None:
    """Neither measured nor told."""
    update = asked(workspace)
    with pytest.raises(ThreadNotFoundError):
        workspace.grounding.of(OTHER, update.thread_id, update.answer_id)
    with pytest.raises(AnswerNotFoundError):
        workspace.grounding.of(ME, update.thread_id, "x")


def test_a_backend_that_cannot_measure_says_nothing(workspace: Workspace) -> None:
    """As a server without log-probabilities."""
    update = asked(workspace)
    service = GroundingService(workspace._store, ScriptedBackend(), workspace.render, lambda _: None)
    assert service.of(ME, update.thread_id, update.answer_id) is None


@pytest.mark.parametrize("by", ["question", "reader", "close"])
def test_a_measurement_gives_way(workspace: Workspace, measuring: Measuring, by: str) -> None:
    """To the owner's next question at once, to a reader who left, and to the end; it can be asked again."""
    update = asked(workspace)
    measuring.wait = True
    gone = threading.Event()
    found: list[object] = []
    work = threading.Thread(
        target=lambda: found.append(
            workspace.grounding.of(ME, update.thread_id, update.answer_id, gone.is_set)
        )
    )
    work.start()
    assert measuring.started.wait(10)
    if by == "question":
        list(workspace.ask(OTHER, None, "Hi", [], "run"))
        assert work.is_alive(), "somebody else's question does not end it"
        list(workspace.ask(ME, update.thread_id, "And?", [], "run"))
    elif by == "reader":
        gone.set()
    else:
        workspace.grounding.close()
    work.join(10)

    assert found == [None]
    measuring.wait = False
    assert workspace.grounding.of(ME, update.thread_id, update.answer_id) == VALUE


# --- adapters ---


def test_every_owner_has_an_adapter_of_his_own(workspace: Workspace, measuring: Measuring) -> None:
    """From the next question on; the history says with which, and judging uses the same."""
    workspace.adapters.choose(ME, "chest")
    update = asked(workspace)
    list(workspace.ask(OTHER, None, "Hi", [], "run"))
    workspace.adapters.choose(ME, "")
    list(workspace.ask(ME, update.thread_id, "And?", [], "run"))

    assert [options.adapter for options in measuring.options] == ["chest", "", ""]
    backends = [turn.answers[0].backend for turn in workspace.thread(ME, update.thread_id).turns]
    assert backends == ["scripted + chest", "scripted"]
    workspace.grounding.of(ME, update.thread_id, update.answer_id)
    assert measuring.measured[0][1] == "chest"


def test_without_adapters_the_backend_s_own_choice_stays() -> None:
    """A checkpoint that is an adapter itself answers as such."""
    choice = AdapterChoice()
    assert choice.of(ME) is None
    assert choice.label(ME, "model") == "model"
    assert choice.from_label("model", "model") is None
    with pytest.raises(AdapterUnknownError):
        choice.choose(ME, "chest")


def test_an_adapter_that_is_gone_is_no_other() -> None:
    """What it answered is not taken for the base's."""
    choice = AdapterChoice(["chest"])
    assert choice.from_label("model + chest", "model") == "chest"
    assert choice.from_label("model", "model") == ""
    for label in ("model + neck", "other", "other + chest"):
        with pytest.raises(LookupError):
            choice.from_label(label, "model")


# --- over HTTP ---


@pytest.fixture
def client(workspace: Workspace) -> TestClient:
    guard = Middleware(Guard, settings=workspace.settings, port=7860, head=b"")
    app = Starlette(routes=routes(workspace), middleware=[guard])
    return TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=False)


def test_the_page_asks_for_an_answer_s_value(workspace: Workspace, client: TestClient) -> None:
    """Whose answer it is is taken from the request; nonsense is refused in both languages."""
    update = asked(workspace)
    body = {"thread": update.thread_id, "answer": update.answer_id}

    assert client.post("/grounding", json=body).json() == {"grounding": VALUE}
    assert client.post("/grounding", json={**body, "answer": "x"}).status_code == 404
    assert client.post("/grounding", json={"thread": 3}).status_code == 422


def test_the_page_chooses_an_adapter(workspace: Workspace, client: TestClient) -> None:
    """One of those there are, or none."""
    assert client.get("/adapters").json() == {"names": ["chest", "أشعة"], "chosen": ""}
    assert client.post("/adapters", json={"name": "أشعة"}).json()["chosen"] == "أشعة"
    assert workspace.adapters.of(ME) == "أشعة"
    refused = client.post("/adapters", json={"name": "neck"})
    assert refused.status_code == 422
    assert "chest" in refused.json()["error"]["en"]
    assert client.post("/adapters", json={"name": ""}).json()["chosen"] == ""


# --- loading ---


class Slow(ScriptedBackend):
    """Loads first."""

    def stream(
        self, _messages: Sequence[Message], _options: GenerationOptions
    ) -> Generator[Event, None, None]:
        yield Loading("libraries")
        yield Loading("weights", 0.25, 12.0)
        yield Delta("Ready.")
        yield Finished("complete", Usage(1, 1), Timings(0.0, 0.1, 0.2))


def test_while_the_model_loads_the_page_is_told_how_far(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage at once, with share and seconds where they are known; then the answer."""
    monkeypatch.setattr(workspace, "_backend", Slow())

    updates = list(workspace.ask(ME, None, "Hello", [], "run"))

    told = [(one.loading, one.read_share, one.seconds_left) for one in updates if one.loading]
    assert told == [("libraries", 0.0, None), ("weights", 0.25, 12.0)]
    assert (updates[-1].text, updates[-1].loading) == ("Ready.", None)
    values = [wire.updated({"answers": []}, one)["answers"][0]["loading"] for one in updates]
    assert [value for value in values if value] == ["libraries", "weights"]
