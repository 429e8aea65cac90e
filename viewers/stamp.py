"""Numbers and capital letters drawn into pictures, from glyphs of their own: the same on every machine.

What is drawn into a picture the model is given must not depend on a font that is installed somewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["CHARACTERS", "LONGEST", "stamp"]

LONGEST: Final = 16
"""Characters of one label."""
_HEIGHT, _WIDTH = 7, 5

_GLYPHS: Final[Mapping[str, str]] = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00010 00100 01000 11111",
    "3": "11111 00010 00100 00010 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "D": "11100 10010 10001 10001 10001 10010 11100",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "G": "01110 10001 10000 10111 10001 10001 01111",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "J": "00111 00010 00010 00010 00010 10010 01100",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "N": "10001 10001 11001 10101 10011 10001 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "Q": "01110 10001 10001 10001 10101 10010 01101",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "V": "10001 10001 10001 10001 10001 01010 00100",
    "W": "10001 10001 10001 10101 10101 10101 01010",
    "X": "10001 10001 01010 00100 01010 10001 10001",
    "Y": "10001 10001 10001 01010 00100 00100 00100",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
    " ": "00000 00000 00000 00000 00000 00000 00000",
    ".": "00000 00000 00000 00000 00000 01100 01100",
    "-": "00000 00000 00000 11111 00000 00000 00000",
    "+": "00000 00100 00100 11111 00100 00100 00000",
    "/": "00000 00001 00010 00100 01000 10000 00000",
    ":": "00000 01100 01100 00000 01100 01100 00000",
    "#": "01010 01010 11111 01010 11111 01010 01010",
}
CHARACTERS: Final = frozenset(_GLYPHS)
"""Every character that can be drawn."""


def _glyph(character: str) -> NDArray[np.uint8]:
    rows = _GLYPHS[character].split()
    return np.array([[int(bit) for bit in row] for row in rows], np.uint8)


def stamp(picture: NDArray[np.uint8], text: str, size: int) -> None:
    """Draw a text into the upper left corner, white on black; what does not fit is cut off.

    Parameters
    ----------
    picture : ndarray of uint8, shape (rows, columns, 3)
        Changed in place.
    text : str
        Of :data:`CHARACTERS`.
    size : int
        Pixels of the picture for each pixel of a glyph, which is 5 wide and 7 high.

    Raises
    ------
    KeyError
        If a character has no glyph.
    """
    if not text:
        return
    line = np.zeros((_HEIGHT + 2, (_WIDTH + 1) * len(text) + 1), np.uint8)
    for place, character in enumerate(text):
        left = 1 + place * (_WIDTH + 1)
        line[1 : 1 + _HEIGHT, left : left + _WIDTH] = _glyph(character)
    drawn = np.repeat(np.repeat(line * np.uint8(255), size, axis=0), size, axis=1)
    rows, columns = min(drawn.shape[0], picture.shape[0]), min(drawn.shape[1], picture.shape[1])
    picture[:rows, :columns] = drawn[:rows, :columns, None]
