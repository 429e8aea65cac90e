"""Targets for slides: every opener, what is stored of a slide, and zips of them."""

from __future__ import annotations

import functools
import io
import struct
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image as Pillow

from tests.fuzz.mutations import bytes_damaged, dicom_damaged
from tests.fuzz.targets import Target, register
from tests.viewers.openers import made, vendors
from viewers.limits import Limits

if TYPE_CHECKING:
    import random

LIMITS = Limits(
    file_bytes=2**22, pixels_per_frame=2**20, slide_pixels=2**24, slide_tiles=4096, tile_pixels=2**18,
    slide_bytes=2**24, archive_entries=200, archive_bytes=2**25,
)  # fmt: skip
"""Small, so that what gets past them is small as well."""
_SIZE = (300, 270)


def _bytes(write, *arguments, **options):
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "seed", *arguments, **options).read_bytes()


@functools.cache
def tiff_seeds() -> tuple[bytes, ...]:
    """Pyramids of every coding and layout."""
    rgb = made.tissue(*_SIZE)
    seeds = [_bytes(made.write_tiff, rgb=rgb), _bytes(made.write_tiff, rgb=rgb, bigtiff=True)]
    codings = ("lzw", "deflate", "jpeg2000", "packbits", "webp")
    seeds += [_bytes(made.write_tiff, rgb=rgb, compression=coding) for coding in codings]
    seeds.append(_bytes(made.write_tiff, rgb=rgb[:64, :64], compression=None))
    seeds.append(_bytes(made.write_aperio, rgb=rgb, profile=made.wide_profile()))
    seeds.append(_bytes(made.write_ome, rgb=rgb))
    return tuple(seeds)


@functools.cache
def wsm_seeds() -> tuple[bytes, ...]:
    """Single levels of DICOM slides, in every coding and order of frames."""
    rgb, seeds = made.tissue(*_SIZE), []
    for syntax, options in (
        (made.JPEG, {}),
        (made.JPEG, {"sparse": True}),
        (made.JPEG, {"extended": True}),
        (made.JPEG_2000, {}),
        (made.RLE, {}),
        (made.EXPLICIT, {}),
    ):
        stream = io.BytesIO()
        made.wsm_dataset(rgb, 1, syntax, **options).save_as(stream, enforce_file_format=True)
        seeds.append(stream.getvalue())
    return tuple(seeds)


@functools.cache
def photo_seeds() -> tuple[bytes, ...]:
    """Flat pictures with all that a camera adds."""
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E] = 6, made.NAME
    picture, seeds = Pillow.fromarray(made.tissue(64, 48)), []
    for kind, mode, options in (
        ("JPEG", "RGB", {"exif": exif, "icc_profile": made.wide_profile()}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGBA", {"exif": exif, "icc_profile": made.wide_profile()}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGBA", {"exif": exif, "icc_profile": made.wide_profile()}),
        ("GIF", "P", {}),
    ):
        stream = io.BytesIO()
        picture.convert(mode).save(stream, kind, **options)
        seeds.append(stream.getvalue())
    return tuple(seeds)


@functools.cache
def zip_seeds() -> tuple[bytes, ...]:
    """Zip a slide of several files, and two that say they are of a kind with companions."""
    ini = b"[HIERARCHICAL]\nINDEXFILE = Index.dat\n[DATAFILE]\nFILE_0 = Data0000.dat\n"
    vms = b"[Virtual Microscope Specimen]\nNoJpegColumns=1\nNoJpegRows=1\nImageFile=a.jpg\nMapFile=b.jpg\n"
    photo = photo_seeds()[0]
    return (
        _zipped({f"part{number}/{number}.dcm": raw for number, raw in enumerate(wsm_seeds()[:2])}),
        _zipped({"folder/s.tif": tiff_seeds()[0], "folder/readme.txt": b"no slide"}),
        _zipped({"s.vms": vms, "a.jpg": _restarting_jpeg(), "b.jpg": _restarting_jpeg()}),
        _zipped(_files(vendors.write_mirax, rgb=made.tissue(304, 272), levels=2)),
        # incomplete as it is: that is refused before any of it is opened
        _zipped({"s.mrxs": photo, "s/Slidedat.ini": ini, "s/Index.dat": b"0" * 99}),
    )


