"""Generated series of known geometry: each pixel says where in the patient it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def turned(degrees, axis=0):
    """Axial directions turned about an axis of the patient."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    matrix = {
        0: [[1, 0, 0], [0, c, -s], [0, s, c]],
        1: [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        2: [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }[axis]
    turned_axes = np.asarray(matrix) @ np.asarray([AXIAL[:3], AXIAL[3:]], float).T
    return tuple(float(value) for value in turned_axes.T.ravel())


def slice_dataset(pixels, position, cosines=AXIAL, spacing=(0.8, 0.5), *, study, series, number=1, **more):
    """One CT slice; ``pixels`` are Hounsfield units, int16, stored unsigned with intercept -1024."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CT_CLASS
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.Modality, dataset.BodyPartExamined, dataset.PatientName = "CT", "CHEST", "Nobody^Known"
    dataset.PatientID, dataset.StudyDate = "ID-ZZ-77", "19010203"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.10f}" for value in cosines]
    dataset.PixelSpacing, dataset.SliceThickness = [str(value) for value in spacing], "2.0"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "-1024", "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = (np.asarray(pixels).astype(np.int32) + 1024).astype("<u2").tobytes()
    return dataset


def place_values(points):
    """Value at places in the patient, mm: left is brighter than right, then back, then head."""
    x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
    return np.rint(500 + 4 * x + 2 * y + 3 * z).astype(np.int16)


def slice_values(position, cosines, spacing, shape):
    """Values of a slice's pixels by the place they stand for."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    across, down = np.asarray(cosines[:3]), np.asarray(cosines[3:])
    points = (
        np.asarray(position, float)
        + columns[..., None] * across * spacing[1]
        + rows[..., None] * down * spacing[0]
    )
    return place_values(points)


def write_series(
    folder,
    *,
    count=6,
    shape=(10, 12),
    cosines=AXIAL,
    spacing=(0.8, 0.5),
    step=2.0,
    origin=(-20.0, -30.0, 10.0),
    offsets=None,
    shear=(0.0, 0.0, 0.0),
    study="1.2.3.1",
    series="1.2.3.1.1",
    names=None,
    **more,
):
    """Write a series whose file names stand in the opposite order of their positions; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(cosines[:3], cosines[3:])
    along = [step * index for index in range(count)] if offsets is None else offsets
    paths = []
    for index, distance in enumerate(along):
        position = np.asarray(origin) + normal * distance + np.asarray(shear) * distance
        dataset = slice_dataset(
            slice_values(position, cosines, spacing, shape),
            position,
            cosines,
            spacing,
            study=study,
            series=series,
            number=index + 1,
            **more,
        )
        path = folder / (names[index] if names else f"{series}-{1000 - index}.dcm")
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
