"""Pictures of 8 bits as PNG, written for speed: one filter for all rows, the fastest deflate.

Trying filters row by row and searching long for repetitions, as general writers do, takes ten times as
long and saves a tenth of the bytes: too much for a picture that is looked at once.

References
----------
ISO/IEC 15948 (PNG): 5 (datastream structure), 9 (filtering; type 1, Sub), 10 (compression).
"""

from __future__ import annotations

import struct
import threading
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["png"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
_SUB: Final = 1
"""Filter type: each byte less that of the pixel to the left."""
_LEVEL: Final = 1
_HEAD: Final = b"\x78\x01"
"""Of a zlib stream (RFC 1950): deflate, the fastest level."""
_RAW: Final = -15
"""Window of a deflate stream without head and check: parts are put together here."""
_SPLIT_BYTES: Final = 2**17
"""From which a thread costs less than it saves."""
_LARGEST: Final = 2**31 - 1
"""Pixels along a side."""


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Write a picture without metadata; what is read back is equal.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns) or (rows, columns, 3)
        Grey levels or RGB.

    Raises
    ------
    ValueError
        If the array has another shape or type, or no pixel.
    """
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not pixels.size or not (grey or pixels.shape[2:] == (3,)):
        raise ValueError(f"a picture is uint8 (rows, columns[, 3]), found {pixels.dtype} {pixels.shape}")
    rows, columns = pixels.shape[:2]
    if max(rows, columns) > _LARGEST:
        raise ValueError(f"a picture has at most {_LARGEST} pixels along a side")
    header = struct.pack(">LLBBBBB", columns, rows, 8, _GREY if grey else _RGB, 0, 0, 0)
    filtered = _filtered(pixels.reshape(rows, -1), 1 if grey else 3)
    return b"".join(
        (_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", _deflated(filtered)), _chunk(b"IEND", b""))
    )


def _filtered(rows: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Differences to the pixel on the left, each row with the filter's number in front."""
    made = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    made[:, 0] = _SUB
    made[:, 1 : step + 1] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=made[:, step + 1 :])
    return made


def _deflated(data: NDArray[np.uint8]) -> bytes:
    """Compress rows, a part in each of two threads where there are many; the bytes do not depend on that."""
    if data.nbytes < _SPLIT_BYTES:
        return _HEAD + _part(data, last=True) + _check(data)
    middle, first = len(data) // 2, [b""]

    def work() -> None:
        first[0] = _part(data[:middle], last=False)

    thread = threading.Thread(target=work, name="png")
    thread.start()
    second = _part(data[middle:], last=True)
    thread.join()
    return _HEAD + first[0] + second + _check(data)


def _part(data: NDArray[np.uint8], *, last: bool) -> bytes:
    from isal import isal_zlib

    # On pictures with noise half the time of zlib-ng, a sixth of zlib's, for as many bytes.
    made = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
    return bytes(made.compress(data) + made.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_FULL_FLUSH))


def _check(data: NDArray[np.uint8]) -> bytes:
    from isal import isal_zlib

    return struct.pack(">L", isal_zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", check)
