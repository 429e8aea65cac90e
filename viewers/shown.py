"""What may be on screen, of any kind: one way to read, draw and count what it refers to.

A shown value is frozen, turns to JSON and back, and draws itself given the pictures it names. The kinds
are told apart by an entry only they have; the rest of the application knows none of them by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from viewers.errors import InvalidViewError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Shown", "draw", "shown_from_json"]


class Shown(Protocol):
    """One thing on screen, exactly."""

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests of every picture needed to draw it, each once."""
        ...

    def to_json(self) -> dict[str, Any]:
        """JSON values, from which :func:`shown_from_json` makes an equal value."""
        ...

    def draw(self, open_: Callable[[str], Any]) -> NDArray[np.uint8]:
        """Draw it as RGB, shape (rows, columns, 3); ``open_`` gives the picture of a digest."""
        ...


_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "image": ("viewers.view", "View"),
    "montage": ("viewers.montage", "Montage"),
    "slide": ("viewers.slide_view", "SlideView"),
}
"""Entry that tells a kind -> where its class is."""


def shown_from_json(value: Any) -> Shown:
    """Read JSON values from anywhere; whether they fit their pictures is checked when they are drawn.

    Raises
    ------
    InvalidViewError
        If it is of no known kind, or an entry is missing, unknown or wrongly typed.
    """
    kinds = [kind for kind in _KINDS if isinstance(value, dict) and kind in value]
    if len(kinds) != 1:
        raise InvalidViewError(entry="view", found=", ".join(kinds) or "?", expected=" | ".join(_KINDS))
    module, name = _KINDS[kinds[0]]
    shown: Shown = getattr(import_module(module), name).from_json(value)
    return shown


def draw(shown: Shown, open_: Callable[[str], Any]) -> NDArray[np.uint8]:
    """Draw what is on screen: the pixels of the page, the model, the history and the report.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        RGB, 0-255; the same bytes for the same value and pictures on every machine.

    Raises
    ------
    ViewerError
        If the value does not fit its pictures, or one cannot be read.
    """
    return shown.draw(open_)
