"""The web server: own routes for files and pixels, the page, and one way to start them.

Patient data never goes through Gradio's file handling, which any visitor may read; it goes through the
routes here, and each of them asks the workspace as the owner of the request.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from PIL import Image as Pillow
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.errors import AppError, NotFoundError, UploadEmptyError, UploadTooLargeError
from app.ui import wire
from app.ui.guard import OWNER, Guard
from app.ui.page_head import page_head
from viewers.errors import ViewerError
from viewers.intake import browser_frame
from viewers.view import View, render

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

    from app.session import Workspace

__all__ = ["PortTakenError", "routes", "serve"]

_LOG = logging.getLogger("bimedix2.web")
_ENVIRONMENT: Final = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Set before Gradio is imported: without them it calls out, and keeps questions in the browser's storage."""
_STATIC_FOLDERS: Final = ("css", "js", "fonts", "icons")
_LARGEST_THUMBNAIL: Final = 512


class PortTakenError(AppError):
    """Another program listens on the port already."""

    key = "cli.port_taken"
    template = "The port {port} is in use already. Choose another one with --port, or stop the other program."


def serve(workspace: Workspace, on_ready: Callable[[str], None] | None = None) -> None:
    """Start the page and wait until the process is told to end.

    Parameters
    ----------
    workspace : Workspace
        What the page works on; stays open.
    on_ready : callable, optional
        Called once with the address, when the page answers.

    Raises
    ------
    PortTakenError
        If the port is in use.
    """
    settings = workspace.settings
    port = _usable_port(settings.host, settings.port)
    os.environ.update(_ENVIRONMENT)
    import gradio as gr
    from starlette.middleware import Middleware

    from app.ui.events import Events
    from app.ui.page import build_page

    head = page_head(workspace.model.name, is_demonstration=workspace.model.is_demonstration)
    page = build_page(Events(workspace))
    _, url, _ = page.launch(
        server_name=settings.host,
        server_port=port,
        auth_dependency=lambda request: request.scope.get(OWNER),
        app_kwargs={
            "routes": routes(workspace),
            "middleware": [Middleware(Guard, settings=settings, port=port, head=head)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        theme=gr.themes.Base(font=["Noto Sans Arabic", "system-ui", "sans-serif"], font_mono=["monospace"]),
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )
    if threading.current_thread() is threading.main_thread():
        # a service manager's request to end is answered like Ctrl+C: running answers are kept
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if on_ready is not None:
            on_ready(url)
        while page.is_running:
            time.sleep(1)
    except KeyboardInterrupt:
        _LOG.info("told to end")
    finally:
        page.close(verbose=False)


def routes(workspace: Workspace) -> list[Route | Mount]:
    """Routes of the application; the guard in front of them has put the owner into the scope."""
    handlers = _Routes(workspace)
    assets = Path(__file__).parent.parent / "assets"
    return [
        Route("/healthz", handlers.health),
        Route("/upload", handlers.upload, methods=["POST"]),
        Route("/images/{digest}", handlers.image),
        Route("/images/{digest}/frames/{frame:int}", handlers.frame),
        Route("/images/{digest}/render", handlers.render),
        *(Mount(f"/page/{name}", StaticFiles(directory=assets / name)) for name in _STATIC_FOLDERS),
    ]


class _Routes:
    """Endpoints; errors become sentences in both languages, tracebacks go to the log."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def health(self, request: Request) -> Response:
        """Say that the server answers."""
        del request
        return PlainTextResponse("ok")

    async def upload(self, request: Request) -> Response:
        """Take in one file, sent as the request's body and nothing else: no name, no form."""
        return await _answered(self._upload, request)

    async def image(self, request: Request) -> Response:
        """Tell what is known of an image besides its pixels."""
        return await _answered(self._in_thread(self._image), request)

    async def frame(self, request: Request) -> Response:
        """Send one frame: length of its description (uint32, little-endian), description (JSON), pixels."""
        return await _answered(self._in_thread(self._frame), request)

    async def render(self, request: Request) -> Response:
        """Send a picture of exactly what a view shows; ``side`` asks for one no larger than that."""
        return await _answered(self._in_thread(self._render), request)

    @staticmethod
    def _in_thread(work: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        return lambda request: run_in_threadpool(work, request)

    async def _upload(self, request: Request) -> Response:
        handle, name = tempfile.mkstemp(dir=self._workspace.settings.uploads_folder)
        try:
            with os.fdopen(handle, "wb") as file:
                await self._receive(request, file)
            image = await run_in_threadpool(self._workspace.add_upload, request.scope[OWNER], Path(name))
            value = await run_in_threadpool(wire.image_value, image)
        finally:
            await run_in_threadpool(os.unlink, name)
        return JSONResponse({"image": value})

    async def _receive(self, request: Request, file: BinaryIO) -> None:
        """Write the body to a file, never more of it than is accepted."""
        limit = self._workspace.settings.max_upload_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            raise UploadTooLargeError(found=_mib(int(announced)), limit=_mib(limit))
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise UploadTooLargeError(found=_mib(received), limit=_mib(limit))
            await run_in_threadpool(file.write, chunk)
        if received == 0:
            raise UploadEmptyError

    def _image(self, request: Request) -> Response:
        image = self._workspace.image(request.scope[OWNER], request.path_params["digest"])
        return JSONResponse(wire.image_value(image))

    def _frame(self, request: Request) -> Response:
        image = self._workspace.image(request.scope[OWNER], request.path_params["digest"])
        meta, payload = browser_frame(image, request.path_params["frame"])
        text = json.dumps(meta, separators=(",", ":")).encode()
        body = struct.pack("<I", len(text)) + text + payload
        return Response(body, media_type="application/octet-stream")

    def _render(self, request: Request) -> Response:
        image = self._workspace.image(request.scope[OWNER], request.path_params["digest"])
        view = View.from_json(json.loads(request.query_params.get("view", "null")))
        side = request.query_params.get("side", "")
        pixels = render(image, view)
        return Response(_png(pixels, int(side) if side.isdigit() else 0), media_type="image/png")


async def _answered(work: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    try:
        return await work(request)
    except Exception as error:  # noqa: BLE001 - edge: shown in the page, logged below
        status = _status(error)
        if status == 500:
            _LOG.exception("a request to %s failed", request.scope["route"].path)
        return JSONResponse({"error": wire.both(error)}, status)


def _status(error: Exception) -> int:
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, UploadTooLargeError):
        return 413
    return 422 if isinstance(error, AppError | ViewerError | ValueError) else 500


def _png(pixels: NDArray[np.uint8], side: int) -> bytes:
    """Encode a picture; made smaller only when ``side`` asks for a thumbnail."""
    picture = Pillow.fromarray(pixels)
    if side:
        picture.thumbnail((min(side, _LARGEST_THUMBNAIL),) * 2)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _usable_port(host: str, port: int) -> int:
    """Find a free port for 0, and make sure any other is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTakenError(port=port) from error
        found: int = probe.getsockname()[1]
        return found
