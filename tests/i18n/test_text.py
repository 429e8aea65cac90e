"""Mixed-direction clinical text keeps its meaning on screen, on paper and in the search."""

import json
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from i18n.text import (
    direction,
    isolate,
    isolate_measurements,
    language_of,
    normalise,
    shape,
    strip_controls,
    western_digits,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "bidi_strings.json").read_text(encoding="utf-8"))
"""Reviewed by reading; the visual orders were also compared with those Chromium lays out."""

CLINICAL = st.text(
    alphabet="قعهي RULmTxLC5.012-–/<>%(),:~`$[]*\n\u2066\u2067\u2068\u2069\u200f\u202b°µ", max_size=60
)
golden = pytest.mark.parametrize("row", GOLDEN, ids=lambda row: ascii(row["text"])[:40])


def test_the_table_is_large_enough():
    """Sixty mixed strings at least, most of them Arabic."""
    assert len({row["text"] for row in GOLDEN}) >= 60
    assert sum(row["direction"] == "rtl" for row in GOLDEN) >= 50


@golden
def test_direction_of_clinical_text(row):
    """A block is set in the direction a reader expects, however it begins."""
    assert direction(row["text"]) == row["direction"]


@golden
def test_isolation_of_clinical_text(row):
    """Measurements are isolated; list marks, code, links and words are left alone."""
    assert isolate_measurements(row["text"]) == row["isolated"]


@golden
def test_visual_order_of_clinical_text(row):
    """Drawn left to right, the shaped text reads as the page shows it."""
    assert shape(row["isolated"], row["direction"] or "rtl") == row["visual"]


@golden
def test_language_of_clinical_text(row):
    """The language of the answer follows the sentence, not its Latin terms."""
    assert language_of(row["text"]) == row["language"]


@golden
def test_a_measurement_is_read_left_to_right_when_drawn(row):
    """What stands in an isolate stands unbroken and in its own order in the drawn line."""
    for inside in re.findall("\u2066([^\u2066-\u2069]*)\u2069", row["isolated"]):
        assert inside in shape(row["isolated"], row["direction"] or "rtl")


@given(CLINICAL | st.text())
def test_isolating_twice_is_isolating_once(text):
    """The page may isolate what was isolated already."""
    once = isolate_measurements(text)
    assert isolate_measurements(once) == once
    always = isolate_measurements(text, always=True)
    assert isolate_measurements(always, always=True) == always


@given(CLINICAL | st.text())
def test_isolation_adds_only_controls(text):
    """Nothing but control characters is added, and they can be taken out again."""
    assert strip_controls(isolate_measurements(text)) == strip_controls(text)
    assert strip_controls(isolate_measurements(text, always=True)) == strip_controls(text)


@given(st.text(alphabet="قعهي RULm5.01-/<%(),\n", max_size=60))
def test_isolates_are_closed_in_their_line(text):
    """No isolate is left open or crosses a line, so it cannot reorder what follows."""
    for line in isolate_measurements(text).split("\n"):
        assert line.count("\u2066") == line.count("\u2069")


def test_english_text_gets_no_controls():
    """A text without Arabic needs none, unless a value is shown alone on an Arabic page."""
    assert isolate_measurements("12.5 mm x 3") == "12.5 mm x 3"
    assert isolate_measurements("12.5 – 13", always=True) == "\u206612.5 – 13\u2069"


def test_foreign_isolates_are_kept():
    """An isolate somebody else set stays, and nothing is isolated inside it."""
    text = f"القيمة {isolate('5 mm')} ثم 6 mm"
    assert isolate_measurements(text) == f"القيمة {isolate('5 mm')} ثم \u20666 mm\u2069"


def test_isolation_takes_time_in_proportion_to_the_text():
    """No text, however odd, keeps the page waiting."""
    started = time.perf_counter()
    for piece in ("1-", "1 mm x ", "a/", "1/", "1 ", "1.1", "<", "> ", "L4-", "`", "$", "[](", "1 to ", "a "):
        isolate_measurements("ع" + piece * (20_000 // len(piece)))
    assert time.perf_counter() - started < 10


@given(st.text())
def test_stripped_text_has_no_control_left(text):
    """Text given to the model or exported holds no bidi control, and loses nothing else."""
    stripped = strip_controls(text)
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(c) for c in stripped} & bidi
    assert not set("\u200e\u200f\u061c") & set(stripped)
    assert len(stripped) == sum(
        unicodedata.bidirectional(c) not in bidi and c not in "\u200e\u200f\u061c" for c in text
    )


def test_digits_become_western():
    """Arabic-Indic and Persian digits, and the separators between them, become 0-9 with point and comma."""
    assert western_digits("٠١٢٣٤٥٦٧٨٩") == western_digits("۰۱۲۳۴۵۶۷۸۹") == "0123456789"
    assert western_digits("٣٫٥ مم و ١٬٢٠٠") == "3.5 مم و 1,200"
    assert western_digits("قيل٬ ثم") == "قيل٬ ثم"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("أشعة إكس", "اشعه اكس"),
        ("الرئتان آفة", "الرئتان افه"),
        ("مستشفى", "مستشفي"),
        ("عُقْدَةٌ رِئَوِيَّة", "عقده رئويه"),
        ("عـــقدة", "عقدة"),
        ("CT Chest", "ct  chest"),
        ("١٢٫٥ مم", "12.5 مم"),
        ("ﻋﻘﺪﺓ", "عقدة"),
        ("یک", "يك"),
        ("\u206612 mm\u2069", "12 mm"),
        ("ﬁbrosis", "FIBROSIS"),
    ],
)
def test_spellings_of_one_word_are_found_by_each_other(one, other):
    """The search does not care for hamza seats on alef, vowels, tatweel, digits or case."""
    assert normalise(one) == normalise(other)


