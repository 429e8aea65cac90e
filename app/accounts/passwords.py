"""Passwords: Argon2id, always one computation whoever is asked for, and a floor for new ones."""

from __future__ import annotations

import threading
import unicodedata
from typing import TYPE_CHECKING, Final

from app.accounts.errors import PasswordUnfitError
from app.accounts.names import same_name
from app.history.lines import storable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["LEAST", "MOST", "Passwords", "check_new"]

LEAST: Final = 12
MOST: Final = 256
"""Characters; enough for any sentence, and too few to make hashing slow."""

_AT_ONCE: Final = 2
"""Computations at once; each takes 64 MiB, and guessing must not take the machine."""
_COMMON: Final = (
    "password",
    "passw0rd",
    "qwerty",
    "administrator",
    "letmein",
    "welcome",
    "bimedix",
    "hospital",
)
_FEWEST_DIFFERENT: Final = 5


class Passwords:
    """Makes and checks hashes; one for a process.

    Parameters
    ----------
    hasher : argon2.PasswordHasher, optional
        Argon2id with the parameters of RFC 9106 (second recommendation) by default.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        from argon2 import PasswordHasher, profiles

        self._hasher = hasher or PasswordHasher.from_parameters(profiles.RFC_9106_LOW_MEMORY)
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._nobodys = self.hash("the password of nobody")

    def hash(self, password: str) -> str:
        """Hash a password with a salt of its own; the text says its parameters."""
        with self._room:
            return self._hasher.hash(_bytes(password))

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password is the stored one; without a stored one it takes as long, and is never."""
        from argon2.exceptions import Argon2Error, InvalidHashError

        try:
            with self._room:
                self._hasher.verify(stored or self._nobodys, _bytes(password))
        except (Argon2Error, InvalidHashError):
            return False
        return stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)


def check_new(password: str, name: str) -> None:
    """Refuse a new password that is too easy to guess.

    Raises
    ------
    PasswordUnfitError
        If it is too short or long, holds the account's name, a word everybody tries, or few characters.

    References
    ----------
    NIST SP 800-63B, section 3.1.1: length before character classes, a list of known ones, no expiry.
    """
    folded = same_name(password)
    bare = folded.strip("0123456789!@#$%^&*._- ")
    if (
        not LEAST <= len(password) <= MOST
        or storable(password) != password
        or len(set(folded)) < _FEWEST_DIFFERENT
        or bare in (*_COMMON, name)
        or folded.replace(name, "") in ("", name)
        or folded in "01234567890123456789"
        or folded in "abcdefghijklmnopqrstuvwxyz"
        or folded in "qwertyuiopasdfghjklzxcvbnm"
    ):
        raise PasswordUnfitError(least=LEAST, most=MOST)


def _bytes(password: str) -> bytes:
    """One spelling, so that a password typed on another keyboard is still the same (RFC 8265).

    Halves of characters, which only a program sends, are no reason to fail otherwise than any wrong password.
    """
    return unicodedata.normalize("NFC", password)[: MOST + 1].encode("utf-8", "surrogatepass")
