"""Control tokens of a tokenizer, kept apart from text.

In: a tokenizer. Out: the places of control tokens in what a chat template wrote, and ids of the text
between them, in which nothing is taken for a control token. Encoding a whole conversation at once would
turn a typed ``<|im_end|>`` into the end of a turn; encoding each message alone would cut words where
training never cut them. Here the text between two control tokens is encoded as one, as the tokenizer
itself does it after it has found them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenizers import Tokenizer

__all__ = ["Controls", "Place", "text_encoder"]

Place = Literal["first", "later", "inside"]
"""Where a text stands: at the beginning, behind a control token, or behind other text."""

_BRACKETED = re.compile(r"[<\[].+[>\]]", re.DOTALL)
"""What is written so is a control token, whatever its entry says of itself."""


class Controls:
    """The control tokens of one tokenizer, and its encoder for what stands between them.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Copied; never changed.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers import Tokenizer as _Tokenizer

        content: dict[str, Any] = json.loads(tokenizer.to_str())
        entries = [
            entry
            for entry in content["added_tokens"]
            if entry["special"] or _BRACKETED.fullmatch(entry["content"])
        ]
        self._entries = {entry["content"]: entry for entry in entries}
        longest_first = sorted(self._entries, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        for entry in entries:
            entry["special"] = True  # else the encoder would find it in typed text all the same
        self._encoders: dict[Place, Tokenizer] = {
            place: _plain(_Tokenizer.from_str(json.dumps(_for_place(content, place))))
            for place in ("first", "later", "inside")
        }

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Cut what a template wrote: pieces of text, and control tokens with their ids."""
        at = 0
        for found in self._pattern.finditer(text):
            if found.start() > at:
                yield text[at : found.start()], None
            yield found.group(), int(self._entries[found.group()]["id"])
            at = found.end()
        if at < len(text):
            yield text[at:], None

    def swallows(self, token: str) -> tuple[bool, bool]:
        """Whether a control token takes the blanks before and behind it."""
        entry = self._entries[token]
        return bool(entry["lstrip"]), bool(entry["rstrip"])

    def encode(self, parts: Sequence[tuple[str, bool]], place: Place) -> tuple[list[int], list[bool]]:
        """Encode text that stands between two control tokens.

        Parameters
        ----------
        parts : sequence of (str, bool)
            Pieces of the text, and whether each is learned in training.
        place : {"first", "later", "inside"}
            Where it stands; tokenizers of SentencePiece's kind put a blank before some texts.

        Returns
        -------
        tuple of list of int and list of bool
            Ids, and for each whether it holds a part of what is learned.
        """
        text = "".join(part for part, _ in parts)
        if not text:
            return [], []
        encoding = self._encoders[place].encode(text, add_special_tokens=False)
        places, at = [], 0
        for part, learned in parts:
            if learned:
                places.append((at, at + len(part)))
            at += len(part)
        marks = [any(start < b and end > a for a, b in places) for start, end in encoding.offsets]
        return list(encoding.ids), marks


def text_encoder(tokenizer: Tokenizer) -> Tokenizer:
    """Copy a tokenizer that takes typed control tokens, such as ``<image>``, for the text they are.

    Special tokens can be switched off by themselves; one in brackets that its file does not call special
    would still be found in what somebody typed.
    """
    from tokenizers import Tokenizer as _Tokenizer

    content: dict[str, Any] = json.loads(tokenizer.to_str())
    found = False
    for entry in content["added_tokens"]:
        if not entry["special"] and _BRACKETED.fullmatch(entry["content"]):
            entry["special"] = found = True
    return _plain(_Tokenizer.from_str(json.dumps(content) if found else tokenizer.to_str()))


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _for_place(content: dict[str, Any], place: Place) -> dict[str, Any]:
    """Return a tokenizer that puts no blank before a text where it would put none in a whole conversation."""
    if place == "first":
        return content
    changed: dict[str, Any] = json.loads(
        json.dumps({name: content[name] for name in ("normalizer", "pre_tokenizer")})
    )
    splitter = changed["pre_tokenizer"] or {}
    gone = ("first",) if place == "later" else ("first", "always")
    for step in splitter.get("pretokenizers", [splitter]):
        if step.get("type") == "Metaspace" and step.get("prepend_scheme") in gone:
            step["prepend_scheme"] = "never"
    normalizer = changed["normalizer"]
    if place == "inside" and normalizer:
        steps = normalizer.get("normalizers", [normalizer])
        kept = [step for step in steps if step.get("type") != "Prepend"]
        changed["normalizer"] = {"type": "Sequence", "normalizers": kept}
    return content | changed
