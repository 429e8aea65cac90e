"""Compressed frames in, arrays of stored values out; codecs are imagecodecs' or the standard library's.

pydicom reads the dataset; the pixels are decoded here, so that no other decoder that happens to be
installed is ever chosen, and the size a codestream asks for is checked before anything is allocated.
"""

from __future__ import annotations

import importlib.util
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from viewers.codestream import read_header
from viewers.errors import (
    CorruptPixelDataError,
    DecompressionBombError,
    MissingDecoderError,
    TruncatedFileError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viewers.codestream import CodestreamHeader

__all__ = ["CODECS", "Codec", "DecoderStatus", "FrameShape", "decode", "decoders", "require"]

CodecName = Literal[
    "none", "rle", "deflate", "jpeg8", "ljpeg", "jpegls", "jpeg2k", "jpegxl", "video", "remote"
]

_FLAGS: Final = {
    "jpeg8": "JPEG8",
    "ljpeg": "LJPEG",
    "jpegls": "JPEGLS",
    "jpeg2k": "JPEG2K",
    "jpegxl": "JPEGXL",
}
"""Class of imagecodecs that says whether the codec was compiled in."""

_FAILURES: Final = (RuntimeError, ValueError, TypeError, IndexError, OverflowError, MemoryError, zlib.error)
"""What imagecodecs and zlib raise on damaged input; its own errors are RuntimeErrors."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A transfer syntax and what decodes it."""

    uid: str
    name: str
    codec: CodecName
    lossy: bool = False


_CODECS: Final = (
    Codec("1.2.840.10008.1.2", "Implicit VR Little Endian", "none"),
    Codec("1.2.840.10008.1.2.1", "Explicit VR Little Endian", "none"),
    Codec("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", "none"),
    Codec("1.2.840.10008.1.2.2", "Explicit VR Big Endian", "none"),
    Codec("1.2.840.10008.1.2.5", "RLE Lossless", "rle"),
    Codec("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression", "deflate"),
    Codec("1.2.840.10008.1.2.4.50", "JPEG Baseline", "jpeg8", lossy=True),
    Codec("1.2.840.10008.1.2.4.51", "JPEG Extended", "jpeg8", lossy=True),
    Codec("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection, retired", "jpeg8", lossy=True),
    Codec("1.2.840.10008.1.2.4.55", "JPEG Full Progression, retired", "jpeg8", lossy=True),
    Codec("1.2.840.10008.1.2.4.57", "JPEG Lossless", "ljpeg"),
    Codec("1.2.840.10008.1.2.4.70", "JPEG Lossless SV1", "ljpeg"),
    Codec("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", "jpegls"),
    Codec("1.2.840.10008.1.2.4.81", "JPEG-LS Near-lossless", "jpegls", lossy=True),
    Codec("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", "jpeg2k"),
    Codec("1.2.840.10008.1.2.4.91", "JPEG 2000", "jpeg2k", lossy=True),
    Codec("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Lossless", "jpeg2k"),
    Codec("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2", "jpeg2k", lossy=True),
    Codec("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless", "jpeg2k"),
    Codec("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000 RPCL Lossless", "jpeg2k"),
    Codec("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000", "jpeg2k", lossy=True),
    Codec("1.2.840.10008.1.2.4.110", "JPEG XL Lossless", "jpegxl"),
    Codec("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression", "jpegxl", lossy=True),
    Codec("1.2.840.10008.1.2.4.112", "JPEG XL", "jpegxl", lossy=True),
    Codec("1.2.840.10008.1.2.4.94", "JPIP Referenced", "remote"),
    Codec("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", "remote"),
    Codec("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced", "remote"),
    Codec("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", "remote"),
    Codec("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level", "video", lossy=True),
    Codec("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level", "video", lossy=True),
    Codec("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile", "video", lossy=True),
    Codec("1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible", "video", lossy=True),
    Codec("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile", "video", lossy=True),
    Codec("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile", "video", lossy=True),
)
CODECS: Final[dict[str, Codec]] = {codec.uid: codec for codec in _CODECS}
"""Every transfer syntax known here, by UID."""


@dataclass(frozen=True, slots=True)
class DecoderStatus:
    """One line of :func:`decoders`."""

    uid: str
    name: str
    available: bool
    plugin: str
    """What decodes it; empty when nothing does."""
    missing: str
    """What would have to be installed; empty when nothing, or when no package helps."""


@dataclass(frozen=True, slots=True)
class FrameShape:
    """What the dataset says a decoded frame is."""

    index: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int

    @property
    def nbytes(self) -> int:
        """Bytes of one native frame; frames of 1 bit are rounded up to whole bytes."""
        return (self.rows * self.columns * self.samples * self.bits_allocated + 7) // 8


def decoders() -> list[DecoderStatus]:
    """List which transfer syntaxes can be decoded on this machine, and by what."""
    return [_status(codec) for codec in CODECS.values()]


def _status(codec: Codec) -> DecoderStatus:
    if codec.codec in {"video", "remote"}:
        return DecoderStatus(codec.uid, codec.name, available=False, plugin="", missing="")
    if codec.codec in {"none", "deflate"}:
        plugin = "numpy" if codec.codec == "none" else "zlib"
        return DecoderStatus(codec.uid, codec.name, available=True, plugin=plugin, missing="")
    available = _compiled(codec.codec)
    return DecoderStatus(
        codec.uid,
        codec.name,
        available,
        "imagecodecs" if available else "",
        "" if available else "imagecodecs",
    )


def _compiled(codec: str) -> bool:
    if importlib.util.find_spec("imagecodecs") is None:
        return False
    import imagecodecs

    return codec == "rle" or bool(getattr(imagecodecs, _FLAGS[codec]).available)


def require(uid: str) -> Codec:
    """Return the codec of a transfer syntax.

    Raises
    ------
    MissingDecoderError
        If nothing decodes it here; names the transfer syntax and what is missing.
    """
    codec = CODECS.get(uid)
    if codec is None:
        raise MissingDecoderError(syntax="?", uid=uid, plugin="BiMediX2 Workstation", package="?")
    status = _status(codec)
    if not status.available:
        plugin = status.plugin or "imagecodecs"
        raise MissingDecoderError(syntax=codec.name, uid=uid, plugin=plugin, package=status.missing or "?")
    return codec


def decode(codec: Codec, data: bytes, shape: FrameShape) -> tuple[NDArray[Any], CodestreamHeader | None]:
    """Decode one compressed frame.

    The codestream's own kind decides which codec runs, because labels are sometimes wrong.

    Returns
    -------
    values : ndarray, shape (rows, columns) or (rows, columns, samples)
        Stored values as the codestream has them: signed only if it says so. Packed bits are unpacked.
    header : CodestreamHeader or None

    Raises
    ------
    CorruptPixelDataError
        If the codestream is damaged, or its size differs from the dataset's.
    DecompressionBombError
        If it inflates beyond the size of a frame.
    """
    header = read_header(data)
    if header is not None:
        _check_size(header, shape)
    name: str = header.coding if header is not None else codec.codec
    if header is None and name not in {"rle", "deflate", "jpegxl"}:
        raise CorruptPixelDataError(
            frame=shape.index + 1, reason=f"{len(data)} bytes without a {name} header"
        )
    try:
        # The decoder for lossless JPEG does not put back bits that were left out; that for the others does.
        shortened = header is not None and header.coding == "ljpeg" and header.point_transform > 0
        values = _run("jpeg8" if shortened else name, data, shape)
    except _FAILURES as error:
        raise CorruptPixelDataError(
            frame=shape.index + 1, reason=f"{name}: {type(error).__name__}"
        ) from error
    expected = (shape.rows, shape.columns) + ((shape.samples,) if shape.samples > 1 else ())
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.shape != expected:
        raise CorruptPixelDataError(
            frame=shape.index + 1, reason=f"found {values.shape}, expected {expected}"
        )
    return (_clamped(values, shape.bits_stored) if codec.lossy else values), header


def _check_size(header: CodestreamHeader, shape: FrameShape) -> None:
    found = (header.rows, header.columns, header.components)
    expected = (shape.rows, shape.columns, shape.samples)
    if found != expected:
        text = "its own header says {} x {} x {}, the file {} x {} x {}".format(*found, *expected)
        raise CorruptPixelDataError(frame=shape.index + 1, reason=text)


def _run(name: str, data: bytes, shape: FrameShape) -> NDArray[Any]:
    if name == "deflate":
        return native_values(_inflate(data, shape), shape)
    if name == "rle":
        return native_values(_unpack_rle(data, shape), shape, planar=True)
    import imagecodecs

    if name == "jpeg8":
        # Samples are wanted as they are stored; colour is converted in one place, for all codecs.
        space = {1: "grayscale", 3: "rgb"}.get(shape.samples)
        values = imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace=space)
    elif name == "jpegxl":
        values = imagecodecs.jpegxl_decode(data)
    else:
        values = {"ljpeg": imagecodecs.ljpeg_decode, "jpegls": imagecodecs.jpegls_decode}.get(
            name, imagecodecs.jpeg2k_decode
        )(data)
    return np.asarray(values)


