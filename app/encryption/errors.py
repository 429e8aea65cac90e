"""Errors of encryption at rest; see :mod:`app.errors` for how they become sentences."""

from __future__ import annotations

from app.errors import AppError

__all__ = [
    "EncryptionError",
    "EncryptionHalfDoneError",
    "EncryptionLockedError",
    "EncryptionPackageError",
    "KeyFileError",
    "WrongKeyError",
]


class EncryptionError(AppError):
    """Something about the encryption of a data folder that cannot be done."""

    key = "encryption.error"
    template = "This cannot be done with the encryption of the data folder: {reason}."


class WrongKeyError(EncryptionError):
    """The key file or passphrase is not the folder's; nothing was changed."""

    key = "encryption.wrong_key"
    template = (
        "The data folder {location} is encrypted, and this is not its key file or passphrase. "
        "Nothing was changed; try again with the right one."
    )


class EncryptionLockedError(EncryptionError):
    """An encrypted folder for which no key was given."""

    key = "encryption.locked"
    template = (
        "The data folder {location} is encrypted and no key was given. Name its key file with --key-file or "
        "BIMEDIX2_ENCRYPTION_KEY_FILE, or start on a terminal and type its passphrase."
    )


class EncryptionHalfDoneError(EncryptionError):
    """Turning encryption on or off was interrupted; doing it again goes on."""

    key = "encryption.half_done"
    template = (
        "Turning encryption {direction} was interrupted in {location}. Nothing is lost: give the same "
        "command again, bimedix2 encryption {direction}, and it goes on."
    )


class EncryptionPackageError(EncryptionError):
    """The extra is not installed."""

    key = "encryption.package"
    template = 'Encryption needs a package that is not installed. Install it: pip install "{command}"'


class KeyFileError(EncryptionError):
    """A key file that is no key."""

    key = "encryption.key_file"
    template = (
        "The key file {location} cannot be used: {reason}. Choose another place for it, outside of the data "
        "folder, or another file."
    )
