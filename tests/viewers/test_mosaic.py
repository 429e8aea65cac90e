"""Siemens mosaics: their slices one by one, in the place the scanner put them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.viewers.phantoms import AXIAL, CORONAL, SAGITTAL, place_values, slice_dataset, turned
from viewers.assembly import image_volume, volume_of
from viewers.intake import open_image
from viewers.store import load
from viewers.study import read_studies

COUNT, ROWS, COLUMNS, STEP = 11, 8, 10, 3.0
SPACING = (2.0, 1.5)
DIRECTIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": turned(23, axis=0)}


def csa_header(tags, *, new=True):
    """Write a CSA header of texts by name, in Siemens' layout."""
    made = b"SV10\4\3\2\1" if new else b""
    made += struct.pack("<2I", len(tags), 77)
    first = None
    for name, values in tags.items():
        count = max(len(values), 6)
        first = count if first is None else first
        made += struct.pack("<64si4siii", name.encode(), len(values), b"IS", 6, count, 77)
        for at in range(count):
            text = f"{values[at]}".encode() + b"\0" if at < len(values) else b""
            length = len(text)
            sizes = (length, length, 77, length) if new else (length + first, 0, 0, 0)
            made += struct.pack("<4i", *sizes) + text + b"\0" * (-length % 4)
    return made


def mosaic(cosines=AXIAL, *, backwards=False, count=COUNT, private=True, **changes):
    """Make a mosaic of slices whose values tell the place they stand for."""
    normal = np.cross(cosines[:3], cosines[3:]) * (-1 if backwards else 1)
    first, across = np.array([-30.0, -20.0, 40.0]), int(np.ceil(np.sqrt(count)))
    picture = np.zeros((across * ROWS, across * COLUMNS), np.int16)
    rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
    for index in range(count):
        points = (
            first
            + normal * STEP * index
            + columns[..., None] * np.asarray(cosines[:3]) * SPACING[1]
            + rows[..., None] * np.asarray(cosines[3:]) * SPACING[0]
        )
        down, right = divmod(index, across)
        picture[down * ROWS : (down + 1) * ROWS, right * COLUMNS : (right + 1) * COLUMNS] = place_values(
            points
        )
    # Siemens states the corner of a picture as large as the mosaic, around the centre of the slice.
    corner = (
        first
        - np.asarray(cosines[:3]) * SPACING[1] * (picture.shape[1] - COLUMNS) / 2
        - np.asarray(cosines[3:]) * SPACING[0] * (picture.shape[0] - ROWS) / 2
    )
    made = slice_dataset(picture, corner, cosines, SPACING, study="1.2.3.1", series="1.2.3.1.1", number=1)
    made.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    made.SpacingBetweenSlices, made.SliceThickness = STEP, STEP
    if private:
        block = made.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        tags = {
            "EchoLinePosition": ["4"],
            "NumberOfImagesInMosaic": [count],
            "SliceNormalVector": list(normal),
        }
        block.add_new(0x10, "OB", csa_header(tags))
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def values(image, frame):
    read = image.frame(frame)
    return read.code_map.values()[read.codes]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_slices_are_where_they_were(write, name, backwards):
    """Every voxel of the volume has the value of its place in the patient, whichever way slices follow."""
    cosines = DIRECTIONS[name]
    image = open_image(write(mosaic(cosines, backwards=backwards)))
    assert (image.frame_count, image.size.width, image.size.height) == (COUNT, COLUMNS, ROWS)
    assert "finding.mosaic_split" in [found.key for found in image.findings]
    volume = image_volume(image)
    assert volume.array.shape == (COUNT, ROWS, COLUMNS)
    codes = volume.code_map.values()
    for index in np.ndindex(3, 3, 3):
        slice_, row, column = (np.asarray(index) * (5, 3, 4)).tolist()
        place = np.asarray(volume.to_mm((column, row, slice_)))
        assert codes[volume.array[slice_, row, column]] == pytest.approx(place_values(place), abs=1)


@pytest.mark.parametrize("kind", ["element", "old header"])
def test_other_places_of_the_count(write, kind):
    """The count stands in an element of its own too, and headers of older software have another layout."""
    dataset = mosaic(private=False)
    if kind == "element":
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", COUNT)
    else:
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", csa_header({"A": ["1"], "NumberOfImagesInMosaic": [COUNT]}, new=False))
    image = open_image(write(dataset))
    assert image.frame_count == COUNT
    assert np.array_equal(values(image, 10), values(open_image(write(mosaic())), 10))


def test_without_private_data(write):
    """The acquisition matrix says how large a slice is; empty ones at the end are none."""
    image = open_image(write(mosaic(private=False, AcquisitionMatrix=[0, COLUMNS, ROWS, 0])))
    assert image.frame_count == COUNT
    assert image_volume(image).array.shape == (COUNT, ROWS, COLUMNS)


@pytest.mark.parametrize(
    "broken",
    [b"", b"SV10\4\3\2\1" + b"\xff" * 40, csa_header({"NumberOfImagesInMosaic": ["x"]}),
     csa_header({"NumberOfImagesInMosaic": [10**9]}), csa_header({"NumberOfImagesInMosaic": [30]}),
     csa_header({"NumberOfImagesInMosaic": [COUNT]})[:150]],
)  # fmt: skip
def test_what_cannot_be_split_is_told(write, broken):
    """One picture, as it is, with the finding that says so."""
    dataset = mosaic(private=False)
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", broken)
    image = open_image(write(dataset))
    assert image.frame_count == 1
    assert "finding.mosaic" in [found.key for found in image.findings]


def test_without_the_distance_of_slices(write):
    """Slices are shown, and form no volume: nobody says how far apart they are."""
    dataset = mosaic()
    del dataset.SpacingBetweenSlices
    image = open_image(write(dataset))
    assert (image.frame_count, image.describes.planes) == (COUNT, ())


def test_a_series_of_mosaics(tmp_path):
    """Each time point is a volume of its own; what is stored shows the same and holds nothing private."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        dataset = mosaic(backwards=number == 1, InstanceNumber=number + 1, AcquisitionNumber=number + 1)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.9.{number}"
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    reader, studies = read_studies(folder, key=b"k" * 32)
    with reader:
        series = studies[0].series
        assert [one.frame_count for one in series] == [COUNT] * 3
        for one in series:
            one.stack.check()
        assert volume_of(series[1]).array.shape == (COUNT, ROWS, COLUMNS)
        kept = series[0].keep(tmp_path / "kept")
        image = load(kept)
        assert np.array_equal(values(image, 4), values(series[0].open(), 4))
    assert b"SIEMENS" not in (kept / "image.json").read_bytes()
