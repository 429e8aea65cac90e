"""Measuring on original pixels, and what was measured in a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.routes.edge import answered, in_thread, json_body
from app.ui import wire
from app.ui.guard import OWNER
from viewers.measure import Shape
from viewers.view import View

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.session import Workspace

__all__ = ["routes"]


def routes(workspace: Workspace) -> list[Route]:
    """Routes of measurements."""
    handlers = _Measure(workspace)
    return [
        Route("/measure", answered(handlers.measure), methods=["POST"]),
        Route("/measure", in_thread(handlers.measured)),
        Route("/measure/{id}", in_thread(handlers.remove), methods=["DELETE"]),
    ]


class _Measure:
    """Endpoints; each asks the workspace as the owner of the request."""

    def __init__(self, workspace: Workspace) -> None:
        self._studies = workspace.studies
        self._image = workspace.image

    async def measure(self, request: Request) -> Response:
        """Measure a shape in what a view shows; with a conversation it is kept there."""
        body = await json_body(request)
        return JSONResponse(await run_in_threadpool(self._measured, request.scope[OWNER], body))

    def _measured(self, owner: str, body: dict[str, Any]) -> dict[str, Any]:
        view, shape = View.from_json(body.get("view")), Shape.from_json(body.get("shape"))
        thread = None if body.get("thread") is None else wire.read(body, "thread")
        image = self._image(owner, view.image)
        kept, measurement = self._studies.measure(owner, thread, image, view, shape)
        return {"id": kept, "view": view.to_json(), "measurement": measurement.to_json()}

    def measured(self, request: Request) -> Response:
        """List what was measured in a conversation."""
        found = self._studies.measured(request.scope[OWNER], request.query_params.get("thread", ""))
        values = [
            {"id": one.id, "view": dict(one.view), "measurement": dict(one.measurement)} for one in found
        ]
        return JSONResponse({"measurements": values})

    def remove(self, request: Request) -> Response:
        """Delete a measurement."""
        self._studies.forget_measurement(request.scope[OWNER], request.path_params["id"])
        return JSONResponse({})
