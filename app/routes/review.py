"""Reading everybody's conversations, for a reviewer and nobody else; nothing here changes one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, cast

from PIL import Image as Pillow
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.accounts.errors import SignedOutError, WrongRoleError
from app.errors import TurnNotFoundError
from app.routes.asked import LONGEST_QUERY, moment, reason
from app.routes.edge import in_thread
from app.ui import wire
from app.ui.guard import IDENTITY
from app.ui.own_pages import both_texts, own_page
from viewers.shown import shown_from_json

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.accounts.people import People
    from app.accounts.records import Account
    from app.session import Workspace
    from app.ui.identity import Identity

__all__ = ["routes"]

_SIDE = 640
"""Pixels of a picture's longer side in the list of turns."""


def routes(workspace: Workspace, people: People) -> list[Route]:
    """Routes of reviews."""
    handlers = _Reviews(workspace, people)
    return [
        Route("/review", in_thread(handlers.show)),
        Route("/review/threads", in_thread(handlers.threads)),
        Route("/review/search", in_thread(handlers.search)),
        Route("/review/threads/{thread}", in_thread(handlers.thread)),
        Route("/review/threads/{thread}/turns/{turn}/views/{position:int}", in_thread(handlers.view)),
    ]


class _Reviews:
    """Endpoints; each asks first who is there."""

    def __init__(self, workspace: Workspace, people: People) -> None:
        self._workspace = workspace
        self._people = people

    def show(self, request: Request) -> Response:
        """Show the page."""
        sign_in = cast("Identity", request.scope[IDENTITY]).sign_in
        if sign_in is None or sign_in.locked:
            return RedirectResponse("account/sign-in", 303)
        if sign_in.account.role != "reviewer" or sign_in.account.must_change:
            return RedirectResponse("account", 303)
        name = sign_in.account.name
        return own_page("review", request, self._people.settings, {"who": both_texts(name, name)})

    def threads(self, request: Request) -> Response:
        """List conversations, without a word of them."""
        _reviewer(request)
        found = self._people.reviews.threads(request.query_params.get("before") or None)
        rows = [
            {"id": one.id, "owner": one.owner, "updated": one.updated.isoformat(), "turns": one.turn_count}
            for one in found
        ]
        return JSONResponse({"threads": rows})

    def search(self, request: Request) -> Response:
        """Find words in everybody's conversations, or in one user's; the audit says what was found."""
        asked = request.query_params
        hits = self._people.reviews.search(
            _reviewer(request),
            asked.get("q", "")[:LONGEST_QUERY],
            user=asked.get("user", "").strip(),
            modality=asked.get("modality") or None,
            feedback=reason(asked.get("feedback")),
            since=moment(asked.get("since")),
            until=moment(asked.get("until")),
            before=int(asked["before"]) if asked.get("before") else None,
        )
        return JSONResponse({"hits": [{**wire.hit_value(hit), "owner": owner} for owner, hit in hits]})

    def thread(self, request: Request) -> Response:
        """Open one; the audit says so before it is read."""
        owner, thread = self._people.reviews.open(_reviewer(request), request.path_params["thread"])
        judgements = self._workspace.history.judgements(owner, thread.id)
        return JSONResponse({"thread": wire.thread_value(thread, judgements)})

    def view(self, request: Request) -> Response:
        """Send what was on screen at a turn, as it is drawn for its owner."""
        asked = request.path_params
        owner = self._people.reviews.opened(_reviewer(request), asked["thread"])
        turns = self._workspace.history.load(owner, asked["thread"]).turns
        views = [one for turn in turns if turn.id == asked["turn"] for one in turn.views]
        if asked["position"] >= len(views):
            raise TurnNotFoundError(found=asked["turn"][:64])
        shown = shown_from_json(views[asked["position"]].view)
        picture = Pillow.fromarray(self._workspace.render(owner, shown).pixels)
        picture.thumbnail((_SIDE, _SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)
        return Response(buffer.getvalue(), media_type="image/png")


def _reviewer(request: Request) -> Account:
    """Return the reviewer who asks.

    Raises
    ------
    SignedOutError, WrongRoleError
        If it is somebody else.
    """
    sign_in = cast("Identity", request.scope[IDENTITY]).sign_in
    if sign_in is None or sign_in.locked:
        raise SignedOutError
    if sign_in.account.role != "reviewer" or sign_in.account.must_change:
        raise WrongRoleError
    return sign_in.account
