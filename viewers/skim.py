"""The few attributes of a file that say what its pixels are and where they lie, read without parsing it all.

A study has thousands of files whose headers are mostly of no interest here. :func:`skim` walks over the
elements by their lengths and keeps the bytes of those on a list; nothing else of a header is looked at.

References
----------
DICOM PS3.5 7.1 (data elements), 7.5 (nesting).
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Final

from viewers.dataset import MEDIA_CLASS, TRANSFER_SYNTAX, ParsedFile, file_meta
from viewers.elements import LONG_VR, UNDEFINED
from viewers.sniff import has_preamble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom import Dataset

__all__ = ["HEAD_BYTES", "PATIENT", "Skimmed", "skim", "tag"]

HEAD_BYTES: Final = 2**16
"""Of a file, read first: the headers of most files end before."""

PIXEL_DATA: Final = 0x7FE00010
_IMPLICIT: Final = "1.2.840.10008.1.2"
_IMAGE_TYPE: Final = 0x00080008
_SKIPPED: Final = frozenset(
    {
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.205",
    }
)
"""Transfer syntaxes that are not little-endian elements one after the other: big endian and deflated."""
_OVERLAY_ROWS: Final = (0xFF01FFFF, 0x60000010)
"""Mask and tag of what says that there is an overlay; the others stand in the even groups after it."""
_OVERLAY: Final = (0xFF010000, 0x60000000)
"""The same for everything of overlays."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST: Final = 64
_LARGEST_VALUE: Final = 2**20
"""Bytes of one attribute that is kept: a lookup table of 65536 entries has 128 KiB. A file with a larger
one, as enhanced images have, is parsed as a whole."""
_MOST_ELEMENTS: Final = 20_000
"""Stepped over in one file; one with more is parsed as a whole, where limits are looked at."""

PATIENT: Final = ("PatientID", "IssuerOfPatientID")
IDENTIFIERS: Final = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    *PATIENT,
)
"""Looked at for grouping, then forgotten."""
PER_SLICE: Final = (
    "ImagePositionPatient",
    "InstanceNumber",
    "AcquisitionNumber",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "DiffusionBValue",
)
_DISPLAY: Final = """
    SOPClassUID Modality ImageType SpecificCharacterSet BodyPartExamined Laterality ImageLaterality
    ViewPosition
    PatientPosition ScanningSequence MRAcquisitionType LossyImageCompression SliceThickness
    SpacingBetweenSlices KVP RepetitionTime InversionTime MagneticFieldStrength FlipAngle EchoTime
    GantryDetectorTilt FrameTime FrameTimeVector RecommendedDisplayFrameRate CineRate Units SeriesType
    EstimatedRadiographicMagnificationFactor DistanceSourceToDetector DistanceSourceToPatient
    BodyPartThickness CompressionForce EchoTrainLength
    NumberOfAverages SeriesNumber ImageOrientationPatient PatientOrientation
    PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing PixelSpacingCalibrationType PixelAspectRatio
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated
    BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit
    FloatPixelPaddingValue FloatPixelPaddingRangeLimit DoubleFloatPixelPaddingValue
    DoubleFloatPixelPaddingRangeLimit RescaleSlope RescaleIntercept RescaleType
    ShutterShape ShutterLeftVerticalEdge ShutterRightVerticalEdge ShutterUpperHorizontalEdge
    ShutterLowerHorizontalEdge CenterOfCircularShutter RadiusOfCircularShutter VerticesOfThePolygonalShutter
    DoseGridScaling WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
    PresentationLUTShape BurnedInAnnotation ICCProfile ModalityLUTSequence VOILUTSequence
    SequenceOfUltrasoundRegions SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    DimensionIndexSequence SegmentSequence GridFrameOffsetVector DoseUnits DetectorInformationSequence
    NumberOfSlices SliceVector EnergyWindowVector RRIntervalVector TimeSlotVector
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
    GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData
"""


@functools.cache
def tag(keyword: str) -> int:
    """Tag of an attribute as one number."""
    from pydicom.datadict import tag_for_keyword

    found = tag_for_keyword(keyword)
    if found is None:
        raise KeyError(keyword)
    return int(found)


@functools.cache
def _wanted() -> frozenset[int]:
    return frozenset(tag(keyword) for keyword in (*IDENTIFIERS, *PER_SLICE, *_DISPLAY.split()))


@functools.cache
def _not_shared() -> frozenset[int]:
    return frozenset(tag(keyword) for keyword in (*IDENTIFIERS, *PER_SLICE))


