"""Pages without Gradio: signing in, one's account, reviews. Both languages are in the markup, one is shown.

So the page is right at first paint, before any script, and switching the language reloads nothing. A
marker ``[[account.sign_in]]`` becomes the text in both languages; ``[[=name]]`` becomes a part that was
given, where markup is made by :func:`both_texts` only.
"""

from __future__ import annotations

import json
import re
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal

from starlette.responses import HTMLResponse

from app.ui.headers import own_page_policy
from i18n.catalogue import LOCALES, Catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from app.settings import Settings

__all__ = ["both_texts", "own_page"]

_MARKER: Final = re.compile(r"\[\[(=?)([a-z_.]+)\]\]")
_DIRECTIONS: Final = {"en": "ltr", "ar": "rtl"}


def own_page(
    name: Literal["sign_in", "account", "review"],
    request: Request,
    settings: Settings,
    parts: Mapping[str, str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    """Answer with a page.

    Parameters
    ----------
    parts : mapping, optional
        Markup for the ``[[=name]]`` markers; a missing one is empty.
    """
    language = _preferred(request)
    given = {"language": language, "direction": _DIRECTIONS[language], "texts": _texts(), **(parts or {})}

    def fill(marker: re.Match[str]) -> str:
        is_part, key = marker.groups()
        return given.get(key, "") if is_part else both_texts(Catalogue().text(key, "en"), _arabic(key))

    markup = files("app.ui").joinpath(f"{name}.html").read_text(encoding="utf-8")
    policy = own_page_policy(settings.frame_ancestors)
    return HTMLResponse(_MARKER.sub(fill, markup), status, {"content-security-policy": policy})


def both_texts(english: str, arabic: str) -> str:
    """Markup of a sentence in both languages, of which the style sheet shows one."""
    return (
        f'<span lang="en" dir="ltr">{escape(english)}</span><span lang="ar" dir="rtl">{escape(arabic)}</span>'
    )


def _arabic(key: str) -> str:
    return Catalogue().text(key, "ar")


@cache
def _texts() -> str:
    """Texts for the scripts, as JSON that cannot end its element."""
    catalogue = Catalogue()
    texts = {
        locale: {key: text for key, text in catalogue.table(locale).items() if key.startswith("account.")}
        for locale in LOCALES
    }
    return json.dumps({"texts": texts}, ensure_ascii=False).replace("<", "\\u003c")


def _preferred(request: Request) -> str:
    """Language the browser asks for first; the boot script knows the one that was chosen."""
    return "ar" if request.headers.get("accept-language", "").lower().startswith("ar") else "en"
