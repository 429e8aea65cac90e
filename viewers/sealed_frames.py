"""Frames of a sealed array: one is decrypted for itself, all of them are once a volume asks for them.

A memory map cannot decrypt, so what a plane cuts through is held in memory, outside of any file; of several
images together at most 2 GiB, the ones used last.
"""

from __future__ import annotations

import threading
import weakref
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.sealed import SealedFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SealedStack"]

_HEADER_BYTES: Final = 4096
"""Read for the array's header, which has 128."""
_BUDGET: Final = 2 << 30
"""Bytes of decrypted arrays held, besides the one asked for last."""


class SealedStack:
    """An array of numpy's format in a sealed file, its first axis the frames; safe to share.

    Parameters
    ----------
    path : Path
    key : bytes
        Of the store.

    Raises
    ------
    StoredImageError
        If it is damaged, or of another key.
    ValueError
        If it is no array of numbers, or cut short.
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._file = SealedFile(path, key)
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise
        self._whole: NDArray[Any] | None = None
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def _begin(self) -> None:
        head = BytesIO(self._file.read_at(0, _HEADER_BYTES))
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("another version of the array's format")
        shape, transposed, dtype = np.lib.format.read_array_header_1_0(head)
        self._first = head.tell()
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        self.nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        if transposed or dtype.hasobject or self._first + self.nbytes != self._file.size:
            raise ValueError("not an array of frames one after the other")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def frame(self, index: int) -> NDArray[Any]:
        """Decrypt one frame, counted from 0; read-only.

        Raises
        ------
        StoredImageError
            If it is not as it was written.
        """
        if not 0 <= index < self.shape[0]:
            raise IndexError(index)
        whole = self._whole
        if whole is not None:
            return whole[index]  # type: ignore[no-any-return]
        size = self.nbytes // self.shape[0]
        data = self._file.read_at(self._first + index * size, size)
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def whole(self) -> NDArray[Any]:
        """Decrypt all of them, once; read-only; raises as :meth:`frame`."""
        with self._lock:
            if self._whole is None:
                made = np.empty(self.shape, self.dtype)
                self._file.read_into(made.data.cast("B"), self._first)
                made.flags.writeable = False
                self._whole = made
            found = self._whole
        _HELD.use(self)
        return found

    def let_go(self) -> None:
        """Hold the decrypted array no longer; it is made again when it is asked for."""
        self._whole = None


class _Held:
    """Which stacks hold their array, the ones used last at the end."""

    def __init__(self) -> None:
        self._stacks: list[weakref.ref[SealedStack]] = []
        self._lock = threading.Lock()

    def use(self, stack: SealedStack) -> None:
        """Note that a stack was used, and let go of others beyond the budget."""
        with self._lock:
            others = [one for one in (ref() for ref in self._stacks) if one is not None and one is not stack]
            held = sum(one.nbytes for one in others)
            while others and held > _BUDGET:
                held -= others[0].nbytes
                others.pop(0).let_go()
            self._stacks = [weakref.ref(one) for one in (*others, stack)]


_HELD: Final = _Held()
