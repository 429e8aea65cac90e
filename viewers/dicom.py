"""One DICOM file to an :class:`~viewers.image.Image`: checked, repaired where that is safe, de-identified.

The dataset lives only inside :func:`open_dicom`. What leaves is pixel data and allow-listed facts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers import attributes as read
from viewers import display
from viewers.codestream import read_header, split_fragments
from viewers.dataset import parse
from viewers.decoder import CODECS, Codec, require
from viewers.elements import UNDEFINED
from viewers.errors import (
    CorruptHeaderError,
    CorruptPixelDataError,
    NoPixelDataError,
    TooLargeError,
    TruncatedFileError,
    UnsupportedImageError,
)
from viewers.findings import finding
from viewers.geometry import SizePx
from viewers.image import GreyFrame, Image, ImageFacts, digest_beside
from viewers.luts import modality_lut, palette
from viewers.mosaic import find_mosaic, is_mosaic, mosaic_planes
from viewers.origin import origin_of
from viewers.overlays import overlay_groups, read_overlays
from viewers.pixels import DicomFrames, Palette, PixelFormat
from viewers.places import frame_passes, frame_planes
from viewers.record import facts_to_json
from viewers.shutter import hidden_pixels
from viewers.silence import collected_warnings
from viewers.skim import skim

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset

    from viewers.codestream import Fragments
    from viewers.color_profile import ColorTransform
    from viewers.dataset import ParsedFile
    from viewers.image import FrameDisplay
    from viewers.limits import Limits
    from viewers.mosaic import Mosaic
    from viewers.stack import SlicePlane

__all__ = ["describe", "object_kind", "open_dicom"]

_GREY: Final = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOR: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
_PIXELS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_ITEM: Final = b"\xfe\xff\x00\xe0"
_BYTE: Final = 8
_CODED_BITS: Final = 16
"""Most bits of stored values that codes can stand for; more are quantised."""
_IMAGE_STORAGE: Final = "Image Storage"


def open_dicom(raw: bytes, limits: Limits, key: bytes | None = None) -> Image:
    """Open a DICOM file's bytes; its first frame is decoded to prove that it can be.

    Parameters
    ----------
    key : bytes, optional
        For pseudonyms of what it belongs to; without one that is not kept.

    Raises
    ------
    OpenError
        With the reason; see the tree in :mod:`viewers.errors`.
    """
    with collected_warnings() as caught:
        parsed = _parsed(raw, limits)
        frames, facts_of = describe(parsed, limits)
        warned = len({str(warning.message) for warning in caught})
    if warned:
        parsed.findings.append(finding("header_warnings", count=warned))
    first = frames.read(0)
    facts = facts_of(frames)
    digest = digest_beside(facts_to_json(facts, findings=False), frames.data, *frames.meaning())
    image = Image(facts, frames, digest, first)
    return image if key is None else image.belonging(origin_of(parsed.dataset, key))


def _parsed(raw: bytes, limits: Limits) -> ParsedFile:
    """Parse what describes the pixels; the whole header only where that cannot be told from the rest."""
    skimmed = skim(raw, overlays=limits.graphics)
    if skimmed is None or skimmed.pixels is None or skimmed.pixels[2] == UNDEFINED:
        return parse(raw, limits)
    _, at, length = skimmed.pixels
    try:
        return skimmed.parsed(memoryview(raw)[at : at + length])
    except read.PARSER_FAILURES:
        return parse(raw, limits)  # which tells what is damaged


def describe(parsed: ParsedFile, limits: Limits) -> tuple[DicomFrames, Callable[[DicomFrames], ImageFacts]]:
    """Check a dataset's pixels against its attributes; nothing is decoded yet.

    Returns
    -------
    frames : DicomFrames
    facts_of : callable
        Makes the image's facts, with what was noticed in the frames read until then.

    Raises
    ------
    OpenError
        With the reason; see the tree in :mod:`viewers.errors`.
    """
    dataset, found = parsed.dataset, parsed.findings
    keyword = _pixel_keyword(parsed)
    fmt = _full_color(parsed, _pixel_format(dataset, keyword), keyword)
    _check_limits(fmt, limits)
    frames = _frames(parsed, fmt, keyword)
    mosaic = _mosaic(parsed, frames)
    shown = fmt
    if mosaic is not None:
        frames = replace(frames, mosaic=mosaic)
        shown = replace(fmt, rows=mosaic.rows, columns=mosaic.columns, frame_count=mosaic.count)
    spacing = display.spacing(dataset, found)
    displays = display.frame_displays(dataset, shown, big_endian=parsed.big_endian, found=found)
    displays = _overlaid(parsed, frames, displays, limits)
    planes: tuple[SlicePlane | None, ...] = (
        frame_planes(dataset, fmt.frame_count)
        if mosaic is None
        else mosaic_planes(dataset, mosaic, (fmt.rows, fmt.columns))
    )
    _more_findings(parsed, frames)
    plain = frames.modality_lut is None and all(
        scale.slope == 1 and not scale.intercept for scale in frames.rescale
    )
    values: dict[str, Any] = {
        "kind": "dicom",
        "modality": display.modality(dataset),
        "facts": display.technical_facts(dataset),
        "size": SizePx(shown.columns, shown.rows),
        "is_color": fmt.is_color,
        "spacing": spacing,
        "pixel_aspect": display.pixel_aspect(dataset, spacing),
        "inverted_by_default": not fmt.is_color and display.inverted(dataset, fmt.photometric),
        "stored_codes": fmt.stored_codes,
        "prefers_stored": plain and fmt.bits_stored <= 8 and not display.is_label_map(dataset),
        "frames": displays,
        "planes": planes,
        "passes": frame_passes(dataset, planes),
        "times_s": display.frame_times(dataset, fmt),
        "calibrated": display.calibrated_regions(dataset, fmt),
    }
    return frames, lambda read_frames: ImageFacts(findings=(*found, *read_frames.findings), **values)


def _mosaic(parsed: ParsedFile, frames: DicomFrames) -> Mosaic | None:
    """Tell how a mosaic is laid out; its pixels are decoded only where nothing else says it."""
    fmt = frames.format
    if fmt.frame_count != 1 or not is_mosaic(parsed.dataset):
        return None
    found = find_mosaic(parsed.dataset, fmt.rows, fmt.columns)
    if found is not None or fmt.is_color:
        return found
    frame = frames.read(0)
    assert isinstance(frame, GreyFrame)  # noqa: S101 - for the type checker: colour was left out above
    return find_mosaic(parsed.dataset, fmt.rows, fmt.columns, frame.codes != frame.codes.min())


def _overlaid(
    parsed: ParsedFile, frames: DicomFrames, displays: tuple[FrameDisplay, ...], limits: Limits
) -> tuple[FrameDisplay, ...]:
    """Add overlays to what is known of frames, where they may be kept."""
    count = len(overlay_groups(parsed.dataset))
    if not count:
        return displays
    if not limits.graphics:
        parsed.findings.append(finding("overlays_left_out", count=count))
        return displays
    layers = read_overlays(parsed.dataset, len(displays), frames.words, big_endian=parsed.big_endian)
    read_groups = {layer.group for frame in layers for layer in frame}
    if read_groups:
        parsed.findings.append(finding("overlays", count=len(read_groups)))
    return tuple(replace(shown, overlays=own) for shown, own in zip(displays, layers, strict=True))


def _more_findings(parsed: ParsedFile, frames: DicomFrames) -> None:
    codec = frames.codec
    if frames.hidden is not None:
        parsed.findings.append(finding("shutter_applied"))
    if is_mosaic(parsed.dataset):
        split = frames.mosaic
        parsed.findings.append(
            finding("mosaic") if split is None else finding("mosaic_split", count=split.count)
        )
    burned_in = display.burned_in(parsed.dataset)
    if burned_in is not None:
        parsed.findings.append(burned_in)
    if codec.lossy or read.code(parsed.dataset, "LossyImageCompression", {"01"}):
        parsed.findings.append(finding("lossy"))


def _pixel_keyword(parsed: ParsedFile) -> str:
    dataset = parsed.dataset
    if parsed.pixels is not None:
        return "PixelData"
    for keyword in _PIXELS:
        if read.get(dataset, keyword) is not None:
            return keyword
    kind = object_kind(dataset, parsed.media_class)
    short = read.cut_short(dataset)
    if short is not None:
        raise TruncatedFileError(part="attributes", found=short[0], expected=short[1])
    if read.get(dataset, "Rows") is not None or kind.endswith(_IMAGE_STORAGE):
        raise TruncatedFileError(part="pixels", found=0, expected="> 0")
    raise NoPixelDataError(found=kind or display.modality(dataset) or "?")


def object_kind(dataset: Dataset, media_class: str) -> str:
    """Return the SOP class's name in the standard; empty when it is absent or not the standard's."""
    from pydicom.uid import UID, UID_dictionary

    sop_class = read.uid(dataset, "SOPClassUID") or media_class
    return str(UID(sop_class).name) if sop_class in UID_dictionary else ""


def _needed(dataset: Dataset, keyword: str, lowest: int, highest: int, default: int | None = None) -> int:
    value = read.integer(dataset, keyword)
    if value is None:
        value = default
    if value is None or not lowest <= value <= highest:
        raise CorruptHeaderError(
            attribute=keyword, found="?" if value is None else value, expected=f"{lowest}-{highest}"
        )
    return value


def _pixel_format(dataset: Dataset, keyword: str) -> PixelFormat:
    """Check the attributes of the image pixel module (PS3.3 C.7.6.3.1)."""
    samples = _needed(dataset, "SamplesPerPixel", 1, 4, 1)
    stated = (read.texts(dataset, "PhotometricInterpretation") or [""])[0].upper()
    photometric = stated if stated in _GREY | _COLOR | {"PALETTE COLOR"} else ""
    if not stated:
        raise CorruptHeaderError(
            attribute="PhotometricInterpretation", found="?", expected="PS3.3 C.7.6.3.1.2"
        )
    fits = photometric in _COLOR if samples == 3 else photometric not in _COLOR and samples == 1
    if not fits or not photometric:
        kind = read.code(
            dataset,
            "PhotometricInterpretation",
            {"ARGB", "CMYK", "HSV", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB"},
        )
        text = f"{samples} x {photometric or kind or '?'}"
        raise UnsupportedImageError(found=text, expected="1 x MONOCHROME1/2, PALETTE COLOR; 3 x RGB, YBR")
    is_float = keyword != "PixelData"
    allocated = _needed(dataset, "BitsAllocated", 1, 64)
    if allocated not in ({32, 64} if is_float else {1, 8, 16, 32}):
        raise UnsupportedImageError(found=f"BitsAllocated {allocated}", expected="1, 8, 16, 32")
    stored = read.integer(dataset, "BitsStored")
    stored = stored if stored is not None and 1 <= stored <= allocated else allocated
    high = read.integer(dataset, "HighBit")
    return PixelFormat(
        rows=_needed(dataset, "Rows", 1, 2**32 - 1),
        columns=_needed(dataset, "Columns", 1, 2**32 - 1),
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high if high is not None and stored - 1 <= high < allocated else stored - 1,
        signed=_needed(dataset, "PixelRepresentation", 0, 1, 0) == 1,
        planar=samples == 3 and _needed(dataset, "PlanarConfiguration", 0, 1, 0) == 1,
        frame_count=max(_needed(dataset, "NumberOfFrames", 0, 2**31 - 1, 1), 1),
        is_float=is_float,
    )


def _full_color(parsed: ParsedFile, fmt: PixelFormat, keyword: str) -> PixelFormat:
    """Read native pixels as YBR_FULL where the label says 4:2:2 and the length that none is left out."""
    if fmt.photometric != "YBR_FULL_422" or fmt.bits_allocated != _BYTE:
        return fmt
    data = _pixel_bytes(parsed, fmt, keyword)
    whole = fmt.rows * fmt.columns * fmt.samples * fmt.frame_count
    if bytes(data[:4]) == _ITEM or len(data) not in {whole, whole + 1}:
        return fmt
    parsed.findings.append(finding("color_not_halved"))
    return replace(fmt, photometric="YBR_FULL")


def _check_limits(fmt: PixelFormat, limits: Limits) -> None:
    """Refuse before anything of that size is allocated."""
    decoded = fmt.rows * fmt.columns * fmt.frame_count * (3 if fmt.is_color else 2)
    for quantity, found, limit in (
        ("pixels per frame", fmt.rows * fmt.columns, limits.pixels_per_frame),
        ("frames", fmt.frame_count, limits.frames),
        ("decoded bytes", decoded, limits.decoded_bytes),
    ):
        if found > limit:
            raise TooLargeError(quantity=quantity, found=found, limit=limit)


def _frames(parsed: ParsedFile, fmt: PixelFormat, keyword: str) -> DicomFrames:
    dataset = parsed.dataset
    data = _pixel_bytes(parsed, fmt, keyword)
    codec, fragments = _coding(parsed, fmt, data)
    order = ">" if parsed.big_endian else "<"
    lookup = {"signed": fmt.signed, "big_endian": parsed.big_endian}
    colors = palette(dataset, **lookup) if fmt.photometric == "PALETTE COLOR" else None
    if fmt.photometric == "PALETTE COLOR" and colors is None:
        raise CorruptHeaderError(
            attribute="PaletteColorLookupTableData", found="?", expected="PS3.3 C.7.6.3.1.6"
        )
    return DicomFrames(
        format=fmt,
        data=data,
        codec=codec,
        fragments=fragments,
        order=order if fmt.bits_allocated > 8 else "<",
        rescale=display.rescales(dataset, fmt.frame_count, parsed.findings),
        modality_lut=None
        if fmt.is_color or display.shows_stored(dataset)
        else modality_lut(dataset, **lookup),
        padding=_padding(dataset, keyword, fmt),
        palette=None if colors is None else Palette(*colors),
        profile=_profile(parsed) if fmt.is_color else None,
        hidden=hidden_pixels(dataset, fmt.rows, fmt.columns),
    )


def _profile(parsed: ParsedFile) -> ColorTransform | None:
    """Return the transform to sRGB that the file's ICC profile asks for (PS3.3 C.11.15)."""
    profile = read.get(parsed.dataset, "ICCProfile")
    if not isinstance(profile, bytes):
        return None
    from viewers.color_profile import color_transform

    try:
        made = color_transform(profile)
    except ValueError:
        parsed.findings.append(finding("color_profile_unusable"))
        return None
    if made is not None:
        parsed.findings.append(finding("color_profile_applied"))
    return made


