"""Text of token ids as they arrive, in whole characters.

A letter can be made of several tokens. Nothing of it is given before it is whole; bytes that make no
letter are given as U+FFFD once the next letter shows that nothing more belongs to them.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

__all__ = ["Detokeniser", "detokeniser"]


class Detokeniser(Protocol):
    """Turns one token after the other into text."""

    def step(self, token: int) -> str:
        """Text that this token completes; may be empty."""
        ...


def detokeniser(tokenizer: Any) -> Detokeniser:
    """Choose the way that suits a tokenizer (``tokenizers.Tokenizer``)."""
    decoder = json.loads(tokenizer.to_str()).get("decoder") or {}
    return _Windowed(tokenizer) if "ByteFallback" in json.dumps(decoder) else _Streamed(tokenizer)


class _Streamed:
    """The tokenizers library's own stream: constant time a token."""

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def step(self, token: int) -> str:
        return self._stream.step(self._tokenizer, token) or ""


class _Windowed:
    """Decodes the last few tokens again and gives what is new.

    For tokenizers of SentencePiece's kind, which write unknown letters as single bytes: there the
    library's stream raises when bytes make no letter, which a model is free to write.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._given: list[int] = []
        """Tokens given last: a blank before a word shows only behind another word."""
        self._held: list[int] = []

    def step(self, token: int) -> str:
        self._held.append(token)
        before = self._decode(self._given)
        text = self._decode(self._given + self._held)
        if len(text) <= len(before) or text.endswith("\ufffd"):
            return ""
        self._given, self._held = self._held, []
        return text[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
