"""Values between page and server."""

from __future__ import annotations

import json

import pytest

from app.errors import ThreadNotFoundError
from app.session import AnswerUpdate
from app.ui import wire


@pytest.mark.parametrize(
    "payload", [None, [], {}, {"run": None}, {"run": 3}, {"run": ""}, {"run": " "}, {"run": "x" * 65}]
)
def test_read_refuses_what_the_page_never_sends(payload):
    """Missing, empty, too long and wrongly typed entries are refused before any work."""
    with pytest.raises(ValueError, match="run"):
        wire.read(payload, "run")


def test_read_takes_text():
    """Text of an allowed length comes through unchanged."""
    assert wire.read({"question": " ما هذا؟ "}, "question", longest=100) == " ما هذا؟ "


def test_errors_in_both_languages():
    """A switch of language reaches an error that is shown already."""
    sentences = wire.both(ThreadNotFoundError())
    assert set(sentences) == {"en", "ar"}
    assert sentences["en"] != sentences["ar"]


def test_a_question_asked_is_the_question_shown(workspace):
    """What was stored comes back as values a browser can read, answers included."""
    for update in workspace.ask("local", None, "Which side?", [], "run"):
        thread_id = update.thread_id
    value = wire.thread_value(workspace.thread("local", thread_id), {})
    assert json.loads(json.dumps(value)) == value
    assert value["turns"][0]["question"] == "Which side?"
    assert value["turns"][0]["answers"][0]["state"] == "complete"
    assert [one["id"] for one in wire.threads_value(workspace.threads("local"))] == [thread_id]


def test_an_update_replaces_its_own_answer_only():
    """Earlier answers of a turn stay; the one being written is the last."""
    turn = {
        "id": "t",
        "question": "q",
        "views": [],
        "answers": [{"id": "a1", "text": "old"}, {"id": "a2", "text": ""}],
    }
    shown = wire.updated(turn, AnswerUpdate("thread", "t", "a2", "12.5 mm", "streaming"))
    assert [one["id"] for one in shown["answers"]] == ["a1", "a2"]
    assert "12.5 mm" in shown["answers"][1]["text"]
    assert turn["answers"][1]["text"] == ""
