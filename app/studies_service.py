"""Studies on their way in: many files received, read in a process of their own, kept as their owner's images.

An upload belongs to one owner and lives in memory: it is received, read, and forgotten a while after its
end. Each series becomes a stored image, one by one while the rest is read, so that there is something to
see before the last file was looked at. Names of files never arrive here; findings name files by number.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from app.errors import AppError, UploadNotFoundError, UploadTooManyError
from app.pixels import put_pixels
from app.pseudonym_key import owner_key
from app.quota import check_quota
from app.upload_parts import PartWriter, UploadRoom
from i18n.text import visual_order
from viewers.errors import IntakeCancelledError, ViewerError
from viewers.limits import Limits
from viewers.measure import measure
from viewers.slide_store import load as load_slide
from viewers.store import load
from viewers.study_record import Problem, SeriesRecord, StudiesRead, StudyProgress
from viewers.worker import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from app.history.measurements import KeptMeasurement
    from app.history.store import HistoryStore
    from app.settings import Settings
    from app.slides_service import SlidesService
    from viewers.image import Image
    from viewers.measure import Measurement, Shape
    from viewers.view import View

__all__ = ["StudiesService", "StudyUpload", "UploadState"]

_LOG = logging.getLogger("bimedix2.studies")
_UPLOADS_OF_ONE: Final = 4
"""Uploads one owner may have at a time, those that ended a moment ago included."""
_FORGOTTEN_S: Final = 900.0
"""Seconds without a word after which an upload is given up, or an ended one forgotten."""

UploadState = Literal["receiving", "reading", "done", "failed", "cancelled"]


@dataclass(slots=True, eq=False)
class StudyUpload:
    """One upload, as it stands now."""

    id: str
    owner: str
    folder: Path
    room: UploadRoom
    """What arrived, and what may still arrive."""
    state: UploadState = "receiving"
    progress: StudyProgress | None = None
    """How far reading has come; ``None`` before it began."""
    first: str | None = None
    """Digest of an image that can be shown already."""
    stored: tuple[SeriesRecord, ...] = ()
    """Series that can be shown already."""
    read: StudiesRead | None = None
    """What was understood, when it is done."""
    error: Exception | None = None
    """Why it failed."""
    touched: float = field(default_factory=time.monotonic)
    cancel: threading.Event = field(default_factory=threading.Event)
    names: tuple[str, ...] = ()
    """What the owner calls the files, where slides need it to find theirs; forgotten with the upload."""
    slides: tuple[SeriesRecord, ...] = ()
    """Slides among the files, each as a series of one picture."""
    kept: set[str] = field(default_factory=set)
    """Digests that are the owner's already."""


