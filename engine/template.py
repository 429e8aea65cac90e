r"""A folder's own chat template, followed without letting typed text become part of it.

In: a template in Jinja, as transformers' folders carry it, and messages. Out: ids, image slots and the
loss mask. The template is run by transformers' own sandbox over marks instead of the messages' texts, so
that nothing anybody typed is ever seen by the template or by the search for control tokens; what it
writes around the marks is its own. How it wants a message (as a list of parts or as a string), whether it
takes system messages and whether it strips blanks is found out by trying.

References
----------
https://huggingface.co/docs/transformers/chat_templating
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import ConversationShapeError, UnsupportedCheckpointError
from engine.layouts import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.controls import Controls, Place
    from engine.messages import Message, Role
    from engine.prompt import PromptRenderer

__all__ = ["CHAT_LAYOUTS", "NAMED_LAYOUTS", "ChatTemplate", "TemplateWriter"]

_OPEN, _CLOSE = "\ue000", "\ue001"
"""Around a mark; two letters of Unicode's private area, which no template writes."""
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_PADDING = " \n"
_ROLES: tuple[Role, ...] = ("user", "assistant", "system")

NAMED_LAYOUTS: dict[str, str] = {
    "vicuna": (
        "{{ bos_token }}"
        "{%- if messages[0]['role'] != 'system' -%}"
        '{{ "A chat between a curious user and an artificial intelligence assistant. '
        "The assistant gives helpful, detailed, and polite answers to the user's questions. \" }}"
        "{%- endif -%}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'system' -%}{{ message['content'] + ' ' }}"
        "{%- elif message['role'] == 'user' -%}{{ 'USER: ' + message['content'] + ' ' }}"
        "{%- else -%}{{ 'ASSISTANT: ' + message['content'] + eos_token }}"
        "{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
    ),
    "llama2": (
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'user' -%}{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
        "{%- elif message['role'] == 'assistant' -%}{{ ' ' + message['content'] + ' ' + eos_token }}"
        "{%- else -%}{{ raise_exception('a system message stands in the first question') }}"
        "{%- endif -%}{%- endfor -%}"
    ),
    "chatml": (
        "{%- for message in messages -%}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    ),
}
"""Layouts for folders without a template of their own, by the name the options give them."""
CHAT_LAYOUTS = ("auto", "llama3", *NAMED_LAYOUTS)
"""What the options may ask for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a written conversation: of the template, or in its place the text of a message."""

    text: str
    message: int | None = None
    """Which message's text it is; ``None`` for the template's own."""


class ChatTemplate:
    """A chat template and how it wants to be asked.

    Parameters
    ----------
    text : str
        The template, in Jinja.
    image_token : str
        What stands for an image in what it writes.
    names : mapping of str to str
        Tokens it may name: ``bos_token``, ``eos_token`` and so on.
    source : object
        Named in errors.

    Raises
    ------
    UnsupportedCheckpointError
        If it cannot be run, or leaves out what users or assistants say.
    """

    def __init__(self, text: str, image_token: str, names: Mapping[str, str], source: object) -> None:
        self._text = text
        self._names = dict(names)
        self.image_token = image_token
        self.begin = self._names.get("bos_token", "")
        """What stands before everything, if the template writes it; else the tokenizer puts it there."""
        self.writes_images = False
        """Whether it places images itself; if not, they stand at the head of the message that brings them."""
        self._parts: dict[str, bool | None] = {}
        self._strips: dict[str, tuple[bool, bool]] = {}
        for role in _ROLES:
            self._try(role, source)

    def _try(self, role: Role, source: object) -> None:
        """Find out how the template takes messages of a role."""
        problem = "it leaves their text out"
        for parts in (True, False):
            try:
                written = self._run(self._trial(role, parts), answer=False)
            except _TemplateError as error:
                problem = str(error)
                continue
            place = _find(written, 0)
            images = written.count(self.image_token)
            if place is None or "'type'" in written or images != (role == "user"):
                continue
            if role == "user":
                self.writes_images = parts
            self._parts[role] = parts
            before, after = written[: place[0]], written[place[1] :]
            self._strips[role] = (not before.endswith(_PADDING), not after.startswith(_PADDING))
            return
        self._parts[role], self._strips[role] = None, (False, False)
        if role != "system":
            raise UnsupportedCheckpointError(
                source=source,
                found=f"a chat template that cannot write a message of the role {role} ({problem})",
                expected=f"one that writes its text once, and {self.image_token} for an image",
            )

    def _trial(self, role: Role, parts: bool) -> list[dict[str, Any]]:  # noqa: FBT001  # one of two trials
        padded = f"{_PADDING}{_mark(0)}{_PADDING}"
        user = self._content(_mark(1), images=0, parts=bool(self._parts.get("user", parts)))
        if role == "user":
            return [{"role": "user", "content": self._content(padded, images=1, parts=parts)}]
        tried = {"role": role, "content": self._content(padded, images=0, parts=parts)}
        asked = {"role": "user", "content": user}
        return [asked, tried] if role == "assistant" else [tried, asked]

    def _content(self, text: str, images: int, *, parts: bool) -> str | list[dict[str, str]]:
        if parts:
            return [{"type": "image"}] * images + [{"type": "text", "text": text}]
        # as LLaVA itself does where nothing else is said
        return f"{self.image_token}\n" * images + text

    def _run(self, messages: list[dict[str, Any]], *, answer: bool) -> str:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            written, _ = render_jinja_template(
                conversations=[messages],
                chat_template=self._text,
                add_generation_prompt=answer,
                **self._names,
            )
        except (TemplateError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise _TemplateError(" ".join(str(error).split())[:200] or type(error).__name__) from error
        return str(written[0])

    def _asked(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        asked = []
        system = ""
        for number, message in enumerate(messages):
            if message.role == "system" and self._parts["system"] is None:
                system = (
                    f"{_mark(number)}\n\n"  # this model knows no such message: it opens the first question
                )
                continue
            text = f"{system}{_mark(number)}"
            parts = bool(self._parts[message.role])
            content = self._content(text, len(message.images), parts=parts)
            asked.append({"role": message.role, "content": content})
            system = ""
        return asked

    def _written(self, messages: Sequence[Message], *, answer: bool) -> str:
        try:
            return self._run(self._asked(messages), answer=answer)
        except _TemplateError as error:
            raise ConversationShapeError(
                found=f"what its chat template refuses ({error})", expected="a conversation it can write"
            ) from error

    def pieces(self, messages: Sequence[Message], known: Sequence[int], *, answer: bool) -> Iterator[Piece]:
        """Write a conversation.

        Parameters
        ----------
        messages : sequence of Message
            In the order of :func:`engine.prompt.check_order`.
        known : sequence of int
            Messages whose ids are known: their header is the one behind which the model wrote them, and
            blanks that a template puts between header and answer are not written, the ids bring them along.
        answer : bool
            Whether the header of an answer follows.

        Raises
        ------
        ConversationShapeError
            If the template refuses it, or leaves out a message or an image.
        """
        written = self._written(messages, answer=answer)
        found = {int(mark.group(1)) for mark in _MARK.finditer(written)}
        images = sum(len(message.images) for message in messages)
        if len(found) < len(messages) or written.count(self.image_token) != images:
            raise ConversationShapeError(
                found=f"{len(found)} messages and {written.count(self.image_token)} images in what the chat "
                f"template writes",
                expected=f"{len(messages)} and {images}",
            )
        at = 0
        for mark in _MARK.finditer(written):
            number = int(mark.group(1))
            stop = mark.start()
            if number in known:
                # some templates write an answer's header otherwise once it is given: the model read this one
                opened = self._written(messages[:number], answer=True)
                same = opened[:at] == written[:at]
                yield Piece(opened[at:] if same else written[at:stop])
            else:
                yield Piece(written[at:stop])
            yield Piece(self._said(messages[number]), number)
            at = mark.end()
        yield Piece(written[at:])

    def _said(self, message: Message) -> str:
        left, right = self._strips[message.role]
        text = message.text.lstrip() if left else message.text
        return text.rstrip() if right else text

    def end_of_turn(self, controls: Controls) -> int | None:
        """Id of the control token directly behind an answer; ``None`` if the template writes none there."""
        written = self._run(self._trial("assistant", bool(self._parts["assistant"])), answer=False)
        place = _find(written, 0)
        behind = written[place[1] :].removeprefix(_PADDING) if place else ""
        token, number = next(controls.split(behind), ("", None))
        return number if token != self.begin else None


class _TemplateError(Exception):
    """A template that could not be run; its text is for a person."""


def _mark(number: int) -> str:
    return f"{_OPEN}{number}{_CLOSE}"


def _find(written: str, number: int) -> tuple[int, int] | None:
    """Where a mark stands, if it stands there once."""
    mark = _mark(number)
    at = written.find(mark)
    return None if at < 0 or written.count(mark) > 1 else (at, at + len(mark))


class TemplateWriter(Writer):
    """Follows a :class:`ChatTemplate`; text between two control tokens is encoded as one."""

    def __init__(self, renderer: PromptRenderer, answer_ids: Mapping[str, Sequence[int]]) -> None:
        super().__init__(renderer, answer_ids)
        if renderer.profile.template is None or renderer.controls is None:
            raise ValueError("this layout needs a template")
        self._template = renderer.profile.template
        self._controls = renderer.controls
        self._run: list[tuple[str, bool]] = []
        self._images: list[Any] = []
        self._coarse = False
        self._begun = False
        self._place: Place = "first"
        self._answered = False
        """Whether an answer was the last thing written: the control token behind it is learned too."""

    def write(self, messages: Sequence[Message], *, for_training: bool) -> None:
        """Write a whole conversation, with the header of an answer or to the end of the last one."""
        answers = [number for number, message in enumerate(messages) if message.role == "assistant"]
        known = [number for number in answers if messages[number].text in self._answer_ids]
        self._images = [image for message in messages for image in message.images]
        self._coarse = self._renderer.profile.coarse_among_others and len(self._images) > 1
        self._images.reverse()
        last = False
        for piece in self._template.pieces(messages, known, answer=not for_training):
            if last:
                self._end(piece.text)
                break
            if piece.message is None:
                self._own(piece.text)
            elif piece.message in known:
                self._flush()
                self._put(self._answer_ids[messages[piece.message].text], learned=True)
                self._place, self._answered = "inside", True
            else:
                self._run.append((piece.text, piece.message in answers))
                self._answered = piece.message in answers
            last = for_training and piece.message == len(messages) - 1
        self._flush()

    def _end(self, behind: str) -> None:
        """End the last answer as a model would, whatever else the template writes."""
        self._flush()
        token, number = next(self._controls.split(behind), ("", None))
        ours = number is not None and token != self._template.begin
        self._put([number if ours and number is not None else self._renderer.end_of_turn], learned=True)

    def _own(self, text: str) -> None:
        """Write what is the template's own."""
        if not self._begun and text:
            self._begun = True
            if not (self._template.begin and text.startswith(self._template.begin)):
                self._put(self._renderer.opening())
        for piece, number in self._controls.split(text):
            if number is None:
                self._run.append((piece, False))
                self._answered = False
                continue
            before, behind = self._controls.swallows(piece)
            self._flush(strip_end=before)
            if number == self._renderer.profile.image_token_id:
                self.image(self._images.pop(), coarse=self._coarse)
            else:
                self._put([number], learned=self._answered and piece != self._template.begin)
            self._place, self._swallow, self._answered = "later", behind, False

    def _flush(self, *, strip_end: bool = False) -> None:
        """Encode the text since the last control token."""
        parts = self._run
        if self._swallow:
            parts = _stripped(parts, str.lstrip)
        if strip_end:
            parts = _stripped(parts[::-1], str.rstrip)[::-1]
        ids, learned = self._controls.encode(parts, self._place)
        if ids:
            self._place = "inside"
        self.ids.extend(ids)
        self.learned.extend(learned)
        self._run, self._swallow = [], False


def _stripped(parts: list[tuple[str, bool]], strip: Any) -> list[tuple[str, bool]]:
    """Strip the blanks at one end of text that lies in pieces."""
    rest = list(parts)
    while rest and not strip(rest[0][0]):
        rest.pop(0)
    return [(strip(rest[0][0]), rest[0][1]), *rest[1:]] if rest else []
