"""One place for every sentence a user reads, in every language.

In: a key, a locale and named values. Out: a sentence. The texts lie in ``locales/<locale>.toml``; nested
tables become dotted keys, and a table whose keys are plural categories is one text with several forms.
Both files hold the same keys and the same placeholders; the tests see to that, so no text falls back
to another language while the program runs.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, Final

from i18n.text import BARE_NUMBER, LATIN_OR_DIGIT, direction, isolate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["LOCALES", "Catalogue", "MissingTextError", "MissingValueError", "placeholders", "plural_form"]

LOCALES: Final = ("en", "ar")
"""Languages the application speaks."""

PLURAL_FORMS: Final[dict[str, tuple[str, ...]]] = {
    "en": ("one", "other"),
    "ar": ("zero", "one", "two", "few", "many", "other"),
}
"""Plural categories of each language (Unicode CLDR)."""

_CATEGORIES: Final = frozenset(PLURAL_FORMS["ar"])
_FOLDER: Final = Path(__file__).parent / "locales"

Text = str | dict[str, str]
"""A sentence, or its plural forms by category."""


class MissingTextError(LookupError):
    """A key, or a plural form of it, that the catalogue of a language does not hold."""

    def __init__(self, key: str, locale: str) -> None:
        super().__init__(f"no text {key!r} in the catalogue of {locale!r}; add it to locales/{locale}.toml")


class MissingValueError(LookupError):
    """A placeholder of a text for which no value was given."""

    def __init__(self, key: str, locale: str, name: str, given: Sequence[str]) -> None:
        found = ", ".join(given) or "none"
        super().__init__(f"text {key!r} ({locale}) needs a value for {name!r}; values given: {found}")


def plural_form(locale: str, count: float) -> str:
    """Plural category of a number in a language.

    References
    ----------
    Unicode CLDR, Language Plural Rules (cardinal), ``en`` and ``ar``.
    """
    if locale == "en":
        return "one" if count == 1 else "other"
    if count in (0, 1, 2):
        return ("zero", "one", "two")[int(count)]
    if count != int(count):
        return "other"
    hundreds = int(count) % 100
    return "few" if 3 <= hundreds <= 10 else "many" if hundreds >= 11 else "other"


def placeholders(text: str) -> frozenset[str]:
    """Names of the values a text needs."""
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name is not None)


class Catalogue:
    """The texts of the application.

    Making one is cheap: the files are read once per process, when the first text is asked for.

    Parameters
    ----------
    folder : Path, optional
        Folder of ``en.toml`` and ``ar.toml``; the packaged one if left out.
    isolate : bool
        Whether a value that runs against its sentence, or mixes digits with signs in an Arabic one, is put
        between FSI and PDI (U+2068, U+2069) so that it does not reorder its neighbours. A bare number
        such as ``12.5`` needs none.
    """

    def __init__(self, folder: Path = _FOLDER, *, isolate: bool = True) -> None:
        self._folder = folder
        self._isolate = isolate

    def text(self, key: str, locale: str, /, **values: object) -> str:
        """Sentence of a key, with its values put in.

        Parameters
        ----------
        key : str
            Dotted key, e.g. ``"ui.ask"``.
        locale : str
            ``"en"`` or ``"ar"``; a longer tag such as ``"ar-SA"`` is taken for its language.
        **values : object
            Values of the placeholders; ``count`` also chooses the plural form.

        Raises
        ------
        MissingTextError
            If the key, or the plural form, is not in the catalogue.
        MissingValueError
            If a placeholder has no value.
        ValueError
            If the locale is not one of ``LOCALES``.
        """
        language = language_tag(locale)
        template = self._template(key, language, values)
        return _Filler(key, language, wrap=self._isolate).vformat(template, (), values)

    def keys(self) -> tuple[str, ...]:
        """All keys, sorted; a text with plural forms is one key."""
        return tuple(sorted(self._texts("en")))

    def forms(self, key: str, locale: str) -> dict[str, str]:
        """Every form of a text by plural category; a text without plural forms is its ``other``."""
        found = self._find(key, language_tag(locale))
        return {"other": found} if isinstance(found, str) else dict(found)

    def table(self, locale: str) -> dict[str, str]:
        """All texts of a language for the browser: placeholders unfilled, plural forms as ``key.form``."""
        flat: dict[str, str] = {}
        for key, text in self._texts(language_tag(locale)).items():
            flat |= {key: text} if isinstance(text, str) else {f"{key}.{form}": text[form] for form in text}
        return flat

    def _texts(self, language: str) -> Mapping[str, Text]:
        return _read(self._folder / f"{language}.toml")

    def _find(self, key: str, language: str) -> Text:
        try:
            return self._texts(language)[key]
        except KeyError:
            raise MissingTextError(key, language) from None

    def _template(self, key: str, language: str, values: Mapping[str, object]) -> str:
        found = self._find(key, language)
        if isinstance(found, str):
            return found
        count = values.get("count")
        if not isinstance(count, int | float):
            raise MissingValueError(key, language, "count", tuple(values))
        form = plural_form(language, count)
        if form not in found:
            raise MissingTextError(f"{key}.{form}", language)
        return found[form]


def language_tag(locale: str) -> str:
    """Language of a locale tag: ``ar`` of ``ar-SA``.

    Raises
    ------
    ValueError
        If the application does not speak it.
    """
    language = locale.replace("_", "-").partition("-")[0].lower()
    if language not in LOCALES:
        raise ValueError(f"found the locale {locale!r}, expected one of {', '.join(LOCALES)}")
    return language


class _Filler(Formatter):
    """``str.format`` that names what is missing and keeps foreign values from reordering a sentence."""

    def __init__(self, key: str, language: str, *, wrap: bool) -> None:
        self._key = key
        self._language = language
        self._finish: Callable[[str], str] = self._isolated if wrap else str

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Look a value up by its name."""
        if key not in kwargs:
            raise MissingValueError(self._key, self._language, str(key), tuple(kwargs))
        return super().get_value(key, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        """Write one value."""
        return self._finish(str(super().format_field(value, format_spec)))

    def _isolated(self, value: str) -> str:
        runs = direction(value)
        if self._language == "en":
            return isolate(value) if runs == "rtl" else value
        mixes = LATIN_OR_DIGIT.search(value) is not None and BARE_NUMBER.fullmatch(value) is None
        return isolate(value) if mixes else value


@cache
def _read(path: Path) -> dict[str, Text]:
    return dict(_flatten("", tomllib.loads(path.read_text(encoding="utf-8"))))


def _flatten(prefix: str, table: Mapping[str, Any]) -> list[tuple[str, Text]]:
    flat: list[tuple[str, Text]] = []
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, str):
            flat.append((key, value))
        elif "other" in value and _CATEGORIES.issuperset(value):
            flat.append((key, dict(value)))
        else:
            flat.extend(_flatten(f"{key}.", value))
    return flat
