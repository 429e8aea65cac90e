"""Branches share nothing that changes; pins, tags and judgements stay with what they were given to."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from app.errors import AnswerNotFoundError, NotFoundError, ThreadNotFoundError, TurnNotFoundError
from app.history.records import FEEDBACK_REASONS, StoredView

VIEW = StoredView(("d1",), {"frame": 1}, "r")


def _conversation(store, count=3):
    """Make a conversation; returns its thread and the turns' ids."""
    thread, made = None, []
    for number in range(count):
        thread, turn, answer = store.begin_turn("amal", thread, f"question {number}", [VIEW], "demo")
        store.finish(answer, f"answer {number}", "complete", usage={"n": number})
        store.finish(store.begin_answer("amal", turn, "demo"), f"again {number}", "stopped")
        made.append(turn)
    return thread, made


def _content(thread):
    """Everything of a conversation but its ids."""
    return [
        (
            turn.question,
            turn.views,
            turn.created,
            [(a.text, a.state, a.usage, a.started) for a in turn.answers],
        )
        for turn in thread.turns
    ]


def test_a_branch_has_the_turns_up_to_one_and_ids_of_its_own(store):
    """Questions, views, answers and times are those of the original; no id is."""
    thread, turns = _conversation(store)
    branch = store.fork("amal", thread, turns[1])
    original, copied = store.load("amal", thread), store.load("amal", branch)
    assert _content(copied) == _content(original)[:2]
    ids = [{t.id for t in c.turns} | {a.id for t in c.turns for a in t.answers} for c in (original, copied)]
    assert ids[0].isdisjoint(ids[1])
    assert copied.title == original.title


def test_a_branch_takes_along_what_was_measured(store):
    """On its own images and on those never asked about; ids are its own, so that deleting stays apart."""
    thread, turns = _conversation(store, 1)
    later = StoredView(("d2",), {"image": "d2"}, "r")
    store.add_image("amal", "d2", "CT")
    _, second, answer = store.begin_turn("amal", thread, "and this one?", [later], "demo")
    store.finish(answer, "yes", "complete")
    for image in ("d1", "d2", "d3"):
        store.keep_measurement("amal", thread, {"image": image}, {"on": image})

    def measured(one):
        return sorted(kept.measurement["on"] for kept in store.measurements("amal", one))

    fork = store.fork("amal", thread, turns[0])
    edited, *_ = store.edit("amal", thread, turns[0], "differently", "demo")
    whole, *_ = store.edit("amal", thread, second, "differently", "demo")
    assert measured(fork) == measured(edited) == ["d1", "d3"]
    assert measured(whole) == ["d1", "d2", "d3"]
    store.delete_measurement("amal", store.measurements("amal", fork)[0].id)
    assert measured(thread) == ["d1", "d2", "d3"]


def test_a_branch_and_its_origin_change_apart(store):
    """What is added, renamed or deleted in one is not in the other; the shared image stays."""
    thread, turns = _conversation(store, 1)
    branch = store.fork("amal", thread, turns[0])
    before = _content(store.load("amal", thread))
    store.begin_turn("amal", branch, "more", [], "demo")
    store.rename("amal", branch, "other")
    assert _content(store.load("amal", thread)) == before
    assert store.load("amal", thread).title == "question 0"
    assert store.delete("amal", thread) == []
    assert _content(store.load("amal", branch))[:1] == before
    assert store.image("amal", "d1")
    assert {hit.thread_id for hit in store.search("amal", "answer")} == {branch}
    assert store.delete("amal", branch) == ["d1"]


def test_an_answer_being_written_stays_where_it_is_written(store):
    """Nobody would ever finish its copy."""
    thread, turn, answer = store.begin_turn("amal", None, "q", [], "demo")
    branch = store.fork("amal", thread, turn)
    assert store.load("amal", branch).turns[0].answers == ()
    store.finish(answer, "end", "complete")
    assert store.load("amal", branch).turns[0].answers == ()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_asking_differently_keeps_what_came_before(store, place):
    """The branch holds the earlier turns and the new question with the old one's views; nothing after."""
    thread, turns = _conversation(store)
    before = _content(store.load("amal", thread))
    branch, turn, answer = store.edit("amal", thread, turns[place], "another question", "demo")
    store.finish(answer, "another answer", "complete")
    loaded = store.load("amal", branch)
    assert _content(loaded)[:place] == before[:place]
    last = loaded.turns[place]
    assert (last.id, last.question, last.views, last.position) == (turn, "another question", (VIEW,), place)
    assert len(loaded.turns) == place + 1
    assert loaded.title == ("another question" if place == 0 else "question 0")
    assert _content(store.load("amal", thread)) == before
    assert [h.turn_id for h in store.search("amal", "another", modality="CT")] == [turn, turn]


