"""The edge every route shares: work goes to a thread, errors become sentences in both languages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from app.errors import AppError, NotFoundError, UploadTooLargeError
from app.ui import wire
from viewers.errors import ViewerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    Endpoint = Callable[[Request], Awaitable[Response]]

__all__ = ["answered", "in_thread"]

_LOG = logging.getLogger("bimedix2.web")


def in_thread(work: Callable[[Request], Response]) -> Endpoint:
    """Endpoint of work that may block: it runs in a thread, its errors are answered."""

    async def run(request: Request) -> Response:
        return await run_in_threadpool(work, request)

    return answered(run)


def answered(work: Endpoint) -> Endpoint:
    """Endpoint whose errors become sentences in both languages; tracebacks go to the log."""

    async def endpoint(request: Request) -> Response:
        try:
            return await work(request)
        except Exception as error:  # noqa: BLE001 - edge: shown in the page, logged below
            status = _status(error)
            if status == 500:
                _LOG.exception("a request to %s failed", request.scope["route"].path)
            return JSONResponse({"error": wire.both(error)}, status)

    return endpoint


def _status(error: Exception) -> int:
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, UploadTooLargeError):
        return 413
    return 422 if isinstance(error, AppError | ViewerError | ValueError) else 500
