"""Files in, pixels out: single uploads, frames for the viewer, and pictures of exactly what is shown."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from PIL import Image as Pillow
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.errors import UploadEmptyError, UploadTooLargeError
from app.routes.edge import answered, in_thread
from app.ui import wire
from app.ui.guard import OWNER
from viewers.intake import browser_frame
from viewers.shown import shown_from_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

    from app.session import Workspace

__all__ = ["receive", "routes"]

_LARGEST_THUMBNAIL: Final = 512


def routes(workspace: Workspace) -> list[Route]:
    """Routes of uploads, images and renders."""
    handlers = _Images(workspace)
    return [
        Route("/upload", answered(handlers.upload), methods=["POST"]),
        Route("/shown/render", in_thread(handlers.render)),
        Route("/images/{digest}", in_thread(handlers.image)),
        Route("/images/{digest}/frames/{frame:int}", in_thread(handlers.frame)),
    ]


class _Images:
    """Endpoints; each asks the workspace as the owner of the request."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def upload(self, request: Request) -> Response:
        """Take in one file, sent as the request's body and nothing else: no name, no form."""
        handle, name = tempfile.mkstemp(dir=self._workspace.settings.uploads_folder)
        try:
            with os.fdopen(handle, "wb") as file:
                await receive(request, file, self._workspace.settings.max_upload_bytes)
            value = await run_in_threadpool(self._taken, request.scope[OWNER], Path(name))
        finally:
            await run_in_threadpool(os.unlink, name)
        return JSONResponse({"image": value})

    def image(self, request: Request) -> Response:
        """Tell what is known of an image besides its pixels."""
        return JSONResponse(self._value(request.scope[OWNER], request.path_params["digest"]))

    def _taken(self, owner: str, path: Path) -> dict[str, Any]:
        return self._value(owner, self._workspace.take_upload(owner, path))

    def _value(self, owner: str, digest: str) -> dict[str, Any]:
        """Describe an owner's image or slide."""
        self._workspace.own(owner, digest)
        if not self._workspace.slides.has(digest):
            return wire.image_value(self._workspace.image(owner, digest))
        with self._workspace.slides.borrow(digest) as slide:
            return wire.slide_value(slide)

    def frame(self, request: Request) -> Response:
        """Send one frame: length of its description (uint32, little-endian), description (JSON), pixels."""
        image = self._workspace.image(request.scope[OWNER], request.path_params["digest"])
        meta, payload = browser_frame(image, request.path_params["frame"])
        text = json.dumps(meta, separators=(",", ":")).encode()
        body = struct.pack("<I", len(text)) + text + payload
        return Response(body, media_type="application/octet-stream")

    def render(self, request: Request) -> Response:
        """Send a picture of exactly what is shown; ``side`` asks for one no larger than that."""
        try:
            shown = shown_from_json(json.loads(request.query_params.get("view", "null")))
        except RecursionError as error:
            raise ValueError("a view nested too deep") from error
        side = request.query_params.get("side", "")
        pixels = self._workspace.render(request.scope[OWNER], shown).pixels
        return Response(_png(pixels, int(side) if side.isdigit() else 0), media_type="image/png")


async def receive(request: Request, file: BinaryIO, limit: int) -> None:
    """Write a request's body to a file, never more of it than ``limit`` bytes.

    Raises
    ------
    UploadTooLargeError
        If more is announced or arrives.
    UploadEmptyError
        If nothing arrives.
    """
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
