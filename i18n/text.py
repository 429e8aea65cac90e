"""Text in two directions: which way it runs, what must not be reordered, how it is drawn and compared.

In: plain or Markdown text in logical order. Out: text in logical order again, except :func:`shape`, whose
result is in visual order and only for drawing. Nothing here knows of a page, a font or a catalogue.

The control characters are LRI U+2066, FSI U+2068 and PDI U+2069 of the Unicode Bidirectional Algorithm
(UAX #9). They belong to what is shown, never to what is stored, copied, exported or given to a model.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arabic_reshaper import ArabicReshaper

__all__ = [
    "BARE_NUMBER",
    "LATIN_OR_DIGIT",
    "direction",
    "isolate",
    "isolate_measurements",
    "language_of",
    "normalise",
    "shape",
    "strip_controls",
    "visual_order",
    "western_digits",
]

Direction = Literal["rtl", "ltr"]

LRI: Final = "\u2066"
FSI: Final = "\u2068"
PDI: Final = "\u2069"

LATIN_OR_DIGIT: Final = re.compile(r"[A-Za-z\u00C0-\u024F0-9]")
"""A character that reorders an Arabic sentence when it stands there without isolation."""

BARE_NUMBER: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
"""A number without sign or unit: it reads the same in a sentence of either direction."""

# The same three sets stand in the page's script; a text runs the same way in both.
_RTL: Final = re.compile(r"[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC]")
_LATIN: Final = re.compile(r"[A-Za-z\u00C0-\u024F]")
_LETTER: Final = re.compile(r"[A-Za-z\u00C0-\u024F\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC]")
_RTL_SHARE_AFTER_RTL: Final = 0.15
_RTL_SHARE_AFTER_LATIN: Final = 0.5

_CONTROLS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def direction(text: str) -> Direction | None:
    """Direction a block of text is set in; ``None`` when it has no letter to tell.

    A text that begins in Arabic runs right to left from a share of 15 % of Arabic letters on, any
    other from half on. The first letter alone would set ``RUL: عقدة ...`` the wrong way round.
    """
    first = _LETTER.search(text)
    if first is None:
        return None
    arabic, latin = len(_RTL.findall(text)), len(_LATIN.findall(text))
    needed = _RTL_SHARE_AFTER_RTL if _RTL.match(first[0]) else _RTL_SHARE_AFTER_LATIN
    return "rtl" if arabic / (arabic + latin) > needed else "ltr"


def isolate(value: str) -> str:
    """Put a value between FSI and PDI, so that it keeps its own order inside any sentence."""
    return f"{FSI}{value}{PDI}"


def strip_controls(text: str) -> str:
    """Text without direction marks, embeddings, overrides and isolates: for copy, export and the model."""
    return _CONTROLS.sub("", text)


# --- measurements -----------------------------------------------------------------------------------

_UNITS: Final = (
    "mmHg|cmH2O|kPa|Pa|"
    "[mckdnµμu]?m(?:[²³]|\\^?[23])?|"
    "[mdcµμu]?[lL]|cc|fL|"
    "[kmnpµμu]?g|mcg|"
    "[mnpµμu]?mol|[mnpµμu]?M|mEq|mOsm|m?IU|[Uu]nits?|U|"
    "HU|[mcµμ]?Gy|[mµμ]?Sv|[kMG]?Bq|m?Ci|k?eV|MeV|"
    "[kMG]?Hz|m?T|kVp?|mAs?|m?W|m?V|k?J|k?cal|dB|"
    "bpm|[mnµμ]?s|secs?|min|minutes?|hours?|hrs?|h|days?|d|weeks?|wks?|months?|years?|yrs?|am|pm|AM|PM|"
    "px|pixels?|voxels?|dpi|mpp|fps|"
    "°C|°F|°|%|‰|ppm"
)
_NUMBER: Final = r"[0-9]+(?:[.,][0-9]+)*(?:\^[-−]?[0-9]+)?"
_END: Final = r"(?![A-Za-z0-9])(?![-–—/^][A-Za-z0-9])"
_WHOLE: Final = r"(?![A-Za-z0-9])"
_PER: Final = rf"(?:/(?:{_NUMBER}[ ]?)?(?:{_UNITS}|[A-Za-z]+){_WHOLE})"
_UNIT: Final = rf"(?:(?:[ \u00A0\u202F]?(?:{_UNITS}){_WHOLE})?{_PER}*)"
_COMPARE: Final = r"(?:(?:[<>≤≥≈≠=±]|(?<!~)~(?!~))=?[ \u00A0]?)"
_VALUE: Final = rf"{_COMPARE}?[-+−±]?{_NUMBER}{_UNIT}"
_BETWEEN: Final = r"(?:[ \u00A0]?[-–—−x×X*:/+=±][ \u00A0]?|[ \u00A0]to[ \u00A0]|T(?=[0-9]{2}:))"
_LEVEL: Final = r"(?:[CTLS]|Co)[0-9]{1,2}"
_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"

_TOKEN: Final = re.compile(
    # what Markdown must find unchanged: code, formulas, link targets
    r"(?P<keep>```[\s\S]*?(?:```|\Z)|`[^`\n]*`|\$\$[\s\S]*?\$\$|\$[^$\n]+\$|\]\([^)\n]*\)|https?://\S+)"
    # L4–L5, C5/6, T12
    r"|(?<![A-Za-z0-9])(?P<level>(?:[CTLS]|Co)[0-9]{1,2}(?:[ ]?[-–—/][ ]?(?:[CTLS]|Co)?[0-9]{1,2})*"
    + _END
    + ")"
    # 12 May 2024
    rf"|(?<![A-Za-z0-9])(?P<date>[0-9]{{1,2}}[ ]{_MONTH},?[ ][0-9]{{4}}){_END}"
    # < 0.50, 12.5 x 8 mm, 2026-05-12, 5 mg/kg
    rf"|(?<![A-Za-z0-9])(?<![A-Za-z0-9][-–—/.,:^])(?P<value>{_VALUE}(?:{_BETWEEN}{_VALUE})*){_END}"
    r"|(?P<word>[A-Za-z\u00C0-\u024F][A-Za-z0-9\u00C0-\u024F]*(?:[-/'’][A-Za-z0-9\u00C0-\u024F]+)*)"
)
_QUOTE: Final = re.compile(r"(?:^|\n)[ >]*\Z")


def isolate_measurements(text: str, *, always: bool = False) -> str:
    """Put every measurement, comparison, range, date and vertebral level between LRI and PDI.

    In a right-to-left paragraph ``12.5 mm`` is otherwise seen as ``mm 12.5`` and ``< 0.50`` as
    ``0.50 >``. Latin words that touch a measurement join its isolate, so that an English phrase keeps
    its order. Code, formulas, link targets and what is isolated already stay as they are, which makes
    the function idempotent; :func:`strip_controls` undoes it.

    Parameters
    ----------
    text : str
        Plain or Markdown text.
    always : bool
        Also when the text holds no right-to-left letter, for a value shown alone on an Arabic page.
    """
    if not always and _RTL.search(text) is None:
        return text
    plain, places, closed = _without_controls(text)
    pieces, last = [], 0
    for start, end in _runs(plain):
        first, after = places[start], places[end - 1] + 1
        # a control inside, or an isolate around it: somebody has decided about this place already
        if after - first == end - start and not any(closed[start:end]):
            pieces += [text[last:first], LRI, text[first:after], PDI]
            last = after
    return "".join([*pieces, text[last:]])


def _without_controls(text: str) -> tuple[str, list[int], list[bool]]:
    """Text without controls; for each of its characters the place in ``text`` and whether it is isolated."""
    plain, places, closed, depth = [], [], [], 0
    for place, character in enumerate(text):
        if _CONTROLS.match(character):
            opens = "\u2066" <= character <= "\u2068"
            depth = depth + 1 if opens else max(0, depth - (character == PDI))
            continue
        depth = 0 if character == "\n" else depth  # an isolate ends with its paragraph
        plain.append(character)
        places.append(place)
        closed.append(depth > 0)
    return "".join(plain), places, closed


def _runs(plain: str) -> Iterator[tuple[int, int]]:
    """Stretches to isolate: neighbours one space apart are one stretch, if one of them is a measurement."""
    start = end = -1
    measured = False
    for token in _TOKEN.finditer(plain):
        begin = _after_quote_mark(plain, token)
        joins = end >= 0 and begin == end + 1 and plain[end] in " \u00a0" and token.lastgroup != "keep"
        if not joins:
            if measured:
                yield start, end
            start, measured = begin, False
        measured = measured or _is_measurement(token)
        end = -1 if token.lastgroup == "keep" else token.end()
    if measured:
        yield start, end


def _is_measurement(token: re.Match[str]) -> bool:
    return token.lastgroup not in ("keep", "word") and BARE_NUMBER.fullmatch(token[0]) is None


def _after_quote_mark(plain: str, token: re.Match[str]) -> int:
    """Start of a token, past a ``>`` at the start of a line: there it is Markdown's quotation mark."""
    if token[0].startswith(">") and _QUOTE.search(plain, 0, token.start()):
        return token.start() + len(token[0]) - len(token[0].lstrip("> \u00a0"))
    return token.start()


