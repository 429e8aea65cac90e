"""Connections that hold the server up: slow senders, endless headers, too many at once.

uvicorn waits for a request's headers and body as long as the sender likes. Gradio starts uvicorn and
takes none of its settings, but a connection's protocol is asked for when it arrives: so the running
server's configuration is completed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn import Config

__all__ = ["bound_connections"]

_HEADERS_S: Final = 20.0
"""Seconds in which all headers of a request must have arrived."""
_BODY_PAUSE_S: Final = 60.0
"""Seconds an upload may pause."""
_LOOKED_EVERY_S: Final = 5.0
_LONGEST_HEADERS: Final = 32 << 10
"""Bytes of a request's headers; a browser sends about two thousand."""
_MOST_AT_ONCE: Final = 1000
"""Connections; 20 users have some 12 each."""


class _Patient(H11Protocol):
    """uvicorn's protocol, which closes a connection that sends too slowly."""

    _heard: float = 0.0
    _began: float = 0.0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._began = self._heard = self.loop.time()
        self._watch = self.loop.call_later(_LOOKED_EVERY_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        if self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0]:
            self._began = now  # what arrives now begins a request, or continues one whose headers are there
        self._heard = now
        super().data_received(data)

    def _look(self) -> None:
        """Close the connection if its sender is late; a client that waits for an answer is not."""
        now = self.loop.time()
        waits_for_headers = self.conn.their_state is h11.IDLE
        begun = bool(self.conn.trailing_data[0]) or self.cycle is None
        late = waits_for_headers and begun and now - self._began > _HEADERS_S
        stalled = self.conn.their_state is h11.SEND_BODY and now - self._heard > _BODY_PAUSE_S
        # paused reading means that the server is the slow one
        if late or (stalled and not self.flow.read_paused):
            self.transport.close()
            return
        self._watch = self.loop.call_later(_LOOKED_EVERY_S, self._look)


def bound_connections(config: Config) -> None:
    """Complete the configuration of a running server, for every connection from now on."""
    config.http_protocol_class = _Patient
    config.h11_max_incomplete_event_size = _LONGEST_HEADERS
    config.limit_concurrency = _MOST_AT_ONCE
    config.encoded_headers = [one for one in config.encoded_headers if one[0].lower() != b"server"]
