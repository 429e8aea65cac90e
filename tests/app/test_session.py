"""One turn from end to end: stored before shown, exact pixels, stopping, failing, trimming, ownership."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom.data
import pytest
from PIL import Image as Pillow

from app.errors import ImageNotFoundError, PicturesTooManyError, ThreadNotFoundError, TurnNotFoundError
from app.history.store import HistoryStore
from app.session import Workspace
from engine.errors import BackendUnavailableError, PromptTooLongError
from viewers.errors import ViewerError
from viewers.geometry import Region
from viewers.view import View, default_view, render
from viewers.window import Window
from viewers.worker import Intake

if TYPE_CHECKING:
    from app.history.records import Answer
    from app.session import AnswerUpdate
    from app.settings import Settings
    from engine.messages import GenerationOptions
    from engine.scripted import ScriptedBackend

CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
ME, OTHER = "me", "other"


def last(updates: object) -> AnswerUpdate:
    return list(updates)[-1]  # type: ignore[call-overload]


@pytest.fixture
def view(workspace: Workspace) -> View:
    """Upload the CT slice and return its first view."""
    return default_view(workspace.add_upload(ME, CT))


def test_the_model_is_given_exactly_what_is_shown(
    workspace: Workspace, backend: ScriptedBackend, view: View
) -> None:
    """The pixels that reach the backend are render(view), and their digest is stored."""
    seen = replace(view, window=Window(40, 80), region=Region(10, 20, 50, 30), inverted=True)

    update = last(workspace.ask(ME, None, "Which side?", [seen], "run"))

    (message,) = backend.received[0]
    expected = render(workspace.image(ME, view.image), seen)
    np.testing.assert_array_equal(message.images[0].pixels, expected)
    stored = workspace.thread(ME, update.thread_id).turns[0].views[0]
    assert View.from_json(stored.view) == seen
    assert stored.render_digest == message.images[0].digest


def test_everything_shown_was_stored_before(workspace: Workspace, backend: ScriptedBackend) -> None:
    """At every update the database already holds at least that text, and the question before the first."""
    backend.enqueue("one two three four five")
    for update in workspace.ask(ME, None, "Count", [], "run"):
        (turn,) = workspace.thread(ME, update.thread_id).turns
        assert turn.question == "Count"
        assert turn.answers[0].text.startswith(update.text)
        assert update.state == "streaming" or turn.answers[0].state == update.state
    assert update.state == "complete"
    assert update.text == "one two three four five"


def test_the_first_piece_comes_at_once_and_later_ones_are_joined(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    """A fast model gives few updates, not one a token; none is lost."""
    backend.enqueue("word " * 500)

    texts = [update.text for update in workspace.ask(ME, None, "Go", [], "run")]

    assert len(texts) < 60
    assert texts[-1] == "word " * 500


def test_a_view_shown_last_is_not_given_again(
    workspace: Workspace, backend: ScriptedBackend, view: View
) -> None:
    """Asking again about the same view adds no second copy; another window does."""
    first = last(workspace.ask(ME, None, "What?", [view], "run"))
    last(workspace.ask(ME, first.thread_id, "And?", [view], "run"))
    last(workspace.ask(ME, first.thread_id, "Now?", [replace(view, window=Window(0, 10))], "run"))

    assert [len(message.images) for message in backend.received[-1]] == [1, 0, 0, 0, 1]


def test_the_whole_conversation_reaches_the_model(workspace: Workspace, backend: ScriptedBackend) -> None:
    """Earlier questions and answers come before the new one, in order."""
    backend.enqueue("Hello.", "Fine.")
    first = last(workspace.ask(ME, None, "Hi", [], "run"))
    last(workspace.ask(ME, first.thread_id, "How are you?", [], "run"))

    assert [(m.role, m.text) for m in backend.received[-1]] == [
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "How are you?"),
    ]


def test_stop_keeps_the_text_and_its_state(workspace: Workspace, backend: ScriptedBackend) -> None:
    """Stopping ends the answer where it stands; the next question goes on from it."""
    backend.enqueue("word " * 2000)
    backend._delay_s = 0.001
    for update in workspace.ask(ME, None, "Go", [], "run"):
        if update.text:
            workspace.stop(ME, "run")

    assert update.state == "stopped"
    (answer,) = workspace.thread(ME, update.thread_id).turns[0].answers
    assert (answer.state, answer.text) == ("stopped", update.text)
    assert 0 < len(answer.text) < 5 * 2000
    assert not workspace.stop(ME, "run")


def test_somebody_else_cannot_stop_my_answer(workspace: Workspace, backend: ScriptedBackend) -> None:
    """A run is known by owner and key together."""
    backend.enqueue("a b c")
    updates = workspace.ask(ME, None, "Go", [], "run")
    next(updates)

    assert not workspace.stop(OTHER, "run")
    assert last(updates).state == "complete"


def test_closing_the_stream_is_a_stop(workspace: Workspace, backend: ScriptedBackend) -> None:
    """A page that goes away in mid-answer leaves a stopped answer with its text."""
    backend.enqueue("one two three")
    updates = workspace.ask(ME, None, "Go", [], "run")
    first = next(updates)
    next(updates)
    updates.close()  # type: ignore[attr-defined]

    assert workspace.thread(ME, first.thread_id).turns[0].answers[0].state == "stopped"


def test_an_answer_nobody_follows_comes_to_its_end(workspace: Workspace, backend: ScriptedBackend) -> None:
    """It is stored as it is written, and can be stopped by its id, by its owner alone."""
    backend.enqueue("one two three")
    updates = workspace.ask(ME, None, "Go", [], "run")
    first = next(updates)
    workspace.go_on(updates)
    answer = _ended(workspace, first.thread_id)
    assert (answer.state, answer.text) == ("complete", "one two three")

    backend.enqueue("word " * 2000)
    backend._delay_s = 0.001
    updates = workspace.ask(ME, first.thread_id, "Again", [], "run")
    second = next(updates)
    workspace.go_on(updates)
    assert not workspace.stop(OTHER, second.answer_id)
    assert workspace.stop(ME, second.answer_id)
    assert _ended(workspace, first.thread_id).state == "stopped"


def test_the_end_of_the_application_is_not_told_as_the_reader_s_doing(
    workspace: Workspace, backend: ScriptedBackend, settings: Settings
) -> None:
    """An answer that runs when the application is ended is interrupted, with its text."""
    backend.enqueue("word " * 2000)
    backend._delay_s = 0.001
    updates = workspace.ask(ME, None, "Go", [], "run")
    first = next(updates)
    while not next(updates).text:
        pass
    workspace.go_on(updates)
    workspace._intake = Intake()  # the one that is shared serves the next test
    workspace.close()
    with closing(HistoryStore.open(settings.history)) as store:
        (answer,) = store.load(ME, first.thread_id).turns[0].answers
    assert answer.state == "interrupted"
    assert answer.text.startswith("word ")


def _ended(workspace: Workspace, thread_id: str) -> Answer:
    """Wait for the end of a conversation's last answer."""
    began = time.monotonic()
    while time.monotonic() - began < 10:
        answer = workspace.thread(ME, thread_id).turns[-1].answers[-1]
        if answer.state != "streaming":
            return answer
        time.sleep(0.02)
    pytest.fail("the answer did not end")


