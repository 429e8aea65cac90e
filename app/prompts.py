"""Quick questions: those that come with the application, as each reader has changed them.

A reader may word one differently in one language, take one off the list, or add own ones. What is changed
is kept with the history, by owner; a new version of the application brings new questions without losing it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

from app.errors import PromptTextError
from app.history.rows import new_id
from i18n.text import strip_controls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.history.store import HistoryStore

__all__ = ["Prompt", "PromptBook", "built_in"]

Needs = Literal["", "region", "answer", "two_images"]

_LONGEST: Final = 1000
_MOST_OWN: Final = 100
_OWN: Final = "own-"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One quick question."""

    id: str
    texts: Mapping[str, str]
    """By language; an own one may have only one."""
    modalities: tuple[str, ...] = ()
    """DICOM's codes; empty: every image."""
    needs: Needs = ""
    changed: tuple[str, ...] = field(default=())
    """Languages in which the reader worded it."""

    @property
    def is_own(self) -> bool:
        """Whether the reader added it."""
        return self.id.startswith(_OWN)


@cache
def built_in() -> tuple[Prompt, ...]:
    """Questions that come with the application, in the order they are shown."""
    text = files("assets").joinpath("prompts", "prompts.toml").read_text(encoding="utf-8")
    return tuple(_prompt(entry) for entry in tomllib.loads(text)["prompt"])


def _prompt(entry: Mapping[str, Any]) -> Prompt:
    texts = {"en": entry["en"], "ar": entry["ar"]}
    return Prompt(entry["id"], texts, tuple(entry.get("modalities", ())), entry.get("needs", ""))


class PromptBook:
    """Quick questions of every reader."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    def prompts(self, owner: str) -> list[Prompt]:
        """List an owner's questions: built-in ones as the owner worded them, then own ones, oldest first."""
        changed = self._store.prompts(owner)
        shown = [_worded(one, changed.pop(one.id, {})) for one in built_in()]
        own = [Prompt(key, texts) for key, texts in changed.items() if key.startswith(_OWN)]
        return [one for one in (*shown, *own) if any(one.texts.values())]

    def word(self, owner: str, prompt_id: str | None, language: str, text: str) -> str:
        """Word a question; an empty text takes it off the list in that language.

        Parameters
        ----------
        prompt_id : str or None
            ``None`` adds an own one.

        Returns
        -------
        str
            Id of the question.

        Raises
        ------
        PromptTextError
            If there is no such question, an own one is empty, the text is too long, or there are too many.
        """
        text = " ".join(strip_controls(text).split())
        if len(text) > _LONGEST:
            raise PromptTextError(found=f"{len(text)}", expected=f"1-{_LONGEST}")
        known = {one.id for one in built_in()} | {one.id for one in self.prompts(owner)}
        if prompt_id is None:
            own = sum(one.is_own for one in self.prompts(owner))
            if not text or own >= _MOST_OWN:
                raise PromptTextError(found=f"{len(text)} ({own})", expected=f"1-{_LONGEST} (0-{_MOST_OWN})")
            prompt_id = _OWN + new_id()
        elif prompt_id not in known:
            raise PromptTextError(found=prompt_id[:40], expected="1")
        self._store.word_prompt(owner, prompt_id, language, text)
        return prompt_id

    def restore(self, owner: str, prompt_id: str) -> None:
        """Forget how the owner worded a question; an own one is gone then."""
        self._store.forget_prompt(owner, prompt_id)


def _worded(prompt: Prompt, texts: Mapping[str, str]) -> Prompt:
    return Prompt(prompt.id, {**prompt.texts, **texts}, prompt.modalities, prompt.needs, tuple(sorted(texts)))
