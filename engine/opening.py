"""A checkpoint becomes a backend, here or in a child process, telling how far it is.

A factory for :class:`engine.process.ProcessBackend`: a function that is given ``tell`` and keyword
arguments, and returns a backend with the reason for its device and precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import QuantisationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.backend import Backend
    from engine.messages import LoadStage
    from engine.precision import Quantisation
    from engine.weights import LoadProgress

__all__ = ["open_local"]


def open_local(
    tell: Callable[[LoadStage, float | None], None],
    source: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
    quantisation: Quantisation = "none",
    chat_layout: str = "auto",
    display_name: str | None = None,
    adapters: Mapping[str, str] | None = None,
) -> tuple[Backend, str]:
    """Load a checkpoint and attach adapters.

    Parameters
    ----------
    tell : callable
        Told the stage, and the share of it that is done where that is known.
    source : str
        As :func:`engine.checkpoint.load`; with the options that follow.
    adapters : mapping, optional
        Folders of adapters by the names they get; none is used until a question asks for it.

    Returns
    -------
    tuple of (LocalBackend, str)
        The backend, and why this device and precision.

    Raises
    ------
    QuantisationError
        If adapters are to be attached to layers that take none.
    EngineError
        As :func:`engine.checkpoint.load` and :meth:`engine.adapters.Adapters.attach`.
    """
    tell("libraries", None)
    from engine.checkpoint import LoadOptions, load
    from engine.local import LocalBackend

    def tell_weights(progress: LoadProgress) -> None:
        if progress.done < progress.total:
            tell("weights", progress.done / progress.total)
        else:  # moving or quantising them may take as long again
            tell("finishing", None)

    if adapters and quantisation == "cpu-int8":
        reason = "its layers take no adapters. Merge one with 'bimedix2 models merge', or choose another"
        raise QuantisationError(found=quantisation, reason=reason)
    options = LoadOptions(
        device=device, dtype=dtype, threads=threads, quantisation=quantisation, chat_layout=chat_layout
    )
    loaded = load(source, options, tell_weights)
    tell("finishing", None)
    for name, folder in (adapters or {}).items():
        loaded.adapters.attach(Path(folder), name)
    return LocalBackend(loaded, display_name=display_name), loaded.reason
