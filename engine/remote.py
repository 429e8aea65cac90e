"""A model on a server: vLLM, SGLang, ``transformers serve``, llama.cpp, any that speaks OpenAI's protocol.

In: messages. Out: the same events as from a model in this process. Connections live in one event loop of
their own, so that closing a stream closes its connection at once, which stops the work on the server, and
so that a reader can stop while the server has not said anything yet. The protocol stands in
:mod:`engine.chat_protocol`.
"""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import BackendUnavailableError
from engine.event_loop import LoopThread
from engine.grounding import dependence, is_measurable, with_blanks
from engine.messages import Finished, Message, Queued, Reading, Started
from engine.prompt import check_order
from engine.remote_answer import Question
from engine.remote_scores import NoScoresError, UnscoredError, prompt_length, server_scores
from engine.server import Server, ServerLimits, checked_address

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from engine.grounding import ImageDependence
    from engine.messages import Event, GenerationOptions

__all__ = ["RemoteBackend", "ServerLimits"]

_LOG = logging.getLogger("bimedix2.engine")
Result = TypeVar("Result")
_POLL_S = 0.25


class RemoteBackend:
    """Answers with a model on a server.

    Parameters
    ----------
    url : str
        Address of the server, with or without ``/v1``, e.g. ``http://127.0.0.1:8000``.
    model : str
        Name of the model on the server; :meth:`models` lists them.
    api_key : str, optional
        Sent as a bearer token; never logged and not part of ``repr``.
    allow_plain_http : bool
        Allow ``http`` to another machine. Pictures and questions then travel unencrypted.
    display_name : str, optional
        What answers, for the page and the history; the model's name by default.
    limits : ServerLimits, optional
        Patience and tries.

    Raises
    ------
    ServerAddressError
        If the address is not http or https, holds a user's name or key, or would send pictures unencrypted.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        allow_plain_http: bool = False,
        display_name: str | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        address = checked_address(url, allow_plain_http=allow_plain_http)
        self._server = Server(address, model, api_key, limits or ServerLimits())
        self._name = display_name or model
        self._loop = LoopThread()
        self.no_scores = ""
        """Why answers of this server are not measured, in English; empty until it has shown it."""

    def __repr__(self) -> str:
        return f"RemoteBackend({str(self._server.address)!r}, {self._server.model!r})"

    @property
    def name(self) -> str:
        """What answers."""
        return self._name

    @property
    def reason(self) -> str:
        """Where it computes, in one English sentence."""
        return f"computed by the server {self._server.name}"

    def models(self) -> tuple[str, ...]:
        """Names of the server's models.

        Raises
        ------
        ServerError
            If the server cannot be asked.
        """
        try:
            return self._loop.run(self._server.models()).result()
        except CancelledError as error:
            raise BackendUnavailableError(reason="it was closed") from error

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Answer; see :class:`engine.backend.Backend`.

        While the server has not taken the question the place is 1; while it reads the prompt, a
        ``Reading`` of 0 tokens comes again and again. Counts are estimates until the server tells them.

        Raises
        ------
        ConversationShapeError
            Before the server is asked.
        PromptTooLongError
            If the server says so; before the answer begins.
        ServerError
            Its subclasses name the server and what to do.
        """
        self._loop.check_open()
        check_order(messages, "user")
        question = Question(self._server, tuple(messages), options)
        task = self._loop.run(question.answer())
        waiting: Event = Queued(1)
        try:
            while True:
                said = question.heard(_POLL_S)
                if isinstance(said, BaseException):
                    raise said
                if isinstance(said, Started):
                    waiting = Reading(0, said.prompt_tokens)
                if said is not None:
                    yield said
                    if isinstance(said, Finished):
                        return
                    continue
                self._loop.check_open()
                if not question.began:
                    yield waiting
        finally:
            task.cancel()

    def image_dependence(
        self,
        messages: Sequence[Message],
        stopped: Callable[[], bool] = bool,
        adapter: str | None = None,  # noqa: ARG002  # a server's adapters are models of its own
    ) -> ImageDependence | None:
        """Measure the last answer; see :func:`engine.grounding.measure`.

        The server reads the conversation twice, with the images and with blank ones. It says itself whether
        it gives log-probabilities: once it has not, it is not asked again, and :attr:`no_scores` says why.

        Returns
        -------
        ImageDependence or None
            ``None`` also when the server gives no log-probabilities.

        Raises
        ------
        ServerError
            If it cannot be asked.
        """
        if self.no_scores or not is_measurable(messages):
            return None
        try:
            found: ImageDependence | None = self._until(self._measured(messages), stopped)
        except NoScoresError as error:
            self.no_scores = str(error)
            _LOG.info("The image-dependence meter is off: %s.", error)
            return None
        except UnscoredError as error:
            _LOG.info("An answer's dependence on its image was not measured: %s.", error)
            return None
        return found

    async def _measured(self, messages: Sequence[Message]) -> ImageDependence:
        before = await prompt_length(self._server, messages[:-1])
        seen = await server_scores(self._server, messages, before)
        blind = await server_scores(self._server, with_blanks(messages), before)
        if seen.starts != blind.starts:
            raise UnscoredError("the server reads a blank image as another number of tokens")
        differences = [a - b for a, b in zip(seen.values, blind.values, strict=True)]
        return dependence(messages[-1].text, seen.starts, differences)

    def gives_scores(self) -> bool:
        """Ask the server, with a few words and no image, whether it gives log-probabilities.

        Raises
        ------
        ServerError
            If it cannot be asked.
        """
        trial = (Message.of("user", "Say yes."), Message.of("assistant", "yes"))

        async def scored() -> None:
            await server_scores(self._server, trial, await prompt_length(self._server, trial[:1]))

        try:
            self._until(scored(), bool)
        except (NoScoresError, UnscoredError) as error:
            self.no_scores = str(error)
            return False
        return True

    def _until(self, work: Coroutine[Any, Any, Result], stopped: Callable[[], bool]) -> Result | None:
        """Wait for work in the loop; ``None`` once nobody wants it, which closes its connection."""
        task = self._loop.run(work)
        while True:
            try:
                return task.result(_POLL_S)
            except CancelledError as error:
                raise BackendUnavailableError(reason="it was closed") from error
            except TimeoutError:
                if task.done():
                    raise
                if stopped():
                    task.cancel()
                    return None

    def close(self) -> None:
        """Close all connections, which stops what runs on the server."""
        self._loop.close()
