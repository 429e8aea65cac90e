"""Which model answers, why, and how it is made ready without keeping the page waiting."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args, runtime_checkable

from app.errors import FileAccessError, SettingsError
from engine.backend import Backend, MeasuresGrounding, backends
from engine.errors import BackendUnavailableError, CheckpointNotFoundError
from engine.loading import LoadMeter, LoadTimes
from engine.precision import Quantisation
from engine.template import CHAT_LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from app.settings import Settings
    from engine.checkpoint import LoadOptions
    from engine.grounding import ImageDependence
    from engine.messages import Event, GenerationOptions, LoadStage, Message
    from engine.remote import RemoteBackend

    Tell = Callable[[LoadStage, float | None], None]

__all__ = [
    "DEMONSTRATION_FOLDER",
    "ModelInfo",
    "PreparedBackend",
    "PreparingBackend",
    "adapters_of",
    "describe_model",
    "is_missing",
    "load_options",
    "open_backend",
    "remote_backend",
]

_LOG = logging.getLogger("bimedix2.model")
DEMONSTRATION_FOLDER = Path(__file__).parents[1] / "assets" / "demo-model"
"""The embedded model: small, real, and not BiMediX2."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a front end says about the model in use."""

    name: str
    source: str
    """Folder, Hub id, or address of the server."""
    is_demonstration: bool
    """The page then always says that this is not BiMediX2."""
    reason: str
    """Why this one, in English."""
    adapters: tuple[str, ...] = ()
    """Names of adapters a question may be answered with."""


@runtime_checkable
class PreparedBackend(Backend, Protocol):
    """A backend that becomes ready in the background; questions asked meanwhile wait their turn."""

    @property
    def reason(self) -> str:
        """Why this device and precision; empty until loaded."""
        ...

    def start(self, on_loaded: Callable[[str, float], None] | None = None) -> None:
        """Begin loading; ``on_loaded`` is told the reason and the seconds it took."""
        ...

    def wait(self) -> None:
        """Load now and wait for it; raises what went wrong."""
        ...


def describe_model(settings: Settings) -> ModelInfo:
    """Tell which model the settings choose, without loading it or importing torch."""
    if settings.backend == "scripted":
        return ModelInfo("scripted", "scripted", is_demonstration=True, reason="chosen for a test")
    if settings.backend == "remote":
        return ModelInfo(
            settings.remote_model,
            settings.remote_url,
            is_demonstration=False,
            reason=f"on the server {settings.remote_url}",
        )
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


def open_backend(settings: Settings) -> tuple[PreparedBackend, ModelInfo]:
    """Make the backend the settings ask for; it loads when started, or at the first question.

    Raises
    ------
    SettingsError
        If a setting of the backend is missing or unknown.
    CheckpointNotFoundError
        If the model's folder is missing; found out now, not at the first question.
    ServerAddressError
        If the address of the server cannot be used.
    """
    names = [entry.name for entry in backends()]
    if settings.backend not in names:
        raise SettingsError(place="backend", found=settings.backend, expected=" or ".join(names))
    info = describe_model(settings)
    if settings.adapters and settings.backend != "local":
        expected = "none, because the backend is not local; a server's adapters are models of its own"
        raise SettingsError(place="adapters", found=", ".join(settings.adapters), expected=expected)
    if settings.backend == "remote":
        return PreparingBackend(info.name, lambda tell: _open_remote(tell, settings)), info
    if settings.backend == "scripted":
        return PreparingBackend(info.name, _open_scripted), info
    _check_model(settings, info)
    adapters = adapters_of(settings)
    info = replace(info, adapters=tuple(adapters))
    arguments = {**_local_arguments(settings, info), "adapters": adapters}
    if settings.model_process:
        from engine.process import ProcessBackend

        times = LoadTimes(settings.folder / "load_times.json")
        return ProcessBackend("engine.opening:open_local", arguments, name=info.name, times=times), info
    return PreparingBackend(info.name, lambda tell: _open_local(tell, arguments)), info


def _check_model(settings: Settings, info: ModelInfo) -> None:
    if settings.quantisation not in get_args(Quantisation):
        known = " or ".join(get_args(Quantisation))
        raise SettingsError(place="quantisation", found=settings.quantisation, expected=known)
    if settings.threads < 0:
        raise SettingsError(place="threads", found=settings.threads, expected="0 or more")
    if settings.chat_layout not in CHAT_LAYOUTS:
        known = " or ".join(CHAT_LAYOUTS)
        raise SettingsError(place="chat_layout", found=settings.chat_layout, expected=known)
    if is_missing(info.source):
        raise CheckpointNotFoundError(source=info.source)


def adapters_of(settings: Settings) -> dict[str, str]:
    """Folders of the adapters in the settings by the names they are chosen by.

    Raises
    ------
    CheckpointNotFoundError
        If a folder is missing.
    SettingsError
        If two have one name.
    """
    found: dict[str, str] = {}
    for entry in settings.adapters:
        name, _, folder = entry.rpartition("=")
        name = name or Path(folder).expanduser().resolve().name
        if is_missing(folder):
            raise CheckpointNotFoundError(source=folder)
        if name in found:
            expected = "names that differ; write NAME=FOLDER"
            raise SettingsError(place="adapters", found=f"{name} twice", expected=expected)
        found[name] = folder
    return found


