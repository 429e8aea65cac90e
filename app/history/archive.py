"""A conversation as one file: a zip of ``conversation.json`` and the folders of its images.

What is taken in was written by anybody: sizes are bounded before anything is read, no name in the zip
decides where a file goes, every value is checked against one schema, every file against its SHA-256, and
all ids are new. An image comes under a digest of our own choosing, because one chosen by the sender could
stand in the way of the true image of that digest later.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from app.encryption.keyring import key_of
from app.errors import ArchiveError, ArchiveTooLargeError, FileAccessError
from app.history import rows, taking_in
from app.history.archive_schema import checked
from app.history.audit import append
from app.history.seals import thread_seals
from viewers.sealed import is_there, open_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from app.history.database import Database
    from app.history.records import Answer, Feedback, Thread, Turn

__all__ = ["ArchiveLimits", "Archiving"]

_RECORD: Final = "conversation.json"
_IMAGE_FILES: Final = ("image.json", "frames.npy")
_SLIDE_FILES: Final = ("slide.json", "tiles.bin", "index.bin")
_PROFILE: Final = "profile.icc"
"""Of a slide's colours, where they need one."""
_BLOCK: Final = 1 << 20
_FORMAT, _VERSION = "bimedix2-conversation", 3
_READ_VERSIONS: Final = (1, 2, 3)
_MOST_MARKS: Final = 2_000_000
"""Brackets and commas of a record: what bounds the memory its values take, whatever they are."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may at most hold, in bytes after decompression."""

    record_bytes: int = 32 << 20
    """Text of the conversation: far more than anybody reads."""
    image_bytes: int = 4 << 30
    """All images together; a CT of 2,000 slices is 1 GiB."""
    images: int = 1000
    questions: int = 5_000
    answers: int = 10_000
    """More than a conversation comes to in years: ten a day are a page nobody can read to its end."""


class Archiving:
    """Conversations out of a history and into it."""

    _database: Database

    def export_thread(
        self,
        owner: str,
        thread_id: str,
        file: Path,
        images_folder: Path,
        instead: Callable[[str, Sequence[Mapping[str, Any]]], Path | None] = lambda _digest, _views: None,
    ) -> None:
        """Write a conversation with its images; the file appears whole or not at all.

        Parameters
        ----------
        file : Path
            Readable by its user alone; one that is there is replaced.
        images_folder : Path
            Holds a folder for each image, named by its digest.
        instead : callable
            Given a digest and the views of it, returns the folder that leaves in its stead, with its files as
            they are; ``None`` lets the stored one leave.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        FileAccessError
            If the file cannot be written or an image cannot be read.
        """
        with self._database.write() as connection:
            rows.check_thread(connection, owner, thread_id, lock=False)
            given = rows.tags_of(connection, [thread_id]).get(thread_id, [])
            append(connection, owner, "exported", thread_id)
        thread, said = self.load(owner, thread_id), self.judgements(owner, thread_id)
        digests = dict.fromkeys(d for turn in thread.turns for view in turn.views for d in view.images)
        labels = {digest: self.image(owner, digest).label for digest in digests}
        shown = {d: [v.view for t in thread.turns for v in t.views if d in v.images] for d in digests}
        stands_in = {digest: folder for digest in digests if (folder := instead(digest, shown[digest]))}
        part = file.with_name(f".{file.name}.{rows.new_id()}")
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
                _write_archive(stream, _thread_json(thread, given, said), labels, images_folder, stands_in)
            part.replace(file)
        except OSError as error:
            raise FileAccessError(location=error.filename or str(file), reason=error.strerror) from error
        finally:
            part.unlink(missing_ok=True)

    def import_thread(
        self,
        owner: str,
        file: Path,
        keep_image: Callable[[Path], tuple[str, str]],
        limits: ArchiveLimits = ArchiveLimits(),
        together: AbstractContextManager[object] | None = None,
    ) -> str:
        """Take a conversation in as a new one of this owner; nothing is taken in unless everything is.

        Parameters
        ----------
        keep_image : callable
            Given a folder with the files of one untrusted image: checks it, keeps a copy, and returns
            the digest it is kept under, which must follow from its content, and a neutral label.
        together : context manager, optional
            Entered when everything was read and checked, and left when it is stored.

        Returns
        -------
        str
            Id of the new conversation.

        Raises
        ------
        ArchiveError
            If the file is not such an archive, is damaged, or is larger than allowed.
        FileAccessError
            If it cannot be read.
        """
        unpacked = Path(tempfile.mkdtemp(prefix="import-", dir=file.parent))
        try:
            with _opened(file) as archive:
                record = _read_record(archive, limits)
                digests = _unpack_images(archive, record["images"], unpacked, limits)
            kept = {digest: keep_image(folder) for digest, folder in digests.items()}
            made = taking_in.prepared(owner, record["thread"], kept)
            with together or nullcontext(), self._database.write() as connection:
                thread_id = taking_in.store(connection, made, kept)
                append(connection, owner, "imported", thread_id, thread_seals(connection, thread_id))
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        return thread_id

    if TYPE_CHECKING:

        def load(self, owner: str, thread_id: str) -> Thread: ...  # noqa: D102

        def image(self, owner: str, digest: str) -> Any: ...  # noqa: D102

        def judgements(self, owner: str, thread_id: str) -> dict[str, Feedback]: ...  # noqa: D102


