"""Every file of pydicom's wheel opens or says why not; what DCMTK can draw is drawn the same."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from tests.viewers.conftest import BUNDLE, TEST_FILES, lut_item, without_padding
from viewers.errors import ViewerError
from viewers.image import ColorFrame, GreyFrame
from viewers.intake import open_image
from viewers.view import default_view, render
from viewers.window import build_lut

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "viewers_bundle.json").read_text(encoding="utf-8")
)
DCMJ2PNM = shutil.which("dcmj2pnm")
needs_dcmtk = pytest.mark.skipif(DCMJ2PNM is None, reason="DCMTK's dcmj2pnm is not installed")

FILES = sorted(
    path.relative_to(BUNDLE).as_posix()
    for path in BUNDLE.rglob("*")
    if path.is_file() and path.suffix not in {".py", ".pyc", ".json"}
)

DCMTK_WRONG = {
    # DCMTK swaps the halves of 32-bit big-endian words; the little-endian twins agree.
    "test_files/rtdose_expb.dcm",
    "test_files/rtdose_expb_1frame.dcm",
}


def report(line):
    """Show a count among the dots of the test run."""
    sys.stdout.write(f"\n{line}\n")


@functools.cache
def outcome(name):
    """Open a file and draw all of its frames: the error's class, or ``None``."""
    try:
        image = open_image(BUNDLE / name)
        for frame in range(image.frame_count):
            render(image, default_view(image, frame))
    except ViewerError as error:
        return type(error).__name__
    return None


def test_every_file_opens_or_says_why(capsys):
    """Exactly the known files do not open, each with its error; no other exception, no warning."""
    outcomes = {name: outcome(name) for name in FILES}
    failed = {name: error for name, error in outcomes.items() if error}
    pixels = [name for name in FILES if not failed.get(name) or name in GOLDEN["with_pixels_not_opened"]]
    with capsys.disabled():
        report(f"{len(FILES) - len(failed)} of {len(pixels)} files with pixels open, of {len(FILES)} in all")
    assert failed == GOLDEN["not_opened"]
    assert len(FILES) - len(failed) == 103


def test_same_image_in_every_coding():
    """One MR image in seven codings has the same values in all; so has a dose grid in both byte orders."""
    families = [
        [
            f"MR_small{kind}.dcm"
            for kind in ("", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless")
        ],
        ["rtdose_1frame.dcm", "rtdose_expb_1frame.dcm", "rtdose_rle_1frame.dcm"],
        ["liver_1frame.dcm", "liver_expb_1frame.dcm"],
    ]  # fmt: skip
    for family in families:
        frames = [open_image(TEST_FILES / name).frame(0) for name in family]
        for frame in frames[1:]:
            assert np.array_equal(frame.codes, frames[0].codes)
            assert np.array_equal(frame.code_map.values(), frames[0].code_map.values())


def test_same_colors_in_every_coding():
    """One colour pattern, lossless in several codings and depths, has the same colours in all of them."""
    names = [
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_gdcm_KY.dcm",
    ]
    frames = [open_image(TEST_FILES / name).frame(0).rgb for name in names]
    for frame in frames[1:]:
        assert np.array_equal(frame, frames[0])


def dcmtk(path, folder, *options):
    """Draw a file's first frame with DCMTK; ``None`` if it cannot read it."""
    target = folder / "drawn.pnm"
    target.unlink(missing_ok=True)
    command = [DCMJ2PNM, "-q", "-O", "-a", *options, str(path), str(target)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode or not target.exists():
        return None
    with Pillow.open(target) as picture:
        return np.asarray(picture)


def drawn(image):
    """Our grey levels on the native grid, and DCMTK's options for the same window."""
    frame = image.frame(0)
    if isinstance(frame, ColorFrame):
        return frame.rgb, ()
    assert isinstance(frame, GreyFrame)
    windows = {window.key: window for window in image.windows(0)}
    own = next((key for key in ("lut-1", "file-1") if key in windows), "full_range")
    options = {"file-1": ("+Wi", "1"), "lut-1": ("+Wl", "1")}.get(own, ("+Wm",))
    lut = build_lut(frame.code_map, windows[own].transform, inverted=image.inverted_by_default)
    return lut[frame.codes], options


@needs_dcmtk
def test_bundle_agrees_with_dcmtk(tmp_path, capsys):
    """Within one grey level of DCMTK on every file both read, but for DCMTK's known mistake."""
    compared, differing = 0, {}
    for name in FILES:
        if outcome(name):
            continue
        mine, options = drawn(open_image(BUNDLE / name))
        theirs = dcmtk(BUNDLE / name, tmp_path, *options)
        if theirs is None:
            continue
        compared += 1
        difference = np.abs(theirs.astype(int) - mine).max() if theirs.shape == mine.shape else "shape"
        if difference == "shape" or difference > 1:
            differing[name] = difference
    with capsys.disabled():
        report(f"{compared - len(differing)} of {compared} files within one grey level of DCMTK")
    assert set(differing) == DCMTK_WRONG
    assert compared >= 80


def variants():
    """Datasets made of CT_small, by name."""
    base = without_padding(pydicom.dcmread(TEST_FILES / "CT_small.dcm"))

    def made(**attributes):
        dataset = without_padding(base)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        return dataset

    for function in ("LINEAR", "SIGMOID"):
        for center, width in ((40, 400), (-600, 1500), (300.5, 1), (50, 2), (0, 7)):
            yield (
                f"{function} {center}/{width}",
                made(WindowCenter=center, WindowWidth=width, VOILUTFunction=function),
            )
    soft = {"WindowCenter": 40, "WindowWidth": 400}
    yield "MONOCHROME1", made(**soft, PhotometricInterpretation="MONOCHROME1")
    yield "shape INVERSE", made(**soft, PresentationLUTShape="INVERSE")
    yield (
        "MONOCHROME1, INVERSE",
        made(**soft, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
    )
    yield (
        "MONOCHROME1, IDENTITY",
        made(**soft, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"),
    )
    yield "slope 2", made(WindowCenter=40, WindowWidth=900, RescaleSlope=2)
    for bits in (12, 16):
        yield (
            f"VOI LUT {bits}",
            made(VOILUTSequence=lut_item(-1000, bits, np.linspace(0, 2**bits - 1, 2000).astype(int))),
        )
    yield (
        "VOI LUT 8 packed",
        made(VOILUTSequence=lut_item(0, 8, np.linspace(255, 0, 512).astype(int), packed=True)),
    )
    modality = made(WindowCenter=1000, WindowWidth=2000)
    modality.ModalityLUTSequence = lut_item(0, 12, np.minimum(np.arange(3000) * 2, 4095), kind="US")
    del modality.RescaleSlope, modality.RescaleIntercept
    yield "modality LUT 12", modality
    twelve = made(**soft, BitsStored=12, HighBit=11)
    twelve.PixelData = ((base.pixel_array & 0xFFF) | 0x5000).astype("<u2").tobytes()
    yield "12 bits under an overlay", twelve


@needs_dcmtk
@pytest.mark.parametrize(("name", "dataset"), list(variants()), ids=[name for name, _ in variants()])
def test_variants_agree_with_dcmtk(tmp_path, name, dataset):
    """What no bundled file shows, within one grey level of DCMTK."""
    assert name
    path = tmp_path / "variant.dcm"
    dataset.save_as(path)
    mine, options = drawn(open_image(path))
    theirs = dcmtk(path, tmp_path, *options)
    assert theirs is not None
    assert np.abs(theirs.astype(int) - mine).max() <= 1
