"""Whole studies: many files in, how far reading has come, planes through volumes."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.finding_text import values_in_words
from app.routes.edge import answered, in_thread, json_body
from app.ui import wire
from app.ui.guard import OWNER
from i18n.catalogue import LOCALES, Catalogue
from viewers.browser import browser_plane, geometry_json
from viewers.planes import PlaneView

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.session import Workspace
    from app.studies_service import StudyUpload
    from viewers.findings import Finding
    from viewers.study_record import Problem, SeriesRecord

__all__ = ["routes"]

_MOST_NAMES = 50_000
_MOST_BYTES = 8 * 2**20
_LONGEST_NAME = 1000
"""Characters of a file's name with its folders."""


def routes(workspace: Workspace) -> list[Route]:
    """Routes of studies and volumes."""
    handlers = _Studies(workspace)
    return [
        Route("/studies", in_thread(handlers.begin), methods=["POST"]),
        Route("/studies", in_thread(handlers.together)),
        Route("/studies/{id}", in_thread(handlers.progress)),
        Route("/studies/{id}", in_thread(handlers.cancel), methods=["DELETE"]),
        Route("/studies/{id}/files", answered(handlers.receive), methods=["POST"]),
        Route("/studies/{id}/read", answered(handlers.read), methods=["POST"]),
        Route("/images/{digest}/geometry", in_thread(handlers.geometry)),
        Route("/images/{digest}/frames/{frame:int}/plane", in_thread(handlers.plane)),
    ]


class _Studies:
    """Endpoints; each asks the workspace as the owner of the request."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._studies = workspace.studies

    def begin(self, request: Request) -> Response:
        """Begin an upload of many files."""
        return JSONResponse({"id": self._studies.begin(request.scope[OWNER]).id})

    async def receive(self, request: Request) -> Response:
        """Take in some files; see :mod:`app.upload_parts` for the body."""
        owner, upload_id = request.scope[OWNER], request.path_params["id"]
        with self._studies.receive(owner, upload_id) as writer:
            async for chunk in request.stream():
                await run_in_threadpool(writer.write, chunk)
            writer.finish()
        return JSONResponse({"files": self._studies.upload(owner, upload_id).room.files})

    async def read(self, request: Request) -> Response:
        """Begin reading: all files are there. Names come only for slides of several files."""
        has_body = request.headers.get("content-length", "0") != "0"
        body = await json_body(request, _MOST_BYTES) if has_body else {}
        names = [str(name)[:_LONGEST_NAME] for name in wire.read_list(body, "names", most=_MOST_NAMES)]
        owner, upload_id = request.scope[OWNER], request.path_params["id"]
        return JSONResponse(_value(await run_in_threadpool(self._studies.read, owner, upload_id, names)))

    def progress(self, request: Request) -> Response:
        """Tell how far reading has come, and what was understood."""
        return JSONResponse(_value(self._studies.upload(request.scope[OWNER], request.path_params["id"])))

    def cancel(self, request: Request) -> Response:
        """Give an upload up."""
        self._studies.cancel(request.scope[OWNER], request.path_params["id"])
        return JSONResponse({})

    def together(self, request: Request) -> Response:
        """List the owner's images of the studies that the given images belong to."""
        digests = request.query_params.get("images", "").split(",")
        return JSONResponse({"images": self._studies.together(request.scope[OWNER], digests)})

    def geometry(self, request: Request) -> Response:
        """Tell where an image's frames lie, and which planes can be cut through them."""
        image = self._workspace.image(request.scope[OWNER], request.path_params["digest"])
        frame = request.query_params.get("frame", "0")
        value = geometry_json(image, int(frame))
        if value["reason"] is not None:
            value["reason"] = _both(value["reason"]["key"], value["reason"]["values"])
        return JSONResponse(value)

    def plane(self, request: Request) -> Response:
        """Send a plane through the volume of a frame, laid out as a frame is."""
        image = self._workspace.image(request.scope[OWNER], request.path_params["digest"])
        shown = PlaneView.from_json(json.loads(request.query_params.get("plane", "null")))
        meta, payload = browser_plane(image, request.path_params["frame"], shown)
        text = json.dumps(meta, separators=(",", ":")).encode()
        body = struct.pack("<I", len(text)) + text + payload
        return Response(body, media_type="application/octet-stream")


def _value(upload: StudyUpload) -> dict[str, Any]:
    """State of an upload for the page."""
    progress, read = upload.progress, upload.read
    names = read.names if read is not None else ()
    return {
        "state": upload.state,
        "stage": progress.stage if progress is not None else None,
        "files": upload.room.files,
        "done": progress.done if progress is not None else 0,
        "total": progress.total if progress is not None else 0,
        "found": [
            {"modality": one.modality, "images": one.images} for one in (progress.found if progress else ())
        ],
        "first": upload.first,
        "series": [_series_value(one) for one in _series(upload)],
        "findings": [
            _finding_value(found) | {"file": names[index] if index < len(names) else ""}
            for index, found in enumerate(read.findings if read is not None else ())
        ],
        "error": None if upload.error is None else wire.both(upload.error),
    }


def _series(upload: StudyUpload) -> list[SeriesRecord]:
    if upload.read is None:
        return [*upload.slides, *upload.stored]
    return [*upload.slides, *(series for study in upload.read.studies for series in study.series)]


def _series_value(series: SeriesRecord) -> dict[str, Any]:
    return {
        "id": series.id,
        "modality": series.modality,
        "frames": series.frames,
        "digest": series.digest,
        "findings": [_finding_value(found) for found in series.findings],
        "error": None if series.error is None else _problem_value(series.error),
    }


def _finding_value(found: Finding) -> dict[str, Any]:
    return _both(found.key, wire.readable(found.values))


def _problem_value(problem: Problem) -> dict[str, Any]:
    return _both(problem.key, problem.values)


def _both(key: str, values: Any) -> dict[str, Any]:
    """Sentence of a key in both languages."""
    catalogue = Catalogue()
    try:
        return {locale: catalogue.text(key, locale, **values_in_words(values, locale)) for locale in LOCALES}
    except LookupError:  # a value the sentence needs did not come with the problem
        return {locale: catalogue.text("app.unexpected", locale) for locale in LOCALES}
