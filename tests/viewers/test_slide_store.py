"""What is kept of a slide: the same pixels, smaller levels, and no label, name or text of a header."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.viewers.openers import made
from viewers.child import WorkerLimits
from viewers.errors import (
    ArchiveError,
    CorruptTileError,
    IntakeError,
    MissingCompanionError,
    NotAnImageError,
    OutsideReferenceError,
    StoredImageError,
    TooLargeError,
)
from viewers.geometry import Region, SizePx
from viewers.limits import Limits
from viewers.openers import open_slide
from viewers.openers.source import Source
from viewers.openers.vendor import open_source as open_with_openslide
from viewers.slide_files import gather, may_be_slide
from viewers.slide_intake import SlideIntake
from viewers.slide_store import is_stored_slide, keep, load
from viewers.slide_view import thumbnail

REAL = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"


def photograph(folder):
    exif = Pillow.Exif()
    exif[0x010E] = made.NAME
    exif.get_ifd(0x8825)[1] = made.NAME
    Pillow.fromarray(made.tissue()).save(folder / "p.jpg", exif=exif, quality=95)
    return folder / "p.jpg"


MADE = {
    "aperio": lambda folder: made.write_aperio(folder / "a.svs"),
    "aperio-icc": lambda folder: made.write_aperio(folder / "a.svs", profile=made.wide_profile()),
    "tiff-lzw": lambda folder: made.write_tiff(folder / "a.tif", compression="lzw"),
    "tiff-jpeg2000": lambda folder: made.write_tiff(folder / "a.tif", compression="jpeg2000"),
    "ome": lambda folder: made.write_ome(folder / "a.ome.tif"),
    "wsm": lambda folder: made.write_wsm(folder / "w"),
    "wsm-jpeg2000": lambda folder: made.write_wsm(folder / "w", made.JPEG_2000),
    "wsm-sparse": lambda folder: made.write_wsm(folder / "w", sparse=True),
    "photograph": photograph,
    "real": lambda _: REAL,
}


def bytes_of(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("kind", MADE)
def test_kept_and_loaded(kind, tmp_path):
    """A slide that was kept has the digest, resolution and pixels it had; keeping again changes nothing."""
    with open_slide(MADE[kind](tmp_path)) as slide:
        folder = keep(slide, tmp_path / "store")
        assert folder.name == slide.digest
        assert is_stored_slide(folder)
        with load(folder, verify=True) as kept:
            assert (kept.digest, kept.mpp, kept.vendor) == (slide.digest, slide.mpp, slide.vendor)
            sizes = [level.size for level in kept.levels]
            for number, level in enumerate(slide.levels):
                region = Region(0, 0, level.size.width, level.size.height)
                theirs = kept.read_level(sizes.index(level.size), region)
                assert np.array_equal(theirs, slide.read_level(number, region))
        before = bytes_of(folder)
        assert keep(slide, tmp_path / "store") == folder
    assert bytes_of(folder) == before
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [folder.name]


@pytest.mark.parametrize("kind", MADE)
def test_no_name_and_no_label_is_kept(kind, tmp_path):
    """No text of a header is in any byte kept, nor the label; that it was there is said."""
    with open_slide(MADE[kind](tmp_path)) as slide:
        folder = keep(slide, tmp_path / "store")
        told = [found.key for found in slide.findings]
    raw = bytes_of(folder)
    for text in (made.NAME, "Aperio", "b414003d", "CMU-1", "CPAPERIOCS", "OpenMicroscopy", "Exif", "Creator"):
        assert text.encode() not in raw
    with load(folder) as kept:
        keys = [found.key for found in kept.findings]
    assert ("finding.label_removed" in keys) == ("finding.label_present" in told)
    assert "finding.label_present" not in keys


def test_labels_are_nowhere(tmp_path):
    """Not even the label's compressed bytes are there; the file they came from has them."""
    import tifffile

    with tifffile.TiffFile(REAL) as tiff:
        page = next(page for page in tiff.pages if "label" in page.description)
        strip = tiff.filehandle.read_array("u1", count=64, offset=page.dataoffsets[0]).tobytes()
    assert strip in REAL.read_bytes()
    with open_slide(REAL) as slide:
        assert strip not in bytes_of(keep(slide, tmp_path))


