"""Whole slides: what they are, their tiles, what a region of one shows, how a region is cut into parts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.routes.edge import in_thread
from app.ui.guard import OWNER
from viewers.deepzoom import read_address
from viewers.errors import SlideBusyError
from viewers.slide_view import SlideView, describe_slide_view

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.session import Workspace

__all__ = ["routes"]

_PARTS: Final = (4, 9, 16)
"""Numbers of parts that are offered, at most so many each."""


def routes(workspace: Workspace) -> list[Route]:
    """Routes of slides."""
    handlers = _Slides(workspace)
    return [
        Route("/slides/{digest}/tiles/{tile:path}", in_thread(handlers.tile)),
        Route("/slides/{digest}/region", in_thread(handlers.region)),
        Route("/slides/{digest}/grid", in_thread(handlers.grid)),
    ]


class _Slides:
    """Endpoints; each asks the workspace as the owner of the request."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def tile(self, request: Request) -> Response:
        """Send a tile; the page keeps what it shows, and nothing of it is left on the reader's disk."""
        owner, digest = request.scope[OWNER], request.path_params["digest"]
        address = read_address(request.path_params["tile"])
        self._workspace.own(owner, digest)
        try:
            tile = self._workspace.slides.tile(digest, address, viewer=owner)
        except SlideBusyError:
            return Response(status_code=503, headers={"retry-after": "1"})
        return Response(tile, media_type="image/jpeg")

    def region(self, request: Request) -> Response:
        """Tell magnification, size and level of a region."""
        view = self._view(request)
        with self._workspace.slides.borrow(view.slide) as slide:
            return JSONResponse(describe_slide_view(slide, view))

    def grid(self, request: Request) -> Response:
        """Tell into how many parts a region can be cut to be seen in detail, and how long each way takes."""
        view, owner = self._view(request), request.scope[OWNER]
        choices: dict[int, dict[str, Any]] = {}
        with self._workspace.slides.borrow(view.slide) as slide:
            for most in _PARTS:
                facts = describe_slide_view(slide, replace(view, grid=most))
                if facts["parts_scale"] >= facts["scale"]:
                    continue  # more pictures of no more detail
                columns, rows = facts["parts"]
                seconds = self._workspace.reading_seconds(owner, facts["pictures"])
                choices.setdefault(columns * rows, {
                    "grid": most, "columns": columns, "rows": rows, "pictures": facts["pictures"],
                    "magnification": facts["parts_magnification"], "seconds": seconds,
                    "fits": self._workspace.has_room(owner, facts["pictures"]),
                    "never": self._workspace.never_has_room(owner, facts["pictures"]),
                })  # fmt: skip
        return JSONResponse({"choices": list(choices.values())})

    def _view(self, request: Request) -> SlideView:
        view = SlideView.from_json(json.loads(request.query_params.get("view", "null")))
        if view.slide != request.path_params["digest"]:
            raise ValueError("the view is of another slide")
        self._workspace.own(request.scope[OWNER], view.slide)
        return view
