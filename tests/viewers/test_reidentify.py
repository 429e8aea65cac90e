"""Whom a pseudonym stands for is kept encrypted, and only for those who have the key."""

from __future__ import annotations

import stat
import sys

import pytest
from pydicom.dataset import Dataset

from viewers.deid import Policy, deidentify
from viewers.errors import IdentityMapError
from viewers.reidentify import IdentityMap, key_file, originals

POLICY = Policy(b"p" * 32, shift_dates=True)
KEY = b"k" * 32


def named(ct, **values):
    ct.PatientID, ct.PatientName, ct.StudyDate = "ID-ZZ-77", "فحص^مريض", "20200131"
    ct.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        setattr(ct, keyword, value)
    return ct


def test_a_pseudonym_leads_back(ct, tmp_path):
    """Patient, UIDs and the days dates were moved by are those of the file that was written."""
    dataset = named(ct)
    made = deidentify(dataset, POLICY).dataset
    identities = IdentityMap(tmp_path / "map", KEY)
    identities.add(originals(dataset, POLICY))
    identities.add(originals(named(ct, AccessionNumber="A-9"), POLICY))
    identities.save()
    again = IdentityMap(tmp_path / "map", KEY)
    found = again.patient(made.PatientID)
    assert found["patient"]["PatientName"] == ["فحص^مريض"]
    assert found["patient"]["PatientID"] == ["ID-ZZ-77"]
    assert found["patient"]["AccessionNumber"][-1] == "A-9"
    assert len(again) == 1
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert again.uid(getattr(made, keyword)) == getattr(dataset, keyword)
    import datetime as dt

    moved = dt.datetime.strptime(made.StudyDate, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
    assert moved + dt.timedelta(days=found["days"]) == dt.date(2020, 1, 31)
    assert again.patient("P-0000000000000000") is None
    assert again.uid("1.2.3") is None


def test_the_file_tells_nothing(ct, tmp_path):
    """Neither names nor pseudonyms are readable; only its owner may open it; each writing differs."""
    identities = IdentityMap(tmp_path / "map", KEY)
    dataset = named(ct)
    made = deidentify(dataset, POLICY).dataset
    identities.add(originals(dataset, POLICY))
    identities.save()
    first = (tmp_path / "map").read_bytes()
    # long enough never to be met in encrypted bytes by chance
    hidden = ("ID-ZZ-77", "فحص", made.PatientID, made.StudyInstanceUID, dataset.StudyInstanceUID, "PatientID")
    for secret in hidden:
        assert len(secret.encode()) >= 6
        assert secret.encode() not in first
    identities.save()
    assert (tmp_path / "map").read_bytes() != first
    assert [item.name for item in tmp_path.iterdir()] == ["map"]
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "map").stat().st_mode) == 0o600
    assert "ID-ZZ-77" not in repr(originals(named(ct), POLICY))


def test_other_keys_and_changed_files_are_refused(ct, tmp_path):
    """Every byte counts; the error names no patient; what was there is not lost."""
    identities = IdentityMap(tmp_path / "map", KEY)
    identities.add(originals(named(ct), POLICY))
    identities.save()
    with pytest.raises(IdentityMapError):
        IdentityMap(tmp_path / "map", b"x" * 32)
    raw = (tmp_path / "map").read_bytes()
    for at in (0, 9, 25, len(raw) - 1):
        (tmp_path / "map").write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(IdentityMapError):
            IdentityMap(tmp_path / "map", KEY)
    (tmp_path / "map").write_bytes(raw[:20])
    with pytest.raises(IdentityMapError):
        IdentityMap(tmp_path / "map", KEY)


def test_a_key_is_made_once(tmp_path):
    """32 random bytes that stay; something else in the file is refused."""
    key = key_file(tmp_path / "deep" / "key")
    assert len(key) == 32
    assert key_file(tmp_path / "deep" / "key") == key
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "deep" / "key").stat().st_mode) == 0o600
    (tmp_path / "short").write_bytes(b"password")
    with pytest.raises(IdentityMapError):
        key_file(tmp_path / "short")
    with pytest.raises(ValueError, match="32"):
        IdentityMap(tmp_path / "map", b"short")


def test_files_that_say_nothing_of_anybody():
    """An empty dataset has a pseudonym and nothing to remember."""
    found = originals(Dataset(), POLICY)
    assert (dict(found.patient), dict(found.uids)) == ({}, {})
