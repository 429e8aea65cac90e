"""Would the chosen model answer: is it there, does it open, does it fit, where would it compute and why.

Nothing is loaded; a server is asked for its models and for one word.
"""

from __future__ import annotations

import importlib.util
from contextlib import closing
from typing import TYPE_CHECKING

from app.errors import AppError
from app.findings import Finding
from app.model import DEMONSTRATION_FOLDER, describe_model, is_missing, load_options, remote_backend
from engine.errors import EngineError, NotEnoughMemoryError, ServerModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings import Settings

__all__ = ["examine_model"]

_GB = 1e9


def examine_model(settings: Settings) -> Iterator[Finding]:
    """Look at the model the settings choose; never raises for a lack."""
    if settings.backend == "remote":
        yield from _server(settings)
        return
    info = describe_model(settings)
    if info.is_demonstration:
        there = (DEMONSTRATION_FOLDER / "model.safetensors").is_file()
        key = "cli.doctor_model_demo" if there else "cli.doctor_model_missing"
        yield Finding("ok" if there else "failed", key, {} if there else {"source": DEMONSTRATION_FOLDER})
    else:
        there = not is_missing(info.source)
        key = "cli.doctor_model" if there else "cli.doctor_model_missing"
        yield Finding("ok" if there else "failed", key, {"source": info.source})
    if there and settings.backend == "local" and importlib.util.find_spec("torch") is not None:
        yield from _checkpoint(settings, info.source)


def _checkpoint(settings: Settings, source: str) -> Iterator[Finding]:
    """Memory needed and free, and why this device and precision, as the engine itself decides."""
    import psutil

    from engine.checkpoint import inspect

    try:
        found = inspect(source, load_options(settings))
    except NotEnoughMemoryError as error:
        yield Finding("warning", error.key, error.values)
        return
    except EngineError as error:
        yield Finding("failed", error.key, error.values)
        return
    values: dict[str, object] = {
        "free": f"{found.free / _GB:.1f}",
        "total": f"{psutil.virtual_memory().total / _GB:.1f}",
        "needed": f"{found.needed / _GB:.1f}",
    }
    yield Finding("ok", "cli.doctor_memory", values)
    yield Finding("ok", "cli.doctor_precision", {"reason": found.reason})


def _server(settings: Settings) -> Iterator[Finding]:
    """Whether the server is there and has the model, and whether the image-dependence meter works with it."""
    try:
        backend = remote_backend(settings)
    except (AppError, EngineError) as error:
        yield Finding("failed", error.key, error.values)
        return
    with closing(backend):
        try:
            names = backend.models()
            if names and settings.remote_model not in names:
                missing = {"found": settings.remote_model, "expected": ", ".join(names)}
                raise ServerModelError(server=settings.remote_url, **missing)
            yield Finding(
                "ok", "cli.doctor_model", {"source": f"{settings.remote_model}, {settings.remote_url}"}
            )
            yield Finding("ok", "cli.doctor_precision", {"reason": backend.reason})
            if backend.gives_scores():
                yield Finding("ok", "cli.doctor_meter")
            else:
                yield Finding("ok", "cli.doctor_no_meter", {"reason": backend.no_scores})
        except EngineError as error:
            yield Finding("failed", error.key, error.values)
