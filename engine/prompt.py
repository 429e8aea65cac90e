r"""The one place where a conversation becomes token ids.

In: messages and a tokenizer. Out: :class:`Rendered`: ids, where the images lie, and which tokens a
training run learns from. Chat, evaluation and training all use :class:`PromptRenderer`, so that they
can never drift apart. It knows nothing of tensors or weights.

The layout is Llama 3's: ``<|begin_of_text|>`` (once or twice, see :class:`PromptProfile`), then each
message as ``<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>``; an image stands at the
head of the message that brings it, followed by a line feed. Control tokens are placed by id. What a
user typed is encoded with special tokens switched off, so that a typed ``<|eot_id|>`` or ``<image>``
stays text.

Phi-3.5-Vision's checkpoints have a layout of their own, see :class:`engine.layouts.Phi3Writer`, and an image
there takes as many places as its shape needs. Other folders bring a chat template, which
:mod:`engine.template` follows.

References
----------
BiMediX2, arXiv 2412.07769; the chat layout is that of Llama 3.1's model card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.errors import ConversationShapeError, MissingTokenizerError, PromptTooLongError
from engine.layouts import CONTROL_TOKENS, ImageSlot, Llama3Writer, Phi3Writer, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tokenizers import Tokenizer

    from engine.messages import ImagePart, Message
    from engine.template import ChatTemplate

__all__ = ["SYSTEM_TEXT", "ImageSlot", "PromptProfile", "PromptRenderer", "Rendered", "check_order"]

SYSTEM_TEXT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""Upstream's own system text, used when a conversation brings none."""

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
    layout: Literal["llama3", "phi3", "template"] = "llama3"
    """Which chat layout; ``template``: the folder's own."""
    template: ChatTemplate | None = None
    """The folder's chat template, for the layout of that name."""
    end_of_turn_id: int | None = None
    """Token that ends an answer, where the layout does not say."""
    coarse_among_others: bool = False
    """Whether images are read whole, and not in tiles as well, once the conversation has several."""


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
        Tells how many tokens an image fills, and how many if it is read whole only; the profile's number for
        every image by default.

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
        image_length: Callable[[ImagePart, bool], int] | None = None,
    ) -> None:
        from tokenizers import Tokenizer as _Tokenizer

        from engine.controls import Controls, text_encoder

        self.profile = profile
        self._image_length = image_length
        self._tokenizer = _Tokenizer.from_str(tokenizer.to_str())
        self._encoder = text_encoder(tokenizer)
        self.controls = Controls(tokenizer) if profile.layout == "template" else None
        """What tells control tokens from text, for a layout that writes both."""
        missing = [name for name in CONTROL_TOKENS.get(profile.layout, ()) if self._id(name) is None]
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
        if self.profile.end_of_turn_id is not None:
            return self.profile.end_of_turn_id
        return self.token_id(CONTROL_TOKENS[self.profile.layout][-1])

    def image_length(self, image: ImagePart, *, coarse: bool = False) -> int:
        """Tokens an image fills, ``coarse`` if it is read whole only."""
        return self.profile.image_length if self._image_length is None else self._image_length(image, coarse)

    def opening(self) -> list[int]:
        """Ids the tokenizer itself puts before a text, e.g. ``<s>``; most have one or none."""
        bare = self._encoder.encode("x", add_special_tokens=False).ids
        dressed = self._encoder.encode("x", add_special_tokens=True).ids
        return list(dressed[: len(dressed) - len(bare)]) if dressed[-1:] == bare[-1:] else []

    def swallows_blanks(self, token: str) -> bool:
        """Whether a control token takes the blanks and line feeds that follow it."""
        return any(
            added.content == token and added.rstrip
            for added in self._tokenizer.get_added_tokens_decoder().values()
        )

    def encode(self, text: str) -> list[int]:
        """Encode plain text; nothing in it becomes a control token."""
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

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
        writer = self._writer()(self, answer_ids or {})
        writer.write(messages, for_training=for_training)
        return Rendered(tuple(writer.ids), tuple(writer.slots), tuple(writer.learned))

    def _writer(self) -> type[Writer]:
        if self.profile.layout == "template":
            from engine.template import TemplateWriter

            return TemplateWriter
        return Phi3Writer if self.profile.layout == "phi3" else Llama3Writer

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