def _files(write, **options) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), **options)
        paths = (path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


def _restarting_jpeg() -> bytes:
    """Make a picture with the restart markers that a Hamamatsu slide needs."""
    stream = io.BytesIO()
    Pillow.fromarray(made.tissue(256, 256)).save(stream, "JPEG", restart_marker_rows=1)
    return stream.getvalue()


def _zipped(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tiff_damaged(raw: bytes, chance: random.Random, others: tuple[bytes, ...]) -> bytes:
    """Damage values, counts and types of tags where they stand, or bytes anywhere."""
    big = raw[2:4] == b"\x2b\0"
    if chance.random() < 0.4 or raw[:2] != b"II":
        return bytes_damaged(raw, chance, others)
    damaged = bytearray(raw)
    entries = _entries(raw, big=big)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.choice(entries)
        offset, width = chance.choice(((2, 2), (4, 8), (12, 8)) if big else ((2, 2), (4, 4), (8, 4)))
        value = chance.choice((0, 1, 2, 255, 256, 2**16 - 1, 2**31, 2**32 - 1, chance.getrandbits(8 * width)))
        struct.pack_into({2: "<H", 4: "<L", 8: "<Q"}[width], damaged, at + offset, value % (1 << 8 * width))
    return bytes(damaged)


def _entries(raw: bytes, *, big: bool) -> list[int]:
    """Places of all entries of the first pages."""
    place = struct.unpack_from("<Q" if big else "<L", raw, 8 if big else 4)[0]
    found: list[int] = []
    for _ in range(12):
        if not 0 < place < len(raw) - 8:
            break
        count = struct.unpack_from("<Q" if big else "<H", raw, place)[0]
        first, size = place + (8 if big else 2), 20 if big else 12
        found += [first + size * number for number in range(count)]
        place = struct.unpack_from("<Q" if big else "<L", raw, first + size * count)[0]
    return found


def look_at(raw: bytes, folder: Path) -> None:
    """Do what the application does with a slide: open, draw, keep, load, draw a tile."""
    from viewers.openers import is_slide, open_slide
    from viewers.slide_view import thumbnail

    path = folder / "input"
    path.write_bytes(raw)
    is_slide(path, LIMITS)
    with open_slide(path, LIMITS) as slide:
        for level in range(len(slide.levels)):
            _read_middle(slide, level)
        thumbnail(slide, 64)
        _kept(slide, folder)


def _read_middle(slide: object, number: int) -> None:
    from viewers.errors import CorruptTileError
    from viewers.geometry import Region

    size = slide.levels[number].size
    width, height = min(size.width, 80), min(size.height, 80)
    region = Region((size.width - width) // 2, (size.height - height) // 2, width, height)
    try:
        drawn = slide.read_level(number, region)
    except CorruptTileError:
        return
    if drawn.shape != (height, width, 3):
        raise AssertionError("a region of another size")


def _kept(slide: object, folder: Path) -> None:
    from viewers.deepzoom import TileAddress, deep_zoom, encode_tile
    from viewers.errors import CorruptTileError
    from viewers.slide_store import keep, load

    kept = keep(slide, folder / "kept")
    for path in kept.rglob("*"):
        if path.is_file() and made.NAME.encode() in path.read_bytes():
            raise AssertionError("a name was kept")
    with load(kept, verify=True) as stored:
        if stored.digest != slide.digest:
            raise AssertionError("another digest")
        zoom = deep_zoom(stored)
        try:
            encode_tile(stored, zoom, TileAddress(zoom.levels - 1, 0, 0))
        except CorruptTileError:
            return


def by_openslide(raw: bytes, folder: Path) -> None:
    """Open in OpenSlide's own process what another opener would take."""
    from viewers.geometry import Region
    from viewers.openers.apart import OpenSlideApart

    path = folder / "input.tif"
    path.write_bytes(raw)
    pixels = OpenSlideApart((path,))
    try:
        drawn = pixels.read(0, Region(0, 0, 80, 80))
    finally:
        pixels.close()
    if drawn.shape != (80, 80, 3):
        raise AssertionError("a region of another size")


def from_zip(raw: bytes, folder: Path) -> None:
    """Take a zip apart and open what is in it; nothing is written elsewhere."""
    from viewers.openers import open_slide
    from viewers.slide_files import gather, may_be_slide

    path = folder / "input.zip"
    path.write_bytes(raw)
    may_be_slide(path)
    home = folder / "home"
    home.mkdir()
    paths = gather(path, home, LIMITS)
    if not all(home in found.resolve().parents for found in paths):
        raise AssertionError("a file was put elsewhere")
    with open_slide(paths, LIMITS) as slide:
        _read_middle(slide, 0)


def load_stored(raw: bytes, folder: Path) -> None:
    """Load a stored slide whose record, index or tiles were damaged, and take it in as one from elsewhere."""
    from viewers.slide_adopt import adopt_slide
    from viewers.slide_store import load

    for (name, _), data in zip(_stored(), _parts(raw), strict=True):
        (folder / name).write_bytes(data)
    taken = folder / "taken"
    taken.mkdir()
    with load(folder) as slide:
        for level in range(len(slide.levels)):
            _read_middle(slide, level)
    question = {"source": str(folder), "folder": str(taken), "limits": asdict(LIMITS)}
    with load(taken / "stored" / adopt_slide(question, lambda _: None), verify=True) as slide:
        _read_middle(slide, 0)


@functools.cache
def _stored() -> tuple[tuple[str, bytes], ...]:
    from viewers.openers import open_slide
    from viewers.slide_store import keep

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed"
        path.write_bytes(tiff_seeds()[0])
        with open_slide(path) as slide:
            kept = keep(slide, Path(folder) / "kept")
        return tuple((name, (kept / name).read_bytes()) for name in ("slide.json", "index.bin", "tiles.bin"))


def _parts(raw: bytes) -> list[bytes]:
    """Cut one input into the files it stands for; what was inserted goes to the last."""
    parts, at = [], 0
    for _, data in _stored()[:-1]:
        parts.append(raw[at : at + len(data)])
        at += len(data)
    return [*parts, raw[at:]]


def stored_seeds() -> tuple[bytes, ...]:
    """Return the files of one stored slide, one after the other."""
    return (b"".join(data for _, data in _stored()),)


register(Target("slide_tiff", tiff_seeds, look_at, tiff_damaged, share=3))
register(Target("slide_wsm", wsm_seeds, look_at, dicom_damaged, share=2))
register(Target("slide_photo", photo_seeds, look_at, share=1))
register(Target("slide_openslide", lambda: tiff_seeds()[:5], by_openslide, tiff_damaged, share=1))
register(Target("slide_zip", zip_seeds, from_zip, share=1))
register(Target("slide_stored", stored_seeds, load_stored, share=1))
