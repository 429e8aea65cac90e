"""One turn: view and text in, a stored and streamed answer out.

:class:`Workspace` ties the history, the opened images and the backend together. It owns three rules:

- what is shown was stored before: the question before the model starts, each piece of the answer before
  it is yielded, its end state last;
- the model is given exactly ``render(image, view)``, the pixels the page shows;
- every image and thread has an owner, and somebody else's look the same as missing ones.

It knows nothing of pages or HTTP.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import OrderedDict
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from app.curation_service import CurationService
from app.errors import AppError, ImageNotFoundError, NotFoundError, TurnNotFoundError
from app.history.store import HistoryStore
from app.model import PreparedBackend, open_backend
from engine.errors import EngineError, PromptTooLongError
from engine.messages import Delta, Finished, GenerationOptions, ImagePart, Message, Queued, Reading, TextPart
from i18n.text import strip_controls
from viewers.errors import ViewerError
from viewers.limits import Limits
from viewers.shown import draw, shown_from_json
from viewers.store import load as load_image
from viewers.worker import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from app.history.records import EndState, Thread, ThreadSummary, Turn
    from app.model import ModelInfo
    from app.settings import Settings
    from engine.backend import Backend
    from engine.messages import Event
    from viewers.image import Image
    from viewers.shown import Shown

__all__ = ["AnswerUpdate", "Workspace"]

_LOG = logging.getLogger("bimedix2.session")
_UPDATE_INTERVAL_S = 0.125
"""Eight updates a second: what a reader notices, and what a page can draw in a long conversation."""
_RETRY_TEMPERATURE, _RETRY_TOP_P = 0.6, 0.9
"""Sampling of a regenerated answer: the values the checkpoints' own generation_config.json gives."""
_OPEN_IMAGES = 16
"""Images kept open per process; their pixels are memory-mapped, so this bounds file handles, not memory."""


@dataclass(frozen=True, slots=True)
class AnswerUpdate:
    """An answer as it stands now; everything in it is in the database already."""

    thread_id: str
    turn_id: str
    answer_id: str
    text: str
    state: str
    """``streaming`` or an end state: complete, length, stopped, time_limit, failed."""
    place_in_queue: int = 0
    """Above 0 while others are answered first, or while the model still loads."""
    read_share: float = 0.0
    """Share of the prompt the model has read, 0 to 1; of interest until the first text."""
    seconds_left: float | None = None
    """Estimate until the first text, from the pace on this machine; ``None`` when there is none."""
    turns_left_out: int = 0
    """Oldest turns the model was not given, because the conversation no longer fits its context."""
    error: Exception | None = None


