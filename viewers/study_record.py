"""What was understood of a folder or archive, as values that go through a pipe and into a record.

They are made in the process that reads the files and used in the one that shows them. Pixels are not in
them: each series is a stored image, named by its digest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from viewers.findings import finding_from_json, finding_to_json
from viewers.record import Types, strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viewers.findings import Finding

__all__ = [
    "Problem",
    "SeriesFound",
    "SeriesRecord",
    "Stage",
    "StudiesRead",
    "StudyProgress",
    "StudyRecord",
]

Stage = Literal["waiting", "reading", "storing"]

_STAGES: Final = ("waiting", "reading", "storing")
_DIGEST: Final = frozenset("0123456789abcdef")
_LONGEST: Final = 4096
"""Characters of a text in a record: modality codes and technical facts are far shorter."""
_PROBLEM: Final[Mapping[str, Types]] = {"key": str, "values": dict}
_SERIES: Final[Mapping[str, Types]] = {
    "id": str,
    "modality": str,
    "facts": dict,
    "files": int,
    "frames": int,
    "size": list,
    "is_color": bool,
    "findings": list,
    "digest": (str, type(None)),
    "error": (dict, type(None)),
    "no_volume": (dict, type(None)),
}
_STUDY: Final[Mapping[str, Types]] = {"id": str, "series": list}
_READ: Final[Mapping[str, Types]] = {"studies": list, "findings": list, "first": (str, type(None))}
_FOUND: Final[Mapping[str, Types]] = {"id": str, "modality": str, "images": int}
_PROGRESS: Final[Mapping[str, Types]] = {
    "stage": str,
    "done": int,
    "total": int,
    "found": list,
    "first": (str, type(None)),
    "stored": list,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a catalogue key and its named values."""

    key: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SeriesFound:
    """A series of which some files were seen; it may be split once all of them are known."""

    id: str
    modality: str
    images: int


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """One series that was read."""

    id: str
    """Keyed pseudonym, as :attr:`viewers.series.Series.id`."""
    modality: str
    facts: Mapping[str, str]
    files: int
    frames: int
    size: tuple[int, int]
    """Columns and rows."""
    is_color: bool
    findings: tuple[Finding, ...]
    digest: str | None
    """Of the stored image; ``None`` when it could not be stored."""
    error: Problem | None
    """Why it could not be stored."""
    no_volume: Problem | None
    """Why its slices form no volume; ``None`` when they do."""


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """Series of one examination; ``id`` is a keyed pseudonym."""

    id: str
    series: tuple[SeriesRecord, ...]


@dataclass(frozen=True, slots=True)
class StudiesRead:
    """Everything a folder, archive or set of files holds."""

    studies: tuple[StudyRecord, ...]
    findings: tuple[Finding, ...]
    """Noticed outside of any series."""
    first: str | None = None
    """Digest of the image that was stored alone, to be shown while the rest was read; no series has it
    unless the file is a series of its own."""
    names: tuple[str, ...] = ()
    """For each of ``findings`` what the owner calls the file it is about; empty when about none. For the
    owner's screen only: names of files name patients. Not in :meth:`to_json`."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the names, as JSON values."""
        return {
            "studies": [
                {"id": study.id, "series": [_series_to_json(series) for series in study.series]}
                for study in self.studies
            ],
            "findings": [finding_to_json(found) for found in self.findings],
            "first": self.first,
        }

    @classmethod
    def from_json(cls, value: Any) -> StudiesRead:
        """Read what :meth:`to_json` made.

        Raises
        ------
        ValueError, TypeError, KeyError
            If anything is missing, unknown, wrongly typed or out of range.
        """
        record = strict(value, _READ, _fail)
        studies = []
        for item in record["studies"]:
            study = strict(item, _STUDY, _fail)
            made = tuple(_series_from_json(series) for series in study["series"])
            studies.append(StudyRecord(_name(study["id"]), made))
        found = tuple(finding_from_json(item) for item in record["findings"])
        return cls(tuple(studies), found, _digest(record["first"]))

    def named(self, names: list[str]) -> StudiesRead:
        """Add the names of files."""
        return replace(self, names=tuple(str(name)[:_LONGEST] for name in names))


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """How far reading has come."""

    stage: Stage
    """``waiting`` for another study to be read, ``reading`` headers, ``storing`` pixels."""
    done: int
    """Files looked at, or frames stored."""
    total: int
    """Files or frames known of so far."""
    found: tuple[SeriesFound, ...] = ()
    first: str | None = None
    """Digest of an image that can be shown already; see :class:`StudiesRead`."""
    stored: tuple[SeriesRecord, ...] = ()
    """Series that can be shown already."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "found": [asdict(item) for item in self.found],
            "first": self.first,
            "stored": [_series_to_json(series) for series in self.stored],
        }

    @classmethod
    def from_json(cls, value: Any) -> StudyProgress:
        """Read what :meth:`to_json` made.

        Raises
        ------
        ValueError, TypeError, KeyError
            If anything is missing, unknown, wrongly typed or out of range.
        """
        record = strict(value, _PROGRESS, _fail)
        if record["stage"] not in _STAGES:
            raise _fail("stage", "?", "/".join(_STAGES))
        found = [strict(item, _FOUND, _fail) for item in record["found"]]
        return cls(
            record["stage"],
            record["done"],
            record["total"],
            tuple(SeriesFound(_name(item["id"]), _text(item["modality"]), item["images"]) for item in found),
            _digest(record["first"]),
            tuple(_series_from_json(item) for item in record["stored"]),
        )


def _series_to_json(series: SeriesRecord) -> dict[str, Any]:
    return {
        "id": series.id,
        "modality": series.modality,
        "facts": dict(series.facts),
        "files": series.files,
        "frames": series.frames,
        "size": list(series.size),
        "is_color": series.is_color,
        "findings": [finding_to_json(found) for found in series.findings],
        "digest": series.digest,
        "error": None if series.error is None else asdict(series.error),
        "no_volume": None if series.no_volume is None else asdict(series.no_volume),
    }


def _series_from_json(value: Any) -> SeriesRecord:
    record = strict(value, _SERIES, _fail)
    width, height = record["size"]
    return SeriesRecord(
        _name(record["id"]),
        _text(record["modality"]),
        {_text(key): _text(text) for key, text in record["facts"].items()},
        record["files"],
        record["frames"],
        (int(width), int(height)),
        record["is_color"],
        tuple(finding_from_json(item) for item in record["findings"]),
        _digest(record["digest"]),
        _problem(record["error"]),
        _problem(record["no_volume"]),
    )


def _problem(value: Any) -> Problem | None:
    if value is None:
        return None
    record = strict(value, _PROBLEM, _fail)
    return Problem(_text(record["key"]), record["values"])


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise _fail("text", "?", f"{_LONGEST} characters")
    return value


def _name(value: str) -> str:
    """Check an id: they are used in addresses and file names."""
    if not value or len(value) > 64 or not _DIGEST.issuperset(value):
        raise _fail("id", "?", "hexadecimal digits")
    return value


def _digest(value: str | None) -> str | None:
    if value is not None and (len(value) != 64 or not _DIGEST.issuperset(value)):
        raise _fail("digest", "?", "SHA-256")
    return value


def _fail(entry: str, found: str, expected: str) -> Exception:
    return ValueError(f"{entry} is {found}, expected {expected}")
