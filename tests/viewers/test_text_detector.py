"""Text burned into pictures: most of it is found and covered, and what was done is told."""

from __future__ import annotations

import time
from importlib import resources

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from tests.viewers.conftest import TEST_FILES
from tests.viewers.test_dicom import grey_dataset
from viewers import text_detector as module
from viewers.deid import Policy, deidentify, describe
from viewers.errors import TextDetectorMissingError
from viewers.intake import open_image
from viewers.limits import Limits
from viewers.store import load
from viewers.study import read_studies
from viewers.view import default_view, render

pytest.importorskip("rapidocr_onnxruntime", reason="the extra ocr, which needs Python below 3.13")

KEY = b"k" * 32
COVERING = Limits(mask_text=True)
LATIN = ("SMITH^JOHN A", "ID 4711-0815", "DOB 12/05/1980", "St. Mary Hospital")
ARABIC = ("مريم العبدالله", "مستشفى السلام", "الرقم ٤٧١١٠٨١٥")


def font(size, *, arabic=False):
    name = f"noto-sans-arabic-{'arabic' if arabic else 'latin'}-wght-normal.woff2"
    with (resources.files("assets") / "fonts" / name).open("rb") as stream:
        return ImageFont.truetype(stream, size)


def written(shape, texts, size, *, arabic=False, ground="noise", seed=0):
    """Draw texts on a ground; returns the picture, uint8 (rows, columns), and the texts' boxes."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    grey = np.zeros(shape) if ground == "black" else chance.normal(25, 12, shape)
    if ground == "body":
        grey += 110 * (np.hypot(rows - shape[0] / 2, columns - shape[1] / 2) < shape[0] * 0.4)
    picture = Pillow.fromarray(grey.clip(0, 255).astype(np.uint8))
    pen, boxes = ImageDraw.Draw(picture), []
    for number, text in enumerate(texts):
        x = int(chance.integers(6, max(7, shape[1] - size * 11)))
        y = 6 + number * (shape[0] - 2 * size - 12) // len(texts)
        pen.text((x, y), text, fill=235, font=font(size, arabic=arabic))
        boxes.append(tuple(int(edge) for edge in pen.textbbox((x, y), text, font=font(size, arabic=arabic))))
    return np.asarray(picture), boxes


def rgb(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


def hidden_part(picture, box, regions):
    """Part of a text's bright pixels that lie in the regions."""
    left, top, right, bottom = box
    bright = np.zeros(picture.shape, bool)
    bright[top:bottom, left:right] = picture[top:bottom, left:right] > 180
    covered = np.zeros(picture.shape, bool)
    for one in regions:
        covered[one.y : one.y + one.height, one.x : one.x + one.width] = True
    return (bright & covered).sum() / max(bright.sum(), 1)


GROUNDS = (((400, 500), "black"), ((512, 512), "body"), ((300, 400), "noise"))


@pytest.mark.parametrize(("texts", "arabic", "lines"), [(LATIN, False, 48), (ARABIC, True, 33)])
def test_recall_on_generated_text(texts, arabic, lines):
    """README's figure: lines of letters 10 to 24 pixels high, with 98 % of their bright pixels covered."""
    found = []
    for size in (10, 12, 16, 24):
        for seed, (shape, ground) in enumerate(GROUNDS):
            picture, boxes = written(shape, texts, size, arabic=arabic, ground=ground, seed=seed)
            regions = module.text_detector().find(rgb(picture))
            found += [hidden_part(picture, box, regions) > 0.98 for box in boxes]
    assert len(found) == {48: 48, 33: 36}[lines]
    assert sum(found) >= lines


def test_pictures_without_text_stay_whole():
    """A CT slice, noise and nothing at all hold no text."""
    detector = module.text_detector()
    image = open_image(TEST_FILES / "CT_small.dcm")
    assert detector.find(render(image, default_view(image))) == ()
    assert detector.find(np.zeros((90, 90, 3), np.uint8)) == ()


@pytest.mark.parametrize("shape", [(3, 800), (800, 3), (1, 1), (40, 3000)])
def test_odd_shapes_cost_their_pixels(shape):
    """A narrow strip took minutes in the package's own pipeline."""
    began = time.monotonic()
    module.text_detector().find(np.zeros((*shape, 3), np.uint8))
    assert time.monotonic() - began < 15


def test_regions_stay_inside():
    """Boxes at the edges end there."""
    picture, _ = written((100, 300), ("EDGE OF IT",), 30)
    picture = picture[10:60, 8:160]
    for region in module.text_detector().find(rgb(np.ascontiguousarray(picture))):
        assert region.x >= 0
        assert region.y >= 0
        assert region.x + region.width <= picture.shape[1]
        assert region.y + region.height <= picture.shape[0]


def ultrasound(pixels, **changes):
    dataset = grey_dataset(pixels, 8, Modality="US", **changes)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    return dataset


