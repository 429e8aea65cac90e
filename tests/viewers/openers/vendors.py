"""Tiny slides of scanners' own formats, written from what OpenSlide's documentation says of them.

No scanner wrote these: they hold the least that each format asks for, so they show that its files find each
other, that its tags are read and that its pixels stand where they should, and no more than that.

References
----------
https://openslide.org/formats/: Hamamatsu, Leica, MIRAX, Philips, Trestle, Ventana.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import tifffile
from PIL import Image as Pillow

from tests.viewers.openers.made import NAME, TILE, reduced, tiles_of, tissue

MPP = 0.25
WHOLE = (672, 480)
"""Width and height in whole blocks of JPEG at three levels: OpenSlide draws nothing of a VMS or NDPI that
ends inside one."""
_SLIDE_ID = "0" * 32


def _jpeg(rgb):
    """One JPEG with a restart marker after each row of blocks: VMS is read from one to the next."""
    stream = io.BytesIO()
    Pillow.fromarray(rgb).save(stream, "JPEG", quality=95, subsampling=0, restart_marker_rows=1)
    return stream.getvalue()


def write_vms(folder, rgb=None):
    """Hamamatsu VMS: a text that names JPEGs beside it; returns the text's path."""
    rgb = tissue(*WHOLE) if rgb is None else rgb
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part.jpg").write_bytes(_jpeg(rgb))
    (folder / "map.jpg").write_bytes(_jpeg(reduced(rgb, 8)))
    (folder / "macro.jpg").write_bytes(_jpeg(np.full((40, 60, 3), 200, np.uint8)))
    nanometres = [round(side * MPP * 1000) for side in (rgb.shape[1], rgb.shape[0])]
    lines = {
        "NoLayers": 1,
        "NoJpegColumns": 1,
        "NoJpegRows": 1,
        "ImageFile": "part.jpg",
        "MapFile": "map.jpg",
        "MacroImage": "macro.jpg",
        "PhysicalWidth": nanometres[0],
        "PhysicalHeight": nanometres[1],
        "SourceLens": 40,
        "Reference": NAME,
    }
    main = folder / "slide.vms"
    text = "".join(f"{key}={value}\r\n" for key, value in lines.items())
    main.write_text(f"[Virtual Microscope Specimen]\r\n{text}", encoding="ascii")
    return main


