"""A stored image is the image, and nothing of the file it came from."""

from __future__ import annotations

import copy
import json
import threading

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.viewers.conftest import TEST_FILES, lut_item
from tests.viewers.test_dicom import NOISE, RAMP, color_dataset, functional_groups, grey_dataset
from viewers.errors import CorruptPixelDataError, StoredImageError
from viewers.image import Image
from viewers.intake import browser_frame, open_image
from viewers.store import load, save
from viewers.view import default_view, describe_view, render

FILES = [
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "rtdose.dcm",
    "examples_palette.dcm",
    "SC_rgb_rle_2frame.dcm",
    "JPGExtended.dcm",
    "liver_1frame.dcm",
]


def assert_same(stored, image):
    """Assert the same digest, facts, choices and pixels, on every frame."""
    assert stored.digest == image.digest
    assert stored.describes == image.describes
    for frame in range(image.frame_count):
        assert stored.windows(frame) == image.windows(frame)
        view = default_view(image, frame)
        assert default_view(stored, frame) == view
        assert np.array_equal(render(stored, view), render(image, view))
        assert browser_frame(stored, frame) == browser_frame(image, frame)
        assert describe_view(stored, view) == describe_view(image, view)


@pytest.mark.parametrize("name", FILES)
def test_bundled_files_round_trip(tmp_path, name):
    """Grey, quantised, palette, colour, lossy, single bits: equal after loading."""
    image = open_image(TEST_FILES / name)
    save(image, tmp_path / "kept")
    assert_same(load(tmp_path / "kept"), image)


def test_voi_luts_tables_and_functional_groups_round_trip(ct, write, tmp_path):
    """LUTs, modality tables and differing frames are kept."""
    ct.VOILUTSequence = lut_item(-1000, 12, np.linspace(0, 4095, 2000).astype(int))
    ct.ModalityLUTSequence = lut_item(0, 12, np.minimum(np.arange(3000) * 2, 4095), kind="US")
    for dataset in (ct, functional_groups(), color_dataset(NOISE)):
        image = open_image(write(dataset))
        save(image, tmp_path / "kept")
        assert_same(load(tmp_path / "kept"), image)


def test_frames_are_mapped_not_read(tmp_path):
    """Loading keeps the frames on disk."""
    save(open_image(TEST_FILES / "rtdose.dcm"), tmp_path / "kept")
    frame = load(tmp_path / "kept").frame(3)
    assert isinstance(frame.codes, np.memmap)
    assert not frame.codes.flags.writeable
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["frames.npy", "image.json"]


MARKS = dict.fromkeys(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"), "ZZMARKER") | {
    "AS": "077Y",
    "DA": "19010203",
    "DS": "771.177",
    "DT": "19010203040506",
    "IS": "77117711",
    "PN": "ZZMARKER^ZZMARKER",
    "TM": "010203",
    "UI": "2.25.77117711",
    "UR": "http://zzmarker",
}
"""A value for each VR of text."""
PLANTED = ("ZZMARKER", "zzmarker", "19010203", "77117711", "2.25.7711", "077Y")

DESCRIBE_PIXELS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "PixelAspectRatio",
)


def plant(dataset):
    """Every text attribute of the standard's dictionary, but those that describe the pixels, gets a mark."""
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr not in MARKS or keyword in DESCRIBE_PIXELS or not keyword or retired or tag >> 16 in {0, 2, 4}:
            continue
        dataset.add_new(tag, vr, MARKS[vr])
    return dataset


def planted_everywhere():
    """Put marks at the top of CT_small, in sequences, private elements, the preamble and the file meta."""
    dataset = plant(pydicom.dcmread(TEST_FILES / "CT_small.dcm"))
    nested = plant(Dataset())
    for keyword in ("ReferencedStudySequence", "RequestAttributesSequence", "SharedFunctionalGroupsSequence"):
        setattr(dataset, keyword, Sequence([copy.deepcopy(nested)]))
    dataset.VOILUTSequence = lut_item(0, 8, [0, 255])
    dataset.VOILUTSequence[0].LUTExplanation = "ZZMARKER"
    dataset.private_block(0x0011, "ZZMARKER", create=True).add_new(0x01, "LO", "ZZMARKER")
    dataset.preamble = b"ZZMARKER" * 16
    dataset.file_meta.SourceApplicationEntityTitle = "ZZMARKER"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.77117711"
    # Planted windows would be numbers, which are kept; their names are text, which is not.
    dataset.WindowCenter, dataset.WindowWidth = [40, 50], [400, 500]
    dataset.WindowCenterWidthExplanation = ["ZZMARKER", "ZZMARKER"]
    return dataset


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nothing_of_an_identity_is_stored(tmp_path):
    """A mark planted in every text attribute, at every level, is in no byte of what is kept or sent."""
    path = tmp_path / "ZZMARKER.dcm"
    planted_everywhere().save_as(path)
    assert path.read_bytes().count(b"ZZMARKER") > 1000
    image = open_image(path)
    save(image, tmp_path / "kept")
    meta, _ = browser_frame(image, 0)
    view = default_view(image)
    texts = [
        *((tmp_path / "kept" / name).read_bytes().decode("latin-1") for name in ("image.json", "frames.npy")),
        json.dumps(meta),
        json.dumps(view.to_json()),
        json.dumps(describe_view(image, view)),
        repr(image.describes),
        repr(image),
    ]
    for text in texts:
        for mark in PLANTED:
            assert mark not in text
    assert image.frame_count == 1


