"""The registry of backends, and the promises every backend keeps, on the scripted one."""

from __future__ import annotations

import pytest

from engine import backend as backend_module
from engine.backend import Backend, BackendEntry, backend_class, backends, register
from engine.errors import BackendUnavailableError, ConversationShapeError
from engine.messages import Delta, Finished, GenerationOptions, Message, Started
from engine.scripted import ScriptedBackend
from tests.engine.tiny import random_image

QUESTION = [Message.of("user", "Which side?")]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_ENTRIES", dict(backend_module._ENTRIES))


def test_every_registered_backend_can_be_imported() -> None:
    """Each path leads to a class with the seam's methods."""
    for entry in backends():
        found = backend_class(entry.name)
        assert all(hasattr(found, name) for name in ("stream", "close", "name"))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (BackendEntry("local", "a:b"), "registered already"),
        (BackendEntry("Mixed", "a:b"), "lower case"),
        (BackendEntry("", "a:b"), "lower case"),
        (BackendEntry("good", "no_colon"), "module:class"),
    ],
)
def test_a_wrong_entry_is_refused(entry: BackendEntry, reason: str) -> None:
    """Names are unique and lower case, paths name module and class."""
    with pytest.raises(ValueError, match=reason):
        register(entry)


def test_a_missing_package_is_named_with_what_to_install() -> None:
    """A backend that cannot be imported stays listed and says which package it needs."""
    register(BackendEntry("absent", "nowhere:Nothing", ("a_package_nobody_has",)))

    assert next(entry for entry in backends() if entry.name == "absent").missing == ("a_package_nobody_has",)
    with pytest.raises(ModuleNotFoundError, match="pip install a_package_nobody_has"):
        backend_class("absent")


def test_an_unknown_name_lists_the_known_ones() -> None:
    """A typing mistake is answered with the names there are."""
    with pytest.raises(ValueError, match="local, remote, scripted"):
        backend_class("lokal")


def test_scripted_is_a_backend_with_one_final_event() -> None:
    """Deltas join to the answer; exactly one final event comes, last."""
    backend = ScriptedBackend("The lesion is  on the left.")

    events = list(backend.stream(QUESTION, GenerationOptions()))

    assert isinstance(backend, Backend)
    assert isinstance(events[0], Started)
    assert (
        "".join(event.text for event in events if isinstance(event, Delta)) == "The lesion is  on the left."
    )
    assert [isinstance(event, Finished) for event in events].index(True) == len(events) - 1
    assert events[-1].reason == "complete"


def test_scripted_tells_what_arrived_when_nothing_was_scripted() -> None:
    """Without a script the answer counts images and repeats the question."""
    events = ScriptedBackend().stream([Message.of("user", random_image(1), "Side?")], GenerationOptions())

    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == "1 image(s) in 1 message(s); you asked: Side?"


def test_scripted_obeys_the_token_limit() -> None:
    """A word is a token; the answer is cut with the reason."""
    events = list(ScriptedBackend("one two three").stream(QUESTION, GenerationOptions(max_new_tokens=2)))

    assert [event.text for event in events if isinstance(event, Delta)] == ["one ", "two "]
    assert events[-1].reason == "length"


def test_scripted_raises_what_was_scripted_then_goes_on() -> None:
    """An exception in the queue is raised once."""
    backend = ScriptedBackend(BackendUnavailableError(reason="it crashed"), "fine")

    with pytest.raises(BackendUnavailableError, match="crashed"):
        list(backend.stream(QUESTION, GenerationOptions()))
    assert isinstance(list(backend.stream(QUESTION, GenerationOptions()))[-1], Finished)


def test_scripted_refuses_what_a_model_would_refuse() -> None:
    """No question, or a closed backend: the same errors as from a model."""
    backend = ScriptedBackend("x")
    with pytest.raises(ConversationShapeError):
        list(backend.stream([], GenerationOptions()))
    backend.close()
    with pytest.raises(BackendUnavailableError):
        list(backend.stream(QUESTION, GenerationOptions()))
