"""The image-dependence meter on servers: those that give log-probabilities, and those that do not."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from engine.backend import MeasuresGrounding
from engine.errors import BackendUnavailableError, ServerFailedError, ServerUnreachableError
from engine.grounding import blank_like
from engine.messages import Message
from engine.remote import RemoteBackend
from engine.remote_scores import NoScoresError, UnscoredError, answer_scores
from tests.engine.fake_server import FakeServer, Reply, error_body, served
from tests.engine.test_remote import QUICK, opened
from tests.engine.tiny import random_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGE = random_image(1)
ANSWERED = [Message.of("user", IMAGE, "Which side?"), Message.of("assistant", "Left. نعم 😀")]
TOKENS = ("Left", ".", " ن", "عم", " ", "\ufffd", "\ufffd", "", "😀")
STARTS = (0, 4, 5, 7, 9, 10, 10, 10, 10)
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with served() as running:
        yield running


def completion(before: int, scores: Sequence[float] | None = None, **more: Any) -> Reply:
    """Answer as vLLM does; with scores one entry for each token of the prompt."""
    value: dict[str, Any] = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": before}}
    if scores is not None:
        listed: list[Any] = [None, *({"7": {"logprob": -9.0, "decoded_token": "?"}},) * (before - 1)]
        listed += [
            {str(n): {"logprob": score, "rank": 1, "decoded_token": text}}
            for n, (score, text) in enumerate(zip(scores, TOKENS, strict=True))
        ]
        listed.append({"128009": {"logprob": -3.0, "decoded_token": "<|eot_id|>"}})
        value |= {"prompt_logprobs": listed, "usage": {"prompt_tokens": len(listed)}}
    return Reply([json.dumps(value | more).encode()], headers=JSON)


def test_the_difference_is_that_of_the_answer_s_tokens(server: FakeServer) -> None:
    """Mean over the answer alone and for each sentence; the end of the turn and the prompt do not count."""
    seen, blind = [-0.5] * 9, [-1.0, -1.0, *[-0.6] * 7]
    server.replies += [completion(5), completion(5, seen), completion(5, blind)]
    with opened(server) as backend:
        found = backend.image_dependence(ANSWERED)

    assert found is not None
    assert found.difference == pytest.approx((2 * 0.5 + 7 * 0.1) / 9)
    assert [one.text for one in found.sentences] == ["Left.", "نعم 😀"]
    assert [round(one.difference, 6) for one in found.sentences] == [0.5, 0.1]
    assert isinstance(backend, MeasuresGrounding)


def test_what_is_sent(server: FakeServer) -> None:
    """The question to be counted; then the whole with its image, and with a blank one of the same size."""
    server.replies += [completion(5), completion(5, [-1.0] * 9), completion(5, [-1.0] * 9)]
    with opened(server) as backend:
        backend.image_dependence(ANSWERED)

    question, seen, blind = server.bodies
    assert [body["stream"] for body in server.bodies] == [False] * 3
    assert [body["max_tokens"] for body in server.bodies] == [1] * 3
    assert question["messages"][-1]["role"] == "user"
    assert "prompt_logprobs" not in question
    for body in (seen, blind):
        assert body["messages"][-1] == {"role": "assistant", "content": ANSWERED[-1].text}
        assert (body["prompt_logprobs"], body["add_generation_prompt"]) == (0, False)
    pictures = [body["messages"][1]["content"][0]["image_url"]["url"] for body in server.bodies]
    assert pictures[0] == pictures[1] != pictures[2]
    assert blank_like(IMAGE).pixels.shape == IMAGE.pixels.shape


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([completion(5), completion(5)], "gives no log-probabilities of a prompt"),
        ([completion(5), completion(5, prompt_logprobs=None)], "gives no log-probabilities of a prompt"),
        ([completion(5), Reply([error_body("extra_forbidden")], 422, JSON)], "extra_forbidden"),
        ([Reply([b'{"choices": []}'], headers=JSON)], "does not count"),
        ([Reply([b"<html>"], headers=JSON)], "not JSON"),
        ([completion(5), completion(5, [-1.0] * 9, usage={"prompt_tokens": 3})], "do not fit"),
        ([completion(5), completion(5, [-1.0] * 9, prompt_logprobs=[{"a": 1}] * 15)], "cannot be read"),
    ],
)
def test_a_server_that_gives_none_is_asked_once(
    server: FakeServer, replies: list[Reply], reason: str
) -> None:
    """Detected from what it answers; the reason is kept, and the next answer asks nothing."""
    if "cannot" in reason:
        replies = [replies[0], completion(5, [-1.0] * 9, prompt_logprobs=[{"a": 1}] * 15)]
    server.replies += replies
    with opened(server) as backend:
        assert backend.image_dependence(ANSWERED) is None
        assert reason in backend.no_scores
        asked = len(server.bodies)
        assert backend.image_dependence(ANSWERED) is None
    assert len(server.bodies) == asked


def test_one_odd_answer_does_not_turn_the_meter_off(server: FakeServer) -> None:
    """Tokens of another text, or a conversation that is too long: the next answer is measured."""
    odd = [ANSWERED[0], Message.of("assistant", "Something else")]
    too_long = Reply([error_body("maximum context length is 512 tokens")], 400, JSON)
    scores = completion(5, [-1.0] * 9)
    server.replies += [completion(5), scores, completion(5), too_long, too_long]
    server.replies += [completion(5), scores, scores]
    with opened(server) as backend:
        assert backend.image_dependence(odd) is None
        assert backend.image_dependence(ANSWERED) is None
        assert backend.image_dependence(ANSWERED) is None
        assert backend.no_scores == ""
        assert backend.image_dependence(ANSWERED) is not None


def test_what_has_no_image_is_not_sent(server: FakeServer) -> None:
    """Nothing to be measured, nothing asked."""
    with opened(server) as backend:
        assert backend.image_dependence([Message.of("user", "a"), Message.of("assistant", "b")]) is None
        assert backend.image_dependence([ANSWERED[0], Message.of("assistant", "")]) is None
    assert server.bodies == []


def test_failures_keep_their_names(server: FakeServer) -> None:
    """A server that fails or is gone is an error as for an answer, and says nothing of the meter."""
    server.replies += [Reply([error_body("boom")], 500, JSON), Reply(drop=True)]
    with opened(server) as backend:
        for expected in (ServerFailedError, ServerUnreachableError):
            with pytest.raises(expected):
                backend.image_dependence(ANSWERED)
        assert backend.no_scores == ""


def test_stopping_closes_the_connection(server: FakeServer) -> None:
    """Whoever does not want it any more does not wait, and the server is told."""
    slow: list[bytes | float] = [b" ", *([0.05, b" "] * 200)]
    server.replies += [Reply(slow, headers=JSON)]
    stop = threading.Timer(0.3, lambda: None)
    stop.start()
    with opened(server) as backend:
        assert backend.image_dependence(ANSWERED, stop.finished.is_set) is None
        assert server.cut.wait(5)


def test_closing_ends_a_measurement(server: FakeServer) -> None:
    """An error instead of a wait for ever."""
    server.replies += [Reply([b" ", 3.0], headers=JSON)]
    backend = RemoteBackend(server.url, "served", limits=QUICK)
    threading.Timer(0.3, backend.close).start()
    with pytest.raises(BackendUnavailableError):
        backend.image_dependence(ANSWERED)


@pytest.mark.parametrize("gives", [True, False])
def test_a_server_can_be_asked_beforehand(server: FakeServer, gives: bool) -> None:
    """With a few words, no image."""
    listed = [None, *({"7": {"logprob": -1.0, "decoded_token": text}} for text in ("a", "yes", "<eot>"))]
    value: dict[str, Any] = {"usage": {"prompt_tokens": 4}} | ({"prompt_logprobs": listed} if gives else {})
    server.replies += [completion(2), Reply([json.dumps(value).encode()], headers=JSON)]
    with opened(server) as backend:
        assert backend.gives_scores() is gives
        assert bool(backend.no_scores) is not gives
    assert all("image_url" not in json.dumps(body) for body in server.bodies)


def test_tokens_are_laid_over_the_text() -> None:
    """Letters of several tokens, blanks before a first word, and text that is not the answer's."""

    def value(*texts: str) -> dict[str, Any]:
        listed = [{"1": {"logprob": -1.0, "decoded_token": text}} for text in ("p", *texts, "</s>")]
        return {"prompt_logprobs": listed, "usage": {"prompt_tokens": len(listed)}}

    assert answer_scores(value(*TOKENS), ANSWERED[-1].text, 1).starts == STARTS
    assert answer_scores(value(" The", " left"), "The left", 1).starts == (0, 3)
    assert answer_scores(value("a", "\ufffd", "\ufffd", "\ufffd"), "a😀🙂", 1).starts == (0, 1, 1, 1)
    with pytest.raises(UnscoredError):
        answer_scores(value("right"), "The left", 1)
    with pytest.raises(NoScoresError):
        answer_scores(value("left"), "left", 9)


@pytest.mark.parametrize("score", [float("nan"), float("-inf"), float("inf")])
def test_a_likelihood_that_is_no_number_measures_nothing(score: float) -> None:
    """Neither the meter nor an export could write it down."""
    listed = [None, {"1": {"logprob": score, "decoded_token": "left"}}]
    with pytest.raises(UnscoredError, match="no number"):
        answer_scores({"prompt_logprobs": listed, "usage": {"prompt_tokens": 2}}, "left", 1)