class Workspace:
    """The application behind any front end.

    Parameters
    ----------
    settings : Settings
        Where data lies and how answers are bounded.
    store : HistoryStore
        The history; closed with the workspace.
    backend : Backend
        What answers; closed with the workspace.
    model : ModelInfo
        What the front end says about it.
    intake : Intake, optional
        Process in which uploads are read; closed with the workspace.
    """

    def __init__(
        self,
        settings: Settings,
        store: HistoryStore,
        backend: Backend,
        model: ModelInfo,
        intake: Intake | None = None,
    ) -> None:
        self.settings = settings
        self._intake = intake or Intake()
        self.model = model
        self._store = store
        self._backend = backend
        self._stops: dict[tuple[str, str], threading.Event] = {}
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._lock = threading.Lock()
        self._files = threading.Lock()
        """Held while pixels and their record change together: an upload of the very file being deleted
        would otherwise find its folder and lose it a moment later."""
        self.curation = CurationService(settings, store, self._files, _neutral_label)
        """Finding, branching, marking, judging, export and import of conversations."""

    @classmethod
    def open(cls, settings: Settings) -> Workspace:
        """Open history and model; answers a dead process left streaming become ``interrupted``."""
        settings.images_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(settings.uploads_folder, ignore_errors=True)
        settings.uploads_folder.mkdir(parents=True, mode=0o700)
        store = HistoryStore.open(settings.database_path)
        interrupted = store.recover()
        if interrupted:
            _LOG.warning("%d answer(s) were cut off by the end of an earlier process", interrupted)
        try:
            backend, model = open_backend(settings)
        except Exception:
            store.close()
            raise
        return cls(settings, store, backend, model)

    def prepare_model(self, on_loaded: Callable[[str, float], None] | None = None) -> None:
        """Begin loading the model in the background; the first upload need not wait for its process either.

        Parameters
        ----------
        on_loaded : callable, optional
            Called with the reason for device and precision, and the seconds it took.
        """
        self._intake.start()
        if isinstance(self._backend, PreparedBackend):
            self._backend.start(on_loaded)

    def close(self) -> None:
        """Stop running answers, then free the model and the database."""
        with self._lock:
            for stop in self._stops.values():
                stop.set()
        self._backend.close()
        self._intake.close()
        self._store.close()

    # --- images -----------------------------------------------------------------------------------

    def add_upload(self, owner: str, path: Path) -> Image:
        """Read an untrusted file, keep its pixels without identity, and record whose it is.

        A process with limits of memory and time reads it, so that a hostile file ends that process and
        not the page. The file itself is not kept.

        Raises
        ------
        ViewerError
            If it is not an image this application can show.
        """
        limits = Limits(file_bytes=self.settings.max_upload_bytes)
        arrived = self._intake.open(path, self.settings.uploads_folder, limits)
        try:
            image = load_image(arrived)
            folder = self.settings.images_folder / image.digest
            with self._files:
                if not folder.exists():
                    arrived.rename(folder)
                self._store.add_image(owner, image.digest, _neutral_label(image))
        finally:
            shutil.rmtree(arrived, ignore_errors=True)
        return self.image(owner, image.digest)

    def image(self, owner: str, digest: str) -> Image:
        """Open an owner's image.

        Raises
        ------
        ImageNotFoundError
            If there is none of that digest, or it belongs to somebody else.
        """
        self._store.image(owner, digest)
        with self._lock:
            if digest in self._images:
                self._images.move_to_end(digest)
                return self._images[digest]
        try:
            image = load_image(self.settings.images_folder / digest)
        except (OSError, ViewerError) as error:
            _LOG.exception("stored image %s cannot be read", digest[:12])
            raise ImageNotFoundError(found=digest[:12]) from error
        with self._lock:
            self._images[digest] = image
            while len(self._images) > _OPEN_IMAGES:
                self._images.popitem(last=False)
        return image

    def render(self, owner: str, shown: Shown) -> ImagePart:
        """Draw what is on screen, as the model is given it."""
        return ImagePart(draw(shown, lambda digest: self.image(owner, digest)))

    # --- history ----------------------------------------------------------------------------------

    def threads(self, owner: str, limit: int = 100) -> Sequence[ThreadSummary]:
        """List an owner's conversations, newest first."""
        return self._store.threads(owner, limit)

    def thread(self, owner: str, thread_id: str) -> Thread:
        """Load one conversation with all turns and answers."""
        return self._store.load(owner, thread_id)

    def rename(self, owner: str, thread_id: str, title: str) -> None:
        """Give a conversation another title."""
        self._store.rename(owner, thread_id, title)

    def delete(self, owner: str, thread_id: str) -> None:
        """Delete a conversation, and the pixels nothing else refers to."""
        with self._files:
            for digest in self._store.delete(owner, thread_id):
                with self._lock:
                    self._images.pop(digest, None)
                shutil.rmtree(self.settings.images_folder / digest, ignore_errors=True)

    # --- answering --------------------------------------------------------------------------------

    def ask(
        self, owner: str, thread_id: str | None, question: str, views: Sequence[Shown], run_key: str
    ) -> Iterator[AnswerUpdate]:
        """Store a question and stream its answer.

        Parameters
        ----------
        thread_id : str or None
            ``None`` begins a new conversation.
        views : sequence of Shown
            What the question is about; views the conversation was given last are not given again.
        run_key : str
            Names this run for :meth:`stop`.

        Yields
        ------
        AnswerUpdate
            At most eight a second; the last one has an end state. Closing the iterator stops the model
            and keeps the text.
        """
        earlier = self._store.load(owner, thread_id).turns if thread_id else ()
        fresh = _not_shown_last(earlier, views)
        stored = [(view.digests, view.to_json(), self.render(owner, view).digest) for view in fresh]
        text = strip_controls(question).strip()
        thread_id, turn_id, answer_id = self._store.begin_turn(
            owner, thread_id, text, stored, self._backend.name
        )
        yield from self._answer(owner, thread_id, turn_id, answer_id, run_key)

    def regenerate(self, owner: str, thread_id: str, turn_id: str, run_key: str) -> Iterator[AnswerUpdate]:
        """Answer a stored turn once more; its earlier answers are kept.

        Somebody who asks again wants another answer, so this one is sampled, with a new seed each time.
        """
        _until(self._store.load(owner, thread_id).turns, turn_id)
        answer_id = self._store.begin_answer(owner, turn_id, self._backend.name)
        yield from self._answer(owner, thread_id, turn_id, answer_id, run_key)

    def edit(
        self, owner: str, thread_id: str, turn_id: str, question: str, run_key: str
    ) -> Iterator[AnswerUpdate]:
        """Ask a stored turn differently, in a branch of what came before it; the original stays as it is.

        Yields
        ------
        AnswerUpdate
            As :meth:`ask`; ``thread_id`` and ``turn_id`` are those of the branch.
        """
        text = strip_controls(question).strip()
        branch, new_turn, answer_id = self._store.edit(owner, thread_id, turn_id, text, self._backend.name)
        yield from self._answer(owner, branch, new_turn, answer_id, run_key)

    def stop(self, owner: str, run_key: str) -> bool:
        """Stop a running answer within one token; ``False`` if none runs under that key."""
        with self._lock:
            stop = self._stops.get((owner, run_key))
        if stop is not None:
            stop.set()
        return stop is not None

    def _answer(
        self, owner: str, thread_id: str, turn_id: str, answer_id: str, run_key: str
    ) -> Iterator[AnswerUpdate]:
        run = _Run(self._store, thread_id, turn_id, answer_id)
        with self._stoppable(owner, run_key) as stop:
            try:
                yield run.update()
                turns = _until(self._store.load(owner, thread_id).turns, turn_id)
                yield from self._stream(owner, turns, run, stop)
            except GeneratorExit:
                with suppress(NotFoundError):
                    run.finish("stopped")
                raise
            except Exception as error:  # noqa: BLE001  # edge: stored with the turn, logged and shown
                if not isinstance(error, EngineError | AppError):
                    _LOG.exception("the answer failed")
                yield run.fail(error)

    def _stream(
        self, owner: str, turns: Sequence[Turn], run: _Run, stop: threading.Event
    ) -> Iterator[AnswerUpdate]:
        """Ask the backend, leaving out oldest turns until the conversation fits."""
        attempts = sum(answer.translation_of is None for answer in turns[-1].answers)
        options = self._options(attempts)
        for left_out in range(len(turns)):
            events = self._backend.stream(self._messages(owner, turns, left_out), options)
            run.turns_left_out = left_out
            try:
                with closing(events):
                    yield from run.follow(events, stop)
            except PromptTooLongError:
                # raised before any computing and before any update
                if left_out == len(turns) - 1:
                    raise
            else:
                return

    def _options(self, attempts: int) -> GenerationOptions:
        again = attempts > 1
        return GenerationOptions(
            max_new_tokens=self.settings.max_new_tokens,
            temperature=max(self.settings.temperature, _RETRY_TEMPERATURE if again else 0.0),
            top_p=min(self.settings.top_p, _RETRY_TOP_P) if again else self.settings.top_p,
            seed=attempts,
            time_limit_s=self.settings.time_limit_s or None,
        )

    def _messages(self, owner: str, turns: Sequence[Turn], left_out: int) -> list[Message]:
        """Build the conversation the model is given.

        The image shown last before the kept turns goes in front of them, so that a long conversation
        never loses the picture it is about.
        """
        carried = _last_views(turns[:left_out])
        messages: list[Message] = []
        for turn in turns[left_out:]:
            reply = _reply(turn)
            is_last = turn is turns[-1]
            if not is_last and not reply:
                # a question that was never answered would stand where an answer belongs
                carried = [shown_from_json(item.view) for item in turn.views] or carried
                continue
            views = [shown_from_json(item.view) for item in turn.views] or carried
            carried = []
            images = [self.render(owner, view) for view in views]
            messages.append(Message("user", (*images, TextPart(turn.question))))
            if not is_last:
                messages.append(Message.of("assistant", reply))
        return messages

    @contextmanager
    def _stoppable(self, owner: str, run_key: str) -> Iterator[threading.Event]:
        stop = threading.Event()
        with self._lock:
            self._stops[owner, run_key] = stop
        try:
            yield stop
        finally:
            with self._lock:
                if self._stops.get((owner, run_key)) is stop:
                    del self._stops[owner, run_key]


