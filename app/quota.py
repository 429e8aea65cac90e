"""How much one owner may keep: images and bytes, so that one user cannot fill everybody's disk."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from app.accounts.errors import QuotaError

if TYPE_CHECKING:
    from pathlib import Path

    from app.history.store import HistoryStore
    from app.settings import Settings

__all__ = ["check_quota"]


def check_quota(settings: Settings, store: HistoryStore, owner: str, arriving: Path | None = None) -> None:
    """Refuse an image for which an owner has no room.

    Parameters
    ----------
    arriving : Path, optional
        Folder of the image, named by its digest; without one it is asked whether any more fits.

    Raises
    ------
    QuotaError
        If the settings' limit of images or bytes would be passed.
    """
    if not settings.max_images and not settings.max_image_bytes:
        return
    kept = {image.digest for image in store.images(owner)}
    if arriving is not None and arriving.name in kept:
        return
    if settings.max_images and len(kept) + 1 > settings.max_images:
        raise QuotaError(found=len(kept), limit=settings.max_images)
    if settings.max_image_bytes:
        found = sum(_size(settings.images_folder / digest) for digest in kept)
        found += _size(arriving) if arriving is not None else 0
        if found > settings.max_image_bytes:
            raise QuotaError(found=_mib(found), limit=_mib(settings.max_image_bytes))


@lru_cache(maxsize=100_000)
def _size(folder: Path) -> int:
    """Bytes of an image; those of a digest never change."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
