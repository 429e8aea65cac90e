r"""How each chat layout writes a conversation, piece by piece.

In: messages, and the renderer that owns the tokenizer. Out: ids, image slots and the loss mask, collected
by a :class:`Writer`. Control tokens are placed by id and what somebody typed is encoded as plain text, in
every layout; a folder's own chat template is followed by :mod:`engine.template`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.messages import ImagePart, Message
    from engine.prompt import PromptRenderer

__all__ = ["CONTROL_TOKENS", "ImageSlot", "Llama3Writer", "Phi3Writer", "Writer"]

_BEGIN, _HEADER, _HEADER_END, _END_OF_TURN = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
_PHI3_ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
_PHI3_END = "<|end|>"
CONTROL_TOKENS = {
    "llama3": (_BEGIN, _HEADER, _HEADER_END, _END_OF_TURN),
    "phi3": (*_PHI3_ROLES.values(), _PHI3_END),
}
"""Control tokens a layout needs; the last one ends a message."""


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """Where one image lies in the ids: ``ids[start : start + length]``."""

    start: int
    length: int
    digest: str
    """Content hash of the image, so that equal ids with different pictures can be told apart."""
    coarse: bool = False
    """Read as one whole picture although alone it would be read in tiles as well."""


class Writer(ABC):
    """Collects ids, image slots and the loss mask piece by piece."""

    def __init__(self, renderer: PromptRenderer, answer_ids: Mapping[str, Sequence[int]]) -> None:
        self._renderer = renderer
        self._answer_ids = answer_ids
        self._pending = ""
        self._swallow = False
        self.ids: list[int] = []
        self.slots: list[ImageSlot] = []
        self.learned: list[bool] = []

    def _put(self, ids: Sequence[int], *, learned: bool = False) -> None:
        self.ids.extend(ids)
        self.learned.extend([learned] * len(ids))

    def control(self, *tokens: str, learned: bool = False) -> None:
        """Write control tokens, by name."""
        self._put([self._renderer.token_id(token) for token in tokens], learned=learned)

    def text(self, text: str, *, learned: bool = False) -> None:
        """Write plain text; nothing in it becomes a control token."""
        self._put(self._renderer.encode(text), learned=learned)

    @abstractmethod
    def write(self, messages: Sequence[Message], *, for_training: bool) -> None:
        """Write a whole conversation, with the header of an answer behind it unless it is to be learned."""

    def image(self, image: ImagePart, *, coarse: bool = False) -> None:
        """Write an image, as many tokens as it fills."""
        length = self._renderer.image_length(image, coarse=coarse)
        self.slots.append(ImageSlot(len(self.ids), length, image.digest, coarse))
        self._put([self._renderer.profile.image_token_id] * length)

    def answer(self, text: str) -> None:
        """Write an answer, by the ids the model gave if they are known."""
        known = self._answer_ids.get(text)
        self._put(self._renderer.encode(text) if known is None else known, learned=True)


class TurnWriter(Writer):
    """Writes a conversation one message after the other."""

    def write(self, messages: Sequence[Message], *, for_training: bool) -> None:
        """Write a whole conversation, with the header of an answer behind it unless it is to be learned."""
        self.begin(has_system=messages[0].role == "system")
        for message in messages:
            self.message(message)
        if not for_training:
            self.open_answer()

    @abstractmethod
    def begin(self, *, has_system: bool) -> None:
        """Write what stands before the first message, a system message of the layout's own included."""

    @abstractmethod
    def message(self, message: Message) -> None:
        """Write a message."""

    @abstractmethod
    def open_answer(self) -> None:
        """Write the header of an answer."""


class Llama3Writer(TurnWriter):
    """Llama 3's layout, see the module's head."""

    def begin(self, *, has_system: bool) -> None:
        """Write what stands before the first message, a system message of the layout's own included."""
        profile = self._renderer.profile
        self.control(*([_BEGIN] * profile.bos_count))
        if not has_system:
            self._header("system")
            self.text("\n\n" + profile.system_text)
            self.control(_END_OF_TURN)

    def _header(self, role: str) -> None:
        self.control(_HEADER)
        self.text(role)
        self.control(_HEADER_END)

    def open_answer(self) -> None:
        """Write the header of an answer."""
        # the blank line belongs to the header: an answer is generated after it
        self._header("assistant")
        self.text("\n\n")

    def message(self, message: Message) -> None:
        """Write a message."""
        if message.role == "assistant":
            self.open_answer()
            self.answer(message.text)
            self.control(_END_OF_TURN, learned=True)
            return
        self._header(message.role)
        lead = "\n\n"
        for image in message.images:
            self.text(lead)
            self.image(image)
            lead = "\n"
        self.text(lead + message.text)
        self.control(_END_OF_TURN)


class Phi3Writer(TurnWriter):
    r"""Phi-3's layout: ``<|{role}|>\n{text}<|end|>\n``, an image before its text and a line feed after it.

    The released program cuts the prompt at the images and tokenises each piece alone, so that whatever the
    tokenizer puts before a text (``<s>``) stands after every image too, in training as in inference. The
    tokenizer's control tokens swallow the blanks behind them where it says so.
    """

    def begin(self, *, has_system: bool) -> None:
        """Write what stands before the first message, a system message of the layout's own included."""
        self._put(self._renderer.opening())
        if not has_system and self._renderer.profile.system_text:
            self._role("system")
            self._pending += self._renderer.profile.system_text
            self._end()

    def _mark(self, token: str, *, learned: bool = False) -> None:
        """Write what is pending, then a control token and the line feed behind it."""
        self._flush()
        self.control(token, learned=learned)
        self._pending = "\n"
        self._swallow = self._renderer.swallows_blanks(token)

    def _flush(self) -> None:
        text = self._pending.lstrip() if self._swallow else self._pending
        if text:
            self.text(text)
        self._pending, self._swallow = "", False

    def _role(self, role: str) -> None:
        self._mark(_PHI3_ROLES[role])

    def _end(self, *, learned: bool = False) -> None:
        self._mark(_PHI3_END, learned=learned)

    def open_answer(self) -> None:
        """Write the header of an answer."""
        self._role("assistant")
        self._flush()

    def message(self, message: Message) -> None:
        """Write a message."""
        if message.role == "assistant":
            self.open_answer()
            swallowed = self._renderer.swallows_blanks(_PHI3_ROLES["assistant"])
            known = message.text in self._answer_ids
            self.answer(message.text.lstrip() if swallowed and not known else message.text)
            self._end(learned=True)
            return
        self._role(message.role)
        for image in message.images:
            self._flush()
            self.image(image)
            self._put(self._renderer.opening())
            self._pending = "\n"
        self._pending += message.text
        self._end()
