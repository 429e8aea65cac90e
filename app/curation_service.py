"""What a reader does with conversations besides asking: find, branch, mark, judge, take out and bring in.

Each call names the owner, who comes from the request alone. What is shown or taken out is noted in the
record of who did what. It knows nothing of pages or HTTP, and nothing of the model.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from app.errors import ArchiveError
from app.history.rows import new_id
from app.pixels import put_pixels
from app.quota import check_quota
from viewers.errors import ViewerError
from viewers.store import keep, load

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path
    from typing import Literal

    from app.history.records import (
        Feedback,
        FeedbackReason,
        Language,
        SearchHit,
        Thread,
        ThreadSummary,
    )
    from app.history.store import HistoryStore
    from app.history.words import Match
    from app.settings import Settings
    from app.slides_service import SlidesService
    from viewers.image import Image

__all__ = ["CurationService", "ThreadPage"]

_LARGEST_RECORD: Final = 8 << 20
"""Bytes of the JSON about one imported image; that of a CT of 2,000 slices is about 1 MiB."""
_SEEN_AGAIN_S: Final = 600.0
_MOST_SHOWN: Final = 10_000
"""Conversations of which it is known when they were noted; of others it is noted once too often."""


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """A part of the list of conversations."""

    threads: tuple[ThreadSummary, ...]
    more: bool
    """Whether there are older ones; they come ``before`` the last of these."""


class CurationService:
    """Conversations of a workspace, as its readers keep them.

    Parameters
    ----------
    settings : Settings
        Where files lie.
    store : HistoryStore
    files : context manager
        Held while pixels and their record change together.
    label : callable
        Neutral name of an image.
    slides : SlidesService
        What leaves of a slide, and what comes back.
    """

    def __init__(
        self,
        settings: Settings,
        store: HistoryStore,
        files: AbstractContextManager[object],
        label: Callable[[Image], str],
        *,
        slides: SlidesService,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._label = label
        self._slides = slides
        self._shown: OrderedDict[tuple[str, str], float] = OrderedDict()

    # --- finding ------------------------------------------------------------------------------------

    def threads(
        self,
        owner: str,
        *,
        limit: int = 100,
        before: str | None = None,
        tag: str | None = None,
        study: str | None = None,
        patient: str | None = None,
    ) -> ThreadPage:
        """List conversations, the pinned ones first, then the last changed first.

        Parameters
        ----------
        before : str, optional
            Id of the last one of the part before.
        tag, study, patient : str, optional
            Only those with this tag; only those of this pseudonym of a study, or of a patient.

        Raises
        ------
        ThreadNotFoundError
            If ``before`` is not there for this owner.
        """
        found = self._store.threads(owner, limit + 1, before, tag=tag, study=study, patient=patient)
        return ThreadPage(tuple(found[:limit]), len(found) > limit)

    def search(
        self,
        owner: str | Sequence[str],
        query: str,
        *,
        match: Match = "words",
        modality: str | None = None,
        feedback: FeedbackReason | Literal["any"] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
        before: int | None = None,
    ) -> list[SearchHit]:
        """Find questions and ended answers, newest first; see :meth:`app.history.search.Searching.search`.

        Parameters
        ----------
        before : int, optional
            ``number`` of the last hit of the part before.
        """
        return self._store.search(
            owner,
            query,
            match=match,
            modality=modality,
            feedback=feedback,
            since=since,
            until=until,
            limit=limit,
            before=before,
        )

    def show(self, owner: str, thread_id: str, *, again: bool = False) -> Thread:
        """Load a conversation for somebody to read, and note that it was shown.

        Parameters
        ----------
        again : bool
            Whether a page that shows it already asks how it stands now: this is noted once in a while only,
            as a page that waits for an answer asks every other second.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        thread = self._store.load(owner, thread_id)
        now, known = monotonic(), self._shown.get((owner, thread_id))
        if not again or known is None or now - known > _SEEN_AGAIN_S:
            self._store.record_seen(owner, thread_id)
            self._shown[owner, thread_id] = now
            self._shown.move_to_end((owner, thread_id))
            while len(self._shown) > _MOST_SHOWN:
                self._shown.popitem(last=False)
        return thread

    # --- marking ------------------------------------------------------------------------------------

    def fork(self, owner: str, thread_id: str, turn_id: str) -> str:
        """Begin another conversation with the turns up to one, that one included; returns its id.

        Raises
        ------
        ThreadNotFoundError, TurnNotFoundError
            If they are not there for this owner.
        """
        return self._store.fork(owner, thread_id, turn_id)

    def pin(self, owner: str, thread_id: str, *, pinned: bool) -> None:
        """Keep a conversation at the top, or no longer."""
        self._store.pin(owner, thread_id, pinned=pinned)

    def tag(self, owner: str, thread_id: str, names: Iterable[str]) -> tuple[str, ...]:
        """Give a conversation these tags and no others; returns them as stored."""
        return self._store.tag(owner, thread_id, names)

    def tags(self, owner: str) -> list[str]:
        """List every tag an owner has given."""
        return self._store.tags(owner)

    def answer_in(self, owner: str, thread_id: str, language: Language | None) -> None:
        """Fix the language a conversation is answered in; ``None``: each answer follows its question."""
        self._store.answer_in(owner, thread_id, language)

    def judge(self, owner: str, answer_id: str, reasons: Collection[FeedbackReason], text: str = "") -> None:
        """Store what is wrong with an answer; nothing at all takes it back."""
        self._store.judge(owner, answer_id, reasons, text)

    def judgements(self, owner: str, thread_id: str) -> dict[str, Feedback]:
        """Collect what was said of a conversation's answers, by answer."""
        return self._store.judgements(owner, thread_id)

    # --- out and in ---------------------------------------------------------------------------------

    def export(self, owner: str, thread_id: str) -> Path:
        """Write a conversation with its images to a file of ours; the caller sends it on and deletes it.

        Of a large slide, and of one whose own files are kept, an excerpt leaves.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        FileAccessError
            If an image cannot be read or the disk refuses.
        """
        name = f"export-{new_id()}"
        file, excerpts = (self._settings.uploads_folder / f"{name}{end}" for end in (".zip", ""))
        try:
            self._store.export_thread(
                owner,
                thread_id,
                file,
                self._settings.images_folder,
                lambda digest, views: self._slides.leaving(digest, views, excerpts),
            )
        finally:
            shutil.rmtree(excerpts, ignore_errors=True)
        return file

    def bring_in(self, owner: str, file: Path) -> str:
        """Take a conversation in from an untrusted file; returns the id of the new one.

        Every image is opened and written anew, so that its digest and its label follow from its pixels
        and not from what the file says.

        Raises
        ------
        ArchiveError
            If the file is not one that :meth:`export` wrote, or was changed. Nothing is taken in then.
        """
        check_quota(self._settings, self._store, owner)
        desk = self._settings.uploads_folder / f"taken-in-{new_id()}"
        made: list[Path] = []

        def keep_image(folder: Path) -> tuple[str, str]:
            place, label = self._keep(folder, desk)
            made.append(place)
            return place.name, label

        try:
            return self._store.import_thread(owner, file, keep_image, together=self._put_together(made))
        finally:
            shutil.rmtree(desk, ignore_errors=True)

    @contextmanager
    def _put_together(self, made: Sequence[Path]) -> Iterator[None]:
        """Put prepared pixels into place, and keep them only if their record comes too.

        Reading, checking and writing them anew was done before: everybody who opens or deletes an image
        waits for what happens here.
        """
        with self._files:
            try:
                for place in dict.fromkeys(made):
                    put_pixels(self._settings, place)
                yield
            except BaseException:
                for digest in self._store.unowned([place.name for place in made]):
                    shutil.rmtree(self._settings.images_folder / digest, ignore_errors=True)
                raise

    def _keep(self, folder: Path, desk: Path) -> tuple[Path, str]:
        """Write an unpacked image anew below ``desk``, named by a digest of its content."""
        if (folder / "slide.json").is_file():
            return self._keep_slide(folder, desk)
        if (folder / "image.json").stat().st_size > _LARGEST_RECORD:
            raise ArchiveError(found="an image with too long a description", expected="one as exported")
        try:
            image = load(folder)
            frames = (image.frame(index) for index in range(image.frame_count))
            made = keep(
                desk,
                frames,
                image.size,
                lambda: image.describes,
                is_color=image.is_color,
            )
        except (ViewerError, ValueError) as error:
            raise ArchiveError(found="an image that cannot be opened", expected="one as exported") from error
        return made, self._label(image)

    def _keep_slide(self, folder: Path, desk: Path) -> tuple[Path, str]:
        desk.mkdir(mode=0o700, exist_ok=True)
        try:
            made = self._slides.adopt(folder, desk)
        except ViewerError as error:
            raise ArchiveError(found="a slide that cannot be opened", expected="one as exported") from error
        return made, "SM"
