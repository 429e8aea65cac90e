"""A real HTTP server on loopback that answers as it is told, byte by byte."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DONE = b"data: [DONE]\n\n"


def piece(text: str = "", reason: str | None = None, **more: Any) -> bytes:
    """Write one event of a streamed answer."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]} | more).encode() + b"\n\n"


def error_body(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message} | more}).encode()


@dataclass(frozen=True)
class Reply:
    """What one request gets: a status, headers, and pieces sent one by one; numbers are pauses in seconds."""

    pieces: Sequence[bytes | float] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    """Before the status line."""
    drop: bool = False
    """Close the connection without any answer."""


ANSWER = Reply([piece("نعم، "), piece("يسار."), piece(reason="stop"), DONE])


class FakeServer:
    """Gives replies in order; remembers what it was asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.replies: list[Reply] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models: list[str] = ["served"]
        self.cut = threading.Event()
        """Set when a reader closed its connection before the end of a reply."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                data = json.dumps({"data": [{"id": name} for name in server.models]}).encode()
                server.send(self, Reply([data]))

            def do_POST(self) -> None:
                server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.send(self, server.replies.pop(0) if server.replies else ANSWER)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Http(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._http = Http((host, 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        time.sleep(reply.pause_s)
        handler.close_connection = True
        if reply.drop:
            return
        try:
            handler.send_response(reply.status)
            for name, value in ({"Content-Type": "text/event-stream"} | dict(reply.headers)).items():
                handler.send_header(name, value)
            handler.send_header("Connection", "close")
            handler.end_headers()
            for data in reply.pieces:
                if isinstance(data, float):
                    time.sleep(data)
                else:
                    handler.wfile.write(data)
                    handler.wfile.flush()
        except OSError:
            self.cut.set()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[FakeServer]:
    server = FakeServer(host)
    try:
        yield server
    finally:
        server.close()
