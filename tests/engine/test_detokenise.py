"""Streaming text: whole letters only, and the same text as decoding everything at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detokenise import detokeniser
from tests.engine.tiny import build_phi3_tokenizer, build_tokenizer

TOKENIZERS = {"bytes": build_tokenizer(), "SentencePiece": build_phi3_tokenizer()}
EACH = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


@EACH
@settings(max_examples=50, deadline=None)
@given(text=st.text(st.sampled_from("the lesion تَظهر آفةٌ 😀.\n"), max_size=30))
def test_pieces_join_to_the_text(tokenizer, text: str) -> None:
    """Whatever the letters, the pieces are the text, and no piece holds half a letter."""
    stream = detokeniser(tokenizer)
    pieces = [stream.step(token) for token in tokenizer.encode(text, add_special_tokens=False).ids]

    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(3, 395), max_size=20))
def test_bytes_that_make_no_letter_stop_nothing(ids: list[int]) -> None:
    """Any sequence of tokens is taken; what is not bytes is given in full, in order."""
    tokenizer = TOKENIZERS["SentencePiece"]
    ids = [*ids, tokenizer.token_to_id("Q")]
    stream = detokeniser(tokenizer)

    text = "".join([stream.step(token) for token in ids])

    letters = [token for token in ids if not tokenizer.id_to_token(token).startswith("<0x")]
    plain = tokenizer.decode(letters, skip_special_tokens=True).replace(" ", "")
    rest = iter(text)
    assert all(letter in rest for letter in plain), "in order, nothing left out"
    assert text.endswith("Q")
