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
from collections import OrderedDict, deque
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

from app.adapter_choice import AdapterChoice
from app.answer import AnswerUpdate, Run, Stop
from app.conversation import answer_in, messages, not_shown_last, translation, until
from app.curation_service import CurationService
from app.errors import AppError, ImageNotFoundError, NotFoundError, PicturesTooManyError
from app.grounding_service import GroundingService
from app.history.lock import FilesLock
from app.history.store import HistoryStore
from app.model import PreparedBackend, open_backend
from app.pixels import load_pixels, put_pixels
from app.prompts import PromptBook
from app.pseudonym_key import owner_key
from app.quota import check_quota
from app.reading_pace import ReadingPace, picture_tokens, prompt_limit
from app.slide_words import slide_words
from app.slides_service import SlidesService
from app.studies_service import StudiesService
from engine.errors import EngineError, PromptTooLongError
from engine.messages import GenerationOptions, ImagePart
from i18n.text import strip_controls, visual_order
from viewers.errors import ViewerError
from viewers.image import Origin
from viewers.limits import Limits
from viewers.shown import draw
from viewers.slide_view import SlideView, describe_slide_view
from viewers.store import load as load_image
from viewers.worker import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from app.history.records import Language, Thread, ThreadSummary
    from app.model import ModelInfo
    from app.settings import Settings
    from engine.backend import Backend
    from engine.messages import Message
    from viewers.image import Image
    from viewers.shown import Shown
    from viewers.slide import Slide

__all__ = ["AnswerUpdate", "Workspace"]

