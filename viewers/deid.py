"""De-identification of a dataset by the basic profile of DICOM PS3.15, with consistent pseudonyms.

The attributes and what becomes of them are those of PS3.15 table E.1-1 as dicom-anonymizer lists them
(edition 2026c). What that library leaves open is done here: UIDs and the patient's pseudonym are keyed, so
that one patient stays one patient over several uploads; dates can be shifted instead of removed; preamble,
file meta information, private elements, curves, overlays and whatever the standard does not know go; the
result says of itself that it was de-identified. Text burned into pixels is flagged, and masked outside the
regions an ultrasound machine states; it is never promised to be gone.

References
----------
DICOM PS3.15 E.2 (basic profile), E.3.6 (modified dates), PS3.16 CID 7050, PS3.5 B.2 (UUID-derived UIDs).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from viewers.attributes import PARSER_FAILURES, texts
from viewers.bare_pixels import clean_pixels
from viewers.color_profile import bare_profile
from viewers.date_shift import moved
from viewers.deid_table import DUMMY, rules
from viewers.display import burned_in
from viewers.errors import CorruptHeaderError, MissingDecoderError
from viewers.findings import Finding, finding
from viewers.kept_text import KEPT_TEXT, is_coded, stays, true_codes
from viewers.mask import mask_outside_regions, mask_text
from viewers.silence import collected_warnings

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from pydicom import DataElement, Dataset

    from viewers.limits import Limits

__all__ = ["Deidentified", "Patient", "Policy", "deidentify", "describe", "patient_of", "pseudonymous_uid"]

_METHOD: Final = "BiMediX2 Workstation: DICOM PS3.15 2026c basic profile"
_MASKED: Final = "Pixels outside the stated ultrasound regions are black"
_COVERED: Final = "Text that a detector found in pixels is black"
"""Of pixels it is said what was done, never that they are clean: code 113101 (PS3.15 E.3.1) would claim that
no identity is left in any of them, which only a person who looks can say."""
_IMPLEMENTATION_UID: Final = "2.25.201563215418320983311043573907208514529"
_PATIENT: Final = frozenset({"PatientID", "PatientName"})
_BIRTH: Final = frozenset({"PatientBirthDate", "PatientBirthTime"})
_STATUS: Final = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)
_STANDARD_UID: Final = "1.2.840.10008."
_UID: Final = re.compile(r"(?=.{1,64}\Z)(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
"""The form of a UID (PS3.5 9.1)."""
_SHIFT_DAYS: Final = 3650
"""Dates are moved into the past by 1 to this many days, ten years."""
_CODES: Final = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """How a dataset is de-identified.

    Raises
    ------
    ValueError
        If the key is shorter than 16 bytes.
    """

    key: bytes = field(repr=False)
    """Secret of this installation: the same key gives the same pseudonyms, and without it they cannot be
    traced back."""
    shift_dates: bool = False
    """Move the dates of a patient by the same number of days, instead of removing them."""
    mask_regions: bool = True
    """Blacken ultrasound pixels outside the regions the file states."""
    mask_text: bool = False
    """Blacken what looks like text in images of kinds that often hold some; needs the extra ``ocr``."""

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            raise ValueError(f"a key has at least 16 bytes, found {len(self.key)}")


@dataclass(frozen=True, slots=True, eq=False)
class Deidentified:
    """The result, and what a reader has to check."""

    dataset: Dataset
    findings: tuple[Finding, ...]

    def save(self, target: Path | str | IO[bytes]) -> None:
        """Write it as a DICOM file.

        Raises
        ------
        CorruptHeaderError
            If a value cannot be written; then nothing useful is left in the file.
        OSError
        """
        with collected_warnings():
            try:
                self.dataset.save_as(target, **self._encoding())
            except OSError:
                raise
            except PARSER_FAILURES as error:
                raise CorruptHeaderError(
                    attribute="dataset", found="values that cannot be written", expected="DICOM PS3.10"
                ) from error

    def _encoding(self) -> dict[str, Any]:
        """Say how to write a transfer syntax that pydicom does not know, such as JPEG XL's (PS3.5 A.4)."""
        if self.dataset.file_meta.TransferSyntaxUID.is_transfer_syntax:
            return {"enforce_file_format": True}
        return {"implicit_vr": False, "little_endian": True, "force_encoding": True}