@dataclass(frozen=True, slots=True, eq=False)
class Skimmed:
    """Elements of one file by tag, each with its own header in front, and where its pixels are."""

    transfer_syntax: str
    media_class: str
    elements: Mapping[int, bytes] = field(repr=False)
    heads: Mapping[int, int] = field(repr=False)
    """Bytes of each element's own header."""
    pixels: tuple[int, int, int] | None
    """Of Pixel Data: bytes of its header, where its value begins in the file, its length."""
    pixel_head: bytes = b""

    def value(self, keyword: str) -> bytes:
        """Value of an attribute as it stands in the file; empty when it is absent."""
        at = tag(keyword)
        return self.elements[at][self.heads[at] :] if at in self.elements else b""

    def text(self, keyword: str) -> str:
        """Return a value of plain characters, for comparing only; empty when it is absent."""
        return self.value(keyword).decode("ascii", "replace").strip("\0 ")

    def numbers(self, keyword: str) -> list[float]:
        """All values of an attribute of decimal text; an empty list if one of them is not a number."""
        try:
            return [float(piece) for piece in self.text(keyword).split("\\")]
        except ValueError:
            return []

    @property
    def overlaid(self) -> bool:
        """Whether something is drawn over the picture."""
        return any(number & _OVERLAY_ROWS[0] == _OVERLAY_ROWS[1] for number in self.elements)

    @property
    def is_grid(self) -> bool:
        """Whether its frames are the planes of a dose grid."""
        return tag("GridFrameOffsetVector") in self.elements

    def anonymous(self) -> Skimmed:
        """Leave the identifiers out."""
        dropped = {tag(keyword) for keyword in IDENTIFIERS}
        kept = {number: element for number, element in self.elements.items() if number not in dropped}
        return replace(self, elements=kept)

    def shared(self) -> tuple[str, tuple[tuple[int, bytes], ...]]:
        """Return what two slices must have in common to be shown in the same way."""
        left_out = _not_shared()
        kept = tuple(item for item in sorted(self.elements.items()) if item[0] not in left_out)
        return self.transfer_syntax, kept

    def parsed(self, pixels: bytes | memoryview | None = None) -> ParsedFile:
        """Make the dataset of the kept elements; with ``pixels`` as its Pixel Data."""
        joined = b"".join(element for _, element in sorted(self.elements.items()))
        encapsulated = self.pixels is not None and self.pixels[2] == UNDEFINED
        if pixels is not None and encapsulated:
            joined += self.pixel_head + pixels
        parsed = ParsedFile(self._read(joined), self.transfer_syntax, self.media_class, big_endian=False)
        if pixels is None or encapsulated or not len(pixels):
            return parsed
        return replace(parsed, pixels=memoryview(pixels))

    def _read(self, joined: bytes) -> Dataset:
        from pydicom.filereader import read_dataset

        implicit = self.transfer_syntax == _IMPLICIT
        return read_dataset(BytesIO(joined), is_implicit_VR=implicit, is_little_endian=True)


def skim(raw: bytes, *, overlays: bool = False) -> Skimmed | None:
    """Skim the bytes of a file up to its Pixel Data, or of its beginning.

    Parameters
    ----------
    overlays : bool
        Whether to keep what is drawn over the picture; else only that there is something.

    Returns
    -------
    Skimmed or None
        ``None`` when the bytes end before Pixel Data, or are not plain little-endian DICOM with preamble:
        such a file is parsed as a whole, by :func:`viewers.dataset.parse`.
    """
    if not has_preamble(raw):
        return None
    meta, at = file_meta(raw)
    syntax = meta.get(TRANSFER_SYNTAX, "")
    if not syntax.startswith(_IMPLICIT) or syntax in _SKIPPED:
        return None
    try:
        return _walk(raw, at, syntax, meta.get(MEDIA_CLASS, ""), overlays=overlays)
    except (struct.error, ValueError):
        return None


def _walk(raw: bytes, at: int, syntax: str, media_class: str, *, overlays: bool) -> Skimmed | None:
    wanted, mask = _wanted(), _OVERLAY if overlays else _OVERLAY_ROWS
    elements: dict[int, bytes] = {}
    heads: dict[int, int] = {}
    implicit, last = syntax == _IMPLICIT, 0
    for _ in range(_MOST_ELEMENTS):
        number, head, length = _element(raw, at, implicit=implicit)
        if number <= last:
            raise ValueError("elements out of order")
        last = number
        if number >= PIXEL_DATA:
            if number != PIXEL_DATA:
                return None
            pixels = (head, at + head, length)
            return Skimmed(syntax, media_class, elements, heads, pixels, raw[at : at + head])
        stop = at + head + length if length != UNDEFINED else _sequence_end(raw, at + head, implicit=implicit)
        if stop > len(raw):
            return None
        if number == _IMAGE_TYPE and b"MOSAIC" in raw[at:stop]:
            return None  # private data says where its slices are
        if number in wanted or number & mask[0] == mask[1]:
            if stop - at > _LARGEST_VALUE:
                return None
            elements[number], heads[number] = raw[at:stop], head
        at = stop
    return None


def _element(raw: bytes, at: int, *, implicit: bool) -> tuple[int, int, int]:
    """Tag, bytes of the header and length of the value of the element at ``at``."""
    group, element = struct.unpack_from("<HH", raw, at)
    number = group << 16 | element
    if implicit or group == 0xFFFE:
        return number, 8, struct.unpack_from("<L", raw, at + 4)[0]
    representation = raw[at + 4 : at + 6]
    if not (representation.isalpha() and representation.isupper()):
        raise ValueError("no value representation")
    if representation in LONG_VR:
        return number, 12, struct.unpack_from("<L", raw, at + 8)[0]
    return number, 8, struct.unpack_from("<H", raw, at + 6)[0]


def _sequence_end(raw: bytes, at: int, *, implicit: bool) -> int:
    """Where a sequence of undefined length ends; what is inside is stepped over."""
    depth = 1
    for _ in range(_MOST_ELEMENTS):
        number, head, length = _element(raw, at, implicit=implicit)
        at += head
        if number in {_ITEM_END, _SEQUENCE_END}:
            depth -= 1
            if not depth:
                return at
        elif length == UNDEFINED:
            depth += 1
            if depth > _DEEPEST:
                raise ValueError("nested too deep")
        else:
            at += length
    raise ValueError("too many elements")
