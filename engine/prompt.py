r"""The one place where a conversation becomes token ids.

In: messages and a tokenizer. Out: :class:`Rendered`: ids, where the images lie, and which tokens a
training run learns from. Chat, evaluation and training all use :class:`PromptRenderer`, so that they
can never drift apart. It knows nothing of tensors or weights.

The layout is Llama 3's: ``<|begin_of_text|>`` (once or twice, see :class:`PromptProfile`), then each
message as ``<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>``; an image stands at the
head of the message that brings it, followed by a line feed. Control tokens are placed by id. What a
user typed is encoded with special tokens switched off, so that a typed ``<|eot_id|>`` or ``<image>``
stays text.

Phi-3.5-Vision's checkpoints have a layout of their own, see :class:`_Phi3Writer`, and an image there takes
as many places as its shape needs.

References
----------
BiMediX2, arXiv 2412.07769; the chat layout is that of Llama 3.1's model card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.errors import ConversationShapeError, MissingTokenizerError, PromptTooLongError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tokenizers import Tokenizer

    from engine.messages import ImagePart, Message

__all__ = ["SYSTEM_TEXT", "ImageSlot", "PromptProfile", "PromptRenderer", "Rendered", "check_order"]

SYSTEM_TEXT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""Upstream's own system text, used when a conversation brings none."""

_BEGIN, _HEADER, _HEADER_END, _END_OF_TURN = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
_PHI3_ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
_PHI3_END = "<|end|>"
_CONTROL = {
    "llama3": (_BEGIN, _HEADER, _HEADER_END, _END_OF_TURN),
    "phi3": (*_PHI3_ROLES.values(), _PHI3_END),
}
_SMALLEST_ANSWER = 32


@dataclass(frozen=True, slots=True)
class PromptProfile:
    """What differs between checkpoints in how a conversation is written."""

    image_token_id: int
    """Id that marks an image position; its embedding is overwritten by the projected features."""
    image_length: int
    """Tokens one image fills, e.g. 576 for ViT-L/14 at 336 px; where that depends on the image, see the
    renderer's ``image_length``."""
    context_length: int
    """Most tokens the language model takes, prompt and answer together."""
    bos_count: int = 1
    """Copies of ``<|begin_of_text|>``. Upstream's ``llava_llama`` checkpoints were trained with 2: their
    system text begins with a written one and their tokenizer adds its own."""
    system_text: str = SYSTEM_TEXT
    """System message of a conversation that brings none; Phi-3's layout takes an empty one to mean none."""
    layout: Literal["llama3", "phi3"] = "llama3"
    """Which chat layout."""


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """Where one image lies in the ids: ``ids[start : start + length]``."""

    start: int
    length: int
    digest: str
    """Content hash of the image, so that equal ids with different pictures can be told apart."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the model reads it."""

    ids: tuple[int, ...]
    image_slots: tuple[ImageSlot, ...]
    loss_mask: tuple[bool, ...]
    """True at the tokens a training run learns to produce: each assistant text and its end of turn."""


