"""Any error becomes one sentence in the user's language, and only that."""

import ast
import logging
import re
from pathlib import Path

import pytest

import viewers.errors
from app.errors import (
    AppError,
    ImageNotFoundError,
    NotFoundError,
    SettingsError,
    StorageTooNewError,
    ThreadNotFoundError,
    user_text,
)
from app.finding_text import values_in_words
from engine.errors import PromptTooLongError
from i18n.text import direction, strip_controls
from viewers.errors import CorruptHeaderError, CorruptTileError, ViewerError


@pytest.mark.parametrize(
    "error",
    [
        SettingsError(place="settings.toml", found="port = 'x'", expected="int"),
        PromptTooLongError(found=9000, limit=8192),
        ViewerError(reason="no pixels"),
        ThreadNotFoundError(found="abc"),
        StorageTooNewError(location="history.sqlite3", found="0009", expected="0002"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_known_errors_speak_both_languages(error):
    """In English the sentence is the error's own; in Arabic it holds the same values."""
    assert user_text(error, "en") == str(error)
    arabic = user_text(error, "ar")
    assert direction(re.sub("\u2068[^\u2069]*\u2069", "", arabic)) == "rtl"
    for name in re.findall(r"{(\w+)}", error.template):
        assert str(error.values[name]) in strip_controls(arabic)


def test_words_of_the_viewers_are_in_the_readers_language():
    """What was found and expected is said in Arabic too; names and numbers stay."""
    error = CorruptTileError(level=0, column=1, row=2, reason="damaged JPEG 2000")
    assert user_text(error, "en") == str(error)
    assert "بيانات JPEG 2000 تالفة" in strip_controls(user_text(error, "ar"))
    named = CorruptHeaderError(attribute="TotalPixelMatrixColumns", found="missing", expected="VL WSM")
    arabic = strip_controls(user_text(named, "ar"))
    assert all(word in arabic for word in ("TotalPixelMatrixColumns", "مفقود", "VL WSM"))
    assert "missing" in strip_controls(
        user_text(SettingsError(place="missing", found="1", expected="2"), "ar")
    )


NAMES = {"original", "index.bin", "tiles.bin: SHA-256"}
"""Of files and of their kinds."""
SAID_IN = ("openers", "slide_adopt.py", "slide_store.py", "picture.py", "deid.py")


def _words_said():
    """Phrases that the modules of slides, pictures and de-identification put into errors."""
    root = Path(viewers.errors.__file__).parent
    paths = [
        path
        for name in SAID_IN
        for path in ((root / name).rglob("*.py") if (root / name).is_dir() else [root / name])
    ]
    for path in paths:
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            for keyword in call.keywords:
                said = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in {"found", "reason", "quantity"} and isinstance(said, str):
                    yield said


@pytest.mark.parametrize(
    "said", sorted({said for said in _words_said() if re.search(r"\b[a-z]{4}", said) and said not in NAMES})
)
def test_every_word_has_its_translation(said):
    """A reason written in English in the code is in the catalogue."""
    shown = values_in_words({"found": said}, "ar")["found"]
    assert direction(shown) == "rtl"
    assert values_in_words({"found": said}, "en")["found"] == said


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_unexpected_errors_show_a_reference_and_no_detail(locale, caplog):
    """The traceback goes to the log under a reference; the user sees the reference alone."""
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    with caplog.at_level(logging.ERROR, logger="bimedix2.app"):
        said = user_text(caught.value, locale)
    (record,) = caplog.records
    reference = re.search(r"\b[0-9a-f]{8}\b", strip_controls(said))[0]
    assert reference in record.getMessage()
    assert "division by zero" in caplog.text
    assert "Traceback" in caplog.text
    assert "division" not in said


def test_a_class_without_a_sentence_is_still_reported(caplog):
    """A forgotten catalogue entry does not hide the error it belongs to."""

    class ForgottenError(AppError):
        key = "app.forgotten"
        template = "Forgotten {thing}."

    with caplog.at_level(logging.ERROR, logger="bimedix2.app"):
        said = user_text(ForgottenError(thing="x"), "en")
    assert "reference" in said
    assert "no text 'app.forgotten'" in caplog.text


def test_somebody_elses_and_missing_look_the_same():
    """The text of a not-found error does not depend on what was looked up."""
    assert str(ImageNotFoundError(found="a")) == str(ImageNotFoundError(found="b"))
    assert issubclass(ImageNotFoundError, NotFoundError)
