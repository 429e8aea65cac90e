"""How far a model is loaded, and how long it still takes, from what was measured on this machine.

In: the stage a load has reached, and how much of the weights is read. Out: :class:`engine.messages.Loading`.
The times of a load that was completed are the forecast of the next one; the weights' own pace is used as
soon as there is one, because a file that is still in the system's cache is read ten times as fast.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, get_args

from engine.messages import Loading, LoadStage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LoadMeter", "LoadTimes"]

_LOG = logging.getLogger("bimedix2.engine")
_STAGES: tuple[LoadStage, ...] = get_args(LoadStage)
_EARLIEST_SHARE = 0.02
"""Share of the weights from which their pace says something."""
_KEPT = 16
"""Models whose times are remembered."""


class LoadMeter:
    """One load, from its beginning.

    Parameters
    ----------
    earlier : dict, optional
        Seconds each stage took the last time.
    clock : callable, optional
        Seconds from any fixed moment.
    """

    def __init__(
        self, earlier: dict[str, float] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._earlier = earlier or {}
        self._clock = clock
        self._guard = threading.Lock()
        self._began = self._entered = self._told = clock()
        self._stage: LoadStage = _STAGES[0]
        self._share: float | None = None
        self._taken: dict[str, float] = {}

    def tell(self, stage: LoadStage, share: float | None = None) -> None:
        """Take note of where the load is."""
        with self._guard:
            if stage != self._stage:
                self._leave()
                self._stage = stage
            self._share, self._told = share, self._clock()

    def end(self) -> dict[str, float]:
        """Return the seconds each stage took, the load being complete."""
        with self._guard:
            self._leave()
            return dict(self._taken)

    def _leave(self) -> None:
        now = self._clock()
        self._taken[self._stage] = self._taken.get(self._stage, 0.0) + now - self._entered
        self._entered, self._share = now, None

    def state(self) -> Loading:
        """Tell where the load is now."""
        with self._guard:
            now = self._clock()
            left_s = self._left_s(now)
            if left_s is None:
                return Loading(self._stage, self._share)
            passed_s = now - self._began
            whole_s = passed_s + left_s
            return Loading(self._stage, passed_s / whole_s if whole_s else None, left_s)

    def _left_s(self, now: float) -> float | None:
        """Seconds of this stage and of those after it; ``None`` if nothing is known of this one."""
        later = _STAGES[_STAGES.index(self._stage) + 1 :]
        later_s = sum(self._earlier.get(stage, 0.0) for stage in later)
        if self._share is not None and self._share >= _EARLIEST_SHARE:
            whole_s = (self._told - self._entered) / self._share
            return max(0.0, self._entered + whole_s - now) + later_s
        if self._stage in self._earlier:
            return max(0.0, self._entered + self._earlier[self._stage] - now) + later_s
        return None


class LoadTimes:
    """Times of completed loads in a small file, so that the first load after a start has a forecast too.

    Parameters
    ----------
    file : Path, optional
        JSON; without it the times are remembered by this object alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._times: dict[str, dict[str, float]] | None = None

    def of(self, model: str) -> dict[str, float]:
        """Seconds by stage, empty if this model was never loaded."""
        return self._read().get(model, {})

    def keep(self, model: str, taken: dict[str, float]) -> None:
        """Remember a load; a disk that does not take it costs the forecast, not the load."""
        times = self._read()
        times.pop(model, None)
        times[model] = {stage: round(seconds, 3) for stage, seconds in taken.items()}
        for name in list(times)[:-_KEPT]:
            del times[name]
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            beside = self._file.with_suffix(".tmp")
            beside.write_text(json.dumps(times), encoding="utf-8")
            beside.replace(self._file)
        except OSError as error:
            _LOG.warning("how long the model took to load cannot be remembered: %s", error)

    def _read(self) -> dict[str, dict[str, float]]:
        if self._times is None:
            self._times = self._from_file()
        return self._times

    def _from_file(self) -> dict[str, dict[str, float]]:
        if self._file is None:
            return {}
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            return {
                str(model): {str(stage): float(seconds) for stage, seconds in stages.items()}
                for model, stages in found.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _LOG.warning("the file of load times is not used: %s", error)
            return {}