def is_missing(source: str) -> bool:
    """Whether a checkpoint's folder is not there; an id of the Hub is not looked up."""
    looks_local = source.startswith((".", "/", "~")) or source.count("/") != 1
    folder = Path(source).expanduser()
    known_files = ("config.json", "adapter_config.json")
    return looks_local and not any((folder / name).is_file() for name in known_files)


def _local_arguments(settings: Settings, info: ModelInfo) -> dict[str, Any]:
    return {
        "source": info.source,
        "device": settings.device,
        # the stated figures of the demonstration model were measured in float32, and it is small
        "dtype": "float32" if info.is_demonstration else "auto",
        # its matrices are small: a second thread waits more than it works, and on busy cores waits long
        "threads": settings.threads or (1 if info.is_demonstration else 0),
        "quantisation": settings.quantisation,
        "chat_layout": settings.chat_layout,
        "display_name": info.name,
    }


def _open_local(tell: Tell, arguments: dict[str, Any]) -> tuple[Backend, str]:
    from engine.opening import open_local

    return open_local(tell, **arguments)


def _open_scripted(_tell: Tell) -> tuple[Backend, str]:
    from engine.scripted import ScriptedBackend

    return ScriptedBackend(delay_s=0.05), "no model is loaded"


def load_options(settings: Settings) -> LoadOptions:
    """How the settings would have the model loaded."""
    from engine.checkpoint import LoadOptions

    arguments = _local_arguments(settings, describe_model(settings))
    names = ("device", "dtype", "threads", "quantisation", "chat_layout")
    return LoadOptions(**{name: arguments[name] for name in names})


def remote_backend(settings: Settings) -> RemoteBackend:
    """Make the backend of a model on a server; nothing is asked of it yet.

    Raises
    ------
    SettingsError, FileAccessError, ServerAddressError
        If a setting is missing or cannot be used.
    """
    from engine.remote import RemoteBackend

    for name in ("remote_url", "remote_model"):
        if not getattr(settings, name):
            raise SettingsError(
                place=name, found="nothing", expected="a value, because the backend is remote"
            )
    return RemoteBackend(
        settings.remote_url,
        settings.remote_model,
        api_key=_read_key(settings.remote_key_file),
        allow_plain_http=settings.remote_plain_http,
    )


def _open_remote(_tell: Tell, settings: Settings) -> tuple[Backend, str]:
    backend = remote_backend(settings)
    return backend, backend.reason


def _read_key(file: Path) -> str | None:
    if file == Path():
        return None
    try:
        return file.expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FileAccessError(location=file, reason=error.strerror) from error


class PreparingBackend:
    """A backend of this process that becomes ready in a thread.

    Parameters
    ----------
    name : str
        What answers.
    opener : callable
        Makes the backend, and says why it computes where it does; told where to report its stages.
    """

    def __init__(self, name: str, opener: Callable[[Tell], tuple[Backend, str]]) -> None:
        self._name = name
        self._meter = LoadMeter()
        self._opener = opener
        self._ready = threading.Event()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._backend: Backend | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._reason = ""

    @property
    def name(self) -> str:
        """What answers."""
        return self._name

    @property
    def reason(self) -> str:
        """Why this device and precision; empty until loaded."""
        return self._reason

    def start(self, on_loaded: Callable[[str, float], None] | None = None) -> None:
        """Begin loading; a second call does nothing.

        Parameters
        ----------
        on_loaded : callable, optional
            Called from the loading thread with the reason for device and precision, and the seconds.
        """
        with self._guard:
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
        """Answer; see :class:`engine.backend.Backend`. Until it is loaded, ``Loading`` comes."""
        self.start()
        wait_s = 0.0
        while not self._ready.wait(wait_s):
            yield self._meter.state()
            wait_s = _POLL_S
        if self._error is not None:
            raise self._error
        if self._backend is None or self._closed:
            raise BackendUnavailableError(reason="it was closed")
        yield from self._backend.stream(messages, options)

    def image_dependence(
        self,
        messages: Sequence[Message],
        stopped: Callable[[], bool] = bool,
        adapter: str | None = None,
    ) -> ImageDependence | None:
        """Measure; ``None`` as well while nothing is loaded, and when the backend cannot."""
        backend: object = self._backend
        if not isinstance(backend, MeasuresGrounding):
            return None
        return backend.image_dependence(messages, stopped, adapter)

    def close(self) -> None:
        """Free the model; one that still loads is freed when it is done."""
        with self._guard:
            self._closed = True
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def _load(self, on_loaded: Callable[[str, float], None] | None) -> None:
        began = time.monotonic()
        try:
            backend, self._reason = self._opener(self._meter.tell)
            with self._guard:
                self._backend = None if self._closed else backend
            if self._closed:
                backend.close()
            elif on_loaded is not None:
                on_loaded(self._reason, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001  # carried to whoever asks
            _LOG.exception("the model could not be loaded")
            self._error = error
        finally:
            self._ready.set()
