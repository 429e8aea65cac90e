"""Several views as one picture: chosen slices with their numbers, or prior and current side by side.

Cells are equally large and stand in rows, from the upper left. Every view is drawn as it is alone and
then made as large as its cell allows, keeping its proportions, in the middle of the cell on black. A cell
is as large as the largest view, or smaller when the whole would be larger than :data:`MOST_PIXELS`.
Enlarging is linear, shrinking takes the mean of the area, both in whole numbers: the same bytes everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import InvalidViewError
from viewers.proportions import resized
from viewers.record import Types, strict
from viewers.shown import Shown, shown_from_json
from viewers.stamp import CHARACTERS, LONGEST, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["MOST_PIXELS", "MOST_VIEWS", "Montage"]

MOST_VIEWS: Final = 36
MOST_PIXELS: Final = 16 * 2**20
"""Of the whole picture; models look at far fewer."""
_GAP: Final = 4
"""Grey pixels between cells."""
_GAP_LEVEL: Final = 96
_LABEL_PART: Final = 100
"""A label's dot is one hundredth of the shorter side of its cell: its letters are a fourteenth of it."""
_MONTAGE: Final[Mapping[str, Types]] = {"montage": list, "columns": int, "labels": list}


def _invalid(entry: str, found: str, expected: str) -> Exception:
    return InvalidViewError(entry=entry, found=found, expected=expected)


@dataclass(frozen=True, slots=True)
class Montage:
    """Several views in a grid.

    Parameters
    ----------
    views : tuple of Shown
        1 to 36; no montages.
    columns : int
        Cells of a row.
    labels : tuple of str
        One for each view, drawn in its corner; empty for none. Digits, capital letters and ``. - + / : #``.

    Raises
    ------
    InvalidViewError
        If there are too many or no views, or labels that cannot be drawn.
    """

    views: tuple[Shown, ...]
    columns: int
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.views)
        if not 1 <= count <= MOST_VIEWS or any(isinstance(view, Montage) for view in self.views):
            raise _invalid("montage", str(count), f"1-{MOST_VIEWS}")
        if not 1 <= self.columns <= count:
            raise _invalid("columns", str(self.columns), f"1-{count}")
        if len(self.labels) != count:
            raise _invalid("labels", str(len(self.labels)), str(count))
        if not all(len(label) <= LONGEST and CHARACTERS.issuperset(label) for label in self.labels):
            raise _invalid("labels", "?", f"0-9 A-Z . - + / : #, 0-{LONGEST}")

    @classmethod
    def side_by_side(cls, *views: Shown) -> Montage:
        """Return views in one row, lettered A, B, C."""
        return cls(views, len(views), tuple(chr(ord("A") + n) for n in range(len(views))))

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests of all pictures, each once, in the order of the views."""
        return tuple(dict.fromkeys(digest for view in self.views for digest in view.digests))

    def to_json(self) -> dict[str, Any]:
        """JSON values, with every entry present."""
        return {
            "montage": [view.to_json() for view in self.views],
            "columns": self.columns,
            "labels": list(self.labels),
        }

    @classmethod
    def from_json(cls, value: Any) -> Montage:
        """Read JSON values from anywhere.

        Raises
        ------
        InvalidViewError
            If an entry is missing, unknown, wrongly typed or impossible.
        """
        record = strict(value, _MONTAGE, _invalid)
        views, labels = record["montage"], record["labels"]
        if len(views) > MOST_VIEWS or not all(isinstance(label, str) for label in labels):
            raise _invalid("montage", str(len(views)), f"1-{MOST_VIEWS}")
        if any(isinstance(view, dict) and "montage" in view for view in views):
            raise _invalid("montage", "montage", "view")
        return cls(tuple(shown_from_json(view) for view in views), record["columns"], tuple(labels))

    def draw(self, open_: Callable[[str], Any]) -> NDArray[np.uint8]:
        """Draw all views; see :class:`viewers.shown.Shown`."""
        width, height = 0, 0
        for view in self.views:
            drawn = view.draw(open_)
            width, height = max(width, drawn.shape[1]), max(height, drawn.shape[0])
        width, height = self._cell(width, height)
        rows = math.ceil(len(self.views) / self.columns)
        shape = (rows * (height + _GAP) - _GAP, self.columns * (width + _GAP) - _GAP, 3)
        whole = np.full(shape, _GAP_LEVEL, np.uint8)
        for number in range(rows * self.columns):
            row, column = divmod(number, self.columns)
            top, left = row * (height + _GAP), column * (width + _GAP)
            cell = whole[top : top + height, left : left + width]
            cell[:] = 0
            if number < len(self.views):
                # Drawn a second time rather than kept: 36 mammograms would not fit into memory together.
                _place(cell, self.views[number].draw(open_))
                stamp(cell, self.labels[number], max(1, min(width, height) // _LABEL_PART))
        return whole

    def _cell(self, width: int, height: int) -> tuple[int, int]:
        rows = math.ceil(len(self.views) / self.columns)
        shrink = math.sqrt(MOST_PIXELS / (rows * height * self.columns * width))
        if shrink >= 1:
            return width, height
        return max(1, int(width * shrink)), max(1, int(height * shrink))


def _place(cell: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> None:
    """Put a picture into the middle of a cell, as large as it fits."""
    (high, wide), (rows, columns) = cell.shape[:2], drawn.shape[:2]
    if wide * rows <= high * columns:
        width, height = wide, max(1, (2 * rows * wide + columns) // (2 * columns))
    else:
        width, height = max(1, (2 * columns * high + rows) // (2 * rows)), high
    top, left = (high - height) // 2, (wide - width) // 2
    cell[top : top + height, left : left + width] = resized(drawn, width, height)