def write_mirax(folder, rgb=None, levels=3):
    """3DHISTECH MIRAX: an empty-handed main file and a folder of its name; returns the main file's path."""
    rgb = tissue() if rgb is None else rgb
    home = folder / "slide"
    home.mkdir(parents=True, exist_ok=True)
    columns, rows = (-(-side // TILE) for side in (rgb.shape[1], rgb.shape[0]))
    # Images at level n are numbered by the place of their upper left one at level 0.
    columns, rows = (-(-side // 2 ** (levels - 1)) * 2 ** (levels - 1) for side in (columns, rows))
    white = np.full((rows * TILE, columns * TILE, 3), 255, np.uint8)
    white[: rgb.shape[0], : rgb.shape[1]] = rgb
    data, pages = bytearray(), []
    for level in range(levels):
        entries, step = [], 2**level
        across = columns // step
        for number, tile in enumerate(tiles_of(reduced(white, step))):
            place = (number // across * columns + number % across) * step
            coded = _jpeg(tile)
            entries.append((place, len(data), len(coded), 0))
            data += coded
        pages.append(entries)
    (home / "Data0000.dat").write_bytes(bytes(data))
    (home / "Index.dat").write_bytes(_mirax_index(pages))
    (home / "Slidedat.ini").write_text(_mirax_ini(columns, rows, levels), encoding="utf-8-sig")
    main = folder / "slide.mrxs"
    main.write_bytes(_jpeg(np.full((16, 16, 3), 128, np.uint8)))
    return main


def _mirax_index(pages):
    """Heads of lists of pages, one for each level; a page is its entries and where the next one is."""
    head = b"01.02" + _SLIDE_ID.encode()
    root = len(head) + 8
    records, at = b"", root + 4 * len(pages)
    pointers = []
    for entries in pages:
        pointers.append(at)
        page = struct.pack("<2i", len(entries), 0) + b"".join(struct.pack("<4i", *one) for one in entries)
        # A list begins with an empty page that names the first one with entries.
        records += struct.pack("<2i", 0, at + 8) + page
        at += 8 + len(page)
    return head + struct.pack("<2i", root, at) + struct.pack(f"<{len(pages)}i", *pointers) + records


def _mirax_ini(columns, rows, levels):
    sections = {
        "GENERAL": {
            "SLIDE_VERSION": "01.02",
            "SLIDE_ID": _SLIDE_ID,
            "SLIDE_NAME": NAME,
            "IMAGENUMBER_X": columns,
            "IMAGENUMBER_Y": rows,
            "OBJECTIVE_MAGNIFICATION": 20,
            "CameraImageDivisionsPerSide": 1,
        },
        "HIERARCHICAL": {
            "HIER_COUNT": 1,
            "NONHIER_COUNT": 0,
            "INDEXFILE": "Index.dat",
            "HIER_0_NAME": "Slide zoom level",
            "HIER_0_COUNT": levels,
            **{f"HIER_0_VAL_{level}_SECTION": f"LAYER_0_LEVEL_{level}_SECTION" for level in range(levels)},
        },
        "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
    }
    for level in range(levels):
        sections[f"LAYER_0_LEVEL_{level}_SECTION"] = {
            "OVERLAP_X": 0,
            "OVERLAP_Y": 0,
            "MICROMETER_PER_PIXEL_X": MPP * 2**level,
            "MICROMETER_PER_PIXEL_Y": MPP * 2**level,
            "IMAGE_FORMAT": "JPEG",
            "IMAGE_FILL_COLOR_BGR": 0xFFFFFF,
            "DIGITIZER_WIDTH": TILE,
            "DIGITIZER_HEIGHT": TILE,
            "IMAGE_CONCAT_FACTOR": 0 if level == 0 else 1,
        }
    return "".join(
        f"[{name}]\r\n" + "".join(f"{key} = {value}\r\n" for key, value in entries.items())
        for name, entries in sections.items()
    )


def write_ndpi(path, rgb=None, factors=(1, 2, 4)):
    """Hamamatsu NDPI: a TIFF whose levels are one JPEG strip each, told apart by the lens."""
    rgb = tissue(*WHOLE) if rgb is None else rgb
    with tifffile.TiffWriter(path) as writer:
        for factor in factors:
            _ndpi_page(writer, reduced(rgb, factor), 20.0 / factor, factor)
        _ndpi_page(writer, np.full((40, 60, 3), 200, np.uint8), -1.0, 1)  # the macro image
    return path


def _ndpi_page(writer, rgb, lens, factor):
    tags = [
        (65420, 4, 1, 1, True),
        (65421, 11, 1, lens, True),
        (65424, 9, 1, 0, True),
        (65427, 2, 0, NAME, True),
    ]
    per_cm = 10_000 / (MPP * factor)
    writer.write(
        iter([_jpeg(rgb)]), shape=rgb.shape, dtype=rgb.dtype, photometric="ycbcr", compression="jpeg",
        subsampling=(1, 1), rowsperstrip=rgb.shape[0], metadata=None, software="NDP.scan",
        resolution=(per_cm, per_cm), resolutionunit=3, extratags=[*tags, (271, 2, 0, "Hamamatsu", True)],
    )  # fmt: skip


def write_scn(path, rgb=None, factors=(1, 2, 4)):
    """Leica SCN: a BigTIFF whose XML says which page is which level of which image."""
    rgb = tissue() if rgb is None else rgb
    height, width = rgb.shape[:2]
    view = [round(side * MPP * 1000) for side in (width, height)]
    glass = [side + 250 for side in view]  # an image as large as the glass would be the macro image
    sizes = [(-(-width // factor), -(-height // factor)) for factor in factors]
    dimensions = "".join(
        f'<dimension sizeX="{size[0]}" sizeY="{size[1]}" r="{number}" ifd="{number}"/>'
        for number, size in enumerate(sizes)
    )
    text = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="{NAME}" sizeX="{glass[0]}" sizeY="{glass[1]}"><barcode>{NAME}</barcode>'
        f'<image name="{NAME}"><device model="Leica SCN400"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>'
        f'<view sizeX="{view[0]}" sizeY="{view[1]}" offsetX="0" offsetY="0"/>'
        "<scanSettings><objectiveSettings><objective>40</objective></objectiveSettings>"
        "<illuminationSettings><illuminationSource>brightfield</illuminationSource>"
        "<numericalAperture>0.6</numericalAperture></illuminationSettings></scanSettings></image>"
        "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in factors:
            per_cm = 10_000 / (MPP * factor)
            scale = {"resolution": (per_cm, per_cm), "resolutionunit": 3}
            _tiled(writer, reduced(rgb, factor), text if factor == 1 else None, **scale)
    return path


def _attribute(name, value, kind="IString", place=("0x301D", "0x1002")):
    return (
        f'<Attribute Name="{name}" Group="{place[0]}" Element="{place[1]}" PMSVR="{kind}">{value}</Attribute>'
    )


def _spacing(factor):
    values = " ".join([f"&quot;{MPP * factor / 1000}&quot;"] * 2)
    return _attribute("DICOM_PIXEL_SPACING", values, "IDoubleArray", ("0x0028", "0x0030"))


def _object(kind, *parts):
    return f'<DataObject ObjectType="{kind}">{"".join(parts)}</DataObject>'


def write_philips(path, rgb=None, factors=(1, 2, 4)):
    """Philips TIFF: levels are padded to whole tiles; the XML says their size and pixel spacing."""
    rgb = tissue() if rgb is None else rgb
    number = "PIIM_PIXEL_DATA_REPRESENTATION_NUMBER"
    levels = [
        _object("PixelDataRepresentation", _spacing(factor), _attribute(number, index, "IUInt16"))
        for index, factor in enumerate(factors)
    ]
    sequence = "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"
    scanned = _object(
        "DPScannedImage",
        _attribute("PIM_DP_IMAGE_TYPE", "WSI"),
        _spacing(1),
        _attribute(sequence, f"<Array>{''.join(levels)}</Array>", "IDataObjectArray"),
    )
    text = '<?xml version="1.0" encoding="UTF-8" ?>' + _object(
        "DPUfsImport",
        _attribute("PIM_DP_UFS_BARCODE", NAME),
        _attribute("PIM_DP_SCANNED_IMAGES", f"<Array>{scanned}</Array>", "IDataObjectArray"),
    )
    with tifffile.TiffWriter(path) as writer:
        for factor in factors:
            kind = {"software": "Philips DP v1.0", "subfiletype": 0 if factor == 1 else 1}
            _tiled(writer, reduced(rgb, factor), text if factor == 1 else None, **kind)
    return path


def write_trestle(path, rgb=None, factors=(1, 2, 4)):
    """Trestle: a tiled TIFF told by its software, with overlaps of tiles in its description."""
    rgb = tissue() if rgb is None else rgb
    overlaps = " ".join("0 0" for _ in factors)
    text = f"Background Color=FFFFFF;Objective=20;OverlapsXY= {overlaps};User={NAME}"
    with tifffile.TiffWriter(path) as writer:
        for factor in factors:
            scale = {"resolution": (MPP * factor, MPP * factor), "resolutionunit": 1}
            _tiled(writer, reduced(rgb, factor), text, software="MedScan 1.0", **scale)
    return path


def _tiled(writer, rgb, text, **options):
    writer.write(
        rgb, tile=(TILE, TILE), photometric="rgb", compression="jpeg", compressionargs={"level": 95},
        subsampling=(1, 1), metadata=None, description=None if text is None else text.encode(), **options,
    )  # fmt: skip