def test_facts_are_codes_and_numbers_only(ct, write):
    """Allow-listed attributes are kept when they say a known code or a number, and dropped otherwise."""
    ct.BodyPartExamined, ct.ViewPosition, ct.Laterality = "CHEST", "MUELLER", "L"
    ct.Modality = "CT"
    facts = open_image(write(ct)).facts
    assert (facts["BodyPartExamined"], facts["Laterality"], facts["KVP"]) == ("CHEST", "L", "120")
    assert "ViewPosition" not in facts
    assert not {"Manufacturer", "StudyDate", "PatientName", "SOPInstanceUID"} & set(facts)


def test_saving_replaces_and_leaves_no_litter(tmp_path, write):
    """A second save replaces the first as a whole; no temporary folder stays."""
    save(open_image(TEST_FILES / "CT_small.dcm"), tmp_path / "kept")
    other = open_image(write(grey_dataset(RAMP)))
    save(other, tmp_path / "kept")
    assert load(tmp_path / "kept").digest == other.digest
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["kept"]


def test_saving_at_the_same_time(tmp_path):
    """Threads that store the same image in the same place all succeed, and one whole image is there."""
    image = open_image(TEST_FILES / "CT_small.dcm")
    failures = []

    def work():
        try:
            save(image, tmp_path / "kept")
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert_same(load(tmp_path / "kept"), image)


def test_a_failed_save_keeps_what_was_there(tmp_path):
    """When a later frame cannot be decoded, nothing is written and the old image stays."""
    good = open_image(TEST_FILES / "CT_small.dcm")
    save(good, tmp_path / "kept")

    class Broken:
        """Frames of which none can be decoded."""

        def read(self, index):
            raise CorruptPixelDataError(frame=index + 1, reason="test")

    with pytest.raises(CorruptPixelDataError):
        save(Image(good.describes, Broken(), "x"), tmp_path / "kept")
    assert load(tmp_path / "kept").digest == good.digest
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.fixture
def kept(tmp_path):
    save(open_image(TEST_FILES / "CT_small.dcm"), tmp_path / "kept")
    return tmp_path / "kept"


def change(folder, edit):
    record = json.loads((folder / "image.json").read_text())
    edit(record)
    (folder / "image.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record.update(version=3),
        lambda record: record.update(extra=1),
        lambda record: record.pop("digest"),
        lambda record: record["facts"].update(patient="x"),
        lambda record: record["facts"].pop("modality"),
        lambda record: record["facts"].update(size=[128, 127]),
        lambda record: record["facts"].update(size=[-1, 128]),
        lambda record: record["facts"].update(is_color=True),
        lambda record: record["facts"].update(kind="x"),
        lambda record: record["facts"].update(frames=[5]),
        lambda record: record["facts"].update(findings=[{"key": "x", "values": {}}]),
        lambda record: record["facts"]["spacing"].update(row=0),
        lambda record: record.update(frame_code_map=[]),
        lambda record: record["facts"].pop("planes"),
        lambda record: record["facts"].update(planes=[None, None]),
        lambda record: record["facts"].update(planes=[[0, 0, 0, 1, 0, 0, 1, 0, 0]]),
        lambda record: record["facts"].update(passes=["x"]),
        lambda record: record["facts"]["origin"].update(name="x"),
        lambda record: record["facts"]["origin"].update(patient=5),
        lambda record: record["code_maps"][0].update(slope="1"),
        lambda record: record["code_maps"][0].update(table="AAAA"),
    ],
)
def test_an_edited_record_is_refused(kept, edit):
    """The schema is strict: anything unknown, missing, of another type or version is an error."""
    change(kept, edit)
    with pytest.raises(StoredImageError):
        load(kept)


def test_a_record_that_says_nothing_of_a_patient_opens(kept):
    """Images stored by earlier versions open as before."""
    change(kept, lambda record: record["facts"]["origin"].pop("patient"))
    assert load(kept).describes.origin.patient == ""


def test_version_1_is_still_read(kept):
    """A record without places, times and pseudonyms loads as the image it was."""
    newer = load(kept)

    def older(record):
        record["version"] = 1
        for name in ("planes", "passes", "times_s", "calibrated", "origin"):
            del record["facts"][name]

    change(kept, older)
    image = load(kept)
    assert (image.digest, image.describes.planes) == (newer.digest, ())
    assert np.array_equal(render(image, default_view(image)), render(newer, default_view(newer)))


def test_edited_or_missing_frames_are_refused(kept):
    """A changed pixel fails its SHA-256; a shorter or missing file fails too."""
    frames = kept / "frames.npy"
    raw = frames.read_bytes()
    frames.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(StoredImageError, match="SHA-256"):
        load(kept)
    assert load(kept, verify=False).frame_count == 1
    frames.write_bytes(raw[:-100])
    with pytest.raises(StoredImageError):
        load(kept)
    frames.unlink()
    with pytest.raises(StoredImageError):
        load(kept)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_a_record_that_is_no_json_object_is_refused(kept, text):
    """Rubbish in place of the record is an error of ours."""
    (kept / "image.json").write_text(text)
    with pytest.raises(StoredImageError):
        load(kept)


def test_a_missing_folder_is_refused(tmp_path):
    """Nothing there: an error of ours, not of the operating system."""
    with pytest.raises(StoredImageError):
        load(tmp_path / "nowhere")
