"""Rows of a benchmark and how they are measured."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Row", "alternate", "show"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of ours, beside the plain way's where there is one."""

    what: str
    ours: float
    unit: str
    plain: float | None = None
    plain_is: str = ""
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if self.plain is None:
            return None
        return self.ours / self.plain if self.more_is_better else self.plain / self.ours


def alternate(
    ours: Callable[[], object], plain: Callable[[], object], rounds: int = 5, burst: int = 1
) -> tuple[float, float]:
    """Time two ways in turn, so that a machine that slows down slows both; median seconds of each.

    Each turn is ``burst`` calls: what is done many times in a row finds its own data in the processor's
    caches, and not what the other way left there.
    """
    ours(), plain()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, times in zip((ours, plain), taken, strict=True):
            for _ in range(burst):
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
    return statistics.median(taken[0]), statistics.median(taken[1])


def show(title: str, rows: list[Row]) -> None:
    """Print rows as a table."""
    print(f"\n{title}")
    for row in rows:
        line = f"  {row.what:<58} {row.ours:>10.3f} {row.unit:<9}"
        if row.plain is not None and row.ratio is not None:
            line += f" {row.plain_is} {row.plain:.3f} {row.unit}, ratio {row.ratio:.1f}"
        print(line, flush=True)