def _inflate(data: bytes, shape: FrameShape) -> bytes:
    """Inflate at most one frame (PS3.5 A.4.11: raw deflate, padded to an even length)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data, shape.nbytes + 2)
    if len(inflated) > shape.nbytes + 1:
        raise DecompressionBombError(quantity="bytes", found=f"> {shape.nbytes}", limit=shape.nbytes)
    return inflated


def _unpack_rle(data: bytes, shape: FrameShape) -> bytes:
    """Byte planes, most significant first, to little-endian planes of whole samples (PS3.5 annex G)."""
    import imagecodecs

    width = max(shape.bits_allocated // 8, 1)
    planes = shape.samples * width
    plane = shape.nbytes // planes
    header = np.frombuffer(data[:64], dtype="<u4")
    if header.size < 16 or header[0] != planes:
        raise CorruptPixelDataError(frame=shape.index + 1, reason=f"RLE segments: expected {planes}")
    bounds = [*(int(start) for start in header[1 : planes + 1]), len(data)]
    out = np.zeros((shape.samples, plane, width), dtype=np.uint8)
    for segment in range(planes):
        packed = data[bounds[segment] : bounds[segment + 1]]
        unpacked = imagecodecs.packbits_decode(packed, out=plane + 128)
        flat = np.frombuffer(unpacked, dtype=np.uint8)
        if flat.size < plane:
            raise CorruptPixelDataError(frame=shape.index + 1, reason=f"RLE: {flat.size} of {plane} bytes")
        sample, byte = divmod(segment, width)
        out[sample, :, width - 1 - byte] = flat[:plane]
    return out.tobytes()


def native_values(
    data: bytes | memoryview, shape: FrameShape, *, planar: bool = False, order: str = "<", kind: str = "u"
) -> NDArray[Any]:
    """Read one uncompressed frame.

    Parameters
    ----------
    planar : bool
        Whether whole planes follow each other (planar configuration 1) instead of samples.
    order : {"<", ">"}
        Byte order.
    kind : {"u", "f"}
        Unsigned integers or floating point.

    Raises
    ------
    TruncatedFileError
        If there are fewer bytes than a frame needs.
    """
    if len(data) < shape.nbytes:
        raise TruncatedFileError(part="pixels", found=len(data), expected=shape.nbytes)
    count = shape.rows * shape.columns * shape.samples
    if shape.bits_allocated == 1:
        bits = np.frombuffer(data, dtype=np.uint8, count=shape.nbytes)
        flat: NDArray[Any] = np.unpackbits(bits, bitorder="little")[:count]
    else:
        flat = np.frombuffer(data, dtype=f"{order}{kind}{shape.bits_allocated // 8}", count=count)
    if shape.samples == 1:
        return flat.reshape(shape.rows, shape.columns)
    if planar:
        return np.moveaxis(flat.reshape(shape.samples, shape.rows, shape.columns), 0, -1)
    return flat.reshape(shape.rows, shape.columns, shape.samples)


def _clamped(values: NDArray[Any], bits_stored: int) -> NDArray[Any]:
    """Lossy coding overshoots: keep values inside the stored bits, where masking would wrap them."""
    if 8 * values.itemsize <= bits_stored:
        return values
    if values.dtype.kind == "i":
        return np.asarray(np.clip(values, -(2 ** (bits_stored - 1)), 2 ** (bits_stored - 1) - 1))
    return np.asarray(np.minimum(values, 2**bits_stored - 1))
