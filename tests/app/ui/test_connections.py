"""Slow senders, endless headers and proxies nobody named, against a real server on a socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from app.ui.connections import bound_connections


async def app(scope, receive, send):
    """Answer with the client's address and the length of the body."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    said = f"{scope['client'][0]} {scope['scheme']} {len(body)}".encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]}
    )
    await send({"type": "http.response.body", "body": said})


@pytest.fixture(scope="module")
def server():
    """Start a server whose times are all shorter than a second."""
    patch = pytest.MonkeyPatch()
    patch.setattr("app.ui.connections._HEADERS_S", 0.6)
    patch.setattr("app.ui.connections._BODY_PAUSE_S", 0.6)
    patch.setattr("app.ui.connections._LOOKED_EVERY_S", 0.1)
    patch.setenv("FORWARDED_ALLOW_IPS", "")  # as the application sets it when no proxy is named
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    bound_connections(config)
    yield port
    running.should_exit = True
    thread.join()
    patch.undo()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def closed_after(one):
    """Seconds until the server closes, and what it said."""
    began, said = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):  # what was sent and not read any more
        while piece := one.recv(4096):
            said += piece
    return time.monotonic() - began, said


def test_headers_that_never_end_are_cut_off(server):
    """Nothing at all, or a byte now and then: closed when the time for headers is over."""
    with connect(server) as silent:
        assert 0.3 < closed_after(silent)[0] < 3
    with connect(server) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        with contextlib.suppress(OSError):  # reset or broken pipe, as the system has it
            while time.monotonic() - began < 4:
                slow.sendall(b"X-A: b\r\n")
                time.sleep(0.1)
        assert time.monotonic() - began < 3


def test_a_body_that_stops_coming_is_cut_off(server):
    """An upload may be slow, but not silent."""
    with connect(server) as stalled:
        stalled.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert closed_after(stalled)[0] < 3
    with connect(server) as steady:
        steady.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n")
        for _ in range(10):
            time.sleep(0.15)
            steady.sendall(b"x")
        assert closed_after(steady)[1].endswith(b"http 10")


def test_one_connection_asks_many_times(server):
    """Keep-alive works, also with pauses between requests shorter than the keep-alive time."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server}") as client:
        for _ in range(4):
            assert client.post("/", content=b"xy").text == "127.0.0.1 http 2"
            time.sleep(0.3)


def test_endless_headers_are_refused(server):
    """A cookie of forty kilobytes, or thousands of them: refused before the application is asked."""
    for headers in (f"Cookie: {'x' * 40_000}\r\n", "Cookie: a=b\r\n" * 4_000):
        with connect(server) as one:
            one.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{headers}".encode())
            said = closed_after(one)[1]
            assert b" 400 " in said or said == b""
    with connect(server) as one:
        one.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: {'x' * 8000}\r\n\r\n".encode())
        assert closed_after(one)[1].endswith(b"http 0")


def test_nobody_says_where_a_request_comes_from(server):
    """Without a named proxy its headers change neither address nor scheme; the server has no name."""
    headers = {"x-forwarded-for": "10.9.9.9", "x-forwarded-proto": "https"}
    answer = httpx.get(f"http://127.0.0.1:{server}/", headers=headers)
    assert answer.text == "127.0.0.1 http 0"
    time.sleep(1.2)  # uvicorn makes its own headers anew each second
    assert "server" not in httpx.get(f"http://127.0.0.1:{server}/").headers
