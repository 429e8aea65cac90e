"""An identity planted everywhere is nowhere in the result, and one patient stays one patient."""

from __future__ import annotations

import copy
import datetime as dt
import importlib
import io
import re
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import ImageCms
from pydicom.datadict import DicomDictionary, dictionary_keyword, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.viewers.conftest import TEST_FILES
from viewers.deid import Policy, deidentify, describe
from viewers.errors import MissingDecoderError
from viewers.intake import open_image
from viewers.kept_text import CODE_TEXT, KEPT_TEXT

README = Path(__file__).parents[2] / "README.md"
KEY = b"0123456789abcdef"
PLANTED = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "ZZMARK"),
    **dict.fromkeys(("OB", "OW", "UN"), b"ZZMARK"),
    "AS": "077Y",
    "DA": "19310203",
    "DS": "771.177",
    "DT": "19310203040506",
    "FD": 771.177,
    "FL": 771.0,
    "IS": "77117711",
    "SL": -77117,
    "SS": -7711,
    "TM": "071113",
    "UI": "2.25.77117711",
    "UL": 77117711,
    "UR": "http://zzmark",
    "US": 7711,
}
PIXELS = 0x00280000
GONE = (b"ZZMARK", b"zzmark", b"19310203", b"77117711", b"2.25.7711", b"077Y", b"771.177", b"071113")


def table():
    """Return the attributes of PS3.15's table, without repeating groups, that a dataset can hold."""
    rules = importlib.import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
    tags = [entry[0] << 16 | entry[1] for entry in rules.ALL_TAGS if len(entry) == 2]
    known = [tag for tag in tags if tag in DicomDictionary and tag >> 16 not in {0, 2, 4, 0x7FE0}]
    return [tag for tag in known if tag & 0xFFFF0000 != PIXELS or tag & 0xFFFF > 0x1000]


def plant(dataset, tags):
    planted = {}
    for tag in tags:
        vr = dictionary_VR(tag).split(" or ")[0]
        if vr == "SQ":
            item = Dataset()
            item.CodeMeaning = item.CodeValue = item.TextValue = "ZZMARK"
            value = Sequence([item])
        elif vr in PLANTED:
            value = PLANTED[vr]
        else:
            continue
        dataset.add_new(tag, vr, value)
        planted[tag] = copy.deepcopy(dataset[tag])
    return planted


def left(dataset, planted):
    """List what of the planted is unchanged."""
    found = []
    for tag, element in planted.items():
        if tag not in dataset:
            continue
        if element.VR == "SQ":
            survived = "ZZMARK" in str(dataset[tag])
        else:
            survived = dataset[tag].value == element.value
        if survived:
            found.append(dictionary_keyword(tag))
    return found


def written(dataset):
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_every_attribute_of_the_table(ct, nested, shift):
    """Each of the standard's attributes, planted at the top or in a kept sequence, is gone or changed."""
    target = Dataset() if nested else ct
    planted = plant(target, table())
    assert len(planted) > 600
    if nested:
        # A sequence that is kept, with its items cleaned.
        ct.SequenceOfUltrasoundRegions = Sequence([target])
    made = deidentify(ct, Policy(KEY, shift_dates=shift)).dataset
    if nested:
        made_in = made.SequenceOfUltrasoundRegions[0]
        assert len(made_in) > 50
    else:
        made_in = made
    unchanged = left(made_in, planted)
    if shift:
        unchanged = [name for name in unchanged if dictionary_VR(name) != "TM"]
    assert unchanged == []


def test_everywhere_else(ct):
    """Private elements, unknown ones, preamble, file meta, curves, overlays, names not in the table."""
    ct.private_block(0x0011, "ZZMARK", create=True).add_new(1, "LO", "ZZMARK")
    item = Dataset()
    item.private_block(0x0013, "ZZMARK", create=True).add_new(1, "LO", "ZZMARK")
    ct.SequenceOfUltrasoundRegions = Sequence([item])
    ct.add_new(0x00091001, "LO", "ZZMARK")
    ct.add_new(0x00080FFE, "LO", "ZZMARK")
    ct.add_new(0x50003000, "OW", b"ZZMARK")
    ct.add_new(0x60003000, "OW", b"ZZMARK")
    ct.add_new(0x60001500, "LO", "ZZMARK")
    ct.add_new(0xFFFCFFFC, "OB", b"ZZMARK")
    ct.preamble = b"ZZMARK" * 21 + b"ZZ"
    ct.file_meta.SourceApplicationEntityTitle = "ZZMARK"
    ct.file_meta.PrivateInformationCreatorUID = "2.25.77117711"
    ct.file_meta.PrivateInformation = b"ZZMARK"
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr in {"PN", "DA", "DT", "TM"} and keyword and not retired and 8 <= tag >> 16 < 0x5000:
            ct.add_new(tag, vr, PLANTED[vr])
    before = written(ct)
    after = written(deidentify(ct, Policy(KEY)).dataset)
    assert all(mark in before for mark in (b"ZZMARK", b"19310203", b"071113"))
    assert [mark for mark in GONE if mark in after] == []
    assert after[:128] == bytes(128)


