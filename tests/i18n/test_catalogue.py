"""Both languages say everything, with the same values, in every plural form."""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i18n.catalogue import (
    LOCALES,
    PLURAL_FORMS,
    Catalogue,
    MissingTextError,
    MissingValueError,
    placeholders,
    plural_form,
)
from i18n.text import direction, strip_controls

CATALOGUE = Catalogue()
KEYS = CATALOGUE.keys()
TREES = (
    ("engine.errors", "EngineError"),
    ("viewers.errors", "ViewerError"),
    ("app.errors", "AppError"),
)
LOCALE_FOLDER = Path(__file__).parents[2] / "i18n" / "locales"


def _error_classes():
    for module, base_name in TREES:
        base = getattr(importlib.import_module(module), base_name)
        pending = [base]
        while pending:
            found = pending.pop()
            if found.__module__.partition(".")[0] == module.partition(".")[0]:  # not a test's own class
                yield found
            pending += found.__subclasses__()


def _needed(key, locale):
    return frozenset().union(*map(placeholders, CATALOGUE.forms(key, locale).values()))


def test_both_languages_have_equal_keys():
    """No text exists in one language only."""
    plural = {f"{key}.{form}" for key in KEYS for form in PLURAL_FORMS["ar"]}
    english, arabic = (set(CATALOGUE.table(locale)) - plural for locale in LOCALES)
    assert english == arabic
    assert len(KEYS) > 200


@pytest.mark.parametrize("key", KEYS)
def test_placeholders_and_plural_forms_agree(key):
    """A text needs the same values in both languages and has all the forms its language counts with."""
    english, arabic = (CATALOGUE.forms(key, locale) for locale in LOCALES)
    assert _needed(key, "en") == _needed(key, "ar")
    assert (len(english) > 1) == (len(arabic) > 1)
    if len(english) > 1:
        assert tuple(english) == PLURAL_FORMS["en"]
        assert tuple(arabic) == PLURAL_FORMS["ar"]
        for form in ("few", "many", "other"):
            assert "count" in placeholders(arabic[form])
        for text in (*english.values(), *arabic.values()):
            assert placeholders(text) >= _needed(key, "en") - {"count"}


@pytest.mark.parametrize("key", KEYS)
def test_every_text_is_in_its_language(key):
    """Arabic texts read right to left, English ones left to right, and clinical digits are Western."""
    own_name = key in ("ui.language_english", "ui.language_arabic", "ui.switch_language")
    for text in CATALOGUE.forms(key, "ar").values():
        assert text.strip() == text != ""
        assert not set("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹") & set(text)
        assert own_name or direction(re.sub(r"{\w+}", "", text)) == "rtl"
    for text in CATALOGUE.forms(key, "en").values():
        assert text.strip() == text != ""
        assert own_name or direction(text) in ("ltr", None)


@pytest.mark.parametrize("error", list(_error_classes()), ids=lambda error: error.__name__)
def test_every_error_class_has_its_sentence(error):
    """The English text of an error class is its template, and the Arabic one needs nothing else."""
    assert CATALOGUE.forms(error.key, "en") == {"other": error.template}
    assert _needed(error.key, "ar") == placeholders(error.template)


def test_error_classes_do_not_share_keys():
    """Two classes with one key would show one sentence for two things that went wrong."""
    keys = [error.key for error in _error_classes()]
    assert sorted(keys) == sorted(set(keys))
    assert len(keys) > 30


def test_every_error_class_is_public():
    """A class left out of ``__all__`` would be one nobody knows to catch."""
    for module, base_name in TREES:
        loaded = importlib.import_module(module)
        base = getattr(loaded, base_name)
        found = {n for n, c in vars(loaded).items() if inspect.isclass(c) and issubclass(c, base)}
        assert found <= set(loaded.__all__)


@pytest.mark.parametrize("locale", LOCALES)
@given(count=st.integers(0, 10**7))
def test_every_count_has_a_sentence(locale, count):
    """Any number of things can be said in either language."""
    text = CATALOGUE.text("ui.queue_position", locale, count=count)
    assert strip_controls(text)
    if count > 2:
        assert str(count) in text


@pytest.mark.parametrize(
    ("count", "form"),
    [
        (0, "zero"), (1, "one"), (2, "two"), (3, "few"), (10, "few"), (11, "many"), (99, "many"),
        (100, "other"), (102, "other"), (103, "few"), (111, "many"), (1000, "other"), (1.5, "other"),
    ],
)  # fmt: skip
def test_arabic_counts_in_six_forms(count, form):
    """The plural category is the one Unicode CLDR gives."""
    assert plural_form("ar", count) == form


def test_english_counts_in_two_forms():
    """Only one is singular."""
    assert [plural_form("en", n) for n in (0, 1, 2, 1.5)] == ["other", "one", "other", "other"]


def test_arabic_numbers_agree_with_their_noun():
    """One and two things need no digit; few and many take different cases."""
    said = [CATALOGUE.text("history.turn_count", "ar", count=n) for n in (0, 1, 2, 3, 11, 100)]
    assert said == ["لا توجد أسئلة", "سؤال واحد", "سؤالان", "3 أسئلة", "11 سؤالًا", "100 سؤال"]


