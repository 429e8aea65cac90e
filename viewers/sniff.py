"""What a file is, from its first bytes."""

from __future__ import annotations

import zlib
from typing import Final

__all__ = ["PICTURES_UNREAD", "has_preamble", "sniff"]

_PICTURES: Final = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"BM",
    b"GIF8",
)
_UNREAD: Final = ((b"hei", "HEIC"), (b"hev", "HEIC"), (b"mif1", "HEIC"), (b"msf1", "HEIC"), (b"avi", "AVIF"))
"""Brands of ISO base media files (ISO/IEC 23008-12) that are pictures no reader of ours takes."""
_OTHERS: Final = (
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"\x1f\x8b", "GZIP"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "RAR"),
    (b"%PDF", "PDF"),
    (b"RIFF", "RIFF"),
    (b"\xd0\xcf\x11\xe0", "OLE"),
    (b"\x7fELF", "ELF"),
    (b"MZ", "EXE"),
    (b"<", "XML/HTML"),
    (b"{", "JSON"),
)
_GZIP: Final = b"\x1f\x8b"
_FIRST_GROUPS: Final = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""Groups a DICOM object without preamble begins with: file meta, or identification in both byte orders."""


PICTURES_UNREAD: Final = frozenset({"HEIC", "AVIF", "JPEG 2000", "JPEG XL"})
"""Kinds of pictures that other programs open, so that exporting one anew is the way."""


def has_preamble(raw: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does (PS3.10 7.1)."""
    return raw[128:132] == b"DICM"


def _is_nifti(raw: bytes) -> bool:
    """Whether the bytes begin as a NIfTI file of version 1 or 2, in either byte order, gzipped or not."""
    if raw[:2] == _GZIP:
        try:
            raw = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, 352)
        except zlib.error:
            return False
    if raw[:4] in {b"\x5c\x01\0\0", b"\0\0\x01\x5c"}:
        return raw[344:348] == b"n+1\0"
    return raw[:4] in {b"\x1c\x02\0\0", b"\0\0\x02\x1c"} and raw[4:8] == b"n+2\0"


def sniff(raw: bytes) -> str:
    """Return ``dicom``, ``picture``, ``nifti``, or the name of another kind of file, for an error."""
    if has_preamble(raw):
        return "dicom"
    if _is_nifti(raw):
        return "nifti"
    if raw.startswith(_PICTURES) or (raw[:4] == b"RIFF" and raw[8:12] == b"WEBP"):
        return "picture"
    if raw[4:8] == b"ftyp":
        return next((name for start, name in _UNREAD if raw[8:].startswith(start)), "MP4")
    if raw.startswith(_FIRST_GROUPS):
        return "dicom"
    return next((name for start, name in _OTHERS if raw.startswith(start)), f"{len(raw)} bytes")
