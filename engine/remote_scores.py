"""How likely a model on a server finds an answer, where the server tells.

vLLM gives the log-probability of every token of a prompt when it is asked for it (``prompt_logprobs``);
most servers ignore the question or refuse it. Whether one answers is found out by asking, never assumed
from its name. Two requests score one conversation: the question alone tells by its length where the answer
begins, the whole conversation gives the log-probabilities.

References
----------
vLLM, ``prompt_logprobs`` of chat completions.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from engine.chat_protocol import context_exceeded, conversation_key, error_text, request_body
from engine.errors import ServerSilentError
from engine.messages import GenerationOptions
from engine.server import start_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.messages import Message
    from engine.server import Server

__all__ = [
    "NoScoresError",
    "ServerScores",
    "UnscoredError",
    "answer_scores",
    "prompt_length",
    "server_scores",
]

_LONGEST_BODY = 64 << 20
"""A hundred bytes a token of a prompt of half a million."""
_BROKEN = "\ufffd"
_REFUSED = (400, 404, 405, 415, 422, 501)
"""What servers answer that do not know the question."""


class NoScoresError(Exception):
    """The server gives no log-probabilities; the text says why, in English."""


class UnscoredError(Exception):
    """Of one answer there are none; of the next there may be."""


@dataclass(frozen=True, slots=True)
class ServerScores:
    """Log-likelihoods of an answer's tokens."""

    starts: tuple[int, ...]
    """Where in the answer's text each token begins, in characters."""
    values: tuple[float, ...]
    """Natural logarithm, one for each token."""


async def prompt_length(server: Server, question: Sequence[Message]) -> int:
    """Count the tokens a server reads before it begins to answer.

    Raises
    ------
    NoScoresError
        If it does not tell.
    UnscoredError
        If it refuses this question.
    ServerError
        If it cannot be asked.
    """
    counted = await _completion(server, question, {})
    if isinstance(counted, _Refusal):
        # its words may repeat the question's, and this text is logged
        raise UnscoredError(f"the server refused the question (HTTP {counted.status})")
    return _number(counted)


async def server_scores(server: Server, messages: Sequence[Message], question_tokens: int) -> ServerScores:
    """Score the last answer of a conversation.

    Parameters
    ----------
    server : Server
    messages : sequence of Message
        Ends with the answer.
    question_tokens : int
        What :func:`prompt_length` told of the messages before it.

    Raises
    ------
    NoScoresError
        If the server gives no log-probabilities.
    UnscoredError
        If it gives none of this text.
    ServerError
        If it cannot be asked.
    """
    asked = {"prompt_logprobs": 0, "add_generation_prompt": False}
    value = await _completion(server, messages, asked)
    if isinstance(value, _Refusal):
        reason = f"the server gives no log-probabilities of a prompt ({error_text(value.body)})"
        too_long = context_exceeded(value.status, value.body) is not None
        raise UnscoredError(reason) if too_long else NoScoresError(reason)
    return answer_scores(value, messages[-1].text, question_tokens)


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    body: str


async def _completion(
    server: Server, messages: Sequence[Message], more: dict[str, Any]
) -> dict[str, Any] | _Refusal:
    body = (
        request_body(server.model, messages, GenerationOptions(max_new_tokens=1)) | {"stream": False} | more
    )
    del body["stream_options"]
    content = await asyncio.to_thread(lambda: json.dumps(body, ensure_ascii=False).encode())
    headers = {"Content-Type": "application/json", "X-Conversation": conversation_key(messages)}
    limit_s = server.limits.first_token_s
    try:
        async with (
            asyncio.timeout(limit_s),
            server.client() as client,
            client.stream(
                "POST", f"{server.address}/chat/completions", content=content, headers=headers
            ) as response,
        ):
            text = await start_of(response, _LONGEST_BODY)
    except httpx.HTTPError as error:
        raise server.unreachable(error) from error
    except TimeoutError as error:
        raise ServerSilentError(server=server.name, seconds=round(limit_s)) from error
    if response.status_code in _REFUSED:
        return _Refusal(response.status_code, text)
    if response.status_code != httpx.codes.OK:
        raise server.refusal(response.status_code, response.headers, text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoScoresError("the server's answer is not JSON") from error
    if not isinstance(value, dict):
        raise NoScoresError("the server's answer is no chat completion")
    return value


def _number(value: dict[str, Any]) -> int:
    usage = value.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if not isinstance(count, int) or count < 1:
        raise NoScoresError("the server does not count the tokens of a prompt")
    return count


def answer_scores(value: dict[str, Any], answer: str, question_tokens: int) -> ServerScores:
    """Read the scores of an answer from a chat completion.

    Parameters
    ----------
    value : dict
        The completion of the whole conversation.
    answer : str
        Its last message.
    question_tokens : int
        Tokens before the answer.

    Raises
    ------
    NoScoresError
        If there are none.
    UnscoredError
        If the tokens are not those of the answer.
    """
    listed = value.get("prompt_logprobs")
    if not isinstance(listed, list):
        raise NoScoresError("the server gives no log-probabilities of a prompt")
    if len(listed) != _number(value) or question_tokens >= len(listed):
        raise NoScoresError("the server's log-probabilities do not fit its count of tokens")
    starts: list[int] = []
    values: list[float] = []
    at = broken = 0
    for entry in listed[question_tokens:]:
        if at >= len(answer):
            break
        score, text = _entry(entry)
        whole = text != "" and _BROKEN not in text
        found = _place(answer, text, at) if whole else at
        if found is None:
            break  # what ends the turn
        starts.append(found)
        values.append(score)
        at = found + len(text.lstrip() if found == 0 else text) if whole else at
        broken = 0 if whole else broken + 1
    # of letters that are several tokens each token is a part of one letter at most
    if not starts or len(answer) - at > broken:
        raise UnscoredError("the server's tokens are not those of the answer")
    return ServerScores(tuple(starts), tuple(values))


_FARTHEST = 8
"""Letters made of broken tokens that may stand between two whole ones."""


def _place(answer: str, text: str, at: int) -> int | None:
    found = answer.find(text, at, at + _FARTHEST + len(text))
    # the first word's blank is not part of what was shown
    if found < 0 and at == 0 and text[0].isspace() and answer.startswith(text.lstrip()):
        return 0
    return None if found < 0 else found


def _entry(entry: Any) -> tuple[float, str]:
    """Log-probability and text of the token that stands there."""
    try:
        chosen = next(iter(entry.values()))
        score, text = float(chosen["logprob"]), str(chosen.get("decoded_token") or "")
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise NoScoresError("the server's log-probabilities cannot be read") from error
    if not math.isfinite(score):
        raise UnscoredError("one of the server's log-probabilities is no number")
    return score, text
