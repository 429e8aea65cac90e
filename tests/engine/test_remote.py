"""A model on a server: errors and odd streams from a server that does as told, and a real one."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import remote_answer
from engine.backend import backend_class
from engine.chat_protocol import EventLines, context_exceeded, error_text, retry_after_s
from engine.errors import (
    ConversationShapeError,
    EngineError,
    PromptTooLongError,
    ServerAddressError,
    ServerAnswerError,
    ServerBusyError,
    ServerFailedError,
    ServerModelError,
    ServerRefusedError,
    ServerSilentError,
    ServerUnreachableError,
)
from engine.messages import (
    Delta,
    Event,
    Finished,
    GenerationOptions,
    Message,
    Queued,
    Reading,
    Started,
    Usage,
)
from engine.prompt import SYSTEM_TEXT
from engine.remote import RemoteBackend, ServerLimits
from tests.engine.contract import BackendContract, Subject, said
from tests.engine.fake_server import ANSWER, DONE, FakeServer, Reply, error_body, piece, served
from tests.engine.golden import answers, golden_conversations
from tests.engine.tiny import SPOKEN, random_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.checkpoint import LoadedModel

QUESTION = [Message.of("user", random_image(1), "أين الآفة؟")]
OPTIONS = GenerationOptions(max_new_tokens=64)
QUICK = ServerLimits(connect_s=2, first_token_s=5, between_tokens_s=5, backoff_s=0.01, patience_s=1)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with served() as running:
        yield running


@contextmanager
def opened(server: FakeServer, **arguments: Any) -> Iterator[RemoteBackend]:
    with closing(RemoteBackend(server.url, "served", **({"limits": QUICK} | arguments))) as backend:
        yield backend


def answered(server: FakeServer, *replies: Reply, limits: ServerLimits = QUICK) -> list[Event]:
    """All events of one question, the server giving these replies."""
    server.replies += replies
    with opened(server, limits=limits) as backend:
        return list(backend.stream(QUESTION, OPTIONS))


# --- what is sent ---


def test_the_request_holds_the_conversation_and_the_exact_pixels(server: FakeServer) -> None:
    """Pictures come back from their PNG as they were, with upstream's system text and the options."""
    image = random_image(3, rows=30, columns=41)
    messages = [
        Message.of("user", image, "<|eot_id|> typed"),
        Message.of("assistant", "Left."),
        Message.of("user", "And?"),
    ]
    options = GenerationOptions(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=4)
    with opened(server) as backend:
        list(backend.stream(messages, options))

    body = server.bodies[0]
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["seed"]) == (9, 0.5, 0.9, 4)
    assert (body["model"], body["stream"]) == ("served", True)
    assert body["messages"][0] == {"role": "system", "content": SYSTEM_TEXT}
    assert body["messages"][2:] == [
        {"role": "assistant", "content": "Left."},
        {"role": "user", "content": "And?"},
    ]
    shown, text = body["messages"][1]["content"]
    assert text == {"type": "text", "text": "<|eot_id|> typed"}
    from PIL import Image

    data = base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image.pixels)


def test_a_conversation_can_be_kept_on_one_server(server: FakeServer) -> None:
    """Every turn carries the same name, other conversations another one; it says nothing of the words."""
    more = [*QUESTION, Message.of("assistant", "يسار"), Message.of("user", "وحجمها؟")]
    other = [Message.of("user", random_image(2), QUESTION[0].text)]
    with opened(server) as backend:
        for messages in (QUESTION, more, other):
            list(backend.stream(messages, OPTIONS))

    first, second, third = (headers["x-conversation"] for headers in server.headers)
    assert first == second != third
    assert re.fullmatch("[0-9a-f]{16}", first)