# --- drawing ----------------------------------------------------------------------------------------

_LEVEL_MARK: Final = "\u034f"
"""Combining grapheme joiner: takes the level of the character before it and is never seen."""


def shape(text: str, base_direction: Direction) -> str:
    """Join letters and put them in visual order, line by line, for a drawing library without a bidi engine.

    Short vowels are dropped: without a shaping engine they would be drawn beside their letter.

    Parameters
    ----------
    text : str
        Logical order; isolates are obeyed, then left out.
    base_direction : {"rtl", "ltr"}
        Direction of the paragraph.

    References
    ----------
    Unicode Standard Annex #9, rules L2 (reordering) and L4 (mirroring).
    """
    return "\n".join(_visual_line(line, base_direction) for line in text.split("\n"))


def visual_order(line: str) -> str:
    """Put a line into the order it is drawn in: its own direction, measurements kept whole."""
    return shape(isolate_measurements(line), direction(line) or "ltr")


def _visual_line(line: str, base_direction: Direction) -> str:
    from bidi import get_display
    from bidi.mirror import MIRRORED

    joined = _reshaper().reshape(line.replace(_LEVEL_MARK, ""))
    # The library reorders but does not mirror, and tells no levels. A mark behind each bracket lands
    # before it where the text runs right to left, and that is where rule L4 mirrors.
    marked = "".join(c + _LEVEL_MARK if c in MIRRORED else c for c in joined)
    visual = str(get_display(marked, base_dir="R" if base_direction == "rtl" else "L"))
    bracket = f"([{re.escape(''.join(MIRRORED))}])"
    pairs = re.compile(f"{_LEVEL_MARK}{bracket}|{bracket}{_LEVEL_MARK}")
    return strip_controls(pairs.sub(lambda pair: MIRRORED[pair[1]] if pair[1] else pair[2], visual))


