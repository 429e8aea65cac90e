"""The history over HTTP: search in pieces, marks, branches, judgements, export and import."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.routes import history, prompts
from app.ui import wire
from app.ui.guard import OWNER
from i18n.text import strip_controls

if TYPE_CHECKING:
    from app.session import Workspace
    from engine.scripted import ScriptedBackend


def client_of(workspace: Workspace, owner: str) -> TestClient:
    """Make requests of one owner, as the guard would let them in."""
    app = Starlette(routes=[*history.routes(workspace), *prompts.routes(workspace)])

    async def owned(scope, receive, send):
        scope[OWNER] = owner
        await app(scope, receive, send)

    return TestClient(owned, raise_server_exceptions=False)


@pytest.fixture
def mine(workspace):
    return client_of(workspace, "me")


@pytest.fixture
def theirs(workspace):
    return client_of(workspace, "other")


@pytest.fixture
def asked(workspace: Workspace, backend: ScriptedBackend):
    """One answered question."""
    backend.enqueue("عقدة قياسها 12.5 mm في الرئة اليسرى")
    return list(workspace.ask("me", None, "What is in the left lung?", [], "run"))[-1]


def test_search_marks_the_words_and_keeps_measurements_whole(mine, asked):
    """The pieces joined are the text, the measurement isolated in it; what was asked for is marked."""
    (hit,) = mine.get("/history/search", params={"q": "عقده"}).json()["hits"]
    assert (hit["thread"], hit["turn"], hit["answer"]) == (asked.thread_id, asked.turn_id, asked.answer_id)
    assert [one["text"] for one in hit["pieces"] if one["marked"]] == ["عقدة"]
    joined = "".join(one["text"] for one in hit["pieces"])
    assert strip_controls(joined) == asked.text
    assert "\u206612.5 mm\u2069" in joined


@pytest.mark.usefixtures("asked")
def test_a_mark_inside_a_measurement_leaves_it_isolated(mine):
    """The isolate is round the whole measurement, wherever the mark cuts it."""
    (hit,) = mine.get("/history/search", params={"q": "12"}).json()["hits"]
    joined = "".join(one["text"] for one in hit["pieces"])
    assert "\u206612.5 mm\u2069" in joined
    assert any(strip_controls(one["text"]) == "12" for one in hit["pieces"] if one["marked"])


@pytest.mark.parametrize(
    "query",
    [
        {"q": "x", "match": "regex"},
        {"q": "x", "since": "2026-01-01"},
        {"q": "x", "feedback": "rude"},
        {"before": "y"},
    ],
)
def test_search_refuses_what_no_page_sends(mine, query):
    """Unknown ways to match, times of no zone, unknown judgements: a sentence, not a traceback."""
    answer = mine.get("/history/search", params=query)
    assert answer.status_code == 422
    assert set(answer.json()["error"]) == {"en", "ar"}


def test_marks_and_judgement_are_listed(mine, workspace, asked):
    """A conversation comes with pin and tags, an answer with its judgement, which the search finds."""
    path = f"/history/threads/{asked.thread_id}"
    assert mine.post(f"{path}/pin", json={"pinned": True}).json() == {"pinned": True}
    assert mine.post(f"{path}/tags", json={"tags": [" lung ", "رئة", ""]}).json() == {"tags": ["lung", "رئة"]}
    (thread,) = mine.get("/history/threads").json()["threads"]
    assert (thread["pinned"], thread["tags"]) == (True, ["lung", "رئة"])
    assert mine.get("/history/threads", params={"tag": "other"}).json()["threads"] == []
    assert mine.get("/history/tags").json() == {"tags": ["lung", "رئة"]}
    said = {"reasons": ["wrong_side"], "text": "it is on the right"}
    assert mine.post(f"/history/answers/{asked.answer_id}/judgement", json=said).json() == said
    value = wire.thread_value(
        workspace.thread("me", asked.thread_id), workspace.curation.judgements("me", asked.thread_id)
    )
    assert json.loads(json.dumps(value["turns"][0]["answers"][0]["judgement"])) == said
    assert len(mine.get("/history/search", params={"q": "mm", "feedback": "wrong_side"}).json()["hits"]) == 1
    assert mine.get("/history/search", params={"q": "mm", "feedback": "other"}).json()["hits"] == []


def test_a_branch_and_a_fixed_language(mine, workspace, asked):
    """A branch is another conversation with the same turns; its language can be fixed alone."""
    path = f"/history/threads/{asked.thread_id}"
    branch = mine.post(f"{path}/fork", json={"turn": asked.turn_id}).json()["thread"]
    assert branch != asked.thread_id
    assert mine.post(f"/history/threads/{branch}/language", json={"language": "ar"}).status_code == 200
    assert workspace.thread("me", branch).answer_language == "ar"
    assert workspace.thread("me", asked.thread_id).answer_language is None
    assert mine.post(f"{path}/language", json={"language": "fr"}).status_code == 422


def test_what_is_exported_can_be_brought_in(mine, theirs, workspace, asked):
    """The file holds the conversation; whoever brings it in has a copy, and nothing is left behind."""
    answer = mine.get(f"/history/threads/{asked.thread_id}/export")
    assert answer.headers["content-type"] == "application/zip"
    assert "lung" not in answer.headers["content-disposition"]
    assert list(workspace.settings.uploads_folder.iterdir()) == []
    copy = theirs.post("/history/import", content=answer.content).json()["thread"]
    assert workspace.thread("other", copy).turns[0].answers[0].text == asked.text
    assert theirs.post("/history/import", content=b"PK nonsense").status_code == 422
    assert list(workspace.settings.uploads_folder.iterdir()) == []


def test_nothing_of_another_owner_is_there(mine, theirs, asked):
    """Every route answers for somebody else's conversation as for one that never was."""
    thread, answer = asked.thread_id, asked.answer_id
    for who, code in ((theirs, 404), (mine, 200)):
        calls = [
            who.get(f"/history/threads/{thread}/export"),
            who.post(f"/history/threads/{thread}/pin", json={"pinned": False}),
            who.post(f"/history/threads/{thread}/tags", json={"tags": []}),
            who.post(f"/history/threads/{thread}/language", json={"language": None}),
            who.post(f"/history/threads/{thread}/fork", json={"turn": asked.turn_id}),
            who.post(f"/history/answers/{answer}/judgement", json={"reasons": []}),
            who.get("/history/threads", params={"before": thread}),
        ]
        assert [one.status_code for one in calls] == [code] * len(calls)
    assert theirs.get("/history/search", params={"q": "lung"}).json()["hits"] == []
    assert theirs.get("/history/threads").json()["threads"] == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'"x"', b"{", b'{"tags": 3}', b"[" * 60_000, b" " * 70_000]
)
def test_bodies_that_are_none_are_refused(mine, asked, body):
    """What is no JSON object, or too long a one, is answered with a sentence and changes nothing."""
    answer = mine.post(f"/history/threads/{asked.thread_id}/tags", content=body)
    assert answer.status_code in (413, 422)
    assert set(answer.json()["error"]) == {"en", "ar"}


def test_quick_questions_over_http(mine, theirs):
    """A reader words one, adds one, and puts them back; another reader sees those that came along."""
    before = theirs.get("/prompts").json()
    assert (
        mine.post("/prompts", json={"id": "describe", "language": "en", "text": "Look."}).status_code == 200
    )
    own = mine.post("/prompts", json={"id": None, "language": "ar", "text": "ماذا ترى؟"}).json()["id"]
    listed = {one["id"]: one for one in mine.get("/prompts").json()["prompts"]}
    assert (listed["describe"]["texts"]["en"], listed["describe"]["changed"]) == ("Look.", ["en"])
    assert listed[own]["own"] is True
    assert theirs.get("/prompts").json() == before
    mine.delete(f"/prompts/{own}")
    assert mine.delete("/prompts/describe").json() == before
    assert mine.post("/prompts", json={"id": "describe", "language": "fr", "text": "x"}).status_code == 422
