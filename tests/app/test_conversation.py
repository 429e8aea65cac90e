"""What the model is given of a stored conversation: languages, translations, what is carried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.errors import AnswerNotFoundError, ThreadNotFoundError

if TYPE_CHECKING:
    from app.answer import AnswerUpdate
    from app.session import Workspace
    from engine.scripted import ScriptedBackend

ME, OTHER = "me", "other"
ARABIC, ENGLISH = "أجب باللغة العربية.", "Answer in English."


def last(updates) -> AnswerUpdate:
    return list(updates)[-1]


def said(backend: ScriptedBackend) -> list[str]:
    """Texts of the last conversation the backend was given."""
    return [message.text for message in backend.received[-1]]


@pytest.mark.parametrize(
    ("question", "language", "asked"),
    [
        ("Is there a fracture?", None, "Is there a fracture?"),
        ("هل يوجد كسر؟", None, "هل يوجد كسر؟"),
        ("Is there a fracture?", "en", "Is there a fracture?"),
        ("Is there a fracture?", "ar", f"Is there a fracture?\n{ARABIC}"),
        ("هل يوجد كسر؟", "en", f"هل يوجد كسر؟\n{ENGLISH}"),
    ],
)
def test_the_answer_is_asked_for_in_the_fixed_language(
    workspace: Workspace, backend: ScriptedBackend, question, language, asked
):
    """Only where it differs from the question's is the language said, and only to the model."""
    update = last(workspace.ask(ME, None, question, [], "run", language))
    assert said(backend) == [asked]
    thread = workspace.thread(ME, update.thread_id)
    assert thread.turns[0].question == question
    assert thread.answer_language == language


def test_a_change_of_language_leaves_earlier_turns_as_they_were(
    workspace: Workspace, backend: ScriptedBackend
):
    """The prompt of earlier turns stays the same, so that what was computed of them still serves."""
    first = last(workspace.ask(ME, None, "One?", [], "run", "ar"))
    workspace.curation.answer_in(ME, first.thread_id, None)
    last(workspace.ask(ME, first.thread_id, "Two?", [], "run"))
    assert said(backend)[0] == f"One?\n{ARABIC}"
    assert said(backend)[2] == "Two?"


def test_a_translation_is_of_the_text_alone_and_linked(workspace: Workspace, backend: ScriptedBackend):
    """The twin is a further answer of the turn; the model is given the answer's text, no image, no turns."""
    backend.enqueue("A 12.5 mm nodule on the left.", "عقدة قياسها 12.5 ملم في اليسار.")
    asked = last(workspace.ask(ME, None, "What is it?", [], "run"))
    twin = last(workspace.translate(ME, asked.thread_id, asked.answer_id, "run"))
    assert twin.translation_of == asked.answer_id
    assert twin.turn_id == asked.turn_id
    (prompt,) = said(backend)
    assert prompt.endswith("A 12.5 mm nodule on the left.")
    assert "العربية" in prompt
    (turn,) = workspace.thread(ME, asked.thread_id).turns
    assert [(one.language, one.translation_of) for one in turn.answers] == [
        ("en", None),
        ("ar", asked.answer_id),
    ]


def test_a_conversation_goes_on_from_the_answer_not_from_its_translation(
    workspace: Workspace, backend: ScriptedBackend
):
    """A translation changes nothing of what the model is given next, nor how a further answer is sampled."""
    backend.enqueue("original", "ترجمة", "third")
    asked = last(workspace.ask(ME, None, "What is it?", [], "run"))
    last(workspace.translate(ME, asked.thread_id, asked.answer_id, "run"))
    last(workspace.ask(ME, asked.thread_id, "And now?", [], "run"))
    assert said(backend) == ["What is it?", "original", "And now?"]


def test_a_translation_of_a_translation_goes_back_to_the_original(
    workspace: Workspace, backend: ScriptedBackend
):
    """There is one original, whatever it was translated by way of."""
    backend.enqueue("original", "ترجمة", "again")
    asked = last(workspace.ask(ME, None, "What is it?", [], "run"))
    twin = last(workspace.translate(ME, asked.thread_id, asked.answer_id, "run"))
    back = last(workspace.translate(ME, asked.thread_id, twin.answer_id, "run"))
    assert back.translation_of == asked.answer_id


def test_nobody_else_translates(workspace: Workspace, backend: ScriptedBackend):
    """Another owner's conversation, or an answer of another conversation, is not there."""
    asked = last(workspace.ask(ME, None, "What is it?", [], "run"))
    other = last(workspace.ask(ME, None, "Another?", [], "run"))
    with pytest.raises(ThreadNotFoundError):
        last(workspace.translate(OTHER, asked.thread_id, asked.answer_id, "run"))
    with pytest.raises(AnswerNotFoundError):
        last(workspace.translate(ME, asked.thread_id, other.answer_id, "run"))
    assert len(backend.received) == 2