def test_the_key_is_sent_and_told_to_nobody_else(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in repr, not in any log down to debugging, not in an error."""
    server.replies.append(Reply([error_body("bad key")], status=401))
    with caplog.at_level(logging.DEBUG), opened(server, api_key="sesame-7") as backend:
        with pytest.raises(ServerRefusedError) as caught:
            list(backend.stream(QUESTION, OPTIONS))
        shown = repr(backend)

    assert server.headers[0]["authorization"] == "Bearer sesame-7"
    assert "sesame" not in shown + caplog.text + str(caught.value) + repr(caught.value.values)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://example.org:8000/v1", "unencrypted"),
        ("http://192.168.1.5:8000", "unencrypted"),
        ("http://127.0.0.1.example.org", "unencrypted"),
        ("ftp://localhost", "scheme 'ftp'"),
        ("localhost:8000", "scheme"),
        ("", "scheme"),
        ("https://user:secret@example.org/v1", "a name, a key"),
        ("https://example.org/v1?key=secret", "a query"),
        ("http://[::1", "?"),
        ("http://pictures.localhost:8000", "unencrypted"),
        ("http://[::ffff:192.0.2.1]:8000", "unencrypted"),
    ],
)
def test_unsafe_addresses_are_refused_without_repeating_a_key(url: str, found: str) -> None:
    """Pictures go unencrypted only to this machine, and keys have a setting of their own."""
    with pytest.raises(ServerAddressError) as caught:
        RemoteBackend(url, "m")

    assert found in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://example.org/served/v1", "https://example.org/served/v1"),
    ],
)
def test_safe_addresses_are_used_with_or_without_their_path(url: str, used: str) -> None:
    """An address without a path gets the protocol's usual one."""
    assert used in repr(RemoteBackend(url, "m"))
    assert isinstance(RemoteBackend("http://example.org", "m", allow_plain_http=True), RemoteBackend)


def test_a_proxy_of_the_environment_is_not_asked_about_this_machine(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hospital's proxy settings do not send a loopback address out of the machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)

    assert said(answered(server)) == "نعم، يسار."


def test_redirections_are_not_followed(server: FakeServer) -> None:
    """A picture never goes to another address than the chosen one; the error names where it should go."""
    with pytest.raises(ServerAnswerError, match=r"redirection to https://elsewhere\.example/v1"):
        answered(server, Reply(status=307, headers={"Location": "https://elsewhere.example/v1"}))


# --- odd streams ---


def test_letters_cut_anywhere_are_joined(server: FakeServer) -> None:
    """Bytes one by one, comments, both kinds of line ends: the text is whole."""
    stream = b": welcome\r\n\r\n" + piece("تقع ").replace(b"\n", b"\r\n") + b": still here\n\n"
    raw = json.dumps({"choices": [{"delta": {"content": "الآفة 😀"}}]}, ensure_ascii=False).encode()
    stream += b"event: message\nid: 7\ndata:" + raw + b"\n\n" + piece(reason="stop") + DONE

    events = answered(server, Reply([stream[i : i + 1] for i in range(len(stream))]))

    assert said(events) == "تقع الآفة 😀"
    assert [type(event) for event in events if not isinstance(event, Queued | Reading)] == [
        Started, Delta, Delta, Finished,
    ]  # fmt: skip


def test_half_a_sign_is_held_until_the_other_half_comes(server: FakeServer) -> None:
    """A sign escaped into two pieces by the server arrives as one."""
    halves = [b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n',
              b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n']  # fmt: skip

    events = answered(server, Reply([*halves, piece(reason="stop"), DONE]))

    assert [event.text for event in events if isinstance(event, Delta)] == ["a", "😀b"]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="xتَ😀 \n{}:", max_size=5), max_size=6), st.data())
def test_events_are_the_same_however_their_bytes_are_cut(texts: list[str], data: st.DataObject) -> None:
    """Any cut of any stream gives the same events."""
    stream = "".join(f"data: {json.dumps(text, ensure_ascii=False)}\n\n" for text in texts).encode()
    lines, found, position = EventLines(), [], 0
    while position < len(stream):
        step = data.draw(st.integers(1, 7))
        found += lines.feed(stream[position : position + step])
        position += step

    assert [json.loads(event) for event in found] == texts


