"""The chat template: exact ids, image slots, loss mask, and text that never becomes control tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint import LoadOptions, load
from engine.errors import ConversationShapeError, MissingTokenizerError, PromptTooLongError
from engine.messages import Message
from engine.prompt import SYSTEM_TEXT, PromptProfile, PromptRenderer
from tests.engine.tiny import CONTROL_TOKENS, build_checkpoint, build_tokenizer, random_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKENIZER = build_tokenizer()
IMAGE_ID = TOKENIZER.token_to_id("<image>")


def renderer(**changes: Any) -> PromptRenderer:
    values = {"image_token_id": IMAGE_ID, "image_length": 4, "context_length": 512} | changes
    return PromptRenderer(TOKENIZER, PromptProfile(**values))


def whole_string_ids(text: str) -> list[int]:
    """Tokenise a conversation written out as one string, control tokens and all."""
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def test_layout_equals_the_written_out_conversation() -> None:
    """Built piece by piece, the ids are those of the whole string."""
    image = random_image(0)
    rendered = renderer().render(
        [
            Message.of("user", image, "Which side?"),
            Message.of("assistant", "Left."),
            Message.of("user", "وحجمها؟"),
        ]
    )

    assert list(rendered.ids) == whole_string_ids(
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM_TEXT}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image><image><image><image>\nWhich side?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nLeft.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nوحجمها؟<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_a_system_message_replaces_the_default() -> None:
    """A conversation's own system text stands where upstream's would."""
    rendered = renderer().render([Message.of("system", "Be brief."), Message.of("user", "Hi")])

    text = renderer()._tokenizer.decode(rendered.ids, skip_special_tokens=False)
    assert "Be brief." in text
    assert SYSTEM_TEXT not in text


@pytest.mark.parametrize("count", [1, 2])
def test_bos_count_is_the_profile_s(count: int) -> None:
    """Upstream's checkpoints begin with two, others with one; never by accident."""
    ids = renderer(bos_count=count).render([Message.of("user", "Hi")]).ids

    bos = TOKENIZER.token_to_id("<|begin_of_text|>")
    assert ids[:count] == (bos,) * count
    assert ids.count(bos) == count


def test_image_slots_hold_exactly_the_image_tokens() -> None:
    """Every image token lies in a slot, of the right length, with the image's hash, in order."""
    first, second = random_image(1), random_image(2)
    rendered = renderer(image_length=6).render(
        [Message.of("user", first, "a"), Message.of("assistant", "b"), Message.of("user", second, first, "c")]
    )

    inside = [i for slot in rendered.image_slots for i in range(slot.start, slot.start + slot.length)]
    assert inside == [i for i, token in enumerate(rendered.ids) if token == IMAGE_ID]
    assert [slot.digest for slot in rendered.image_slots] == [first.digest, second.digest, first.digest]
    assert {slot.length for slot in rendered.image_slots} == {6}


def test_loss_mask_covers_the_answers_and_their_ends_only() -> None:
    """Training learns each assistant text with its end of turn, nothing else."""
    r = renderer()
    messages = [
        Message.of("user", random_image(1), "Which side?"),
        Message.of("assistant", "Left."),
        Message.of("user", "And?"),
        Message.of("assistant", "كبيرة"),
    ]

    rendered = r.render(messages, for_training=True)

    learned = [token for token, learn in zip(rendered.ids, rendered.loss_mask, strict=True) if learn]
    assert learned == [*r.encode("Left."), r.end_of_turn, *r.encode("كبيرة"), r.end_of_turn]


def test_training_and_chat_agree_up_to_the_answer() -> None:
    """What is learned stands behind exactly the prompt that chat gives."""
    question = [Message.of("user", random_image(1), "Which side?")]
    r = renderer()

    prompt = r.render(question)
    trained = r.render([*question, Message.of("assistant", "Left.")], for_training=True)

    assert trained.ids[: len(prompt.ids)] == prompt.ids
    assert trained.loss_mask.index(True) == len(prompt.ids)


