"""Which text a de-identified dataset keeps, of attributes that the standard's table says nothing of.

The table of DICOM PS3.15 lists what its authors thought of. Free text holds whatever somebody typed, and
dates of birth in another calendar are text as well, so text is kept by name only: what makes a code
usable, what tells the machine and its technique, and what a display needs. Everything else is emptied.

References
----------
DICOM PS3.15 E.1 (table E.1-1), E.2; PS3.5 6.2 (value representations); PS3.6 (data dictionary).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["CODE_TEXT", "KEPT_TEXT", "is_coded", "stays", "true_codes"]

_TEXT: Final = frozenset({"LO", "LT", "SH", "ST", "UC", "UR", "UT"})
CODE_TEXT: Final = frozenset(
    {
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "LongCodeValue",
        "MappingResourceName",
        "URNCodeValue",
    }
)
"""Coded entries (PS3.3 8.8): without these body parts, views and procedures could not be read. They stay in
an item that holds a code, and nowhere else."""
_CODE_VALUES: Final = ("CodeValue", "LongCodeValue", "URNCodeValue")
_MACHINE: Final = frozenset(
    {
        "AcquisitionDeviceProcessingCode",
        "AcquisitionMode",
        "AlgorithmName",
        "AlgorithmVersion",
        "ApplicationManufacturer",
        "ApplicationName",
        "ApplicationVersion",
        "AttenuationCorrectionMethod",
        "CardiacFramingType",
        "CollimatorGridName",
        "ContrastBolusRoute",
        "ConvolutionKernel",
        "DetectorLinesOfResponseUsed",
        "DetectorManufacturerName",
        "DetectorManufacturerModelName",
        "DigitalImageFormatAcquired",
        "DoseModeName",
        "EnergyWindowName",
        "FilterType",
        "ImageFilter",
        "ImagedNucleus",
        "Manufacturer",
        "ManufacturerModelName",
        "ManufacturerModelVersion",
        "ManufacturerRelatedModelGroup",
        "MultiCoilElementName",
        "OutputPower",
        "PhosphorType",
        "PlateType",
        "PulseSequenceName",
        "PVCRejection",
        "Radiopharmaceutical",
        "RadiopharmaceuticalRoute",
        "ReceiveCoilManufacturerName",
        "ReceiveCoilName",
        "ReconstructionMethod",
        "ScatterCorrectionMethod",
        "SecondaryCaptureDeviceManufacturer",
        "SecondaryCaptureDeviceManufacturerModelName",
        "SecondaryCaptureDeviceSoftwareVersions",
        "SequenceName",
        "SoftwareVersions",
        "TransmitCoilManufacturerName",
        "TransmitCoilName",
        "TriggerSourceOrType",
        "TypeOfFilters",
    }
)
"""Chosen by the machine or its maker, not typed for one patient: what the pixels were made with."""
_DISPLAY: Final = frozenset(
    {
        "MIMETypeOfEncapsulatedDocument",
        "ModalityLUTType",
        "OpticalPathIdentifier",
        "PositionReferenceIndicator",
        "ReferencedOpticalPathIdentifier",
        "RescaleType",
        "SegmentAlgorithmName",
        "SegmentLabel",
        "StackID",
        "StageName",
        "ViewName",
    }
)
"""Tell frames, segments, units and views apart."""
KEPT_TEXT: Final = CODE_TEXT | _MACHINE | _DISPLAY
"""Keywords of attributes of text that stay, in alphabetical order within their reasons."""
_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{0,16} *")
_KEPT_BYTES: Final = frozenset({"ICCProfile"})
_EMPTIED: Final = frozenset({"PatientAlternativeCalendar"})
"""The calendar of a patient's dates tells of origin and faith, and nothing needs it without the dates."""


def is_coded(item: Dataset) -> bool:
    """Whether an item of a sequence is a coded entry."""
    return any(keyword in item for keyword in _CODE_VALUES)


def true_codes(value: Any) -> Any:
    """Empty what is no code string (PS3.5 6.2): a name may be typed in lower case, a code may not."""
    if value is None:
        return None
    if not isinstance(value, str):
        return [true_codes(str(item)) for item in value]
    # Names of character sets are often written wrongly, and without them what stays could not be read.
    charset = value.strip().upper().replace("-", "_")
    if charset in python_encoding:
        return charset
    return value if _CODE_STRING.fullmatch(value) else ""


def stays(tag: int, keyword: str, vr: str, *, coded: bool) -> bool:
    """Whether an element that the table does not list keeps its value.

    Parameters
    ----------
    tag : int
        One that the dictionary knows.
    keyword, vr : str
        As the dataset has it: text is text also where the dictionary says otherwise, and the reverse.
    coded : bool
        Whether it stands in a coded entry.
    """
    stated = dictionary_VR(tag)
    if vr in _TEXT or stated in _TEXT:
        return keyword in KEPT_TEXT and (coded or keyword not in CODE_TEXT)
    if stated == "OB":
        # Bytes of no stated meaning: signatures, keys of records, encrypted copies of what was removed.
        return keyword in _KEPT_BYTES
    return keyword not in _EMPTIED
