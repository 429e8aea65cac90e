"""What is fed with damaged files, and the files the damage begins with.

A target is a name, its seeds and a function that takes one damaged input; :func:`register` adds one. The
function may raise errors of the viewers (and of the operating system): anything else is a mistake.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image as Pillow
from pydicom.sequence import Sequence

from tests.fuzz.mutations import bytes_damaged, dicom_damaged
from tests.viewers.conftest import lut_item
from tests.viewers.phantoms import write_series
from tests.viewers.states import add_overlay, annotation, item, layer, polyline, state, text
from tests.viewers.test_mosaic import mosaic
from tests.viewers.test_nifti import nifti
from viewers.limits import Limits

__all__ = ["LIMITS", "TARGETS", "Target", "register"]

BUNDLE = Path(pydicom.__file__).parent / "data" / "test_files"
LARGEST_SEED = 70_000
"""Bytes: a hundred inputs a second are worth more than large ones."""
LIMITS = Limits(
    file_bytes=2**24, pixels_per_frame=2**22, decoded_bytes=2**25, frames=500, elements=20_000,
    archive_entries=200, archive_bytes=2**26, graphics=True,
)  # fmt: skip
"""Small, so that what gets past them is small as well."""

Damage = Callable[[bytes, random.Random, tuple[bytes, ...]], bytes]


@dataclass(frozen=True)
class Target:
    """One thing that reads files."""

    name: str
    seeds: Callable[[], tuple[bytes, ...]]
    run: Callable[[bytes, Path], None]
    """Given the input and a folder of its own, which is empty."""
    damage: Damage = bytes_damaged
    share: int = 1
    """How many of the inputs it gets, relative to the others."""

    def made(self, number: int) -> bytes:
        """Input of a number, always the same."""
        chance = random.Random(f"{self.name} {number}")
        seeds = self.seeds()
        return self.damage(chance.choice(seeds), chance, seeds)


TARGETS: dict[str, Target] = {}


def register(target: Target) -> Target:
    """Add a target; those of slides are in a module of their own."""
    TARGETS[target.name] = target
    return target


@functools.cache
def dicom_seeds() -> tuple[bytes, ...]:
    """Real files of all transfer syntaxes, and generated ones of kinds no file has."""
    paths = [path for path in sorted(BUNDLE.rglob("*")) if path.is_file() and path.name != "README.txt"]
    raws = [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST_SEED]
    return (*(raw for raw in raws if raw[128:132] == b"DICM" or raw[:1] in b"\x08\x02"), *_generated())


def _generated() -> list[bytes]:
    from tests.viewers.test_dicom import grey_dataset

    made = []
    for changes in ({}, {"NumberOfFrames": 3}):
        dataset = grey_dataset(np.arange(256, dtype=np.uint16).reshape(16, 16))
        if changes:
            dataset.PixelData = dataset.PixelData * 3
            dataset.NumberOfFrames = 3
            dataset.SharedFunctionalGroupsSequence = [_groups(0)]
            dataset.PerFrameFunctionalGroupsSequence = [_groups(frame) for frame in range(3)]
        dataset.VOILUTSequence = [_lut()]
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=False)
        made.append(stream.getvalue())
    overlaid = add_overlay(pydicom.dcmread(BUNDLE / "CT_small.dcm"), np.eye(100) > 0, frames=1, first=1)
    embedded = pydicom.dcmread(BUNDLE / "MR_small.dcm")
    for element, value in ((0x10, 64), (0x11, 64), (0x100, 16), (0x102, 15)):
        embedded.add_new((0x6000, element), "US", value)
    return [*made, *(_bytes(dataset) for dataset in (overlaid, embedded, mosaic(), mosaic(private=False)))]


def _bytes(dataset: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@functools.cache
def state_seeds() -> tuple[bytes, ...]:
    """Presentation states of CT_small with everything they can say."""
    ct = pydicom.dcmread(BUNDLE / "CT_small.dcm")
    drawings = annotation(
        polyline([(10, 10), (60, 20), (30, 90)], filled="Y"),
        polyline([(0.5, 0.5), (0.6, 0.5)], units="DISPLAY", kind="CIRCLE"),
        polyline([(20, 100), (40, 90), (60, 100)], kind="INTERPOLATED"),
        text("A 5 mm", box=[10.0, 100.0, 90.0, 110.0]),
        images=[ct],
    )
    window = Sequence([item(WindowCenter=100, WindowWidth=300)])
    common = {"GraphicLayerSequence": layer(), "GraphicAnnotationSequence": Sequence([drawings])}
    shutter = {"CenterOfCircularShutter": [60, 70], "RadiusOfCircularShutter": 40}
    first = state(ct, SoftcopyVOILUTSequence=window, ImageRotation=90, ImageHorizontalFlip="Y", **common)
    table = lut_item(0, 16, np.arange(256) * 250)
    second = state(ct, area=[9, 9, 99, 90], ShutterShape="CIRCULAR", PresentationLUTSequence=table, **shutter)
    add_overlay(second, np.eye(30) > 0).ShutterOverlayGroup = 0x6000
    return tuple(_bytes(one) for one in (first, second))


def _groups(frame: int) -> pydicom.Dataset:
    item, position, measures, voi = (pydicom.Dataset() for _ in range(4))
    position.ImagePositionPatient = [0, 0, 2 * frame]
    measures.PixelSpacing = [1, 1]
    voi.WindowCenter, voi.WindowWidth = 100, 200
    item.PlanePositionSequence, item.PixelMeasuresSequence = [position], [measures]
    item.FrameVOILUTSequence = [voi]
    return item


def _lut() -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [256, 0, 8])
    item.add_new(0x00283006, "OW", bytes(range(256)) * 2)
    return item


@functools.cache
def picture_seeds() -> tuple[bytes, ...]:
    """Small pictures and NIfTI files of all kinds that are opened."""
    chance = np.random.default_rng(5)
    grey = Pillow.fromarray(chance.integers(0, 256, (24, 20), np.uint8))
    color = Pillow.fromarray(chance.integers(0, 256, (24, 20, 3), np.uint8))
    made = []
    for picture, kind, options in (
        *((grey, kind, {}) for kind in ("PNG", "JPEG", "TIFF", "BMP")),
        *((color, kind, {}) for kind in ("PNG", "JPEG", "TIFF", "BMP")),
        (color.quantize(16), "PNG", {"transparency": 3}),
        (color.convert("CMYK"), "JPEG", {}),
        (color, "JPEG", {"progressive": True}),
        (color, "TIFF", {"compression": "tiff_lzw"}),
        (color, "TIFF", {"compression": "tiff_deflate"}),
        (color, "TIFF", {"compression": "jpeg"}),
        (grey.convert("1"), "TIFF", {"compression": "group4"}),
        (Pillow.fromarray(chance.integers(0, 65536, (9, 9), np.uint16)), "TIFF", {}),
        (grey, "TIFF", {"save_all": True, "append_images": [grey, color]}),
    ):
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        made.append(stream.getvalue())
    values = chance.integers(0, 999, (5, 4, 3, 2)).astype(np.int16)
    volumes = [nifti(values), nifti(values[..., 0], by="qform", order=">"), nifti(values.astype(np.float32))]
    return (*made, *volumes, gzip.compress(volumes[0]))


@functools.cache
def archive_seeds() -> tuple[bytes, ...]:
    """Zips of a series, of a zip, of things that are no images."""
    with tempfile.TemporaryDirectory() as folder:
        slices = [path.read_bytes() for path in write_series(folder, count=3, shape=(6, 5))]
    entries = [*slices, b"no image", picture_seeds()[0]]
    made = [_zipped(entries, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    made.append(_zipped([made[0], slices[0]], zipfile.ZIP_DEFLATED))
    return tuple(made)


def _zipped(entries: list[bytes], method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for number, data in enumerate(entries):
            archive.writestr(f"folder/{number}", data)
    return stream.getvalue()


def archive_damaged(raw: bytes, chance: random.Random, others: tuple[bytes, ...]) -> bytes:
    """Damage the archive itself, or an entry before it is packed."""
    if chance.random() < 0.6:
        return bytes_damaged(raw, chance, others)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        entries = [archive.read(info) for info in archive.infolist()]
    at = chance.randrange(len(entries))
    entries[at] = dicom_damaged(entries[at], chance, ())
    return _zipped(entries, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def open_and_draw(raw: bytes, folder: Path) -> None:
    """Do what the page does with a file: open, store facts, draw the first and the last frame."""
    from viewers.browser import browser_frame
    from viewers.intake import open_image
    from viewers.record import facts_from_json, facts_to_json
    from viewers.view import default_view, render_png

    path = folder / "input"
    path.write_bytes(raw)
    image = open_image(path, LIMITS)
    record = facts_to_json(image.describes)
    text = json.dumps(record, allow_nan=False)
    if facts_to_json(facts_from_json(json.loads(text))) != record:
        raise AssertionError("what is stored is not what was opened")
    for frame in {0, image.frame_count - 1}:
        browser_frame(image, frame)
        render_png(image, replace(default_view(image, frame), graphics=True))


@functools.cache
def _image_of_states() -> bytes:
    return (BUNDLE / "CT_small.dcm").read_bytes()


def show_as_stated(raw: bytes, folder: Path) -> None:
    """Read a damaged presentation state together with its image, and draw that as it says."""
    from viewers.browser import browser_frame
    from viewers.study import read_studies
    from viewers.view import presented_view, render_png

    (folder / "in").mkdir()
    (folder / "in" / "state").write_bytes(raw)
    (folder / "in" / "image").write_bytes(_image_of_states())
    (folder / "scratch").mkdir()
    reader, studies = read_studies(folder / "in", key=b"k", limits=LIMITS, scratch=folder / "scratch")
    with reader:
        _ = reader.findings
        for series in (one for study in studies for one in study.series):
            image = series.open()
            for shown in image.presentations(0):
                browser_frame(image, 0)
                render_png(image, presented_view(image, 0, shown.number))


def read_study(raw: bytes, folder: Path) -> None:
    """Read an archive or file as a study, and decode something of each series."""
    from viewers.errors import ViewerError
    from viewers.study import read_studies

    path = folder / "input"
    path.write_bytes(raw)
    (folder / "scratch").mkdir()
    reader, studies = read_studies(path, key=b"k", limits=LIMITS, scratch=folder / "scratch")
    with reader:
        if len(reader.names) != len(reader.findings):
            raise AssertionError("each finding has a name or none")
        for study in studies:
            for series in study.series:
                try:
                    series.keep(folder / "kept")
                except ViewerError:
                    continue


def remove_identity(raw: bytes, folder: Path) -> None:
    """De-identify a file and write it."""
    from viewers.dataset import parse
    from viewers.deid import Policy, deidentify
    from viewers.silence import collected_warnings

    with collected_warnings():
        parsed = parse(raw, LIMITS)
    deidentify(parsed.dataset, Policy(b"k" * 32), LIMITS).save(folder / "output")


def load_stored(raw: bytes, folder: Path) -> None:
    """Load a stored image whose record was damaged."""
    from viewers.store import load
    from viewers.view import default_view, render_png

    (folder / "image.json").write_bytes(raw)
    (folder / "frames.npy").write_bytes(_stored()[1])
    image = load(folder)
    render_png(image, default_view(image))


@functools.cache
def _stored() -> tuple[bytes, bytes]:
    from viewers.intake import open_image
    from viewers.store import save

    with tempfile.TemporaryDirectory() as folder:
        save(open_image(BUNDLE / "CT_small.dcm"), Path(folder) / "kept")
        return tuple((Path(folder) / "kept" / name).read_bytes() for name in ("image.json", "frames.npy"))


register(Target("dicom", dicom_seeds, open_and_draw, dicom_damaged, share=6))
register(Target("state", state_seeds, show_as_stated, dicom_damaged, share=1))
register(Target("picture", picture_seeds, open_and_draw, share=1))
register(Target("study", dicom_seeds, read_study, dicom_damaged, share=2))
register(Target("archive", archive_seeds, read_study, archive_damaged, share=1))
register(Target("identity", dicom_seeds, remove_identity, dicom_damaged, share=1))
register(Target("stored", lambda: _stored()[:1], load_stored, share=1))