class _Run:
    """One answer on its way into the database and to the reader, in that order."""

    def __init__(self, store: HistoryStore, thread_id: str, turn_id: str, answer_id: str) -> None:
        self._store = store
        self._ids = (thread_id, turn_id, answer_id)
        self._pieces: list[str] = []
        self._finished = False
        self.turns_left_out = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def update(self, state: str = "streaming", **more: Any) -> AnswerUpdate:
        return AnswerUpdate(*self._ids, self.text, state, turns_left_out=self.turns_left_out, **more)

    def follow(self, events: Iterator[Event], stop: threading.Event) -> Iterator[AnswerUpdate]:
        """Store and pass on events, joined to a pace a page can draw; the first piece goes at once."""
        shown_at = 0.0
        for event in events:
            if isinstance(event, Finished):
                yield self.finish(event.reason, {**asdict(event.usage), **asdict(event.timings)})
                return
            if isinstance(event, Delta):
                self._pieces.append(event.text)
            if stop.is_set():
                yield self.finish("stopped")
                return
            if isinstance(event, Queued | Reading) or time.monotonic() - shown_at >= _UPDATE_INTERVAL_S:
                self._store.grow(self._ids[2], self.text)
                yield self.update(**_progress(event))
                shown_at = time.monotonic() if self._pieces else 0.0
        raise EngineError(reason="the backend ended without a final event")

    def finish(self, state: EndState, usage: dict[str, object] | None = None) -> AnswerUpdate:
        if not self._finished:
            self._finished = True
            self._store.finish(self._ids[2], self.text, state, usage=usage)
        return self.update(state)

    def fail(self, error: Exception) -> AnswerUpdate:
        """Store why the answer ended; one deleted meanwhile has nowhere to be stored."""
        known = isinstance(error, EngineError | ViewerError | AppError)
        key, values = (error.key, error.values) if known else ("app.unexpected", {})  # type: ignore[attr-defined]
        with suppress(NotFoundError):
            self._store.finish(
                self._ids[2],
                self.text,
                "failed",
                error_key=key,
                error_values={name: str(value) for name, value in values.items()},
            )
        return self.update("failed", error=error)