def test_different_words_stay_different():
    """Normalising does not merge what a clinician tells apart."""
    words = ["كبد", "كبير", "رئة", "رئوي", "يمين", "يسار", "سؤال", "L4", "L5"]
    assert len({normalise(word) for word in words}) == len(words)


@given(st.text())
def test_normalising_twice_is_normalising_once(text):
    """A stored normal form compares with a fresh one."""
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("ما هذا؟", "ar"),
        ("هل يوجد pneumothorax في RUL؟", "ar"),
        ("MRI brain with contrast: هل يوجد نزيف؟", "ar"),
        ("CT chest, PE protocol: اشرح", "ar"),
        ("What does عقدة mean?", "en"),
        ("Is there a nodule?", "en"),
        ("Translate: العقدة الرئوية في الفص العلوي الأيمن", "ar"),
        ("RUL?", "en"),
        ("", "en"),
        ("12.5", "en"),
        ("صِف الصورة", "ar"),
    ],
)
def test_language_of_a_question(question, language):
    """The words that build the sentence decide; terms and quotations do not."""
    assert language_of(question) == language


@pytest.mark.parametrize(
    ("text", "base", "visual"),
    [
        ("abc", "ltr", "abc"),
        ("א (1) ב", "rtl", "ב (1) א"),
        ("((", "rtl", "))"),
        ("a (ב) c", "ltr", "a (ב) c"),
        ("ב < 3 > א", "rtl", "א < 3 > ב"),
        ("[a] ב", "rtl", "ב [a]"),
        ("{ב [א (x)]}", "rtl", "{[(x) א] ב}"),
        ("", "rtl", ""),
        ("א\nb", "rtl", "א\nb"),
    ],
)
def test_brackets_are_mirrored_where_text_runs_right_to_left(text, base, visual):
    """An opening bracket opens towards what it holds in either direction (UAX #9, L4)."""
    assert shape(text, base) == visual


def test_letters_are_joined():
    """The drawn letters are the forms their neighbours ask for."""
    drawn = shape("عقدة", "rtl")
    assert drawn != "ةدقع"
    assert unicodedata.normalize("NFKC", drawn)[::-1] == "عقدة"


@given(
    st.text(alphabet="قعلا RULm5.01-/<>%()[]{}«»,\u2066\u2069", max_size=40), st.sampled_from(["rtl", "ltr"])
)
def test_shaping_keeps_every_visible_character(text, base):
    """Reordering and mirroring lose nothing and add nothing."""
    from bidi.mirror import MIRRORED

    def letters(line):
        plain = unicodedata.normalize("NFKC", strip_controls(line))
        return sorted(min(c, MIRRORED.get(c, c)) for c in plain)

    assert letters(shape(text, base)) == letters(text)


def test_our_fonts_draw_every_shape():
    """Each joined letter, digit and sign of the drawn lines is in a font we ship."""
    folder = Path(__file__).parents[2] / "assets" / "fonts"
    # pen by pen, as a library without a shaping engine draws: one glyph for one character
    fonts = [
        ImageFont.truetype(file, 32, layout_engine=ImageFont.Layout.BASIC)
        for file in sorted(folder.glob("*.woff2"))
    ]
    assert len(fonts) == 3

    def drawn(font, character):
        mask = font.getmask(character)
        return mask.size, bytes(mask)

    missing = [drawn(font, "\U0010fffd") for font in fonts]
    needed = {character for row in GOLDEN for character in row["visual"] if not character.isspace()}
    needed |= set("≤≥±µ²³½αβγΔ≈≠→←↑↓√∞†")
    pairs = list(zip(fonts, missing, strict=True))
    boxes = {sign for sign in needed if all(drawn(font, sign) in {box, (0, 0)} for font, box in pairs)}
    assert boxes == set()
    assert len(needed) > 150
