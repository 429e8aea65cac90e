"""The pixel data of one DICOM object: what the header says about it, and its frames as codes or RGB.

In: the bytes of Pixel Data and the attributes that describe them. Out: :class:`GreyFrame` or
:class:`ColorFrame`. Knows nothing of windows or patients.

References
----------
DICOM PS3.3 C.7.6.3 (image pixel), PS3.5 8 (encoding of pixel data).
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from viewers.codestream import CodestreamHeader, Fragments, frame_bytes
from viewers.decoder import Codec, FrameShape, decode, native_values
from viewers.errors import TruncatedFileError, UnsupportedImageError
from viewers.findings import Finding, finding
from viewers.image import ColorFrame, Frame, GreyFrame
from viewers.window import CODES, CodeMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viewers.color_profile import ColorTransform
    from viewers.luts import Lut
    from viewers.mosaic import Mosaic

__all__ = ["DicomFrames", "Palette", "PixelFormat", "Rescale"]

_LARGEST = 1e30
SIGNED_OFFSET = 32768
"""Code of the stored value 0 in signed data."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Attributes that describe the stored values, checked against each other."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    frame_count: int
    is_float: bool = False

    @property
    def is_color(self) -> bool:
        """Whether frames are shown in colour."""
        return self.samples == 3 or self.photometric == "PALETTE COLOR"

    @property
    def offset(self) -> int:
        """Code of the stored value 0, for up to 16 bits."""
        return SIGNED_OFFSET if self.signed else 0

    @property
    def stored_codes(self) -> tuple[int, int]:
        """Smallest and largest code that ``bits_stored`` can hold; all codes when values are quantised."""
        if self.is_float or self.bits_stored > 16:
            return 0, CODES - 1
        if self.signed:
            half = 2 ** (self.bits_stored - 1)
            return SIGNED_OFFSET - half, SIGNED_OFFSET + half - 1
        return 0, 2**self.bits_stored - 1

    @property
    def native_frame_bits(self) -> int:
        """Bits of one uncompressed frame; 4:2:2 subsampling stores two samples for each pixel."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated

    def shape(self, index: int) -> FrameShape:
        """Shape of frame ``index`` once decoded."""
        return FrameShape(index, self.rows, self.columns, self.samples, self.bits_allocated, self.bits_stored)


@dataclass(frozen=True, slots=True)
class Rescale:
    """Stored value to modality value of one frame."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """Colours, uint8 of shape (entries, 3), for the stored values from ``first`` on."""

    first: int
    colors: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class DicomFrames:
    """Frames of one object; holds its pixel data and nothing else of its header."""

    format: PixelFormat
    data: memoryview
    codec: Codec
    fragments: Fragments | None
    """``None`` for uncompressed data."""
    order: str
    """Byte order of uncompressed data, ``<`` or ``>``."""
    rescale: tuple[Rescale, ...]
    """One for each frame, or one for all."""
    modality_lut: Lut | None
    padding: tuple[float, float] | None
    """Stored values that are padding, low and high."""
    palette: Palette | None
    profile: ColorTransform | None = None
    """From the file's colours to sRGB; ``None`` when they are sRGB or say nothing."""
    mosaic: Mosaic | None = None
    """Slices the one stored picture is made of; :meth:`read` gives these then."""
    hidden: NDArray[np.bool_] | None = None
    """Pixels outside of the display shutter, shape (rows, columns); ``None`` when there is none."""
    _noticed: dict[str, Finding] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noticed in the frames read so far, one of each kind."""
        return tuple(self._noticed.values())

    def read(self, index: int) -> Frame:
        """Decode one frame; see :class:`viewers.image.FrameSource`."""
        if self.mosaic is None:
            return self._read(index)
        frame = self._whole
        if isinstance(frame, ColorFrame):
            return ColorFrame(_frozen(self.mosaic.cut(frame.rgb, index)))
        return GreyFrame(_frozen(self.mosaic.cut(frame.codes, index)), frame.code_map)

    @functools.cached_property
    def _whole(self) -> Frame:
        """All slices of a mosaic as they were stored."""
        return self._read(0)

    def _read(self, index: int) -> Frame:
        values, header = self._stored(index)
        if self.format.samples == 3:
            return self._color(_to_rgb(values, self.format, header))
        if self.palette is not None:
            return self._color(_colored(self._integers(values), self.palette))
        return self._shut(self._grey(index, values))

    def _shut(self, frame: Frame) -> Frame:
        """Apply the display shutter: black in colour, padding in grey, so that it is never measured."""
        if self.hidden is None:
            return frame
        if isinstance(frame, ColorFrame):
            return ColorFrame(_frozen(np.where(self.hidden[:, :, None], np.uint8(0), frame.rgb)))
        code_map = frame.code_map
        padding = code_map.padding
        if padding is None:
            # A code the stored bits cannot hold; with all 16 in use, the smallest one.
            low, high = self.format.stored_codes
            unused = high + 1 if high + 1 < CODES else max(low - 1, 0)
            padding = (unused, unused)
        codes = np.where(self.hidden, np.uint16(padding[0]), frame.codes)
        return GreyFrame(_frozen(codes), replace(code_map, padding=padding))

    def meaning(self) -> tuple[bytes, ...]:
        """Everything besides the encoded pixels that decides how frames come out, for a content hash."""
        said: tuple[object, ...] = (self.format, self.order, self.rescale, self.padding)
        if self.mosaic is not None:
            said = (*said, self.mosaic)
        lut, palette = self.modality_lut, self.palette
        return (
            repr(said).encode(),
            b"" if lut is None else repr(lut.first).encode() + lut.table.tobytes(),
            b"" if palette is None else repr(palette.first).encode() + palette.colors.tobytes(),
            b"" if self.profile is None else self.profile.identity,
            b"" if self.hidden is None else np.packbits(self.hidden).tobytes(),
        )

    def _color(self, rgb: NDArray[np.uint8]) -> Frame:
        return self._shut(ColorFrame(_frozen(rgb if self.profile is None else self.profile.apply(rgb))))

    def _notice(self, name: str, **values: str | float) -> None:
        with self._lock:
            self._noticed.setdefault(name, finding(name, **values))

    def _stored(self, index: int) -> tuple[NDArray[Any], CodestreamHeader | None]:
        if self.fragments is None:
            return self._native(index), None
        values, header = decode(
            self.codec, frame_bytes(self.data, self.fragments[index]), self.format.shape(index)
        )
        if header is not None and header.coding != self.codec.codec:
            self._notice("codestream_differs", found=header.coding, stated=self.codec.codec)
        return values, header

    def words(self, index: int) -> NDArray[Any] | None:
        """Words of an uncompressed grey frame as they stand in the file, with their unused bits."""
        fmt = self.format
        if self.fragments is not None or fmt.samples != 1 or fmt.is_float or fmt.bits_allocated < 8:
            return None
        return self._native(index)

    def _native(self, index: int) -> NDArray[Any]:
        fmt = self.format
        start = index * fmt.native_frame_bits
        if fmt.bits_allocated == 1:
            # Frames of 1 bit follow each other without a gap, not on byte boundaries (PS3.5 8.1.1).
            first, skip = divmod(start, 8)
            last = (start + fmt.native_frame_bits + 7) // 8
            bits = np.unpackbits(np.frombuffer(self.data[first:last], np.uint8), bitorder="little")
            return bits[skip : skip + fmt.native_frame_bits].reshape(fmt.rows, fmt.columns)
        data = self.data[start // 8 : start // 8 + fmt.native_frame_bits // 8]
        if fmt.photometric == "YBR_FULL_422":
            return _unsubsampled(data, fmt)
        kind = "f" if fmt.is_float else "u"
        return native_values(data, fmt.shape(index), planar=fmt.planar, order=self.order, kind=kind)

    def _shifted(self, values: NDArray[Any]) -> NDArray[Any]:
        """Take the bits as unsigned, moved down when they are not the lowest of their word."""
        bits = values
        if values.dtype.kind == "i":
            # A signed codestream may have fewer bits than the dataset allocates: widen, then drop the sign.
            size = max(values.itemsize, self.format.bits_allocated // 8)
            bits = values.astype(f"i{size}").view(f"u{size}")
        shift = self.format.high_bit + 1 - self.format.bits_stored if self.fragments is None else 0
        return bits >> shift if shift > 0 else bits

    def _integers(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Remove unused bits and extend the sign."""
        bits = self._shifted(values).astype(np.int64)
        return _signed_bits(bits, self.format.bits_stored, signed=self.format.signed)

    def _codes(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Do the same for up to 16 bits without leaving 16 bits: mammograms have 30 million pixels."""
        stored = self.format.bits_stored
        codes = self._shifted(values).astype(np.uint16, copy=False)
        if stored < 16:
            codes = codes & np.uint16(2**stored - 1)
        if not self.format.signed:
            return np.asarray(codes)
        sign = 2 ** (stored - 1)
        codes = codes ^ np.uint16(sign)
        if stored < 16:
            codes += np.uint16(SIGNED_OFFSET - sign)
        return np.asarray(codes)

    def _grey(self, index: int, values: NDArray[Any]) -> GreyFrame:
        rescale = self.rescale[index if len(self.rescale) > 1 else 0]
        if self.format.is_float:
            return self._quantised(values.astype(np.float64), rescale)
        if self.format.bits_stored > 16:
            return self._quantised(self._integers(values), rescale)
        return GreyFrame(_frozen(self._codes(values)), self._code_map(rescale))

    def _code_map(self, rescale: Rescale) -> CodeMap:
        offset = self.format.offset
        padding = None
        if self.padding is not None:
            low, high = (
                int(_signed_bits(np.asarray(int(value)), self.format.bits_stored, signed=self.format.signed))
                + offset
                for value in self.padding
            )
            padding = (min(low, high), max(low, high))
        if self.modality_lut is None:
            return CodeMap(float(offset), rescale.slope, rescale.intercept, padding=padding)
        return CodeMap(float(offset), table=self._lut_values, padding=padding)

    @functools.cached_property
    def _lut_values(self) -> NDArray[np.float64]:
        lut = self.modality_lut
        assert lut is not None  # noqa: S101 - for the type checker: only asked for when there is one
        index = np.clip(np.arange(CODES) - self.format.offset - lut.first, 0, lut.table.size - 1)
        return lut.table[index].astype(np.float64)

    def _quantised(self, values: NDArray[Any], rescale: Rescale) -> GreyFrame:
        """Codes for values of more than 16 bits: exact if they span few enough, else in equal steps.

        Code 0 is kept for padding and for what is not a number; values start at code 1.
        """
        # Not a number, infinite, or one of the huge numbers that stand for nothing was measured.
        outside = ~(np.abs(values) < _LARGEST)
        if outside.any():
            self._notice("values_clipped", count=int(outside.sum()))
        if self.padding is not None:
            outside |= (values >= self.padding[0]) & (values <= self.padding[1])
        inside = values[~outside]
        low, high = (inside.min(), inside.max()) if inside.size else (0, 0)
        whole = not self.format.is_float and int(high) - int(low) < CODES - 1
        step = 1.0 if whole or high == low else (float(high) - float(low)) / (CODES - 2)
        if not whole and high != low:
            self._notice("quantised", step=step * abs(rescale.slope))
        with np.errstate(invalid="ignore"):
            scaled = np.rint((values - low) / step) + 1
        codes = np.where(outside, 0, scaled).astype(np.uint16)
        code_map = CodeMap(
            1.0, step * rescale.slope, float(low) * rescale.slope + rescale.intercept, padding=(0, 0)
        )
        return GreyFrame(_frozen(codes), code_map)


def _frozen(pixels: NDArray[Any]) -> NDArray[Any]:
    pixels = np.ascontiguousarray(pixels)
    pixels.setflags(write=False)
    return pixels


def _signed_bits(bits: NDArray[np.int64], stored: int, *, signed: bool) -> NDArray[np.int64]:
    """Keep the low ``stored`` bits; as two's complement when signed."""
    bits = bits & (2**stored - 1)
    if not signed:
        return bits
    sign = 2 ** (stored - 1)
    return np.asarray((bits ^ sign) - sign)


def _colored(stored: NDArray[np.int64], palette: Palette) -> NDArray[np.uint8]:
    return palette.colors[np.clip(stored - palette.first, 0, len(palette.colors) - 1)]


def _to_rgb(values: NDArray[Any], fmt: PixelFormat, header: CodestreamHeader | None) -> NDArray[np.uint8]:
    eight = _eight_bits(values, fmt.bits_stored)
    return _ybr_to_rgb(eight) if _is_ybr(fmt.photometric, header) else eight


def _eight_bits(values: NDArray[Any], stored: int) -> NDArray[np.uint8]:
    if stored == 8:
        return values.astype(np.uint8)
    most = 2**stored - 1
    wide = values.astype(np.uint64) & np.uint64(most)
    return ((wide * np.uint64(255) + np.uint64(most // 2)) // np.uint64(most)).astype(np.uint8)


def _is_ybr(photometric: str, header: CodestreamHeader | None) -> bool:
    """Whether decoded samples are still luminance and chrominance.

    A JPEG codestream that names its colour space is believed before the header, as is a JPEG 2000
    codestream that rotates its components itself: its decoder has rotated them back.
    """
    if header is not None and header.coding == "jpeg8" and header.color_transform is not None:
        return header.color_transform
    if header is not None and header.coding == "jpeg2k" and header.color_transform:
        return False
    if header is not None and header.coding == "jpeg8":
        return photometric.startswith("YBR")
    return photometric in {"YBR_FULL", "YBR_FULL_422"}


def _ybr_to_rgb(ybr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Inverse of the equations of PS3.3 C.7.6.3.1.2 (YBR_FULL), rounded half to even."""
    luma = ybr[..., 0].astype(np.float64)
    blue, red = (ybr[..., channel].astype(np.float64) - 128.0 for channel in (1, 2))
    rgb = np.stack(
        [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1
    )
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _unsubsampled(data: memoryview, fmt: PixelFormat) -> NDArray[np.uint8]:
    """Y Y B R groups to one B and R for each pixel (PS3.3 C.7.6.3.1.2, YBR_FULL_422)."""
    if fmt.bits_allocated != 8 or fmt.columns % 2:
        raise UnsupportedImageError(
            found=f"YBR_FULL_422, {fmt.bits_allocated} bits", expected="8 bits, even width"
        )
    if len(data) < fmt.native_frame_bits // 8:
        raise TruncatedFileError(part="pixels", found=len(data), expected=fmt.native_frame_bits // 8)
    groups = np.frombuffer(data, np.uint8).reshape(fmt.rows, fmt.columns // 2, 4)
    full = np.empty((fmt.rows, fmt.columns // 2, 2, 3), np.uint8)
    full[..., 0] = groups[..., :2]
    full[..., 1] = groups[..., None, 2]
    full[..., 2] = groups[..., None, 3]
    return full.reshape(fmt.rows, fmt.columns, 3)
