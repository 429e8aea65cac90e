"""Who stands behind a pseudonym: a map kept on this machine, encrypted, for those who may know.

De-identification cannot be undone without it. It is written only when somebody asks for it, is never
exported, and what it holds is of no use without its key: AES-256-GCM, a new nonce each time it is written.

References
----------
DICOM PS3.15 E.1.1 (de-identifier); NIST SP 800-38D (GCM).
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from viewers.attributes import texts, uid
from viewers.deid import patient_of, pseudonymous_uid
from viewers.errors import IdentityMapError
from viewers.person_name import person_name
from viewers.silence import collected_warnings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom import Dataset

    from viewers.deid import Policy

__all__ = ["IdentityMap", "Originals", "key_file", "originals"]

_MAGIC: Final = b"BMX2IDM1"
_NONCE: Final = 12
"""Bytes, as GCM wants them."""
_KEY: Final = 32
_PATIENT: Final = ("PatientID", "PatientName", "PatientBirthDate", "OtherPatientIDs", "AccessionNumber")
_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, slots=True)
class Originals:
    """What one file said before it was de-identified."""

    pseudonym: str
    days: int
    """Dates were moved into the past by so many days, where dates are moved."""
    patient: Mapping[str, str] = field(repr=False)
    uids: Mapping[str, str] = field(repr=False)
    """New UIDs to those they stand for."""


def originals(dataset: Dataset, policy: Policy) -> Originals:
    """Collect what :func:`viewers.deid.deidentify` replaces in a dataset by pseudonyms."""
    with collected_warnings():
        name, guessed = person_name(dataset)  # before anything else looks at it
        patient = patient_of(dataset, policy)
        stated = {keyword: "\\".join(texts(dataset, keyword)) for keyword in _PATIENT}
        stated |= {"PatientName": name, "PatientNameCharacterSet": "guessed" if guessed else ""}
        found = [uid(dataset, keyword) for keyword in _UIDS]
    return Originals(
        patient.pseudonym,
        patient.days,
        {keyword: text for keyword, text in stated.items() if text},
        {pseudonymous_uid(policy, text): text for text in found if text},
    )


class IdentityMap:
    """The map in one file.

    Parameters
    ----------
    path : Path
        Need not exist yet.
    key : bytes
        32 bytes.

    Raises
    ------
    IdentityMapError
        If the file is no map, was changed, or was written with another key.
    ValueError
        If the key has another length.
    OSError
    """

    def __init__(self, path: Path, key: bytes) -> None:
        if len(key) != _KEY:
            raise ValueError(f"a key has {_KEY} bytes, found {len(key)}")
        self._path, self._key = path, key
        self._patients: dict[str, dict[str, Any]] = {}
        self._uids: dict[str, str] = {}
        with suppress(FileNotFoundError):
            self._read(path.read_bytes())

    def __len__(self) -> int:
        return len(self._patients)

    def add(self, found: Originals) -> None:
        """Remember a file; :meth:`save` writes it."""
        known = self._patients.setdefault(found.pseudonym, {"days": found.days, "patient": {}})
        for keyword, text in found.patient.items():
            values = known["patient"].setdefault(keyword, [])
            if text not in values:
                values.append(text)
        self._uids.update(found.uids)

    def patient(self, pseudonym: str) -> Mapping[str, Any] | None:
        """Return ``days`` and ``patient``: for each attribute all that the files of one patient said."""
        return self._patients.get(pseudonym)

    def uid(self, new: str) -> str | None:
        """UID that a new one stands for."""
        return self._uids.get(new)

    def save(self) -> None:
        """Write the map, readable by its owner only; the file is whole at every moment.

        Raises
        ------
        OSError
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        text = json.dumps({"patients": self._patients, "uids": self._uids}).encode()
        nonce = secrets.token_bytes(_NONCE)
        sealed = _MAGIC + nonce + AESGCM(self._key).encrypt(nonce, text, _MAGIC)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes files that only their owner may read.
        descriptor, made = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(sealed)
                stream.flush()
                os.fsync(stream.fileno())
            Path(made).replace(self._path)
        except BaseException:
            Path(made).unlink(missing_ok=True)
            raise

    def _read(self, sealed: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not sealed.startswith(_MAGIC):
            raise IdentityMapError(reason="?")
        nonce, rest = sealed[len(_MAGIC) :][:_NONCE], sealed[len(_MAGIC) + _NONCE :]
        try:
            record = json.loads(AESGCM(self._key).decrypt(nonce, rest, _MAGIC))
            self._patients, self._uids = dict(record["patients"]), dict(record["uids"])
        except (InvalidTag, ValueError, KeyError, TypeError) as error:
            raise IdentityMapError(reason=type(error).__name__) from error


def key_file(path: Path) -> bytes:
    """Key in a file, made when there is none; readable by its owner only.

    Raises
    ------
    IdentityMapError
        If the file holds no key.
    OSError
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_KEY))
    key = path.read_bytes()
    if len(key) != _KEY:
        raise IdentityMapError(reason=f"{len(key)} bytes")
    return key
