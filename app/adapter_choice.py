"""Which adapter answers whom: every owner chooses for himself, and the next question is answered with it.

The choice lives as long as the process. What answered is stored with each answer in words
(:meth:`AdapterChoice.label`), and read from there when the answer is judged later.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from engine.errors import AdapterUnknownError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AdapterChoice"]

_BETWEEN = " + "


class AdapterChoice:
    """The adapters of the settings, and who answers with which.

    Parameters
    ----------
    names : sequence of str
        Adapters the model has.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self._chosen: dict[str, str] = {}
        self._lock = threading.Lock()

    def of(self, owner: str) -> str | None:
        """Adapter this owner's questions are answered with.

        Returns
        -------
        str or None
            Empty for the model without one; ``None`` when there are no adapters to choose from, which
            leaves an adapter that was opened as the model itself in use.
        """
        if not self.names:
            return None
        with self._lock:
            return self._chosen.get(owner, "")

    def choose(self, owner: str, name: str) -> None:
        """Answer this owner with an adapter from the next question on; empty for none.

        Raises
        ------
        AdapterUnknownError
            If there is none of that name.
        """
        if name and name not in self.names:
            expected = ", ".join(self.names) or "none"
            raise AdapterUnknownError(source="?", found=name, expected=expected)
        with self._lock:
            self._chosen[owner] = name

    def label(self, owner: str, model: str) -> str:
        """Name what answers this owner, for the history: the model, and the adapter if there is one."""
        adapter = self.of(owner)
        return f"{model}{_BETWEEN}{adapter}" if adapter else model

    def from_label(self, label: str, model: str) -> str | None:
        """Adapter of a stored answer, as :meth:`of` gives it.

        Parameters
        ----------
        label : str
            What was stored.
        model : str
            What answers now.

        Raises
        ------
        LookupError
            If something else answered: another model, or an adapter that is no longer there.
        """
        known = {model: "", **{f"{model}{_BETWEEN}{name}": name for name in self.names}}
        return known[label] if self.names or label != model else None
