"""Stored turns as the model is given them: what is left out, what is carried on, in which language.

Nothing here stores, draws or computes; everything is made anew from what the history holds, so that the
same conversation is always the same prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.errors import AnswerNotFoundError, TurnNotFoundError
from engine.messages import Message, TextPart
from i18n.text import language_of, strip_controls
from viewers.shown import shown_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.history.records import Answer, Thread, Turn
    from engine.messages import ImagePart
    from viewers.shown import Shown

__all__ = ["answer_in", "last_views", "messages", "not_shown_last", "translation", "until"]

# Said to the model, in the language it is to answer in; neither belongs to the page's texts.
_ANSWER_IN: Final = {"en": "Answer in English.", "ar": "أجب باللغة العربية."}
_TRANSLATE: Final = {
    "en": (
        "Translate the following text into English. Keep every number, unit and side exactly as it is. "
        "Add nothing and leave nothing out; give the translation alone."
    ),
    "ar": (
        "ترجم النص الآتي إلى العربية الفصحى. أبقِ كل رقم ووحدة وجانب كما هو تمامًا. "
        "لا تُضف شيئًا ولا تحذف شيئًا، واكتب الترجمة وحدها."
    ),
}


def messages(
    turns: Sequence[Turn],
    left_out: int,
    language: str,
    pictures: Callable[[Shown], Sequence[ImagePart]],
    words: Callable[[Shown, str], str] = lambda _shown, _language: "",
) -> list[Message]:
    """Build the conversation the model is given.

    The image shown last before the kept turns goes in front of them, so that a long conversation
    never loses the picture it is about. Where an answer is wanted in another language than its
    question's, the question says so; it is stored as it was asked.

    Parameters
    ----------
    turns : sequence of Turn
        Up to the one being answered.
    left_out : int
        How many of the oldest turns the model is not given.
    language : str
        ``en`` or ``ar``, of the answer being written.
    pictures : callable
        Draws what is on screen, as one picture or several.
    words : callable
        Says what the model should know of them beside their pixels, in the language of the answer; empty
        for most.
    """
    carried = last_views(turns[:left_out])
    found: list[Message] = []
    for turn in turns[left_out:]:
        reply = _reply(turn)
        is_last = turn is turns[-1]
        if not is_last and reply is None:
            # a question that was never answered would stand where an answer belongs
            carried = [shown_from_json(item.view) for item in turn.views] or carried
            continue
        views = [shown_from_json(item.view) for item in turn.views] or carried
        carried = []
        images = [picture for view in views for picture in pictures(view)]
        wanted = language if is_last or reply is None else reply.language
        said = [words(view, wanted) for view in views]
        text = "\n".join([*filter(None, said), _asked(turn.question, wanted)])
        found.append(Message("user", (*images, TextPart(text))))
        if not is_last and reply is not None:
            found.append(Message.of("assistant", reply.text))
    return found


def _asked(question: str, language: str) -> str:
    return question if language_of(question) == language else f"{question}\n{_ANSWER_IN[language]}"


def _reply(turn: Turn) -> Answer | None:
    """Answer the conversation goes on from: the newest that has any text and is no translation."""
    said = (answer for answer in reversed(turn.answers) if answer.translation_of is None)
    return next((answer for answer in said if answer.text), None)


def until(turns: Sequence[Turn], turn_id: str) -> Sequence[Turn]:
    """Cut the turns behind the one being answered.

    Raises
    ------
    TurnNotFoundError
    """
    for index, turn in enumerate(turns):
        if turn.id == turn_id:
            return turns[: index + 1]
    raise TurnNotFoundError(found=turn_id)


def answer_in(thread: Thread, answer_id: str) -> tuple[Turn, Answer]:
    """Find an answer of a conversation, with its turn.

    Raises
    ------
    AnswerNotFoundError
    """
    for turn in thread.turns:
        for answer in turn.answers:
            if answer.id == answer_id:
                return turn, answer
    raise AnswerNotFoundError(found=answer_id)


def translation(text: str, language: str) -> list[Message]:
    """Build the conversation whose answer is a text in another language; it holds no image."""
    return [Message.of("user", f"{_TRANSLATE[language]}\n\n{strip_controls(text)}")]


def last_views(turns: Sequence[Turn]) -> list[Shown]:
    """Return the views the conversation was given last."""
    for turn in reversed(turns):
        if turn.views:
            return [shown_from_json(item.view) for item in turn.views]
    return []


def not_shown_last(turns: Sequence[Turn], views: Sequence[Shown]) -> list[Shown]:
    """Keep views the conversation was not just given: a picture twice costs context and says nothing."""
    return [] if list(views) == last_views(turns) else list(views)
