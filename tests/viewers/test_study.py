"""Folders and archives to studies and series: by geometry, without names; what is broken stays out."""

from __future__ import annotations

import io
import random
import struct
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet

from tests.viewers.conftest import TEST_FILES
from tests.viewers.phantoms import CORONAL, turned, write_series
from viewers.directory import names_directory
from viewers.errors import (
    ArchiveError,
    DecompressionBombError,
    OpenError,
    TooFewSlicesError,
    TooLargeError,
    VolumeError,
)
from viewers.intake import open_image
from viewers.limits import Limits
from viewers.skim import skim
from viewers.store import load
from viewers.study import StudyReader, read_studies
from viewers.view import default_view, render


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a source and closes its reader when the test ends."""
    readers = []

    def read_source(source, **options):
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        reader, studies = read_studies(source, scratch=scratch, **options)
        readers.append(reader)
        return reader, studies

    yield read_source
    for reader in readers:
        reader.close()


def zipped(entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return stream.getvalue()


def only(studies):
    (study,) = studies
    (series,) = study.series
    return series


def along(series):
    return [plane.along(plane.normal) for plane in series.stack.planes]


def test_a_folder_is_one_study_sorted_by_position(tmp_path, read):
    """File names in the opposite order do not matter: slices go up along the normal."""
    write_series(tmp_path / "in")
    reader, studies = read(tmp_path / "in")
    series = only(studies)
    assert along(series) == pytest.approx([10, 12, 14, 16, 18, 20])
    assert (series.modality, series.facts["BodyPartExamined"]) == ("CT", "CHEST")
    assert (series.size.width, series.size.height, series.frame_count) == (12, 10, 6)
    assert (reader.findings, series.findings) == ((), ())


def test_a_series_opens_as_one_image(tmp_path, read):
    """Its frames are the slices, with the pixels, marks, windows and facts of each file opened alone."""
    paths = write_series(tmp_path / "in")
    image = only(read(tmp_path / "in")[1]).open()
    assert image.frame_count == 6
    for frame, path in enumerate(paths):
        alone = open_image(path)
        assert np.array_equal(image.frame(frame).codes, alone.frame(0).codes)
        assert image.orientation(frame) == alone.orientation(0)
        assert image.windows(frame) == alone.windows(0)
        assert np.array_equal(
            render(image, default_view(image, frame)), render(alone, default_view(alone, 0))
        )
    assert image.facts == open_image(paths[0]).facts


def test_a_kept_series_is_an_image_like_any_other(tmp_path, read):
    """Stored once, named by its pixels, loaded with the same frames; the same series gets the same name."""
    write_series(tmp_path / "in")
    series, told = only(read(tmp_path / "in")[1]), []
    folder = series.keep(tmp_path / "kept", told.append)
    kept, opened = load(folder), series.open()
    assert folder.name == kept.digest
    assert kept.describes == opened.describes
    assert all(np.array_equal(kept.frame(n).codes, opened.frame(n).codes) for n in range(6))
    assert told == pytest.approx([n / 6 for n in range(1, 7)])
    assert only(read(tmp_path / "in")[1]).keep(tmp_path / "kept") == folder
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [folder.name]


def test_the_first_image_opens_before_the_last_file_is_read(tmp_path):
    """The reader yields images as it goes, and they can be opened at once."""
    write_series(tmp_path / "in", count=8)
    with StudyReader(tmp_path / "in") as reader:
        reads = iter(reader)
        first = next(reads)
        assert (first.done, first.total) == (1, 8)
        assert first.instance.open().frame_count == 1
        assert reader.studies()[0].series[0].frame_count == 1
        assert [read.done for read in reads] == list(range(2, 9))
        assert reader.studies()[0].series[0].frame_count == 8


def test_nothing_of_an_identity_is_shown(tmp_path, read):
    """No name, date, UID or file name is in what a study says of itself; ids depend on the key."""
    write_series(tmp_path / "ZZ-in")
    reader, studies = read(tmp_path / "ZZ-in", key=b"a" * 32)
    text = repr(studies) + repr(reader.findings)
    for mark in ("Nobody", "ID-ZZ", "ZZ-in", "19010203", "1.2.3.1", ".dcm"):
        assert mark not in text
    again, other = read(tmp_path / "ZZ-in", key=b"a" * 32)[1], read(tmp_path / "ZZ-in", key=b"b" * 32)[1]
    assert again[0].id == studies[0].id != other[0].id
    assert only(again).id == only(studies).id != only(other).id
    kept = only(studies).keep(tmp_path / "kept")
    assert b"Nobody" not in b"".join(path.read_bytes() for path in kept.iterdir())


def test_mixed_series_are_split_by_geometry(tmp_path, read):
    """Orientations, sizes, spacings and kinds under one UID become series of their own, and say so."""
    write_series(tmp_path / "in", names=[f"a{n}" for n in range(6)])
    write_series(tmp_path / "in", names=[f"b{n}" for n in range(4)], count=4, cosines=CORONAL)
    write_series(tmp_path / "in", names=[f"c{n}" for n in range(3)], count=3, shape=(8, 8))
    write_series(tmp_path / "in", names=[f"d{n}" for n in range(2)], count=2, spacing=(1.0, 1.0))
    write_series(tmp_path / "in", names=["e"], count=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (study,) = read(tmp_path / "in")[1]
    assert [series.frame_count for series in study.series] == [6, 4, 3, 2, 1]
    assert all(series.findings[0].key == "finding.series_split" for series in study.series)
    assert len({series.id for series in study.series}) == 5


@pytest.mark.parametrize(
    "keyword", ["EchoNumbers", "TemporalPositionIdentifier", "TriggerTime", "DiffusionBValue", None]
)
def test_places_taken_twice_become_two_series(tmp_path, read, keyword):
    """Echoes and time points are told apart by their attributes, else by instance number."""
    for part in (1, 2):
        more = {keyword: part} if keyword else {"AcquisitionNumber": part}
        names = [f"{part}-{n}" for n in range(4)]
        write_series(tmp_path / "in", count=4, names=names, origin=(part, 0, 0), **more)
    (study,) = read(tmp_path / "in")[1]
    assert [series.frame_count for series in study.series] == [4, 4]
    for part, series in enumerate(study.series, 1):
        assert {plane.position_mm[0] for plane in series.stack.planes} == {part}


def test_a_place_that_is_watched_is_one_series(tmp_path, read):
    """Images of one place, as of a beating heart, stay together in the order of time, without a complaint."""
    for number in range(5):
        write_series(
            tmp_path / "in",
            count=1,
            names=[f"{number}"],
            TriggerTime=200.0 - 40 * number,
            AcquisitionNumber=number,
            origin=(0, 0, 5),
        )
    series = only(read(tmp_path / "in")[1])
    assert [instance.index for instance in series.instances] == [5, 4, 3, 2, 1]
    assert series.findings == ()
    image = load(series.keep(tmp_path / "kept"))
    assert image.describes.times_s == pytest.approx((0, 0.04, 0.08, 0.12, 0.16))
    with pytest.raises(TooFewSlicesError):
        series.stack.check()


@pytest.mark.parametrize("identifiers", [("1.2.3.1", "1.2.3.1.1"), ("", "")])
def test_patients_under_one_study_are_kept_apart(tmp_path, read, identifiers):
    """Broken exports give several patients the same UIDs, or none: their slices are never one stack."""
    study, series = identifiers
    for patient in ("A", "B"):
        names = [f"{patient}{n}.dcm" for n in range(4)]
        write_series(tmp_path / "in", count=4, names=names, study=study, series=series, PatientID=patient)
    reader, studies = read(tmp_path / "in", key=b"k" * 32)
    assert [[one.frame_count for one in made.series] for made in studies] == [[4], [4]]
    assert [(item.key, item.values) for item in reader.findings] == [
        ("finding.patients_share_study", {"count": 2})
    ]
    origins = [made.series[0].origin for made in studies]
    for part in ("study", "series", "space", "patient"):
        pseudonyms = {getattr(one, part) for one in origins}
        assert len(pseudonyms) == 2 or pseudonyms == {""}
    assert len({made.id for made in studies}) == 2


def test_copies_of_two_patients_are_no_duplicates(tmp_path, read):
    """The same SOP instance UID under two patients is two images."""
    for patient in ("A", "B"):
        write_series(tmp_path / "in", count=1, names=[patient], PatientID=patient, SOPInstanceUID="1.2.3.4")
    reader, studies = read(tmp_path / "in")
    assert len(studies) == 2
    assert [item.key for item in reader.findings] == ["finding.patients_share_study"]


def test_a_disc_says_what_is_missing(tmp_path, read):
    """What a DICOMDIR lists and nobody finds is told; alone it opens nothing, and says so."""
    files = FileSet()
    for path in write_series(tmp_path / "in", count=4, StudyTime="101500", StudyID="1", SeriesNumber=1):
        dataset = pydicom.dcmread(path)
        dataset.AccessionNumber = dataset.StudyDescription = dataset.SeriesDescription = ""
        files.add(dataset)
    disc = tmp_path / "disc"
    files.write(disc)
    files._stage["t"].cleanup()  # left to the garbage collector, which warns
    assert read(disc)[0].findings == ()
    images = sorted(path for path in disc.rglob("*") if path.is_file() and path.name != "DICOMDIR")
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:400])
    found = {item.key: item.values for item in read(disc)[0].findings}
    assert found["finding.disc_incomplete"] == {"missing": 2, "total": 4}
    reader, studies = read(disc / "DICOMDIR")
    assert studies == ()
    assert [item.values for item in reader.findings] == [{"missing": 4, "total": 4}]
    assert names_directory(disc / "DICOMDIR")
    assert not names_directory(images[0])
    assert not names_directory(disc)


def test_the_same_image_twice_is_kept_once(tmp_path, read):
    """Copies under other names are dropped and counted."""
    paths = write_series(tmp_path / "in")
    for path in paths[:2]:
        (tmp_path / "in" / f"copy-{path.name}").write_bytes(path.read_bytes())
    reader, studies = read(tmp_path / "in")
    assert only(studies).frame_count == 6
    assert [str(item) for item in reader.findings] == [
        "2 images are there more than once; one of each was kept."
    ]


def test_what_is_broken_stays_out_and_the_rest_opens(tmp_path, read):
    """A cut file is a finding that names its number, not its name; other files are counted."""
    paths = write_series(tmp_path / "in")
    raw = paths[0].read_bytes()
    paths[0].write_bytes(raw[:-40])
    (tmp_path / "in" / "ZZ-report.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "in" / "DICOMDIR").write_bytes((TEST_FILES / "dicomdirtests" / "DICOMDIR").read_bytes())
    (tmp_path / "in" / "zz-cut").write_bytes(raw[:300])
    reader, studies = read(tmp_path / "in")
    assert only(studies).frame_count == 5
    found = {item.key: item for item in reader.findings}
    assert found["finding.files_not_images"].values["count"] == 1
    assert found["finding.file_unreadable"].values["kind"] in {"TruncatedFileError", "CorruptHeaderError"}
    assert "ZZ" not in repr(reader.findings)
    assert only(studies).open().frame_count == 5


def test_a_slice_that_cannot_be_decoded_is_left_out_when_stored(tmp_path, read):
    """Damage that only decoding finds costs that slice, not the series."""
    rle = pydicom.dcmread(TEST_FILES / "MR_small_RLE.dcm")
    for number in range(3):
        rle.SOPInstanceUID = f"1.2.3.{number}"
        rle.ImagePositionPatient = [0, 0, number]
        rle.save_as(tmp_path / f"{number}.dcm")
    raw = bytearray((tmp_path / "1.dcm").read_bytes())
    at = raw.rindex(b"\xe0\x7f\x10\x00")
    raw[at + 60 :] = bytes(len(raw) - at - 60)
    (tmp_path / "1.dcm").write_bytes(raw)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (tmp_path / f"{number}.dcm").rename(folder / f"{number}.dcm")
    kept = load(only(read(folder)[1]).keep(tmp_path / "kept"))
    assert kept.frame_count == 2
    assert [item.values for item in kept.findings if item.key == "finding.slices_left_out"] == [{"count": 1}]


FILES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "JPGExtended.dcm",
    "693_J2KI.dcm",
    "examples_palette.dcm",
    "image_dfl.dcm",
    "SC_rgb_small_odd.dcm",
]


@pytest.mark.parametrize("name", FILES)
def test_skimmed_files_open_as_parsed_ones(tmp_path, read, name):
    """Two of a file in a series have the pixels and facts of the file opened alone."""
    source = TEST_FILES / name
    alone = open_image(source)
    first = pydicom.dcmread(source, force=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(source.read_bytes())
    first.SOPInstanceUID = "1.2.3.9"
    if "ImagePositionPatient" in first:
        across, down = np.reshape(first.ImageOrientationPatient, (2, 3))
        moved = np.asarray(first.ImagePositionPatient, float) + np.cross(across, down)
        first.ImagePositionPatient = [f"{value:.6f}" for value in moved]
    first.save_as(tmp_path / "in" / "b", enforce_file_format=False)
    series = only(read(tmp_path / "in")[1])
    image = series.open()
    assert image.frame_count == 2
    known = ("finding.header_warnings", "finding.no_preamble")
    told = [item for item in alone.findings if item.key not in known]
    assert [item for item in image.findings if item.key not in (*known, "finding.position_missing")] == told
    assert image.facts == alone.facts
    for frame in (0, 1):
        pixels = "rgb" if image.is_color else "codes"
        assert np.array_equal(getattr(image.frame(frame), pixels), getattr(alone.frame(0), pixels))
        assert image.windows(frame) == alone.windows(0)


def test_skimming_keeps_listed_attributes_only(ct, write):
    """Sequences of undefined length are stepped over; no name is among what is kept."""
    ct.PatientName = "ZZMARKER"
    item = pydicom.Dataset()
    item.PatientName = "ZZMARKER"
    ct.ReferencedStudySequence = [item]
    ct["ReferencedStudySequence"].is_undefined_length = True
    path = write(ct)
    skimmed = skim(path.read_bytes())
    assert skimmed is not None
    assert b"ZZMARKER" not in b"".join(skimmed.elements.values())
    assert skimmed.value("Rows") == struct.pack("<H", 128)
    assert b"1.3.6" not in b"".join(skimmed.anonymous().elements.values())


def test_uneven_and_tilted_series_say_so(tmp_path, read):
    """A missing slice and a tilted gantry are findings with their numbers."""
    write_series(tmp_path / "a", offsets=[0, 2, 4, 8, 10])
    write_series(tmp_path / "b", cosines=turned(12), shear=(0.0, np.tan(np.radians(12.0)), 0.0))
    (uneven,) = only(read(tmp_path / "a")[1]).findings
    assert uneven.values == {"smallest": 2.0, "largest": 4.0}
    keys = [item.key for item in only(read(tmp_path / "b")[1]).findings]
    assert "finding.gantry_tilt" in keys


def test_slices_moved_in_their_plane_are_no_tilt(tmp_path, read):
    """A field of view that was moved halfway is told as that, not as a tilted gantry."""
    series = tmp_path / "in"
    write_series(series, offsets=[0, 2, 4])
    for path in write_series(tmp_path / "moved", offsets=[6, 8, 10], origin=(-10.0, -30.0, 10.0)):
        path.rename(series / f"moved {path.name}")
    keys = [item.key for item in only(read(series)[1]).findings]
    assert "finding.slices_shifted" in keys
    assert "finding.gantry_tilt" not in keys


def test_archives_in_archives(tmp_path, read):
    """A zip in a zip is read; names that point elsewhere point nowhere; a third level is not opened."""
    paths = write_series(tmp_path / "in", count=3)
    raw = [path.read_bytes() for path in paths]
    deepest = zipped([("x.dcm", raw[2])])
    inner = zipped([("../../evil.dcm", raw[1]), ("deep.zip", deepest)])
    source = tmp_path / "study.zip"
    source.write_bytes(zipped([("/etc/evil.dcm", raw[0]), ("inner.zip", inner)]))
    before = sorted(path.name for path in tmp_path.iterdir())
    reader, studies = read(source)
    assert only(studies).frame_count == 2
    assert [item.key for item in reader.findings] == ["finding.archive_too_deep"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "scratch") == before
    assert only(studies).open().frame_count == 2
    reader.close()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (Limits(archive_entries=3), TooLargeError),
        (Limits(archive_bytes=4000), TooLargeError),
        (Limits(file_bytes=500), TooLargeError),
    ],
)
def test_archives_beyond_the_limits_are_refused(tmp_path, limits, error):
    """Entries, their bytes and the total are counted as they are read."""
    paths = write_series(tmp_path / "in")
    source = tmp_path / "study.zip"
    source.write_bytes(zipped([(path.name, path.read_bytes()) for path in paths]))
    with pytest.raises(error):
        read_studies(source, limits=limits, scratch=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "study.zip"]


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    """Bytes read for each byte of the archive are limited, whatever the archive says of itself."""
    monkeypatch.setattr("viewers.archive._SMALL", 2**20)
    source = tmp_path / "bomb.zip"
    source.write_bytes(zipped([("zeros", bytes(6 * 2**20))]))
    with pytest.raises(DecompressionBombError):
        read_studies(source, scratch=tmp_path)


def test_damaged_archives(tmp_path, read):
    """A zip that is none is refused; an entry with a wrong checksum or a password costs that entry."""
    paths = write_series(tmp_path / "in", count=3)
    whole = bytearray(zipped([(f"{n}", path.read_bytes()) for n, path in enumerate(paths)]))
    source = tmp_path / "study.zip"
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError):
        read(source)
    at = whole.index(b"PK\x01\x02") + 8
    whole[at] |= 1
    source.write_bytes(whole)
    reader, studies = read(source)
    assert only(studies).frame_count == 2
    assert [item.values["index"] for item in reader.findings] == [1]
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, 2**31, 0, 0)
    source.write_bytes(b"PK\x03\x04" + bytes(20) + end)
    with pytest.raises(OpenError):
        read(source)


@pytest.mark.parametrize("spacing", ["1\\nan", "1\\inf", "0\\1", "1", "1\\-1"])
def test_impossible_spacing_is_no_spacing(tmp_path, read, spacing):
    """Numbers that are none do not reach an affine: the series opens, and says it is no volume."""
    paths = write_series(tmp_path / "in", spacing=(1.5, 1.5))
    for path in paths:
        raw = path.read_bytes()
        at = raw.index(b"1.5\\1.5")
        path.write_bytes(raw[:at] + spacing.encode().ljust(7) + raw[at + 7 :])
    series = only(read(tmp_path / "in")[1])
    assert series.stack.spacing_mm is None
    assert series.open().frame_count == 6
    with pytest.raises(VolumeError):
        series.stack.affine()


def test_links_are_not_followed(tmp_path, read):
    """A link in a folder may point to anything; it is left alone."""
    write_series(tmp_path / "in", count=3)
    outside = write_series(tmp_path / "out", count=1, series="1.2.9")
    (tmp_path / "in" / "link.dcm").symlink_to(outside[0])
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out", target_is_directory=True)
    assert only(read(tmp_path / "in")[1]).frame_count == 3


def test_a_picture_and_a_multiframe_object_are_series_of_one_file(tmp_path, read):
    """They open as they do alone."""
    (tmp_path / "in").mkdir()
    for name in ("rtdose.dcm", "SC_rgb_rle_2frame.dcm"):
        (tmp_path / "in" / name).write_bytes((TEST_FILES / name).read_bytes())
    from PIL import Image as Pillow

    Pillow.new("L", (5, 4)).save(tmp_path / "in" / "z.png")
    series = [series for study in read(tmp_path / "in")[1] for series in study.series]
    assert sorted(item.frame_count for item in series) == [1, 2, 15]
    for item in series:
        assert load(item.keep(tmp_path / "kept")).frame_count == item.frame_count


def test_a_file_that_disappears_is_an_open_error(tmp_path, read):
    """Files deleted after reading do not end in an error of the operating system when frames are drawn."""
    paths = write_series(tmp_path / "in")
    image = only(read(tmp_path / "in")[1]).open()
    paths[3].unlink()
    with pytest.raises(OpenError):
        image.frame(3)
    assert image.frame(2).codes.shape == (10, 12)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_headers_never_escape(tmp_path, read, seed):
    """Files with random bytes changed, or cut anywhere, are images or findings, never anything else."""
    chance = random.Random(seed)
    (path,) = write_series(tmp_path / "one", count=1)
    sources = [path.read_bytes(), (TEST_FILES / "CT_small.dcm").read_bytes()[:20_000]]
    (tmp_path / "in").mkdir()
    for number in range(60):
        raw = bytearray(chance.choice(sources))
        end = len(raw) - 240
        for _ in range(chance.choice([1, 3, 20])):
            raw[chance.randrange(128, end)] = chance.randrange(256)
        cut = chance.randrange(100, len(raw)) if number % 4 == 0 else len(raw)
        (tmp_path / "in" / f"{number}").write_bytes(raw[:cut])
    reader, studies = read(tmp_path / "in")
    told = [item for item in reader.findings if item.key == "finding.file_unreadable"]
    assert told
    for study in studies:
        for series in study.series:
            try:
                image = series.open()
                render(image, default_view(image, 0))
            except OpenError:
                continue