def test_pinned_conversations_come_first_on_every_page(store):
    """The order is pins, then time; pages neither repeat nor leave out, wherever they are cut."""
    ids = [store.begin_turn("amal", None, f"q{n}", [], "demo")[0] for n in range(6)]
    for number in (1, 3, 4):
        store.pin("amal", ids[number])
    store.pin("amal", ids[4], pinned=False)
    expected = [ids[n] for n in (3, 1, 5, 4, 2, 0)]
    for size in (1, 2, 3, 7):
        pages, last = [], None
        while page := store.threads("amal", limit=size, before=last):
            pages += page
            last = page[-1]
        assert [t.id for t in pages] == expected
        assert [t.pinned for t in pages] == [True, True, False, False, False, False]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(max_size=60), max_size=8))
def test_tags_are_those_given_last(store, names):
    """On one line, none twice, none empty, in order; the list of conversations has them."""
    thread = store.begin_turn("amal", None, "q", [], "demo")[0]
    store.tag("amal", thread, ["old"])
    kept = store.tag("amal", thread, names)
    assert list(kept) == sorted(set(kept))
    assert all(tag and len(tag) <= 40 and tag == tag.strip() and "\n" not in tag for tag in kept)
    assert (store.threads("amal")[0].tags, store.tags("amal")) == (kept, list(kept))
    for tag in kept:
        assert [t.id for t in store.threads("amal", tag=tag)] == [thread]
    assert store.threads("amal", tag="old") == [] or "old" in kept
    store.delete("amal", thread)


def test_too_many_tags_are_refused(store):
    """And the ones there are stay."""
    thread = store.begin_turn("amal", None, "q", [], "demo")[0]
    store.tag("amal", thread, ["kept"])
    with pytest.raises(ValueError, match="found 21 tags, at most 20"):
        store.tag("amal", thread, [str(n) for n in range(21)])
    assert store.tags("amal") == ["kept"]


def test_a_judgement_can_be_given_changed_and_taken_back(store):
    """Reasons come in their own order with the reader's words; the last one counts."""
    thread, _, answer = store.begin_turn("amal", None, "q", [], "demo")
    store.judge("amal", answer, {"other", "wrong_side"}, " left, not right ")
    found = store.judgements("amal", thread)[answer]
    assert (found.reasons, found.text) == (("wrong_side", "other"), "left, not right")
    store.judge("amal", answer, FEEDBACK_REASONS)
    assert store.judgements("amal", thread)[answer].reasons == FEEDBACK_REASONS
    store.judge("amal", answer, [])
    assert store.judgements("amal", thread) == {}
    with pytest.raises(ValueError, match=r"found the reasons \['ugly'\], expected some of wrong_side"):
        store.judge("amal", answer, ["ugly"])


def test_tags_and_judgements_leave_with_their_conversation(store, path):
    """No byte of them is left."""
    thread, _, answer = store.begin_turn("amal", None, "q", [], "demo")
    store.tag("amal", thread, ["MARKERTAG"])
    store.judge("amal", answer, ["other"], "MARKERTEXT")
    store.delete("amal", thread)
    left = b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))
    assert b"MARKER" not in left


def test_nobody_else_may(store):
    """Somebody else's rows are reported like missing ones."""
    thread, turns = _conversation(store, 1)
    answer = store.load("amal", thread).turns[0].answers[0].id
    other, _ = _conversation(store, 1)
    for call in (
        lambda: store.fork("badr", thread, turns[0]),
        lambda: store.edit("badr", thread, turns[0], "q", "demo"),
        lambda: store.pin("badr", thread),
        lambda: store.tag("badr", thread, ["x"]),
        lambda: store.judgements("badr", thread),
    ):
        with pytest.raises(ThreadNotFoundError):
            call()
    with pytest.raises(AnswerNotFoundError):
        store.judge("badr", answer, ["other"])
    with pytest.raises(TurnNotFoundError):
        store.fork("amal", other, turns[0])
    with pytest.raises(NotFoundError):
        store.edit("amal", other, turns[0], "q", "demo")
    assert store.threads("badr") == []
    assert store.tags("badr") == []
    assert len(store.threads("amal")) == 2


def test_a_branch_is_made_in_few_steps_and_found(store):
    """Nobody waits long for the branch of a long conversation; its messages are found as the original's."""
    steps, counts = [], []
    event.listen(store.database._engine, "before_cursor_execute", lambda *_: steps.append(1))
    for count in (4, 8):
        thread, turns = _conversation(store, count)
        answer = store.load("amal", thread).turns[0].answers[0]
        store.judge("amal", answer.id, ["other"])
        steps.clear()
        branch = store.fork("amal", thread, turns[-1])
        counts.append(len(steps))
        for query, options in (("question", {}), ("answer", {}), ("", {"modality": "CT"})):
            found = [hit.thread_id for hit in store.search("amal", query, limit=500, **options)]
            assert found.count(branch) == found.count(thread) > 0
        judged = [hit.thread_id for hit in store.search("amal", "", feedback="other", limit=500)]
        assert branch not in judged, "what was said of an answer stays with it"
        assert thread in judged
    assert counts[1] - counts[0] < 20 * 4, counts
    if store.database._sqlite:
        store.database.check_index()
    assert store.verify() is None
