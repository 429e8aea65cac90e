"""The opened image: cached, bounded and safe between threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.viewers.conftest import TEST_FILES
from viewers import image as image_module
from viewers.geometry import SizePx
from viewers.image import FrameDisplay, GreyFrame, Image, ImageFacts
from viewers.intake import open_image
from viewers.view import default_view, render
from viewers.window import CodeMap


class Counted:
    """Frames that count how often each is decoded."""

    def __init__(self):
        self.read_count = {}

    def read(self, index):
        self.read_count[index] = self.read_count.get(index, 0) + 1
        return GreyFrame(np.full((10, 10), index, np.uint16), CodeMap())


def made(count, source):
    facts = ImageFacts(
        kind="dicom",
        modality="MR",
        facts={},
        size=SizePx(10, 10),
        is_color=False,
        spacing=None,
        pixel_aspect=1.0,
        inverted_by_default=False,
        stored_codes=(0, 65535),
        prefers_stored=False,
        findings=(),
        frames=(FrameDisplay(),) * count,
    )
    return Image(facts, source, "digest")


def test_frames_are_decoded_when_asked_for():
    """Making an image decodes nothing; a frame is decoded once."""
    source = Counted()
    image = made(5, source)
    assert source.read_count == {}
    assert image.frame(3) is image.frame(3)
    image.windows(3)
    assert source.read_count == {3: 1}


def test_the_cache_is_bounded(monkeypatch):
    """Frames beyond the byte budget are dropped, the longest unused first."""
    monkeypatch.setattr(image_module, "_CACHE_BYTES", 600)
    source = Counted()
    image = made(5, source)
    for index in (0, 1, 2, 0, 3, 0, 1):
        image.frame(index)
    assert source.read_count == {0: 1, 1: 2, 2: 1, 3: 1}
    assert sum(frame.codes.nbytes for frame in image._frames.values()) <= 600


def test_a_frame_larger_than_the_cache_still_comes(monkeypatch):
    """One frame is always kept, however large."""
    monkeypatch.setattr(image_module, "_CACHE_BYTES", 10)
    image = made(2, Counted())
    assert image.frame(0) is image.frame(0)
    assert image.frame(1).codes[0, 0] == 1


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "rtdose.dcm"])
def test_threads_see_the_same_pixels(name):
    """Frames asked for by many threads in different orders are those of one thread."""
    lone, shared = open_image(TEST_FILES / name), open_image(TEST_FILES / name)
    expected = [render(lone, default_view(lone, index)) for index in range(lone.frame_count)]
    wrong = []

    def work(step):
        for index in range(shared.frame_count):
            frame = (index * step) % shared.frame_count
            if not np.array_equal(render(shared, default_view(shared, frame)), expected[frame]):
                wrong.append(frame)

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_files_open_in_threads():
    """Opening in parallel keeps each file's findings apart."""
    names = ["badVR.dcm", "CT_small.dcm", "SC_rgb_jpeg.dcm", "MR_small.dcm"] * 4
    expected = {name: open_image(TEST_FILES / name).findings for name in set(names)}
    found = []

    def work(name):
        found.append((name, open_image(TEST_FILES / name).findings))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(names)
    assert all(findings == expected[name] for name, findings in found)


def test_pixels_are_read_only():
    """Nobody changes the pixels a later question will be asked about."""
    for name in ("CT_small.dcm", "SC_rgb_rle.dcm"):
        frame = open_image(TEST_FILES / name).frame(0)
        pixels = frame.codes if isinstance(frame, GreyFrame) else frame.rgb
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 1
