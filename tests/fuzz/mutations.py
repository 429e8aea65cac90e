"""Bytes and data elements damaged at random; the same number gives the same damage on every machine."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.datadict import tag_for_keyword

if TYPE_CHECKING:
    import random

__all__ = ["bytes_damaged", "dicom_damaged"]

_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
_VRS = (
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV"
    b" ZZ"
).split()
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_TEXTS = (
    *(
        b"",
        b"\\",
        b"\\" * 9,
        b"0",
        b"-1",
        b"1e400",
        b"NaN",
        b"inf",
        b"abc",
        b"1.2.3",
        b"99999999999999999999",
    ),
    *(
        b"0.0000001\\0.0000001",
        b"1\\0\\0\\0\\1\\0",
        b"0\\0\\0\\0\\0\\0",
        b"\xff\xfe",
        b"\x1b$B\x1b(B",
        b"\0" * 8,
    ),
    *(b"MONOCHROME1", b"RGB", b"YBR_FULL_422", b"PALETTE COLOR", b"LINEAR_EXACT", b"SIGMOID", b"A" * 70_000),
)
_SYNTAXES = (
    *(b"1.2.840.10008.1.2" + end for end in (b"", b".1", b".2", b".5", b".1.99", b".8.1")),
    *(b"1.2.840.10008.1.2.4." + end for end in b"50 51 57 70 80 81 90 91 201 203 110 100 95".split()),
)
_KEYWORDS = [
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "PixelSpacing",
    "PixelAspectRatio",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "ImagerPixelSpacing",
    "PerFrameFunctionalGroupsSequence",
    "SequenceOfUltrasoundRegions",
    "SpecificCharacterSet",
    "FrameTime",
    "CineRate",
    "FrameIncrementPointer",
    "FrameTimeVector",
    "PresentationLUTShape",
    "ICCProfile",
    "OverlayRows",
    "OverlayColumns",
    "OverlayData",
    "OverlayOrigin",
    "PatientName",
    "StudyDate",
    "ImageType",
    "InstanceNumber",
    "GantryDetectorTilt",
    "ShutterShape",
    "DiffusionBValue",
    "TriggerTime",
    "EchoNumbers",
    "FrameOfReferenceUID",
    "TransferSyntaxUID",
    "SOPClassUID",
]
_TAGS = tuple(tag_for_keyword(keyword) or 0x60003000 for keyword in _KEYWORDS)


@dataclass(frozen=True)
class _Element:
    start: int
    head: int
    stop: int


def bytes_damaged(raw: bytes, chance: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Damage bytes that may be anything, in one to six places."""
    made = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        chance.choice(_BYTE_DAMAGES)(made, chance)
    if others and chance.random() < 0.05:
        other = chance.choice(others)
        made[_place(made, chance) :] = other[chance.randrange(len(other) + 1) :]
    return bytes(made)


def _place(made: bytearray, chance: random.Random) -> int:
    """Return a place; half of them in the first kilobyte, where headers are."""
    size = max(len(made), 1)
    return chance.randrange(min(size, 1024) if chance.random() < 0.5 else size)


def _flip(made: bytearray, chance: random.Random) -> None:
    if made:
        made[_place(made, chance)] ^= 1 << chance.randrange(8)


def _set(made: bytearray, chance: random.Random) -> None:
    if made:
        made[_place(made, chance)] = chance.choice((0, 1, 127, 128, 254, 255, chance.randrange(256)))


