"""Presentation states and overlays made for tests, as other programs write them."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

GREYSCALE = "1.2.840.10008.5.1.4.1.1.11.1"
COLOR = "1.2.840.10008.5.1.4.1.1.11.2"


def item(**attributes):
    """Make a dataset of these attributes."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def reference(image, frames=None):
    """Name an image, or some of its frames."""
    made = item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    if frames:
        made.ReferencedFrameNumber = frames
    return made


def state(*images, sop_class=GREYSCALE, frames=None, area=None, **attributes):
    """Make a presentation state of images; with the mandatory modules, and whatever is added."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = sop_class
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    first = images[0]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        setattr(made, keyword, first.get(keyword, ""))
    made.PatientBirthDate = made.PatientSex = made.StudyID = made.AccessionNumber = ""
    made.StudyDate = made.StudyTime = made.ReferringPhysicianName = made.Manufacturer = ""
    made.Modality, made.SeriesInstanceUID, made.SeriesNumber = "PR", pydicom.uid.generate_uid(), 1
    made.InstanceNumber, made.ContentLabel, made.ContentDescription = 1, "STATE", ""
    made.PresentationCreationDate, made.PresentationCreationTime = "20200101", "120000"
    made.ContentCreatorName = ""
    made.ReferencedSeriesSequence = Sequence(
        [
            item(
                SeriesInstanceUID=first.SeriesInstanceUID,
                ReferencedImageSequence=Sequence([reference(image, frames) for image in images]),
            )
        ]
    )
    corners = area or [1, 1, first.Columns, first.Rows]
    made.DisplayedAreaSelectionSequence = Sequence(
        [
            item(
                DisplayedAreaTopLeftHandCorner=list(corners[:2]),
                DisplayedAreaBottomRightHandCorner=list(corners[2:]),
                PresentationSizeMode="SCALE TO FIT",
                PresentationPixelAspectRatio=[1, 1],
            )
        ]
    )
    if sop_class == GREYSCALE:
        made.PresentationLUTShape = "IDENTITY"
    for keyword, value in attributes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def add_overlay(dataset, marked, *, group=0x6000, origin=(1, 1), kind="G", frames=None, first=None):
    """Add an overlay; ``marked`` is bool, (rows, columns) or (frames, rows, columns)."""
    marked = np.asarray(marked, bool)
    rows, columns = marked.shape[-2:]
    bits = np.packbits(marked.ravel(), bitorder="little").tobytes()
    dataset.add_new((group, 0x0010), "US", rows)
    dataset.add_new((group, 0x0011), "US", columns)
    if frames is not None:
        dataset.add_new((group, 0x0015), "IS", frames)
    dataset.add_new((group, 0x0040), "CS", kind)
    dataset.add_new((group, 0x0050), "SS", list(origin))
    if first is not None:
        dataset.add_new((group, 0x0051), "US", first)
    dataset.add_new((group, 0x0100), "US", 1)
    dataset.add_new((group, 0x0102), "US", 0)
    dataset.add_new((group, 0x3000), "OW", bits + b"\0" * (len(bits) % 2))
    return dataset


def layer(number=1, name="LAYER"):
    """Make a graphic layer."""
    return Sequence([item(GraphicLayer=name, GraphicLayerOrder=number)])


def polyline(points, *, units="PIXEL", kind="POLYLINE", filled="N"):
    """Make a graphic object."""
    flat = [float(value) for point in points for value in point]
    return item(
        GraphicAnnotationUnits=units,
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(points),
        GraphicData=flat,
        GraphicType=kind,
        GraphicFilled=filled,
    )


def text(words, box=None, anchor=None, units="PIXEL"):
    """Make a text object in a box (left, top, right, bottom) or at an anchor."""
    made = item(UnformattedTextValue=words)
    if box:
        made.BoundingBoxAnnotationUnits = units
        made.BoundingBoxTopLeftHandCorner, made.BoundingBoxBottomRightHandCorner = box[:2], box[2:]
        made.BoundingBoxTextHorizontalJustification = "LEFT"
    if anchor:
        made.AnchorPointAnnotationUnits, made.AnchorPoint = units, list(anchor)
        made.AnchorPointVisibility = "N"
    return made


def annotation(*objects, images=()):
    """Make an annotation of graphic and text objects, on some images or on all."""
    made = item(GraphicLayer="LAYER")
    if images:
        made.ReferencedImageSequence = Sequence([reference(image) for image in images])
    graphics = [one for one in objects if "GraphicType" in one]
    texts = [one for one in objects if "UnformattedTextValue" in one]
    if graphics:
        made.GraphicObjectSequence = Sequence(graphics)
    if texts:
        made.TextObjectSequence = Sequence(texts)
    return made
