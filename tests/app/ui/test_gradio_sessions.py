"""Sessions: named everywhere, owned by the first, pushed out by nobody else."""

from __future__ import annotations

import asyncio

import pytest

from app.ui.gradio_sessions import (
    BodyTooLargeError,
    GradioSessions,
    named_in_body,
    named_in_url,
    read_body,
    replay,
)


def test_the_first_keeps_it():
    """And asks again as often as they like."""
    sessions = GradioSessions()
    assert sessions.owned("amal", ["a", "b"])
    assert not sessions.owned("badr", ["c", "a"])
    assert sessions.owned("amal", ["a"])
    assert sessions.owned("badr", [])


def test_nobody_pushes_out_anothers_session():
    """Naming thousands of sessions forgets the own ones only."""
    sessions = GradioSessions()
    sessions.owned("amal", ["a"])
    for number in range(1000):
        assert sessions.owned("badr", [f"s{number}"])
    assert not sessions.owned("badr", ["a"])
    assert len(sessions._owners) == 201
    assert not sessions.owned("carim", ["s999"])
    assert sessions.owned("carim", ["s0"])


def test_memory_is_bounded(monkeypatch):
    """The oldest of all go when there are too many owners."""
    monkeypatch.setattr("app.ui.gradio_sessions._MOST", 50)
    sessions = GradioSessions()
    for number in range(200):
        sessions.owned(f"visitor-{number}", [f"s{number}"])
    assert len(sessions._owners) == len(sessions._counts) == 50


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        ("/gradio_api/queue/data", [("session_hash", "a")], ["a"]),
        ("/gradio_api/queue/data", [("session_hash", "a"), ("x", "y"), ("session_hash", "b")], ["a", "b"]),
        ("/gradio_api/heartbeat/a", [], ["a"]),
        ("/gradio_api/heartbeat/a/", [("session_hash", "b")], ["b", "a"]),
        ("/images/x", [], []),
    ],
)
def test_all_sessions_of_an_address_count(path, query, named):
    """Whichever of them Gradio would take."""
    assert named_in_url(path, query) == named


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"session_hash": "a"}', ["a"]),
        (b'{"session_hash": "a", "session_hash": "b"}', ["a", "b"]),
        (b'{"session\\u005fhash": "a"}', ["a"]),
        (b'{"data": [{"session_hash": "b"}], "session_hash": null}', ["b"]),
        ('{"session_hash": "a"}'.encode("utf-16"), ["a"]),
        (b'{"data": []}', []),
        (b"[]", None),
        (b'{"session_hash": ["a"]}', None),
        (b"", None),
        (b"\xff", None),
        (b"[" * 1_000_000, None),
    ],
)
def test_all_sessions_of_a_body_count(body, named):
    """Escaped, twice, nested; what is no event is told."""
    assert named_in_body(body) == named


def test_a_body_is_read_once_and_handed_on_whole():
    """In pieces, then as one; what the browser says next comes after it."""
    messages = [
        {"type": "http.request", "body": b"one ", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    async def run():
        body = await read_body(receive)
        again = replay(body, receive)
        return body, await again(), await again()

    body, first, second = asyncio.run(run())
    assert body == first["body"] == b"one two"
    assert second == {"type": "http.disconnect"}


def test_an_endless_body_ends():
    """After a mebibyte."""

    async def receive():
        return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    with pytest.raises(BodyTooLargeError):
        asyncio.run(read_body(receive))
