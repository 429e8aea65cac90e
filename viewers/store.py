"""An opened image kept on disk without the file it came from: one JSON record and one array.

``image.json`` holds the display facts, the code maps and the digests; ``frames.npy`` the frames, uint16
of shape (frames, rows, columns) or uint8 of shape (frames, rows, columns, 3), memory-mapped on loading. A
store with a key holds both sealed (:mod:`viewers.sealed`).
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
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from viewers.errors import StoredImageError
from viewers.image import ColorFrame, Frame, GreyFrame, Image, display_digest
from viewers.record import code_map_from_json, code_map_to_json, facts_from_json, facts_to_json, strict
from viewers.sealed import read_whole, sealed_name
from viewers.sealed_frames import SealedStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from viewers.geometry import SizePx
    from viewers.image import ImageFacts
    from viewers.window import CodeMap

__all__ = ["FrameWriter", "keep", "load", "save"]

_VERSION: Final = 2
_READABLE: Final = (1, 2)
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

    def stacked(self) -> tuple[NDArray[np.uint16], tuple[CodeMap, ...]]:
        """All grey frames; see :class:`viewers.image.StackedSource`."""
        return self.array, self.code_maps


@dataclass(frozen=True, slots=True, eq=False)
class _SealedFrames:
    """Frames of a sealed array."""

    stack: SealedStack
    code_maps: tuple[CodeMap, ...]

    def read(self, index: int) -> Frame:
        """Read one frame; see :class:`viewers.image.FrameSource`."""
        pixels = self.stack.frame(index)
        return GreyFrame(pixels, self.code_maps[index]) if self.code_maps else ColorFrame(pixels)

    def stacked(self) -> tuple[NDArray[np.uint16], tuple[CodeMap, ...]]:
        """All grey frames; see :class:`viewers.image.StackedSource`."""
        return self.stack.whole(), self.code_maps


def save(image: Image, folder: Path | str, progress: Callable[[float], None] | None = None) -> None:
    """Store an image as ``folder``; all frames are decoded.

    The folder appears whole or not at all: it is written beside its place and then renamed. A folder
    that is already there is replaced.

    Parameters
    ----------
    progress : callable, optional
        Called after each frame with the part done, 0 to 1.

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
        _write(image, made, progress or (lambda _: None))
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


def _write(image: Image, folder: Path, progress: Callable[[float], None]) -> None:
    with FrameWriter(folder, image.size, is_color=image.is_color) as writer:
        for index in range(image.frame_count):
            writer.add(image.frame(index))
            progress((index + 1) / image.frame_count)
        writer.finish(image.describes, image.digest)