def free_text():
    """Return the attributes of text and of plain bytes that the table does not list."""
    listed, kinds = set(table()), {"LO", "LT", "OB", "SH", "ST", "UC", "UR", "UT"}
    return [
        tag
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
        if vr in kinds and keyword and 8 <= tag >> 16 < 0x5000 and tag not in listed
    ]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_text_the_table_does_not_list(ct, nested, shift):
    """Of free text only codes, the machine and what a display needs stay, wherever it stands."""
    target = Dataset() if nested else ct
    planted = plant(target, free_text())
    assert len(CODE_TEXT) == 7
    assert len(planted) > 400
    if nested:
        ct.SequenceOfUltrasoundRegions = Sequence([target])
    made = deidentify(ct, Policy(KEY, shift_dates=shift))
    kept = left(made.dataset.SequenceOfUltrasoundRegions[0] if nested else made.dataset, planted)
    # Codes stay in coded entries only, such as this item.
    assert set(kept) == (KEPT_TEXT if nested else KEPT_TEXT - CODE_TEXT)
    assert b"ZZMARK" in written(made.dataset)
    for keyword in kept:
        del target[keyword]
    assert b"ZZMARK" not in written(deidentify(ct, Policy(KEY, shift_dates=shift)).dataset)


def test_code_strings_that_are_none(ct):
    """What was typed into a code is emptied, each of several values by itself."""
    for keyword in ("BodyPartExamined", "ImageType"):
        setattr(ct, keyword, "")
    ct["BodyPartExamined"]._value = "Ahmed Ali"
    ct["ImageType"]._value = ["ORIGINAL", "PRIMARY", "of Ahmed", "AXIAL", "TOO_LONG_FOR_A_CODE"]
    made = deidentify(ct, Policy(KEY)).dataset
    assert not made.BodyPartExamined
    assert list(made.ImageType) == ["ORIGINAL", "PRIMARY", "", "AXIAL", ""]
    assert made.Modality == "CT"
    assert made.PhotometricInterpretation == "MONOCHROME2"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_meanings_of_codes_stay_readable(ct, write):
    """Arabic meanings are read after it too, also where the character set was written wrongly."""
    part = Dataset()
    part.CodeValue, part.CodingSchemeDesignator, part.CodeMeaning = "39607008", "SCT", "رئة"
    ct.SpecificCharacterSet = "ISO_IR 127"
    ct.AnatomicRegionSequence = Sequence([part])
    ct = pydicom.dcmread(write(ct, "before.dcm"))
    ct["SpecificCharacterSet"]._value = "ISO-IR 127"
    again = pydicom.dcmread(write(deidentify(ct, Policy(KEY)).dataset))
    assert again.AnatomicRegionSequence[0].CodeMeaning == "رئة"
    assert again.SpecificCharacterSet == "ISO_IR 127"


def test_dates_in_another_calendar_go(ct):
    """A Hijri date of birth is one too; a code keeps its meaning, so that body parts can be read."""
    ct.PatientBirthDateInAlternativeCalendar, ct.PatientDeathDateInAlternativeCalendar = "1390-01-07", "1445"
    ct.PatientAlternativeCalendar = "ISLAMIC"
    ct.RetrieveURL = "https://archive/wado?patientID=784-1970-1234567-1"
    ct.add_new(0x00281055, "LO", ["AHMED ALI", "BONE"])
    part = Dataset()
    part.CodeValue, part.CodingSchemeDesignator, part.CodeMeaning = "39607008", "SCT", "Lung"
    ct.AnatomicRegionSequence = Sequence([part])
    for shift in (False, True):
        made = deidentify(ct, Policy(KEY, shift_dates=shift)).dataset
        assert not made.PatientBirthDateInAlternativeCalendar
        assert not made.PatientDeathDateInAlternativeCalendar
        assert not made.PatientAlternativeCalendar
        assert not made.RetrieveURL
        assert not made.WindowCenterWidthExplanation
        assert made.AnatomicRegionSequence[0] == part
        assert made.Manufacturer == ct.Manufacturer


def test_the_given_dataset_is_not_changed(ct):
    """Work is done on a copy."""
    before = written(ct)
    deidentify(ct, Policy(KEY, shift_dates=True))
    assert written(ct) == before


