"""Warnings of the libraries below, collected instead of shown."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["collected_warnings"]

_LOCK = threading.Lock()


@contextmanager
def collected_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect Python warnings. One thread at a time, since Python has one filter for all of them."""
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