def _number(made: bytearray, chance: random.Random) -> None:
    at, form = _place(made, chance), chance.choice(("<H", ">H", "<L", ">L"))
    packed = struct.pack(form, chance.choice(_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    made[at : at + len(packed)] = packed


def _cut(made: bytearray, chance: random.Random) -> None:
    del made[_place(made, chance) :]


def _drop(made: bytearray, chance: random.Random) -> None:
    at = _place(made, chance)
    del made[at : at + chance.choice((1, 2, 4, 16, 500))]


def _repeat(made: bytearray, chance: random.Random) -> None:
    at, size = _place(made, chance), chance.choice((1, 4, 32, 1000))
    made[at:at] = made[at : at + size] * chance.choice((1, 2, 20))


def _noise(made: bytearray, chance: random.Random) -> None:
    at = _place(made, chance)
    made[at:at] = chance.randbytes(chance.choice((1, 2, 8, 100)))


def _blank(made: bytearray, chance: random.Random) -> None:
    at, size = _place(made, chance), chance.choice((4, 64, 1000))
    made[at : at + size] = chance.choice((b"\0", b"\xff")) * min(size, len(made) - at)


_BYTE_DAMAGES = (_flip, _flip, _set, _number, _number, _cut, _drop, _repeat, _noise, _blank)


def dicom_damaged(raw: bytes, chance: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Damage a DICOM file's elements, mostly, and its bytes, sometimes."""
    made = raw
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        elements = _elements(made)
        if not elements or chance.random() < 0.2:
            made = bytes_damaged(made, chance, others)
        else:
            made = chance.choice(_DICOM_DAMAGES)(made, elements, chance)
    return made


def _elements(raw: bytes) -> list[_Element]:
    """Elements of the first level, as far as they can be followed; explicit and implicit little endian."""
    at, found = (132 if raw[128:132] == b"DICM" else 0), []
    while at + 8 <= len(raw) and len(found) < 2000:
        vr, head = raw[at + 4 : at + 6], 8
        if vr in _LONG and at + 12 <= len(raw):
            head, (length,) = 12, struct.unpack_from("<L", raw, at + 8)
        elif vr.isalpha() and vr.isupper():
            (length,) = struct.unpack_from("<H", raw, at + 6)
        else:
            (length,) = struct.unpack_from("<L", raw, at + 4)
        stop = at + head + length
        if length == 0xFFFFFFFF or stop > len(raw):
            found.append(_Element(at, head, len(raw)))
            break
        found.append(_Element(at, head, stop))
        at = stop
    return found


def _relength(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Say another length than there is."""
    element = chance.choice(elements)
    real = element.stop - element.start - element.head
    value = chance.choice((*_NUMBERS, real + 1, max(real - 1, 0), real * 2, len(raw), 0xFFFFFFFF, 0xFFFFFFFE))
    form = "<H" if element.head == 8 and raw[element.start + 4 : element.start + 6].isupper() else "<L"
    packed = struct.pack(form, value & (0xFFFF if form == "<H" else 0xFFFFFFFF))
    at = element.start + element.head - len(packed)
    return raw[:at] + packed + raw[at + len(packed) :]


def _revr(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Say another value representation."""
    at = chance.choice(elements).start + 4
    return raw[:at] + chance.choice(_VRS) + raw[at + 2 :]


def _retag(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Give a value to another attribute."""
    at, tag = chance.choice(elements).start, chance.choice(_TAGS)
    return raw[:at] + struct.pack("<HH", tag >> 16, tag & 0xFFFF) + raw[at + 4 :]


def _revalue(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Write another value, with the right length."""
    element = chance.choice(elements)
    real = element.stop - element.start - element.head
    value = chance.choice(
        (
            chance.choice(_TEXTS),
            chance.randbytes(min(real, 64)),
            struct.pack("<H", chance.choice(_NUMBERS) & 0xFFFF),
            struct.pack("<L", chance.choice(_NUMBERS)),
            struct.pack("<d", chance.choice((0.0, -1.0, 1e308, float("nan"), float("inf")))),
        )
    )
    return _with(raw, element, raw[element.start : element.start + 6], value + b"\0" * (len(value) % 2))


def _with(raw: bytes, element: _Element, begin: bytes, value: bytes) -> bytes:
    if element.head == 12:
        head = begin + b"\0\0" + struct.pack("<L", len(value))
    elif begin[4:6].isupper():
        head = begin + struct.pack("<H", len(value) & 0xFFFF)
    else:
        head = begin[:4] + struct.pack("<L", len(value))
    return raw[: element.start] + head + value + raw[element.stop :]


def _remove(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    element = chance.choice(elements)
    return raw[: element.start] + raw[element.stop :]


def _twice(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    element = chance.choice(elements)
    if element.stop - element.start > 100_000:
        return raw
    return (
        raw[: element.stop]
        + raw[element.start : element.stop] * chance.choice((1, 3, 50))
        + raw[element.stop :]
    )


def _swap(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Put two elements into each other's place."""
    one, other = (
        sorted(chance.sample(elements, 2), key=lambda item: item.start)
        if len(elements) > 1
        else (elements * 2)[:2]
    )
    if one == other:
        return raw
    return (
        raw[: one.start]
        + raw[other.start : other.stop]
        + raw[one.stop : other.start]
        + raw[one.start : one.stop]
        + raw[other.stop :]
    )


def _nest(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Put elements into sequences inside each other, of defined, undefined or wrong length."""
    element = chance.choice(elements)
    inner = raw[element.start : element.stop][:20_000]
    tag = chance.choice(_TAGS)
    for _ in range(chance.choice((1, 2, 3, 30, 300))):
        undefined = chance.random() < 0.5
        length = 0xFFFFFFFF if undefined else len(inner) + chance.choice((0, 0, 0, 1, -1, 8))
        item = b"\xfe\xff\x00\xe0" + struct.pack("<L", length & 0xFFFFFFFF) + inner
        item += b"\xfe\xff\x0d\xe0\0\0\0\0" if undefined else b""
        length = 0xFFFFFFFF if undefined else len(item)
        inner = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, length) + item
        inner += b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined and chance.random() < 0.9 else b""
    return raw[: element.start] + inner + raw[chance.choice((element.start, element.stop)) :]


def _insert(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Add an attribute that is looked at, with a value that makes no sense."""
    tag, vr, value = chance.choice(_TAGS), chance.choice(_VRS), chance.choice(_TEXTS)[:60_000]
    value = chance.choice(
        (value, struct.pack("<H", chance.choice(_NUMBERS) & 0xFFFF) * chance.choice((1, 3, 6)))
    )
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    head += b"\0\0" + struct.pack("<L", len(value)) if vr in _LONG else struct.pack("<H", len(value))
    at = next((element.start for element in elements if _tag(raw, element) >= tag), elements[-1].start)
    return raw[:at] + head + value + raw[at:]


def _tag(raw: bytes, element: _Element) -> int:
    group, number = struct.unpack_from("<HH", raw, element.start)
    return int(group << 16 | number)


def _resyntax(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Say another transfer syntax than the pixels have."""
    for element in elements:
        if _tag(raw, element) == 0x00020010:
            value = chance.choice(_SYNTAXES)
            return _with(
                raw, element, raw[element.start : element.start + 6], value + b"\0" * (len(value) % 2)
            )
    return raw


def _pixels(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    """Damage the bytes of the last element: pixels, or a codestream."""
    element = elements[-1]
    at = min(element.start + element.head, len(raw))
    return raw[:at] + bytes_damaged(raw[at:], chance)


def _cut_inside(raw: bytes, elements: list[_Element], chance: random.Random) -> bytes:
    element = chance.choice(elements)
    return raw[: chance.randrange(element.start, max(element.stop, element.start + 1))]


_DICOM_DAMAGES = (
    *(_relength, _relength, _revr, _revr, _retag, _revalue, _revalue, _revalue, _remove, _twice, _swap),
    *(_nest, _insert, _insert, _resyntax, _pixels, _pixels, _pixels, _cut_inside),
)
