"""Which model answers, why, and how it is made ready without keeping the page waiting."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import SettingsError
from engine.backend import backends
from engine.errors import BackendUnavailableError, CheckpointNotFoundError
from engine.messages import Queued

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from app.settings import Settings
    from engine.backend import Backend
    from engine.messages import Event, GenerationOptions, Message

__all__ = ["DEMONSTRATION_FOLDER", "ModelInfo", "PreparingBackend", "describe_model", "open_backend"]

_LOG = logging.getLogger("bimedix2.model")
DEMONSTRATION_FOLDER = Path(__file__).parents[1] / "assets" / "demo-model"
"""The embedded model: small, real, and not BiMediX2."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a front end says about the model in use."""

    name: str
    source: str
    """Folder or Hub id."""
    is_demonstration: bool
    """The page then always says that this is not BiMediX2."""
    reason: str
    """Why this one, in English."""


def describe_model(settings: Settings) -> ModelInfo:
    """Tell which model the settings choose, without loading it or importing torch."""
    if settings.backend == "scripted":
        return ModelInfo("scripted", "scripted", is_demonstration=True, reason="chosen for a test")
    if not settings.model:
        return ModelInfo(
            "demonstration model",
            str(DEMONSTRATION_FOLDER),
            is_demonstration=True,
            reason="no checkpoint was chosen with --model",
        )
    name = Path(settings.model).expanduser().name or settings.model
    return ModelInfo(
        name, settings.model, is_demonstration=_is_demonstration(settings.model), reason="chosen"
    )


def _is_demonstration(source: str) -> bool:
    return Path(source).expanduser().absolute() == DEMONSTRATION_FOLDER


def open_backend(settings: Settings) -> tuple[PreparingBackend, ModelInfo]:
    """Make the backend the settings ask for; it loads when started, or at the first question.

    Raises
    ------
    SettingsError
        If no backend has the name in the settings.
    CheckpointNotFoundError
        If the model's folder is missing; found out now, not at the first question.
    """
    names = [entry.name for entry in backends()]
    if settings.backend not in names:
        raise SettingsError(place="backend", found=settings.backend, expected=" or ".join(names))
    info = describe_model(settings)
    looks_local = info.source.startswith((".", "/", "~")) or info.source.count("/") != 1
    folder = Path(info.source).expanduser()
    if settings.backend == "local" and looks_local and not (folder / "config.json").is_file():
        raise CheckpointNotFoundError(source=info.source)
    return PreparingBackend(settings, info), info


class PreparingBackend:
    """A backend that becomes ready in the background; questions asked meanwhile wait their turn.

    Parameters
    ----------
    settings : Settings
        Backend, model, device and threads.
    info : ModelInfo
        What :func:`describe_model` said.
    """

    def __init__(self, settings: Settings, info: ModelInfo) -> None:
        self._settings = settings
        self._info = info
        self._ready = threading.Event()
        self._started = threading.Lock()
        self._thread: threading.Thread | None = None
        self._backend: Backend | None = None
        self._error: BaseException | None = None
        self.reason = ""
        """Why this device and precision; empty until loaded."""

    @property
    def name(self) -> str:
        """What answers."""
        return self._info.name

    def start(self, on_loaded: Callable[[str, float], None] | None = None) -> None:
        """Begin loading; a second call does nothing.

        Parameters
        ----------
        on_loaded : callable, optional
            Called from the loading thread with the reason for device and precision, and the seconds.
        """
        with self._started:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._load, args=(on_loaded,), name="model-loading", daemon=True
                )
                self._thread.start()

    def wait(self) -> None:
        """Load now and wait for it.

        Raises
        ------
        EngineError
            What went wrong while loading.
        """
        self.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Answer; see :class:`engine.backend.Backend`. While the model loads, the place is 1."""
        self.start()
        if not self._ready.is_set():
            yield Queued(1)
        while not self._ready.wait(_POLL_S):
            yield Queued(1)
        if self._error is not None:
            raise self._error
        if self._backend is None:
            raise BackendUnavailableError(reason="it was closed")
        yield from self._backend.stream(messages, options)

    def close(self) -> None:
        """Free the model; one that still loads is freed when it is done."""
        with self._started:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def _load(self, on_loaded: Callable[[str, float], None] | None) -> None:
        began = time.monotonic()
        try:
            self._backend, self.reason = self._open()
            if on_loaded is not None:
                on_loaded(self.reason, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001  # carried to whoever asks
            _LOG.exception("the model could not be loaded")
            self._error = error
        finally:
            self._ready.set()

    def _open(self) -> tuple[Backend, str]:
        if self._settings.backend == "scripted":
            from engine.scripted import ScriptedBackend

            return ScriptedBackend(delay_s=0.05), "no model is loaded"
        from engine.checkpoint import LoadOptions, load
        from engine.local import LocalBackend

        loaded = load(
            self._info.source, LoadOptions(device=self._settings.device, threads=self._settings.threads)
        )
        return LocalBackend(loaded, display_name=self._info.name), loaded.reason
