"""Where text stands in a picture, by the detector of PP-OCRv4: places only, nothing is read.

The network comes inside the wheel ``rapidocr-onnxruntime`` (extra ``ocr``) and runs without a connection; of
that package only the file is used. Pictures are enlarged, because burned-in letters are small, and looked at
in tiles of a limited size, so that no shape of a picture costs more than its pixels.

References
----------
Liao et al., "Real-time scene text detection with differentiable binarization", AAAI 2020.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image as Pillow

from viewers.errors import TextDetectorMissingError
from viewers.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["TextDetector", "text_detector"]

_PACKAGE: Final = "rapidocr_onnxruntime"
_MODEL: Final = "models/ch_PP-OCRv4_det_infer.onnx"
_TILE, _OVERLAP, _STEP = 960, 96, 32
"""Pixels of an enlarged picture; the network wants multiples of 32."""
_SURE: Final = 0.3
"""Probability from which a pixel is text, as its authors use it."""
_CELL: Final = 4
"""Pixels of the enlarged picture that are joined before boxes are made."""
_MOST: Final = 500
"""Boxes of one picture."""


class TextDetector:
    """A loaded network; safe in several threads.

    Parameters
    ----------
    model : Path
        ONNX file.
    """

    def __init__(self, model: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def find(self, rgb: NDArray[np.uint8], deadline: float = math.inf) -> tuple[Region, ...]:
        """Find boxes of lines of text.

        Parameters
        ----------
        rgb : ndarray of uint8, shape (rows, columns, 3)
        deadline : float
            Of ``time.monotonic``.

        Raises
        ------
        TimeoutError
            When it passes; some two million pixels take a second.
        """
        rows, columns = rgb.shape[:2]
        scale = 2.0 if max(rows, columns) <= 640 else 1.5 if max(rows, columns) <= 1100 else 1.0
        size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
        large = np.asarray(Pillow.fromarray(rgb).resize(size, Pillow.Resampling.BILINEAR))
        marked = np.zeros((-(-size[1] // _CELL), -(-size[0] // _CELL)), np.bool_)
        for top, left in _tiles(size[1], size[0]):
            if time.monotonic() > deadline:
                raise TimeoutError
            _join(marked, self._probable(large[top : top + _TILE, left : left + _TILE]), top, left)
        return tuple(_boxes(marked, scale, rows, columns))

    def _probable(self, tile: NDArray[np.uint8]) -> NDArray[np.bool_]:
        rows, columns = tile.shape[:2]
        shape = (max(-(-rows // _STEP), 2) * _STEP, max(-(-columns // _STEP), 2) * _STEP, 3)
        padded = np.zeros(shape, np.float32)
        padded[:rows, :columns] = tile
        network_input = np.ascontiguousarray((padded / 127.5 - 1.0).transpose(2, 0, 1)[None])
        (probability,) = self._session.run(None, {self._input: network_input})
        return np.asarray(probability[0, 0, :rows, :columns] > _SURE)


def _tiles(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Upper left corners of tiles that overlap, so that no line is cut by all of them."""
    for top in range(0, max(rows - _OVERLAP, 1), _TILE - _OVERLAP):
        for left in range(0, max(columns - _OVERLAP, 1), _TILE - _OVERLAP):
            yield top, left


def _join(marked: NDArray[np.bool_], probable: NDArray[np.bool_], top: int, left: int) -> None:
    """Mark the cells of a tile; corners of tiles are corners of cells."""
    rows, columns = (-(-length // _CELL) for length in probable.shape)
    padded = np.zeros((rows * _CELL, columns * _CELL), np.bool_)
    padded[: probable.shape[0], : probable.shape[1]] = probable
    cells = padded.reshape(rows, _CELL, columns, _CELL).any(axis=(1, 3))
    marked[top // _CELL : top // _CELL + rows, left // _CELL : left // _CELL + columns] |= cells


def _boxes(marked: NDArray[np.bool_], scale: float, rows: int, columns: int) -> Iterator[Region]:
    """Boxes around cells that hang together, as large as the letters: the network marks their middle only."""
    left_over = marked.copy()
    for _ in range(_MOST):
        if not left_over.any():
            return
        start = divmod(int(left_over.argmax()), left_over.shape[1])
        top, left, bottom, right = _taken(left_over, start)
        # The network is trained on letters shrunk by their height; what it marks is 0.4 of them high.
        margin = 0.8 * (min(bottom - top, right - left) + 1) + 1
        y0, y1 = (top - margin) * _CELL / scale, (bottom + 1 + margin) * _CELL / scale
        x0, x1 = (left - margin) * _CELL / scale, (right + 1 + margin) * _CELL / scale
        x, y = max(math.floor(x0), 0), max(math.floor(y0), 0)
        yield Region(x, y, min(math.ceil(x1), columns) - x, min(math.ceil(y1), rows) - y)
    yield Region(0, 0, columns, rows)


def _taken(cells: NDArray[np.bool_], start: tuple[int, int]) -> tuple[int, int, int, int]:
    """Take the cells that hang together with one away; returns their first and last row and column."""
    top, left, bottom, right = *start, *start
    waiting = [start]
    cells[start] = False
    while waiting:
        y, x = waiting.pop()
        top, bottom, left, right = min(top, y), max(bottom, y), min(left, x), max(right, x)
        window = cells[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        for dy, dx in np.argwhere(window).tolist():
            near = (max(y - 1, 0) + dy, max(x - 1, 0) + dx)
            cells[near] = False
            waiting.append(near)
    return top, left, bottom, right


@functools.cache
def text_detector() -> TextDetector:
    """Return the detector, loaded once.

    Raises
    ------
    TextDetectorMissingError
        If the extra ``ocr`` is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    origin = found.origin if found is not None else None
    if origin is None or importlib.util.find_spec("onnxruntime") is None:
        raise TextDetectorMissingError(package="bimedix2-workstation[ocr]")
    model = Path(origin).parent / _MODEL
    if not model.is_file():
        raise TextDetectorMissingError(package="bimedix2-workstation[ocr]")
    return TextDetector(model)
