"""Quick questions: listed, worded differently, added and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.routes.edge import answered, in_thread, json_body
from app.ui import wire
from app.ui.guard import OWNER
from i18n.catalogue import LOCALES

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.prompts import Prompt
    from app.session import Workspace

__all__ = ["routes"]


def routes(workspace: Workspace) -> list[Route]:
    """Routes of the quick questions."""
    handlers = _Prompts(workspace)
    return [
        Route("/prompts", in_thread(handlers.listed)),
        Route("/prompts", answered(handlers.word), methods=["POST"]),
        Route("/prompts/{prompt}", in_thread(handlers.restore), methods=["DELETE"]),
    ]


class _Prompts:
    """Endpoints; each asks the workspace as the owner of the request."""

    def __init__(self, workspace: Workspace) -> None:
        self._book = workspace.prompts

    def listed(self, request: Request) -> Response:
        """List the owner's questions."""
        return JSONResponse({"prompts": [_value(one) for one in self._book.prompts(request.scope[OWNER])]})

    async def word(self, request: Request) -> Response:
        """Word a question in one language, or add one."""
        body = await json_body(request)
        language, text = wire.read(body, "language"), body.get("text")
        if language not in LOCALES or not isinstance(text, str):
            raise ValueError(f"expected a text in one of {', '.join(LOCALES)}")
        known = None if body.get("id") is None else wire.read(body, "id")
        prompt = await run_in_threadpool(self._book.word, request.scope[OWNER], known, language, text)
        return JSONResponse({"id": prompt})

    def restore(self, request: Request) -> Response:
        """Put a question back as it came, or remove an own one."""
        self._book.restore(request.scope[OWNER], request.path_params["prompt"])
        return self.listed(request)


def _value(prompt: Prompt) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "texts": dict(prompt.texts),
        "modalities": prompt.modalities,
        "needs": prompt.needs,
        "own": prompt.is_own,
        "changed": prompt.changed,
    }
