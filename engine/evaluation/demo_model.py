"""How well the demonstration model names what held-out pictures show.

Pictures come from a seed that training never draws, wordings from the held-out lists, answers from the
product's own backend (greedy, its prompt renderer, its cache, its own earlier answers as history). An
answer counts only if it equals the true one letter for letter.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.messages import Delta, GenerationOptions, ImagePart, Message
from engine.training.dialogue import Turn, converse
from engine.training.phantoms import Phantom, draw_attributes, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.backend import Backend
    from engine.training.answers import Language

__all__ = ["EVALUATION_SEED", "Outcome", "ask_all", "evaluate", "examine", "shares", "table"]

EVALUATION_SEED = 777_777
_TURNS = 4
_KINDS = ("modality", "body", "lesion", "side", "size", "plane", "contrast", "tone", "quality", "describe")
"""Question types in the order of the table."""
_SQUARE = 1.06
"""Largest ratio of sides that still counts as square."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question put to the model."""

    kind: str
    language: Language
    turn: int
    """1 for the first question of a conversation."""
    square: bool
    lesion: bool
    wanted: str
    found: str

    @property
    def right(self) -> bool:
        """Equal letter for letter, blanks at the ends aside."""
        return self.wanted.strip() == self.found.strip()


def ask_all(backend: Backend, turns: Sequence[Turn], images: Sequence[ImagePart]) -> list[str]:
    """Answers of the model to each turn, with its own answers as history."""
    messages: list[Message] = []
    answers = []
    for turn in turns:
        brought = [images[turn.picture]] if turn.picture is not None else []
        messages.append(Message.of("user", *brought, turn.question))
        events = backend.stream(messages, GenerationOptions(max_new_tokens=160))
        answers.append("".join(event.text for event in events if isinstance(event, Delta)))
        messages.append(Message.of("assistant", answers[-1]))
    return answers


def examine(
    backend: Backend,
    pictures: int,
    *,
    seed: int = EVALUATION_SEED,
    report: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Hold two conversations of four turns, one per language, about each of many held-out pictures."""
    random = Random(seed)
    kinds = _shuffled_kinds(random)
    outcomes: list[Outcome] = []
    for number in range(pictures):
        phantom = render(draw_attributes(random, nothing=0.05), random)
        for language in ("en", "ar"):
            wanted = [next(kinds) for _ in range(_TURNS)]
            turns = converse(
                [phantom.attributes],
                random,
                _TURNS,
                language=language,
                switching=0.0,
                held_out=True,
                kinds=wanted,
            )
            outcomes.extend(_outcomes(backend, phantom, turns))
        if report is not None and (number + 1) % 25 == 0:
            right = sum(outcome.right for outcome in outcomes)
            report(f"{number + 1} pictures, {right / len(outcomes):.3f} of {len(outcomes)} answers exact")
    return outcomes


def _shuffled_kinds(random: Random) -> Iterator[str]:
    """Every type equally often and in every turn, in random order."""
    for _ in itertools.count():
        order = list(_KINDS)
        random.shuffle(order)
        yield from order


def _outcomes(backend: Backend, phantom: Phantom, turns: Sequence[Turn]) -> list[Outcome]:
    height, width = phantom.pixels.shape[:2]
    square = max(height, width) <= _SQUARE * min(height, width)
    found = ask_all(backend, turns, [ImagePart(phantom.pixels)])
    return [
        Outcome(turn.kind, turn.language, place, square, phantom.attributes.lesion, turn.answer, answer)
        for place, (turn, answer) in enumerate(zip(turns, found, strict=True), start=1)
    ]


def shares(outcomes: Sequence[Outcome], *fields: str) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Right answers and questions, grouped by fields of :class:`Outcome`."""
    right: Counter[tuple[Any, ...]] = Counter()
    asked: Counter[tuple[Any, ...]] = Counter()
    for outcome in outcomes:
        key = tuple(getattr(outcome, field) for field in fields)
        asked[key] += 1
        right[key] += outcome.right
    return {key: (right[key], asked[key]) for key in asked}


def _percent(cell: tuple[int, int] | None) -> str:
    return "–" if not cell or not cell[1] else f"{100 * cell[0] / cell[1]:.1f}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown table: exact answers in percent by type, language and turn, and by shape of the picture."""
    by_turn, by_shape = (
        shares(outcomes, "kind", "language", "turn"),
        shares(outcomes, "kind", "language", "square"),
    )
    by_all = shares(outcomes, "kind", "language")
    lines = [
        "| question | language | turn 1 | turn 2 | turn 3 | turn 4 | square | not square | all | asked |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, language in itertools.product(_KINDS, ("en", "ar")):
        cells = [_percent(by_turn.get((kind, language, turn))) for turn in range(1, _TURNS + 1)]
        cells += [_percent(by_shape.get((kind, language, square))) for square in (True, False)]
        whole = by_all.get((kind, language), (0, 0))
        lines.append(f"| {kind} | {language} | {' | '.join(cells)} | {_percent(whole)} | {whole[1]} |")
    total = shares(outcomes)[()]
    lines.append(f"| **all** | | | | | | | | **{_percent(total)}** | {total[1]} |")
    return "\n".join(lines)


def _blank_changes(backend: Backend, pictures: int, seed: int) -> dict[str, float]:
    """How often the answer about a real phantom changes when the picture is blank or noise."""
    random = Random(seed + 1)
    generator = np.random.default_rng(seed)
    changed: Counter[str] = Counter()
    for _ in range(pictures):
        phantom = render(draw_attributes(random, nothing=0.0), random)
        turns = converse([phantom.attributes], random, 1, switching=0.0, held_out=True, kinds=["describe"])
        shown = ask_all(backend, turns, [ImagePart(phantom.pixels)])
        noise = generator.integers(0, 256, phantom.pixels.shape, dtype=np.uint8)
        for name, other in (("blank", np.full_like(phantom.pixels, 127)), ("noise", noise)):
            changed[name] += ask_all(backend, turns, [ImagePart(other)]) != shown
    return {name: changed[name] / pictures for name in ("blank", "noise")}


def evaluate(
    backend: Backend,
    pictures: int,
    *,
    seed: int = EVALUATION_SEED,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Everything that is stated about the model, ready for JSON.

    Parameters
    ----------
    backend : Backend
        Answers greedily.
    pictures : int
        Held-out pictures; eight questions are asked about each.
    seed : int
        Never one of training's.
    report : callable, optional
        Told of the progress.
    """
    outcomes = examine(backend, pictures, seed=seed, report=report)
    right, asked = shares(outcomes)[()]
    lesions = [outcome for outcome in outcomes if outcome.lesion]
    return {
        "seed": seed,
        "pictures": pictures,
        "questions": asked,
        "exact": right / asked,
        "by_kind_and_language": _listed(shares(outcomes, "kind", "language")),
        "by_kind_language_turn": _listed(shares(outcomes, "kind", "language", "turn")),
        "by_language_turn": _listed(shares(outcomes, "language", "turn")),
        "with_lesion_by_kind_and_language": _listed(shares(lesions, "kind", "language")),
        "answer_changes_without_the_picture": _blank_changes(backend, max(10, pictures // 5), seed),
        "table": table(outcomes),
        "mistakes": [{"wanted": one.wanted, "found": one.found} for one in outcomes if not one.right][:20],
    }


def _listed(groups: dict[tuple[Any, ...], tuple[int, int]]) -> dict[str, dict[str, int]]:
    return {
        " ".join(map(str, key)): {"right": right, "asked": asked}
        for key, (right, asked) in sorted(groups.items(), key=lambda item: tuple(map(str, item[0])))
    }