def deidentify(dataset: Dataset, policy: Policy, limits: Limits | None = None) -> Deidentified:
    """De-identify a copy of a dataset; the given one is not changed.

    Parameters
    ----------
    dataset : Dataset
        With its ``file_meta``.

    Raises
    ------
    OpenError
        If pixels must be masked and cannot be decoded, or the dataset cannot be read at all.
    TextDetectorMissingError
        If text is to be blackened and the extra ``ocr`` is not installed.
    """
    with collected_warnings():  # they quote values
        return _deidentified(dataset, policy, limits)


def _deidentified(dataset: Dataset, policy: Policy, limits: Limits | None) -> Deidentified:
    try:
        work = _Work(policy, patient_of(dataset, policy))
        made = work.cleaned(dataset)
        _set_file_meta(made, dataset, work)
    except PARSER_FAILURES as error:
        # The reason may quote a value: it stays in the chain of causes, out of the message.
        raise CorruptHeaderError(
            attribute="dataset", found="unreadable elements", expected="DICOM PS3.10"
        ) from error
    masked = policy.mask_regions and mask_outside_regions(made, limits)
    warning = burned_in(dataset)
    found = [warning] if warning is not None else []
    text = mask_text(made, limits) if policy.mask_text and warning is not None else None
    if text is not None:
        found += text.findings
    try:
        if not clean_pixels(made):
            found.append(finding("pixels_not_searched"))
    except PARSER_FAILURES as error:
        raise CorruptHeaderError(
            attribute="PixelData", found="unreadable", expected="DICOM PS3.5 8"
        ) from error
    _set_status(made, policy, [*[_MASKED] * masked, *[_COVERED] * bool(text and text.covered)])
    if masked:
        found.append(finding("outside_masked"))
    if work.left_out:
        found.append(finding("elements_left_out", count=work.left_out))
    return Deidentified(made, tuple(found))


def describe(policy: Policy) -> tuple[str, ...]:
    """Say in English sentences what :func:`deidentify` does; README's list is compared with it."""
    table = rules()
    counts = {action: sum(kept == action for kept in table.exact.values()) for action in "XZDU"}
    dates = (
        "Dates of a patient are moved into the past by the same 1 to 3650 days; times of day stay. "
        "The date of birth is emptied."
        if policy.shift_dates
        else "Dates and times are removed, emptied or set to 1900-01-01."
    )
    masked = (
        "Ultrasound pixels outside the regions that the file states are blackened."
        if policy.mask_regions
        else "Pixels are not changed."
    )
    text = (
        "Images of kinds that often have names burned in are flagged, and what a detector takes for text is "
        "blackened in them; what it does not find remains."
        if policy.mask_text
        else "Images of kinds that often have names burned in are flagged; text inside the picture is not "
        "recognised and may remain."
    )
    return (
        (
            f"Of the attributes of DICOM PS3.15 table E.1-1 (2026c), {counts['X']} are removed, "
            f"{counts['Z']} emptied and {counts['D']} replaced by a fixed value, at every level of nesting."
        ),
        (
            f"UIDs ({counts['U']} attributes of the table and all others that the standard does not define, "
            "kinds of objects apart) become keyed 2.25 UIDs: the same UID always becomes the same one."
        ),
        "PatientID and PatientName become one keyed pseudonym: one patient stays one patient.",
        (
            f"Text that the table does not list is emptied, except that of {len(KEPT_TEXT)} attributes of "
            "codes, machine, technique and display; so are names, dates and bytes it does not list, and code "
            "strings that are none."
        ),
        dates,
        (
            "Private elements, elements the standard does not know, curves, overlays and group lengths "
            "are removed."
        ),
        (
            "The 128-byte preamble is zeroed; of the file meta information only SOP class, new instance UID "
            "and transfer syntax stay."
        ),
        (
            "Pixel data loses the bits no value uses, what follows the last pixel, and comments and "
            "application data inside frames of JPEG, JPEG-LS, JPEG 2000 and JPEG XL; "
            "a colour profile keeps its colours only."
        ),
        masked,
        text,
        (
            "The result says PatientIdentityRemoved YES, with method and codes; that its pixels are clean "
            "it never says."
        ),
    )