def test_missing_levels_are_added(tmp_path):
    """A slide without smaller levels gets them, so that its overview needs few tiles, and it is said."""
    rgb = made.tissue(2500, 1200)
    path = made.write_tiff(tmp_path / "a.tif", (1,), rgb=rgb, compression="lzw")
    with open_slide(path) as slide, load(keep(slide, tmp_path / "store")) as kept:
        assert [level.downsample for level in kept.levels] == [1, 4]
        assert kept.findings[-1].values == {"count": 1}
        small = kept.read_level(1, Region(0, 0, 625, 300)).astype(np.int16)
        assert np.abs(small - made.reduced(rgb, 4)).max() <= 8
        assert np.abs(thumbnail(kept).astype(np.int16) - thumbnail(slide)).mean() < 1


def test_levels_with_a_gap_are_filled(tmp_path):
    """Between levels of 1 and 32 a level of 4 is added, and of 16; the file's own stays."""
    path = made.write_tiff(tmp_path / "a.tif", (1, 32), rgb=made.tissue(2600, 2100))
    with open_slide(path) as slide, load(keep(slide, tmp_path / "store")) as kept:
        assert [level.downsample for level in kept.levels] == [1, 4, 16, 32]


def test_strips_are_cut_into_squares(tmp_path):
    """A picture in strips as wide as itself is kept in squares."""
    path = photograph(tmp_path)
    with open_slide(path) as slide, load(keep(slide, tmp_path / "store")) as kept:
        assert kept.levels[0].tile == SizePx(256, 256)
        assert np.array_equal(
            kept.read_level(0, Region(3, 5, 600, 400)), slide.read_level(0, Region(3, 5, 600, 400))
        )


def test_a_damaged_tile_stays_damaged(tmp_path):
    """A tile that cannot be read is an error at its place, before and after; the rest is shown."""
    path = made.write_tiff(tmp_path / "a.tif", (1,))
    raw = bytearray(path.read_bytes())
    with open_slide(path) as slide:
        at = int(slide.source.grids[0].offsets[1])
    raw[at : at + 20] = bytes(20)
    path.write_bytes(raw)
    with open_slide(path) as slide, load(keep(slide, tmp_path / "store")) as kept:
        for one in (slide, kept):
            with pytest.raises(CorruptTileError) as caught:
                one.read_region((300, 10), 0, SizePx(50, 50))
            assert (caught.value.values["column"], caught.value.values["row"]) == (1, 0)
            assert one.read_region((0, 0), 0, SizePx(256, 256)).shape == (256, 256, 3)


