"""What travels between the page and the server: plain values out, checked values in.

Everything that comes from the browser is untrusted: :func:`read` accepts what the page sends and
refuses the rest, and views are read by :meth:`viewers.view.View.from_json`. Nothing here draws, stores
or answers.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from app.errors import user_text
from i18n.catalogue import LOCALES, Catalogue
from i18n.parity import differences
from i18n.text import isolate_measurements
from viewers.deepzoom import deep_zoom
from viewers.slide_view import whole_slide
from viewers.view import default_view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.answer import AnswerUpdate
    from app.history.records import Answer, Feedback, Language, SearchHit, Thread, ThreadSummary, Turn
    from viewers.findings import Finding
    from viewers.image import Image
    from viewers.slide import Slide

__all__ = [
    "LONGEST_QUESTION",
    "both",
    "hit_value",
    "image_value",
    "read",
    "read_language",
    "read_list",
    "readable",
    "slide_value",
    "thread_value",
    "threads_value",
    "turn_value",
    "updated",
]

LONGEST_QUESTION = 8000
"""Characters of a question; about what fits beside an image in a context of 4096 tokens."""
_LONGEST_ID = 64
_MOST_VIEWS = 32
"""Views of one question; the model's context holds far fewer pictures."""


def both(error: BaseException) -> dict[str, str]:
    """Sentence about an error in every language, so that a switch of language reaches it too."""
    return {locale: user_text(error, locale) for locale in LOCALES}


def read(payload: Any, name: str, *, longest: int = _LONGEST_ID) -> str:
    """Text of a named entry.

    Raises
    ------
    ValueError
        If it is missing, empty, too long or no text. Only a page that was tampered with sends that.
    """
    value = payload.get(name) if isinstance(payload, dict) else None
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise ValueError(f"expected 1 to {longest} characters as {name!r}, found {type(value).__name__}")
    return value


def read_list(payload: Any, name: str, *, most: int = _MOST_VIEWS) -> list[Any]:
    """Entries of a named list, each still untrusted; a missing one is empty.

    Raises
    ------
    ValueError
        If it is no list or too long. Only a page that was tampered with sends that.
    """
    value = payload.get(name, []) if isinstance(payload, dict) else None
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"expected a list of at most {most} as {name!r}, found {type(value).__name__}")
    return value


def read_language(payload: Any) -> Language | None:
    """Language named by a payload; ``None`` if it names none.

    Raises
    ------
    ValueError
        If it names one the application does not speak.
    """
    value = payload.get("language") if isinstance(payload, dict) else None
    if value not in (None, *LOCALES):
        raise ValueError(f"expected one of {', '.join(LOCALES)} as 'language'")
    return value


def image_value(image: Image) -> dict[str, Any]:
    """Return what the viewer needs before it asks for the first frame."""
    return {
        "digest": image.digest,
        "modality": image.modality,
        "frames": image.frame_count,
        "columns": image.size.width,
        "rows": image.size.height,
        "aspect": image.pixel_aspect,
        "facts": dict(image.facts),
        "study": image.describes.origin.study,
        "patient": image.describes.origin.patient,
        "default_view": default_view(image).to_json(),
        "findings": _findings(image.findings),
    }


def slide_value(slide: Slide) -> dict[str, Any]:
    """Return what the slide viewer needs before it asks for the first tile."""
    zoom, mpp = deep_zoom(slide), slide.mpp
    return {
        "digest": slide.digest,
        "modality": "SM",
        "frames": 1,
        "columns": slide.size.width,
        "rows": slide.size.height,
        "tile": zoom.tile,
        "levels": zoom.levels,
        "mpp": None if mpp is None else {"x": mpp.x, "y": mpp.y, "source": mpp.source},
        "magnification": None if mpp is None else round(mpp.magnification, 1),
        "facts": {},
        "study": None,
        "patient": "",
        "default_view": whole_slide(slide).to_json(),
        "findings": _findings(slide.findings),
    }


def _findings(findings: Sequence[Finding]) -> list[dict[str, str]]:
    catalogue = Catalogue()
    return [
        {locale: catalogue.text(found.key, locale, **readable(found.values)) for locale in LOCALES}
        for found in findings
    ]


def readable(values: Mapping[str, str | float]) -> dict[str, str | int]:
    """Round numbers to what a reader can use: three digits of a step or a width."""
    return {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}