def keys(image):
    return {found.key: dict(found.values) for found in image.findings}


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_uploads_are_covered_where_that_is_wanted(write, photometric):
    """Every frame; only kinds that are warned of; another digest; and the finding says how many places."""
    picture, boxes = written((300, 400), LATIN[:2], 18)
    stored = picture if photometric == "MONOCHROME2" else 255 - picture
    frames = np.stack([stored, stored])
    path = write(ultrasound(frames, PhotometricInterpretation=photometric))
    plain, image = open_image(path), open_image(path, COVERING)
    assert keys(image)["finding.text_covered"]["count"] >= 4
    assert "finding.burned_in_possible" in keys(image)
    assert image.digest != plain.digest
    assert open_image(path, COVERING).digest == image.digest
    for frame in (0, 1):
        codes = image.frame(frame).codes
        shown = codes if photometric == "MONOCHROME2" else 255 - codes
        for left, top, right, bottom in boxes:
            assert (shown[top:bottom, left:right] > 180).mean() < 0.005
        assert np.array_equal(codes[-30:], plain.frame(frame).codes[-30:])
    said_no = write(ultrasound(frames, BurnedInAnnotation="NO"))
    assert "finding.text_covered" not in keys(open_image(said_no, COVERING))
    assert open_image(said_no, COVERING).digest == open_image(said_no).digest


def test_photographs_of_screens(tmp_path):
    """Pictures that are not DICOM may hold anything, so they are looked at too."""
    picture, boxes = written((300, 400), LATIN[:1], 20)
    Pillow.fromarray(rgb(picture)).save(tmp_path / "photo.png")
    left, top, right, bottom = boxes[0]
    shown = open_image(tmp_path / "photo.png", COVERING).frame(0)
    pixels = shown.codes if hasattr(shown, "codes") else shown.rgb[:, :, 0]
    assert (pixels[top:bottom, left:right] > 180).mean() < 0.005


def test_series_are_covered_slice_by_slice(tmp_path):
    """Captures of a series hold texts of their own; what is stored is covered."""
    folder = tmp_path / "in"
    folder.mkdir()
    places = []
    for number in range(2):
        picture, boxes = written((200, 300), LATIN[number : number + 1], 18, seed=number)
        dataset = ultrasound(
            picture, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4", InstanceNumber=number
        )
        dataset.SOPInstanceUID = f"1.2.5.{number}"
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / str(number), enforce_file_format=True)
        places += boxes
    reader, studies = read_studies(folder, key=KEY, limits=COVERING)
    with reader:
        image = load(studies[0].series[0].keep(tmp_path / "kept"))
    assert keys(image)["finding.text_covered"]["count"] >= 2
    for frame, (left, top, right, bottom) in enumerate(places):
        assert (image.frame(frame).codes[top:bottom, left:right] > 180).mean() < 0.005


def test_no_time_is_told(write):
    """Frames that were not looked at are counted, and the picture is opened all the same."""
    picture, _ = written((200, 300), LATIN[:1], 18)
    path = write(ultrasound(np.stack([picture] * 3)))
    image = open_image(path, Limits(mask_text=True, text_s=0.0))
    assert keys(image)["finding.text_unchecked"]["count"] == 3


def test_without_the_detector(write, monkeypatch):
    """Uploads are opened and say that nothing was looked for; a file to be written is refused."""
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package_here")
    module.text_detector.cache_clear()
    dataset = ultrasound(np.zeros((20, 20), np.uint8))
    try:
        image = open_image(write(dataset), COVERING)
        assert "finding.text_not_looked_for" in keys(image)
        with pytest.raises(TextDetectorMissingError, match=r"bimedix2-workstation\[ocr\]"):
            deidentify(dataset, Policy(KEY, mask_text=True))
    finally:
        module.text_detector.cache_clear()


def test_deidentified_files(tmp_path):
    """Text is black in the file that is written, which says so, but not that its pixels are clean."""
    picture, boxes = written((300, 400), LATIN[:2], 18)
    made = deidentify(ultrasound(picture, SOPInstanceUID="1.2.3"), Policy(KEY, mask_text=True))
    made.save(tmp_path / "out.dcm")
    again = pydicom.dcmread(tmp_path / "out.dcm")
    for left, top, right, bottom in boxes:
        assert (again.pixel_array[top:bottom, left:right] > 180).mean() < 0.005
    assert "113101" not in [item.CodeValue for item in again.DeidentificationMethodCodeSequence]
    assert "detector" in again.DeidentificationMethod[1]
    assert "finding.text_covered" in {found.key for found in made.findings}
    assert "detector" in " ".join(describe(Policy(KEY, mask_text=True)))
    plain = deidentify(ultrasound(np.zeros((40, 40), np.uint8)), Policy(KEY, mask_text=True))
    assert isinstance(plain.dataset.DeidentificationMethod, str)
