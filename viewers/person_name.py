"""Names of patients with their letters right, also where the stated character set is missing or wrong.

What a file says of its character set is believed if it can be true. Else UTF-8 is tried, which hardly ever
fits by chance, then Windows' Arabic, when most letters would be Arabic. A name in that which is labelled
ISO 8859-6 cannot be told from others: its bytes are letters there too, only other ones.

References
----------
DICOM PS3.5 6.1 (character repertoire), PS3.3 C.12.1.1.2 (specific character set).
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final

from viewers.attributes import PARSER_FAILURES, texts

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["person_name"]

_NAME: Final = 0x00100010
_LATIN: Final = frozenset({"", "ISO_IR 6", "ISO_IR 100", "ISO 2022 IR 6", "ISO 2022 IR 100"})
"""Labels that are written where nobody chose one; any bytes can be read by them."""
_MOSTLY: Final = 0.6
"""Part of the letters that must be Arabic: names in other scripts have a few bytes that could be."""
_CONTROLS: Final = dict.fromkeys(
    (*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C)
)


def person_name(dataset: Dataset) -> tuple[str, bool]:
    """Return the patient's name, and whether its character set had to be guessed.

    Composed letters are one character (NFC); marks that steer the direction of text are left out.
    """
    raw = _raw(dataset)  # before the name is turned into text, after which its bytes are gone
    stated = "\\".join(texts(dataset, "PatientName"))
    guessed = _guessed(raw, stated, texts(dataset, "SpecificCharacterSet"))
    name = unicodedata.normalize("NFC", stated if guessed is None else guessed).translate(_CONTROLS)
    return name.strip(), guessed is not None


def _raw(dataset: Dataset) -> bytes:
    """Bytes of the name as they stand in the file."""
    try:
        element: Any = dataset.get_item(_NAME)
        value = getattr(element, "value", None)
        if not isinstance(value, bytes):
            value = getattr(value, "original_string", b"")
    except PARSER_FAILURES:
        return b""
    return value if isinstance(value, bytes) else b""


def _guessed(raw: bytes, stated: str, labels: list[str]) -> str | None:
    """Return another reading of the bytes; ``None`` when what is stated can be true."""
    if not raw or raw.isascii() or b"\x1b" in raw:
        return None
    unknown = [label for label in labels if not _is_known(label)]
    doubtful = unknown or all(label in _LATIN for label in labels) or "\ufffd" in stated
    if not doubtful:
        return None
    raw = raw.rstrip(b" \0")
    meant = _meant(labels[0]) if len(labels) == 1 and unknown else None
    if meant is not None:
        try:
            return raw.decode(meant)
        except UnicodeDecodeError:
            pass
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    # What was read by a label nobody knows was guessed as well, by the reader's default.
    otherwise = stated if unknown else None
    try:
        arabic = raw.decode("cp1256")
    except UnicodeDecodeError:
        return otherwise
    letters = [letter for letter in arabic if letter.isalpha()]
    many = sum("\u0600" <= letter <= "\u06ff" for letter in letters)
    return arabic if letters and many >= _MOSTLY * len(letters) else otherwise


def _is_known(label: str) -> bool:
    """Whether the reader of datasets knows a label, or one it is taken for."""
    from pydicom.charset import python_encoding

    corrected = f"ISO_IR{label[6:]}" if re.match(r"ISO[^_]IR", label) else label
    corrected = re.sub(r"^ISO.2022.IR.", "ISO 2022 IR ", corrected)
    if corrected in python_encoding:
        return True
    try:
        codecs.lookup(label)
    except (LookupError, ValueError):
        return False
    return True


def _meant(label: str) -> str | None:
    """Return the encoding of a label that is spelled in another way, as ``ISO_IR127`` for ``ISO_IR 127``."""
    from pydicom.charset import python_encoding

    spelled = {_letters(known): found for known, found in python_encoding.items() if known}
    return spelled.get(_letters(label))


def _letters(label: str) -> str:
    return "".join(letter for letter in label.upper() if letter.isalnum())
