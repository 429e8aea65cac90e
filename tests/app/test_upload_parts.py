"""Bodies of many files: taken apart however they are cut, and never more than may arrive."""

from __future__ import annotations

import struct

import pytest

from app.errors import UploadIncompleteError, UploadTooLargeError, UploadTooManyError
from app.upload_parts import PartWriter, UploadRoom


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def room():
    return UploadRoom(10_000)


FILES = {0: b"first", 7: b"", 3: bytes(range(256)) * 9}


def body(files=FILES):
    return b"".join(struct.pack("<IQ", number, len(data)) + data for number, data in files.items())


@pytest.mark.parametrize("size", [1, 5, 12, 13, 100, 100_000])
def test_files_arrive_however_the_body_is_cut(folder, room, size):
    """Each file has its bytes and its number as its name; both are counted."""
    whole = body()
    with PartWriter(folder, 10, room) as writer:
        for at in range(0, len(whole), size):
            writer.write(whole[at : at + size])
        writer.finish()
    assert {int(path.name): path.read_bytes() for path in folder.iterdir()} == FILES
    assert (room.files, room.bytes) == (3, sum(map(len, FILES.values())))


@pytest.mark.parametrize("missing", [1, 2304, 2310])
def test_a_body_that_ends_early_is_told_and_its_last_file_not_kept(folder, room, missing):
    """Whatever was cut off, in a head or in a file, is no file."""
    with PartWriter(folder, 10, room) as writer:
        writer.write(body()[:-missing])
        with pytest.raises(UploadIncompleteError):
            writer.finish()
    assert {int(path.name) for path in folder.iterdir()} == {0, 7}


def test_limits_hold_before_anything_is_written(folder):
    """A head alone is enough to refuse a file that is too large, and a number that is too high."""
    with (
        PartWriter(folder, 10, UploadRoom(100)) as writer,
        pytest.raises(UploadTooLargeError),
    ):
        writer.write(struct.pack("<IQ", 1, 101))
    with (
        PartWriter(folder, 10, UploadRoom(100)) as writer,
        pytest.raises(UploadTooManyError),
    ):
        writer.write(struct.pack("<IQ", 10, 1))
    assert list(folder.iterdir()) == []


def send(folder, room, number, size, *, cut=False):
    """Send one file, and what looks like the beginning of a next one."""
    with PartWriter(folder, 100, room) as writer:
        writer.write(struct.pack("<IQ", number, size) + bytes(size) + b"\0" * (3 * cut))
        writer.finish()


def on_the_disk(folder):
    return sum(path.stat().st_size for path in folder.parent.rglob("*") if path.is_file())


def test_what_cut_bodies_brought_counts(folder, room):
    """Whole files of a body that ended badly stay, and take the room of those to come."""
    for number in range(40):
        with pytest.raises((UploadIncompleteError, UploadTooLargeError)):
            send(folder, room, number, 3900, cut=True)
    assert on_the_disk(folder) == room.bytes == 7800


def test_bodies_that_come_at_once_share_the_room(folder, room):
    """What one has announced is not given to another; what was cut off is given back."""
    with PartWriter(folder, 10, room) as first, PartWriter(folder, 10, room) as second:
        first.write(struct.pack("<IQ", 0, 6000) + bytes(10))
        with pytest.raises(UploadTooLargeError):
            second.write(struct.pack("<IQ", 1, 6000))
    assert (on_the_disk(folder), room.bytes) == (0, 0)
    send(folder, room, 1, 6000)


def test_a_file_sent_again_takes_its_own_room(folder, room):
    """After a lost connection the same number comes again, also while the old body is still open."""
    send(folder, room, 0, 9000)
    send(folder, room, 0, 9500)
    assert (on_the_disk(folder), room.bytes, room.files) == (9500, 9500, 1)
    send(folder, room, 0, 10)
    with PartWriter(folder, 10, room) as stale:
        stale.write(struct.pack("<IQ", 0, 4000) + b"x" * 10)
        send(folder, room, 0, 0)
        send(folder, room, 0, 5000)
        assert on_the_disk(folder) <= room.bytes == 9000
        stale.write(b"x" * 3990)
    assert (on_the_disk(folder), room.bytes, room.files) == (4000, 4000, 1)
