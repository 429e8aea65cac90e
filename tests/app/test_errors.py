"""Any error becomes one sentence in the user's language, and only that."""

import logging
import re

import pytest

from app.errors import (
    AppError,
    ImageNotFoundError,
    NotFoundError,
    SettingsError,
    StorageTooNewError,
    ThreadNotFoundError,
    user_text,
)
from engine.errors import PromptTooLongError
from i18n.text import direction, strip_controls
from viewers.errors import ViewerError


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