def test_one_patient_stays_one_patient(ct):
    """The same key gives the same pseudonyms and UIDs in any process; another key gives others."""
    other_study = copy.deepcopy(ct)
    other_study.StudyInstanceUID, other_study.SOPInstanceUID = "1.2.3", "1.2.3.4"
    somebody = copy.deepcopy(ct)
    somebody.PatientID = "another"
    one, two, three = (deidentify(item, Policy(KEY)).dataset for item in (ct, other_study, somebody))
    assert one.PatientID == two.PatientID == str(one.PatientName) != three.PatientID
    assert one.StudyInstanceUID != two.StudyInstanceUID
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert re.fullmatch(r"2\.25\.\d{1,39}", one.SOPInstanceUID)
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    strange = deidentify(ct, Policy(b"f" * 16)).dataset
    assert not {strange.PatientID, strange.SOPInstanceUID} & {one.PatientID, one.SOPInstanceUID}
    assert one.SOPClassUID == ct.SOPClassUID


def test_references_between_objects_hold(ct):
    """A UID that is referenced becomes the same as where it is defined."""
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID = ct.SOPInstanceUID, ct.SOPClassUID
    ct.SourceImageSequence = Sequence([item])
    made = deidentify(ct, Policy(KEY)).dataset
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == made.SOPInstanceUID
    assert made.SourceImageSequence[0].ReferencedSOPClassUID == ct.SOPClassUID


def test_dates_are_shifted_together(ct):
    """Days between a patient's dates stay; the date of birth does not; without the option dates go."""
    ct.StudyDate, ct.SeriesDate, ct.AcquisitionDateTime = "20240301", "20240311", "20240301101112.5+0300"
    ct.PatientBirthDate = "19500101"
    made = deidentify(ct, Policy(KEY, shift_dates=True)).dataset
    assert made.StudyDate < "20240301"
    study, series = (dt.date.fromisoformat(text) for text in (made.StudyDate, made.SeriesDate))
    assert (series - study).days == 10
    assert made.AcquisitionDateTime == made.StudyDate + "101112.5+0300"
    assert not made.PatientBirthDate
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [item.CodeValue for item in made.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    plain = deidentify(ct, Policy(KEY)).dataset
    assert not plain.StudyDate
    assert plain.LongitudinalTemporalInformationModified == "REMOVED"


def test_a_kind_of_object_keeps_its_name(ct, write):
    """A maker's own SOP class stays in all three places; what is no UID does not."""
    own = "1.2.840.113619.4.26"
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = own
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID = ct.SOPInstanceUID, own
    ct.SourceImageSequence = Sequence([item])
    made = deidentify(ct, Policy(KEY)).dataset
    assert made.SOPClassUID == made.file_meta.MediaStorageSOPClassUID == own
    assert made.SourceImageSequence[0].ReferencedSOPClassUID == own
    assert pydicom.dcmread(write(made)).file_meta.MediaStorageSOPClassUID == own
    ct["SOPClassUID"]._value = "ZZMARK"
    assert b"ZZMARK" not in written(deidentify(ct, Policy(KEY)).dataset)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("StudyDate", "ZZMARK"),
        ("StudyDate", "20240301ZZ"),
        ("StudyDate", "20241399"),
        ("StudyTime", "ZZMARK"),
        ("StudyTime", "101112ZZ"),
        ("StudyTime", "257799"),
        ("AcquisitionDateTime", "20240301101112 AHMED"),
        ("AcquisitionDateTime", "20240301+AHMED"),
        ("AcquisitionDateTime", "202403011011\u0661\u0662"),
    ],
)
def test_what_is_no_date_is_not_kept(ct, keyword, text):
    """Text in place of a date or a time, or after one, is emptied when dates are shifted."""
    setattr(ct, keyword, "")
    ct[keyword]._value = text
    made = deidentify(ct, Policy(KEY, shift_dates=True)).dataset
    assert not made[keyword].value


def test_times_of_day_stay_when_dates_are_shifted(ct):
    """Every form the standard has for them, several in one element too."""
    ct.StudyTime, ct.SeriesTime, ct.AcquisitionTime = "10", "1011", "101112.123456"
    ct.add_new(0x00181201, "TM", ["101112", "235960"])
    ct.AcquisitionDateTime, ct.InstanceCoercionDateTime = "2024030110-0330", "20240301"
    made = deidentify(ct, Policy(KEY, shift_dates=True)).dataset
    assert (made.StudyTime, made.SeriesTime, made.AcquisitionTime) == ("10", "1011", "101112.123456")
    assert list(made[0x00181201].value) == ["101112", "235960"]
    assert re.fullmatch(r"\d{8}10-0330", made.AcquisitionDateTime)
    assert re.fullmatch(r"\d{8}", made.InstanceCoercionDateTime)


