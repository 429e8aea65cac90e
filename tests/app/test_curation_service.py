"""What a page does with conversations besides asking: owners apart, exports noted, imports derived anew."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom.data
import pytest

from app.errors import AnswerNotFoundError, ArchiveError, ThreadNotFoundError, TurnNotFoundError
from viewers.shown import shown_from_json
from viewers.view import default_view

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.session import AnswerUpdate, Workspace
    from engine.scripted import ScriptedBackend

CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
OBJECTS = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}" + b" " * 99
ME, OTHER = "me", "other"


def last(updates: object) -> AnswerUpdate:
    return list(updates)[-1]  # type: ignore[call-overload]


@pytest.fixture
def asked(workspace: Workspace, backend: ScriptedBackend) -> AnswerUpdate:
    """Ask about the CT slice, then once more without a new view."""
    view = default_view(workspace.add_upload(ME, CT))
    backend.enqueue("a nodule of 12.5 mm", "لا يوجد انصباب")
    first = last(workspace.ask(ME, None, "What is this?", [view], "run"))
    return last(workspace.ask(ME, first.thread_id, "هل يوجد انصباب؟", [view], "run"))


def test_the_list_goes_on_where_it_ended(workspace: Workspace) -> None:
    """Parts of a list join to the whole, without a gap or a conversation twice; pinned ones come first."""
    made = [last(workspace.ask(ME, None, f"question {n}", [], "run")).thread_id for n in range(7)]
    workspace.curation.pin(ME, made[2], pinned=True)
    seen: list[str] = []
    more, before = True, None
    while more:
        page = workspace.curation.threads(ME, limit=3, before=before)
        seen += [one.id for one in page.threads]
        more, before = page.more, seen[-1]
    assert seen == [made[2], *reversed([one for one in made if one != made[2]])]
    with pytest.raises(ThreadNotFoundError):
        workspace.curation.threads(OTHER, before=made[0])


def test_an_edited_question_is_answered_in_a_branch(
    workspace: Workspace, backend: ScriptedBackend, asked: AnswerUpdate
) -> None:
    """The model is given what came before and the new question with its view; the original stays."""
    original = workspace.thread(ME, asked.thread_id)
    backend.enqueue("edited answer")
    update = last(workspace.edit(ME, asked.thread_id, original.turns[0].id, "Which side?", "run"))

    assert (update.state, update.text) == ("complete", "edited answer")
    branch = workspace.thread(ME, update.thread_id)
    assert [turn.question for turn in branch.turns] == ["Which side?"]
    assert branch.turns[0].views == original.turns[0].views
    assert [len(message.images) for message in backend.received[-1]] == [1]
    assert workspace.thread(ME, asked.thread_id) == original
    with pytest.raises(TurnNotFoundError):
        last(workspace.edit(ME, asked.thread_id, "nothing", "x", "run"))
    with pytest.raises(ThreadNotFoundError):
        last(workspace.edit(OTHER, asked.thread_id, original.turns[0].id, "x", "run"))


def test_an_export_comes_back_with_pixels_of_the_same_picture(
    workspace: Workspace, asked: AnswerUpdate
) -> None:
    """The image gets a digest of its own content, draws the same pixels and carries no sender's label."""
    file = workspace.curation.export(ME, asked.thread_id)
    _relabel(file, "Mr Smith")
    new = workspace.curation.bring_in(OTHER, file)

    (before, after) = (workspace.thread(ME, asked.thread_id), workspace.curation.show(OTHER, new))
    assert [turn.question for turn in after.turns] == [turn.question for turn in before.turns]
    view, copy = before.turns[0].views[0], after.turns[0].views[0]
    assert copy.images != view.images
    pixels = [
        workspace.render(owner, shown_from_json(stored.view)).pixels
        for owner, stored in ((ME, view), (OTHER, copy))
    ]
    np.testing.assert_array_equal(*pixels)
    assert {image.label for image in workspace._store.images(OTHER)} == {"CT"}
    assert [entry.action for entry in workspace._store.audit()][-3:] == ["exported", "imported", "seen"]
    assert workspace.curation.bring_in(OTHER, file) != new  # again: a second conversation, one image
    assert len(workspace._store.images(OTHER)) == 1