def _keyed(policy: Policy, kind: str, text: str) -> bytes:
    return hmac.new(policy.key, f"{kind}\0{text}".encode(), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Patient:
    """What stands for a patient."""

    pseudonym: str
    days: int
    """Dates are moved into the past by so many days, where they are moved: 1 to 3650."""


def patient_of(dataset: Dataset, policy: Policy) -> Patient:
    """Return what stands for the patient: keyed from the identifier, else the name and the date of birth."""
    identifier = "".join(texts(dataset, "PatientID"))
    name = "^".join(texts(dataset, "PatientName")).upper()
    if identifier:
        keyed = _keyed(policy, "patient", identifier)
    elif name:
        born = "".join(texts(dataset, "PatientBirthDate"))
        keyed = _keyed(policy, "patient name", f"{name}\0{born}")
    else:
        # Without any of the three nothing says that two studies are of one patient.
        keyed = _keyed(policy, "patient name", "".join(texts(dataset, "StudyInstanceUID")))
    days = 1 + int.from_bytes(keyed[8:16], "big") % _SHIFT_DAYS
    return Patient(f"P-{keyed[:8].hex().upper()}", days)


def pseudonymous_uid(policy: Policy, uid: str) -> str:
    """Return the UID that stands for another: an UUID made from the key (PS3.5 B.2)."""
    number = int.from_bytes(_keyed(policy, "uid", uid)[:16], "big")
    version_4 = number & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    return f"2.25.{version_4}"


class _Work:
    """One dataset on its way; holds what is the same at every level."""

    def __init__(self, policy: Policy, patient: Patient) -> None:
        self.policy = policy
        self.pseudonym, self._days = patient.pseudonym, patient.days
        self._rules = rules()
        self.left_out = 0
        """Elements that cannot be read: what they hold is not known, so none of it is given out."""

    def cleaned(self, dataset: Dataset, *, coded: bool = False) -> Dataset:
        """Make what is left of a dataset or of an item; ``coded`` when it is a coded entry."""
        from pydicom import Dataset as NewDataset

        made = NewDataset()
        for tag in sorted(dataset.keys()):
            try:
                kept = self._element(dataset[tag], coded=coded)
            except PARSER_FAILURES:
                self.left_out += 1
                continue
            if kept is not None:
                made.add(kept)
        return made

    def _element(self, element: DataElement, *, coded: bool) -> DataElement | None:
        from pydicom.datadict import dictionary_has_tag

        group, keyword, vr = element.tag.group, element.keyword, element.VR
        curve_or_overlay = 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF
        if group % 2 or element.tag.element == 0 or curve_or_overlay or group < 8 or group == 0xFFFC:
            return None
        if not dictionary_has_tag(element.tag) or vr == "UN" or keyword in _STATUS:
            return None
        if keyword in _PATIENT:
            return self._with(element, self.pseudonym)
        action = self._rules.action(int(element.tag))
        if self.policy.shift_dates and vr in {"DA", "DT", "TM"} and keyword not in _BIRTH:
            return self._with(element, self._shifted(element))
        if vr == "SQ":
            return self._sequence(element, action)
        return self._value(element, action, coded=coded)

    def _sequence(self, element: DataElement, action: str) -> DataElement | None:
        if action == "X":
            return None
        # A sequence to be replaced is emptied: its items would be valid only with their contents.
        items = (
            []
            if action in {"Z", "D"}
            else [self.cleaned(item, coded=is_coded(item)) for item in element.value or ()]
        )
        return self._with(element, items)

    def _value(self, element: DataElement, action: str, *, coded: bool) -> DataElement | None:
        vr = element.VR
        if action == "X":
            return None
        if vr == "UI":
            # Kinds of objects name no one, but nothing could be read whose kind is not known any more.
            named = "SOPClass" in element.keyword and _are_uids(element.value)
            return self._with(element, element.value if named else self._uids(element.value))
        if element.keyword == "ICCProfile":
            return self._profile(element)
        if action == "D":
            return self._with(element, DUMMY[vr]) if vr in DUMMY else None
        if action == "Z" or vr in {"PN", "DA", "DT", "TM"} or not (action or _stays(element, coded=coded)):
            # Names, dates and text the table does not list are emptied too.
            return self._with(element, None)
        return self._with(element, true_codes(element.value) if vr == "CS" else element.value)

    def _profile(self, element: DataElement) -> DataElement | None:
        """Keep what a profile's colours need; one that cannot be used goes."""
        try:
            return self._with(element, bare_profile(element.value))
        except ValueError:
            return None

    def _uids(self, value: Any) -> Any:
        if not value:
            return value
        if isinstance(value, str):
            return value if value.startswith(_STANDARD_UID) else pseudonymous_uid(self.policy, value.strip())
        return [self._uids(str(item)) for item in value]

    def _shifted(self, element: DataElement) -> Any:
        values = element.value if not isinstance(element.value, str) else [element.value]
        if not values:
            return element.value
        return [moved(str(item), element.VR, self._days) for item in values]

    @staticmethod
    def _with(element: DataElement, value: Any) -> DataElement:
        from pydicom import DataElement as NewElement

        made = NewElement(element.tag, element.VR, value)
        made.is_undefined_length = element.is_undefined_length and element.VR != "SQ"  # encapsulated pixels
        return made


def _stays(element: DataElement, *, coded: bool) -> bool:
    return stays(int(element.tag), element.keyword, element.VR, coded=coded)


def _are_uids(value: Any) -> bool:
    values = [value] if isinstance(value, str) else value or ()
    return all(_UID.fullmatch(str(item)) for item in values)


def _set_file_meta(made: Dataset, dataset: Dataset, work: _Work) -> None:
    """Make preamble and file meta information anew (PS3.10 7.1)."""
    from pydicom.dataset import FileMetaDataset

    old, meta = getattr(dataset, "file_meta", None), FileMetaDataset()
    sop_class = made.get("SOPClassUID") or (old.get("MediaStorageSOPClassUID") if old else None)
    meta.MediaStorageSOPClassUID = sop_class if sop_class and _are_uids(sop_class) else ""
    instance = made.get("SOPInstanceUID") or pseudonymous_uid(work.policy, work.pseudonym)
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = instance
    stated = str(old.get("TransferSyntaxUID", "")) if old else ""
    if stated and not stated.startswith(_STANDARD_UID) and "PixelData" in made:
        # Under any other name these pixels would be read wrongly, and under this one they cannot be checked.
        uid = stated if _UID.fullmatch(stated) else "?"
        raise MissingDecoderError(syntax="?", uid=uid, plugin="BiMediX2 Workstation", package="?")
    meta.TransferSyntaxUID = stated if stated.startswith(_STANDARD_UID) else "1.2.840.10008.1.2.1"
    meta.FileMetaInformationGroupLength, meta.FileMetaInformationVersion = 0, b"\0\1"
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    meta.ImplementationVersionName = "BIMEDIX2"
    made.file_meta, made.preamble = meta, bytes(128)


def _set_status(made: Dataset, policy: Policy, done: list[str]) -> None:
    """Say what was done (PS3.3 C.12.1.1.1.1, PS3.16 CID 7050)."""
    from pydicom import Dataset as NewDataset

    used = ["113100", *(["113107"] if policy.shift_dates else [])]
    codes = []
    for value in used:
        item = NewDataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", _CODES[value]
        codes.append(item)
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = [_METHOD, *done] if done else _METHOD
    made.DeidentificationMethodCodeSequence = codes
    made.LongitudinalTemporalInformationModified = "MODIFIED" if policy.shift_dates else "REMOVED"
