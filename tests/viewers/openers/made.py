"""Small slides of several formats with the same pixels, made here: nothing is downloaded."""

from __future__ import annotations

import functools

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

WIDTH, HEIGHT = 660, 460
TILE = 256
NAME = "YILMAZ^AYSE"
"""A name that must come out of no opener."""
WSM = "1.2.840.10008.5.1.4.1.1.77.1.6"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
EXPLICIT = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"
APERIO = (
    "Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/RGB Q=90"
    "|AppMag = 20|MPP = 0.4990|User = " + NAME + "|Filename = " + NAME
)
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" '
    'Name="' + NAME + '"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="660" SizeY="460" '
    'SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="250" '
    'PhysicalSizeYUnit="nm"><Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData/></Pixels></Image></OME>'
)


@functools.cache
def tissue(width=WIDTH, height=HEIGHT):
    """Draw a picture that differs everywhere and has no sharp edges: RGB, shape (rows, columns, 3)."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rgb = np.stack(
        [
            128 + 100 * np.sin(x / 37) * np.cos(y / 53),
            255 * x / width,
            200 - 150 * y / height + 30 * np.sin((x + y) / 11),
        ],
        axis=-1,
    )
    rgb = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    rgb.setflags(write=False)
    return rgb


def reduced(rgb, factor):
    """Mean of squares of pixels, a part of a square at the edges counted whole."""
    return rgb if factor == 1 else np.asarray(Pillow.fromarray(rgb).reduce(factor))


def tiles_of(rgb, tile=TILE):
    """Tiles row by row, the last ones padded by their edge."""
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge")
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield np.ascontiguousarray(padded[top : top + tile, left : left + tile])


def write_tiff(path, factors=(1, 2, 4), *, compression="jpeg", rgb=None, description=None, **options):
    """Write a pyramid of tiled pages; with ``subifds=True`` the smaller ones stand in SubIFDs."""
    rgb = tissue() if rgb is None else rgb
    subifds = options.pop("subifds", False)
    common = {"tile": (TILE, TILE), "photometric": "rgb", "compression": compression, "metadata": None}
    if compression == "jpeg":
        common |= {"compressionargs": {"level": 95}, "subsampling": (1, 1)}
    order = options.pop("byteorder", None)
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False), byteorder=order) as writer:
        for factor in factors:
            extra = {"subfiletype": 0 if factor == 1 else 1}
            if factor == 1:
                extra |= {"description": description, "subifds": len(factors) - 1 if subifds else 0}
            level = reduced(rgb, factor)
            apart = options.get("planarconfig") == 2
            writer.write(np.moveaxis(level, 2, 0) if apart else level, **common, **extra, **options)
    return path


def write_aperio(path, *, rgb=None, profile=None):
    """Write what an Aperio scanner does: levels, a thumbnail in strips, a label, a macro image."""
    rgb = tissue() if rgb is None else rgb
    height, width = rgb.shape[:2]
    levels = {
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 95},
        "subsampling": (1, 1),
        "tile": (TILE, TILE),
        "metadata": None,
    }
    label = np.full((120, 100, 3), 250, np.uint8)
    strips = {"photometric": "rgb", "metadata": None, "rowsperstrip": 16}
    with tifffile.TiffWriter(path) as writer:
        text = APERIO.format(width=width, height=height)
        writer.write(rgb, description=text, iccprofile=profile, **levels)
        writer.write(reduced(rgb, 8), description=text, compression="jpeg", **strips)
        writer.write(reduced(rgb, 4), description=text, subfiletype=0, **levels)
        writer.write(label, description="Aperio Image Library\r\nlabel 100x120", subfiletype=1, **strips)
        writer.write(label, description="Aperio Image Library\r\nmacro 100x120", subfiletype=9, **strips)
    return path


def write_ome(path, **options):
    """Write an OME-TIFF whose levels stand in SubIFDs."""
    return write_tiff(path, subifds=True, description=OME.encode(), **options)


def encoded(tile, syntax):
    """One tile in a transfer syntax."""
    if syntax == JPEG:
        return imagecodecs.jpeg8_encode(tile, 95, colorspace="RGB", outcolorspace="RGB", subsampling="444")
    if syntax == JPEG_2000:
        return imagecodecs.jpeg2k_encode(tile, codecformat="j2k", reversible=True, level=0, mct=False)
    if syntax == RLE:
        return _rle(tile)
    return tile.tobytes()


def _rle(tile):
    segments = [imagecodecs.packbits_encode(tile[..., channel].reshape(-1).tobytes()) for channel in range(3)]
    segments = [segment + bytes(len(segment) % 2) for segment in segments]
    starts = np.cumsum([64] + [len(segment) for segment in segments[:2]])
    header = np.zeros(16, "<u4")
    header[0], header[1:4] = 3, starts
    return header.tobytes() + b"".join(segments)


def wsm_dataset(rgb, factor, syntax=JPEG, *, sparse=False, kind="VOLUME", uids=None, extended=False):
    """One level of a DICOM slide as a dataset."""
    uids = uids or {"study": generate_uid(), "series": generate_uid(), "frame": generate_uid()}
    level = reduced(rgb, factor)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = WSM
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Modality = "SM"
    dataset.PatientName = NAME
    dataset.PatientID = NAME
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids["study"], uids["series"]
    dataset.FrameOfReferenceUID = uids["frame"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE" if factor == 1 else "RESAMPLED"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.Rows = dataset.Columns = TILE
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = level.shape[1], level.shape[0]
    dataset.ContainerIdentifier = NAME
    dataset.TotalPixelMatrixFocalPlanes = dataset.NumberOfOpticalPaths = 1
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = rgb.shape[1] * 0.0005, rgb.shape[0] * 0.0005
    dataset.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.0005 * factor, 0.0005 * factor]
    measures.SliceThickness = 0.001
    shared.PixelMeasuresSequence = Sequence([measures])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 0, 0
    dataset.TotalPixelMatrixOriginSequence = Sequence([origin])
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    dataset.OpticalPathSequence = Sequence([path])
    frames = [encoded(tile, syntax) for tile in tiles_of(level)]
    if sparse:
        frames = _scattered(dataset, frames, -(-level.shape[1] // TILE))
    dataset.NumberOfFrames = len(frames)
    _put_frames(dataset, frames, syntax, extended=extended)
    return dataset


def _put_frames(dataset, frames, syntax, *, extended=False):
    if syntax == EXPLICIT:
        dataset.PixelData = b"".join(frames)
        dataset["PixelData"].VR = "OB"
        return
    if extended:
        dataset.PixelData, table, lengths = encapsulate_extended(frames)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = table, lengths
    else:
        dataset.PixelData = encapsulate(frames, has_bot=True)
    dataset["PixelData"].VR = "OB"


def _scattered(dataset, frames, columns):
    """Frames in another order with their places; the first tile is left out if there are more."""
    order = list(range(len(frames)))[:0:-1] or [0]
    groups = []
    for number in order:
        position, group = Dataset(), Dataset()
        position.ColumnPositionInTotalImagePixelMatrix = number % columns * TILE + 1
        position.RowPositionInTotalImagePixelMatrix = number // columns * TILE + 1
        group.PlanePositionSlideSequence = Sequence([position])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return [frames[number] for number in order]


def write_wsm(folder, syntax=JPEG, *, rgb=None, spread=False, **options):
    """Write a DICOM slide: a file for each level and the label; ``spread`` over folders of their own."""
    rgb = tissue() if rgb is None else rgb
    uids = {"study": generate_uid(), "series": generate_uid(), "frame": generate_uid()}
    for number, (factor, kind) in enumerate(((1, "VOLUME"), (2, "VOLUME"), (4, "VOLUME"), (8, "LABEL"))):
        home = folder / f"part{number}" if spread else folder
        home.mkdir(parents=True, exist_ok=True)
        dataset = wsm_dataset(rgb, factor, syntax, kind=kind, uids=uids, **options)
        dataset.save_as(home / f"{number}.dcm", enforce_file_format=True)
    return folder


def write_concatenation(folder, rgb=None):
    """Level 0 in two files, each with a half of the frames; the other levels in one file each."""
    write_wsm(folder, rgb=rgb)
    rgb = tissue() if rgb is None else rgb
    frames = [encoded(tile, JPEG) for tile in tiles_of(rgb)]
    half = len(frames) // 2
    from pydicom import dcmread

    dataset = dcmread(folder / "0.dcm")
    dataset.ConcatenationUID = generate_uid()
    for number, (first, part) in enumerate(((0, frames[:half]), (half, frames[half:]))):
        dataset.ConcatenationFrameOffsetNumber, dataset.InConcatenationNumber = first, number + 1
        dataset.NumberOfFrames = len(part)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        _put_frames(dataset, part, JPEG)
        dataset.save_as(folder / f"0{'ab'[1 - number]}.dcm", enforce_file_format=True)
    (folder / "0.dcm").unlink()
    return folder


def wide_profile():
    """Make an ICC profile whose colours are not sRGB: the same primaries without a tone curve."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * number
        if profile[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(profile[entry + 4 : entry + 8], "big")
            profile[offset : offset + 14] = b"curv" + bytes(4) + (1).to_bytes(4, "big") + b"\x01\x00"
    return bytes(profile)


def write_huge(path, width=100_000, height=80_000, factors=(1, 2, 4, 8, 16, 32, 64, 128)):
    """Write a pyramid of any size in about 3 MB: its tiles all point to the same few JPEGs."""
    jpegs = [
        imagecodecs.jpeg8_encode(tile, 80, colorspace="RGB", subsampling="420")
        for tile in list(tiles_of(tissue(1024, 1024)))
    ]
    with path.open("wb") as stream:
        stream.write(b"II+\0" + np.array([8], "<u2").tobytes() + bytes(2) + bytes(8))
        places = []
        for jpeg in jpegs:
            places.append((stream.tell(), len(jpeg)))
            stream.write(jpeg)
        link = 8
        for factor in factors:
            size = -(-width // factor), -(-height // factor)
            link = _write_page(stream, size, places, link, reduced=factor > 1)
    return path


def _write_page(stream, size, places, link, *, reduced):
    """One IFD of a BigTIFF; returns where the next one's place is to be written."""
    columns, rows = (-(-side // TILE) for side in size)
    chosen = np.array(places, "<u8")[
        (np.arange(rows)[:, None] * 7 + np.arange(columns)).ravel() % len(places)
    ]
    arrays = {324: chosen[:, 0].astype("<u8"), 325: chosen[:, 1].astype("<u4")}
    values = {
        254: (4, int(reduced)),
        256: (4, size[0]),
        257: (4, size[1]),
        258: (3, [8, 8, 8]),
        259: (3, 7),
        262: (3, 6),
        277: (3, 3),
        282: (5, [40_000, 1]),
        283: (5, [40_000, 1]),
        284: (3, 1),
        296: (3, 3),
        322: (4, TILE),
        323: (4, TILE),
        530: (3, [2, 2]),
    }
    entries = []
    for tag, array in arrays.items():
        entries.append((tag, 16 if array.itemsize == 8 else 4, len(array), _put_array(stream, array)))
    types = {3: "<u2", 4: "<u4", 5: "<u4"}
    for tag, (kind, value) in values.items():
        raw = np.array(value, types[kind]).tobytes()
        count = 1 if kind == 5 else np.size(value)
        entries.append((tag, kind, count, raw.ljust(8, b"\0")))
    entries.sort()
    start = stream.tell()
    stream.write(np.array([len(entries)], "<u8").tobytes())
    for tag, kind, count, raw in entries:
        stream.write(np.array([tag, kind], "<u2").tobytes() + np.array([count], "<u8").tobytes() + raw)
    after = stream.tell()
    stream.write(bytes(8))
    stream.seek(link)
    stream.write(np.array([start], "<u8").tobytes())
    stream.seek(0, 2)
    return after


def _put_array(stream, array):
    """Return an array's bytes, or their place when they do not fit into the entry itself."""
    raw = array.tobytes()
    if len(raw) <= 8:
        return raw.ljust(8, b"\0")
    place = stream.tell()
    stream.write(raw)
    return np.array([place], "<u8").tobytes()
