"""What goes over the pipe between :mod:`engine.child` and :mod:`engine.worker`.

To the child: :class:`Ask`, :class:`Cancel` and :class:`Goodbye`. From it: :class:`Told` while it loads, then
one :class:`Ready` or :class:`LoadFailed`, :class:`Alive` at short intervals, and for every ask an
:class:`Accepted`, then :class:`Said` for each event, or :class:`Failed`. An image crosses once: both ends
keep a :class:`Shelf` and apply the same asks in the same order, so they agree on what the child still holds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.messages import ImagePart, Message, TextPart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from engine.errors import EngineError
    from engine.messages import LoadStage, Role

__all__ = [
    "Accepted",
    "Alive",
    "Ask",
    "Cancel",
    "Failed",
    "Goodbye",
    "LoadFailed",
    "Logged",
    "Packed",
    "Ready",
    "Said",
    "Shelf",
    "Told",
    "Work",
    "pack",
    "unpack",
]

_SHELF_BYTES = 256 * 1024 * 1024
Work = Literal["stream", "log_likelihoods", "image_dependence", "text_of"]


@dataclass(frozen=True, slots=True)
class Packed:
    """Messages in which an image is its content hash; the pixels the child lacks come beside them."""

    rows: tuple[tuple[Role, tuple[TextPart | str, ...]], ...]
    images: tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Begin a piece of work."""

    number: int
    work: Work
    messages: Packed
    argument: Any
    """Options of a stream, the adapter of a judgement, token ids of a text."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this work any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """End the process."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The backend is loaded."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """Where the load is."""

    stage: LoadStage
    share: float | None
    """Share of the stage that is done, where that is known."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The backend cannot be loaded; the process ends."""

    error: EngineError


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The work was taken up; before this it can be given to another child without harm."""

    number: int


@dataclass(frozen=True, slots=True)
class Said:
    """An event of a stream, or the result of other work."""

    number: int
    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended with an error."""

    number: int
    error: EngineError


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of the child's log, for the parent's handlers."""

    name: str
    level: int
    text: str


class Shelf:
    """Which images the child holds: the newest ones within a budget.

    Parameters
    ----------
    budget : int
        Bytes of pixels.
    """

    def __init__(self, budget: int = _SHELF_BYTES) -> None:
        self._budget = budget
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._sizes

    def keep(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Put images in front, then drop the oldest ones beyond the budget."""
        for digest, pixels in images.items():
            self._sizes[digest] = pixels.nbytes
            self._sizes.move_to_end(digest)
        while sum(self._sizes.values()) > self._budget:
            self._sizes.popitem(last=False)


def pack(messages: Sequence[Message], shelf: Shelf) -> Packed:
    """Make messages ready for the pipe, and put their images on the sender's shelf."""
    used = {image.digest: image.pixels for message in messages for image in message.images}
    new = tuple(pixels for digest, pixels in used.items() if digest not in shelf)
    shelf.keep(used)
    rows = tuple(
        (message.role, tuple(part.digest if isinstance(part, ImagePart) else part for part in message.parts))
        for message in messages
    )
    return Packed(rows, new)


def unpack(packed: Packed, shelf: Shelf, held: dict[str, ImagePart]) -> tuple[Message, ...]:
    """Undo :func:`pack` at the other end; ``held`` are the images on the receiver's shelf."""
    held |= {image.digest: image for image in map(ImagePart, packed.images)}
    messages = tuple(
        Message(role, tuple(held[part] if isinstance(part, str) else part for part in parts))
        for role, parts in packed.rows
    )
    shelf.keep({image.digest: image.pixels for message in messages for image in message.images})
    for digest in [digest for digest in held if digest not in shelf]:
        del held[digest]
    return messages
