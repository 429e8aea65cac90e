"""Errors of the application, and the one way any error becomes a sentence for a user.

The tree::

    AppError                        everything below; carries a catalogue key and named values
    ├── NotFoundError               nothing of that id, or it belongs to somebody else: the same error
    │   ├── ThreadNotFoundError
    │   ├── TurnNotFoundError
    │   ├── AnswerNotFoundError
    │   ├── ImageNotFoundError
    │   ├── UploadNotFoundError
    │   └── MeasurementNotFoundError
    ├── NotAllowedError             the signed-in user may not do this
    ├── SettingsError               a settings file, variable or flag that cannot be used
    ├── StorageError                the history cannot be used
    │   ├── StorageUnavailableError
    │   ├── StorageTooNewError
    │   ├── StorageForeignError
    │   ├── HistoryExistsError
    │   ├── HistoryBusyError
    │   ├── BackupExistsError
    │   └── BackupUnusableError
    ├── ArchiveError                a file that cannot be taken into the history
    │   └── ArchiveTooLargeError
    ├── UploadError                 a file that cannot be taken in
    │   ├── UploadTooLargeError
    │   ├── UploadTooManyError
    │   ├── UploadEmptyError
    │   ├── UploadIncompleteError
    │   └── UploadTypeError
    ├── FileAccessError             a file named on the command line that cannot be read or written
    ├── OutputExistsError           a folder that copies would be mixed with something else in
    ├── MeasurementsFullError       a conversation with as many measurements as it may have
    └── BusyError                   too many questions wait already

``str(error)`` is an English sentence; :func:`user_text` is the sentence in the user's language.
"""

from __future__ import annotations

import logging
import secrets
from typing import ClassVar

from app.finding_text import values_in_words
from engine.errors import EngineError
from i18n.catalogue import Catalogue
from viewers.errors import ViewerError

__all__ = [
    "AnswerNotFoundError",
    "AppError",
    "ArchiveError",
    "ArchiveTooLargeError",
    "BackupExistsError",
    "BackupUnusableError",
    "BusyError",
    "FileAccessError",
    "HistoryBusyError",
    "HistoryExistsError",
    "ImageNotFoundError",
    "MeasurementNotFoundError",
    "MeasurementsFullError",
    "NotAllowedError",
    "NotFoundError",
    "OutputExistsError",
    "PicturesTooManyError",
    "PromptTextError",
    "SettingsError",
    "StorageError",
    "StorageForeignError",
    "StorageTooNewError",
    "StorageUnavailableError",
    "ThreadNotFoundError",
    "TurnNotFoundError",
    "UploadEmptyError",
    "UploadError",
    "UploadIncompleteError",
    "UploadNotFoundError",
    "UploadTooLargeError",
    "UploadTooManyError",
    "UploadTypeError",
    "user_text",
]

_LOG = logging.getLogger("bimedix2.app")


class AppError(Exception):
    """Base of everything the application itself reports to a user.

    Parameters
    ----------
    **values : object
        Values named in ``template``; others are kept for the log.
    """

    key: ClassVar[str] = "app.error"
    template: ClassVar[str] = "That could not be done: {reason}."

    def __init__(self, **values: object) -> None:
        self.values = values
        super().__init__(self.template.format(**values))


class NotFoundError(AppError):
    """Nothing of that id, or it belongs to somebody else: the reader cannot tell which."""

    key = "app.not_found"
    template = "This was not found. It may have been deleted; load the page again."


class ThreadNotFoundError(NotFoundError):
    """A conversation that is not there for this owner."""

    key = "history.thread_not_found"
    template = (
        "This conversation was not found. It may have been deleted; choose another one from the history."
    )


class TurnNotFoundError(NotFoundError):
    """A question that is not there for this owner."""

    key = "history.turn_not_found"
    template = "This question was not found. It may have been deleted; choose another one from the history."


class AnswerNotFoundError(NotFoundError):
    """An answer that is not there, for instance because its conversation was deleted meanwhile."""

    key = "history.answer_not_found"
    template = "This answer was not found. It may have been deleted while it was being written; ask again."


class ImageNotFoundError(NotFoundError):
    """An image that is not there for this owner."""

    key = "history.image_not_found"
    template = "This image was not found. It may have been deleted; open its file again."


class UploadNotFoundError(NotFoundError):
    """No upload of that id, or it is somebody else's, or it has ended."""

    key = "app.upload_not_found"
    template = "This upload is not known any more: {found}. Choose the files again."


class MeasurementNotFoundError(NotFoundError):
    """No measurement of that id, or it is somebody else's."""

    key = "app.measurement_not_found"
    template = "This measurement was not found: {found}. It may have been deleted."


class NotAllowedError(AppError):
    """The signed-in user may not do this."""

    key = "app.not_allowed"
    template = "This is not allowed for the signed-in user: {reason}. Sign in with an account that may do it."


class SettingsError(AppError):
    """A settings file, environment variable or flag that cannot be used."""

    key = "app.settings"
    template = (
        "The settings from {place} cannot be used: found {found}, expected {expected}. "
        "Correct them and start again."
    )


class StorageError(AppError):
    """The history cannot be used."""

    key = "history.error"
    template = "The history could not be used: {reason}."


class StorageUnavailableError(StorageError):
    """The database cannot be opened or written."""

    key = "history.unavailable"
    template = (
        "The history at {location} cannot be opened or written: {reason}. "
        "Check that the folder exists, is writable and has free space."
    )