_LOG = logging.getLogger("bimedix2.session")
_RETRY_TEMPERATURE, _RETRY_TOP_P = 0.6, 0.9
"""Sampling of a regenerated answer: the values the checkpoints' own generation_config.json gives."""
_SHORT_QUESTION = 2000
"""Bytes of words that are not why a prompt is too long, where it holds several pictures."""
_LAST_TOKEN_S = 5.0
"""How long the end of the application waits for an answer that was told to stop."""
_OPEN_IMAGES = 16
"""Images kept open per process; their pixels are memory-mapped, so this bounds file handles, not memory."""


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
        self._intake = intake or Intake(visual_order=visual_order)
        self.model = model
        self._store = store
        self._backend = backend
        self._stops: dict[tuple[str, str], Stop] = {}
        self._unwatched: list[threading.Thread] = []
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._lock = threading.Lock()
        self._files = FilesLock(settings.folder / ".images.lock")
        """Held while pixels and their record change together: an upload of the very file being deleted
        would otherwise find its folder and lose it a moment later."""
        self.slides = SlidesService(settings)
        """Whole slides."""
        self.curation = CurationService(settings, store, self._files, _neutral_label, slides=self.slides)
        """Finding, branching, marking, judging, export and import of conversations."""
        self.prompts = PromptBook(store)
        """Quick questions."""
        self.studies = StudiesService(settings, store, self._files, _neutral_label, slides=self.slides)
        """Studies on their way in."""
        self.adapters = AdapterChoice(model.adapters)
        """Which adapter answers whom."""
        self.grounding = GroundingService(
            store, backend, self.pictures, self._adapter_that_answered, self.words
        )
        """How much an answer depends on its image."""
        self._pace = ReadingPace(settings.folder / "reading-pace.json")
        self._prompt_limit = prompt_limit(model.source)
        self._picture_tokens = picture_tokens(model.source)

    @property
    def history(self) -> HistoryStore:
        """The history of all owners, for what looks beyond one: accounts and reviews."""
        return self._store

    @classmethod
    def open(cls, settings: Settings) -> Workspace:
        """Open history and model; answers a dead process left streaming become ``interrupted``."""
        settings.images_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(settings.uploads_folder, ignore_errors=True)
        settings.uploads_folder.mkdir(parents=True, mode=0o700)
        store = HistoryStore.open(settings.history)
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
        """Interrupt running answers, then free the model and the database."""
        with self._lock:
            for stop in self._stops.values():
                stop.state = "interrupted"
                stop.set()
            unwatched = list(self._unwatched)
        for answer in unwatched:
            answer.join(_LAST_TOKEN_S)
        self.grounding.close()
        self._backend.close()
        self._intake.close()
        self.studies.close()
        self.slides.close()
        self._store.close()
        if not self.settings.uploads_folder.is_relative_to(self.settings.folder):
            shutil.rmtree(self.settings.uploads_folder, ignore_errors=True)  # in memory: given back

    # --- images -----------------------------------------------------------------------------------

    def add_upload(self, owner: str, path: Path) -> Image:
        """Take in a file as :meth:`take_upload` does, and open the image it holds."""
        return self.image(owner, self.take_upload(owner, path))

    def take_upload(self, owner: str, path: Path) -> str:
        """Read an untrusted file, keep its pixels without identity, and record whose it is.

        A process with limits of memory and time reads it, so that a hostile file ends that process and
        not the page. The file itself is not kept.

        Returns
        -------
        str
            Digest of the image or slide.

        Raises
        ------
        ViewerError
            If it is not an image this application can show.
        QuotaError
            If the owner has no room for it.
        """
        limits = Limits(
            file_bytes=self.settings.max_upload_bytes,
            graphics=self.settings.keep_graphics,
            mask_text=self.settings.mask_text,
        )
        uploads = self.settings.uploads_folder
        arrived = self.slides.take(path, uploads)
        label, digest, origin = "SM", arrived.name if arrived else "", Origin()
        if arrived is None:
            arrived = self._intake.open(path, uploads, limits, owner_key(self.settings, owner))
        try:
            if not digest:
                image = load_image(arrived)
                label, digest, origin = _neutral_label(image), image.digest, image.describes.origin
            with self._files:
                check_quota(self.settings, self._store, owner, arrived)
                put_pixels(self.settings, arrived)
                self._store.add_image(
                    owner, digest, label, patient=origin.patient, study=origin.study, opened=True
                )
        finally:
            shutil.rmtree(arrived, ignore_errors=True)
        return digest

    def own(self, owner: str, digest: str) -> None:
        """Make sure an image or slide is the owner's.

        Raises
        ------
        ImageNotFoundError
            If there is none of that digest, or it belongs to somebody else.
        """
        self._store.image(owner, digest)

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
            image = load_pixels(self.settings, digest)
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
        with ExitStack() as borrowed:

            def opened(digest: str) -> Image | Slide:
                self.own(owner, digest)
                if self.slides.has(digest):
                    return borrowed.enter_context(self.slides.borrow(digest))
                return self.image(owner, digest)

            return ImagePart(draw(shown, opened))

    def pictures(self, owner: str, shown: Shown) -> list[ImagePart]:
        """Draw what the model is given of what is on screen: of a slide several, see SlideView.parts."""
        if isinstance(shown, SlideView):
            self.own(owner, shown.slide)
            with self.slides.borrow(shown.slide) as slide:
                return [self.render(owner, part) for part in shown.parts(slide)]
        return [self.render(owner, shown)]

    def words(self, owner: str, shown: Shown, language: str) -> str:
        """Say what the model is told beside the pixels of a slide: magnification, size, order of pictures."""
        if not isinstance(shown, SlideView):
            return ""
        self.own(owner, shown.slide)
        with self.slides.borrow(shown.slide) as slide:
            return slide_words(describe_slide_view(slide, shown), language)

    def reading_seconds(self, owner: str, pictures: int) -> float | None:
        """Seconds this machine takes to read so many pictures; ``None`` before it has read one."""
        return self._pace.seconds(self._answering(owner), pictures)

    def has_room(self, owner: str, pictures: int) -> bool | None:
        """Whether so many pictures surely fit into the model's context; ``None`` while nothing is known."""
        return self._pace.fits(self._answering(owner), pictures, self._prompt_limit)

    def never_has_room(self, owner: str, pictures: int) -> bool:
        """Whether so many pictures surely do not fit into the model's context."""
        each = self._picture_tokens
        return self._pace.never_fits(self._answering(owner), pictures, self._prompt_limit, each)

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
                self.slides.forget(digest)
                shutil.rmtree(self.settings.images_folder / digest, ignore_errors=True)

    # --- answering --------------------------------------------------------------------------------

    def ask(  # noqa: PLR0917 - the parts of one question
        self,
        owner: str,
        thread_id: str | None,
        question: str,
        views: Sequence[Shown],
        run_key: str,
        language: Language | None = None,
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
        language : str, optional
            Fixed language of the answers of a new conversation; else each follows its question.

        Yields
        ------
        AnswerUpdate
            At most eight a second; the last one has an end state. Closing the iterator stops the model
            and keeps the text.
        """
        earlier = self._store.load(owner, thread_id).turns if thread_id else ()
        fresh = not_shown_last(earlier, views)
        stored = [(view.digests, view.to_json(), self.render(owner, view).digest) for view in fresh]
        text = strip_controls(question).strip()
        thread_id, turn_id, answer_id = self._store.begin_turn(
            owner, thread_id, text, stored, self._answering(owner), language
        )
        yield from self._answer(owner, thread_id, turn_id, answer_id, run_key)

    def regenerate(self, owner: str, thread_id: str, turn_id: str, run_key: str) -> Iterator[AnswerUpdate]:
        """Answer a stored turn once more; its earlier answers are kept.

        Somebody who asks again wants another answer, so this one is sampled, with a new seed each time.
        """
        until(self._store.load(owner, thread_id).turns, turn_id)
        answer_id = self._store.begin_answer(owner, turn_id, self._answering(owner))
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
        branch, new_turn, answer_id = self._store.edit(
            owner, thread_id, turn_id, text, self._answering(owner)
        )
        yield from self._answer(owner, branch, new_turn, answer_id, run_key)

    def translate(self, owner: str, thread_id: str, answer_id: str, run_key: str) -> Iterator[AnswerUpdate]:
        """Say an ended answer once more in the other language; the twin is linked to it, and kept.

        The model is given the text alone: nothing of the image can be read into it anew.

        Raises
        ------
        AnswerNotFoundError
            If the conversation holds no such answer of this owner.
        ValueError
            If it is still being written.
        """
        turn, answer = answer_in(self._store.load(owner, thread_id), answer_id)
        twin = self._store.begin_translation(owner, answer_id, self._answering(owner))
        asked = translation(answer.text, "en" if answer.language == "ar" else "ar")
        run = Run(self._store, thread_id, turn.id, twin, answer.translation_of or answer.id)
        yield from self._written(owner, run, run_key, lambda stop: self._translated(owner, asked, run, stop))

    def stop(self, owner: str, run_key: str) -> bool:
        """Stop a running answer within one token; ``False`` if none runs under that key.

        Parameters
        ----------
        run_key : str
            The run's key, or the id of the answer being written.
        """
        with self._lock:
            stop = self._stops.get((owner, run_key))
        if stop is not None:
            stop.set()
        return stop is not None

    def go_on(self, updates: Iterator[AnswerUpdate]) -> None:
        """Let an answer nobody follows any more come to its end: a page that is loaded again finds it whole.

        Parameters
        ----------
        updates : iterator of AnswerUpdate
            What :meth:`ask` and its like gave, followed so far.
        """
        answer = threading.Thread(target=_followed, args=(updates,), name="unwatched-answer", daemon=True)
        with self._lock:
            self._unwatched = [*(one for one in self._unwatched if one.is_alive()), answer]
            answer.start()

    def _answer(
        self, owner: str, thread_id: str, turn_id: str, answer_id: str, run_key: str
    ) -> Iterator[AnswerUpdate]:
        run = Run(self._store, thread_id, turn_id, answer_id)
        return self._written(owner, run, run_key, lambda stop: self._stream(owner, run, stop))

    def _written(
        self, owner: str, run: Run, run_key: str, work: Callable[[Stop], Iterator[AnswerUpdate]]
    ) -> Iterator[AnswerUpdate]:
        """Do the work of an answer; however it ends, its end is stored."""
        self.grounding.stop(owner)
        with self._stoppable(owner, run_key, run.answer_id) as stop:
            try:
                yield run.update()
                yield from work(stop)
            except GeneratorExit:
                with suppress(NotFoundError):
                    run.finish("stopped")
                raise
            except Exception as error:  # noqa: BLE001  # edge: stored with the turn, logged and shown
                if not isinstance(error, EngineError | AppError):
                    _LOG.exception("the answer failed")
                yield run.fail(error)

    def _stream(self, owner: str, run: Run, stop: Stop) -> Iterator[AnswerUpdate]:
        """Ask the backend, leaving out oldest turns until the conversation fits."""
        turns = until(self._store.load(owner, run.thread_id).turns, run.turn_id)
        written = [answer for answer in turns[-1].answers if answer.translation_of is None]
        language = next(answer.language for answer in written if answer.id == run.answer_id)
        options = self._options(owner, len(written))
        for left_out in range(len(turns)):
            asked = messages(
                turns,
                left_out,
                language,
                lambda view: self.pictures(owner, view),
                lambda view, language: self.words(owner, view, language),
            )
            run.turns_left_out = left_out
            try:
                with closing(self._backend.stream(asked, options)) as events:
                    yield from run.follow(events, stop)
                pictures = sum(len(message.images) for message in asked)
                self._pace.note(self._answering(owner), pictures, run.usage)
            except PromptTooLongError as error:
                # raised before any computing and before any update
                pictures = sum(len(message.images) for message in asked)
                values = error.values
                self._pace.refused(self._answering(owner), pictures, values["found"], values["limit"])
                if left_out == len(turns) - 1:
                    if not _are_pictures_alone(error, asked, pictures):
                        raise
                    self._pace.too_many(self._answering(owner), pictures)
                    raise PicturesTooManyError(count=pictures) from error
            else:
                return

    def _translated(self, owner: str, asked: list[Message], run: Run, stop: Stop) -> Iterator[AnswerUpdate]:
        with closing(self._backend.stream(asked, self._options(owner, 1))) as events:
            yield from run.follow(events, stop)

    def _answering(self, owner: str) -> str:
        """Name what answers this owner, as the history keeps it."""
        return self.adapters.label(owner, self._backend.name)

    def _adapter_that_answered(self, label: str) -> str | None:
        return self.adapters.from_label(label, self._backend.name)

    def _options(self, owner: str, attempts: int) -> GenerationOptions:
        again = attempts > 1
        return GenerationOptions(
            max_new_tokens=self.settings.max_new_tokens,
            temperature=max(self.settings.temperature, _RETRY_TEMPERATURE if again else 0.0),
            top_p=min(self.settings.top_p, _RETRY_TOP_P) if again else self.settings.top_p,
            seed=attempts,
            time_limit_s=self.settings.time_limit_s or None,
            first_token_limit_s=self.settings.first_token_limit_s or None,
            adapter=self.adapters.of(owner),
        )

    @contextmanager
    def _stoppable(self, owner: str, *keys: str) -> Iterator[Stop]:
        stop = Stop()
        with self._lock:
            self._stops |= {(owner, key): stop for key in keys}
        try:
            yield stop
        finally:
            with self._lock:
                for key in keys:
                    if self._stops.get((owner, key)) is stop:
                        del self._stops[owner, key]


def _followed(updates: Iterator[AnswerUpdate]) -> None:
    """Take updates to their end; a failure that could not be stored any more is logged."""
    try:
        deque(updates, 0)
    except Exception:  # noqa: BLE001  # edge: nobody is left who could be told
        _LOG.exception("an answer nobody followed failed")


def _are_pictures_alone(error: PromptTooLongError, asked: Sequence[Message], pictures: int) -> bool:
    """Whether several pictures are why a prompt does not fit, and not the words asked about them."""
    words = sum(len(message.text.encode()) for message in asked)  # no fewer than their tokens
    found, limit = error.values["found"], error.values["limit"]
    if pictures < 2:
        return False
    if isinstance(found, int) and isinstance(limit, int) and found - words > limit:
        return True
    return words < _SHORT_QUESTION


def _neutral_label(image: Image) -> str:
    """Name an image by what it is, never by a file name or a header text that may hold a patient's name."""
    part = image.facts.get("BodyPartExamined", "")
    return " ".join(piece for piece in (image.modality or image.kind.upper(), part.title()) if piece)
