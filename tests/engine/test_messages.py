"""Messages are plain values: equal content is equal, wrong content is refused."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import ImageInputError
from engine.messages import GenerationOptions, ImagePart, Message, TextPart


def test_images_with_equal_pixels_are_equal() -> None:
    """Two arrays with the same content make equal parts, with the same hash."""
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)

    assert ImagePart(pixels) == ImagePart(pixels.copy())
    assert hash(ImagePart(pixels)) == hash(ImagePart(pixels.copy()))


def test_shape_is_part_of_the_content_hash() -> None:
    """The same bytes in another shape are another image."""
    pixels = np.zeros((4, 9, 3), np.uint8)

    assert ImagePart(pixels).digest != ImagePart(pixels.reshape(9, 4, 3)).digest


def test_pixels_cannot_be_changed_afterwards() -> None:
    """A part's pixels are read-only, so that its hash stays true."""
    part = ImagePart(np.zeros((2, 2, 3), np.uint8))

    with pytest.raises(ValueError, match="read-only"):
        part.pixels[0, 0, 0] = 1


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.int16),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["grey", "alpha", "int16", "empty"],
)
def test_other_pixels_are_refused_with_what_was_found(pixels: np.ndarray) -> None:
    """The error names the shape and the type that were found."""
    with pytest.raises(ImageInputError, match=f"found {pixels.shape[0]} x .*{pixels.dtype}"):
        ImagePart(pixels)


def test_message_of_keeps_order_and_joins_text() -> None:
    """Strings become text parts; text and images can be read back."""
    image = ImagePart(np.zeros((2, 2, 3), np.uint8))

    message = Message.of("user", image, "Which ", "side?")

    assert message.parts == (image, TextPart("Which "), TextPart("side?"))
    assert message.text == "Which side?"
    assert message.images == (image,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"time_limit_s": 0.0},
        {"first_token_limit_s": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """An option out of range raises and names the option."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GenerationOptions(**wrong)


def test_half_a_sign_becomes_the_replacement_character() -> None:
    """A lone surrogate, which no tokenizer takes, is replaced; two halves become their sign."""
    assert TextPart("a\ud800b") == TextPart("a\ufffdb")
    assert TextPart("\ud83d\ude00").text == "😀"
    assert Message.of("user", "أين\udc00").text == "أين\ufffd"