def _pixel_bytes(parsed: ParsedFile, fmt: PixelFormat, keyword: str) -> memoryview:
    if parsed.pixels is not None:
        return parsed.pixels
    value = read.get(parsed.dataset, keyword)
    if not isinstance(value, bytes):
        raise CorruptHeaderError(attribute=keyword, found="?", expected="bytes")
    if parsed.big_endian and fmt.bits_allocated <= 8 and read.vr(parsed.dataset, keyword) == "OW":
        value = _swapped(value)
    return memoryview(value)


def _swapped(value: bytes) -> bytes:
    """Put bytes in pixel order: a big-endian word of two pixels holds the first one last (PS3.5 8.1.1)."""
    even = value if len(value) % 2 == 0 else value + b"\0"
    return np.frombuffer(even, ">u2").astype("<u2").tobytes()


def _padding(dataset: Dataset, keyword: str, fmt: PixelFormat) -> tuple[float, float] | None:
    """Return the padding value and the other end of its range (PS3.3 C.7.5.1.1.2, C.7.6.24).

    Values that the stored bits cannot hold stand for no pixel: they are left out of the range.
    """
    prefix = keyword.removesuffix("Data")
    value = read.number(dataset, f"{prefix}PaddingValue")
    if value is None:
        return None
    limit = read.number(dataset, f"{prefix}PaddingRangeLimit")
    ends = (value, value if limit is None else limit)
    if fmt.is_float or fmt.bits_stored > _CODED_BITS:
        return min(ends), max(ends)
    low, high = sorted(_encoded(end, fmt) for end in ends)
    lowest, highest = (code - fmt.offset for code in fmt.stored_codes)
    if low > highest or high < lowest:
        return None
    if lowest <= low and high <= highest:
        return min(ends), max(ends)
    return max(low, lowest), min(high, highest)


