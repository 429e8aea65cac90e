"""What stands first in the page's ``<head>``: boot script, texts of both languages, styles and scripts."""

from __future__ import annotations

import json
from typing import Final

from i18n.catalogue import LOCALES, Catalogue

__all__ = ["page_head"]

_PREFIXES: Final = ("ui.", "preset.")
_KEYS: Final = ("app.title", "app.research_notice", "app.demo_notice")
_LOCK: Final = (
    '<link rel="stylesheet" href="page/css/lock.css">'
    '<script type="module" src="page/js/account/lock.js"></script>'
)


def page_head(model_name: str, *, is_demonstration: bool, users: bool = False) -> bytes:
    """Markup for the start of ``<head>``: boot script, texts of both languages, styles and scripts.

    Parameters
    ----------
    users : bool
        Whether people sign in: then the page can be locked, and says who it is.
    """
    catalogue = Catalogue()
    prefixes = (*_PREFIXES, "account.") if users else _PREFIXES
    texts = {
        locale: {
            key: text
            for key, text in catalogue.table(locale).items()
            if key.startswith(prefixes) or key in _KEYS
        }
        for locale in LOCALES
    }
    values = {"texts": texts, "model": {"name": model_name, "demonstration": is_demonstration}}
    # "<" is the one character that could end a script element from inside JSON
    data = json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")
    return (
        '<meta charset="utf-8"><script src="page/js/boot.js"></script>'
        f"<title>{catalogue.text('app.title', 'en')}</title>"
        '<link rel="icon" href="page/icons/favicon.svg" type="image/svg+xml">'
        '<link rel="preload" href="page/fonts/noto-sans-arabic-arabic-wght-normal.woff2" as="font" '
        'type="font/woff2" crossorigin>'
        '<link rel="stylesheet" href="page/css/page.css"><link rel="stylesheet" href="page/css/study.css">'
        '<link rel="stylesheet" href="page/css/workspace.css">'
        '<link rel="stylesheet" href="page/css/slide.css">'
        f'<script type="application/json" id="bimedix2-page">{data}</script>'
        '<script type="module" src="page/js/page.js"></script>' + (_LOCK if users else "")
    ).encode()
