"""Names of accounts: one spelling for all the ways Unicode can write the same letters."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from app.accounts.errors import AccountNameError

__all__ = ["LONGEST_NAME", "checked_name", "same_name"]

LONGEST_NAME: Final = 64
_SHAPE: Final = re.compile(r"[^\W_][\w.@-]*")


def same_name(text: str) -> str:
    """Bring a name to the spelling it is compared in.

    Compatibility forms, letter case and invisible characters make no difference, so that nobody can
    have an account whose name looks like another's for such a reason.

    References
    ----------
    RFC 8265 (UsernameCaseMapped), Unicode Standard Annex 15.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(one for one in folded if unicodedata.category(one) not in ("Cf", "Cc")).strip()


def checked_name(text: str) -> str:
    """Return the name of a new account in the spelling it is compared in.

    Raises
    ------
    AccountNameError
        If it is empty, too long, or holds anything but letters, digits and ``. @ - _``.
    """
    name = same_name(text)
    if (
        len(name) > LONGEST_NAME
        or not _SHAPE.fullmatch(name)
        or len({_script(one) for one in name} - {""}) > 1
    ):
        raise AccountNameError(found=text[:LONGEST_NAME], most=LONGEST_NAME)
    return name


def _script(letter: str) -> str:
    """Script of a letter; names of one script leave no room for a Cyrillic a in a Latin name."""
    return unicodedata.name(letter, "").split(" ")[0] if letter.isalpha() else ""
