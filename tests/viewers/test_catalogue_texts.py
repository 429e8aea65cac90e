"""Every error, finding and preset has a text in both languages; the English ones are the templates."""

from __future__ import annotations

import inspect
import string
import tomllib
from pathlib import Path

import pytest

from viewers import errors
from viewers.findings import TEMPLATES, Finding, finding
from viewers.presets import CT_PRESETS, PIXEL_KEYS

LOCALES = Path(__file__).parents[2] / "i18n" / "locales"
CATALOGUES = {
    name: tomllib.loads((LOCALES / f"{name}.toml").read_text(encoding="utf-8")) for name in ("en", "ar")
}
ERRORS = [
    item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, errors.ViewerError)
]


def text(language, key):
    table, _, name = key.partition(".")
    return CATALOGUES[language][table][name]


def fields(template):
    return {field for _, field, _, _ in string.Formatter().parse(template) if field}


@pytest.mark.parametrize("error", ERRORS, ids=[error.__name__ for error in ERRORS])
def test_errors(error):
    """Each class has its own key, an English text equal to its template, and the same values in Arabic."""
    assert text("en", error.key) == error.template
    assert fields(text("ar", error.key)) == fields(error.template)
    assert [other for other in ERRORS if other.key == error.key] == [error]


def test_errors_are_exported_and_drawn():
    """``__all__`` is sorted and whole, and the docstring draws every class."""
    assert errors.__all__ == sorted(error.__name__ for error in ERRORS)
    assert all(name in errors.__doc__ for name in errors.__all__)


def test_reasons_for_leaving_a_file_out():
    """Every error that leaves a file out has a few words for a list, in both languages."""
    for error in ERRORS:
        if issubclass(error, errors.OpenError) and error is not errors.OpenError:
            reason = error.key.removeprefix("viewers.")
            assert text("en", f"left_out.{reason}") != text("ar", f"left_out.{reason}")


@pytest.mark.parametrize("key", sorted(TEMPLATES))
def test_findings(key):
    """Findings have the same texts in the catalogue, and the same values in Arabic; counts have plurals."""
    english, arabic = text("en", key), text("ar", key)
    if "count" in fields(TEMPLATES[key]):
        english, arabic = english["other"], arabic["other"]
    assert english == TEMPLATES[key]
    assert fields(arabic) == fields(TEMPLATES[key])


@pytest.mark.parametrize("key", [*CT_PRESETS, *PIXEL_KEYS, "file", "lut"])
def test_presets(key):
    """Every key of a window has a label in both languages."""
    assert text("en", f"preset.{key}")
    assert text("ar", f"preset.{key}")


def test_finding_values_are_checked():
    """A finding without the values its text names, or of no kind, is a programming mistake."""
    with pytest.raises(KeyError):
        finding("quantised")
    with pytest.raises(KeyError):
        finding("nonsense")
    assert finding("quantised", step=2) == Finding("finding.quantised", {"step": 2})
    assert len({finding("lossy"), finding("lossy")}) == 1