def _progress(event: Event) -> dict[str, Any]:
    """Tell how far the work is before the first text."""
    if isinstance(event, Queued):
        return {"place_in_queue": event.place}
    if isinstance(event, Reading):
        share = event.tokens_read / event.prompt_tokens
        return {"read_share": share, "seconds_left": event.seconds_left}
    return {}


def _neutral_label(image: Image) -> str:
    """Name an image by what it is, never by a file name or a header text that may hold a patient's name."""
    part = image.facts.get("BodyPartExamined", "")
    return " ".join(piece for piece in (image.modality or image.kind.upper(), part.title()) if piece)


def _until(turns: Sequence[Turn], turn_id: str) -> Sequence[Turn]:
    """Cut the turns behind the one being answered."""
    for index, turn in enumerate(turns):
        if turn.id == turn_id:
            return turns[: index + 1]
    raise TurnNotFoundError(found=turn_id)


def _reply(turn: Turn) -> str:
    """Text the conversation goes on from: the newest answer that has any and is no translation."""
    said = (answer.text for answer in reversed(turn.answers) if answer.translation_of is None)
    return next((text for text in said if text), "")


def _last_views(turns: Sequence[Turn]) -> list[Shown]:
    for turn in reversed(turns):
        if turn.views:
            return [shown_from_json(item.view) for item in turn.views]
    return []


def _not_shown_last(turns: Sequence[Turn], views: Sequence[Shown]) -> list[Shown]:
    """Keep views the conversation was not just given: a picture twice costs context and says nothing."""
    return [] if list(views) == _last_views(turns) else list(views)
