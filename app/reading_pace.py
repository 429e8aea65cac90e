"""How long this machine takes to read a picture: measured with every answer, told before many are asked for.

What is measured is the time from the start of work to the first token, divided by the pictures that were
read for it. Answers whose prompt was mostly known already say nothing and are left out.
"""

from __future__ import annotations

import json
import logging
import statistics
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ReadingPace"]

_LOG = logging.getLogger("bimedix2.pace")
_KEPT: Final = 15
"""Answers a pace is the median of: a busy moment is outvoted, a new graphics card soon told."""
_MODELS: Final = 20
_KNOWN: Final = 0.2
"""Share of a prompt that may come from the cache for the rest to be a measurement of reading."""


class ReadingPace:
    """Seconds for each picture, by what answers.

    Parameters
    ----------
    file : Path, optional
        JSON, so that a pace outlives a restart; without it paces are remembered by this object alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._paces = {} if file is None else _read(file)

    def note(self, backend: str, pictures: int, usage: Mapping[str, object]) -> None:
        """Learn from an answer's counts and times; what says nothing about reading is passed over."""
        prompt, reused, first = (usage.get(n) for n in ("prompt_tokens", "reused_tokens", "first_token_s"))
        if not isinstance(prompt, int) or not isinstance(reused, int) or not isinstance(first, float):
            return
        if pictures < 1 or prompt < 1 or first <= 0 or reused > _KNOWN * prompt:
            return
        with self._lock:
            found = [*self._paces.pop(backend, []), first / pictures][-_KEPT:]
            self._paces[backend] = found
            for name in list(self._paces)[:-_MODELS]:
                del self._paces[name]
            self._write()

    def seconds(self, backend: str, pictures: int) -> float | None:
        """Seconds until the first word of an answer about so many pictures; ``None`` before one was read."""
        with self._lock:
            found = self._paces.get(backend)
        return None if not found else statistics.median(found) * pictures

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            beside = self._file.with_suffix(".tmp")
            beside.write_text(json.dumps(self._paces), encoding="utf-8")
            beside.replace(self._file)
        except OSError as error:
            _LOG.warning("how long pictures take to read cannot be remembered: %s", error)


def _read(file: Path) -> dict[str, list[float]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): [float(one) for one in paces][-_KEPT:] for name, paces in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # measured anew