class FrameWriter:
    """Write frames one after the other, so that no more than one is in memory.

    Parameters
    ----------
    folder : Path
        Existing and empty.
    size : SizePx
    is_color : bool
    """

    def __init__(self, folder: Path, size: SizePx, *, is_color: bool) -> None:
        self._folder = folder
        self._shape = (size.height, size.width) + ((3,) if is_color else ())
        self._dtype = np.dtype(np.uint8 if is_color else "<u2")
        self._maps: dict[str, int] = {}
        self._of_frame: list[int] = []
        self._count = 0
        self._sha256 = hashlib.sha256()
        self._known: tuple[CodeMap, int] | None = None
        self._stream = (folder / "frames.npy").open("wb")
        self._header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _header(self) -> None:
        # numpy leaves room for the count to grow, so that a later header is as long as the first.
        shape = (self._count, *self._shape)
        np.lib.format.write_array_header_1_0(
            self._stream, {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        )

    def add(self, frame: Frame) -> None:
        """Append one frame.

        Raises
        ------
        ValueError
            If it is of another size or kind.
        """
        pixels = frame.rgb if isinstance(frame, ColorFrame) else frame.codes
        if pixels.shape != self._shape:
            raise ValueError(f"a frame of {self._shape} is expected, found {pixels.shape}")
        data = np.ascontiguousarray(pixels, dtype=self._dtype).data.cast("B")
        self._sha256.update(data)
        self._stream.write(data)
        self._count += 1
        if isinstance(frame, GreyFrame):
            self._of_frame.append(self._position(frame.code_map))

    def _position(self, code_map: CodeMap) -> int:
        if self._known is None or self._known[0] is not code_map:
            text = json.dumps(code_map_to_json(code_map), sort_keys=True)
            self._known = code_map, self._maps.setdefault(text, len(self._maps))
        return self._known[1]

    def finish(self, facts: ImageFacts, digest: str | None = None) -> str:
        """Write the record; returns the image's digest.

        Parameters
        ----------
        digest : str, optional
            If left out it is made of the facts, the code maps and the frames.
        """
        self._stream.seek(0)
        self._header()
        self._stream.flush()
        _flush(self._stream.fileno())
        frames_sha256 = self._sha256.hexdigest()
        if digest is None:
            parts = (*self._maps, json.dumps(self._of_frame), frames_sha256)
            digest = display_digest(facts_to_json(facts, findings=False), *(part.encode() for part in parts))
        record = {
            "version": _VERSION,
            "digest": digest,
            "frames_sha256": frames_sha256,
            "facts": facts_to_json(facts),
            "code_maps": [json.loads(text) for text in self._maps],
            "frame_code_map": self._of_frame,
        }
        with (self._folder / "image.json").open("w", encoding="utf-8") as stream:
            json.dump(record, stream, sort_keys=True, allow_nan=False)
            stream.flush()
            _flush(stream.fileno())
        return digest


def keep(
    parent: Path | str,
    frames: Iterable[Frame],
    size: SizePx,
    facts_of: Callable[[], ImageFacts],
    *,
    is_color: bool,
) -> Path:
    """Store an image under its digest as it is read; returns the folder, ``parent / digest``.

    Parameters
    ----------
    frames : iterable of Frame
        Read once; each frame is written before the next is asked for.
    facts_of : callable
        Asked for the facts when all frames were read, with one display for each.

    Raises
    ------
    OpenError
        What ``frames`` raises; then nothing is written.
    OSError
        If the disk refuses.
    """
    home = Path(parent)
    home.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".kept.", dir=home))
    try:
        with FrameWriter(made, size, is_color=is_color) as writer:
            for frame in frames:
                writer.add(frame)
            target = home / writer.finish(facts_of())
        with _RENAMING:
            _put(made, target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return target


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def load(folder: Path | str, *, verify: bool = True, key: bytes | None = None) -> Image:
    """Load a stored image; it has the digest it had, and renders the same pixels.

    Parameters
    ----------
    verify : bool
        Whether to compare the frames with their SHA-256, which reads all of them. Those of a sealed image
        prove themselves whenever they are read.
    key : bytes, optional
        Of a store whose files are sealed (:mod:`viewers.sealed`).

    Raises
    ------
    StoredImageError
        If a file is missing, changed or of another version.
    """
    source = Path(folder)
    try:
        value = json.loads(read_whole(source / "image.json", key))
        record = strict(value, _RECORD, _damaged)
        if record["version"] not in _READABLE:
            raise StoredImageError(reason=f"version {record['version']}, expected {_VERSION}")
        facts = facts_from_json(record["facts"], record["version"])
        maps = [code_map_from_json(item) for item in record["code_maps"]]
        code_maps = tuple(maps[index] for index in record["frame_code_map"])
        frames = sealed_name(source / "frames.npy")
        if key is not None and frames.is_file():
            return _sealed(frames, key, facts, code_maps, record["digest"])
        array = np.load(source / "frames.npy", mmap_mode="r", allow_pickle=False)
    except _DAMAGED as error:
        raise StoredImageError(reason=type(error).__name__) from error
    _check(array.shape, array.dtype, facts, len(code_maps))
    if verify and hashlib.sha256(memoryview(array).cast("B")).hexdigest() != record["frames_sha256"]:
        raise StoredImageError(reason="frames.npy: SHA-256")
    return Image(facts, _StoredFrames(array, code_maps), record["digest"])


def _sealed(path: Path, key: bytes, facts: ImageFacts, code_maps: tuple[CodeMap, ...], digest: str) -> Image:
    stacked = SealedStack(path, key)
    try:
        _check(stacked.shape, stacked.dtype, facts, len(code_maps))
    except BaseException:
        stacked.close()
        raise
    return Image(facts, _SealedFrames(stacked, code_maps), digest)


def _damaged(entry: str, found: str, expected: str) -> Exception:
    return StoredImageError(reason=f"{entry}: {found}, expected {expected}")


def _check(found: tuple[int, ...], found_dtype: np.dtype[Any], facts: ImageFacts, code_maps: int) -> None:
    size, count = facts.size, len(facts.frames)
    shape = (count, size.height, size.width) + ((3,) if facts.is_color else ())
    dtype = np.dtype(np.uint8 if facts.is_color else "<u2")
    if found != shape or found_dtype != dtype or code_maps != (0 if facts.is_color else count):
        raise StoredImageError(reason=f"frames.npy: {found} {found_dtype}, expected {shape} {dtype}")
