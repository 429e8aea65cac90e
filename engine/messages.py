"""Values that go into and come out of a backend.

In: an ordered conversation of :class:`Message`, each made of text and image parts, and
:class:`GenerationOptions`. Out: events, of which exactly one, the last, is :class:`Finished`.
All of them are plain frozen values without ids: equal content is equal. Nothing here knows of DICOM,
of a page, of a database, or of a model.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.errors import ImageInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Delta",
    "Event",
    "FinishReason",
    "Finished",
    "GenerationOptions",
    "ImagePart",
    "LoadStage",
    "Loading",
    "Message",
    "Part",
    "Queued",
    "Reading",
    "Role",
    "Started",
    "TextPart",
    "Timings",
    "Usage",
    "pixel_digest",
]

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["complete", "length", "stopped", "time_limit"]
"""``complete``: the model ended its answer. ``length``: ``max_new_tokens`` reached.
``stopped``: another party stopped the work, e.g. a remote server. ``time_limit``: ``time_limit_s`` ran out,
or ``first_token_limit_s`` before there was any text.
A reader who closes the stream gets no further event."""
_HALF = re.compile("[\ud800-\udfff]")
LoadStage = Literal["starting", "libraries", "weights", "finishing"]
"""In this order. ``starting``: a process for the model; ``libraries``: what computes is imported;
``weights``: the files are read; ``finishing``: adapters are attached and everything is put together."""


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Content hash of an image: SHA-256 over its shape and its bytes in row order, as hexadecimal."""
    digest = hashlib.sha256(f"{pixels.shape}{pixels.dtype.str}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text; what a user typed is never read as control tokens.

    Half a sign beyond Unicode's basic plane, which a browser can send and no tokenizer takes, becomes U+FFFD.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.isascii() and _HALF.search(self.text):
            whole = self.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            object.__setattr__(self, "text", whole)


@dataclass(frozen=True, slots=True, eq=False)
class ImagePart:
    """An image exactly as it was shown.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns, 3)
        RGB, range 0-255. Made read-only here.

    Raises
    ------
    ImageInputError
        If shape or dtype differ, or a side is 0.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    digest: str = ""

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ImageInputError(found=f"{' x '.join(map(str, pixels.shape))} in {pixels.dtype}")
        frozen = np.ascontiguousarray(pixels).view()
        frozen.setflags(write=False)
        object.__setattr__(self, "pixels", frozen)
        object.__setattr__(self, "digest", pixel_digest(frozen))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImagePart) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; images stand before the text, as the chat template puts them."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, *parts: str | Part) -> Message:
        """Make a message from strings and parts, e.g. ``Message.of("user", ImagePart(a), "Which side?")``."""
        return cls(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """All image parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How an answer is sampled and bounded."""

    max_new_tokens: int = 512
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token (the seed has no effect); above 0 samples. Upstream BiMediX2 uses 0.1."""
    top_p: float = 1.0
    """Nucleus: only the likeliest tokens that together reach this probability are sampled from, in (0, 1]."""
    seed: int = 0
    """The same seed gives the same tokens on the same machine."""
    time_limit_s: float | None = None
    """Seconds of decoding allowed *after the first token*; a slow machine's first token is never cut."""
    first_token_limit_s: float | None = None
    """Seconds allowed from the start of work to the first token; looked at after each piece of the prompt. A
    server's own queue counts as work. What was read is kept, so that asking again goes on from there."""
    adapter: str | None = None
    """Adapter to answer with, by its name; ``""`` is the model without one, ``None`` leaves the choice to
    the backend. A backend that does not have it raises ``AdapterUnknownError``."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, found {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, found {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], found {self.top_p}")
        for name in ("time_limit_s", "first_token_limit_s"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ValueError(f"{name} must be above 0, found {limit}")


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer; an image counts as the tokens it fills."""

    prompt_tokens: int
    completion_tokens: int
    reused_tokens: int = 0
    """Prompt tokens whose keys and values were taken from the cache of earlier turns."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock durations of one answer, in seconds."""

    queued_s: float
    first_token_s: float | None
    """From the start of work to the first token; ``None`` when stopped before it."""
    total_s: float


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is not ready yet; comes again and again until it is."""

    stage: LoadStage
    fraction: float | None = None
    """Share of the whole load that is behind, 0 to 1, by time; ``None`` while there is no estimate."""
    seconds_left: float | None = None
    """From the pace measured on this machine, now and in earlier loads; ``None`` before there is one."""


@dataclass(frozen=True, slots=True)
class Queued:
    """Others are being answered first; comes again whenever the place changes."""

    place: int
    """1 is next."""


@dataclass(frozen=True, slots=True)
class Started:
    """Work has begun: the prompt fits."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The prompt is being read, piece by piece; closing the stream here stops the work."""

    tokens_read: int
    prompt_tokens: int
    seconds_left: float | None = None
    """Until the first token, from the pace measured in this very reading; ``None`` before there is one."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer: whole characters, never half of one; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The one final event of every answer that did not raise."""

    reason: FinishReason
    usage: Usage
    timings: Timings


Event = Loading | Queued | Started | Reading | Delta | Finished
