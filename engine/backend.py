"""The seam between a conversation and whatever answers it.

A backend has one method that matters, :meth:`Backend.stream`. Backends are registered by name with an
import path and what they need, so that listing them imports no torch and a missing one says which
package to install.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from engine.grounding import ImageDependence
    from engine.messages import Event, GenerationOptions, Message

__all__ = ["Backend", "BackendEntry", "MeasuresGrounding", "backend_class", "backends", "register"]


@runtime_checkable
class Backend(Protocol):
    """Messages in, events out."""

    @property
    def name(self) -> str:
        """What answers, for the page and the history, e.g. ``demonstration model``."""
        ...

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Answer the last user message.

        Exactly one ``Finished`` comes, last; the joined ``Delta`` texts are the answer. Closing the
        iterator stops the work within one token. May be called from several threads at once; the
        backend decides whether they wait for each other.

        Raises
        ------
        EngineError
            When the conversation cannot be answered; raised from the first ``next()``, before computing.
        """
        ...

    def close(self) -> None:
        """Free what the backend holds; a later ``stream`` raises ``BackendUnavailableError``."""
        ...


@runtime_checkable
class MeasuresGrounding(Protocol):
    """What some backends can do besides: tell how much an answer depends on its image.

    A server can if it gives log-probabilities of a prompt; one that does not gives ``None``.
    """

    def image_dependence(
        self,
        messages: Sequence[Message],
        stopped: Callable[[], bool] = bool,
        adapter: str | None = None,
    ) -> ImageDependence | None:
        """Measure the last answer of a conversation; see :func:`engine.grounding.measure`.

        Parameters
        ----------
        messages : sequence of Message
            Ends with the answer.
        stopped : callable
            Asked between pieces of work; once it returns ``True`` the work ends with ``None``.
        adapter : str, optional
            The adapter that gave the answer, as in :class:`engine.messages.GenerationOptions`.

        Raises
        ------
        EngineError
            As :meth:`Backend.stream`.
        """
        ...


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """Where a backend lives and what it needs."""

    name: str
    path: str
    """``module:class``."""
    requires: tuple[str, ...] = ()
    """Import names of packages."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages of ``requires`` that are not installed (looked up, not imported)."""
        return tuple(name for name in self.requires if importlib.util.find_spec(name) is None)


_ENTRIES: dict[str, BackendEntry] = {}


def register(entry: BackendEntry) -> None:
    """Add a backend.

    Raises
    ------
    ValueError
        If the name is not lower case, is taken, or the path is not ``module:class``.
    """
    if not entry.name or entry.name != entry.name.lower():
        raise ValueError(f"a backend's name is lower case, found {entry.name!r}")
    if entry.name in _ENTRIES:
        raise ValueError(f"backend {entry.name!r} is registered already as {_ENTRIES[entry.name].path}")
    if entry.path.count(":") != 1:
        raise ValueError(f"expected 'module:class', found {entry.path!r}")
    _ENTRIES[entry.name] = entry


def backends() -> tuple[BackendEntry, ...]:
    """All registered backends, sorted by name, installed or not."""
    return tuple(_ENTRIES[name] for name in sorted(_ENTRIES))


def backend_class(name: str) -> type[Backend]:
    """Import the class of a registered backend.

    Raises
    ------
    ValueError
        If no backend has that name.
    ModuleNotFoundError
        If a package it needs is not installed; the message names it.
    """
    entry = _ENTRIES.get(name)
    if entry is None:
        raise ValueError(f"no backend is called {name!r}; there are {', '.join(sorted(_ENTRIES))}")
    if entry.missing:
        raise ModuleNotFoundError(
            f"backend {name!r} needs {', '.join(entry.missing)}: pip install {' '.join(entry.missing)}"
        )
    module, _, attribute = entry.path.partition(":")
    found: type[Backend] = getattr(importlib.import_module(module), attribute)
    return found


register(BackendEntry("local", "engine.local:LocalBackend", ("torch", "transformers")))
register(BackendEntry("remote", "engine.remote:RemoteBackend", ("httpx",)))
register(BackendEntry("scripted", "engine.scripted:ScriptedBackend"))