def test_a_server_that_never_closes_does_not_hold_a_whole_answer(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the reason has come, the counts are waited for only a moment."""
    monkeypatch.setattr(remote_answer, "_FAREWELL_S", 0.2)

    last = answered(server, Reply([piece("a"), piece(reason="stop"), 2.0]))[-1]

    assert isinstance(last, Finished)
    assert last.timings.total_s < 1.5


def usage_piece(**usage: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


def test_counts_are_the_servers_when_it_tells_them(server: FakeServer) -> None:
    """The chunk with the usage comes after the reason; tokens from the server's cache count as reused."""
    counts = usage_piece(prompt_tokens=600, completion_tokens=2, prompt_tokens_details={"cached_tokens": 512})
    stream = [piece("a"), piece(reason="stop"), counts, DONE]

    assert answered(server, Reply(stream))[-1].usage == Usage(600, 2, 512)


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([piece("a"), piece(reason="stop")], "complete"),
        ([piece("a"), piece(reason="length")], "length"),
        ([piece("a"), piece(reason="abort"), DONE], "stopped"),
        ([piece("a"), DONE], "complete"),
        ([piece("a"), piece(reason="stop")[:-1]], "complete"),
    ],
)
def test_streams_may_end_in_several_ways(server: FakeServer, pieces: list[bytes], reason: str) -> None:
    """With or without the mark of the end, as long as the answer is known to be whole."""
    last = answered(server, Reply(pieces))[-1]

    assert isinstance(last, Finished)
    assert last.reason == reason
    assert last.usage.completion_tokens == 1
    assert last.usage.prompt_tokens > 500


@pytest.mark.parametrize(
    ("pieces", "expected", "found"),
    [
        ([piece("a")], ServerAnswerError, "without a reason"),
        ([piece("a"), b"data: {nonsense\n\n"], ServerAnswerError, "nonsense"),
        ([b"<html>Welcome</html>"], ServerAnswerError, "without a reason"),
        ([b'data: {"choices": 5}\n\n'], ServerAnswerError, "choices"),
        ([piece("a"), b"data: " + error_body("CUDA died") + b"\n\n"], ServerFailedError, "CUDA died"),
        ([piece("a"), b"error: " + error_body("slot lost") + b"\n\n"], ServerFailedError, "slot lost"),
        ([piece("a"), b'data: {"error": "it said "no""}\n\n'], ServerFailedError, "it said"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], ServerAnswerError, r"\[\[\["),
        ([piece("a"), b'data: {"error": ' + b"[" * 100_000 + b"\n\n"], ServerFailedError, "error"),
        ([b'data: {"choices": [{"delta": {"content": ["a"]}}]}\n\n'], ServerAnswerError, "content"),
        ([b"data: " + b"a" * 70_000] * 40, ServerAnswerError, "without an end"),
        ([b"data: " + b"a" * 1000 + b"\n"] * 2000, ServerAnswerError, "without an end"),
    ],
)
def test_broken_streams_end_clearly(
    server: FakeServer, pieces: list[bytes], expected: type[EngineError], found: str
) -> None:
    """What came before is kept by the reader; the error says what was found; nothing is asked twice."""
    with pytest.raises(expected, match=found):
        answered(server, Reply(pieces))

    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "kind", ["text/html; charset=utf-8", "application/json", "Application/XML"], ids=lambda kind: kind[:8]
)
def test_an_answer_that_is_no_stream_is_named(server: FakeServer, kind: str) -> None:
    """The sign-in page of a proxy is not read as an answer, however long it goes on."""
    page = Reply([b"<html>"] + [b"<p>Sign in</p>\n"] * 50, headers={"Content-Type": kind})
    with pytest.raises(ServerAnswerError, match=kind.partition(";")[0].lower()):
        answered(server, page)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "usage",
    [
        5,
        [],
        {"prompt_tokens": "many"},
        {"prompt_tokens": 1e999},
        {"prompt_tokens": 3, "completion_tokens": [1]},
    ],
)
def test_odd_counts_do_not_cost_the_answer(server: FakeServer, usage: object) -> None:
    """Estimates take their place."""
    events = answered(server, Reply([piece("a"), piece(reason="stop", usage=usage), DONE]))
    assert said(events) == "a"
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.prompt_tokens > 500


