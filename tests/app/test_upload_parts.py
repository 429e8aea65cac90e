"""Bodies of many files: taken apart however they are cut, and never more than may arrive."""

from __future__ import annotations

import struct

import pytest

from app.errors import UploadIncompleteError, UploadTooLargeError, UploadTooManyError
from app.upload_parts import PartWriter

FILES = {0: b"first", 7: b"", 3: bytes(range(256)) * 9}


def body(files=FILES):
    return b"".join(struct.pack("<IQ", number, len(data)) + data for number, data in files.items())


@pytest.mark.parametrize("size", [1, 5, 12, 13, 100, 100_000])
def test_files_arrive_however_the_body_is_cut(tmp_path, size):
    """Each file has its bytes and its number as its name; both are counted."""
    whole = body()
    with PartWriter(tmp_path, 10, 10_000) as writer:
        for at in range(0, len(whole), size):
            writer.write(whole[at : at + size])
        writer.finish()
    assert {int(path.name): path.read_bytes() for path in tmp_path.iterdir()} == FILES
    assert (writer.files, writer.bytes) == (3, sum(map(len, FILES.values())))


@pytest.mark.parametrize("missing", [1, 2304, 2310])
def test_a_body_that_ends_early_is_told_and_its_last_file_not_kept(tmp_path, missing):
    """Whatever was cut off, in a head or in a file, is no file."""
    with PartWriter(tmp_path, 10, 10_000) as writer:
        writer.write(body()[:-missing])
        with pytest.raises(UploadIncompleteError):
            writer.finish()
    assert {int(path.name) for path in tmp_path.iterdir()} == {0, 7}


def test_limits_hold_before_anything_is_written(tmp_path):
    """A head alone is enough to refuse a file that is too large, and a number that is too high."""
    with (
        PartWriter(tmp_path, 10, 100) as writer,
        pytest.raises(UploadTooLargeError),
    ):
        writer.write(struct.pack("<IQ", 1, 101))
    with (
        PartWriter(tmp_path, 10, 100) as writer,
        pytest.raises(UploadTooManyError),
    ):
        writer.write(struct.pack("<IQ", 10, 1))
    assert list(tmp_path.iterdir()) == []
