"""What happens when the page asks for something: payload checked, work done, values sent back.

Each handler answers with a value for the history column and one for the chat. It is the application's
edge: whatever goes wrong becomes a sentence in both languages, and the traceback goes to the log.
"""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.errors import ThreadNotFoundError
from app.session import AnswerUpdate, Workspace
from app.ui import wire
from viewers.shown import shown_from_json

__all__ = ["Events"]

_LONGEST_TITLE = 200

Values = tuple[Any, Any]
"""Value for the history column and value for the chat; ``gr.skip()`` leaves one as it is."""


class Events:
    """Handlers of the page's events.

    Parameters
    ----------
    workspace : Workspace
        What does the work. Every call passes the owner on, who comes from the request alone.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def load(self, request: gr.Request) -> Values:
        """Show the owner's newest conversation again."""
        try:
            history = self._history(request)
            newest = history["threads"][0]["id"] if history["threads"] else None
            return history, {**self._thread(request, newest), "first": True}
        except Exception as error:  # noqa: BLE001 - edge: shown in the page, logged by both()
            return gr.skip(), _error(error)

    def list(self, request: gr.Request) -> Values:
        """Show the list of conversations as it stands now."""
        try:
            return self._history(request), gr.skip()
        except Exception as error:  # noqa: BLE001 - edge
            return gr.skip(), _error(error)

    def refresh(self, event: gr.EventData, request: gr.Request) -> Values:
        """Show a conversation as it stands now, for an answer that another page is waiting for."""
        try:
            value = self._thread(request, wire.read(event.payload, "thread"), again=True)
            return gr.skip(), {**value, "refresh": True}
        except Exception as error:  # noqa: BLE001 - edge
            return self._after(error, request), _error(error, thread=_named(event))

    def open(self, event: gr.EventData, request: gr.Request) -> Values:
        """Show a conversation."""
        try:
            return gr.skip(), self._thread(request, wire.read(event.payload, "thread"))
        except Exception as error:  # noqa: BLE001 - edge
            return self._history(request), _error(error)

    def rename(self, event: gr.EventData, request: gr.Request) -> Values:
        """Give a conversation another title."""
        try:
            title = wire.read(event.payload, "title", longest=_LONGEST_TITLE)
            self._workspace.rename(request.username, wire.read(event.payload, "thread"), title)
            return self._history(request), gr.skip()
        except Exception as error:  # noqa: BLE001 - edge
            return self._history(request), _error(error)

    def remove(self, event: gr.EventData, request: gr.Request) -> Values:
        """Delete a conversation; if it is the one shown, the newest other one takes its place."""
        try:
            thread_id = wire.read(event.payload, "thread")
            self._workspace.delete(request.username, thread_id)
            history = self._history(request)
            if event.payload.get("current") != thread_id:
                return history, gr.skip()
            newest = history["threads"][0]["id"] if history["threads"] else None
            return history, {**self._thread(request, newest), "removed": True}
        except Exception as error:  # noqa: BLE001 - edge
            return self._history(request), _error(error)

    def ask(self, event: gr.EventData, request: gr.Request) -> Iterator[Values]:
        """Stream the answer to a question."""
        run = ""
        try:
            payload = event.payload
            run = wire.read(payload, "run")
            thread_id = wire.read(payload, "thread") if payload.get("thread") is not None else None
            question = wire.read(payload, "question", longest=wire.LONGEST_QUESTION)
            views = [shown_from_json(one) for one in wire.read_list(payload, "views")]
            language = wire.read_language(payload)
            updates = self._workspace.ask(
                request.username, thread_id, question, views, _run_key(request, run), language
            )
            yield from self._follow(request, run, updates)
        except Exception as error:  # noqa: BLE001 - edge
            yield self._after(error, request), _error(error, run, _named(event))

    def again(self, event: gr.EventData, request: gr.Request) -> Iterator[Values]:
        """Stream another answer to a stored question."""
        run = ""
        try:
            payload = event.payload
            run = wire.read(payload, "run")
            updates = self._workspace.regenerate(
                request.username,
                wire.read(payload, "thread"),
                wire.read(payload, "turn"),
                _run_key(request, run),
            )
            yield from self._follow(request, run, updates)
        except Exception as error:  # noqa: BLE001 - edge
            yield self._after(error, request), _error(error, run, _named(event))

    def edit(self, event: gr.EventData, request: gr.Request) -> Iterator[Values]:
        """Ask a stored question differently, in a branch; the branch is shown, then its answer streams."""
        run = ""
        try:
            payload = event.payload
            run = wire.read(payload, "run")
            updates = self._workspace.edit(
                request.username,
                wire.read(payload, "thread"),
                wire.read(payload, "turn"),
                wire.read(payload, "question", longest=wire.LONGEST_QUESTION),
                _run_key(request, run),
            )
            for position, (history, message) in enumerate(self._follow(request, run, updates)):
                if position == 0:
                    yield history, {**self._thread(request, message["thread"]), "run": run}
                yield gr.skip(), message
        except Exception as error:  # noqa: BLE001 - edge
            yield self._after(error, request), _error(error, run, _named(event))

    def twin(self, event: gr.EventData, request: gr.Request) -> Iterator[Values]:
        """Stream an answer once more in the other language."""
        run = ""
        try:
            payload = event.payload
            run = wire.read(payload, "run")
            updates = self._workspace.translate(
                request.username,
                wire.read(payload, "thread"),
                wire.read(payload, "answer"),
                _run_key(request, run),
            )
            yield from self._follow(request, run, updates)
        except Exception as error:  # noqa: BLE001 - edge
            yield self._after(error, request), _error(error, run, _named(event))

    def stop(self, event: gr.EventData, request: gr.Request) -> None:
        """Stop a running answer; it ends by itself with what it has said so far.

        A page that did not ask names the answer, which it sees growing, instead of the run.
        """
        if isinstance(event.payload, dict) and "answer" in event.payload:
            key = wire.read(event.payload, "answer")
        else:
            key = _run_key(request, wire.read(event.payload, "run"))
        self._workspace.stop(request.username, key)

    def _follow(self, request: gr.Request, run: str, updates: Iterator[AnswerUpdate]) -> Iterator[Values]:
        """Pass updates on; each carries its whole turn, so that one the browser skips loses nothing.

        A page that is loaded again or loses its connection ends this, but not the answer.
        """
        try:
            yield from self._passed_on(request, run, updates)
        except GeneratorExit:
            self._workspace.go_on(updates)
            raise

    def _passed_on(self, request: gr.Request, run: str, updates: Iterator[AnswerUpdate]) -> Iterator[Values]:
        turn: dict[str, Any] | None = None
        turns = 0
        for update in updates:
            begins = turn is None
            if turn is None:
                thread = self._workspace.thread(request.username, update.thread_id)
                said = self._workspace.curation.judgements(request.username, update.thread_id)
                turns = len(thread.turns)
                turn = next(wire.turn_value(one, said) for one in thread.turns if one.id == update.turn_id)
            turn = wire.updated(turn, update)
            message = {
                "kind": "update",
                "run": run,
                "thread": update.thread_id,
                "turn": turn,
                "turns": turns,
            }
            yield self._history(request) if begins else gr.skip(), message

    def _after(self, error: Exception, request: gr.Request) -> Any:
        """Value of the history column after an error: a conversation deleted elsewhere leaves the list."""
        return self._history(request) if isinstance(error, ThreadNotFoundError) else gr.skip()

    def _history(self, request: gr.Request) -> dict[str, Any]:
        page = self._workspace.curation.threads(request.username)
        return {
            "serial": time.monotonic_ns(),
            "threads": wire.threads_value(page.threads),
            "more": page.more,
        }

    def _thread(self, request: gr.Request, thread_id: str | None, *, again: bool = False) -> dict[str, Any]:
        value = None
        if thread_id:
            thread = self._workspace.curation.show(request.username, thread_id, again=again)
            value = wire.thread_value(
                thread, self._workspace.curation.judgements(request.username, thread_id)
            )
        return {"kind": "thread", "serial": time.monotonic_ns(), "thread": value}


def _run_key(request: gr.Request, run: str) -> str:
    """One run of one tab: two tabs of one owner cannot stop each other's answers by accident."""
    return f"{request.session_hash}:{run}"


def _named(event: gr.EventData) -> Any:
    """Conversation a payload names, which may be anything."""
    return event.payload.get("thread") if isinstance(event.payload, dict) else None


def _error(error: Exception, run: str = "", thread: Any = None) -> dict[str, Any]:
    """Value of the chat that says an error; ``gone`` names the conversation if it is not there any more."""
    gone = thread if isinstance(error, ThreadNotFoundError) else None
    return {
        "kind": "error",
        "serial": time.monotonic_ns(),
        "run": run,
        "error": wire.both(error),
        "gone": gone,
    }