# --- out --------------------------------------------------------------------------------------------


def _write_archive(
    stream: IO[bytes],
    thread: Mapping[str, Any],
    labels: Mapping[str, str],
    folder: Path,
    stands_in: Mapping[str, Path],
) -> None:
    key = key_of(folder.parent)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        described = []
        for number, (digest, label) in enumerate(labels.items()):
            other = stands_in.get(digest)
            home, opened_with = (folder / digest, key) if other is None else (other, None)
            sums = {
                name: _put(archive, f"images/{number}/{name}", home / name, opened_with)
                for name in _files_of(home)
            }
            described.append({"digest": digest, "label": label, "sha256": sums})
        record = {
            "format": _FORMAT,
            "version": _VERSION,
            "thread": thread,
            "images": described,
        }
        archive.writestr(_RECORD, json.dumps(record, ensure_ascii=False, allow_nan=False))


def _files_of(home: Path) -> tuple[str, ...]:
    """Names of the files that make up what is stored in a folder."""
    if not is_there(home / _SLIDE_FILES[0]):
        return _IMAGE_FILES
    return (*_SLIDE_FILES, _PROFILE) if is_there(home / _PROFILE) else _SLIDE_FILES


def _put(archive: zipfile.ZipFile, name: str, source: Path, key: bytes | None) -> str:
    digest = hashlib.sha256()
    with archive.open(name, "w", force_zip64=True) as writing:
        for block in open_blocks(source, key):
            digest.update(block)
            writing.write(block)
    return digest.hexdigest()


def _thread_json(thread: Thread, given: Sequence[str], said: Mapping[str, Feedback]) -> dict[str, Any]:
    return {
        "title": thread.title,
        "created": thread.created.isoformat(),
        "updated": thread.updated.isoformat(),
        "answer_language": thread.answer_language,
        "tags": list(given),
        "turns": [_turn_json(turn, said) for turn in thread.turns],
    }


def _turn_json(turn: Turn, said: Mapping[str, Feedback]) -> dict[str, Any]:
    shown = [{"images": list(v.images), "view": v.view, "render_digest": v.render_digest} for v in turn.views]
    ended = [answer for answer in turn.answers if answer.state != "streaming"]
    place = {answer.id: number for number, answer in enumerate(ended)}
    return {
        "question": turn.question,
        "created": turn.created.isoformat(),
        "views": shown,
        "answers": [_answer_json(answer, place, said.get(answer.id)) for answer in ended],
    }