class StorageTooNewError(StorageError):
    """The database was written by a newer version of the application."""

    key = "history.too_new"
    template = (
        "The history at {location} was written by a newer version: found revision {found}, "
        "this version knows up to {expected}. Update the application, or choose another data folder."
    )


class StorageForeignError(StorageError):
    """A database that belongs to another program."""

    key = "history.not_history"
    template = (
        "The database at {location} is not a history of this application: found tables {found}. "
        "Choose another data folder."
    )


class HistoryExistsError(StorageError):
    """A backup would be put over a history that is there."""

    key = "history.exists"
    template = (
        "Nothing was restored: there is a history in {location} already. "
        "Add --yes to move it aside, or choose another data folder."
    )


class HistoryBusyError(StorageError):
    """A history that another process has open, where it must be had alone; or that is being replaced."""

    key = "history.busy"
    template = (
        "The history in {location} is in use by another process, or is just being restored. "
        "Close the page and wait for running commands to end, then try again."
    )


class BackupExistsError(StorageError):
    """Something stands where a backup was to be written."""

    key = "history.backup_exists"
    template = "Nothing was written: {location} exists already. Give a folder that does not exist yet."


class BackupUnusableError(StorageError):
    """A history or backup that cannot be copied."""

    key = "history.backup_unusable"
    template = (
        "The history at {location} cannot be copied: {reason}. Nothing was changed; choose another one."
    )


class ArchiveError(AppError):
    """A file of a conversation that cannot be taken in."""

    key = "history.archive"
    template = (
        "This file cannot be taken into the history: found {found}, expected {expected}. "
        "Nothing was taken in; export the conversation again."
    )


class ArchiveTooLargeError(ArchiveError):
    """A file of a conversation that holds more than is safe."""

    key = "history.archive_too_large"
    template = (
        "This file holds too much to be taken into the history: found {found}, at most {limit} is allowed. "
        "Nothing was taken in."
    )


class UploadError(AppError):
    """A file that cannot be taken in."""

    key = "app.upload"
    template = "The file could not be taken in: {reason}."


class UploadTooLargeError(UploadError):
    """More bytes than accepted."""

    key = "app.upload_too_large"
    template = (
        "The file is too large: found {found}, at most {limit} is accepted. "
        "Choose a smaller file or fewer images."
    )


class UploadTooManyError(UploadError):
    """More files at once than accepted."""

    key = "app.upload_too_many"
    template = (
        "There are too many files: found {found}, at most {limit} are accepted at once. Choose fewer files."
    )


class UploadEmptyError(UploadError):
    """A file of no bytes."""

    key = "app.upload_empty"
    template = "The file is empty: found 0 bytes, expected an image. Choose another file."


class PromptTextError(AppError):
    """A quick question that cannot be kept as it was sent."""

    key = "app.prompt_text"
    template = (
        "This quick question cannot be kept: found {found} characters, expected {expected}. "
        "Shorten it, or remove another one first."
    )


class UploadIncompleteError(UploadError):
    """Fewer bytes arrived than were announced."""

    key = "app.upload_incomplete"
    template = "The file did not arrive whole: found {found} of {expected} bytes. Upload it again."


class UploadTypeError(UploadError):
    """A kind of file that is never opened."""

    key = "app.upload_type"
    template = "This kind of file cannot be opened: found {found}, expected {expected}. Choose another file."


class MeasurementsFullError(AppError):
    """A conversation with as many measurements as it may have."""

    key = "app.measurements_full"
    template = (
        "This conversation has {limit} measurements already, which is the most it may have. "
        "Delete some, or begin a new conversation."
    )


class PicturesTooManyError(AppError):
    """A question whose pictures alone are more than the model's context holds: a grid of a slide."""

    key = "app.pictures_too_many"
    template = (
        "The {count} pictures of this question are more than this model has room for. Turn the grid off or "
        "choose a smaller region, then ask again."
    )


class FileAccessError(AppError):
    """A file named on the command line that cannot be read or written."""

    key = "app.file_access"
    template = "The file {location} cannot be used: {reason}. Check its name and your permission to use it."


class OutputExistsError(AppError):
    """A folder that holds something already, or the originals, where copies were to be written."""

    key = "app.output_exists"
    template = (
        "Nothing was written: {location} holds files already, or lies in the same place as the originals. "
        "Give a folder elsewhere that is empty or does not exist yet."
    )


class BusyError(AppError):
    """Too many questions wait for the model already."""

    key = "app.busy"
    template = (
        "Too many questions are waiting already: found {found}, at most {limit} can wait. "
        "Your question is kept; ask again in a moment."
    )


def user_text(error: BaseException, locale: str) -> str:
    """Sentence that tells a user about an error, in their language.

    An error of the three trees becomes its catalogue sentence. Anything else becomes a general sentence
    with a short reference; the traceback is logged under that reference and never shown.
    """
    catalogue = Catalogue()
    if isinstance(error, EngineError | ViewerError | AppError):
        try:
            viewers = isinstance(error, ViewerError)
            values = values_in_words(error.values, locale) if viewers else error.values
            return catalogue.text(error.key, locale, **values)
        except LookupError as missing:  # a class without its sentence must not hide the error itself
            error.add_note(str(missing))
    reference = secrets.token_hex(4)
    _LOG.error("unexpected error, reference %s", reference, exc_info=error)
    return catalogue.text("app.unexpected_reference", locale, reference=reference)
