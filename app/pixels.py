"""Pixels of a data folder on the disk: put into place, opened again, as they are or sealed by its key."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from app.encryption.keyring import key_of
from viewers.sealed import seal, sealed_name
from viewers.store import load

if TYPE_CHECKING:
    from pathlib import Path

    from app.settings import Settings
    from viewers.image import Image

__all__ = ["load_pixels", "put_pixels", "seal_folder"]


def put_pixels(settings: Settings, arrived: Path) -> None:
    """Put a folder of pixels, named by its digest, among the others; one that is there already stays.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    target, key = settings.images_folder / arrived.name, key_of(settings.folder)
    if target.exists():
        return
    if key is None and arrived.stat().st_dev == target.parent.stat().st_dev:
        arrived.rename(target)
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that died here
    try:
        shutil.copytree(arrived, part) if key is None else seal_folder(arrived, part, key)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def seal_folder(source: Path, target: Path, key: bytes) -> None:
    """Write a sealed copy of a folder of pixels; files that OpenSlide reads by itself stay as they are."""
    target.mkdir(mode=0o700)
    for place in source.iterdir():
        if place.is_dir():
            shutil.copytree(place, target / place.name)
        else:
            seal(place, sealed_name(target / place.name), key)


def load_pixels(settings: Settings, digest: str) -> Image:
    """Open an image of the data folder.

    Raises
    ------
    StoredImageError
        If a file is missing, changed, or sealed by another key.
    """
    return load(settings.images_folder / digest, key=key_of(settings.folder))
