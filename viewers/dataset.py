"""DICOM bytes to a dataset, within limits: the only module that calls pydicom's parser.

References
----------
DICOM PS3.10 7 (file format), PS3.5 A.5 (deflated transfer syntax).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Final

from viewers.attributes import PARSER_FAILURES, get, uid
from viewers.elements import LONG_VR, check_elements
from viewers.errors import CorruptHeaderError, DecompressionBombError, NotAnImageError
from viewers.findings import Finding, finding
from viewers.sniff import has_preamble

if TYPE_CHECKING:
    from pydicom import Dataset

    from viewers.limits import Limits

__all__ = ["MEDIA_CLASS", "TRANSFER_SYNTAX", "ParsedFile", "file_meta", "parse"]

_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_NATIVE: Final = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
"""Transfer syntax by (implicit VR, little endian)."""
MEDIA_CLASS: Final = 0x0002
TRANSFER_SYNTAX: Final = 0x0010


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A dataset, not yet trusted."""

    dataset: Dataset
    transfer_syntax: str
    media_class: str
    """SOP class UID of the file meta information; empty when there is none."""
    big_endian: bool
    findings: list[Finding] = field(default_factory=list)
    pixels: memoryview | None = None
    """Value of Pixel Data, where it was left out of the dataset because it need not be copied."""


def parse(raw: bytes, limits: Limits) -> ParsedFile:
    """Parse a file's bytes.

    Raises
    ------
    NotAnImageError
        If it has neither the DICOM preamble nor the attributes every DICOM object has.
    CorruptHeaderError
        If the dataset cannot be parsed.
    DecompressionBombError
        If a deflated dataset grows beyond ``limits.file_bytes``.
    TooLargeError
        If it has more elements than ``limits.elements``.
    """
    meta, body = file_meta(raw)
    stated = meta.get(TRANSFER_SYNTAX, "")
    findings = [] if has_preamble(raw) else [finding("no_preamble")]
    try:
        dataset, implicit, little = _read(raw, stated, body, limits)
    except PARSER_FAILURES as error:
        if not has_preamble(raw):
            raise NotAnImageError(found="?") from error
        raise CorruptHeaderError(
            attribute="dataset", found=type(error).__name__, expected="DICOM PS3.10"
        ) from error
    if not has_preamble(raw) and not _is_object(dataset):
        raise NotAnImageError(found="?")
    used = stated
    if not stated:
        used = _NATIVE.get((implicit, little), "")
        findings.append(finding("transfer_syntax_repaired", used=used))
    return ParsedFile(dataset, used, meta.get(MEDIA_CLASS, ""), not little, findings)


def _is_object(dataset: Dataset) -> bool:
    """Whether a file without preamble holds a DICOM object: random bytes parse as a few odd elements."""
    return uid(dataset, "SOPClassUID").startswith("1.2.840.10008.") or (
        get(dataset, "Rows") is not None and get(dataset, "PhotometricInterpretation") is not None
    )


def _read(raw: bytes, stated: str, body: int, limits: Limits) -> tuple[Dataset, bool, bool]:
    from pydicom.filereader import read_dataset, read_partial

    if stated in _DEFLATED:
        inflated = _inflated(raw[body:], limits.file_bytes)
        check_elements(inflated, 0, len(inflated), limits.elements, implicit=False)
        return read_dataset(BytesIO(inflated), is_implicit_VR=False, is_little_endian=True), False, True
    # What is written there decides, as it does in the parser: labels are sometimes wrong.
    explicit = raw[body + 4 : body + 6].isalpha() and raw[body + 4 : body + 6].isupper()
    big = explicit and stated == _NATIVE[False, False]
    check_elements(raw, body, len(raw), limits.elements, implicit=not explicit, big_endian=big)
    dataset = read_partial(BytesIO(raw), force=True)
    implicit, little = dataset.original_encoding
    return dataset, bool(implicit), bool(little)


def _inflated(data: bytes, limit: int) -> bytes:
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit + 1)
    if len(inflated) > limit:
        raise DecompressionBombError(quantity="bytes", found=f"> {limit}", limit=limit)
    return inflated


def file_meta(raw: bytes) -> tuple[dict[int, str], int]:
    """UIDs of the file meta information by element number, and where the dataset begins (PS3.10 7.1)."""
    at = 132 if has_preamble(raw) else 0
    found: dict[int, str] = {}
    while at + 8 <= len(raw):
        group, element, vr, length = struct.unpack_from("<HH2sH", raw, at)
        if group != 2:
            break
        head = 8
        if vr in LONG_VR and at + 12 <= len(raw):
            head, (length,) = 12, struct.unpack_from("<L", raw, at + 8)
        if element in {MEDIA_CLASS, TRANSFER_SYNTAX}:
            found[element] = raw[at + 8 : at + 8 + length].decode("ascii", "replace").rstrip("\0 ")
        at += head + length
    return found, at
