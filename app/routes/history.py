"""Conversations besides asking: lists and search, marks, branches, judgements, export and import."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from app.history.records import FEEDBACK_REASONS, FeedbackReason
from app.routes.asked import LONGEST_QUERY, moment, one_of, reason
from app.routes.edge import answered, in_thread, json_body
from app.routes.images import receive
from app.ui import wire
from app.ui.guard import OWNER
from i18n.text import isolate_measurements

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.history.words import Match
    from app.session import Workspace

__all__ = ["routes"]

_LONGEST_JUDGEMENT: Final = 4000
_PAGE: Final = 50
_MATCHES: Final = ("words", "beginnings", "phrase")


def routes(workspace: Workspace) -> list[Route]:
    """Routes of the history."""
    handlers = _History(workspace)
    thread = "/history/threads/{thread}"
    return [
        Route("/history/threads", in_thread(handlers.threads)),
        Route("/history/search", in_thread(handlers.search)),
        Route("/history/tags", in_thread(handlers.tags)),
        Route("/history/import", answered(handlers.bring_in), methods=["POST"]),
        Route(f"{thread}/export", in_thread(handlers.export)),
        Route(f"{thread}/pin", answered(handlers.pin), methods=["POST"]),
        Route(f"{thread}/tags", answered(handlers.tag), methods=["POST"]),
        Route(f"{thread}/language", answered(handlers.language), methods=["POST"]),
        Route(f"{thread}/fork", answered(handlers.fork), methods=["POST"]),
        Route("/history/answers/{answer}/judgement", answered(handlers.judge), methods=["POST"]),
    ]


class _History:
    """Endpoints; each asks the workspace as the owner of the request."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._curation = workspace.curation

    # --- finding ------------------------------------------------------------------------------------

    def threads(self, request: Request) -> Response:
        """List conversations behind one already listed, or of one tag, study or patient."""
        asked = request.query_params
        page = self._curation.threads(
            request.scope[OWNER],
            limit=_PAGE,
            before=asked.get("before") or None,
            tag=asked.get("tag") or None,
            study=asked.get("study") or None,
            patient=asked.get("patient") or None,
        )
        return JSONResponse({"threads": wire.threads_value(page.threads), "more": page.more})

    def search(self, request: Request) -> Response:
        """Find questions and answers."""
        asked = request.query_params
        hits = self._curation.search(
            request.scope[OWNER],
            asked.get("q", "")[:LONGEST_QUERY],
            match=cast("Match", one_of(asked.get("match") or "beginnings", _MATCHES)),
            modality=asked.get("modality") or None,
            feedback=reason(asked.get("feedback")),
            since=moment(asked.get("since")),
            until=moment(asked.get("until")),
            limit=_PAGE,
            before=int(asked["before"]) if asked.get("before") else None,
        )
        return JSONResponse({"hits": [wire.hit_value(hit) for hit in hits], "more": len(hits) == _PAGE})

    def tags(self, request: Request) -> Response:
        """List the owner's tags."""
        return JSONResponse({"tags": self._curation.tags(request.scope[OWNER])})

    # --- marking ------------------------------------------------------------------------------------

    async def pin(self, request: Request) -> Response:
        """Keep a conversation at the top, or no longer."""
        pinned = (await json_body(request)).get("pinned") is True
        await run_in_threadpool(self._curation.pin, *_whose(request), pinned=pinned)
        return JSONResponse({"pinned": pinned})

    async def tag(self, request: Request) -> Response:
        """Give a conversation these tags and no others."""
        names = wire.read_list(await json_body(request), "tags")
        tags = await run_in_threadpool(self._curation.tag, *_whose(request), [str(name) for name in names])
        return JSONResponse({"tags": tags})

    async def language(self, request: Request) -> Response:
        """Fix the language a conversation is answered in, or let it follow the question."""
        language = wire.read_language(await json_body(request))
        await run_in_threadpool(self._curation.answer_in, *_whose(request), language)
        return JSONResponse({"language": language})

    async def fork(self, request: Request) -> Response:
        """Begin another conversation with the turns up to one."""
        turn = wire.read(await json_body(request), "turn")
        branch = await run_in_threadpool(self._curation.fork, *_whose(request), turn)
        return JSONResponse({"thread": branch})

    async def judge(self, request: Request) -> Response:
        """Store what is wrong with an answer; nothing at all takes it back."""
        body = await json_body(request)
        given = wire.read_list(body, "reasons")
        reasons = [cast("FeedbackReason", one_of(one, FEEDBACK_REASONS)) for one in given]
        text = str(body.get("text", ""))[:_LONGEST_JUDGEMENT]
        answer = request.path_params["answer"]
        await run_in_threadpool(self._curation.judge, request.scope[OWNER], answer, reasons, text)
        return JSONResponse({"reasons": reasons, "text": isolate_measurements(text)})

    # --- out and in ---------------------------------------------------------------------------------

    def export(self, request: Request) -> Response:
        """Send a conversation with its images as one file; its name says nothing of what is in it."""
        file = self._curation.export(*_whose(request))
        return FileResponse(
            file,
            media_type="application/zip",
            filename=f"bimedix2-{datetime.now():%Y%m%d-%H%M}.zip",  # noqa: DTZ005 - for the reader's shelf
            background=BackgroundTask(file.unlink, missing_ok=True),
        )

    async def bring_in(self, request: Request) -> Response:
        """Take in a file :meth:`export` wrote, sent as the request's body."""
        settings = self._workspace.settings
        handle, name = tempfile.mkstemp(dir=settings.uploads_folder)
        try:
            with os.fdopen(handle, "wb") as file:
                await receive(request, file, settings.max_upload_bytes)
            thread = await run_in_threadpool(self._curation.bring_in, request.scope[OWNER], Path(name))
        finally:
            await run_in_threadpool(os.unlink, name)
        return JSONResponse({"thread": thread})


def _whose(request: Request) -> tuple[str, str]:
    return request.scope[OWNER], request.path_params["thread"]
