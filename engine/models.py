"""The released checkpoints: what they are, what of them is on this computer, fetching and checking them.

Nothing here goes to the network unless :func:`download` is called with a Hub id. A mirror (a folder, also
on another machine's disk) serves hospitals without internet.

References
----------
BiMediX2, arXiv 2412.07769; licence of every released checkpoint: CC BY-NC-SA 4.0, research only.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    DestinationExistsError,
    DiskSpaceError,
    DownloadError,
)
from engine.shards import INDEX_NAME, PICKLE_INDEX_NAME, file_sha256, open_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "KNOWN",
    "MANIFESTS",
    "Finding",
    "KnownCheckpoint",
    "cached_folder",
    "copy_from_mirror",
    "download",
    "state_of",
    "verify",
]

LICENCE = "CC BY-NC-SA 4.0"
State = Literal["complete", "incomplete", "absent"]
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*")
"""What is fetched: never a pickle, never a program."""
MANIFESTS = ("SHA256SUMS", "conversion.json")
"""Files that name the SHA-256 of the others: ``sha256sum``'s own, and what converting writes."""
_BLOCK = 4 * 1024 * 1024
_SOURCES = ".copied-from"
"""In an unfinished copy: size and time of the mirror's files."""


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """One released checkpoint."""

    hub_id: str
    parameters: str
    """Number of parameters as released, e.g. ``8B``."""
    languages: str
    model_type: str
    bytes: int
    """Size of its weights as released in bfloat16, in bytes; about, where the files were not counted."""
    licence: str = LICENCE


KNOWN = (
    KnownCheckpoint("MBZUAI/BiMediX2-8B-hf", "8B", "en", "llava", 16_720_000_000),
    KnownCheckpoint("MBZUAI/BiMediX2-8B", "8B", "en", "llava_llama", 16_720_000_000),
    KnownCheckpoint("MBZUAI/BiMediX2-8B-Bi", "8B", "ar, en", "llava_llama", 16_720_000_000),
    KnownCheckpoint("MBZUAI/BiMediX2-70B", "71B", "en", "llava_llama", 142_000_000_000),
    KnownCheckpoint("MBZUAI/BiMediX2-4B", "4B", "en", "phi3_v", 8_300_000_000),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What checking one file said."""

    name: str
    problem: str
    """Empty when the file is whole."""
    hashed: bool
    """Whether its SHA-256 was known and compared; else only its header and length."""


def cached_folder(hub_id: str) -> Path | None:
    """Folder of a checkpoint in the Hub's local cache, complete or not; never asks the network."""
    from huggingface_hub import constants

    home = Path(os.environ.get("HF_HUB_CACHE", constants.HF_HUB_CACHE))
    repository = home / ("models--" + hub_id.replace("/", "--"))
    reference = repository / "refs" / "main"
    snapshots = repository / "snapshots"
    if reference.is_file() and (snapshots / reference.read_text(encoding="utf-8").strip()).is_dir():
        return snapshots / reference.read_text(encoding="utf-8").strip()
    found = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    return found[-1] if found else None


def state_of(folder: Path | None) -> State:
    """Tell whether a folder holds a whole checkpoint, without reading its weights."""
    if folder is None or not (folder / "config.json").is_file():
        return "absent" if folder is None or not any(folder.iterdir()) else "incomplete"
    return "incomplete" if any(finding.problem for finding in _examine(folder)) else "complete"


def download(hub_id: str, folder: Path | None = None) -> Path:
    """Fetch a checkpoint from the Hub; a broken-off download goes on where it stopped.

    Parameters
    ----------
    hub_id : str
        For example ``MBZUAI/BiMediX2-8B-Bi``.
    folder : Path, optional
        Where to put it; the Hub's local cache by default.

    Raises
    ------
    DownloadError
        If it cannot be fetched.
    DamagedCheckpointError
        If what arrived is not whole.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        got = Path(snapshot_download(hub_id, local_dir=folder, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (
            str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        )
        raise DownloadError(source=hub_id, reason=reason) from error
    _refuse_damage(got)
    return got


def copy_from_mirror(mirror: Path, folder: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Copy a checkpoint from a mirror; files already copied whole are not copied again.

    Parameters
    ----------
    mirror : Path
        A checkpoint's folder, e.g. on a network drive.
    folder : Path
        Where to put it. ``<name>.partial`` beside it is used until all is there and checked.
    progress : callable, optional
        Called with the bytes copied so far and in all.

    Raises
    ------
    CheckpointNotFoundError
        If the mirror holds no checkpoint.
    DestinationExistsError
        If something stands at ``folder``.
    DiskSpaceError
        If the disk has not enough room.
    DamagedCheckpointError
        If what arrived does not have the mirror's SHA-256.
    """
    if not (mirror / "config.json").is_file():
        raise CheckpointNotFoundError(source=mirror)
    if folder.exists():
        raise DestinationExistsError(location=folder)
    names = sorted(
        {file for pattern in (*_FILES, "SHA256SUMS") for file in mirror.glob(pattern) if file.is_file()}
    )
    total = sum(file.stat().st_size for file in names)
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    _drop_other_sources(partial, names)
    present = sum(file.stat().st_size for file in partial.iterdir())
    free = shutil.disk_usage(partial).free
    if free < total - present:
        needed = f"{(total - present) / 1e9:.2f} GB"
        raise DiskSpaceError(location=folder, needed=needed, found=f"{free / 1e9:.2f} GB")
    done = 0
    for file in names:
        for count in _copy(file, partial / file.name):
            done += count
            if progress is not None:
                progress(done, total)
    try:
        _refuse_damage(partial)
    except DamagedCheckpointError:
        # what is damaged is fetched anew by the next run
        for finding in verify(partial):
            if finding.problem:
                (partial / finding.name).unlink(missing_ok=True)
        raise
    (partial / _SOURCES).unlink()
    partial.rename(folder)
    return folder


def _drop_other_sources(partial: Path, names: list[Path]) -> None:
    """Delete what an earlier run copied of files that are others now, and note what this run copies."""
    states = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in names}
    notes = partial / _SOURCES
    try:
        earlier = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = {}
    for file in list(partial.iterdir()):
        if file != notes and (file.name not in states or earlier.get(file.name) != states[file.name]):
            file.unlink()
    notes.write_text(json.dumps(states), encoding="utf-8")


