"""The secret of this installation from which pseudonyms of studies, series and patients are made."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.settings import Settings

__all__ = ["owner_key", "pseudonym_key"]


def pseudonym_key(settings: Settings) -> bytes:
    """Secret of this installation; made once, readable by its owner only.

    Raises
    ------
    OSError
        If the data folder cannot be written.
    """
    path = settings.folder / "pseudonyms.key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))
    return path.read_bytes()


def owner_key(settings: Settings, owner: str) -> bytes:
    """Secret for what one owner opens: two owners of one study cannot tell from its names that it is one.

    Raises
    ------
    OSError
    """
    return hmac.new(pseudonym_key(settings), f"owner\0{owner}".encode(), hashlib.sha256).digest()
