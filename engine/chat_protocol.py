"""The chat protocol of OpenAI-compatible servers as pure functions: no connection is made here.

In: messages and options, bytes of a response, bodies of errors. Out: the body of a request, the pieces of
a streamed answer, and errors of :mod:`engine.errors`.

References
----------
Server-sent events: WHATWG HTML, section 9.2. Error texts: vLLM 0.6 to 0.32, SGLang, llama.cpp, transformers.
"""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import ServerAnswerError
from engine.messages import ImagePart, Usage
from engine.prompt import SYSTEM_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from engine.messages import FinishReason, GenerationOptions, Message

__all__ = [
    "Chunk",
    "ContextExceeded",
    "EventLines",
    "Pairs",
    "context_exceeded",
    "conversation_key",
    "error_text",
    "estimated_tokens",
    "model_is_missing",
    "read_chunk",
    "request_body",
    "retry_after_s",
]

_CHARACTERS_A_TOKEN = 3
"""Llama 3's vocabulary: about 4.4 in English, 2.3 in Arabic."""
_TOKENS_AN_IMAGE = 576
_LONGEST_PAUSE_S = 86400.0
_LONGEST_COUNT = 12
"""Digits of a count of tokens; what is longer is none."""
_LONGEST_LINE = 1 << 20
_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""A carriage return at the end of a piece may be the half of a pair."""
_MARK = b"\xef\xbb\xbf"
_MOST_REASONS = 4
"""Bytes of a line, characters of an event; servers that send log-probabilities stay far below."""
_REASONS: dict[str, FinishReason] = {"stop": "complete", "length": "length"}
_LIMIT = re.compile(
    r"(?:maximum context length (?:is|of)|context length is only|maximum model length of"
    r"|context length \(|context size \(|max_model_len=|\"n_ctx\":)\s*(\d+)",
    re.IGNORECASE,
)
_PROMPT = re.compile(
    r"passed (\d+) input|\((\d+) in the messages|prompt contains (?:at least )?(\d+)|request has (\d+) input"
    r"|resulted in (\d+) tokens|prompt \(length (\d+)|input \((\d+) tokens|: (\d+) tokens from the input"
    r"|request \((\d+) tokens|\"n_prompt_tokens\":\s*(\d+)",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r"context[ _](?:length|size|window)|exceed_context|maximum model length|max_model_len|too many tokens",
    re.IGNORECASE,
)


def request_body(model: str, messages: Sequence[Message], options: GenerationOptions) -> dict[str, Any]:
    """Write the body of a streamed chat completion.

    Images go as PNG data URLs, before the text of their message. A conversation without a system message
    gets upstream's own, since what a server's template would add is not known.
    """
    written = [{"role": message.role, "content": _content(message)} for message in messages]
    if messages[0].role != "system":
        written.insert(0, {"role": "system", "content": SYSTEM_TEXT})
    return {
        "model": model,
        "messages": written,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
    }


def conversation_key(messages: Sequence[Message]) -> str:
    """Name a conversation by its first question, so that a load balancer can keep it on one server.

    A server that has read the earlier turns answers the next one without reading them again.

    Returns
    -------
    str
        16 hexadecimal digits of a SHA-256.
    """
    first = next((message for message in messages if message.role == "user"), messages[0])
    parts = "\0".join((*(image.digest for image in first.images), first.text))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.text
    urls = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images]
    return [*urls, {"type": "text", "text": message.text}]


def _data_url(image: ImagePart) -> str:
    """PNG without loss: the server sees the pixels that were shown."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.pixels).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Guess the length of a prompt, for servers that do not tell it."""
    characters = sum(len(message.text) for message in messages)
    images = sum(len(message.images) for message in messages)
    return characters // _CHARACTERS_A_TOKEN + images * _TOKENS_AN_IMAGE + 8 * len(messages)


