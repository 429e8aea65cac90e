"""The local backend: the same tokens as the plain way, whole characters, stopping, limits, fairness."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import BackendUnavailableError, PromptTooLongError
from engine.local import LocalBackend
from engine.messages import Delta, Finished, GenerationOptions, Message, Queued, Reading, Started
from tests.engine.tiny import build_checkpoint, random_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.checkpoint import LoadedModel

GREEDY = GenerationOptions(max_new_tokens=12)


def answer(backend: LocalBackend, messages: Sequence[Message], options: GenerationOptions = GREEDY) -> str:
    return "".join(event.text for event in backend.stream(messages, options) if isinstance(event, Delta))


def finished(
    backend: LocalBackend, messages: Sequence[Message], options: GenerationOptions = GREEDY
) -> Finished:
    last = list(backend.stream(messages, options))[-1]
    assert isinstance(last, Finished)
    return last


def plain_answer(loaded: LoadedModel, messages: Sequence[Message], max_new_tokens: int = 12) -> str:
    """Answer by transformers' own generate, everything computed from the start."""
    import torch

    rendered = loaded.renderer.render(messages)
    images = [image for message in messages for image in message.images]
    ids = torch.tensor([rendered.ids])
    output = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **({"pixel_values": torch.cat([loaded.pixel_values(image) for image in images])} if images else {}),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        suppress_tokens=list(loaded.suppressed_ids),
        eos_token_id=sorted(loaded.stop_ids),
        pad_token_id=0,
    )
    return loaded.renderer.decode(output[0, ids.shape[1] :].tolist())


def whole(text: str) -> str:
    """Leave out the replacement character of a letter that was cut at the end."""
    return text.rstrip("\ufffd")


def conversation(*turns: tuple[int | None, str, str | None]) -> list[Message]:
    """Build a conversation from (image seed or None, question, answer or None)."""
    messages: list[Message] = []
    for seed, question, reply in turns:
        images = () if seed is None else (random_image(seed),)
        messages.append(Message.of("user", *images, question))
        if reply is not None:
            messages.append(Message.of("assistant", reply))
    return messages


