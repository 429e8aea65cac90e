"""An opened image kept on disk without the file it came from: one JSON record and one array.

``image.json`` holds the display facts, the code maps and the digests; ``frames.npy`` the frames, uint16
of shape (frames, rows, columns) or uint8 of shape (frames, rows, columns, 3), memory-mapped on loading.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import StoredImageError
from viewers.image import ColorFrame, Frame, GreyFrame, Image
from viewers.record import code_map_from_json, code_map_to_json, facts_from_json, facts_to_json, strict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viewers.image import ImageFacts
    from viewers.window import CodeMap

__all__ = ["load", "save"]

_VERSION: Final = 1
_RENAMING = threading.Lock()
_RECORD: Final = {
    "version": int,
    "digest": str,
    "frames_sha256": str,
    "facts": dict,
    "code_maps": list,
    "frame_code_map": list,
}
_DAMAGED: Final = (ValueError, TypeError, KeyError, IndexError, OSError, EOFError, RecursionError)


@dataclass(frozen=True, slots=True, eq=False)
class _StoredFrames:
    """Frames of a memory-mapped array."""

    array: NDArray[Any]
    code_maps: tuple[CodeMap, ...]
    """One for each grey frame; empty for colour."""

    def read(self, index: int) -> Frame:
        """Read one frame; see :class:`viewers.image.FrameSource`."""
        pixels = self.array[index]
        return GreyFrame(pixels, self.code_maps[index]) if self.code_maps else ColorFrame(pixels)


def save(image: Image, folder: Path | str) -> None:
    """Store an image as ``folder``; all frames are decoded.

    The folder appears whole or not at all: it is written beside its place and then renamed. A folder
    that is already there is replaced.

    Raises
    ------
    OpenError
        If a frame cannot be decoded; then nothing is written.
    OSError
        If the disk refuses.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write(image, made)
        with _RENAMING:
            _put(made, target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _put(made: Path, target: Path) -> None:
    """Rename into place; what was there is moved aside first and deleted last."""
    if not target.exists():
        made.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    target.rename(aside / "replaced")
    made.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


def _write(image: Image, folder: Path) -> None:
    maps: dict[str, int] = {}
    of_frame: list[int] = []
    size, count = image.size, image.frame_count
    shape = (count, size.height, size.width) + ((3,) if image.is_color else ())
    dtype = np.dtype(np.uint8 if image.is_color else "<u2")
    digest = hashlib.sha256()
    with (folder / "frames.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": dtype.str, "fortran_order": False, "shape": shape}
        )
        for index in range(count):
            frame = image.frame(index)
            pixels = frame.rgb if isinstance(frame, ColorFrame) else frame.codes
            data = np.ascontiguousarray(pixels, dtype=dtype).tobytes()
            digest.update(data)
            stream.write(data)
            if isinstance(frame, GreyFrame):
                text = json.dumps(code_map_to_json(frame.code_map), sort_keys=True)
                of_frame.append(maps.setdefault(text, len(maps)))
        _flush(stream.fileno())
    record = {
        "version": _VERSION,
        "digest": image.digest,
        "frames_sha256": digest.hexdigest(),
        "facts": facts_to_json(image.describes),
        "code_maps": [json.loads(text) for text in maps],
        "frame_code_map": of_frame,
    }
    with (folder / "image.json").open("w", encoding="utf-8") as stream:
        json.dump(record, stream, sort_keys=True, allow_nan=False)
        stream.flush()
        _flush(stream.fileno())


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def load(folder: Path | str, *, verify: bool = True) -> Image:
    """Load a stored image; it has the digest it had, and renders the same pixels.

    Parameters
    ----------
    verify : bool
        Whether to compare the frames with their SHA-256, which reads all of them.

    Raises
    ------
    StoredImageError
        If a file is missing, changed or of another version.
    """
    source = Path(folder)
    try:
        value = json.loads((source / "image.json").read_text(encoding="utf-8"))
        record = strict(value, _RECORD, _damaged)
        if record["version"] != _VERSION:
            raise StoredImageError(reason=f"version {record['version']}, expected {_VERSION}")
        facts = facts_from_json(record["facts"])
        maps = [code_map_from_json(item) for item in record["code_maps"]]
        code_maps = tuple(maps[index] for index in record["frame_code_map"])
        array = np.load(source / "frames.npy", mmap_mode="r", allow_pickle=False)
    except _DAMAGED as error:
        raise StoredImageError(reason=type(error).__name__) from error
    _check(array, facts, len(code_maps))
    if verify and hashlib.sha256(memoryview(array).cast("B")).hexdigest() != record["frames_sha256"]:
        raise StoredImageError(reason="frames.npy: SHA-256")
    return Image(facts, _StoredFrames(array, code_maps), record["digest"])


def _damaged(entry: str, found: str, expected: str) -> Exception:
    return StoredImageError(reason=f"{entry}: {found}, expected {expected}")


def _check(array: NDArray[Any], facts: ImageFacts, code_maps: int) -> None:
    size, count = facts.size, len(facts.frames)
    shape = (count, size.height, size.width) + ((3,) if facts.is_color else ())
    dtype = np.dtype(np.uint8 if facts.is_color else "<u2")
    if array.shape != shape or array.dtype != dtype or code_maps != (0 if facts.is_color else count):
        raise StoredImageError(reason=f"frames.npy: {array.shape} {array.dtype}, expected {shape} {dtype}")
