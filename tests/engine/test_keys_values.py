"""Keys and values: written in place, copied apart, and attended to by several conversations at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.keys_values import KeyValueState, Step, attend
from engine.local import LocalBackend
from tests.engine.tiny import random_image

if TYPE_CHECKING:
    import torch

    from engine.checkpoint import LoadedModel

HEADS, SHARED, WIDTH = 2, 3, 4


def some(places: int, seed: int, heads: int = HEADS) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, heads, places, WIDTH, generator=generator)


def written(*pieces: int, seed: int = 0) -> KeyValueState:
    """Build a state of one layer by writing pieces of these lengths."""
    state = KeyValueState()
    for number, places in enumerate(pieces):
        state.write(0, some(places, seed + number), some(places, seed + 100 + number))
        state.length += places
    return state


@given(pieces=st.lists(st.integers(1, 90), min_size=1, max_size=8), keep=st.integers(1, 90))
def test_what_is_written_piece_by_piece_stands_in_a_row(pieces: list[int], keep: int) -> None:
    """However it was cut, the first places are in order, in a copy too; all that is held is counted."""
    import torch

    state = written(*pieces)
    expected = torch.cat([some(places, number) for number, places in enumerate(pieces)], dim=2)
    copied = state.copy(min(keep, state.length))

    assert state.length == sum(pieces)
    assert torch.equal(state.keys[0][:, :, : state.length], expected)
    assert torch.equal(copied.keys[0][:, :, : copied.length], expected[:, :, : copied.length])
    assert state.bytes == sum(t.nbytes for t in (*state.keys, *state.values)) >= 2 * expected.nbytes
    assert state.bytes <= 2 * expected.nbytes * 9 / 8 + 2 * HEADS * WIDTH * 4 * 64


def test_a_copy_is_independent() -> None:
    """Writing into either changes nothing in the other."""
    import torch

    state = written(10)
    copied = state.copy(6)
    before = state.keys[0][:, :, :10].clone()

    copied.write(0, some(4, 50), some(4, 51))

    assert torch.equal(state.keys[0][:, :, :10], before)
    assert not torch.equal(copied.keys[0][:, :, :10], before)


def plain_attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float, window: int | None
) -> torch.Tensor:
    """Attention written out, place by place and head by head; shape (1, places, heads, width)."""
    import torch

    _, heads, places, _ = query.shape
    end = keys.shape[2]
    found = torch.zeros(1, places, heads, WIDTH)
    for place in range(places):
        at = end - places + place
        first = 0 if window is None else max(0, at - window + 1)
        for head in range(heads):
            kept = head // SHARED
            scores = keys[0, kept, first : at + 1] @ query[0, head, place] * scaling
            found[0, place, head] = torch.softmax(scores, 0) @ values[0, kept, first : at + 1]
    return found


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    places=st.integers(1, 6),
    window=st.one_of(st.none(), st.integers(1, 50)),
)
def test_each_conversation_attends_to_its_own_places(
    lengths: list[int], places: int, window: int | None
) -> None:
    """For conversations of any lengths in one batch, one or several new places, with or without a window."""
    import torch

    states = [written(length, seed=length) if length else KeyValueState() for length in lengths]
    step = Step(states, places)
    new = [torch.cat([some(places, kind + row) for row in range(len(states))]) for kind in (500, 600)]
    query = torch.cat([some(places, 700 + row, HEADS * SHARED) for row in range(len(states))])

    key, value = step.update(new[0], new[1], 0)
    found, _ = attend(SimpleNamespace(), query, key, value, None, scaling=0.3, sliding_window=window)

    assert step.positions(torch.device("cpu")).tolist() == [
        list(range(length, length + places)) for length in lengths
    ]
    for row, state in enumerate(states):
        end = state.length + places
        expected = plain_attention(
            query[row : row + 1], state.keys[0][:, :, :end], state.values[0][:, :, :end], 0.3, window
        )
        torch.testing.assert_close(found[row : row + 1], expected, atol=1e-5, rtol=0)
    step.done()
    assert [state.length for state in states] == [length + places for length in lengths]


def test_capped_scores_are_refused() -> None:
    """A model that caps its scores is not computed wrongly without a word."""
    step = Step([written(3)], 1)
    key, value = step.update(some(1, 1), some(1, 2), 0)

    with pytest.raises(NotImplementedError, match="capped scores"):
        attend(SimpleNamespace(), some(1, 3), key, value, None, softcap=30.0)


def test_a_pass_that_fails_in_the_middle_changes_nothing(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state can be used again as it was before, and gives the same numbers."""
    import torch

    computer = LocalBackend(tiny)._device
    state = KeyValueState()
    last_layer = tiny.model.model.language_model.layers[-1]

    def logits(ids: list[int], state: KeyValueState) -> Any:
        with torch.inference_mode():
            return computer.logits(computer.embed(ids), state)

    logits([5, 6, 7], state)
    expected = logits([8, 9], state.copy(3))
    with monkeypatch.context() as patched:
        patched.setattr(last_layer.mlp, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("boom")))
        with pytest.raises(RuntimeError, match="boom"):
            logits([8, 9], state)

    assert state.length == 3
    assert torch.equal(logits([8, 9], state), expected)


def test_rows_computed_together_equal_each_alone(tiny: LoadedModel) -> None:
    """Conversations of different lengths, with and without an image, one pass: the same logits to 1e-5."""
    import torch

    from engine.messages import Message

    computer = LocalBackend(tiny)._device
    asked = [
        [Message.of("user", "Hi")],
        [Message.of("user", random_image(1), "Which side is the lesion on?")],
        [Message.of("user", "A much longer question, of which nothing is to be answered here.")],
    ]
    states = []
    with torch.inference_mode():
        for messages in asked:
            rendered = tiny.renderer.render(messages)
            images = {image.digest: image for message in messages for image in message.images}
            states.append(KeyValueState())
            computer.hidden(computer.embed_prompt(rendered, images, 0, len(rendered.ids)), states[-1:])
        copies = [state.copy(state.length) for state in states]
        alone = [computer._next([(None, 7 + n, state)])[0] for n, state in enumerate(copies)]
        together = computer._next([(None, 7 + n, state) for n, state in enumerate(states)])

    for ours, expected in zip(together, alone, strict=True):
        finite = expected.isfinite()
        torch.testing.assert_close(ours[finite], expected[finite], atol=1e-5, rtol=0)