def test_a_server_that_ignores_the_limit_is_cut(server: FakeServer) -> None:
    """It may give as many letters as that many tokens can have, and its connection is closed then."""
    server.replies.append(Reply([piece("word " * 200) for _ in range(400)] + [1.0, piece("more")]))
    with opened(server) as backend:
        events = list(backend.stream(QUESTION, GenerationOptions(max_new_tokens=8)))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "length"
    assert len(said(events)) < 3000
    assert server.cut.wait(10)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (400, {}, error_body("maximum context length is " + "9" * 5000 + " tokens")),
        (500, {}, b"[" * 60_000),
        (429, {"Retry-After": "\xb2"}, b""),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 -0000"}, b""),
        (307, {"Location": "http://elsewhere.example/v1/chat/completions"}, b""),
    ],
)
def test_hostile_refusals_are_errors_with_a_sentence(
    server: FakeServer, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Whatever a refusal holds, the reader gets an error of the engine, and nobody else is asked."""
    with pytest.raises(EngineError):
        answered(server, *[Reply([body], status, headers)] * 3, limits=replace(QUICK, backoff_s=0.001))


def test_an_endless_list_of_models_is_not_read_to_its_end(server: FakeServer) -> None:
    """At most a mebibyte of it."""
    server.models = ["m" * 1000] * 4000
    with opened(server) as backend, pytest.raises(ServerAnswerError, match="a list of models"):
        backend.models()


def test_an_address_of_the_newer_protocol_is_this_machine_too() -> None:
    """A server on ::1 is asked without encryption and without a proxy."""
    with served("::1") as server:
        assert "[::1]" in server.url
        assert said(answered(server)) == "نعم، يسار."


def test_a_connection_cut_in_mid_answer_is_not_retried(server: FakeServer) -> None:
    """Half an answer cannot be continued; the reader is told."""
    cut = Reply([piece("half")], headers={"Content-Length": "5000"})
    with pytest.raises(ServerAnswerError, match="mid-answer"):
        answered(server, cut)

    assert len(server.bodies) == 1


# --- errors before the answer ---

VLLM = (
    "You passed 990 input tokens and requested 64 output tokens. However, the model's context length is only "
)


@pytest.mark.parametrize(
    ("reply", "expected", "values"),
    [
        (Reply([error_body("no")], 401), ServerRefusedError, {"status": 401}),
        (Reply([error_body("no")], 403), ServerRefusedError, {"status": 403}),
        (Reply([b"<html>"], 404), ServerAnswerError, {"found": "HTTP 404 at /v1"}),
        (
            Reply([error_body("The model `served` does not exist.", type="NotFoundError")], 404),
            ServerModelError,
            {"found": "served", "expected": "one, two"},
        ),
        (Reply([error_body("odd field")], 422), ServerFailedError, {"status": 422, "reason": "odd field"}),
        (Reply([b'{"detail":"busy"}'], 429, {"Retry-After": "90"}), ServerBusyError, {"seconds": 90}),
    ],
)
def test_refusals_become_errors_at_once(
    server: FakeServer, reply: Reply, expected: type[EngineError], values: dict[str, object]
) -> None:
    """Each names the server and what was found; trying again would not help."""
    server.models = ["one", "two"]
    with pytest.raises(expected) as caught:
        answered(server, reply)

    assert caught.value.values.items() >= values.items()
    assert caught.value.values["server"] == server.url.removeprefix("http://")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "body",
    [
        error_body(VLLM + "1000 tokens, resulting in a maximum input length of 936 tokens."),
        error_body("This model's maximum context length is 1000 tokens. However, you requested 1054 tokens "
                   "(990 in the messages, 64 in the completion)."),
        error_body("This model's maximum context length is 1000 tokens and your request has 990 input "
                   "tokens (64 > 1000 - 990)."),
        error_body("The decoder prompt (length 990) is longer than the maximum model length of 1000."),
        error_body("The input (990 tokens) is longer than the model's context length (1000 tokens)."),
        error_body("Requested token count exceeds the model's maximum context length of 1000 tokens. You "
                   "requested a total of 1054 tokens: 990 tokens from the input messages and 64 tokens for "
                   "the completion."),
        error_body("request (990 tokens) exceeds the available context size (1000 tokens), try "
                   "increasing it"),
        error_body("the request exceeds the available context size", type="exceed_context_size_error",
                   n_prompt_tokens=990, n_ctx=1000),
    ],
)  # fmt: skip
def test_too_long_is_told_with_both_numbers(server: FakeServer, body: bytes) -> None:
    """The sentences of vLLM, SGLang and llama.cpp; at least 32 tokens must stay for the answer."""
    with pytest.raises(PromptTooLongError) as caught:
        answered(server, Reply([body], 400))

    assert caught.value.values == {"found": 990, "limit": 968}
    assert len(server.bodies) == 1


def test_a_shorter_answer_is_asked_for_where_it_fits(server: FakeServer) -> None:
    """As with a model in this process, the answer gets what room there is."""
    too_long = Reply([error_body(VLLM + "1030 tokens.")], 400)

    assert said(answered(server, too_long)) == "نعم، يسار."
    assert [body["max_tokens"] for body in server.bodies] == [64, 40]


def test_a_server_that_counts_only_as_far_as_it_must_is_asked_a_few_times(server: FakeServer) -> None:
    """A count that is one too many is no count: the room is halved, not shrunk one by one."""
    counts = [
        f"You passed {1001 - room} input tokens and requested {room} output tokens. "
        "However, the model's context length is only 1000 tokens"
        for room in (64, 32)
    ]
    with pytest.raises(PromptTooLongError):
        answered(server, *[Reply([error_body(count)], 400) for count in counts])

    assert [body["max_tokens"] for body in server.bodies] == [64, 32]


def test_too_long_without_numbers_tells_an_estimate(server: FakeServer) -> None:
    """A bare sentence is still recognised, and a shorter answer is tried first."""
    bare = Reply([error_body("context_length_exceeded")], 400)
    with pytest.raises(PromptTooLongError, match="its length is ≈ 587"):
        answered(server, bare, bare)


def test_a_limit_of_the_answer_alone_is_understood(server: FakeServer) -> None:
    """The sentence with which vLLM refuses more tokens than its whole context, whatever the prompt."""
    body = error_body(
        "max_tokens=64 cannot be greater than max_model_len=50. Please request fewer output tokens."
    )

    assert said(answered(server, Reply([body], 400))) == "نعم، يسار."
    assert [body["max_tokens"] for body in server.bodies] == [64, 32]


def test_other_refusals_are_not_taken_for_a_long_prompt() -> None:
    """Neither another status nor another sentence."""
    assert context_exceeded(400, "temperature must be positive") is None
    assert context_exceeded(401, "context length") is None


@pytest.mark.parametrize(
    "reply",
    [
        Reply([error_body("overloaded")], 503),
        Reply([b"Internal Server Error"], 500),
        Reply([error_body("busy")], 429, {"Retry-After": "0"}),
        Reply(drop=True),
    ],
)
def test_passing_failures_are_tried_again(server: FakeServer, reply: Reply) -> None:
    """Two of three tries may fail; the reader sees one whole answer."""
    assert said(answered(server, reply, reply)) == "نعم، يسار."
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply([error_body("overloaded")], 503), ServerFailedError),
        (Reply(drop=True), ServerUnreachableError),
        (Reply([error_body("busy")], 429, {"Retry-After": "0"}), ServerBusyError),
    ],
)
def test_lasting_failures_are_told_after_the_last_try(
    server: FakeServer, reply: Reply, expected: type[EngineError]
) -> None:
    """Three tries, then the error."""
    with pytest.raises(expected):
        answered(server, *[reply] * 5)

    assert len(server.bodies) == 3


def test_a_server_that_is_not_there_is_named() -> None:
    """The address stands in the error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with closing(RemoteBackend(url, "m", limits=QUICK)) as backend:
        with pytest.raises(ServerUnreachableError, match=url.removeprefix("http://")):
            list(backend.stream(QUESTION, OPTIONS))
        with pytest.raises(ServerUnreachableError):
            backend.models()


def test_models_lists_the_names(server: FakeServer) -> None:
    """In the server's order."""
    server.models = ["b", "a"]
    with opened(server) as backend:
        assert backend.models() == ("b", "a")


def test_a_wrong_order_is_refused_before_the_server_is_asked(server: FakeServer) -> None:
    """Nothing is sent."""
    with opened(server) as backend, pytest.raises(ConversationShapeError):
        next(backend.stream([Message.of("assistant", "x")], OPTIONS))

    assert server.bodies == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("", None),
        ("soon", None),
        ("²", None),
        ("9" * 400, 86400.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Wed, 99 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_number_or_date(value: str, seconds: float | None) -> None:
    """Nonsense counts as not given."""
    assert retry_after_s({"retry-after": value}) == seconds


# --- time ---


def test_a_slow_first_token_is_waited_for_and_can_be_stopped(server: FakeServer) -> None:
    """The reader is told again and again that the prompt is being read."""
    slow = Reply([0.7, piece("late"), piece(reason="stop"), DONE], pause_s=0.6)

    events = answered(server, slow)

    kinds = [type(event) for event in events]
    assert kinds[0] is Queued
    assert kinds.index(Queued) < kinds.index(Started) < kinds.index(Reading) < kinds.index(Delta)
    assert said(events) == "late"


@pytest.mark.parametrize(
    "reply",
    [Reply(pause_s=2.0), Reply([b": wait\n\n", 0.3, b": wait\n\n", 0.3, b": wait\n\n", 2.0])],
)
def test_silence_before_the_first_token_is_told(server: FakeServer, reply: Reply) -> None:
    """Neither headers nor comments count as an answer."""
    limits = ServerLimits(first_token_s=0.8, backoff_s=0.01)
    with pytest.raises(ServerSilentError):
        answered(server, reply, limits=limits)


def test_silence_in_mid_answer_is_told(server: FakeServer) -> None:
    """Between two pieces another limit counts."""
    limits = ServerLimits(between_tokens_s=0.4)
    with pytest.raises(ServerSilentError):
        answered(server, Reply([piece("a"), b": wait\n\n", 2.0, piece("b")]), limits=limits)


def test_the_time_limit_cuts_the_answer(server: FakeServer) -> None:
    """What came until then is the answer, and the final event says why it ended."""
    slow: list[bytes | float] = [part for number in range(40) for part in (piece(f"{number} "), 0.1)]
    server.replies.append(Reply(slow))
    with opened(server) as backend:
        events = list(backend.stream(QUESTION, GenerationOptions(time_limit_s=0.35)))

    assert events[-1].reason == "time_limit"
    assert 2 <= events[-1].usage.completion_tokens < 20
    assert server.cut.wait(5)


@pytest.mark.parametrize("then", [[3.0], [part for _ in range(60) for part in (b": wait\n\n", 0.05)]])
def test_the_time_limit_holds_while_the_server_is_silent(
    server: FakeServer, then: list[bytes | float]
) -> None:
    """After its first piece nothing comes, or comments only: the text is kept and the reason is the limit."""
    server.replies.append(Reply([piece("begun "), *then]))
    with opened(server) as backend:
        events = list(backend.stream(QUESTION, GenerationOptions(time_limit_s=0.4)))

    assert said(events) == "begun "
    assert events[-1].reason == "time_limit"


def test_tries_share_the_limit_of_the_first_token(server: FakeServer) -> None:
    """A server that fails slowly does not get the whole limit with each try; its failure may come first."""
    server.replies += [Reply(status=503, pause_s=0.4)] * 3
    with opened(server) as backend, suppress(ServerFailedError):
        events = list(backend.stream(QUESTION, GenerationOptions(first_token_limit_s=0.6)))
        assert events[-1].reason == "time_limit"

    assert len(server.bodies) <= 2


def test_a_limit_of_the_first_token_is_an_end_and_no_error(server: FakeServer) -> None:
    """The server is told by the closed connection; its own patience is longer."""
    server.replies.append(Reply([part for _ in range(100) for part in (b": wait\n\n", 0.05)]))
    with opened(server) as backend:
        events = list(backend.stream(QUESTION, GenerationOptions(first_token_limit_s=0.3)))

    assert events[-1].reason == "time_limit"
    assert not any(isinstance(event, Delta) for event in events)
    assert server.cut.wait(5)


@pytest.mark.parametrize("where", ["before the first token", "in mid-answer", "by closing the backend"])
def test_closing_closes_the_connection(server: FakeServer, where: str) -> None:
    """The server notices at its next write, which is what stops its work."""
    endless: list[bytes | float] = [part for _ in range(200) for part in (piece("a "), 0.05)]
    begin: list[bytes | float] = [part for _ in range(20) for part in (b": wait\n\n", 0.05)]
    server.replies.append(Reply([*begin, *endless] if where.startswith("before") else endless))
    with opened(server) as backend:
        stream = backend.stream(QUESTION, OPTIONS)
        wanted = Started if where.startswith("before") else Delta
        next(event for event in stream if isinstance(event, wanted))
        if where.startswith("by"):
            backend.close()
            with pytest.raises(EngineError, match="closed"):
                list(stream)
        else:
            stream.close()
        assert server.cut.wait(5)


class TestContractAtAFakeServer(BackendContract):
    """The seam's promises, with everything scripted but the connection."""

    @pytest.fixture
    def subject(self) -> Iterator[Subject]:
        with served() as server:
            original = FakeServer.send

            def send(handler: Any, reply: Reply) -> None:
                body = server.bodies[-1] if server.bodies else {}
                if reply is ANSWER and body["messages"][-1]["content"] == "long":
                    count = min(40, body["max_tokens"])
                    pieces: list[bytes | float] = [
                        part for _ in range(count) for part in (piece("كلمة "), 0.02)
                    ]
                    reply = Reply([*pieces, piece(reason="length"), DONE])
                original(server, handler, reply)

            server.send = send  # type: ignore[method-assign]
            with opened(server) as backend:
                yield Subject(
                    backend=backend,
                    arabic=QUESTION,
                    arabic_answer="نعم، يسار.",
                    long=[Message.of("user", "long")],
                    refused=[],
                    fresh=lambda: RemoteBackend(server.url, "served"),
                )


# --- a real server ---


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run ``transformers serve``, once; it loads the folder a question names."""
    home = tmp_path_factory.mktemp("hub")
    (home / "hub").mkdir()
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--device", "cpu"]
    log = (home / "log").open("wb")
    with log, subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT
    ) as process:  # fmt: skip
        try:
            wait_for(url + "/health", process, home / "log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        if process.poll() is not None:
            break
        time.sleep(0.3)
    pytest.fail("the server did not start:\n" + log.read_text(errors="replace")[-3000:])


def ready_to_serve(folder: Path, loaded: LoadedModel) -> Path:
    """Add the files a server needs: processor, chat template, and what is never sampled here."""
    from engine.checkpoint import read_config
    from engine.processor_files import write_processor

    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    profile = loaded.renderer.profile
    config = read_config(folder) | {"bos_count": profile.bos_count}
    write_processor(folder, folder, config, tokenizer, profile.image_token_id)
    settings = {
        "eos_token_id": sorted(loaded.stop_ids),
        "suppress_tokens": list(loaded.suppressed_ids),
        "pad_token_id": 0,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def served_folder(tiny_folder: Path, tiny: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the random checkpoint, with a processor."""
    import shutil

    folder = tmp_path_factory.mktemp("served") / "tiny"
    return ready_to_serve(Path(shutil.copytree(tiny_folder, folder)), tiny)


class TestRealServer:
    """``transformers serve`` with a checkpoint of random weights."""

    def test_its_text_is_the_local_one(
        self, real_server: str, served_folder: Path, tiny: LoadedModel
    ) -> None:
        """Greedy, over two turns with images, token by token; the counts agree with ours."""
        from engine.local import LocalBackend

        messages = [Message.of("user", random_image(1, 40, 28), "Which side?")]
        options = GenerationOptions(max_new_tokens=12)
        with closing(RemoteBackend(real_server, str(served_folder))) as backend:
            for _ in range(2):
                remote = list(backend.stream(messages, options))
                local = list(LocalBackend(tiny).stream(messages, options))
                assert said(remote).rstrip("\ufffd") == said(local).rstrip("\ufffd") != ""
                assert remote[-1].usage.prompt_tokens == local[-1].usage.prompt_tokens
                messages += [Message.of("assistant", "left"), Message.of("user", random_image(2), "And?")]

    def test_the_golden_conversations_are_the_local_ones(self, real_server: str) -> None:
        """The demonstration model says the same here and there, in both languages, turn by turn."""
        from app.model import DEMONSTRATION_FOLDER
        from engine.checkpoint import LoadOptions, load
        from engine.local import LocalBackend

        local = LocalBackend(
            load(DEMONSTRATION_FOLDER, LoadOptions(device="cpu", dtype="float32", threads=1))
        )
        with closing(RemoteBackend(real_server, str(DEMONSTRATION_FOLDER))) as backend:
            for questions in golden_conversations():
                assert answers(backend, questions) == answers(local, questions)

    def test_it_gives_no_log_probabilities(self, real_server: str, served_folder: Path) -> None:
        """The meter is off here, and says why."""
        with closing(RemoteBackend(real_server, str(served_folder))) as backend:
            assert backend.image_dependence([*QUESTION, Message.of("assistant", "left")]) is None
            assert "log-probabilities" in backend.no_scores

    def test_closing_aborts_and_the_next_question_is_served(
        self, real_server: str, served_folder: Path
    ) -> None:
        """The server takes one question at a time: a lost one would keep the next one waiting."""
        long = GenerationOptions(max_new_tokens=400, temperature=1.0)
        with closing(RemoteBackend(real_server, str(served_folder))) as backend:
            stream = backend.stream([Message.of("user", "Tell me more")], long)
            next(event for event in stream if isinstance(event, Delta))
            stream.close()

            events = list(backend.stream(QUESTION, GenerationOptions(max_new_tokens=3)))

        assert isinstance(events[-1], Finished)


class TestContractAtARealServer(BackendContract):
    """The seam's promises with ``transformers serve``."""

    @pytest.fixture
    def subject(self, real_server: str, spoken_folder: Path) -> Iterator[Subject]:
        with closing(RemoteBackend(real_server, str(spoken_folder))) as backend:
            yield Subject(
                backend=backend,
                arabic=QUESTION,
                arabic_answer=SPOKEN,
                long=[Message.of("user", "long")],
                refused=[],
                fresh=lambda: RemoteBackend(real_server, "m"),
                patience_s=60,
            )


@pytest.fixture(scope="module")
def spoken_folder(speaking_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkpoint that speaks, with a processor."""
    import shutil

    from engine.checkpoint import LoadOptions, load

    loaded = load(speaking_folder, LoadOptions(device="cpu", dtype="float32", threads=1))
    folder = tmp_path_factory.mktemp("served") / "speaking"
    return ready_to_serve(Path(shutil.copytree(speaking_folder, folder)), loaded)


def test_the_registry_leads_here() -> None:
    """The name of the backend in the settings."""
    assert backend_class("remote") is RemoteBackend


# --- odd servers ---


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_lines_may_end_and_begin_as_the_standard_allows(end: bytes, size: int) -> None:
    """With any of three ends, after a mark of the byte order, wherever the pieces are cut."""
    stream = b"\xef\xbb\xbf" + end.join([b"data: a", b"data: b", b"", b": note", b"data: c", b"", b""])
    lines, found = EventLines(), []
    for at in range(0, len(stream), size):
        found += lines.feed(stream[at : at + size])
    found += lines.end()

    assert found == ["a\nb", "c"]


@pytest.mark.parametrize(
    "sent",
    [
        b'data: {"object": "error", "message": "out of memory", "code": 500}\n\n',
        b'data: {"id": "x", "error": {"message": "out of memory"}}\n\n',
    ],
)
def test_errors_in_the_stream_are_known_in_every_shape(server: FakeServer, sent: bytes) -> None:
    """Before the first piece they are tried again, in mid-answer told with the server's words."""
    assert said(answered(server, Reply([sent]), ANSWER)) == "نعم، يسار."
    with pytest.raises(ServerFailedError, match="out of memory"):
        answered(server, Reply([piece("a"), sent]))


def test_what_a_server_says_of_an_error_can_be_stored_and_repeats_no_question() -> None:
    """No half of a sign, no zero, and of an object its sentences only."""
    assert error_text('{"error": {"message": "bad \\ud83d \\u0000 sign"}}') == "bad ? sign"
    echoed = {"detail": [{"type": "extra", "msg": "not permitted", "input": "Amina's lung"}]}
    assert error_text(json.dumps(echoed)) == "not permitted"
    assert error_text('{"error": {"input": "Amina\'s lung"}}') == "no reason given"
    assert error_text("plain words") == "plain words"
