"""CT series made for the browser tests: known values, a bright corner, names in another order than slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 48
COUNT = 14
SPACING_MM = 1.5
STEP_MM = 2.5


def value_at(slice_: int, row: int, column: int) -> float:
    """Hounsfield units of a voxel: blocks of 8 pixels, a bright corner to the left and back."""
    if row >= SIZE * 3 // 4 and column >= SIZE * 3 // 4:
        return 2000.0
    return float(-600 + 20 * slice_ + 40 * (row // 8) + 7 * (column // 8))


def series(folder: Path, *, number: int, study: str | None = None, count: int = COUNT) -> str:
    """Write one series; returns its study's UID."""
    folder.mkdir(parents=True)
    study = study or str(generate_uid())
    uids = [str(generate_uid()) for _ in range(2)]
    for index in range(count):
        made = _slice(index, study, *uids)
        made.SeriesNumber = number
        made.save_as(folder / f"IM{index * 5 % count if count % 5 else index:04d}", enforce_file_format=True)
    return study


def _slice(index: int, study: str, series_uid: str, space: str) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    made = Dataset()
    made.file_meta = meta
    made.SOPClassUID = CTImageStorage
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series_uid, space
    made.Modality, made.BodyPartExamined = "CT", "CHEST"
    made.PatientName, made.PatientID = "SMITH^JOHN", "SMITH1"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 15, 1, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, 0, "HU"
    made.WindowCenter, made.WindowWidth = -200, 1600
    made.PixelSpacing = [SPACING_MM, SPACING_MM]
    made.SliceThickness = STEP_MM
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.ImagePositionPatient = [0, 0, index * STEP_MM]
    rows, columns = np.indices((SIZE, SIZE))
    _fill(made, np.vectorize(value_at)(index, rows, columns))
    return made


def _fill(made: Dataset, values: NDArray[np.float64]) -> None:
    made.Rows, made.Columns = values.shape
    made.PixelData = values.astype("<i2").tobytes()


def large_series(folder: Path, count: int, side: int) -> None:
    """Write a series of noise over a gradient, as large as those of a hospital."""
    folder.mkdir(parents=True)
    uids = [str(generate_uid()) for _ in range(3)]
    ground = np.linspace(-1000, 1000, side)[None, :] + np.random.default_rng(1).normal(0, 12, (side, side))
    for index in range(count):
        made = _slice(index, *uids)
        made.SeriesNumber = 1
        _fill(made, ground + index)
        made.save_as(folder / f"IM{index:04d}", enforce_file_format=True)
