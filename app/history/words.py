"""Words as the search sees them: one rule for what is stored in the index, asked for and marked.

In: any text. Out: words and where each stands in that text. A word is a run of letters and digits with
their short vowels, written as :func:`i18n.text.normalise` writes it, without the Arabic article and what
is joined before it; other letters lose their accents, and a unit written to its number is a word of its own.
The database never splits or folds anything itself, so what is found is always what
can be marked.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from i18n.text import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "Match",
    "Word",
    "asked_words",
    "begun_words",
    "facets_of",
    "feedback_facet",
    "indexed",
    "judged_facets",
    "marks",
    "modality_facet",
    "owner_facet",
    "snippet",
    "words_of",
]

Match = Literal["words", "beginnings", "phrase"]
"""How a query is met: every word somewhere in the text; every word as the beginning of one; all words
one after the other."""

_JOINED: Final = "\u0300-\u036f\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
_CONTROLS: Final = "\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\u00ad"
_ORIGINAL: Final = re.compile(rf"[^\W_](?:[^\W_]|[{_JOINED}{_CONTROLS}])*")
_PIECES: Final = re.compile(r"[^\W_]+")
_ARTICLE: Final = re.compile(r"(?:[وف]?[بك]?ال|[وف]?لل)(?=[^\W\d_])")
_BEGUN: Final = re.compile(r"(?:و?[بك]?ال|و?لل)")
"""An article with nothing behind it yet; فالج is a whole word."""
_HAMZA: Final = re.compile("[أإآ]")
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_MEASURED: Final = re.compile(r"([0-9]+)([mc]m|ml|cc|m?c?g|kg|hu|ms|m?gy|m?sv|k?hz|mhz|kvp?)")
_SHORTEST_STEM: Final = 2
"""Letters a word keeps without its article: ألم and فالج begin with the same letters and have none."""
_LONGEST: Final = 64
"""Characters of a word that count: a run of base64 is not looked for."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its place in the original text."""

    text: str
    start: int
    end: int


def words_of(text: str) -> Iterator[Word]:
    """Words of a text, in order; a character that stands for several words gives them one place."""
    for found in _ORIGINAL.finditer(text):
        for piece in _pieces(found[0]):
            yield Word(piece, found.start(), found.end())


def indexed(text: str) -> str:
    """Words of a text with one space between, for the index."""
    return " ".join(word.text for word in words_of(text))


def owner_facet(owner: str) -> str:
    """Word that stands for an owner: any name, made of letters and digits."""
    return f"o{hashlib.sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def modality_facet(modality: str) -> str:
    """Word that stands for a modality."""
    return "m" + "".join(_PIECES.findall(normalise(modality)))


def feedback_facet(reason: str) -> str:
    """Word that stands for a judgement of an answer; ``any`` for every one."""
    return "f" + reason.replace("_", "")


def facets_of(owner: str, labels: Iterable[str]) -> str:
    """Words a message can be chosen by: its owner, and the modalities of the images it is about.

    Parameters
    ----------
    owner : str
        Whose.
    labels : iterable of str
        Of the images; each begins with the modality, e.g. ``CT Chest``.
    """
    modalities = sorted({modality_facet(label.split()[0]) for label in labels if label.split()})
    return " ".join([owner_facet(owner), *modalities])


def judged_facets(facets: str, reasons: Sequence[str] | None) -> str:
    """Facets of an answer with what was said of it, in place of what was said before; ``None``: nothing."""
    kept = [word for word in facets.split() if not word.startswith("f")]
    return " ".join(
        kept + [feedback_facet(one) for one in ("any", *reasons)] if reasons is not None else kept
    )


def asked_words(query: str) -> list[str]:
    """Words of a query; nothing else of it ever reaches the database."""
    return [word.text for word in words_of(query)]


def begun_words(query: str) -> list[tuple[str, ...]]:
    """Words of a query somebody is still typing: for each the beginnings of which one has to be met.

    After an article a word may end with the next letter, which alone is no stem: الر is on its way to
    الرئة as well as to a word that begins with these three letters. An article alone says nothing yet. No
    article is written with a hamza, so ألم is looked for as it stands.
    """
    found: dict[tuple[str, ...], None] = {}
    for word in words_of(query):
        article = None if _HAMZA.search(query[word.start : word.end]) else _BEGUN.match(word.text)
        rest = word.text[article.end() :] if article else word.text
        if rest:
            found[tuple(dict.fromkeys((word.text, rest)))] = None
    return list(found)


def marks(text: str, asked: Sequence[str], match: Match) -> list[tuple[int, int]]:
    """Places of a text that meet a query, as (start, end), in order and without overlap."""
    words = list(words_of(text))
    if match == "phrase":
        hits = _phrases(words, asked)
    else:
        hits = [word for word in words if _meets(word.text, asked, match)]
    joined: list[tuple[int, int]] = []
    for hit in hits:
        if not joined or joined[-1] != (hit.start, hit.end):
            joined.append((hit.start, hit.end))
    return joined


def snippet(text: str, places: Sequence[tuple[int, int]], length: int) -> tuple[int, int]:
    """Part of a text to show, as (start, end): it holds the first place and is cut between words."""
    if len(text) <= length:
        return 0, len(text)
    first, last = places[0] if places else (0, 0)
    start = max(0, min(first - length // 3, len(text) - length))
    end = max(min(start + length, len(text)), min(last, start + 2 * length))
    if start and (space := text.find(" ", start, first)) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", max(last, start), end)) > 0:
        end = space
    return start, end


@lru_cache(maxsize=16_384)  # a language has few words, and most of the time goes into writing them alike
def _pieces(original: str) -> tuple[str, ...]:
    return tuple(_stem(piece)[:_LONGEST] for piece in _bare(original))


def _bare(original: str) -> Iterator[str]:
    """Words of a text as they are spelled, with their articles."""
    spelled = normalise(original)
    if not spelled.isascii():
        apart = unicodedata.normalize("NFD", spelled)
        spelled = unicodedata.normalize("NFC", _ACCENTS.sub("", apart))
    for piece in _PIECES.findall(spelled):
        measured = _MEASURED.fullmatch(piece)
        yield from measured.groups() if measured else (piece,)


def _stem(word: str) -> str:
    """Take articles off until none is left: التهاب begins like one, and has to meet الالتهاب."""
    article = _ARTICLE.match(word)
    while article and len(word) - article.end() >= _SHORTEST_STEM:
        word = word[article.end() :]
        article = _ARTICLE.match(word)
    return word


def _meets(word: str, asked: Sequence[str], match: Match) -> bool:
    return word.startswith(tuple(asked)) if match == "beginnings" else word in asked


def _phrases(words: Sequence[Word], asked: Sequence[str]) -> list[Word]:
    texts, wanted = [word.text for word in words], list(asked)
    found: dict[int, Word] = {}
    for start in range(len(texts) - len(wanted) + 1):
        if texts[start : start + len(wanted)] == wanted:
            found |= {place: words[place] for place in range(start, start + len(wanted))}
    return list(found.values())
