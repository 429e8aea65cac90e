"""The edge every route shares: work goes to a thread, errors become sentences in both languages."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from app.accounts.errors import QuotaError, SignedOutError, SignInFailedError, WrongRoleError
from app.errors import AppError, NotFoundError, UploadTooLargeError
from app.ui import wire
from engine.errors import EngineError
from viewers.errors import ViewerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    Endpoint = Callable[[Request], Awaitable[Response]]

__all__ = ["answered", "in_thread", "json_body"]

_LOG = logging.getLogger("bimedix2.web")
_LONGEST_BODY: Final = 64 << 10
"""Bytes of a JSON body; files travel otherwise."""


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
                # no more of the path: it holds ids
                _LOG.exception("a request to /%s failed", request.url.path.split("/")[1])
            return JSONResponse({"error": wire.both(error)}, status)

    return endpoint


async def json_body(request: Request, longest: int = _LONGEST_BODY) -> dict[str, Any]:
    """Object of a request's JSON body.

    Raises
    ------
    UploadTooLargeError
        If it is longer than ``longest`` bytes, 64 KiB unless told otherwise.
    ValueError
        If it is anything else.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest:
            raise UploadTooLargeError(found=f"{len(body)} B", limit=f"{_LONGEST_BODY} B")
    try:
        value = json.loads(body)
    except RecursionError as error:
        raise ValueError("a JSON object nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - a value from outside, not a caller's mistake
            f"expected a JSON object, found {type(value).__name__}"
        )
    return value


def _status(error: Exception) -> int:
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, UploadTooLargeError | QuotaError):
        return 413
    if isinstance(error, SignedOutError | SignInFailedError):
        return 401
    if isinstance(error, WrongRoleError):
        return 403
    return 422 if isinstance(error, AppError | EngineError | ViewerError | ValueError) else 500