class StudiesService:
    """Studies of a workspace.

    Parameters
    ----------
    settings : Settings
        Where files lie and how large an upload may be.
    store : HistoryStore
    files : context manager
        Held while pixels and their record change together.
    label : callable
        Neutral name of an image.
    slides : SlidesService, optional
        Takes what is a slide among the files; without it they are left to the reader of studies.
    intake : Intake, optional
        Process in which studies are read, so that single files never wait for one; closed with this.
    """

    def __init__(
        self,
        settings: Settings,
        store: HistoryStore,
        files: AbstractContextManager[object],
        label: Callable[[Image], str],
        *,
        slides: SlidesService | None = None,
        intake: Intake | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._label = label
        self._slides = slides
        self._intake = intake or Intake(visual_order=visual_order)
        self._uploads: dict[str, StudyUpload] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process that reads; what was being read is given up."""
        with self._lock:
            for upload in self._uploads.values():
                upload.cancel.set()
        self._intake.close()

    # --- receiving ----------------------------------------------------------------------------------

    def begin(self, owner: str) -> StudyUpload:
        """Begin an upload.

        Raises
        ------
        UploadTooManyError
            If the owner has too many already.
        """
        check_quota(self._settings, self._store, owner)
        self._forget()
        made = secrets.token_urlsafe(16)
        room = UploadRoom(self._settings.max_study_bytes)
        upload = StudyUpload(made, owner, self._settings.uploads_folder / made, room)
        with self._lock:
            mine = [one for one in self._uploads.values() if one.owner == owner and _is_open(one)]
            if len(mine) >= _UPLOADS_OF_ONE:
                raise UploadTooManyError(found=len(mine) + 1, limit=_UPLOADS_OF_ONE)
            self._uploads[upload.id] = upload
        (upload.folder / "files").mkdir(parents=True, mode=0o700)
        self._intake.start()
        return upload

    def upload(self, owner: str, upload_id: str) -> StudyUpload:
        """Look up an upload of an owner.

        Raises
        ------
        UploadNotFoundError
            If there is none of that id, or it is somebody else's.
        """
        with self._lock:
            upload = self._uploads.get(upload_id)
        if upload is None or upload.owner != owner:
            raise UploadNotFoundError(found=upload_id[:8])
        upload.touched = time.monotonic()
        return upload

    def receive(self, owner: str, upload_id: str) -> PartWriter:
        """Writer for the next body of an upload; bodies that come at once share its room.

        Raises
        ------
        UploadNotFoundError
            If there is none of that id, it is somebody else's, or it is being read already.
        """
        upload = self.upload(owner, upload_id)
        if upload.state != "receiving":
            raise UploadNotFoundError(found=upload_id[:8])
        return PartWriter(upload.folder / "files", self._settings.max_study_files, upload.room)

    # --- reading ------------------------------------------------------------------------------------

    def read(self, owner: str, upload_id: str, names: Sequence[str] = ()) -> StudyUpload:
        """Begin reading what arrived, in the background.

        Parameters
        ----------
        names : sequence of str
            What the owner calls the files, by number; only slides of several files need it.

        Raises
        ------
        UploadNotFoundError
            As :meth:`receive`.
        """
        upload = self.upload(owner, upload_id)
        with self._lock:
            if upload.state != "receiving":
                raise UploadNotFoundError(found=upload_id[:8])
            upload.state, upload.names = "reading", tuple(names)
        threading.Thread(target=self._read, args=(upload,), name="study", daemon=True).start()
        return upload

    def cancel(self, owner: str, upload_id: str) -> None:
        """Give an upload up, or be done with one that was read; series that can be shown already stay.

        Raises
        ------
        UploadNotFoundError
            If there is none of that id, or it is somebody else's.
        """
        upload = self.upload(owner, upload_id)
        upload.cancel.set()
        if upload.state == "receiving":
            upload.state = "cancelled"
            shutil.rmtree(upload.folder, ignore_errors=True)
        elif upload.state == "done":
            self._drop_first(upload)

    def _read(self, upload: StudyUpload) -> None:
        """Read one upload to its end; the work of a thread of its own."""
        try:
            upload.read = self._understood(upload)
            upload.state = "done"
        except IntakeCancelledError:
            upload.state = "cancelled"
        except Exception as error:  # noqa: BLE001  # edge: kept with the upload, logged and shown
            if not isinstance(error, AppError | ViewerError):
                _LOG.exception("a study could not be read")
            upload.error = error
            upload.state = "failed"
        finally:
            upload.touched = time.monotonic()
            shutil.rmtree(upload.folder, ignore_errors=True)

    def _understood(self, upload: StudyUpload) -> StudiesRead:
        sources = sorted((upload.folder / "files").iterdir(), key=lambda path: int(path.name))
        labelled = self._without_slides(upload, {_label_of(upload, path): path for path in sources})
        if not labelled:
            return StudiesRead((), ())
        read = self._intake.open_study(
            list(labelled.values()),
            upload.folder / "images",
            Limits(
                file_bytes=max(self._settings.max_upload_bytes, 2**30),
                graphics=self._settings.keep_graphics,
                mask_text=self._settings.mask_text,
            ),
            key=owner_key(self._settings, upload.owner),
            names=list(labelled),
            on_progress=lambda progress: self._told(upload, progress),
            cancel=upload.cancel,
        )
        self._keep(upload, (series for study in read.studies for series in study.series))
        return read

    def _without_slides(self, upload: StudyUpload, sources: dict[str, Path]) -> dict[str, Path]:
        """Keep the slides among the files; returns the rest by name."""
        if self._slides is None:
            return sources
        folder = upload.folder / "slides"
        try:
            found = self._slides.sort(list(sources.values()), list(sources), folder, upload.cancel)
        except IntakeCancelledError:
            raise
        except ViewerError:
            return sources  # an archive that cannot be read, for instance: the reader of studies says it
        if found is None or not found[0]:
            shutil.rmtree(folder, ignore_errors=True)
            return sources
        for number, files in enumerate(found[0]):
            share = (number, len(found[0]))
            upload.slides += (self._slide(self._slides, upload, files, share),)
        return found[1]

    def _slide(
        self, slides: SlidesService, upload: StudyUpload, files: dict[str, Path], share: tuple[int, int]
    ) -> SeriesRecord:
        """Store one slide as the owner's; one that cannot be opened becomes a series that says why."""

        def told(part: float) -> None:
            done = round(100 * (share[0] + part))
            upload.progress = StudyProgress("storing", done, 100 * share[1])

        told(0.0)
        try:
            arrived = slides.take_files(files, upload.folder / "images", upload.cancel, told)
            with load_slide(arrived) as slide:
                size = (slide.size.width, slide.size.height)
            digest, error = arrived.name, None
            self._own(upload, arrived, "SM")
        except IntakeCancelledError:
            raise
        except (ViewerError, AppError) as problem:
            digest, error, size = None, Problem(problem.key, dict(problem.values)), (0, 0)
        return SeriesRecord(
            f"slide-{share[0]}", "SM", {}, len(files), 1, size, is_color=True, findings=(), digest=digest,
            error=error, no_volume=None,
        )  # fmt: skip

    def _own(self, upload: StudyUpload, arrived: Path, label: str, **origin: str) -> None:
        """Make what was stored the owner's."""
        with self._files:
            check_quota(self._settings, self._store, upload.owner, arrived)
            put_pixels(self._settings, arrived)
            self._store.add_image(upload.owner, arrived.name, label, **origin, opened=True)
        upload.kept.add(arrived.name)

    def _told(self, upload: StudyUpload, progress: StudyProgress) -> None:
        if progress.first is not None and upload.first is None:
            self._keep_one(upload, progress.first)
            upload.first = progress.first
        self._keep(upload, progress.stored)
        upload.stored = progress.stored
        upload.progress = progress

    def _keep(self, upload: StudyUpload, series: Iterable[SeriesRecord]) -> None:
        for one in series:
            if one.digest is not None:
                self._keep_one(upload, one.digest)

    def _keep_one(self, upload: StudyUpload, digest: str) -> None:
        """Make a stored image the owner's."""
        if digest in upload.kept:
            return
        arrived = upload.folder / "images" / digest
        # the child that wrote it has just taken the digest of these bytes
        image = load(arrived, verify=False)
        origin = image.describes.origin
        self._own(upload, arrived, self._label(image), patient=origin.patient, study=origin.study)

    def _drop_first(self, upload: StudyUpload) -> None:
        """Forget the image shown while the rest was read, unless it is a series or was asked about."""
        if _is_loose(upload):
            self.release(upload.owner, [upload.first or ""])
            upload.first = None

    def release(self, owner: str, digests: Iterable[str]) -> None:
        """Delete those of an owner's images that no conversation of theirs shows."""
        with self._files:
            for digest in self._store.release(owner, digests):
                if self._slides is not None:
                    self._slides.forget(digest)
                shutil.rmtree(self._settings.images_folder / digest, ignore_errors=True)

    # --- measuring ----------------------------------------------------------------------------------

    def measure(
        self, owner: str, thread_id: str | None, image: Image, view: View, shape: Shape
    ) -> tuple[str | None, Measurement]:
        """Measure a shape on the original values of what a view shows.

        Returns
        -------
        str or None
            Id under which it is kept with the conversation; ``None`` without one.
        Measurement

        Raises
        ------
        MeasureError, ViewerError
            If it cannot be measured.
        ThreadNotFoundError, MeasurementsFullError
            If it cannot be kept.
        """
        made = measure(image, shape, view.frame, view.plane)
        if thread_id is None:
            return None, made
        return self._store.keep_measurement(owner, thread_id, view.to_json(), made.to_json()), made

    def measured(self, owner: str, thread_id: str) -> list[KeptMeasurement]:
        """List what was measured in a conversation, oldest first.

        Raises
        ------
        ThreadNotFoundError
        """
        return self._store.measurements(owner, thread_id)

    def forget_measurement(self, owner: str, measurement_id: str) -> None:
        """Delete a measurement.

        Raises
        ------
        MeasurementNotFoundError
        """
        self._store.delete_measurement(owner, measurement_id)

    # --- finding again ------------------------------------------------------------------------------

    def together(self, owner: str, digests: Iterable[str]) -> list[str]:
        """Digests of an owner's images that belong to the studies these images belong to, oldest first."""
        wanted = set(digests)
        mine = self._store.images(owner)
        studies = {image.study for image in mine if image.digest in wanted and image.study}
        with self._lock:
            loose = {upload.first for upload in self._uploads.values() if _is_loose(upload)} - wanted
        return [
            image.digest
            for image in reversed(mine)
            if (image.study in studies and image.digest not in loose) or image.digest in wanted
        ]

    def _forget(self) -> None:
        """Forget what ended long ago, and give up what nobody has touched for as long."""
        now = time.monotonic()
        with self._lock:
            # one that is being read ends by the limits of the process that reads it
            old = [
                one
                for one in self._uploads.values()
                if now - one.touched > _FORGOTTEN_S and one.state != "reading"
            ]
            for upload in old:
                del self._uploads[upload.id]
        for upload in old:
            shutil.rmtree(upload.folder, ignore_errors=True)
            self._drop_first(upload)


def _is_loose(upload: StudyUpload) -> bool:
    """Whether the image shown while the rest is read is a slice of a series, and none itself."""
    studies = upload.read.studies if upload.read is not None else ()
    series = {one.digest for study in studies for one in study.series}
    return upload.first is not None and upload.first not in series


def _label_of(upload: StudyUpload, path: Path) -> str:
    """Return what the owner calls a file if the page said so, else its number."""
    number = int(path.name)
    return upload.names[number] if number < len(upload.names) else path.name


def _is_open(upload: StudyUpload) -> bool:
    return upload.state in {"receiving", "reading"}
