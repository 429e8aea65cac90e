"""Help and complaints of the command line in the user's language.

The parser is written in English. For another language each of its texts is looked up in the catalogue by
the English one, and so are the few sentences argparse says itself: it asks ``gettext`` for them, which
knows no Arabic. Nothing here runs for an English terminal.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["language_asked", "speaking", "texts_of", "wrong_value"]


def language_asked(arguments: Sequence[str], otherwise: str) -> str:
    """Language that ``--language`` names, before anything is parsed."""
    for place, one in enumerate(arguments):
        name, _, value = one.partition("=")
        if name == "--language":
            value = value or (arguments[place + 1] if place + 1 < len(arguments) else "")
            return value if value in {"en", "ar"} else otherwise
    return otherwise


@contextmanager
def speaking(parser: argparse.ArgumentParser, language: str) -> Iterator[None]:
    """Put a parser's texts into a language, and argparse's own for as long as the block lasts."""
    if language == "en":
        yield
        return
    from i18n.catalogue import Catalogue

    tables = {locale: Catalogue().table(locale) for locale in ("en", language)}
    spoken = {
        english: tables[language][key] for key, english in tables["en"].items() if key.startswith("help.")
    }
    for part, name in _places(parser):
        setattr(part, name, spoken.get(getattr(part, name), getattr(part, name)))
    # module attributes: argparse offers no other way to another language than files of gettext
    own: Any = argparse
    before = own._, own.ngettext
    own._ = lambda text: _said(spoken, text)
    own.ngettext = lambda one, more, count: spoken.get(one, one if count == 1 else more)
    try:
        yield
    finally:
        own._, own.ngettext = before


def _said(spoken: Mapping[str, str], text: str | None) -> str | None:
    """Translate a text; blanks and line ends around it stay. argparse asks for no text too."""
    if text is None:
        return None
    inside = text.strip()
    return text.replace(inside, spoken[inside]) if inside in spoken else text


def wrong_value(english: str, **values: object) -> argparse.ArgumentTypeError:
    """Error of a flag's value, in the language argparse speaks at the moment.

    Parameters
    ----------
    english : str
        A text of the catalogue, with the names of ``values`` in braces.
    """
    own: Any = argparse
    return argparse.ArgumentTypeError(own._(english).format(**values))


def texts_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every text of a parser and of its commands, as they stand now."""
    return {getattr(part, name) for part, name in _places(parser)}


def _places(parser: argparse.ArgumentParser) -> Iterator[tuple[Any, str]]:
    """Where texts stand: objects, each with the name of its attribute; shared ones once."""
    seen: set[int] = set()
    for part, name in _all_places(parser):
        if id(part) not in seen and getattr(part, name) not in {None, argparse.SUPPRESS}:
            seen.add(id(part))
            yield part, name


def _all_places(parser: argparse.ArgumentParser) -> Iterator[tuple[Any, str]]:
    yield parser, "description"
    for group in parser._action_groups:  # noqa: SLF001 - argparse lists them nowhere else
        yield group, "title"
    for action in parser._actions:  # noqa: SLF001 - same
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - same
            for choice in action._choices_actions:  # noqa: SLF001 - same
                yield choice, "help"
            commands: Mapping[str, argparse.ArgumentParser] = action.choices
            for command in commands.values():
                yield from _all_places(command)
        else:
            yield action, "help"
