"""Whether a translation still says the same numbers, units, sides and vertebral levels as its original.

Words may change from one language to the other; a measurement or a side may not. A translation in the
language of its original is none. What this finds is shown
beside the translation, for a reader to look at; it does not judge style or completeness. Numbers written
as words ("two", عقدتان) are not compared.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from i18n.text import language_of, strip_controls, western_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Difference", "differences"]

Kind = Literal["language", "measurement", "level", "side", "side_order"]

_UNITS: Final = {
    "mm": "mm|millimet(?:er|re)s?|ملم|مم|مليمترات|مليمترا|مليمترًا|مليمتر|ميليمتر|ملليمتر",
    "cm": "cm|centimet(?:er|re)s?|سم|سنتيمترات|سنتيمترا|سنتيمترًا|سنتيمتر|سنتمتر",
    "µm": "µm|μm|um|micromet(?:er|re)s?|microns?|ميكرومتر|ميكرون|مكم",
    "m": "m|met(?:er|re)s?|متر|أمتار",
    "mmHg": "mmHg|ملم زئبق|مم زئبق",
    "mg": "mg|milligrams?|ملغ|مغ|ملغم|مجم|مليغرام|ميليغرام",
    "µg": "µg|μg|mcg|micrograms?|مكغ|ميكروغرام",
    "g": "g|grams?|غ|غم|جم|غرام|جرام|غراما|غرامًا",
    "kg": "kg|kilograms?|كغ|كغم|كجم|كيلوغرام|كيلوجرام",
    "mL": "m[lL]|cc|millilit(?:er|re)s?|مل|ملل|مليلتر|ميليلتر|سم مكعب",
    "L": "[lL]|lit(?:er|re)s?|لتر|ليتر",
    "HU": "HU|Hounsfield(?: units?)?|هاونسفيلد|وحدة هاونسفيلد|وحدات هاونسفيلد|وحدة هاونزفيلد",
    "%": "%|٪|percent|per cent|في المئة|في المائة|بالمئة|بالمائة",
    "°": "°|degrees?|درجة|درجات",
    "year": "years?|yrs?|سنة|سنوات|عام|عاما|عامًا|أعوام",
    "month": "months?|شهر|أشهر|شهور|شهرا|شهرًا",
    "week": "weeks?|wks?|أسبوع|أسابيع|أسبوعا|أسبوعًا",
    "day": "days?|يوم|أيام|يوما|يومًا",
    "hour": "hours?|hrs?|h|ساعة|ساعات",
    "min": "min|minutes?|دقيقة|دقائق",
    "px": "px|pixels?|بكسل",
}
"""Unit -> how it is written in either language."""

_UNIT_OF: Final = tuple((unit, re.compile(rf"(?:{names})(?![^\W\d_])")) for unit, names in _UNITS.items())
_LEVEL: Final = re.compile(r"(?<![A-Za-z0-9])([CTLS])[ -]?([0-9]{1,2})(?![0-9A-Za-z])")
_NUMBER: Final = re.compile(
    r"(?<![A-Za-z0-9.,])(?P<compare>(?:[<>≤≥]=?|±|\+/-)[ \u00a0]?)?(?:(?<![^\s(\[<>≤≥=])(?P<minus>[-−]))?"
    r"(?P<number>[0-9]+(?:[.,][0-9]+)*)[ \u00a0\u202f-]?"
)
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_WORDS_TO_TELL: Final = 2
"""Fewer may be names and abbreviations, which are the same in both languages."""
_SIDES: Final = re.compile(
    r"(?P<left>\bleft(?:-sided|ward)?\b|(?<![^\W\d_])(?:[وفبلك]?ال|لل|[وبلك])?(?:أيسر|ايسر|يسرى|يسري|يسار|شمال(?=ه|ها)?)(?![^\W\d_]))"
    r"|(?P<right>\bright(?:-sided|ward)?\b|(?<![^\W\d_])(?:[وفبلك]?ال|لل|[وبلك])?(?:أيمن|ايمن|يمنى|يمني|يمين)(?![^\W\d_]))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something one text says and the other does not."""

    kind: Kind
    missing: tuple[str, ...]
    """What only the original says; for ``side_order`` its sides in order."""
    added: tuple[str, ...]
    """What only the translation says; for ``side_order`` its sides in order."""


def differences(original: str, translation: str) -> tuple[Difference, ...]:
    """Compare what must survive a translation between Arabic and English.

    Returns
    -------
    tuple of Difference
        At most one of each kind; empty when numbers with their signs, units and comparison signs, vertebral
        levels, and sides in their order are the same. Two different texts in one language are a difference
        too, of kind ``language`` and without words.
    """
    if _in_one_language(original, translation):
        return (Difference("language", (), ()), *_facts(original, translation))
    return _facts(original, translation)


def _in_one_language(first: str, second: str) -> bool:
    """Whether two different texts with words to tell are in the same language."""
    told = [_WORD.findall(text) for text in (first, second)]
    if told[0] == told[1] or min(map(len, told)) < _WORDS_TO_TELL:
        return False
    return language_of(first) == language_of(second)


def _facts(original: str, translation: str) -> tuple[Difference, ...]:
    first, second = _plain(original), _plain(translation)
    found = [
        _difference("measurement", _measurements(first), _measurements(second)),
        _difference("level", _levels(first), _levels(second)),
        _sides_difference(_sides(first), _sides(second)),
    ]
    return tuple(one for one in found if one is not None)


def _plain(text: str) -> str:
    return western_digits(strip_controls(text))


def _difference(kind: Kind, first: Sequence[str], second: Sequence[str]) -> Difference | None:
    missing, added = Counter(first) - Counter(second), Counter(second) - Counter(first)
    if not missing and not added:
        return None
    return Difference(kind, tuple(sorted(missing.elements())), tuple(sorted(added.elements())))


def _sides_difference(first: Sequence[str], second: Sequence[str]) -> Difference | None:
    if unlike := _difference("side", first, second):
        return unlike
    return None if first == second else Difference("side_order", tuple(first), tuple(second))


def _measurements(text: str) -> list[str]:
    """Numbers as ``<0.5 mm``: comparison sign, number, unit of one spelling."""
    bare = _LEVEL.sub(" ", text)
    found = []
    for match in _NUMBER.finditer(bare):
        sign = (match["compare"] or "").strip().replace("<=", "≤").replace(">=", "≥").replace("+/-", "±")
        minus = "-" if match["minus"] else ""
        found.append(f"{sign}{minus}{_canonical(match['number'])} {_unit_at(bare, match.end())}".strip())
    return found


def _canonical(number: str) -> str:
    """One spelling of a number: a decimal comma is a point, a separator of thousands goes."""
    if re.fullmatch(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?", number):
        number = number.replace(",", "")
    elif re.fullmatch(r"[0-9]+,[0-9]+", number):
        number = number.replace(",", ".")
    return number


def _unit_at(text: str, place: int) -> str:
    fits = [(match.end(), unit) for unit, written in _UNIT_OF if (match := written.match(text, place))]
    return max(fits)[1] if fits else ""


def _levels(text: str) -> list[str]:
    return [f"{match[1]}{int(match[2])}" for match in _LEVEL.finditer(text)]


def _sides(text: str) -> list[str]:
    return [str(match.lastgroup) for match in _SIDES.finditer(text)]