def test_a_page_that_waits_is_noted_once(
    workspace: Workspace, asked: AnswerUpdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking again and again how a conversation stands is one look at it; opening it is one each time."""

    def noted() -> int:
        return sum(entry.action == "seen" for entry in workspace._store.audit())

    now = 1000.0
    monkeypatch.setattr("app.curation_service.monotonic", lambda: now)
    for _ in range(5):
        workspace.curation.show(ME, asked.thread_id, again=True)
    assert noted() == 1
    workspace.curation.show(ME, asked.thread_id)
    assert noted() == 2
    now += 601
    workspace.curation.show(ME, asked.thread_id, again=True)
    assert noted() == 3
    with pytest.raises(ThreadNotFoundError):
        workspace.curation.show(OTHER, asked.thread_id, again=True)


def _relabel(file: Path, label: str) -> None:
    _rewrite(file, lambda name, data: _labelled(data, label) if name == "conversation.json" else data)


def _labelled(data: bytes, label: str) -> bytes:
    record = json.loads(data)
    record["images"][0]["label"] = label
    return json.dumps(record).encode()


def _rewrite(file: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        content = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def _summed(content: dict[str, bytes]) -> dict[str, bytes]:
    """Give a forged archive the checksums of what it holds."""
    import hashlib

    record = json.loads(content["conversation.json"])
    for name in ("image.json", "frames.npy"):
        record["images"][0]["sha256"][name] = hashlib.sha256(content[f"images/0/{name}"]).hexdigest()
    return {**content, "conversation.json": json.dumps(record).encode()}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("image.json", b"[" * 100_000),
        ("image.json", b"{}"),
        ("image.json", b" " * (9 << 20)),
        ("frames.npy", OBJECTS),
        ("frames.npy", b""),
    ],
)  # fmt: skip
def test_a_hostile_image_is_refused_and_leaves_nothing(
    workspace: Workspace, asked: AnswerUpdate, name: str, data: bytes
) -> None:
    """Not even with the right checksum; no folder, row or conversation is left of it."""
    file = workspace.curation.export(ME, asked.thread_id)
    with zipfile.ZipFile(file) as archive:
        content = {entry: archive.read(entry) for entry in archive.namelist()}
    content = _summed({**content, f"images/0/{name}": data})
    _rewrite(file, lambda entry, _: content[entry])
    folders = sorted(workspace.settings.images_folder.iterdir())

    with pytest.raises(ArchiveError):
        workspace.curation.bring_in(OTHER, file)

    assert sorted(workspace.settings.images_folder.iterdir()) == folders
    assert workspace.curation.threads(OTHER).threads == ()
    assert workspace._store.images(OTHER) == []


def test_nothing_is_done_to_somebody_elses(workspace: Workspace, asked: AnswerUpdate) -> None:
    """Every call tells the same as for a conversation that is not there, and changes nothing."""
    service, before = workspace.curation, workspace.thread(ME, asked.thread_id)
    calls: list[Callable[[], object]] = [
        lambda: service.show(OTHER, asked.thread_id),
        lambda: service.fork(OTHER, asked.thread_id, asked.turn_id),
        lambda: service.pin(OTHER, asked.thread_id, pinned=True),
        lambda: service.tag(OTHER, asked.thread_id, ["x"]),
        lambda: service.answer_in(OTHER, asked.thread_id, "ar"),
        lambda: service.judgements(OTHER, asked.thread_id),
        lambda: service.export(OTHER, asked.thread_id),
    ]
    for call in calls:
        with pytest.raises(ThreadNotFoundError):
            call()
    with pytest.raises(AnswerNotFoundError):
        service.judge(OTHER, asked.answer_id, ["wrong_side"])
    assert service.search(OTHER, "nodule") == []
    assert workspace.thread(ME, asked.thread_id) == before
    assert list(workspace.settings.uploads_folder.iterdir()) == []


def test_found_by_language_modality_and_judgement(workspace: Workspace, asked: AnswerUpdate) -> None:
    """The filters of the search choose; a judgement taken back no longer does."""
    service = workspace.curation
    (hit,) = service.search(ME, "انصباب", modality="CT", limit=1)
    assert hit.answer_id == asked.answer_id
    assert [hit.excerpt[start:end] for start, end in hit.marks] == ["انصباب"]
    assert len(service.search(ME, "انصباب", before=hit.number)) == 1
    service.judge(ME, asked.answer_id, ["wrong_finding"], "too sure")
    assert [h.answer_id for h in service.search(ME, "انصباب", feedback="wrong_finding")] == [asked.answer_id]
    assert [h.answer_id for h in service.search(ME, "انصباب", feedback="any")] == [asked.answer_id]
    assert service.search(ME, "انصباب", feedback="wrong_side") == []
    assert service.judgements(ME, asked.thread_id)[asked.answer_id].text == "too sure"
    service.judge(ME, asked.answer_id, [])
    assert service.search(ME, "انصباب", feedback="any") == []
    assert [h.owner for h in service.search((OTHER, ME), "انصباب")] == [ME, ME]


def test_a_language_can_be_fixed(workspace: Workspace, asked: AnswerUpdate) -> None:
    """Answers follow the question until a language is chosen; a branch keeps the choice."""
    assert [turn.answers[0].language for turn in workspace.thread(ME, asked.thread_id).turns] == ["en", "ar"]
    workspace.curation.answer_in(ME, asked.thread_id, "ar")
    update = last(workspace.ask(ME, asked.thread_id, "And now?", [], "run"))
    thread = workspace.thread(ME, asked.thread_id)
    assert (thread.answer_language, thread.turns[-1].answers[0].language) == ("ar", "ar")
    branch = workspace.thread(ME, workspace.curation.fork(ME, asked.thread_id, update.turn_id))
    assert branch.answer_language == "ar"
    with pytest.raises(ValueError, match="expected"):
        workspace.curation.answer_in(ME, asked.thread_id, "fr")  # type: ignore[arg-type]


def test_others_open_and_delete_images_while_a_conversation_is_read(
    workspace: Workspace, asked: AnswerUpdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacking, checking and writing anew happen before the lock that everybody waits for."""
    import app.curation_service as service

    file = workspace.curation.export(ME, asked.thread_id)
    written: list[int] = []

    def watched(*args: object, **kwargs: object) -> Path:
        with workspace._files:  # would wait for ever if the import held it
            written.append(1)
        return keep(*args, **kwargs)  # type: ignore[arg-type]

    keep = service.keep
    monkeypatch.setattr(service, "keep", watched)
    workspace.curation.bring_in(OTHER, file)
    assert written
    assert not [place for place in workspace.settings.uploads_folder.iterdir() if place != file]