def test_a_latin_value_is_isolated_in_arabic_only():
    """A path or a signed number keeps its own order inside an Arabic sentence."""
    values = {"source": "/models/a", "reason": "لا توجد أوزان"}
    arabic = CATALOGUE.text("engine.checkpoint", "ar", **values)
    assert "\u2068/models/a\u2069" in arabic
    assert "\u2068لا" not in arabic
    assert "\u2068" not in CATALOGUE.text("engine.checkpoint", "en", source="/models/a", reason="x")
    assert "\u2068لا توجد أوزان\u2069" in CATALOGUE.text("engine.checkpoint", "en", **values)
    assert "\u2068" not in Catalogue(isolate=False).text("engine.checkpoint", "ar", **values)
    ranged = CATALOGUE.text("ui.frame_of", "ar", index=-600, count=1500)
    assert "\u2068-600\u2069" in ranged
    assert "1500" in ranged
    assert "\u20681500" not in ranged


def test_a_region_tag_is_taken_for_its_language():
    """``ar-SA`` reads Arabic, as browsers and environments name it."""
    assert CATALOGUE.text("ui.ask", "ar-SA") == CATALOGUE.text("ui.ask", "ar_EG") == "اسأل"


def test_a_missing_key_names_key_and_language():
    """The error says where to add the text."""
    with pytest.raises(MissingTextError, match=r"'ui\.nothing'.*'ar'.*ar\.toml"):
        CATALOGUE.text("ui.nothing", "ar")


def test_a_missing_value_names_key_and_placeholder():
    """The error says which value was forgotten and which were given."""
    with pytest.raises(MissingValueError, match=r"'engine\.checkpoint' \(ar\) needs .*'source'.*reason"):
        CATALOGUE.text("engine.checkpoint", "ar", reason="x")
    with pytest.raises(MissingValueError, match="'count'"):
        CATALOGUE.text("ui.queue_position", "en")


def test_an_unknown_language_is_a_mistake_of_the_caller():
    """There is no silent fallback to another language."""
    with pytest.raises(ValueError, match="'fr', expected one of en, ar"):
        CATALOGUE.text("ui.ask", "fr")


def test_a_value_is_never_read_as_a_template():
    """Braces in a file name or a model's words stay what they are."""
    said = CATALOGUE.text("engine.error", "en", reason="{reason} {0} {x.__class__}")
    assert said == "The model could not work: {reason} {0} {x.__class__}."


def test_a_text_missing_one_plural_form_is_reported(tmp_path):
    """A catalogue of somebody else's with a hole says which form is missing."""
    (tmp_path / "ar.toml").write_text('[a]\n[a.n]\none = "x"\nother = "{count}"\n', encoding="utf-8")
    own = Catalogue(tmp_path)
    assert own.text("a.n", "ar", count=1) == "x"
    with pytest.raises(MissingTextError, match=r"'a\.n\.few'"):
        own.text("a.n", "ar", count=3)


def test_the_browser_gets_one_flat_table():
    """Plural forms become keys of their own; nothing is filled in."""
    table = CATALOGUE.table("ar")
    assert table["ui.ask"] == "اسأل"
    assert table["ui.queue_position.two"] == "يوجد سؤالان قبل سؤالك"
    assert "{count}" in table["ui.queue_position.many"]
    table["ui.ask"] = "changed"
    assert CATALOGUE.text("ui.ask", "ar") == "اسأل"


def test_no_key_is_written_twice_or_nested_under_a_text():
    """The files are plain TOML whose every leaf is a sentence."""

    def leaves(table):
        for value in table.values():
            yield from leaves(value) if isinstance(value, dict) else [value]

    for locale in LOCALES:
        raw = tomllib.loads((LOCALE_FOLDER / f"{locale}.toml").read_text(encoding="utf-8"))
        assert all(isinstance(leaf, str) for leaf in leaves(raw))
        assert len(list(leaves(raw))) == len(CATALOGUE.table(locale))


def test_both_required_notices_are_there():
    """The demonstration model is never taken for BiMediX2."""
    assert (
        CATALOGUE.text("app.demo_notice", "en") == "Demonstration model, not BiMediX2, not for clinical use"
    )
    assert "ليس BiMediX2" in CATALOGUE.text("app.demo_notice", "ar")


def test_importing_reads_no_file():
    """The catalogue is read when the first text is asked for, not before."""
    program = (
        "import sys; opened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "import i18n.catalogue, i18n.text\n"
        "assert not [n for n in opened if n.endswith('.toml')], opened\n"
        "assert not {'bidi', 'arabic_reshaper'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_key_named_in_the_program_exists():
    """A key misspelt in Python or in the page's scripts is found here and not by a reader."""
    root = LOCALE_FOLDER.parents[1]
    sections = "|".join(sorted({key.partition(".")[0] for key in KEYS}))
    literal = re.compile(rf"""(?<=["'`])(?:{sections})(?:\.[a-z_]+)+(?=["'`])""")
    files = [*(root / "app").rglob("*.py"), *(root / "app").rglob("*.html"), *(root / "assets").rglob("*.js")]
    named = {
        (key, file.name)
        for file in files
        if "vendor" not in file.parts
        for key in literal.findall(file.read_text(encoding="utf-8"))
    }
    modules = {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for package in ("app", "engine", "viewers")
        for file in (root / package).rglob("*.py")
    }
    assert sorted((key, file) for key, file in named if key not in {*KEYS, *modules}) == []
    assert len(named) > 20
