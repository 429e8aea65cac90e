"""Elements are counted at all levels, in every encoding, before objects are made of them."""

from __future__ import annotations

import io
import struct
import tracemalloc

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from tests.viewers.conftest import BUNDLE, TEST_FILES
from viewers.dataset import file_meta, parse
from viewers.elements import check_elements
from viewers.errors import TooLargeError
from viewers.limits import Limits

RAW = (TEST_FILES / "CT_small.dcm").read_bytes()
ITEM = b"\xfe\xff\x00\xe0"


def nested(dataset):
    """Elements and items of a dataset, counted by pydicom."""
    count = 0
    for element in dataset:
        count += 1
        if element.VR == "SQ":
            count += sum(1 + nested(item) for item in element.value)
    return count


def sequence(content, *, defined):
    """Return a sequence of one item in explicit VR, at the place of (0008,1140)."""
    end = b"" if defined else b"\xfe\xff\x0d\xe0\0\0\0\0"
    item = ITEM + struct.pack("<L", len(content) if defined else 0xFFFFFFFF) + content + end
    end = b"" if defined else b"\xfe\xff\xdd\xe0\0\0\0\0"
    length = len(item) if defined else 0xFFFFFFFF
    return struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, length) + item + end


def written(dataset, *, implicit, big_endian):
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = implicit, not big_endian
    write_dataset(stream, dataset)
    return stream.getvalue()


@pytest.mark.parametrize(("implicit", "big_endian"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("undefined", [False, True])
def test_the_count_is_the_parsers(implicit, big_endian, undefined):
    """A limit of as many elements as there are is kept, one less is not."""
    inner = Dataset()
    inner.ReferencedSOPInstanceUID, inner.ReferencedFrameNumber = "1.2.3", "4"
    middle = Dataset()
    middle.ReferencedImageSequence = [inner, inner]
    middle.CodeValue = "ABC"
    outer = Dataset()
    outer.SourceImageSequence = [middle, middle, Dataset()]
    outer.PatientName = "Nobody"
    for dataset in (outer, middle):
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
                for item in element.value:
                    item.is_undefined_length_sequence_item = undefined
    raw = written(outer, implicit=implicit, big_endian=big_endian)
    delimiters = raw.count(b"\xff\xfe\xe0\x0d" if big_endian else b"\xfe\xff\x0d\xe0")
    delimiters += raw.count(b"\xff\xfe\xe0\xdd" if big_endian else b"\xfe\xff\xdd\xe0")
    count = nested(outer) + delimiters
    check_elements(raw, 0, len(raw), count, implicit=implicit, big_endian=big_endian)
    with pytest.raises(TooLargeError):
        check_elements(raw, 0, len(raw), count - 1, implicit=implicit, big_endian=big_endian)


@pytest.mark.parametrize("defined", [True, False])
def test_elements_in_sequences_count(defined):
    """Half a million empty elements inside a sequence are refused, and cost next to no memory."""
    tiny = struct.pack("<HH2sH", 0x0009, 0x1000, b"LO", 0) * 600_000
    at = RAW.index(b"\x08\x00\x70\x00LO")
    raw = RAW[:at] + sequence(tiny, defined=defined) + RAW[at:]
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="elements"):
            parse(raw, Limits())
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_real_files_are_far_below_the_limit():
    """No file of pydicom's bundle comes near, encapsulated and nested pixels included."""
    for path in (BUNDLE / "test_files").glob("*.dcm"):
        raw = path.read_bytes()
        _, body = file_meta(raw)
        explicit = raw[body + 4 : body + 6].isalpha()
        check_elements(raw, body, len(raw), 20_000, implicit=not explicit)


def test_damaged_bytes_only_end_the_count():
    """Whatever the bytes are, the count ends; lengths beyond the end are no error here."""
    for cut in range(0, len(RAW), 97):
        check_elements(RAW[cut:], 0, len(RAW) - cut, 100_000, implicit=bool(cut % 2))
    broken = RAW.replace(b"\x08\x00\x70\x00LO", b"\x08\x00\x70\x00SQ")
    dataset = pydicom.dcmread(io.BytesIO(RAW))
    check_elements(broken, file_meta(broken)[1], len(broken), len(dataset) + 2000, implicit=False)