class EventLines:
    """Cuts a response's bytes into the data of server-sent events, wherever the chunks end."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """Take bytes; yields the data of each event they complete.

        Raises
        ------
        OverflowError
            If a line or an event is longer than any answer's.
        """
        self._rest += piece
        if not self._begun:
            if _MARK.startswith(self._rest):  # of the byte order, which may come in pieces
                return
            self._begun, self._rest = True, self._rest.removeprefix(_MARK)
        *lines, self._rest = _LINE_END.split(self._rest)
        if len(self._rest) > _LONGEST_LINE or sum(map(len, self._data)) > _LONGEST_LINE:
            raise OverflowError(f"more than {_LONGEST_LINE} characters without an end")
        for line in lines:
            yield from self._line(line)

    def end(self) -> Iterator[str]:
        """Take the end of the response as the end of its last line and event."""
        yield from self.feed(b"\n\n")

    def _line(self, line: bytes) -> Iterator[str]:
        if not line:
            if self._data:
                yield "\n".join(self._data)
            self._data.clear()
            return
        name, _, value = line.decode("utf-8", "replace").partition(":")
        # a line that begins with a colon is a comment; older llama.cpp sends errors under "error"
        if name in ("data", "error"):
            self._data.append(value.removeprefix(" "))


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event of a streamed answer says."""

    text: str = ""
    reason: FinishReason | None = None
    usage: Usage | None = None
    error: str | None = None
    done: bool = False


def read_chunk(data: str, server: str) -> Chunk:
    """Read the data of one event.

    Raises
    ------
    ServerAnswerError
        If it is not a chunk of a chat completion.
    """
    if data.strip() == "[DONE]":
        return Chunk(done=True)
    if re.match(r'\s*{\s*"error"', data):  # some servers paste the text in without escaping it
        return Chunk(error=error_text(data))
    try:
        value = json.loads(data)
        if value.get("error") or (value.get("object") == "error" and "choices" not in value):
            return Chunk(error=error_text(data))
        choices = value["choices"]
        choice = choices[0] if choices else {}
        text = (choice.get("delta") or {}).get("content") or ""
        reason = choice.get("finish_reason")
        usage = _usage(value.get("usage"))
        # what is no text cannot be added to one
        return Chunk("" + text, _REASONS.get(reason, "stopped") if reason else None, usage)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ServerAnswerError(
            server=server, found=repr(data[:80]), expected="a chunk of a chat completion"
        ) from error


def _usage(value: Any) -> Usage | None:
    """Read the server's counts; odd ones are left out: an answer is worth more than its counts."""
    try:
        details = value.get("prompt_tokens_details") or {}
        return Usage(
            int(value["prompt_tokens"]),
            int(value.get("completion_tokens") or 0),
            int(details.get("cached_tokens") or 0),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None


@dataclass(slots=True)
class Pairs:
    """Joins the two halves of a sign beyond the basic plane that a server escaped into two pieces."""

    _half: str = field(default="")

    def join(self, text: str) -> str:
        """Return what is whole by now."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def error_text(body: str) -> str:
    """Find the sentence in an error's body, whatever shape the server gave it; at most 300 characters.

    Some servers repeat the request in their errors: of an object only its sentences are taken.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        value = body
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    said = "; ".join(_sentences(value))
    # half a sign, or the end of a string to others, can be neither stored nor shown
    said = said.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
    return " ".join(said.split())[:300].rstrip(". ") or "no reason given"


def _sentences(value: Any) -> Iterator[str]:
    """Strings that say what went wrong: the value itself, or what objects call a message."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value[:_MOST_REASONS]:
            yield from _sentences(one)
    elif isinstance(value, dict):
        yield from (value[name] for name in ("message", "msg", "reason") if isinstance(value.get(name), str))
    elif value is not None:
        yield str(value)


def model_is_missing(status: int, body: str) -> bool:
    """Tell a model the server does not have from an address it does not have."""
    text = body.lower()
    named = "model" in text and any(
        word in text for word in ("not exist", "not found", "not_found", "unknown")
    )
    return named and status in (400, 404, 422)


@dataclass(frozen=True, slots=True)
class ContextExceeded:
    """Prompt and room for the answer do not fit; numbers the server did not tell are ``None``."""

    prompt: int | None
    limit: int | None


def context_exceeded(status: int, body: str) -> ContextExceeded | None:
    """Recognise a conversation that is too long in the body of an error."""
    if status not in (400, 413, 422, 500) or not _CONTEXT.search(body):
        return None
    return ContextExceeded(_number(_PROMPT.finditer(body)), _number(_LIMIT.finditer(body)))


def _number(found: Iterable[re.Match[str]]) -> int | None:
    groups = (group for match in found for group in match.groups() if group)
    return next((int(group) for group in groups if len(group) <= _LONGEST_COUNT), None)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After``, given as a number or as a date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_PAUSE_S)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=dt.UTC)  # "-0000" is UTC of an unknown place
    return max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds())
