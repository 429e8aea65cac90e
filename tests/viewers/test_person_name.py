"""Names as other systems write them: the stated character set, none, or the wrong one."""

from __future__ import annotations

import pydicom
import pytest

from tests.viewers.conftest import TEST_FILES
from viewers.dataset import parse
from viewers.deid import Policy
from viewers.limits import Limits
from viewers.person_name import person_name
from viewers.reidentify import originals
from viewers.silence import collected_warnings

ARABIC = "العبدالله^مريم"
GERMAN = "Müller^Jürgen"


def stated(tmp_path, label, raw):
    """Read a file whose name and label are these bytes."""
    raw += b" " * (len(raw) % 2)
    dataset = pydicom.dcmread(TEST_FILES / "CT_small.dcm")
    dataset.pop("SpecificCharacterSet", None)
    with collected_warnings():
        if label is not None:
            dataset.SpecificCharacterSet = "Q" * len(label)
        dataset.PatientName = "Z" * len(raw)
        dataset.save_as(tmp_path / "made.dcm")
    written = (tmp_path / "made.dcm").read_bytes().replace(b"Z" * len(raw), raw)
    if label:
        written = written.replace(b"Q" * len(label), label.encode())
    with collected_warnings():
        return parse(written, Limits()).dataset


@pytest.mark.parametrize(
    ("label", "encoding", "name", "guessed"),
    [
        ("ISO_IR 127", "iso8859_6", ARABIC, False),
        ("ISO_IR 192", "utf-8", ARABIC, False),
        ("ISO_IR 100", "latin-1", GERMAN, False),
        ("ISO_IR 192", "utf-8", GERMAN, False),
        ("UTF-8", "utf-8", ARABIC, False),
        (None, "utf-8", ARABIC, True),
        ("ISO_IR 100", "utf-8", ARABIC, True),
        ("ISO_IR 100", "utf-8", GERMAN, True),
        ("ISO_IR 127", "utf-8", ARABIC, True),
        (None, "cp1256", ARABIC, True),
        ("ISO_IR 100", "cp1256", ARABIC, True),
        ("ISO_IR 192", "cp1256", ARABIC, True),
        ("ISO_IR127", "iso8859_6", ARABIC, True),
        ("ISO-IR 127", "iso8859_6", ARABIC, False),
        ("ISO_IR192", "utf-8", ARABIC, True),
        ("ISO_IR 1256", "cp1256", ARABIC, True),
        ("NONSENSE", "utf-8", ARABIC, True),
        ("NONSENSE", "latin-1", GERMAN, True),
    ],
)
def test_letters_are_right(tmp_path, label, encoding, name, guessed):
    """Whatever label stands in the file, as long as it can be told from the bytes."""
    dataset = stated(tmp_path, label, name.encode(encoding))
    with collected_warnings():
        assert person_name(dataset) == (name, guessed)


def test_marks_of_direction_are_left_out(tmp_path):
    """They would turn what is written beside the name."""
    dataset = stated(tmp_path, "ISO_IR 192", f"\u202e{ARABIC}\u200f".encode())
    with collected_warnings():
        assert person_name(dataset) == (ARABIC, False)


def test_the_map_has_the_name_people_use(tmp_path):
    """And says when its character set was guessed."""
    found = originals(stated(tmp_path, "ISO_IR 100", ARABIC.encode("cp1256")), Policy(b"k" * 32))
    assert found.patient["PatientName"] == ARABIC
    assert found.patient["PatientNameCharacterSet"] == "guessed"
    found = originals(stated(tmp_path, "ISO_IR 127", ARABIC.encode("iso8859_6")), Policy(b"k" * 32))
    assert "PatientNameCharacterSet" not in found.patient