def threads_value(threads: Sequence[ThreadSummary]) -> list[dict[str, Any]]:
    """Conversations for the history column."""
    return [
        {
            "id": one.id,
            "title": isolate_measurements(one.title),
            "updated": one.updated.isoformat(),
            "pinned": one.pinned,
            "tags": one.tags,
            "study": one.study,
            "patient": one.patient,
        }
        for one in threads
    ]


def hit_value(hit: SearchHit) -> dict[str, Any]:
    """Return a hit of the search: its excerpt in pieces, the words found marked."""
    return {
        "number": hit.number,
        "thread": hit.thread_id,
        "title": isolate_measurements(hit.title),
        "turn": hit.turn_id,
        "answer": hit.answer_id,
        "created": hit.created.isoformat(),
        "pieces": _pieces(hit.excerpt, hit.marks),
        "cut": hit.is_cut,
    }


def _pieces(text: str, marks: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Cut a text at its marks; measurements are isolated in the whole, wherever a mark cuts them."""
    shown = isolate_measurements(text)
    places, at = [], 0
    for character in text:
        at = shown.index(character, at)  # only control characters were added
        places.append(at)
        at += 1
    cuts = [0, *(place for mark in marks for place in mark), len(text)]
    edges = [places[cut] if cut < len(places) else len(shown) for cut in cuts]
    edges[0] = 0
    pieces = [(shown[start:end], index % 2 == 1) for index, (start, end) in enumerate(pairwise(edges))]
    return [{"text": piece, "marked": marked} for piece, marked in pieces if piece]


def thread_value(thread: Thread, judgements: Mapping[str, Feedback]) -> dict[str, Any]:
    """Return one conversation, whole, with what was said of its answers."""
    return {
        "id": thread.id,
        "title": isolate_measurements(thread.title),
        "language": thread.answer_language,
        "patient": thread.patient,
        "turns": [turn_value(turn, judgements) for turn in thread.turns],
    }


def turn_value(turn: Turn, judgements: Mapping[str, Feedback]) -> dict[str, Any]:
    """Return one question with its views and answers."""
    texts = {answer.id: answer.text for answer in turn.answers}
    return {
        "id": turn.id,
        "question": isolate_measurements(turn.question),
        "views": [stored.view for stored in turn.views],
        "answers": [_answer_value(answer, texts, judgements.get(answer.id)) for answer in turn.answers],
    }


def updated(turn: dict[str, Any], update: AnswerUpdate) -> dict[str, Any]:
    """Return a turn's value with the answer that is being written as it stands now."""
    answer: dict[str, Any] = {
        "id": update.answer_id,
        "text": isolate_measurements(update.text),
        "state": update.state,
        "error": None if update.error is None else both(update.error),
        "left_out": update.turns_left_out,
        "queue": update.place_in_queue,
        "read": update.read_share,
        "seconds": update.seconds_left,
        "loading": update.loading,
        "translation_of": update.translation_of,
        "grounding": None,
        "differences": [],
    }
    if update.translation_of and update.state != "streaming":
        original = next((one["text"] for one in turn["answers"] if one["id"] == update.translation_of), "")
        answer["differences"] = _differences(original, update.text)
    others = [one for one in turn["answers"] if one["id"] != update.answer_id]
    return {**turn, "answers": [*others, answer]}


def _answer_value(answer: Answer, texts: Mapping[str, str], judgement: Feedback | None) -> dict[str, Any]:
    original = texts.get(answer.translation_of or "")
    is_written = answer.state != "streaming"
    return {
        "id": answer.id,
        "text": isolate_measurements(answer.text),
        "state": answer.state,
        "error": _stored_error(answer),
        "left_out": 0,
        "translation_of": answer.translation_of,
        "grounding": answer.grounding,
        "differences": _differences(original, answer.text) if original and is_written else [],
        "judgement": judgement
        and {"reasons": judgement.reasons, "text": isolate_measurements(judgement.text)},
    }


def _differences(original: str, text: str) -> list[dict[str, Any]]:
    """Return what a translation changed that it must not; found anew each time, so nothing can go stale."""
    return [asdict(one) for one in differences(original, text)]


def _stored_error(answer: Answer) -> dict[str, str] | None:
    if answer.error_key is None:
        return None
    values = answer.error_values or {}
    try:
        return {locale: Catalogue().text(answer.error_key, locale, **values) for locale in LOCALES}
    except LookupError:  # written by a version whose catalogue had other sentences
        return None