def test_a_kept_original(tmp_path):
    """Of a format only OpenSlide reads the file is kept under another name, and that is said."""
    path = made.write_aperio(tmp_path / f"{made.NAME}.SVS")
    with open_with_openslide(Source((path,)), Limits()) as slide:
        slide._facts = type(slide._facts)(
            "hamamatsu", *[getattr(slide._facts, n) for n in ("levels", "mpp", "findings")]
        )
        folder = keep(slide, tmp_path / "store")
        assert sorted(path.name for path in folder.rglob("*")) == ["original", "slide.json", "slide.svs"]
        with load(folder) as kept:
            assert kept.findings[-1].key == "finding.original_kept"
            assert (kept.digest, kept.levels, kept.mpp) == (slide.digest, slide.levels, slide.mpp)
            whole = Region(5, 6, 600, 400)
            assert np.array_equal(kept.read_level(0, whole), slide.read_level(0, whole))
        (folder / "original" / "slide.svs").unlink()
        with pytest.raises(StoredImageError):
            load(folder)
        other = keep(slide, tmp_path / "other")
        (other / "original" / "slide.svs").write_bytes(b"damaged")
        with load(other) as broken, pytest.raises(CorruptTileError):
            broken.read_level(0, Region(0, 0, 9, 9))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("slide.json", lambda raw: raw[:-9]),
        ("slide.json", lambda raw: raw.replace(b'"version": 1', b'"version": 9')),
        ("slide.json", lambda raw: raw.replace(b'"vendor": "aperio"', b'"vendor": "YILMAZ"')),
        ("slide.json", lambda raw: raw.replace(b"finding.label_removed", b"finding.nobody_knows_")),
        ("slide.json", lambda raw: raw.replace(b'"original": null', b'"original": "../../x"')),
        ("index.bin", lambda raw: raw[:-16]),
        ("index.bin", lambda raw: raw + bytes(16)),
        ("index.bin", lambda raw: raw + bytes(3)),
        ("tiles.bin", lambda raw: raw[:-1] + b"\1"),
        ("profile.icc", lambda raw: raw[:40]),
    ],
)
def test_damaged_stores(name, change, tmp_path):
    """A store that was changed, cut or is of another version is refused when it is loaded and verified."""
    with open_slide(MADE["aperio-icc"](tmp_path)) as slide:
        folder = keep(slide, tmp_path / "store")
    path = folder / name
    assert change(path.read_bytes()) != path.read_bytes()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(StoredImageError):
        load(folder, verify=True)


def test_a_store_that_is_not_there(tmp_path):
    """A missing folder is an error with a key."""
    assert not is_stored_slide(tmp_path)
    with pytest.raises(StoredImageError):
        load(tmp_path / "nowhere")


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    """When the disk is full nothing of the slide stays."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("viewers.slide_writer.os.fsync", full)
    with open_slide(MADE["aperio"](tmp_path)) as slide, pytest.raises(OSError, match="No space"):
        keep(slide, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_files_find_each_other_again(tmp_path):
    """Files of a folder, of a zip, and sent one by one with their names, stand in the same places."""
    entries = {"s.mrxs": b"1", "s/Slidedat.ini": b"2", "s/Data 0.dat": b"3", "شريحة/x.dat": b"4"}
    folder = tmp_path / "in"
    for name, data in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    sent = [tmp_path / str(number) for number in range(4)]
    for path, data in zip(sent, entries.values(), strict=True):
        path.write_bytes(data)
    for number, (source, names) in enumerate(
        [(folder, ()), (zipped(tmp_path / "a.zip", entries), ()), (sent, list(entries))]
    ):
        home = tmp_path / f"home{number}"
        home.mkdir()
        paths = gather(source, home, Limits(), names)
        common = Path(os.path.commonpath(paths))
        assert {path.relative_to(common).as_posix(): path.read_bytes() for path in paths} == entries
        assert all(home in path.resolve().parents for path in paths)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil", "/etc/evil", "..\\..\\evil", "a/../../evil", "C:\\evil", "~/evil", "a\0b", ".", "..",
        "x" * 500, "a/" * 40 + "b", "NUL:", " ", "a.",
    ],
)  # fmt: skip
def test_names_decide_no_place_outside(name, tmp_path):
    """Whatever a file is called, it is put inside its folder, once."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0").write_bytes(b"x")
    (tmp_path / "in" / "1").write_bytes(b"y")
    home = tmp_path / "home"
    home.mkdir()
    paths = gather([tmp_path / "in" / "0", tmp_path / "in" / "1"], home, Limits(), [name, name])
    assert [path.read_bytes() for path in paths] == [b"x", b"y"]
    assert all((home / "slide").resolve() in path.resolve().parents for path in paths)


