"""What a conversion copied, with hashes; kept beside the files, so that an interrupted run can go on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine.shards import file_sha256

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MANIFEST_NAME", "Manifest"]

MANIFEST_NAME = "conversion.json"


class Manifest:
    """The file ``conversion.json`` of one folder.

    Parameters
    ----------
    folder : Path
        Where the copies are.
    change : str
        Identity of what is done to the tensors; copies of another change are not taken over.
    """

    def __init__(self, folder: Path, change: str = "") -> None:
        self._folder = folder
        self._path = folder / MANIFEST_NAME
        self._files: dict[str, dict[str, Any]] = {}
        self._change = change
        if self._path.is_file():
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self._files = found["files"] if found.get("change", "") == change else {}

    def bytes_done(self) -> int:
        """Bytes of the files that are copied."""
        return sum(entry["bytes"] for entry in self._files.values())

    def holds(self, source: Path, name: str) -> bool:
        """Whether this file was copied whole under a name, and neither it nor the copy has changed since."""
        entry = self._files.get(name)
        copy = self._folder / name
        return (
            entry is not None
            and entry.get("source_state") == _state_of(source)
            and copy.is_file()
            and file_sha256(copy) == entry["sha256"]
        )

    def add(self, source: Path, name: str, source_sha256: str, sha256: str) -> None:
        """Note a file that was copied whole under a name."""
        self._files[name] = {
            "source_sha256": source_sha256,
            "source_state": _state_of(source),
            "sha256": sha256,
            "bytes": (self._folder / name).stat().st_size,
        }
        self._write({"change": self._change, "files": self._files})

    def finish(self, source: Path, config: dict[str, Any]) -> None:
        """Write the final manifest: every file of the folder, and what it was made from."""
        for path in sorted(self._folder.iterdir()):
            if path.name not in self._files and path != self._path:
                self._files[path.name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for entry in self._files.values():
            entry.pop("source_state", None)
        configs = {
            name: file_sha256(source / name)
            for name in ("config.json", "tokenizer.json")
            if (source / name).is_file()
        }
        self._write(
            {
                "source": {"model_type": config["model_type"], "sha256": configs},
                "change": self._change,
                "files": dict(sorted(self._files.items())),
            }
        )

    def _write(self, content: dict[str, Any]) -> None:
        beside = self._path.with_suffix(".tmp")
        beside.write_text(json.dumps(content, indent=2), encoding="utf-8")
        beside.replace(self._path)


def _state_of(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]
