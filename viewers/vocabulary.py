"""Codes a header may say that identify nobody; everything else a header says is left behind.

References
----------
DICOM PS3.3 C.7.3.1.1.1 (modality), PS3.16 annex L (body parts), PS3.3 C.8.11.5 and C.8.1.1 (views).
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BODY_PARTS",
    "BURNED_IN_MODALITIES",
    "CODE_FACTS",
    "MODALITIES",
    "NUMBER_FACTS",
    "PROJECTION_MODALITIES",
    "known_name",
]


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALITIES: Final = _codes(
    """
    ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL
    IVOCT IVUS KER KO LEN LS MG MR M3D NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT
    PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR
    SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
    """
)

PROJECTION_MODALITIES: Final = _codes("CR DX IO MG PX RF RG RTIMAGE XA")
"""A distance on the image is one at the detector, not in the patient, unless it was calibrated."""

BURNED_IN_MODALITIES: Final = _codes("BDUS DMS ECG ES GM IVUS OP OPT OT SC US XC RF SRF")
"""Kinds of image whose pixels often carry the patient's name."""

BODY_PARTS: Final = _codes(
    """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ANUS AORTA AORTICARCH APPENDIX ARM ARTERY AXILLA BACK BILEDUCT
    BLADDER BONE BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CHEEK CHEST
    CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE
    CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT FOREARM GALLBLADDER
    GLUTEAL HAND HEAD HEADNECK HEART HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG
    LIVER LSPINE LSSPINE LUMBOSACRAL LUNG MANDIBLE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST
    NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS PAROTID PATELLA PELVIS PENIS PHARYNX
    PLACENTA PROSTATE RADIUS RADIUSULNA RECTUM RIB RIBS SACRUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SI
    SIJOINT SINUS SKIN SKULL SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THUMB THYMUS
    THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE ULNA URETER URETHRA UTERUS VAGINA
    VULVA WHOLEBODY WRIST ZYGOMA
    """
)

CODE_FACTS: Final[dict[str, frozenset[str]]] = {
    "BodyPartExamined": BODY_PARTS,
    "Laterality": _codes("R L U B"),
    "ImageLaterality": _codes("R L U B"),
    "ViewPosition": _codes(
        """
    AP PA LL RL RLD LLD RLO LLO LATERAL LAT OBL AXIAL CC MLO ML LM LMO SIO XCC XCCL XCCM FB ISO SISO
    SPECIMEN
    """
    ),
    "PatientPosition": _codes(
        """
    HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS AFDR AFDL PFDR PFDL
    """
    ),
    "PhotometricInterpretation": frozenset(
        [
            "MONOCHROME1",
            "MONOCHROME2",
            "PALETTE COLOR",
            "RGB",
            "YBR_FULL",
            "YBR_FULL_422",
            "YBR_ICT",
            "YBR_RCT",
        ]
    ),
    "ScanningSequence": _codes("SE IR GR EP RM"),
    "Units": _codes(
        """
    CNTS NONE CM2 CM2ML PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS MLMINML MLML
    GML STDDEV
    """
    ),
    "DoseUnits": _codes("GY RELATIVE"),
    "MRAcquisitionType": _codes("1D 2D 3D"),
    "LossyImageCompression": _codes("00 01"),
}
"""Attributes kept when their value is one of these codes."""

NUMBER_FACTS: Final = (
    "SliceThickness",
    "SpacingBetweenSlices",
    "KVP",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "MagneticFieldStrength",
    "FlipAngle",
    "GantryDetectorTilt",
    "BitsStored",
    "FrameTime",
    "SeriesNumber",
    "EchoTrainLength",
    "NumberOfAverages",
    "BodyPartThickness",
    "CompressionForce",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
)
"""Attributes kept when their value is one finite number."""

_NAME_WORDS: Final = _codes(
    """
    ABD ABDOMEN ANGIO ANGIOGRAPHY BASE BONE BONES BRAIN BREAST CARDIAC CEREBRUM CHEST COLON CORONARY CTA
    CUSTOM DEFAULT FOSSA FULL HARD HARDER HEAD HEART IAC KIDNEY LARYNX LINEAR LIVER LUNG LUNGS
    MEDIASTINAL MEDIASTINUM MINUS MUSCLE NARROW NECK NORMAL ORBIT P1 P2 P3 PANCREAS PELVIS PLUS POST
    POSTERIOR SINUS SKULL SOFT SOFTER SPINE STANDARD STROKE SUBDURAL TEMPORAL TISSUE USER VERTEBRAE
    VESSEL VESSELS WIDE WINDOW WINDOW1 WINDOW2 WINDOW3 WL WW ALGO1 ALGO2 1 2 3 4 5 6 7 8 9
    """
)


def known_name(text: str) -> str:
    """Return a window's explanation, upper case, if each of its words is a usual one; else the empty string.

    Explanations are free text: somebody may have typed a name.
    """
    words = text.upper().replace("_", " ").replace("-", " ").split()
    return " ".join(words) if words and all(word in _NAME_WORDS for word in words) else ""
