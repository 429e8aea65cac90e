"""Whose a Gradio session is: the first to use one keeps it, on every route that names one.

Gradio itself hands the stream of a session to whoever names it, and runs an event in whatever session its
body names.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from app.ui.guard import Message, Receive

__all__ = ["BodyTooLargeError", "GradioSessions", "named_in_body", "named_in_url", "read_body", "replay"]

_MOST_OF_ONE: Final = 200
"""Sessions of one owner, who has one a tab; naming more forgets the owner's own oldest, never another's."""
_MOST: Final = 100_000
_HEARTBEAT: Final = "/gradio_api/heartbeat/"
_WITH_BODY: Final = ("/gradio_api/queue/join", "/gradio_api/run/")
_LONGEST_BODY: Final = 1 << 20
"""Bytes of an event; the longest question and its views stay far below."""


class BodyTooLargeError(Exception):
    """An event larger than any the page sends."""


class GradioSessions:
    """Owners of sessions."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._counts: dict[str, OrderedDict[str, None]] = {}
        self._lock = threading.Lock()

    def owned(self, owner: str, sessions: list[str]) -> bool:
        """Whether every session is the owner's; one that is nobody's becomes theirs."""
        with self._lock:
            return all(self._claim(owner, session) for session in sessions)

    def _claim(self, owner: str, session: str) -> bool:
        first = self._owners.setdefault(session, owner)
        if first != owner:
            return False
        self._owners.move_to_end(session)
        mine = self._counts.setdefault(owner, OrderedDict())
        mine[session] = None
        mine.move_to_end(session)
        if len(mine) > _MOST_OF_ONE:
            self._forget(mine.popitem(last=False)[0])
        if len(self._owners) > _MOST:
            self._forget(next(iter(self._owners)))
        return True

    def _forget(self, session: str) -> None:
        owner = self._owners.pop(session, "")
        mine = self._counts.get(owner, OrderedDict())
        mine.pop(session, None)
        if not mine:
            self._counts.pop(owner, None)


def named_in_url(path: str, query: list[tuple[str, str]]) -> list[str]:
    """Sessions a request's address names; all of them, whichever Gradio would take."""
    named = [value for name, value in query if name == "session_hash" and value]
    if path.startswith(_HEARTBEAT):
        named.append(path.removeprefix(_HEARTBEAT).rstrip("/"))
    return named


def named_in_body(body: bytes) -> list[str] | None:
    """Sessions an event's body names, or ``None`` if it is no JSON object or names one by no text."""
    found: list[Any] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # every mention counts, of a name given twice too
        found.extend(value for name, value in pairs if name == "session_hash")
        return dict(pairs)

    try:
        value = json.loads(body, object_pairs_hook=collect)
    except (ValueError, RecursionError):
        return None
    named = [one for one in found if one is not None]
    is_sound = isinstance(value, dict) and all(isinstance(one, str) for one in named)
    return named if is_sound else None


def has_body(scope: Any) -> bool:
    """Whether a request is an event, whose body names its session."""
    return bool(scope["method"] == "POST" and scope["path"].startswith(_WITH_BODY))


async def read_body(receive: Receive) -> bytes:
    """Read an event's body.

    Raises
    ------
    BodyTooLargeError
        If it is longer than 1 MiB.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > _LONGEST_BODY:
            raise BodyTooLargeError
        if not message.get("more_body"):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read already, then what still comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
