"""Whole slides of a workspace: taken in by a process with limits, kept beside images, opened as needed."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from app.encryption.keyring import key_of
from app.errors import ImageNotFoundError
from viewers.errors import NotAnImageError
from viewers.limits import Limits
from viewers.openers.tiled import Tiles
from viewers.shown import shown_from_json
from viewers.slide_excerpt import reason_for, write_excerpt
from viewers.slide_files import may_be_slide
from viewers.slide_intake import SlideIntake
from viewers.slide_pool import SlidePool
from viewers.slide_store import is_stored_slide, load
from viewers.slide_view import slide_views
from viewers.tiles import TileService

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from app.settings import Settings
    from viewers.deepzoom import TileAddress
    from viewers.slide import Slide

__all__ = ["LEAVES_WHOLE", "SlidesService"]

LEAVES_WHOLE: Final = 512 * 2**20
"""Bytes up to which a slide leaves with a conversation as it is stored."""


class SlidesService:
    """Slides of all owners by digest; whose they are is asked elsewhere, before.

    Parameters
    ----------
    settings : Settings
        Where slides are kept and how large a file may be.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._intake = SlideIntake()
        self.tiles = TileService(
            SlidePool(lambda digest: load(settings.images_folder / digest, key=key_of(settings.folder)))
        )
        """Tiles of slides, by digest."""

    def _load(self, digest: str) -> Slide:
        return load(self._settings.images_folder / digest, key=key_of(self._settings.folder))

    def close(self) -> None:
        """End the process that reads, and let go of all slides."""
        self._intake.close()
        self.tiles.close()

    def has(self, digest: str) -> bool:
        """Whether what is kept under a digest is a slide."""
        return is_stored_slide(self._settings.images_folder / digest)

    def take(self, path: Path, folder: Path) -> Path | None:
        """Store an untrusted file below ``folder``, if it is a slide.

        Returns
        -------
        Path or None
            ``folder / digest``; ``None`` if the file is something else.

        Raises
        ------
        OpenError
            If it is a slide that cannot be opened.
        """
        if not may_be_slide(path):
            return None  # asking the child would cost its start
        try:
            return self._intake.open(path, folder, self._limits())
        except NotAnImageError:
            return None

    def sort(
        self, sources: Sequence[Path], names: Sequence[str], folder: Path, cancel: threading.Event
    ) -> tuple[list[dict[str, Path]], dict[str, Path]] | None:
        """Tell slides among many files from the rest; ``None`` if a first look finds none.

        Returns
        -------
        list of dict, dict
            As :meth:`viewers.slide_intake.SlideIntake.sort`.

        Raises
        ------
        OpenError, IntakeCancelledError, OSError
        """
        if not any(may_be_slide(path, name) for path, name in zip(sources, names, strict=True)):
            return None
        return self._intake.sort(sources, folder, self._limits(), names=names, cancel=cancel)

    def take_files(
        self,
        files: Mapping[str, Path],
        folder: Path,
        cancel: threading.Event,
        on_progress: Callable[[float], None],
    ) -> Path:
        """Store a slide of several files below ``folder``.

        Raises
        ------
        OpenError, IntakeCancelledError, OSError
        """
        return self._intake.open(
            list(files.values()), folder, self._limits(), names=list(files), on_progress=on_progress,
            cancel=cancel,
        )  # fmt: skip

    def leaving(self, digest: str, views: Sequence[Mapping[str, Any]], folder: Path) -> Path | None:
        """Write what of a slide leaves with a conversation, if that is not the slide as it is stored.

        A slide of more than :data:`LEAVES_WHOLE` bytes, and one whose own files are kept, leaves as an
        excerpt: the regions of the views in detail, the rest in little, with a finding that says why.

        Parameters
        ----------
        views : sequence of mapping
            What the conversation shows of it, as it is stored.
        folder : Path
            Where the excerpt is written, in a folder of its own; the caller deletes it.

        Returns
        -------
        Path or None
            Folder of the excerpt; ``None`` if the slide leaves whole, or the digest is of another image.

        Raises
        ------
        ImageNotFoundError, OpenError, OSError
        """
        if not self.has(digest):
            return None
        home = self._settings.images_folder / digest
        size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
        with self.borrow(digest) as slide:
            is_original = not isinstance(slide.source, Tiles)
            if size <= LEAVES_WHOLE and not is_original:
                return None
            shown = [
                one for view in views for one in slide_views(shown_from_json(view)) if one.slide == digest
            ]
            regions = [part.region for view in shown for part in view.parts(slide)]
            made = folder / digest
            made.mkdir(parents=True)
            write_excerpt(slide, regions, made, reason_for(is_original=is_original, limit=LEAVES_WHOLE))
        return made

    def adopt(self, source: Path, folder: Path) -> Path:
        """Store a slide that came with a conversation below ``folder``, under a digest of its content.

        Raises
        ------
        OpenError, OSError
        """
        return self._intake.adopt(source, folder, self._limits())

    def _limits(self) -> Limits:
        return Limits(file_bytes=self._settings.max_upload_bytes)

    @contextmanager
    def borrow(self, digest: str) -> Iterator[Slide]:
        """Read a slide; it stays open inside the ``with``.

        Raises
        ------
        ImageNotFoundError
            If it cannot be read any more.
        """
        with ExitStack() as held:
            try:
                slide = held.enter_context(self.tiles.pool.borrow(digest))
            except OSError as error:
                raise ImageNotFoundError(found=digest[:12]) from error
            yield slide

    def tile(
        self, digest: str, address: TileAddress, viewer: str, still_wanted: Callable[[], bool] | None = None
    ) -> bytes:
        """Return a tile as JPEG; see :meth:`viewers.tiles.TileService.tile`."""
        return self.tiles.tile(digest, address, viewer, still_wanted)

    def forget(self, digest: str) -> None:
        """Let go of a slide that is about to be deleted."""
        self.tiles.drop(digest)
