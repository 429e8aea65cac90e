"""``encryption-key.json``: the random key of a data folder, itself encrypted by a key file or a passphrase.

The key of the data never changes when the key file or the passphrase does: only this one small file is
written anew then. From a key file the wrapping key is made by HKDF, from a passphrase by Argon2id.

References
----------
RFC 9106 (Argon2id; the second recommended choice: 3 passes, 64 MiB, 4 lanes), RFC 5869 (HKDF),
NIST SP 800-38D (AES-GCM).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.encryption.errors import EncryptionError, KeyFileError, WrongKeyError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ENVELOPE", "Envelope", "Secret", "State", "make_key_file", "read_key_file"]

ENVELOPE: Final = "encryption-key.json"
_VERSION: Final = 1
_KEY_BYTES: Final = 32
_PASSES, _MEMORY_KIB, _LANES = 3, 64 * 1024, 4
_MOST_MEMORY_KIB: Final = 4 * 1024 * 1024

State = Literal["on", "turning on", "turning off"]


@dataclass(frozen=True, slots=True)
class Secret:
    """What a user has or knows; its value is never shown."""

    kind: Literal["key file", "passphrase"]
    value: bytes

    def __repr__(self) -> str:
        return f"<Secret {self.kind}>"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The file's content."""

    state: State
    kind: Literal["key file", "passphrase"]
    salt: bytes
    nonce: bytes
    wrapped: bytes
    """The folder's key, encrypted and authenticated."""
    costs: tuple[int, int, int] = (_PASSES, _MEMORY_KIB, _LANES)
    """Of Argon2id: passes, KiB, lanes."""

    @classmethod
    def around(cls, key: bytes, secret: Secret, state: State) -> Envelope:
        """Wrap a folder's key."""
        made = cls(state, secret.kind, secrets.token_bytes(16), secrets.token_bytes(12), b"")
        wrapped = AESGCM(made._wrapping(secret)).encrypt(made.nonce, key, made._bound())
        return replace(made, wrapped=wrapped)

    @classmethod
    def read(cls, folder: Path) -> Envelope | None:
        """Read a folder's; ``None`` if it is not encrypted.

        Raises
        ------
        EncryptionError
            If the file is there and damaged.
        """
        try:
            text = (folder / ENVELOPE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return cls._of(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
            reason = f"{folder / ENVELOPE} is damaged; put it back from a backup"
            raise EncryptionError(reason=reason) from error

    @classmethod
    def _of(cls, value: Any) -> Envelope:
        costs = tuple(int(one) for one in value["costs"])
        if value["version"] != _VERSION or value["kind"] not in {"key file", "passphrase"}:
            raise ValueError(value["version"])
        if value["state"] not in {"on", "turning on", "turning off"}:
            raise ValueError(value["state"])
        passes, memory, lanes = costs
        if not (0 < passes < 100 and 8 <= memory <= _MOST_MEMORY_KIB and 0 < lanes < 65):
            raise ValueError(costs)
        salt, nonce, wrapped = (base64.b64decode(value[name]) for name in ("salt", "nonce", "wrapped"))
        return cls(value["state"], value["kind"], salt, nonce, wrapped, (passes, memory, lanes))

    def write(self, folder: Path) -> None:
        """Put it in place, on the disk on return; the one before stays until this one is whole."""
        value = {
            "version": _VERSION,
            "state": self.state,
            "kind": self.kind,
            "costs": list(self.costs),
            **{name: base64.b64encode(getattr(self, name)).decode() for name in ("salt", "nonce", "wrapped")},
        }
        part = folder / f".{ENVELOPE}.part"
        descriptor = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(folder / ENVELOPE)

    def open(self, secret: Secret, folder: Path) -> bytes:
        """Unwrap the folder's key.

        Raises
        ------
        WrongKeyError
            If it is not this folder's key file or passphrase.
        """
        if secret.kind != self.kind:
            raise WrongKeyError(location=folder)
        try:
            return AESGCM(self._wrapping(secret)).decrypt(self.nonce, self.wrapped, self._bound())
        except InvalidTag as error:
            raise WrongKeyError(location=folder) from error

    def _bound(self) -> bytes:
        """Return what the wrapped key is bound to; not the state, which changes under it."""
        return json.dumps([_VERSION, self.kind, self.salt.hex(), self.costs]).encode()

    def _wrapping(self, secret: Secret) -> bytes:
        if self.kind == "key file":
            return HKDF(SHA256(), _KEY_BYTES, self.salt, b"bimedix2 key file").derive(secret.value)
        from argon2.low_level import Type, hash_secret_raw

        passes, memory, lanes = self.costs
        return hash_secret_raw(secret.value, self.salt, passes, memory, lanes, _KEY_BYTES, Type.ID)


def make_key_file(path: Path) -> None:
    """Write a new random key, readable by its user alone.

    Raises
    ------
    KeyFileError
        If something is there already, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise KeyFileError(location=path, reason=error.strerror) from error


def read_key_file(path: Path) -> Secret:
    """Read a key file: 32 random bytes in base64, on one line.

    Raises
    ------
    KeyFileError
        If there is none, or it holds something else: any other file would seem to work until it changes.
    """
    try:
        value = base64.b64decode(path.read_bytes()[:1000].strip(), validate=True)
    except OSError as error:
        raise KeyFileError(location=path, reason=error.strerror) from error
    except binascii.Error:
        value = b""
    if len(value) != _KEY_BYTES:
        raise KeyFileError(location=path, reason="it holds no key of 32 bytes in base64")
    return Secret("key file", value)