HOSTILE = st.lists(
    st.one_of(st.sampled_from(CONTROL_TOKENS), st.text(max_size=5)), min_size=1, max_size=6
).map("".join)


@settings(max_examples=100, deadline=None)
@given(text=HOSTILE, role=st.sampled_from(["system", "user", "assistant"]))
def test_typed_control_tokens_stay_text(text: str, role: str) -> None:
    """Whatever is typed in any role, the control tokens are those of the layout alone."""
    texts = {"system": "s", "user": "u", "assistant": "a"} | {role: text}

    def ids(values: dict[str, str]) -> Sequence[int]:
        return (
            renderer()
            .render(
                [
                    Message.of("system", values["system"]),
                    Message.of("user", values["user"]),
                    Message.of("assistant", values["assistant"]),
                    Message.of("user", "end"),
                ]
            )
            .ids
        )

    control = {TOKENIZER.token_to_id(name) for name in CONTROL_TOKENS}
    plain = [token for token in ids({"system": "s", "user": "u", "assistant": "a"}) if token in control]
    assert [token for token in ids(texts) if token in control] == plain


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_survives_the_round_trip(text: str) -> None:
    """Encoding and decoding give back any text, Arabic and emoji included."""
    surrogate_free = text.encode("utf-8", "ignore").decode()

    assert renderer().decode(renderer().encode(surrogate_free)) == surrogate_free


@pytest.mark.parametrize(
    ("messages", "for_training"),
    [
        ([], False),
        ([Message.of("assistant", "Hi")], False),
        ([Message.of("user", "a"), Message.of("user", "b")], False),
        ([Message.of("user", "a"), Message.of("assistant", "b")], False),
        ([Message.of("user", "a")], True),
        ([Message.of("user", "a"), Message.of("system", "b"), Message.of("user", "c")], False),
        ([Message.of("system", random_image(1), "b"), Message.of("user", "c")], False),
    ],
    ids=[
        "empty",
        "assistant first",
        "user twice",
        "ends with answer",
        "nothing to learn",
        "late system",
        "image in system",
    ],
)
def test_another_order_is_refused(messages: list[Message], for_training: bool) -> None:
    """An order without a place in the template raises and says what was found."""
    with pytest.raises(ConversationShapeError, match="expected"):
        renderer().render(messages, for_training=for_training)


def test_room_for_an_answer() -> None:
    """Room is cut to what is left; less than a usable answer is refused with both numbers."""
    r = renderer(context_length=100)

    assert r.answer_room(10, 50) == 50
    assert r.answer_room(60, 50) == 40
    with pytest.raises(PromptTooLongError, match=r"its length is 69, and at most 68 fits"):
        r.answer_room(69, 50)
    assert r.answer_room(95, 5) == 5


def test_a_tokenizer_without_the_control_tokens_is_refused() -> None:
    """The error names the tokens that are missing."""
    from tokenizers import Tokenizer, models

    with pytest.raises(MissingTokenizerError, match=r"start_header_id"):
        PromptRenderer(Tokenizer(models.BPE()), PromptProfile(IMAGE_ID, 4, 512))


@pytest.mark.parametrize("special", [True, False])
def test_a_typed_image_token_is_text_whatever_the_tokenizer_calls_it(
    tmp_path: Path, *, special: bool
) -> None:
    """Folders list ``<image>`` as special or not; what somebody typed is neither."""
    folder = build_checkpoint(tmp_path / "model")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for entry in content["added_tokens"]:
        if entry["content"] == "<image>":
            entry["special"] = special
    path.write_text(json.dumps(content), encoding="utf-8")
    renderer = load(folder, LoadOptions(device="cpu", dtype="float32")).renderer

    rendered = renderer.render([Message.of("user", "what is <image> and <|eot_id|>?")])

    assert renderer.profile.image_token_id not in rendered.ids
    assert renderer.encode("<image>") != [renderer.profile.image_token_id]