CONVERSATIONS = {
    "text only": conversation((None, "Hello, who are you?", None)),
    "image in turn 1": conversation((1, "Which side?", None)),
    "image in turn 1, text after": conversation((1, "Which side?", "Left."), (None, "في أي جهة؟", None)),
    "image in turn 3": conversation(
        (None, "Hi", "Hello."), (None, "Ready?", "Yes."), (2, "Which side?", None)
    ),
    "images in turns 1 and 3": conversation((1, "A", "B"), (None, "C", "D"), (2, "Compare", None)),
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_tokens_equal_the_plain_way(tiny: LoadedModel, messages: list[Message]) -> None:
    """Greedy answers are those of transformers' generate, wherever the images stand."""
    assert whole(answer(LocalBackend(tiny), messages)) == whole(plain_answer(tiny, messages))


def test_several_images_in_one_message_are_all_seen(tiny: LoadedModel) -> None:
    """Two images in one message equal the plain way."""
    messages = [Message.of("user", random_image(1), random_image(2), "Compare the two")]

    assert whole(answer(LocalBackend(tiny), messages)) == whole(plain_answer(tiny, messages))


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_another_image_in_any_turn_changes_what_is_computed(tiny: LoadedModel, turn: int) -> None:
    """An image is seen in whichever turn it comes, also when earlier turns come from the cache."""
    import torch

    backend = LocalBackend(tiny)
    logits = []
    for seed in (10, 11):
        turns: list[tuple[int | None, str, str | None]] = [
            (None, "A", "B"),
            (None, "C", "D"),
            (None, "E", None),
        ]
        turns[turn] = (seed, *turns[turn][1:])
        list(backend.stream(conversation(*turns), GenerationOptions(max_new_tokens=1)))
        state = backend._device.states.take(tiny.name, backend_places(tiny, conversation(*turns)))
        assert state is not None
        logits.append(state.values[-1][0, :, state.length - 1].clone())

    assert not torch.equal(logits[0], logits[1])


def backend_places(loaded: LoadedModel, messages: list[Message]) -> Any:
    from engine.cache import places_of

    return places_of(loaded.renderer.render(messages))


TURN = st.tuples(
    st.one_of(st.none(), st.integers(0, 3)),
    st.sampled_from(["Which side?", "في أي جهة؟", "And how large is it?", "<|eot_id|> typed"]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(TURN, min_size=1, max_size=4), edit=st.integers(0, 3))
def test_cache_never_changes_an_answer(
    tiny: LoadedModel, turns: list[tuple[int | None, str]], edit: int
) -> None:
    """Over random conversations, with an edited turn and a fork, cached and fresh answers are equal."""
    cached = LocalBackend(tiny, prefill_chunk=16)

    def talk(questions: list[tuple[int | None, str]]) -> None:
        messages: list[Message] = []
        for seed, question in questions:
            messages += conversation((seed, question, None))
            fresh = LocalBackend(tiny)
            fresh._device.answers = cached._device.answers.copy()  # random weights spell answers oddly
            reply = answer(cached, messages)
            assert reply == answer(fresh, messages)
            messages.append(Message.of("assistant", reply))

    talk(turns)
    position = edit % len(turns)
    talk([*turns[:position], (turns[position][0], "Edited?"), *turns[position + 1 :]])
    talk([*turns, (3, "A fork")])


def test_follow_up_reads_only_what_is_new(tiny: LoadedModel) -> None:
    """The second turn reuses the whole first one, image and answer included."""
    backend = LocalBackend(tiny)
    messages = conversation((1, "Which side?", None))
    reply = answer(backend, messages)
    follow_up = [*messages, Message.of("assistant", reply), Message.of("user", "And how large?")]

    usage = finished(backend, follow_up).usage

    assert usage.reused_tokens >= len(tiny.renderer.render(messages).ids)
    assert usage.reused_tokens < usage.prompt_tokens


def test_an_answer_spelt_in_other_tokens_is_still_reused(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids a model chose are used again as they were, although encoding their text gives others."""
    backend = LocalBackend(tiny)
    spelt = [token for char in "The lesion is left" for token in byte_ids(tiny, char)]
    assert spelt != tiny.renderer.encode("The lesion is left")
    scripted_tokens(monkeypatch, [*spelt, tiny.renderer.end_of_turn])
    messages = conversation((1, "Which side?", None))
    assert answer(backend, messages, GenerationOptions(max_new_tokens=50)) == "The lesion is left"
    monkeypatch.undo()

    again = [*messages, Message.of("assistant", "The lesion is left"), Message.of("user", "And?")]

    assert finished(backend, again).usage.reused_tokens >= len(tiny.renderer.render(messages).ids) + len(
        spelt
    )


def test_an_answer_cut_in_mid_letter_is_still_reused(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ids are found again by the text that was shown, which lacks the broken letter."""
    backend = LocalBackend(tiny)
    cut = [*byte_ids(tiny, "ت"), byte_ids(tiny, "ظ")[0]]
    scripted_tokens(monkeypatch, cut)
    messages = conversation((1, "Which side?", None))
    assert answer(backend, messages, GenerationOptions(max_new_tokens=3)) == "ت"
    monkeypatch.undo()

    again = [*messages, Message.of("assistant", "ت"), Message.of("user", "And?")]

    # the last token was never fed, so all before it can be used again
    assert (
        finished(backend, again).usage.reused_tokens == len(tiny.renderer.render(messages).ids) + len(cut) - 1
    )


def test_cache_stays_within_its_budget(tiny: LoadedModel) -> None:
    """Conversations beyond the byte budget push out the least recently used ones."""
    backend = LocalBackend(tiny, cache_bytes=100_000)

    for seed in range(12):
        answer(backend, conversation((seed, "Which side?", None)))

    assert 0 < backend._device.states.bytes <= 100_000


def test_events_come_in_order_and_tell_the_tokens(tiny: LoadedModel) -> None:
    """Started, reading, deltas, one final event whose counts fit."""
    messages = conversation((1, "Which side?", None))

    events = list(LocalBackend(tiny, prefill_chunk=16).stream(messages, GREEDY))

    total = len(tiny.renderer.render(messages).ids)
    assert events[0] == Started(total)
    assert [e.tokens_read for e in events if isinstance(e, Reading)] == [*range(16, total, 16), total]
    left = [e.seconds_left for e in events if isinstance(e, Reading)]
    assert all(seconds is not None and seconds >= 0 for seconds in left)
    assert left[-1] == 0
    assert sum(isinstance(e, Finished) for e in events) == 1
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.usage.prompt_tokens == total
    assert last.usage.completion_tokens <= GREEDY.max_new_tokens
    assert last.timings.first_token_s is not None


def test_same_seed_gives_the_same_answer_and_another_seed_another(tiny: LoadedModel) -> None:
    """Sampling depends on the seed alone; temperature 0 not even on that."""
    messages = conversation((1, "Which side?", None))

    def sampled(seed: int, temperature: float) -> str:
        options = GenerationOptions(max_new_tokens=24, temperature=temperature, seed=seed)
        return answer(LocalBackend(tiny), messages, options)

    assert sampled(1, 1.0) == sampled(1, 1.0)
    assert len({sampled(seed, 1.0) for seed in range(4)}) > 1
    assert sampled(1, 0.0) == sampled(2, 0.0)


def test_nucleus_of_the_likeliest_token_is_greedy(tiny: LoadedModel) -> None:
    """A tiny top_p leaves only the likeliest token, whatever the temperature."""
    messages = conversation((1, "Which side?", None))
    options = GenerationOptions(max_new_tokens=12, temperature=2.0, top_p=1e-6, seed=5)

    assert answer(LocalBackend(tiny), messages, options) == answer(LocalBackend(tiny), messages)


def scripted_tokens(monkeypatch: pytest.MonkeyPatch, ids: Sequence[int]) -> None:
    """Let the model compute as always, but choose these tokens."""
    from engine.answering import Answer

    chosen = iter(ids)
    monkeypatch.setattr(Answer, "_sample", lambda *_: next(chosen))


def test_arabic_comes_in_whole_characters(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of a letter are held until it is whole, even when each byte is a token of its own."""
    text = "تَظهر آفةٌ في الرئة 😀 يمين"
    byte_tokens = [token for char in text for token in byte_ids(tiny, char)]
    scripted_tokens(monkeypatch, [*byte_tokens, tiny.renderer.end_of_turn])

    options = GenerationOptions(max_new_tokens=200)
    events = list(LocalBackend(tiny).stream(conversation((None, "؟", None)), options))
    deltas = [event.text for event in events if isinstance(event, Delta)]

    assert "".join(deltas) == text
    assert len(deltas) == len(text)
    assert "\ufffd" not in "".join(deltas)


def byte_ids(loaded: LoadedModel, char: str) -> list[int]:
    """Ids of the single-byte tokens of a character."""
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(char)
    return [loaded.tokenizer.token_to_id(unit) for piece, _ in pieces for unit in piece]


def test_answer_cut_in_mid_letter_shows_no_broken_one(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the token limit falls inside a letter, that letter is not shown at all."""
    scripted_tokens(monkeypatch, [*byte_ids(tiny, "ت"), byte_ids(tiny, "ظ")[0]])

    options = GenerationOptions(max_new_tokens=3)

    assert answer(LocalBackend(tiny), conversation((None, "؟", None)), options) == "ت"


def test_closing_the_stream_stops_the_work_within_a_token(tiny: LoadedModel) -> None:
    """After close, the model is not called again, and the place is free for the next one."""
    backend = LocalBackend(tiny, active_streams=1)
    calls = 0
    compute = backend._device.hidden

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return compute(*arguments)

    backend._device.hidden = counted  # type: ignore[method-assign]
    stream = backend.stream(conversation((1, "Which side?", None)), GenerationOptions(max_new_tokens=400))
    for event in stream:
        if isinstance(event, Delta):
            break
    before = calls
    stream.close()

    assert calls == before
    assert answer(backend, conversation((None, "Hi", None)))


def test_stopping_while_the_prompt_is_read(tiny: LoadedModel) -> None:
    """A stream closed between two chunks has read no further, and what was read is kept for the next try."""
    backend = LocalBackend(tiny, prefill_chunk=8)
    messages = conversation((1, "Which side? " * 8, None))
    stream = backend.stream(messages, GREEDY)
    assert isinstance(next(stream), Started)
    assert isinstance(next(stream), Reading)
    stream.close()

    assert finished(backend, messages).usage.reused_tokens == 8


def test_too_long_is_refused_before_computing(tmp_path: Path) -> None:
    """The error holds both numbers, nothing was computed, and a shorter question is answered."""
    from engine.checkpoint import LoadOptions, load

    loaded = load(build_checkpoint(tmp_path, context_length=160), LoadOptions(device="cpu", dtype="float32"))
    backend = LocalBackend(loaded)
    backend._device.hidden = pytest.fail  # type: ignore[assignment, method-assign]
    long = conversation((None, "word " * 300, None))
    tokens = len(loaded.renderer.render(long).ids)

    with pytest.raises(PromptTooLongError) as caught:
        next(backend.stream(long, GREEDY))

    assert caught.value.values == {"found": tokens, "limit": 160 - 12}
    del backend._device.hidden
    assert isinstance(finished(backend, conversation((None, "short", None))), Finished)


def test_answer_never_runs_over_the_context(tmp_path: Path) -> None:
    """The longest answer is cut to the room that is left."""
    from engine.checkpoint import LoadOptions, load

    loaded = load(build_checkpoint(tmp_path, context_length=200), LoadOptions(device="cpu", dtype="float32"))
    last = finished(
        LocalBackend(loaded), conversation((None, "Hi", None)), GenerationOptions(max_new_tokens=5000)
    )

    assert last.usage.prompt_tokens + last.usage.completion_tokens <= 200


def test_time_limit_counts_from_the_first_token(tiny: LoadedModel) -> None:
    """A limit far shorter than the prefill still lets the first token through, then ends the answer."""
    backend = LocalBackend(tiny)
    options = GenerationOptions(max_new_tokens=400, time_limit_s=1e-9)

    last = finished(backend, conversation((1, "Which side?", None)), options)

    assert last.reason == "time_limit"
    assert 1 <= last.usage.completion_tokens <= 2


def test_a_limit_of_the_first_token_acts_while_the_prompt_is_read(tiny: LoadedModel) -> None:
    """The answer ends without text after a piece of the prompt; asking again goes on behind that piece."""
    backend = LocalBackend(tiny, prefill_chunk=8)
    messages = conversation((1, "Which side is the lesion on?", None))
    hurried = GenerationOptions(max_new_tokens=8, first_token_limit_s=1e-9)

    for read in (0, 8, 16):
        events = list(backend.stream(messages, hurried))
        last = events[-1]
        assert isinstance(last, Finished)
        assert (last.reason, last.usage.completion_tokens, last.usage.reused_tokens) == (
            "time_limit",
            0,
            read,
        )
        assert last.timings.first_token_s is None
        assert not any(isinstance(event, Delta) for event in events)

    patient = GenerationOptions(max_new_tokens=8, first_token_limit_s=600)
    last = finished(backend, messages, patient)
    assert last.usage.reused_tokens == 24
    assert answer(backend, messages) == answer(LocalBackend(tiny), messages)


def test_two_streams_take_turns(tiny: LoadedModel) -> None:
    """The second reader gets a first piece long before the first answer is complete."""
    backend = LocalBackend(tiny)
    long = GenerationOptions(max_new_tokens=200)
    first = backend.stream(conversation((1, "Which side?", None)), long)
    for event in first:
        if isinstance(event, Delta):
            break

    second = answer(backend, conversation((2, "And here?", None)))
    rest = list(first)

    assert second == answer(LocalBackend(tiny), conversation((2, "And here?", None)))
    assert isinstance(rest[-1], Finished)


def at_once(backend: LocalBackend, asked: Sequence[list[Message]]) -> list[str]:
    """Answers to several conversations, each read in a thread of its own."""
    results: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.__setitem__(n, answer(backend, asked[n])))
        for n in range(len(asked))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [results[n] for n in range(len(asked))]


def batches(backend: LocalBackend) -> list[int]:
    """Count, from now on, how many tokens are computed together in each pass."""
    sizes: list[int] = []
    compute = backend._device.turns._compute

    def counted(tokens: Any) -> Any:
        sizes.append(len(tokens))
        return compute(tokens)

    backend._device.turns._compute = counted
    return sizes


def test_streams_in_threads_do_not_mix(tiny: LoadedModel) -> None:
    """Answers computed at the same time, more than have a place, equal those computed alone."""
    backend = LocalBackend(tiny, active_streams=2)
    questions = [conversation((seed, f"Question {seed}", None)) for seed in range(4)]

    assert at_once(backend, questions) == [answer(LocalBackend(tiny), asked) for asked in questions]


def test_answers_written_at_once_are_computed_together(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four readers that wait for each other need fewer passes; told to compute each alone, one a token."""
    monkeypatch.setattr("engine.scheduler._PATIENCE", 1000.0)
    monkeypatch.setattr("engine.scheduler._MOST_PATIENCE_S", 1.0)
    questions = [conversation((None, f"Question {number}", None)) for number in range(4)]
    ours, alone = LocalBackend(tiny), LocalBackend(tiny, together=1)
    sizes, single = batches(ours), batches(alone)

    assert at_once(ours, questions) == at_once(alone, questions)
    assert max(sizes) == 4
    assert set(single) == {1}
    assert sum(sizes) == sum(single)
    assert len(sizes) < 0.75 * len(single)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    talks=st.lists(st.lists(TURN, min_size=1, max_size=3), min_size=2, max_size=4),
    edit=st.integers(0, 2),
    budget=st.sampled_from([20_000, 150_000, 10_000_000]),
)
def test_conversations_at_once_sharing_a_budget_equal_each_alone(
    tiny: LoadedModel, talks: list[list[tuple[int | None, str]]], edit: int, budget: int
) -> None:
    """Greedy tokens of several threads, with images, an edited turn and a fork, equal those of one, alone.

    Also when the budget is far too small for all, which is never exceeded.
    """
    shared = LocalBackend(tiny, cache_bytes=budget, prefill_chunk=16)
    fresh = LocalBackend(tiny, cache_bytes=0, together=1)
    fresh._device.answers = shared._device.answers
    wrong: list[str] = []

    def talk(questions: list[tuple[int | None, str]]) -> None:
        edited = [*questions[: edit % len(questions)], (None, "Edited?")]
        for version in (questions, edited, [*questions, (3, "A fork")]):
            messages: list[Message] = []
            for seed, question in version:
                messages += conversation((seed, question, None))
                reply = answer(shared, messages)
                if reply != answer(fresh, messages):
                    wrong.append(question)
                if shared._device.states.bytes > budget:
                    wrong.append("over the budget")
                messages.append(Message.of("assistant", reply))

    threads = [threading.Thread(target=talk, args=(questions,)) for questions in talks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert wrong == []


def test_one_answer_that_stops_leaves_the_others_untouched(tiny: LoadedModel) -> None:
    """Closing one of three streams in mid-answer changes nothing for the other two."""
    backend = LocalBackend(tiny)
    asked = [conversation((seed, f"Question {seed}", None)) for seed in range(2)]
    closing = backend.stream(conversation((2, "Closed", None)), GenerationOptions(max_new_tokens=400))

    def read_a_little() -> None:
        for number, _ in enumerate(closing):
            if number == 6:
                break
        closing.close()

    reader = threading.Thread(target=read_a_little)
    reader.start()
    replies = at_once(backend, asked)
    reader.join(60)

    assert replies == [answer(LocalBackend(tiny), one) for one in asked]


def test_prompts_are_read_in_smaller_pieces_while_another_answer_is_written(tiny: LoadedModel) -> None:
    """So that whoever reads along waits for less at a time; alone, the pieces are large again."""
    backend = LocalBackend(tiny, prefill_chunk=200)
    long = conversation((None, "word " * 60, None))
    writing = backend.stream(conversation((None, "Hi", None)), GenerationOptions(max_new_tokens=400))
    assert sum(1 for _, event in zip(range(8), writing, strict=False) if isinstance(event, Delta)) > 1

    beside = [event.tokens_read for event in backend.stream(long, GREEDY) if isinstance(event, Reading)]
    writing.close()
    fresh = LocalBackend(tiny, prefill_chunk=200)
    alone = [event.tokens_read for event in fresh.stream(long, GREEDY) if isinstance(event, Reading)]

    assert beside[:2] == [64, 128]
    assert alone[0] == 200


def test_waiting_streams_are_told_their_place(tiny: LoadedModel) -> None:
    """With one place, the second stream is told it is next."""
    backend = LocalBackend(tiny, active_streams=1)
    first = backend.stream(conversation((1, "A", None)), GREEDY)
    next(first)
    second = backend.stream(conversation((2, "B", None)), GREEDY)

    assert next(second) == Queued(1)
    first.close()
    assert isinstance(next(second), Started)


def test_a_closed_backend_says_so(tiny: LoadedModel) -> None:
    """Work after close is refused with a reason."""
    backend = LocalBackend(tiny)
    backend.close()

    with pytest.raises(BackendUnavailableError, match="closed"):
        next(backend.stream(conversation((None, "Hi", None)), GREEDY))


def test_an_error_in_the_model_reaches_the_reader_and_leaves_no_broken_state(tiny: LoadedModel) -> None:
    """A failure in mid-answer is raised from the stream; the half-written state is dropped."""
    backend = LocalBackend(tiny)
    compute = backend._device.hidden
    backend._device.hidden = lambda *_: (_ for _ in ()).throw(RuntimeError("boom"))  # type: ignore[method-assign]

    with pytest.raises(RuntimeError, match="boom"):
        list(backend.stream(conversation((1, "Which side?", None)), GREEDY))

    assert len(backend._device.states) == 0
    backend._device.hidden = compute  # type: ignore[method-assign]
    assert answer(backend, conversation((1, "Which side?", None)))