def test_links_are_not_followed(tmp_path):
    """A link in a folder of a slide is left alone."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    home = tmp_path / "home"
    home.mkdir()
    assert gather(tmp_path / "in", home, Limits()) == []


def mrxs(folder, ini, files=("Index.dat", "Data0.dat")):
    (folder / "s").mkdir(parents=True)
    (folder / "s.mrxs").write_bytes(b"\xff\xd8\xff")
    (folder / "s" / "Slidedat.ini").write_bytes(ini)
    for name in files:
        (folder / "s" / name).write_bytes(b"0" * 50)
    return folder


INI = b"\xef\xbb\xbf[HIERARCHICAL]\r\nINDEXFILE = %s\r\n[DATAFILE]\r\nFILE_COUNT = 1\r\nFILE_0 = %s\r\n"


@pytest.mark.parametrize(
    ("index", "data", "error"),
    [
        (b"Index.dat", b"../../secret.dat", OutsideReferenceError),
        (b"/etc/passwd", b"Data0.dat", OutsideReferenceError),
        (b"Index.dat", b"..\\secret.dat", OutsideReferenceError),
        (b"Index.dat", b"C:secret.dat", MissingCompanionError),
        (b"Index.dat", b"Data1.dat", MissingCompanionError),
    ],
)
def test_companions_are_inside_and_there(index, data, error, tmp_path):
    """A slide that names a file outside its folder is refused, as is one whose files are missing."""
    (tmp_path / "secret.dat").write_bytes(b"secret")
    with pytest.raises(error):
        open_with_openslide(Source((mrxs(tmp_path / "in", INI % (index, data)) / "s.mrxs",)), Limits())


def test_companions_that_are_links(tmp_path):
    """A companion that is a link may point anywhere, so it is refused."""
    (tmp_path / "secret.dat").write_bytes(b"secret")
    folder = mrxs(tmp_path / "in", INI % (b"Index.dat", b"Data0.dat"), files=("Index.dat",))
    (folder / "s" / "Data0.dat").symlink_to(tmp_path / "secret.dat")
    with pytest.raises(OutsideReferenceError):
        open_with_openslide(Source((folder / "s.mrxs",)), Limits())


def test_a_slide_without_its_folder(tmp_path):
    """A file that has companions, sent alone, says so."""
    (tmp_path / "s.mrxs").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(MissingCompanionError):
        open_with_openslide(Source((tmp_path / "s.mrxs",)), Limits())


def test_vms_names_are_looked_at(tmp_path):
    """The same for the settings file of VMS."""
    text = b"[Virtual Microscope Specimen]\nNoJpegColumns=1\nImageFile=../secret.jpg\nMapFile=map.jpg\n"
    (tmp_path / "s.vms").write_bytes(text)
    with pytest.raises(OutsideReferenceError):
        open_with_openslide(Source((tmp_path / "s.vms",)), Limits())


@pytest.mark.parametrize(
    ("kind", "expected"), [(kind, kind != "photograph") for kind in MADE if not kind.startswith("wsm")]
)
def test_what_may_be_a_slide(kind, expected, tmp_path):
    """A cheap look tells what is worth opening as a slide."""
    path = MADE[kind](tmp_path)
    assert may_be_slide(path) is expected
    assert may_be_slide(zipped(tmp_path / "z.zip", {path.name: path.read_bytes()})) is expected


def test_dicom_that_may_be_a_slide(tmp_path):
    """Of DICOM files only those of slides, also inside a zip."""
    from pydicom.data import get_testdata_file

    slide = made.write_wsm(tmp_path / "w") / "0.dcm"
    assert may_be_slide(slide)
    assert may_be_slide(zipped(tmp_path / "z.zip", {"0": slide.read_bytes()}))
    assert not may_be_slide(get_testdata_file("CT_small.dcm", download=False))


@pytest.fixture(scope="module")
def intake():
    """Return one child for all tests."""
    with SlideIntake() as opened:
        yield opened


class TestIntake:
    """Slides opened and stored by the child process."""

    def test_slides_of_all_shapes(self, intake, tmp_path):
        """A file, a zip of a spread DICOM slide, and its files one by one; the last two are one slide."""
        folder = made.write_wsm(tmp_path / "w", spread=True)
        files = sorted(folder.rglob("*.dcm"))
        entries = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        parts = []
        single = intake.open(
            made.write_aperio(tmp_path / "a.svs"), tmp_path / "store", on_progress=parts.append
        )
        from_zip = intake.open(zipped(tmp_path / "z.zip", entries), tmp_path / "store")
        one_by_one = intake.open(files, tmp_path / "store", names=list(entries))
        assert from_zip == one_by_one != single
        assert parts == sorted(parts)
        assert parts[-1] == 1.0
        for stored in (single, from_zip):
            with load(stored, verify=True) as slide:
                assert slide.size == SizePx(made.WIDTH, made.HEIGHT)
        assert sorted(path.name for path in (tmp_path / "store").iterdir()) == sorted(
            {single.name, from_zip.name}
        )

    def test_what_is_no_slide(self, intake, tmp_path):
        """A photograph is a slide only when it is asked for as one; a text never."""
        (tmp_path / "a.txt").write_text("no slide")
        with pytest.raises(NotAnImageError):
            intake.open(tmp_path / "a.txt", tmp_path / "store", flat=True)
        with pytest.raises(NotAnImageError):
            intake.open(photograph(tmp_path), tmp_path / "store")
        with load(intake.open(photograph(tmp_path), tmp_path / "store", flat=True)) as slide:
            assert slide.vendor == "picture"

    def test_errors_come_through(self, intake, tmp_path):
        """Named errors of the child are the caller's, and nothing of the slide stays."""
        path = made.write_aperio(tmp_path / "a.svs")
        with pytest.raises(TooLargeError) as caught:
            intake.open(path, tmp_path / "store", Limits(slide_pixels=1000))
        assert caught.value.values["quantity"] == "pixels"
        with pytest.raises(TooLargeError):
            intake.open(path, tmp_path / "store", Limits(slide_bytes=1000))
        (tmp_path / "z.zip").write_bytes(b"PK\3\4 not a zip .svs")
        with pytest.raises(ArchiveError):
            intake.open(tmp_path / "z.zip", tmp_path / "store")
        assert list((tmp_path / "store").iterdir()) == []

    def test_a_slide_that_ends_the_child(self, tmp_path):
        """What ends the child ends nothing else; the next slide opens."""
        path = made.write_aperio(tmp_path / "a.svs")
        with SlideIntake(job=dies_of_small_files) as intake:
            (tmp_path / "small").write_bytes(b"x")
            with pytest.raises(IntakeError, match="exit"):
                intake.open(tmp_path / "small", tmp_path / "store")
            with load(intake.open(path, tmp_path / "store")) as slide:
                assert slide.size.width == made.WIDTH

    def test_a_slide_that_takes_too_long(self, tmp_path):
        """A child that says nothing for long is ended."""
        with (
            SlideIntake(WorkerLimits(wall_s=0.5), job=sleeps) as intake,
            pytest.raises(IntakeError, match=r"0\.5 s"),
        ):
            intake.open(REAL, tmp_path / "store")


def dies_of_small_files(question, tell):
    from viewers.slide_intake import store_slide

    if Path(question["sources"][0]).stat().st_size < 100:
        os._exit(9)
    return store_slide(question, tell)


def sleeps(_question, _tell):
    import time

    time.sleep(60)


def test_the_record_holds_nothing_else(tmp_path):
    """The record has exactly the entries it should, so that nothing can be added unseen."""
    with open_slide(MADE["aperio"](tmp_path)) as slide:
        folder = keep(slide, tmp_path / "store")
    record = json.loads((folder / "slide.json").read_text())
    assert sorted(record) == sorted(
        ["version", "digest", "tiles_sha256", "original", "vendor", "mpp", "findings", "levels", "codings"]
    )
    assert sorted(path.name for path in folder.iterdir()) == ["index.bin", "slide.json", "tiles.bin"]
