"""Warnings of the libraries below, collected instead of shown: they quote the values of headers."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["collected_warnings"]

_LOCK = threading.Lock()
_NEVER = logging.CRITICAL + 1


@contextmanager
def collected_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect Python warnings. One thread at a time, since Python has one filter for all of them.

    pydicom also writes each warning, with the value it is about, to its log: that is switched off for good.
    """
    logging.getLogger("pydicom").setLevel(_NEVER)
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
