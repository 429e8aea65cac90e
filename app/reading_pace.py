"""How long this machine takes to read a picture: measured with every answer, told before many are asked for.

What is measured is the time from the start of work to the first token, divided by the pictures that were
read for it. Answers whose prompt was mostly known already say nothing and are left out.
"""

from __future__ import annotations

import json
import logging
import statistics
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ReadingPace", "picture_tokens", "prompt_limit"]

_LOG = logging.getLogger("bimedix2.pace")
_KEPT: Final = 15
"""Answers a pace is the median of: a busy moment is outvoted, a new graphics card soon told."""
_MODELS: Final = 20
_KNOWN: Final = 0.2
"""Share of a prompt that may come from the cache for the rest to be a measurement of reading."""
_SMALLEST_ANSWER: Final = 32
"""Tokens a context must leave for an answer."""


def prompt_limit(source: str) -> int | None:
    """Tokens a prompt may have by the ``config.json`` of a model's folder; ``None`` if that does not say."""
    try:
        config = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
        text = config.get("text_config") or config
        return int(text["max_position_embeddings"]) - _SMALLEST_ANSWER
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def picture_tokens(source: str) -> int | None:
    """Tokens of one picture by the ``config.json`` of a LLaVA; ``None`` for kinds in which they vary."""
    try:
        config = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
        return int(config["image_seq_length"]) if config["model_type"] == "llava" else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


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
        self._tokens: dict[str, float] = {}
        self._limits: dict[str, int] = {}
        self._too_many: dict[str, int] = {}

    def note(self, backend: str, pictures: int, usage: Mapping[str, object]) -> None:
        """Learn from an answer's counts and times; what says nothing about reading is passed over."""
        prompt, reused, first = (usage.get(n) for n in ("prompt_tokens", "reused_tokens", "first_token_s"))
        if not isinstance(prompt, int) or not isinstance(reused, int) or not isinstance(first, float):
            return
        if pictures < 1 or prompt < 1 or first <= 0:
            return
        self._learn(backend, pictures, prompt)
        if reused > _KNOWN * prompt:
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

    def refused(self, backend: str, pictures: int, tokens: object, limit: object) -> None:
        """Learn from a prompt that did not fit: ``tokens`` it had, ``limit`` it may have."""
        if pictures >= 1 and isinstance(tokens, int) and isinstance(limit, int):
            self._learn(backend, pictures, tokens)
            with self._lock:
                self._limits[backend] = limit

    def fits(self, backend: str, pictures: int, limit: int | None = None) -> bool | None:
        """Whether so many pictures surely have room in the model's context; ``None`` while nothing is known.

        Parameters
        ----------
        limit : int, optional
            Tokens of a prompt at most, if somebody knows; one learned from a refusal counts before it.
        """
        with self._lock:
            room, tokens = self._limits.get(backend, limit), self._tokens.get(backend)
        return None if room is None or tokens is None else tokens * pictures <= room

    def too_many(self, backend: str, pictures: int) -> None:
        """Learn that so many pictures were refused by themselves."""
        with self._lock:
            self._too_many[backend] = min(pictures, self._too_many.get(backend, pictures))

    def never_fits(
        self, backend: str, pictures: int, limit: int | None = None, each: int | None = None
    ) -> bool:
        """Whether so many pictures surely have no room, whatever is asked about them.

        Parameters
        ----------
        limit, each : int, optional
            Tokens of a prompt at most, and of one picture, if somebody knows.
        """
        with self._lock:
            room, refused = self._limits.get(backend, limit), self._too_many.get(backend)
        if refused is not None and pictures >= refused:
            return True
        return room is not None and each is not None and each * pictures > room

    def _learn(self, backend: str, pictures: int, tokens: int) -> None:
        # The prompt's words count too, so the answer with most pictures says best what one takes.
        with self._lock:
            self._tokens[backend] = min(self._tokens.get(backend, float("inf")), tokens / pictures)

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
