"""The demonstration model: first token, tokens a second, follow-ups; against transformers' own generate."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pydicom.data

from app.model import DEMONSTRATION_FOLDER
from engine.checkpoint import LoadOptions, load
from engine.local import LocalBackend
from engine.messages import Delta, Finished, GenerationOptions, ImagePart, Message
from tests.benchmarks.plain import generate_speed
from tests.benchmarks.table import Row
from viewers.intake import open_image
from viewers.view import default_view, render

if TYPE_CHECKING:
    from engine.checkpoint import LoadedModel

QUESTIONS = ("Write a report about this image.", "اكتب تقريرًا عن هذه الصورة.")


def run() -> tuple[str, list[Row]]:
    """Measure with pydicom's CT slice, in both languages."""
    loaded = load(DEMONSTRATION_FOLDER, LoadOptions(device="cpu", dtype="float32", threads=1))
    image = open_image(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    part = ImagePart(render(image, default_view(image)))
    rows = [row for question in QUESTIONS for row in _rows(loaded, part, question)]
    return "Demonstration model on the CPU", rows


def _rows(loaded: LoadedModel, image: ImagePart, question: str) -> list[Row]:
    messages = [Message.of("user", image, question)]
    first: list[float] = []
    follow_up: list[float] = []
    ours: list[float] = []
    plain: list[float] = []
    for _ in range(6):
        backend = LocalBackend(loaded)
        finished, text = _answer(backend, messages)
        first.append(finished.timings.first_token_s or 0.0)
        decoding = finished.timings.total_s - first[-1]
        ours.append((finished.usage.completion_tokens - 1) / decoding)
        again = [*messages, Message.of("assistant", text), Message.of("user", question)]
        follow_up.append(_answer(backend, again)[0].timings.first_token_s or 0.0)
        plain.append(generate_speed(loaded, messages, finished.usage.completion_tokens))
    language = "Arabic" if question[0] > "\u0600" else "English"
    median = statistics.median
    return [
        Row(f"time to first token, {language}, image included", median(first[1:]), "s"),
        Row(f"time to first token of a follow-up, {language}", median(follow_up[1:]), "s"),
        Row(
            f"decoding, {language}",
            median(ours[1:]),
            "tokens/s",
            median(plain[1:]),
            "generate",
            more_is_better=True,
        ),
    ]


def _answer(backend: LocalBackend, messages: list[Message]) -> tuple[Finished, str]:
    events = list(backend.stream(messages, GenerationOptions(max_new_tokens=128)))
    finished = events[-1]
    assert isinstance(finished, Finished)
    return finished, "".join(event.text for event in events if isinstance(event, Delta))
