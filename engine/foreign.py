"""Settings written by others, in libraries written by others: whatever they raise is an error of the folder.

A ``config.json`` may hold anything, and what transformers or torch make of it ends in many kinds of
exception, none of which tells a reader what to do.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["understood"]

_LONGEST = 300


@contextmanager
def understood(source: object, what: str = "config.json") -> Iterator[None]:
    """Turn what a library raises over a folder's settings into an error of the checkpoint.

    Parameters
    ----------
    source : object
        The folder, named in the error.
    what : str
        Whose settings are read.

    Raises
    ------
    CheckpointError
        In place of anything but the engine's own errors.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError,
        StrictDataclassError, TypeError, ValueError,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())[:_LONGEST].rstrip(".") or type(error).__name__
        if "alloc" in said or "out of memory" in said:
            raise CheckpointError(
                source=source, reason=f"memory ran out while it was opened: {said}"
            ) from error
        reason = f"{what} does not describe a model that can be opened here: {said} ({type(error).__name__})"
        raise CheckpointError(source=source, reason=reason) from error
