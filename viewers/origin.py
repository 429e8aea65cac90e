"""What an image belongs to, as keyed pseudonyms of what its header calls patient, study, series and space."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from viewers.attributes import texts, uid
from viewers.image import Origin
from viewers.skim import PATIENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

__all__ = ["origin", "origin_of", "patient_name", "pseudonym"]


def pseudonym(key: bytes, *texts: str) -> str:
    """Name for something that must not be named: the same for the same key and texts, 16 hex digits."""
    return hashlib.blake2b("\0".join(texts).encode(), key=key[:64], digest_size=8).hexdigest()


def patient_name(values: Sequence[Sequence[str]]) -> str:
    """Tell patients of one source apart by the values of ``skim.PATIENT``; lives inside the reader only.

    The identifier counts, with who gave it out. A name is no identifier and is never looked at: empty where
    there is no other.
    """
    identifier, issuer = ("\\".join(some).strip() for some in values)
    return f"{identifier}\0{issuer}" if identifier else ""


def origin(key: bytes, study: str, series: tuple[str, int], space: str, patient: str) -> Origin:
    """Pseudonyms of identifiers, made with a key; what is not said stays empty.

    Parameters
    ----------
    key : bytes
        Secret; the same gives the same pseudonyms.
    study, space : str
        UIDs of the study and of the frame of reference.
    series : (str, int)
        UID of the series, and which part of it this is, from 1.
    patient : str
        See :func:`patient_name`.
    """
    return Origin(
        pseudonym(key, "study", study) if study else "",
        pseudonym(key, "series", series[0], str(series[1])),
        pseudonym(key, "space", space) if space else "",
        pseudonym(key, "patient", patient) if patient else "",
    )


def origin_of(dataset: Dataset, key: bytes) -> Origin:
    """Pseudonyms of one file, the same a study it stands in alone would get."""
    study, series = uid(dataset, "StudyInstanceUID"), uid(dataset, "SeriesInstanceUID")
    patient = patient_name([texts(dataset, keyword) for keyword in PATIENT])
    return origin(key, study, (series, 1), uid(dataset, "FrameOfReferenceUID"), patient)