class PromptRenderer:
    """Turns conversations into ids with one tokenizer.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Byte-level BPE with Llama 3's control tokens. A private copy is kept.
    profile : PromptProfile
        The checkpoint's way of writing.
    source : str
        Named in errors.
    image_length : callable, optional
        Tells how many tokens an image fills; the profile's number for every image by default.

    Raises
    ------
    MissingTokenizerError
        If a control token is not in the vocabulary.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        profile: PromptProfile,
        source: str = "the model",
        image_length: Callable[[ImagePart], int] | None = None,
    ) -> None:
        from tokenizers import Tokenizer as _Tokenizer

        self.profile = profile
        self._image_length = image_length
        self._tokenizer = _Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True  # typed control tokens stay text
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        missing = [name for name in _CONTROL[profile.layout] if self._id(name) is None]
        if missing:
            raise MissingTokenizerError(source=source, reason=f"it lacks {', '.join(missing)}")

    def _id(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)

    def token_id(self, token: str) -> int:
        """Id of a control token.

        Raises
        ------
        KeyError
            If the vocabulary does not have it.
        """
        found = self._id(token)
        if found is None:
            raise KeyError(token)
        return found

    @property
    def end_of_turn(self) -> int:
        """Id of the token that ends a message."""
        return self.token_id(_CONTROL[self.profile.layout][-1])

    def image_length(self, image: ImagePart) -> int:
        """Tokens an image fills."""
        return self.profile.image_length if self._image_length is None else self._image_length(image)

    def opening(self) -> list[int]:
        """Ids the tokenizer itself puts before a text, e.g. ``<s>``; most have one or none."""
        bare = self._tokenizer.encode("x", add_special_tokens=False).ids
        dressed = self._tokenizer.encode("x", add_special_tokens=True).ids
        return list(dressed[: len(dressed) - len(bare)]) if dressed[-1:] == bare[-1:] else []

    def swallows_blanks(self, token: str) -> bool:
        """Whether a control token takes the blanks and line feeds that follow it."""
        return any(
            added.content == token and added.rstrip
            for added in self._tokenizer.get_added_tokens_decoder().values()
        )

    def encode(self, text: str) -> list[int]:
        """Encode plain text; nothing in it becomes a control token."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def render(
        self,
        messages: Sequence[Message],
        *,
        for_training: bool = False,
        answer_ids: Mapping[str, Sequence[int]] | None = None,
    ) -> Rendered:
        """Write a conversation.

        Parameters
        ----------
        messages : sequence of Message
            An optional system message, then user and assistant in turn; images only in user messages.
        for_training : bool
            ``True``: the conversation ends with an assistant message, to be learned from. ``False``: it
            ends with a user message, and the header of the answer is appended.
        answer_ids : mapping of str to sequence of int, optional
            The ids a model really produced for an answer's text. Encoding the text anew can give others,
            because a byte-pair encoding has several spellings of one text; then nothing that was
            computed for the answer could be used again.

        Raises
        ------
        ConversationShapeError
            If the order is another one.
        """
        check_order(messages, "assistant" if for_training else "user")
        writer: _Llama3Writer | _Phi3Writer
        writer = (_Phi3Writer if self.profile.layout == "phi3" else _Llama3Writer)(self, answer_ids or {})
        writer.begin(has_system=messages[0].role == "system")
        for message in messages:
            writer.message(message)
        if not for_training:
            writer.open_answer()
        return Rendered(tuple(writer.ids), tuple(writer.slots), tuple(writer.learned))

    def answer_room(self, prompt_tokens: int, max_new_tokens: int) -> int:
        """Tokens left for an answer, at most ``max_new_tokens``.

        Raises
        ------
        PromptTooLongError
            If fewer than 32 tokens (or ``max_new_tokens``, if that is less) would be left.
        """
        smallest = min(_SMALLEST_ANSWER, max_new_tokens)
        room = self.profile.context_length - prompt_tokens
        if room < smallest:
            raise PromptTooLongError(found=prompt_tokens, limit=self.profile.context_length - smallest)
        return min(room, max_new_tokens)


class _Writer:
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
        self._put([self._renderer.token_id(token) for token in tokens], learned=learned)

    def text(self, text: str, *, learned: bool = False) -> None:
        self._put(self._renderer.encode(text), learned=learned)

    def image(self, image: ImagePart) -> None:
        length = self._renderer.image_length(image)
        self.slots.append(ImageSlot(len(self.ids), length, image.digest))
        self._put([self._renderer.profile.image_token_id] * length)

    def answer(self, text: str) -> None:
        known = self._answer_ids.get(text)
        self._put(self._renderer.encode(text) if known is None else known, learned=True)


class _Llama3Writer(_Writer):
    """Llama 3's layout, see the module's head."""

    def begin(self, *, has_system: bool) -> None:
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
        # the blank line belongs to the header: an answer is generated after it
        self._header("assistant")
        self.text("\n\n")

    def message(self, message: Message) -> None:
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


class _Phi3Writer(_Writer):
    r"""Phi-3's layout: ``<|{role}|>\n{text}<|end|>\n``, an image before its text and a line feed after it.

    The released program cuts the prompt at the images and tokenises each piece alone, so that whatever the
    tokenizer puts before a text (``<s>``) stands after every image too, in training as in inference. The
    tokenizer's control tokens swallow the blanks behind them where it says so.
    """

    def begin(self, *, has_system: bool) -> None:
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
        self._role("assistant")
        self._flush()

    def message(self, message: Message) -> None:
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


def check_order(messages: Sequence[Message], last: str) -> None:
    """Check that a conversation has the order every chat template knows.

    Parameters
    ----------
    messages : sequence of Message
        An optional system message, then user and assistant in turn; images only from the user.
    last : str
        Role of the last message.

    Raises
    ------
    ConversationShapeError
        If the order is another one.
    """
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(turns))]
    if not turns or turns != expected or turns[-1] != last:
        wanted = f"an optional system message, then user and assistant in turn, the last from {last}"
        raise ConversationShapeError(found=", ".join(roles) or "no message", expected=wanted)
    if any(message.images for message in messages if message.role != "user"):
        raise ConversationShapeError(found="an image outside a user message", expected="images from the user")
