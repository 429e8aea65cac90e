"""How an answer is judged and who gives it: the image-dependence meter, and the choice of an adapter."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.routes.edge import answered, in_thread, json_body
from app.ui import wire
from app.ui.guard import OWNER

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.session import Workspace

__all__ = ["routes"]

_POLL_S = 0.5
"""How often a closed connection is looked for while an answer is measured."""


def routes(workspace: Workspace) -> list[Route]:
    """Routes of the meter and of the adapters."""
    handlers = _Answering(workspace)
    return [
        Route("/grounding", answered(handlers.measure), methods=["POST"]),
        Route("/adapters", in_thread(handlers.adapters)),
        Route("/adapters", answered(handlers.choose), methods=["POST"]),
    ]


class _Answering:
    """Endpoints; each asks the workspace as the owner of the request."""

    def __init__(self, workspace: Workspace) -> None:
        self._grounding = workspace.grounding
        self._choice = workspace.adapters

    async def measure(self, request: Request) -> Response:
        """Tell how much an answer depends on its image; a reader who goes away ends the work."""
        body = await json_body(request)
        thread_id, answer_id = wire.read(body, "thread"), wire.read(body, "answer")
        gone = threading.Event()
        work = asyncio.ensure_future(
            run_in_threadpool(self._grounding.of, request.scope[OWNER], thread_id, answer_id, gone.is_set)
        )
        try:
            while not (await asyncio.wait([work], timeout=_POLL_S))[0]:
                if await request.is_disconnected():
                    gone.set()
        finally:
            gone.set()
        return JSONResponse({"grounding": await work})

    def adapters(self, request: Request) -> Response:
        """List the adapters, and which one answers this owner."""
        chosen = self._choice.of(request.scope[OWNER]) or ""
        return JSONResponse({"names": self._choice.names, "chosen": chosen})

    async def choose(self, request: Request) -> Response:
        """Answer this owner with another adapter from the next question on; an empty name is none."""
        body = await json_body(request)
        name = wire.read(body, "name") if body.get("name") else ""
        self._choice.choose(request.scope[OWNER], name)
        return self.adapters(request)
