"""Sealed files: any part reads as the plain file does; whatever is not as written is found."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.viewers.conftest import TEST_FILES
from tests.viewers.openers import made
from viewers.errors import StoredImageError
from viewers.intake import open_image
from viewers.openers import open_slide
from viewers.sealed import SealedFile, is_there, open_blocks, read_whole, seal, sealed_name, unseal
from viewers.sealed_frames import SealedStack
from viewers.slide_store import is_stored_slide, keep
from viewers.slide_store import load as load_slide
from viewers.store import load, save
from viewers.view import default_view, render

KEY = bytes(range(32))
BLOCK = 1 << 18


@pytest.mark.parametrize("size", [0, 1, 15, 16, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7])
def test_it_comes_back(tmp_path, size):
    """Of any length: whole, block by block, into a buffer, and written out again."""
    content = secrets.token_bytes(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    seal(path, sealed_name(path), KEY)
    if size >= 15:  # fewer bytes may stand there by chance
        assert content[:64] not in sealed_name(path).read_bytes()
    path.unlink()
    assert is_there(path)
    assert read_whole(path, KEY) == b"".join(open_blocks(path, KEY)) == content
    with SealedFile(sealed_name(path), KEY) as file:
        assert file.size == size
        buffer = bytearray(size)
        file.read_into(memoryview(buffer))
        assert bytes(buffer) == content
        assert file.read_at(size, 5) == b""
    unseal(sealed_name(path), path, KEY)
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o077 == 0
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".part")] == []


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "file"
    content = secrets.token_bytes(3 * BLOCK + 1000)
    path.write_bytes(content)
    seal(path, sealed_name(path), KEY)
    return sealed_name(path), content


@settings(max_examples=60, deadline=None)
@given(offset=st.integers(0, 3 * BLOCK + 2000), length=st.integers(0, 2 * BLOCK))
def test_any_part_is_that_of_the_plain_file(long_file, offset, length):
    """As ``pread`` would read it."""
    path, content = long_file
    with SealedFile(path, KEY) as file:
        assert file.read_at(offset, length) == content[offset : offset + length]


def _changed(data, kind):
    size = 36 + BLOCK + 16
    blocks = [data[36:size], data[size : size + BLOCK + 16]]
    return {
        "magic": b"x" + data[1:],
        "version": data[:8] + b"\2" + data[9:],
        "length": data[:12] + (2 * BLOCK).to_bytes(8, "little") + data[20:],
        "salt": data[:20] + bytes(16) + data[36:],
        "a byte": data[:100] + bytes([data[100] ^ 1]) + data[101:],
        "the last tag": data[:-1] + bytes([data[-1] ^ 1]),
        "exchanged": data[:36] + blocks[1] + blocks[0] + data[36 + 2 * (BLOCK + 16) :],
        "cut": data[:-1],
        "a block less": data[: -(1000 + 16)],
        "empty": b"",
        "a head": data[:36],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "magic",
        "version",
        "length",
        "salt",
        "a byte",
        "the last tag",
        "exchanged",
        "cut",
        "a block less",
        "empty",
        "a head",
    ],
)
def test_what_is_not_as_written_is_found(long_file, tmp_path, kind):
    """Changed, exchanged, cut or left out: an error, never other bytes."""
    path, _ = long_file
    (tmp_path / "file.sealed").write_bytes(_changed(path.read_bytes(), kind))
    with pytest.raises(StoredImageError):
        read_whole(tmp_path / "file", KEY)
    with pytest.raises(StoredImageError):
        unseal(tmp_path / "file.sealed", tmp_path / "file", KEY)
    assert not (tmp_path / "file").exists()


def test_another_key_is_told_at_once(long_file):
    """Before anything is read."""
    with pytest.raises(StoredImageError, match="another key"):
        SealedFile(long_file[0], bytes(32))


def test_a_sealed_image_draws_the_same(tmp_path):
    """Frame by frame and stacked, with the digest it had; without its key it cannot be opened."""
    image = open_image(TEST_FILES / "CT_small.dcm")
    save(image, tmp_path / image.digest)
    plain = load(tmp_path / image.digest)
    for path in list((tmp_path / image.digest).iterdir()):
        seal(path, sealed_name(path), KEY)
        path.unlink()
    sealed = load(tmp_path / image.digest, key=KEY)
    assert (sealed.digest, sealed.describes) == (plain.digest, plain.describes)
    view = default_view(plain)
    np.testing.assert_array_equal(render(sealed, view), render(plain, view))
    codes, maps = sealed._source.stacked()
    np.testing.assert_array_equal(codes, plain._source.stacked()[0])
    assert len(maps) == plain.frame_count
    assert not codes.flags.writeable
    with pytest.raises(StoredImageError):
        load(tmp_path / image.digest)
    with pytest.raises(StoredImageError):
        load(tmp_path / image.digest, key=bytes(32))


def test_a_sealed_slide_draws_the_same(tmp_path):
    """Every level, with its colour profile; the tiles are read a few blocks at a time."""
    with open_slide(made.write_aperio(tmp_path / "a.svs", profile=made.wide_profile())) as slide:
        home = keep(slide, tmp_path)
    with load_slide(home) as plain:
        expected = [plain.read_region((0, 0), level, one.size) for level, one in enumerate(plain.levels)]
    for path in list(home.iterdir()):
        seal(path, sealed_name(path), KEY)
        path.unlink()
    assert is_stored_slide(home)
    with load_slide(home, verify=True, key=KEY) as sealed:
        for level, one in enumerate(sealed.levels):
            np.testing.assert_array_equal(sealed.read_region((0, 0), level, one.size), expected[level])
    with pytest.raises(StoredImageError):
        load_slide(home, key=bytes(32))
    with pytest.raises(StoredImageError):
        load_slide(home)


def test_only_so_much_is_held(tmp_path, monkeypatch):
    """Beyond the budget the array used longest ago is let go; it comes back when it is asked for."""
    monkeypatch.setattr("viewers.sealed_frames._BUDGET", 3000)
    stacks = []
    for number in range(4):
        path = tmp_path / f"{number}.npy"
        np.save(path, np.full((4, 16, 16), number, np.uint16))
        seal(path, sealed_name(path), KEY)
        stacks.append(SealedStack(sealed_name(path), KEY))
        assert (stacks[-1].whole() == number).all()
    assert [stack._whole is not None for stack in stacks] == [False, False, True, True]
    assert (stacks[0].whole() == 0).all()
    assert (stacks[1].frame(3) == 1).all()
    with pytest.raises(IndexError):
        stacks[1].frame(4)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00" + bytes(200)])
def test_what_is_no_array_is_refused(tmp_path, content):
    """Whatever was sealed."""
    (tmp_path / "x").write_bytes(content)
    seal(tmp_path / "x", tmp_path / "x.sealed", KEY)
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's own words
        SealedStack(tmp_path / "x.sealed", KEY)