def test_a_failure_is_stored_with_its_reason_and_the_thread_goes_on(
    workspace: Workspace, backend: ScriptedBackend, view: View
) -> None:
    """The failed question stays, the next prompt skips it but keeps its image."""
    backend.enqueue(BackendUnavailableError(reason="memory ran out"))

    failed = last(workspace.ask(ME, None, "First?", [view], "run"))
    answer = workspace.thread(ME, failed.thread_id).turns[0].answers[0]
    again = last(workspace.ask(ME, failed.thread_id, "Second?", [view], "run"))

    assert failed.state == "failed"
    assert isinstance(failed.error, BackendUnavailableError)
    assert (answer.error_key, answer.error_values) == (
        "engine.backend_unavailable",
        {"reason": "memory ran out"},
    )
    assert again.state == "complete"
    assert [(m.role, m.text, len(m.images)) for m in backend.received[-1]] == [("user", "Second?", 1)]


def test_an_unexpected_error_is_stored_and_logged(
    workspace: Workspace, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw ends the answer as failed, with the traceback in the log only."""
    backend.enqueue(ZeroDivisionError("boom"))

    update = last(workspace.ask(ME, None, "Go", [], "run"))

    assert (update.state, workspace.thread(ME, update.thread_id).turns[0].answers[0].error_key) == (
        "failed",
        "app.unexpected",
    )
    assert "ZeroDivisionError" in caplog.text


class ShortContext:
    """A backend that takes only so many messages."""

    def __init__(self, inner: ScriptedBackend, most: int) -> None:
        self._inner, self._most, self.name = inner, most, "short"

    def stream(self, messages: list, options: GenerationOptions):
        if len(messages) > self._most or "long" in messages[-1].text:
            raise PromptTooLongError(found=len(messages), limit=self._most)
        yield from self._inner.stream(messages, options)

    def close(self) -> None:
        self._inner.close()


def test_a_conversation_over_the_context_leaves_out_its_oldest_turns(
    workspace: Workspace, backend: ScriptedBackend, view: View
) -> None:
    """Oldest turns are left out, how many is told, and the image shown last is kept."""
    workspace._backend = ShortContext(backend, 3)
    first = last(workspace.ask(ME, None, "Q1", [view], "run"))
    for question in ("Q2", "Q3"):
        update = last(workspace.ask(ME, first.thread_id, question, [view], "run"))

    assert update.turns_left_out == 1
    assert [(m.text if m.role == "user" else "", len(m.images)) for m in backend.received[-1]] == [
        ("Q2", 1),
        ("", 0),
        ("Q3", 0),
    ]


def test_a_question_too_long_by_itself_fails_and_the_thread_stays_usable(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    """The error has both numbers; the next, shorter question is answered."""
    workspace._backend = ShortContext(backend, 3)
    first = last(workspace.ask(ME, None, "Q1", [], "run"))

    failed = last(workspace.ask(ME, first.thread_id, "long", [], "run"))
    again = last(workspace.ask(ME, first.thread_id, "short", [], "run"))

    assert (failed.state, again.state) == ("failed", "complete")
    assert isinstance(failed.error, PromptTooLongError)


def test_pictures_too_many_for_the_model_are_named_with_the_way_out(
    workspace: Workspace, backend: ScriptedBackend, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several pictures and few words are no conversation that is too long; they are not offered again."""
    workspace._backend = ShortContext(backend, 0)
    monkeypatch.setattr(workspace, "pictures", lambda owner, shown: [workspace.render(owner, shown)] * 13)
    few = last(workspace.ask(ME, None, "What is this?", [view], "run"))
    assert isinstance(few.error, PicturesTooManyError)
    assert few.error.values == {"count": 13}
    assert workspace.never_has_room(ME, 13)
    assert not workspace.never_has_room(ME, 12)
    many = last(workspace.ask(ME, None, "word " * 1000, [view], "run"))
    assert isinstance(many.error, PromptTooLongError)


def test_regenerate_keeps_both_answers_and_samples(workspace: Workspace, backend: ScriptedBackend) -> None:
    """A second answer to the same question stands beside the first; the prompt is the question's."""
    backend.enqueue("First.", "Second.")
    first = last(workspace.ask(ME, None, "Q", [], "run"))

    second = last(workspace.regenerate(ME, first.thread_id, first.turn_id, "run"))

    (turn,) = workspace.thread(ME, first.thread_id).turns
    assert [answer.text for answer in turn.answers] == ["First.", "Second."]
    assert second.turn_id == first.turn_id
    assert backend.received[0] == backend.received[1]
    assert workspace._options(ME, 2).temperature > 0
    assert workspace._options(ME, 1).temperature == 0


def test_regenerate_refuses_a_turn_of_another_thread(workspace: Workspace) -> None:
    """Thread and turn must belong together."""
    a, b = (last(workspace.ask(ME, None, "Q", [], "run")) for _ in range(2))

    with pytest.raises(TurnNotFoundError):
        last(workspace.regenerate(ME, a.thread_id, b.turn_id, "run"))


def test_other_owners_see_nothing(workspace: Workspace, view: View) -> None:
    """Somebody else's image and thread are reported as missing, in every call."""
    mine = last(workspace.ask(ME, None, "Q", [view], "run"))

    with pytest.raises(ImageNotFoundError):
        workspace.image(OTHER, view.image)
    with pytest.raises(ImageNotFoundError):
        last(workspace.ask(OTHER, None, "Q", [view], "run"))
    for call in (
        lambda: workspace.thread(OTHER, mine.thread_id),
        lambda: workspace.rename(OTHER, mine.thread_id, "x"),
        lambda: workspace.delete(OTHER, mine.thread_id),
        lambda: last(workspace.ask(OTHER, mine.thread_id, "Q", [], "run")),
        lambda: last(workspace.regenerate(OTHER, mine.thread_id, mine.turn_id, "run")),
    ):
        with pytest.raises(ThreadNotFoundError):
            call()
    assert list(workspace.threads(OTHER)) == []


def test_deleting_a_thread_deletes_pixels_nobody_else_shows(
    workspace: Workspace, settings: Settings, view: View
) -> None:
    """The image's folder goes with the last thread that shows it, not before."""
    folder = settings.images_folder / view.image
    a, b = (last(workspace.ask(ME, None, "Q", [view], "run")) for _ in range(2))

    workspace.delete(ME, a.thread_id)
    assert folder.is_dir()
    workspace.delete(ME, b.thread_id)

    assert not folder.exists()
    with pytest.raises(ImageNotFoundError):
        workspace.image(ME, view.image)


def test_deleting_while_the_answer_comes_ends_it(workspace: Workspace, backend: ScriptedBackend) -> None:
    """A thread deleted in mid-answer stays deleted; the stream ends without an exception."""
    backend.enqueue("word " * 3000)
    updates = workspace.ask(ME, None, "Go", [], "run")
    first = next(updates)
    next(updates)
    workspace.delete(ME, first.thread_id)

    assert last(updates).state == "failed"
    assert list(workspace.threads(ME)) == []


def test_nothing_identifying_is_kept(workspace: Workspace, settings: Settings) -> None:
    """Neither the patient's name nor id of the file is found in the data folder, nor the file itself."""
    image = workspace.add_upload(ME, CT)
    last(workspace.ask(ME, None, "Q", [default_view(image)], "run"))
    dataset = pydicom.dcmread(CT)

    stored = b"".join(file.read_bytes() for file in settings.folder.rglob("*") if file.is_file())

    for value in (str(dataset.PatientName), dataset.PatientID, dataset.StudyInstanceUID, dataset.StudyDate):
        assert value.encode() not in stored


def made_ct(path: Path, **changes: str) -> Path:
    """Write the CT slice with other attributes."""
    dataset = pydicom.dcmread(CT)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = bytes([len(repr(changes)), *dataset.PixelData[1:]])
    dataset.save_as(path)
    return path


def test_a_conversation_about_a_single_file_has_patient_and_study(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Files of one patient and study give one pair of pseudonyms, for one owner; a picture gives none."""
    again = made_ct(tmp_path / "again.dcm", SeriesInstanceUID="1.2.3", PatientSex="F")
    study = made_ct(tmp_path / "study.dcm", StudyInstanceUID="1.2.3.4")
    patient = made_ct(tmp_path / "patient.dcm", StudyInstanceUID="1.2.3.4.5.6", PatientID="another")
    picture = tmp_path / "photo.png"
    Pillow.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)

    def summary(owner: str, path: Path) -> tuple[str | None, str | None]:
        image = workspace.add_upload(owner, path)
        thread_id = last(workspace.ask(owner, None, "Q", [default_view(image)], "run")).thread_id
        thread = workspace.thread(owner, thread_id)
        return thread.patient, thread.study

    first = summary(ME, CT)

    assert all(first)
    assert summary(ME, again) == first
    other_study, other_patient = summary(ME, study), summary(ME, patient)
    assert other_study[0] == first[0] != other_patient[0]
    assert len({first[1], other_study[1], other_patient[1]}) == 3
    assert not {*first} & {*summary(OTHER, CT)}, "two owners cannot tell that it is one patient"
    assert summary(ME, picture) == (None, None)
    assert len(workspace._store.threads(ME, patient=first[0])) == 3
    assert len(workspace._store.threads(ME, study=first[1])) == 2


def test_a_picture_is_labelled_by_what_it_is(workspace: Workspace, tmp_path: Path) -> None:
    """The label says what it is, never the file's name."""
    path = tmp_path / "John_Smith_1970.png"
    Pillow.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)

    image = workspace.add_upload(ME, path)

    assert workspace._store.image(ME, image.digest).label == "PICTURE"


def test_a_new_process_marks_what_the_old_one_left(workspace: Workspace, settings: Settings) -> None:
    """An answer still streaming when a process died is interrupted for the next one, text kept."""
    thread_id, _, answer_id = workspace._store.begin_turn(ME, None, "Q", [], "scripted")
    workspace._store.grow(answer_id, "half an ans")
    workspace._store.close()

    reopened = Workspace.open(replace(settings, backend="scripted"))
    answer = reopened.thread(ME, thread_id).turns[0].answers[0]
    reopened.close()

    assert (answer.state, answer.text) == ("interrupted", "half an ans")


def test_a_hostile_file_ends_its_own_process_only(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    """A file that kills the process that reads it gives an error; the next one opens, nothing is left."""
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 4000)
    with pytest.raises(ViewerError):
        workspace.add_upload(ME, bad)
    child = workspace._intake._child
    child.kill()

    image = workspace.add_upload(ME, CT)

    assert image.modality == "CT"
    assert list(settings.uploads_folder.iterdir()) == []


def test_uploads_left_by_a_dead_process_are_removed(settings: Settings) -> None:
    """The folder of half-read uploads is emptied at every start."""
    settings.uploads_folder.mkdir(parents=True)
    (settings.uploads_folder / "left").write_bytes(b"patient")

    Workspace.open(replace(settings, backend="scripted")).close()

    assert list(settings.uploads_folder.iterdir()) == []


def test_the_store_is_closed_when_the_model_is_missing(settings: Settings) -> None:
    """A start that fails for the model leaves the database free."""
    with pytest.raises(Exception, match=r"expected a folder that holds config\.json"):
        Workspace.open(replace(settings, model="/nowhere"))
    HistoryStore.open(settings.database_path).close()
