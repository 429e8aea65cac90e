"""Quick questions as their readers worded them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from app.history.lines import storable
from app.history.models import prompts

if TYPE_CHECKING:
    from app.history.database import Database

__all__ = ["Prompting"]


class Prompting:
    """The quick questions of a history."""

    _database: Database

    def prompts(self, owner: str) -> dict[str, dict[str, str]]:
        """Texts an owner wrote: question id -> language -> text, in the order they were first written."""
        query = select(prompts).where(prompts.c.owner == owner).order_by(prompts.c.created, prompts.c.prompt)
        found: dict[str, dict[str, str]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault(row.prompt, {})[row.language] = row.text
        return found

    def word_prompt(self, owner: str, prompt: str, language: str, text: str) -> None:
        """Store how an owner words a question in a language, in place of what was there."""
        mine = (prompts.c.owner == owner) & (prompts.c.prompt == prompt) & (prompts.c.language == language)
        with self._database.write() as connection:
            since = connection.scalar(select(prompts.c.created).where(mine))
            connection.execute(delete(prompts).where(mine))
            connection.execute(
                insert(prompts).values(
                    owner=owner,
                    prompt=prompt,
                    language=language,
                    text=storable(text),
                    created=since or datetime.now(UTC),
                )
            )

    def forget_prompt(self, owner: str, prompt: str) -> None:
        """Forget what an owner wrote for a question, in every language."""
        mine = (prompts.c.owner == owner) & (prompts.c.prompt == prompt)
        with self._database.write() as connection:
            connection.execute(delete(prompts).where(mine))
