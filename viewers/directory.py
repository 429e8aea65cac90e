"""The table of contents of a disc (DICOMDIR): what should be there, for telling what is missing.

Files are found by looking at all of them, never by what a DICOMDIR says of their names and places.

References
----------
DICOM PS3.3 F (basic directory information object).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from viewers.attributes import code, items, uid
from viewers.dataset import MEDIA_CLASS, file_meta
from viewers.sniff import has_preamble

if TYPE_CHECKING:
    from pathlib import Path

    from viewers.dataset import ParsedFile

__all__ = ["is_directory", "listed_images", "names_directory"]

_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_HEAD: Final = 4096
"""Bytes the file meta information ends in."""


def is_directory(parsed: ParsedFile) -> bool:
    """Whether a file is a table of contents."""
    return parsed.media_class == _DIRECTORY


def names_directory(path: Path) -> bool:
    """Whether a path names a table of contents.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return has_preamble(head) and file_meta(head)[0].get(MEDIA_CLASS) == _DIRECTORY


def listed_images(parsed: ParsedFile) -> frozenset[str]:
    """SOP instance UIDs of the images a table of contents lists."""
    records = items(parsed.dataset, "DirectoryRecordSequence")
    images = (record for record in records if code(record, "DirectoryRecordType", {"IMAGE"}))
    return frozenset(uid(record, "ReferencedSOPInstanceUIDInFile") for record in images) - {""}