def _copy(source: Path, target: Path) -> Iterator[int]:
    """Copy in blocks, going on behind what an interrupted run left; yields the bytes of each step."""
    size = source.stat().st_size
    present = target.stat().st_size if target.is_file() else 0
    if present > size:
        target.unlink()
        present = 0
    yield present
    with source.open("rb") as reading, target.open("ab") as writing:
        reading.seek(present)
        while block := reading.read(_BLOCK):
            writing.write(block)
            yield len(block)


def verify(folder: Path, progress: Callable[[str], None] | None = None) -> list[Finding]:
    """Check every file of a checkpoint: headers and lengths, and SHA-256 where a manifest names it.

    Parameters
    ----------
    folder : Path
        The checkpoint.
    progress : callable, optional
        Called with each file's name before its bytes are read.

    Returns
    -------
    list of Finding
        One for each file that should be there, in order of name.

    Raises
    ------
    CheckpointNotFoundError
        If the folder holds no checkpoint.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointNotFoundError(source=folder)
    hashes = _known_hashes(folder)
    findings = []
    for finding in _examine(folder, hashes):
        wanted = hashes.get(finding.name)
        if wanted is None or finding.problem:
            findings.append(finding)
            continue
        if progress is not None:
            progress(finding.name)
        same = file_sha256(folder / finding.name) == wanted
        problem = "" if same else "its bytes are not those that were published"
        findings.append(Finding(finding.name, problem, hashed=True))
    return findings


def _refuse_damage(folder: Path) -> None:
    damaged = [finding for finding in verify(folder) if finding.problem]
    if damaged:
        names = "; ".join(f"{finding.name}: {finding.problem}" for finding in damaged[:4])
        raise DamagedCheckpointError(source=folder, names=names)


def _examine(folder: Path, hashes: dict[str, str] | None = None) -> list[Finding]:
    """Check what can be checked without reading weights."""
    names = {file.name for file in folder.glob("*.safetensors")} | {"config.json"}
    pickles = set() if len(names) > 1 else {file.name for file in folder.glob("pytorch_model*.bin")}
    names |= pickles
    names |= {file.name for file in folder.glob("*.json")} | set(hashes or ())
    if not (folder / "adapter_config.json").is_file():
        names.add("tokenizer.json")
    index = folder / (PICKLE_INDEX_NAME if pickles else INDEX_NAME)
    if index.is_file():
        try:
            named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            names |= {name for name in named if isinstance(name, str) and "/" not in name}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            names.add(index.name)
    findings = [Finding(name, _problem(folder / name), hashed=False) for name in sorted(names)]
    if not any(finding.name.endswith((".safetensors", ".bin")) for finding in findings):
        findings.append(Finding("*.safetensors", "there are no weights", hashed=False))
    return findings


def _problem(file: Path) -> str:
    if not file.is_file():
        return "it is missing"
    try:
        if file.suffix in {".safetensors", ".bin"}:
            open_shard(file)
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    except CheckpointError as error:
        return str(error.values["reason"])
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    return ""


def _known_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by file name, from ``SHA256SUMS``, a conversion's manifest, or the Hub's cache."""
    hashes: dict[str, str] = {}
    for file in folder.iterdir():
        # the Hub's cache names large files by their SHA-256
        blob = file.resolve().name if file.is_symlink() else ""
        if len(blob) == 64:
            hashes[file.name] = blob
    for note in (folder / ".cache" / "huggingface" / "download").glob("*.metadata"):
        # beside a download into a folder: the commit, then the SHA-256 of a large file, then the time
        lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
        if len(lines) > 1 and len(lines[1]) == 64:
            hashes[note.name.removesuffix(".metadata")] = lines[1]
    manifest = folder / "conversion.json"
    if manifest.is_file():
        try:
            entries = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            hashes |= {name: entry["sha256"] for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(source=folder, reason=f"{manifest.name} cannot be read: {error}") from error
    sums = folder / "SHA256SUMS"
    if sums.is_file():
        for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
            digest, _, name = line.partition(" ")
            if len(digest) == 64 and name.strip(" *") and "/" not in name:
                hashes[name.strip(" *")] = digest.lower()
    return hashes
