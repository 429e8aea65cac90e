"""Whole slides: what they are, their tiles, what a region of one shows, how a region is cut into parts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.routes.edge import in_thread
from app.ui.guard import OWNER
from viewers.deepzoom import read_address
from viewers.errors import SlideBusyError
from viewers.slide_view import SlideView, describe_slide_view, plan_grid

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.session import Workspace

__all__ = ["routes"]

_MOST_PARTS: Final = 16


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
        """Tell into which parts a region is cut for the model to see it in detail."""
        view = self._view(request)
        with self._workspace.slides.borrow(view.slide) as slide:
            describe_slide_view(slide, view)  # refuses a region that is not on the slide
        grid = plan_grid(view, _MOST_PARTS)
        views = [grid.overview, *grid.tiles] if len(grid.tiles) > 1 else [grid.overview]
        return JSONResponse({"views": [one.to_json() for one in views], "scale": grid.scale})

    def _view(self, request: Request) -> SlideView:
        view = SlideView.from_json(json.loads(request.query_params.get("view", "null")))
        if view.slide != request.path_params["digest"]:
            raise ValueError("the view is of another slide")
        self._workspace.own(request.scope[OWNER], view.slide)
        return view