def test_the_result_says_so_and_opens(ct, write):
    """Status attributes are set; the pixels are the same and the file opens."""
    made = deidentify(ct, Policy(KEY)).dataset
    assert (made.PatientIdentityRemoved, made.DeidentificationMethod[:8]) == ("YES", "BiMediX2")
    assert made.DeidentificationMethodCodeSequence[0].CodingSchemeDesignator == "DCM"
    assert np.array_equal(
        open_image(write(made)).frame(0).codes, open_image(TEST_FILES / "CT_small.dcm").frame(0).codes
    )


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "examples_rgb_color.dcm"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ultrasound_is_masked_outside_its_regions(write, name):
    """Only what the file calls a region stays, colours unchanged; the reader is told."""
    source = TEST_FILES / name
    dataset = pydicom.dcmread(source)
    region = Dataset()
    for edge, value in (("MinX0", 10), ("MinY0", 20), ("MaxX1", 50), ("MaxY1", 40)):
        setattr(region, f"RegionLocation{edge}", value)
    dataset.SequenceOfUltrasoundRegions = Sequence([region])
    dataset.Modality = "US"
    made = deidentify(dataset, Policy(KEY))
    before, after = open_image(source).frame(0).rgb, open_image(write(made.dataset)).frame(0).rgb
    assert np.array_equal(after[20:41, 10:51], before[20:41, 10:51])
    assert after.sum() == after[20:41, 10:51].astype(int).sum() > 0
    assert {"finding.outside_masked", "finding.burned_in_possible"} >= {item.key for item in made.findings}
    assert "113101" not in [item.CodeValue for item in made.dataset.DeidentificationMethodCodeSequence]
    assert "ultrasound regions" in made.dataset.DeidentificationMethod[1]
    assert made.dataset.get("BurnedInAnnotation") == dataset.get("BurnedInAnnotation")
    left_alone = deidentify(dataset, Policy(KEY, mask_regions=False))
    assert left_alone.dataset.PixelData == dataset.PixelData


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_masked_colours_stay_what_they_are(write):
    """Colours of a profile are shown the same after masking: it is not applied a second time."""
    dataset = pydicom.dcmread(TEST_FILES / "examples_rgb_color.dcm")
    region = Dataset()
    for edge, value in (("MinX0", 0), ("MinY0", 40), ("MaxX1", 319), ("MaxY1", 239)):
        setattr(region, f"RegionLocation{edge}", value)
    dataset.SequenceOfUltrasoundRegions = Sequence([region])
    dataset.ICCProfile, dataset.ColorSpace = swapped_profile(), "SCANNER"
    made = deidentify(dataset, Policy(KEY)).dataset
    before, after = (
        open_image(write(dataset, "before.dcm")).frame(0).rgb,
        open_image(write(made)).frame(0).rgb,
    )
    assert not np.array_equal(before, dataset.pixel_array)
    assert np.array_equal(after[40:], before[40:])
    assert after[:40].max() == 0
    assert "ICCProfile" not in made
    assert "ColorSpace" not in made


def swapped_profile():
    """Return sRGB's profile with red and green exchanged, which anybody can see."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">L", profile, 128)
    for number in range(count):
        at = 132 + 12 * number
        name = bytes(profile[at : at + 4])
        profile[at : at + 4] = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(name, name)
    return bytes(profile)


def test_grey_pixels_are_masked(ct):
    """Grey images of unsigned values keep their depth; signed ones are left alone."""
    region = Dataset()
    for edge, value in (("MinX0", 0), ("MinY0", 0), ("MaxX1", 63), ("MaxY1", 127)):
        setattr(region, f"RegionLocation{edge}", value)
    ct.SequenceOfUltrasoundRegions = Sequence([region])
    assert deidentify(ct, Policy(KEY)).dataset.PixelData == ct.PixelData
    ct.PixelRepresentation = 0
    made = deidentify(ct, Policy(KEY)).dataset
    assert np.array_equal(made.pixel_array[:, :64], ct.pixel_array[:, :64])
    assert made.pixel_array[:, 64:].max() == 0


def test_pixels_of_a_maker_are_refused(ct):
    """Compression only its maker knows is not renamed into something it is not; a report may be."""
    ct.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2"
    with pytest.raises(MissingDecoderError, match=r"1\.2\.840\.113619\.5\.2"):
        deidentify(ct, Policy(KEY))
    del ct.PixelData
    assert deidentify(ct, Policy(KEY)).dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_a_short_key_is_a_mistake():
    """Sixteen bytes at least, and the key is not shown."""
    with pytest.raises(ValueError, match="16"):
        Policy(b"short")
    assert "0123" not in repr(Policy(KEY))


def test_readme_says_what_is_removed():
    """The list in README is what the program says of itself."""
    text = " ".join(README.read_text(encoding="utf-8").split())
    for sentence in describe(Policy(KEY)):
        assert sentence in text
    assert "moved into the past" in " ".join(describe(Policy(KEY, shift_dates=True)))
