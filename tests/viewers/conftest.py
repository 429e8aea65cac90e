"""Real files from pydicom's wheel and variants made of them; nothing is downloaded."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

BUNDLE = Path(pydicom.__file__).parent / "data"
TEST_FILES = BUNDLE / "test_files"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to connect fails the test that makes it."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("a viewer's test tried to use the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture
def ct():
    """Return a fresh CT_small: 128 x 128, signed 16 bit, intercept -1024, padding -2000, no window."""
    return pydicom.dcmread(TEST_FILES / "CT_small.dcm")


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a dataset and returns the file's path."""

    def write_dataset(dataset, name="made.dcm"):
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=False)
        return path

    return write_dataset


def relabelled(raw, uid):
    """Change the transfer syntax of a written file, also to one pydicom does not know."""
    at = raw.index(b"\x02\x00\x10\x00UI") + 8
    length = raw[at - 2]
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    start = 132 if raw[128:132] == b"DICM" else 0
    grown = len(padded) - length
    raw = raw[: at - 2] + len(padded).to_bytes(2, "little") + padded + raw[at + length :]
    if raw[start : start + 4] != b"\x02\0\0\0":
        return raw
    group = int.from_bytes(raw[start + 8 : start + 12], "little") + grown
    return raw[: start + 8] + group.to_bytes(4, "little") + raw[start + 12 :]


def without_padding(dataset):
    """Drop the padding attributes, so that every pixel is a measurement."""
    dataset = copy.deepcopy(dataset)
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in dataset:
            del dataset[keyword]
    return dataset


def lut_item(first, bits, values, *, vr="OW", packed=False, kind=""):
    """Make a LUT sequence of one item; ``packed`` stores two 8-bit entries in a word."""
    item = Dataset()
    item.add_new(0x00283002, "US", [len(values) % 65536, first % 65536, bits])
    if kind:
        item.ModalityLUTType = kind
    if packed:
        item.add_new(0x00283006, "OW", np.asarray(values, np.uint8).tobytes())
    elif vr == "US":
        item.add_new(0x00283006, "US", [int(value) for value in values])
    else:
        item.add_new(0x00283006, "OW", np.asarray(values, "<u2").tobytes())
    return Sequence([item])