def _encoded(value: float, fmt: PixelFormat) -> float:
    """Read a padding value with the sign of the pixels: it is often written with the other one's VR."""
    if not fmt.signed:
        return value + 2.0**fmt.bits_allocated if value < 0 else value
    for bits in (fmt.bits_stored, fmt.bits_allocated):
        if 2 ** (bits - 1) <= value < 2**bits:
            return value - 2.0**bits
    return value


def _coding(parsed: ParsedFile, fmt: PixelFormat, data: memoryview) -> tuple[Codec, Fragments | None]:
    """How the pixels are really coded; a label that contradicts the data is repaired and noticed."""
    expected = (fmt.native_frame_bits * fmt.frame_count + 7) // 8
    encapsulated = bytes(data[:4]) == _ITEM and len(data) != expected
    stated = CODECS.get(parsed.transfer_syntax)
    if (
        not encapsulated
        and (stated is None or stated.codec != "none")
        and len(data) in {expected, expected + 1}
    ):
        parsed.findings.append(finding("transfer_syntax_repaired", used="1.2.840.10008.1.2.1"))
        stated = CODECS["1.2.840.10008.1.2.1"]
    if encapsulated and (stated is None or stated.codec == "none"):
        stated = _sniffed(parsed, data)
    codec = stated or require(parsed.transfer_syntax)
    require(codec.uid)
    if codec.codec == "none":
        if len(data) < expected:
            raise TruncatedFileError(part="pixels", found=len(data), expected=expected)
        return codec, None
    try:
        return codec, split_fragments(data, fmt.frame_count)
    except ValueError as error:
        raise CorruptPixelDataError(frame=1, reason=str(error)) from error


def _sniffed(parsed: ParsedFile, data: memoryview) -> Codec:
    """Codec of encapsulated data whose transfer syntax is missing or says it is not compressed."""
    try:
        start, stop = split_fragments(data, 1)[0][0]
    except ValueError as error:
        raise CorruptPixelDataError(frame=1, reason=str(error)) from error
    header = read_header(bytes(data[start:stop]))
    if header is None:
        return require(parsed.transfer_syntax)
    used = next(
        codec
        for codec in CODECS.values()
        if codec.codec == header.coding and (codec.lossy or header.coding != "jpeg8")
    )
    parsed.findings.append(finding("transfer_syntax_repaired", used=used.uid))
    return used
