"""Finding a message again: in both languages, however it was spelled, newest first.

A query is words and nothing else: what a search language would take for an operator is a sign between
two words here. Hits come in the order of time, so the database stops at the first page of them; an order
of relevance would need every hit of a common word. An answer is found once it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import and_, literal, select, text

from app.history import parts
from app.history.indexing import passage_number
from app.history.models import answers, passages, threads, turns
from app.history.records import SearchHit
from app.history.words import (
    asked_words,
    begun_words,
    feedback_facet,
    marks,
    modality_facet,
    owner_facet,
    snippet,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row, TextClause

    from app.history.database import Database
    from app.history.records import FeedbackReason
    from app.history.words import Match

__all__ = ["Searching"]

_MOST_WORDS = 16
"""Words of a query that count."""
_EXCERPT = 160
"""Characters shown of a hit: two lines."""
_FIRST, _LAST = -(2**62), 2**62


class Searching:
    """The search of a history."""

    _database: Database

    def search(
        self,
        owner: str | Sequence[str],
        query: str,
        *,
        match: Match = "words",
        modality: str | None = None,
        feedback: FeedbackReason | Literal["any"] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
        before: SearchHit | int | None = None,
    ) -> list[SearchHit]:
        """Find an owner's questions and ended answers, newest first.

        Parameters
        ----------
        owner : str or sequence of str
            Whose; nobody else's are ever found. Several only for somebody who may read them all.
        query : str
            Words; signs between them mean nothing. Without any word every message is found that the other
            conditions choose, and nothing without them either.
        match : {"words", "beginnings", "phrase"}
            Every word somewhere in the text; every word as the beginning of one, for a search while
            typing; or all of them one after the other.
        modality : str, optional
            Only conversations that had shown such an image by then, e.g. ``CT``.
        feedback : str, optional
            Only answers judged with this reason, or with ``any``.
        since, until : datetime, optional
            Aware; messages from ``since`` on and before ``until``.
        limit : int
            How many at most.
        before : SearchHit or int, optional
            The last one of the page before, or its number.
        """
        asked = list(dict.fromkeys(asked_words(query))) if match != "phrase" else asked_words(query)
        asked = asked[:_MOST_WORDS]
        begun = begun_words(query)[:_MOST_WORDS] if match == "beginnings" else [(word,) for word in asked]
        chosen = modality or feedback or since or until
        if not owner or not (asked or chosen):
            return []
        owners = [owner] if isinstance(owner, str) else list(owner)
        facets = [modality_facet(modality)] if modality else []
        facets += [feedback_facet(feedback)] if feedback else []
        first = _FIRST if since is None else passage_number(since)
        last = min(
            _LAST if until is None else passage_number(until),
            before.number if isinstance(before, SearchHit) else _LAST if before is None else before,
        )
        with self._database.read() as connection:
            find = _full_text if connection.dialect.name == "sqlite" else _vectors
            whose = [owner_facet(name) for name in owners]
            numbers = find(connection, _Wanted(whose, facets, begun, match, first, last, limit))
            found = _messages(connection, owners, numbers)
        shown = [word for some in begun for word in some]
        return [_hit(row, shown, match) for row in found]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A query, taken apart; its words and facets hold letters and digits only."""

    owners: Sequence[str]
    """Facets of whom; any of them."""
    facets: Sequence[str]
    """All of these."""
    asked: Sequence[Sequence[str]]
    """Of each, one; an article alone, which asks for nothing yet, is not among them."""
    match: Match
    first: int
    last: int
    limit: int

    @property
    def phrase(self) -> str:
        """All words one after the other."""
        return " ".join(word for some in self.asked for word in some)


def _full_text(connection: Connection, wanted: _Wanted) -> Sequence[int]:
    """Numbers of the hits, by SQLite's full-text index."""
    star = "*" if wanted.match == "beginnings" else ""
    asked = [[wanted.phrase]] if wanted.asked and wanted.match == "phrase" else wanted.asked
    any_of = [" OR ".join(f'"{word}"{star}' for word in some) for some in asked]
    terms = " AND ".join(f"words : ({some})" for some in any_of)
    facets = [wanted.owners, *([facet] for facet in wanted.facets)]
    return parts.find(connection, terms, facets, wanted.first, wanted.last, wanted.limit)


def _vectors(connection: Connection, wanted: _Wanted) -> Sequence[int]:
    """Numbers of the hits, by PostgreSQL's index of words; a phrase is then looked for in the text."""
    star = ":*" if wanted.match == "beginnings" else ""
    owners = " | ".join(f"'~{owner}'" for owner in wanted.owners)
    terms = [f"({owners})"] + [f"'~{facet}'" for facet in wanted.facets]
    terms += ["(" + " | ".join(f"'{word}'{star}" for word in some) + ")" for some in wanted.asked]
    conditions: list[ColumnElement[bool] | TextClause] = [
        text("lexemes @@ CAST(:terms AS tsquery)").bindparams(terms=" & ".join(terms))
    ]
    if wanted.asked and wanted.match == "phrase":
        padded = literal(" ") + passages.c.words + literal(" ")
        conditions.append(padded.contains(f" {wanted.phrase} "))
    query = select(passages.c.id).where(*conditions)
    query = query.where(passages.c.id >= wanted.first, passages.c.id < wanted.last)
    return connection.scalars(query.order_by(passages.c.id.desc()).limit(wanted.limit)).all()


def _messages(connection: Connection, owners: Sequence[str], numbers: Sequence[int]) -> list[Row[Any]]:
    query = select(
        passages.c.id,
        threads.c.owner,
        turns.c.thread_id,
        threads.c.title,
        passages.c.turn_id,
        passages.c.answer_id,
        turns.c.question,
        turns.c.created,
        answers.c.text,
        answers.c.started,
    )
    query = query.join(turns, passages.c.turn_id == turns.c.id).join(
        threads, turns.c.thread_id == threads.c.id
    )
    query = query.outerjoin(answers, passages.c.answer_id == answers.c.id)
    query = query.where(and_(passages.c.id.in_(numbers), threads.c.owner.in_(owners)))
    return list(connection.execute(query.order_by(passages.c.id.desc())))


def _hit(row: Row[Any], asked: Sequence[str], match: Match) -> SearchHit:
    whole = row.question if row.answer_id is None else row.text
    places = marks(whole, asked, match)
    start, end = snippet(whole, places, _EXCERPT)
    inside = tuple((first - start, last - start) for first, last in places if start <= first and last <= end)
    return SearchHit(
        row.owner,
        row.id,
        row.thread_id,
        row.title,
        row.turn_id,
        row.answer_id,
        row.created if row.answer_id is None else row.started,
        whole[start:end],
        start,
        inside,
        (start > 0, end < len(whole)),
    )
