"""What a file is, from its first bytes."""

from __future__ import annotations

from typing import Final

__all__ = ["has_preamble", "sniff"]

_PICTURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
_OTHERS: Final = (
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"\x1f\x8b", "GZIP"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "RAR"),
    (b"%PDF", "PDF"),
    (b"GIF8", "GIF"),
    (b"RIFF", "RIFF"),
    (b"\xd0\xcf\x11\xe0", "OLE"),
    (b"\x7fELF", "ELF"),
    (b"MZ", "EXE"),
    (b"<", "XML/HTML"),
    (b"{", "JSON"),
)
_FIRST_GROUPS: Final = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""Groups a DICOM object without preamble begins with: file meta, or identification in both byte orders."""


def has_preamble(raw: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does (PS3.10 7.1)."""
    return raw[128:132] == b"DICM"


def sniff(raw: bytes) -> str:
    """Return ``dicom``, ``picture``, or the name of another kind of file, for an error."""
    if has_preamble(raw):
        return "dicom"
    if raw.startswith(_PICTURES):
        return "picture"
    if raw.startswith(_FIRST_GROUPS):
        return "dicom"
    return next((name for start, name in _OTHERS if raw.startswith(start)), f"{len(raw)} bytes")
