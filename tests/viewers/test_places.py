"""Dose grids and nuclear reconstructions: frames lie where the older rules say."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.viewers.phantoms import AXIAL, CORONAL
from tests.viewers.test_dicom import grey_dataset
from viewers.assembly import image_volume, volume_of
from viewers.intake import open_image
from viewers.measure import Shape, measure
from viewers.planes import PlaneView
from viewers.study import read_studies

TURNED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
COUNT = 5


def dose(offsets, position=(3.0, 4.0, 50.0), cosines=AXIAL, unit="GY"):
    """Make a dose grid whose frame k holds k Gy."""
    frames = np.stack([np.full((6, 8), 1000 * n) for n in range(len(offsets))])
    return grey_dataset(
        frames,
        32,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2",
        Modality="RTDOSE",
        DoseUnits=unit,
        DoseGridScaling="0.001",
        ImagePositionPatient=list(position),
        ImageOrientationPatient=list(cosines),
        PixelSpacing=[2, 2],
        GridFrameOffsetVector=list(offsets),
    )


def nuclear(step, count=COUNT, **more):
    """Make a nuclear reconstruction whose frame k holds k."""
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [1.0, 2.0, 3.0], list(CORONAL)
    made = grey_dataset(
        np.stack([np.full((6, 8), n) for n in range(count)]),
        16,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.20",
        Modality="NM",
        ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"],
        PixelSpacing=[4, 4],
        NumberOfSlices=COUNT,
        SliceVector=[n % COUNT + 1 for n in range(count)],
        SpacingBetweenSlices=step,
        DetectorInformationSequence=Sequence([detector]),
    )
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("offsets", "cosines", "heights"),
    [
        ([0, 3, 6, 9], AXIAL, [50, 53, 56, 59]),
        ([0, -3, -6, -9], AXIAL, [50, 47, 44, 41]),
        ([0, 3, 6, 9], TURNED, [50, 53, 56, 59]),
        ([50, 53, 56, 59], AXIAL, [50, 53, 56, 59]),
        ([50, 47, 44, 41], TURNED, [50, 47, 44, 41]),
    ],
)
def test_planes_of_a_dose_grid(write, offsets, cosines, heights):
    """Offsets from the first plane, or coordinates of the patient: frame k lies where k Gy are measured."""
    image = open_image(write(dose(offsets, cosines=cosines)))
    assert [plane.position_mm for plane in image.describes.planes] == [(3.0, 4.0, z) for z in heights]
    assert image_volume(image).array.shape == (4, 6, 8)
    for number, height in enumerate(heights):
        made = measure(image, Shape("probe", ((3.5, 2.5),)), 0, PlaneView("axial", float(height)))
        assert [(item.name, item.unit) for item in made.quantities] == [("value", "Gy")]
        assert made.value("value") == pytest.approx(number, abs=1e-6)


@pytest.mark.parametrize("offsets", [[0, 3, 6], [7, 10, 13, 16]])
def test_offsets_that_fit_nothing_say_nothing(write, offsets):
    """Too few offsets, or ones that begin neither at 0 nor at the first plane, place no frame."""
    made = dose([0, 3, 6, 9])
    made.GridFrameOffsetVector = offsets
    assert open_image(write(made)).describes.planes == ()
    oblique = dose([50, 53, 56, 59], cosines=CORONAL)
    assert open_image(write(oblique)).describes.planes == ()


def test_dose_without_a_unit_of_its_own(write):
    """A relative dose is no Gray."""
    image = open_image(write(dose([0, 3, 6, 9], unit="RELATIVE")))
    assert measure(image, Shape("probe", ((1, 1),)), 2).quantities[0].unit == "raw"


def test_two_dose_grids_at_other_places_are_two_volumes(tmp_path):
    """What files share is described once, but not where each of them lies."""
    for number, height in enumerate((50.0, 80.0)):
        made = dose([0, 3, 6, 9], position=(0.0, 0.0, height))
        made.StudyInstanceUID, made.SeriesInstanceUID = "1.2", "1.2.3"
        made.SOPInstanceUID = f"1.2.3.{number + 1}"
        made.save_as(tmp_path / f"{number}.dcm", enforce_file_format=False)
    reader, (study,) = read_studies(tmp_path)
    with reader:
        assert [series.stack.planes[0].position_mm[2] for series in study.series] == [50, 80]
        assert [volume_of(series).to_mm((0, 0, 0))[2] for series in study.series] == [50, 80]


@pytest.mark.parametrize("step", [4.0, -4.0])
@pytest.mark.parametrize("vector", [True, False])
def test_slices_of_a_nuclear_reconstruction(write, step, vector):
    """They follow the detector's position along the normal, against it when their spacing is negative."""
    made = nuclear(step)
    if not vector:
        del made.SliceVector
    image = open_image(write(made))
    assert [plane.position_mm for plane in image.describes.planes] == [
        pytest.approx((1.0, 2.0 + step * n, 3.0)) for n in range(COUNT)
    ]
    assert (image.orientation(0).right, image.orientation(0).top) == ("L", "H")
    volume = image_volume(image)
    for number in range(COUNT):
        column, row, slice_ = volume.to_index((5.0, 2.0 + step * number, -1.0))
        code = volume.array[round(slice_), round(row), round(column)]
        assert volume.code_map.values()[code] == number


def test_gated_slices_are_passes(write):
    """Time slots are told apart; projections of a camera lie nowhere in the patient."""
    made = nuclear(4.0, 2 * COUNT, TimeSlotVector=[1] * COUNT + [2] * COUNT)
    made.ImageType = ["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"]
    assert open_image(write(made)).describes.passes == (0,) * COUNT + (1,) * COUNT
    made.ImageType = ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]
    assert open_image(write(made)).describes.planes == ()