@cache
def _reshaper() -> ArabicReshaper:
    from arabic_reshaper import ArabicReshaper

    return ArabicReshaper()


# --- comparing --------------------------------------------------------------------------------------

_DIGITS: Final = {ord(c): str(i % 10) for i, c in enumerate("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹")}
_SEPARATORS: Final = re.compile(r"(?<=[0-9])[\u066B\u066C](?=[0-9])")
_MARKS: Final = re.compile("[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]")
_FOLDED: Final = str.maketrans("أإآٱىیئےةھہەۀکؤ", "ااااييييهههههكو")
_UNSEEN: Final = re.compile("[\u00ad\u034f\u180e\u200b-\u200d\u2060\ufeff]")
"""Soft hyphen, joiners, spaces of no width: some keyboards and copied texts have them inside words."""


def western_digits(text: str) -> str:
    """Arabic-Indic and Persian digits as 0-9, with the separators between them."""
    digits = text.translate(_DIGITS)
    return _SEPARATORS.sub(lambda m: "." if m[0] == "\u066b" else ",", digits)


def normalise(text: str) -> str:
    """Text as the search compares it: two spellings of one word become equal.

    Compatibility forms, case, digits, tashkeel, tatweel and what has no width go; every alef is a bare alef,
    alef maqsura is ya, ta marbuta is ha, waw and ya lose their hamza, Persian and Urdu letters are their
    Arabic ones; white space is one space.
    """
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", strip_controls(text))).casefold()
    # removing a mark or a tatweel may let its neighbours compose, hence the second NFKC
    bare = unicodedata.normalize("NFKC", _MARKS.sub("", folded)).translate(_FOLDED)
    return " ".join(western_digits(bare).split())


_WORDS: Final = re.compile(r"\b[^\W\d_]+\b")
_ENGLISH_WORDS: Final = frozenset(
    _WORDS.findall(
        "a an and are at be can could do does for from give has have how i if in is it list me mean of on or "
        "please show suggest tell that the there this to was what when where which who why with you"
    )
)
# as normalise() writes them
_ARABIC_WORDS: Final = frozenset(
    _WORDS.findall(
        "هل ما ماذا لماذا متي اين كيف كم اي من في علي الي عن مع بين هذا هذه ذلك تلك يوجد توجد هناك صف اشرح "
        "اذكر اكتب حدد وضح ماهو ماهي هو هي التي الذي او ثم لا لم هنا يظهر تظهر اعط قارن"
    )
)


def language_of(text: str) -> Literal["ar", "en"]:
    """Language a question is asked in, so that the answer can be given in it.

    The words a sentence is built with decide, not its terms: ``MRI brain with contrast: هل يوجد نزيف؟``
    is Arabic, ``What does عقدة mean?`` is English. Where they are equally many, the direction decides;
    without any letter it is English.
    """
    words = _WORDS.findall(normalise(text))
    arabic, english = (sum(w in known for w in words) for known in (_ARABIC_WORDS, _ENGLISH_WORDS))
    if arabic != english and _RTL.search(text) and _LATIN.search(text):
        return "ar" if arabic > english else "en"
    return "ar" if direction(text) == "rtl" else "en"