def _answer_json(answer: Answer, place: Mapping[str, int], said: Feedback | None) -> dict[str, Any]:
    judged = said and {"reasons": said.reasons, "text": said.text, "created": said.created.isoformat()}
    original = answer.translation_of
    return {
        "translation_of": None if original is None else place[original],
        "feedback": judged,
        "grounding": answer.grounding,
        "text": answer.text,
        "state": answer.state,
        "backend": answer.backend,
        "language": answer.language,
        "usage": answer.usage,
        "error_key": answer.error_key,
        "error_values": answer.error_values,
        "started": answer.started.isoformat(),
        "finished": (answer.finished or answer.started).isoformat(),
    }


# --- in ---------------------------------------------------------------------------------------------


def _opened(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except OSError as error:
        raise FileAccessError(location=str(file), reason=error.strerror) from error
    except (zipfile.BadZipFile, ValueError) as error:
        raise ArchiveError(found="another file", expected="a zip of a conversation") from error


def _read_record(archive: zipfile.ZipFile, limits: ArchiveLimits) -> dict[str, Any]:
    data = b"".join(_blocks(archive, _RECORD, limits.record_bytes))
    try:
        if sum(data.count(mark) for mark in (b"[", b"{", b",")) > _MOST_MARKS:
            raise ArchiveTooLargeError(found="a record of too many values", limit=_MOST_MARKS)
        value = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(found=f"{_RECORD} that cannot be read", expected="JSON") from error
    known = isinstance(value, dict) and value.get("format") == _FORMAT
    if not known or type(value.get("version")) is not int or value["version"] not in _READ_VERSIONS:
        raise ArchiveError(found="another format or version", expected=f"{_FORMAT} {_VERSION}")
    record: dict[str, Any] = checked(value)
    if len(record["images"]) > limits.images:
        raise ArchiveTooLargeError(found=f"{len(record['images'])} images", limit=limits.images)
    asked = record["thread"]["turns"]
    if len(asked) > limits.questions:
        raise ArchiveTooLargeError(found=f"{len(asked)} questions", limit=limits.questions)
    if (given := sum(len(turn["answers"]) for turn in asked)) > limits.answers:
        raise ArchiveTooLargeError(found=f"{given} answers", limit=limits.answers)
    return record


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _unpack_images(
    archive: zipfile.ZipFile, described: Sequence[Mapping[str, Any]], folder: Path, limits: ArchiveLimits
) -> dict[str, Path]:
    """Write each image into a folder of our own; returns the folders by the sender's digests."""
    room, made = limits.image_bytes, {}
    for number, image in enumerate(described):
        place = folder / str(number)
        place.mkdir()
        made[image["digest"]] = place
        for name in image["sha256"]:
            digest, size = hashlib.sha256(), 0
            with (place / name).open("wb") as stream:
                for block in _blocks(archive, f"images/{number}/{name}", room):
                    digest.update(block)
                    size += stream.write(block)
            room -= size
            if digest.hexdigest() != image["sha256"][name]:
                raise ArchiveError(found=f"changed content of image {number + 1}", expected="its SHA-256")
    return made


def _blocks(archive: zipfile.ZipFile, name: str, limit: int) -> Iterator[bytes]:
    """Read one file of a zip, at most ``limit`` bytes whatever its header promises."""
    read = 0
    try:
        with archive.open(name) as stream:
            while block := stream.read(_BLOCK):
                read += len(block)
                if read > limit:
                    raise ArchiveTooLargeError(found=f"more than {limit} bytes", limit=f"{limit} bytes")
                yield block
    except KeyError as error:
        raise ArchiveError(found=f"no {name}", expected="a zip of a conversation") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        # encrypted, another compression, a wrong checksum, cut
        raise ArchiveError(found=f"{name} that cannot be unpacked", expected="a whole zip file") from error
