"""The history keeps every question and answer, shows each owner their own, and forgets what is deleted."""

import json
import math
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import AnswerNotFoundError, ImageNotFoundError, NotFoundError, ThreadNotFoundError
from app.history.records import END_STATES, StoredView
from app.history.store import HistoryStore, title_of

VIEW = StoredView(("d1",), {"frame": 3, "window": [40.0, 400.0]}, "r1")
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=200)


def test_a_turn_is_there_before_any_answer(store, path):
    """Another connection sees the question, its view and an empty answer as soon as begin_turn returns."""
    thread_id, turn_id, answer_id = store.begin_turn("amal", None, "ما هذا؟", [VIEW], "demo")
    with HistoryStore.open(path) as other:
        thread = other.load("amal", thread_id)
    (turn,) = thread.turns
    (answer,) = turn.answers
    assert (turn.id, turn.position, turn.question, turn.views) == (turn_id, 0, "ما هذا؟", (VIEW,))
    assert (answer.id, answer.text, answer.state) == (answer_id, "", "streaming")
    assert (answer.backend, answer.language, answer.finished) == ("demo", "ar", None)
    assert thread.title == "ما هذا؟"


def test_an_answer_grows_and_finishes(store, path):
    """Each text given is the whole text; the end brings state, usage and time."""
    thread_id, _, answer_id = store.begin_turn("amal", None, "What?", [], "demo")
    store.grow(answer_id, "A nod")
    store.grow(answer_id, "A nodule")
    with HistoryStore.open(path) as other:
        assert other.load("amal", thread_id).turns[0].answers[0].text == "A nodule"
    store.finish(answer_id, "A nodule.", "complete", usage={"prompt_tokens": 600, "total_s": 1.5})
    answer = store.load("amal", thread_id).turns[0].answers[0]
    assert (answer.text, answer.state) == ("A nodule.", "complete")
    assert answer.usage == {"prompt_tokens": 600, "total_s": 1.5}
    assert answer.started <= answer.finished <= datetime.now(UTC)


def test_a_failed_answer_keeps_its_text_and_what_went_wrong(store):
    """The error can be shown later in either language."""
    thread_id, _, answer_id = store.begin_turn("amal", None, "What?", [], "demo")
    store.finish(answer_id, "A no", "failed", error_key="engine.error", error_values={"reason": "x"})
    answer = store.load("amal", thread_id).turns[0].answers[0]
    assert (answer.text, answer.state) == ("A no", "failed")
    assert (answer.error_key, answer.error_values) == ("engine.error", {"reason": "x"})
    assert answer.usage is None


def test_answering_again_keeps_the_earlier_answer(store):
    """Both answers stay, in the order they were begun."""
    thread_id, turn_id, first = store.begin_turn("amal", None, "What?", [], "demo")
    store.finish(first, "One", "complete")
    second = store.begin_answer("amal", turn_id, "other")
    store.finish(second, "Two", "stopped")
    found = store.load("amal", thread_id).turns[0].answers
    assert [(a.id, a.text, a.backend) for a in found] == [(first, "One", "demo"), (second, "Two", "other")]


def test_an_ended_answer_is_never_changed(store):
    """A late piece of text cannot overwrite what was finished."""
    thread_id, _, answer_id = store.begin_turn("amal", None, "What?", [], "demo")
    store.finish(answer_id, "Whole", "complete")
    for late in (lambda: store.grow(answer_id, "x"), lambda: store.finish(answer_id, "x", "failed")):
        with pytest.raises(ValueError, match="finished already"):
            late()
    assert store.load("amal", thread_id).turns[0].answers[0].text == "Whole"
    with pytest.raises(ValueError, match="'streaming', expected one of complete"):
        store.finish(answer_id, "x", "streaming")


def test_recover_marks_what_a_dead_process_left(store):
    """Only answers still streaming become interrupted, with their text; a second call finds none."""
    _, _, ended = store.begin_turn("amal", None, "one", [], "demo")
    store.finish(ended, "done", "complete")
    thread_id, _, cut = store.begin_turn("amal", None, "two", [], "demo")
    store.grow(cut, "half an ans")
    assert store.recover() == 1
    answer = store.load("amal", thread_id).turns[0].answers[0]
    assert (answer.text, answer.state) == ("half an ans", "interrupted")
    assert answer.finished is not None
    assert store.recover() == 0
    store.finish(cut, "half an answer", "complete")  # the process was not dead after all
    assert store.load("amal", thread_id).turns[0].answers[0].state == "complete"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=TEXTS, pieces=st.lists(TEXTS, max_size=4), state=st.sampled_from(END_STATES))
def test_any_text_comes_back_as_it_was(store, question, pieces, state):
    """Question, growing answer and end are returned character by character."""
    thread_id, _, answer_id = store.begin_turn("amal", None, question, [VIEW], "demo")
    text = ""
    for piece in pieces:
        text += piece
        store.grow(answer_id, text)
        assert store.load("amal", thread_id).turns[0].answers[0].text == text
    store.finish(answer_id, text, state)
    turn = store.load("amal", thread_id).turns[0]
    assert (turn.question, turn.answers[0].text, turn.answers[0].state) == (question, text, state)


def test_halves_of_characters_are_stored_as_replacements(store):
    """What a browser may send but no database takes does not lose the question."""
    thread_id, _, answer_id = store.begin_turn("amal", None, "a\ud800b\x00c", [], "demo")
    store.finish(answer_id, "\udfff", "complete")
    turn = store.load("amal", thread_id).turns[0]
    assert (turn.question, turn.answers[0].text) == ("a\ufffdb\ufffdc", "\ufffd")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=12))
def test_turns_keep_their_order(tmp_path_factory, plan):
    """Whatever the order of asking in several threads, each holds its own questions in order."""
    with HistoryStore.open(tmp_path_factory.mktemp("order") / "h.sqlite3") as store:
        store.add_image("amal", "d1", "CT")
        ids, asked = {}, {}
        for number, (name, views) in enumerate(plan):
            question = f"{name}{number}"
            given_views = [StoredView(("d1",), {"n": n}, f"r{n}") for n in range(views)]
            ids[name], _, _ = store.begin_turn("amal", ids.get(name), question, given_views, "demo")
            asked.setdefault(name, []).append((question, tuple(given_views)))
        for name, thread_id in ids.items():
            found = store.load("amal", thread_id).turns
            assert [(turn.question, turn.views) for turn in found] == asked[name]
            assert [turn.position for turn in found] == list(range(len(found)))
        listed = store.threads("amal")
        assert {t.id: t.turn_count for t in listed} == {ids[n]: len(q) for n, q in asked.items()}


def test_a_turn_that_cannot_be_stored_leaves_nothing(store):
    """An unknown image or thread undoes the whole turn."""
    with pytest.raises(ImageNotFoundError):
        store.begin_turn("amal", None, "What?", [VIEW, StoredView(("d2",), {}, "r")], "demo")
    with pytest.raises(ThreadNotFoundError):
        store.begin_turn("amal", "nothing", "What?", [VIEW], "demo")
    assert store.threads("amal") == []


def test_the_list_is_newest_first_and_pages(store):
    """Asking brings a conversation to the top; pages neither repeat nor leave out."""
    ids = [store.begin_turn("amal", None, f"q{n}", [], "demo")[0] for n in range(7)]
    store.begin_turn("amal", ids[2], "again", [], "demo")
    expected = [ids[2], *reversed(ids[:2] + ids[3:])]
    assert [t.id for t in store.threads("amal")] == expected
    pages, last = [], None
    while page := store.threads("amal", limit=3, before=last):
        pages += [t.id for t in page]
        last = page[-1]
    assert pages == expected
    assert all(t.updated - t.created < timedelta(minutes=1) for t in store.threads("amal"))
    assert store.threads("amal")[0].updated.tzinfo is not None


def test_titles_come_from_the_question(store):
    """A title is one line, cut between words; renaming changes it and an empty name brings it back."""
    long = "هل توجد عقدة رئوية في الفص العلوي الأيمن\nأم في الفص السفلي الأيسر من الرئة؟"
    thread_id, _, _ = store.begin_turn("amal", None, long, [], "demo")
    title = store.load("amal", thread_id).title
    assert len(title) <= 61
    assert title.endswith("…")
    assert long.replace("\n", " ").startswith(title[:-1])
    store.rename("amal", thread_id, "  Follow\u2067 up \n one ")
    assert store.load("amal", thread_id).title == "Follow up one"
    store.rename("amal", thread_id, " ")
    assert store.load("amal", thread_id).title == title
    store.rename("amal", thread_id, "x" * 500)
    assert len(store.load("amal", thread_id).title) == 200


@given(st.text(max_size=200))
def test_a_title_is_short_and_on_one_line(question):
    """No question makes a title that breaks a list."""
    title = title_of(question)
    assert len(title) <= 61
    assert "\n" not in title
    assert title == title.strip()


def test_every_method_refuses_another_owner(store):
    """Somebody else's rows are reported exactly like missing ones, and stay as they were."""
    thread_id, turn_id, _ = store.begin_turn("amal", None, "What?", [VIEW], "demo")
    before = store.load("amal", thread_id)
    forbidden = (
        lambda ids: store.begin_turn(ids.owner, ids.thread, "q", [], "demo"),
        lambda ids: store.begin_turn(ids.owner, None, "q", [(ids.image, {}, "r")], "demo"),
        lambda ids: store.begin_answer(ids.owner, ids.turn, "demo"),
        lambda ids: store.load(ids.owner, ids.thread),
        lambda ids: store.rename(ids.owner, ids.thread, "mine"),
        lambda ids: store.delete(ids.owner, ids.thread),
        lambda ids: store.image(ids.owner, ids.image),
    )
    theirs = SimpleNamespace(owner="badr", thread=thread_id, turn=turn_id, image="d1")
    missing = SimpleNamespace(owner="amal", thread="none", turn="none", image="none")
    for call in forbidden:
        with pytest.raises(NotFoundError) as on_theirs:
            call(theirs)
        with pytest.raises(NotFoundError) as on_missing:
            call(missing)
        assert type(on_theirs.value) is type(on_missing.value)
        assert str(on_theirs.value) == str(on_missing.value)
    assert store.threads("badr") == []
    assert store.images("badr") == []
    assert store.load("amal", thread_id) == before


def test_the_same_image_belongs_to_each_owner_separately(store):
    """Two people who open the same file see their own label, and one's deletion does not take the other's."""
    store.add_image("badr", "d1", "CT of Badr")
    assert store.image("amal", "d1").label == "CT Chest"
    assert store.image("badr", "d1").label == "CT of Badr"
    thread_id, _, _ = store.begin_turn("amal", None, "q", [VIEW], "demo")
    assert store.delete("amal", thread_id) == []
    assert store.image("badr", "d1").owner == "badr"
    with pytest.raises(ImageNotFoundError):
        store.image("amal", "d1")


def test_deleting_returns_images_nobody_has_any_more(store):
    """An image lives as long as one of its owners' threads shows it."""
    store.add_image("amal", "d2", "MR")
    store.add_image("amal", "unasked", "MR")
    both = [StoredView(("d1",), {}, "r"), StoredView(("d2",), {}, "r"), StoredView(("d2",), {}, "s")]
    first, _, _ = store.begin_turn("amal", None, "q", both, "demo")
    second, _, _ = store.begin_turn("amal", None, "q", [VIEW], "demo")
    assert store.delete("amal", first) == ["d2"]
    assert {image.digest for image in store.images("amal")} == {"d1", "unasked"}
    assert store.delete("amal", second) == ["d1"]
    with pytest.raises(ThreadNotFoundError):
        store.load("amal", first)


def test_an_answer_whose_thread_was_deleted_says_so(store):
    """The writer of a stream learns that nobody will read it, and nothing comes back to life."""
    thread_id, _, answer_id = store.begin_turn("amal", None, "q", [], "demo")
    store.delete("amal", thread_id)
    with pytest.raises(AnswerNotFoundError):
        store.grow(answer_id, "text")
    with pytest.raises(AnswerNotFoundError):
        store.finish(answer_id, "text", "complete")
    assert store.threads("amal") == []


def test_opening_an_image_again_renews_its_label_only(store):
    """An owner has one record of an image, however often its file is opened."""
    created = store.image("amal", "d1").created
    time.sleep(0.002)
    store.add_image("amal", "d1", "CT  Thorax\n")
    (record,) = store.images("amal")
    assert (record.label, record.created) == ("CT Thorax", created)


def test_ids_are_unguessable_and_unlike(store):
    """No id is repeated or follows from another."""
    ids = [id_ for _ in range(50) for id_ in store.begin_turn("amal", None, "q", [], "demo")]
    assert len(set(ids)) == 150
    assert all(len(id_) >= 22 for id_ in ids)


def test_values_that_no_page_and_no_file_takes_are_not_stored(store, tmp_path):
    """Halves of characters and NUL in what a server says of an error; numbers that are none."""
    thread, _, answer = store.begin_turn("amal", None, "q", [], "demo")
    said = {"reason": "bad \ud83d byte \x00", "nested": [{"\udfff": ("x\ud800",)}], "n": 3}
    usage = {"total_s": math.nan, "tokens": 5, "first_s": -math.inf}
    store.finish(answer, "", "failed", usage=usage, error_key="engine.error", error_values=said)
    for grounding in ({"difference": math.nan}, {"sentences": [{"difference": math.inf}]}):
        with pytest.raises(ValueError, match="no number"):
            store.keep_grounding("amal", answer, grounding)
    (loaded,) = store.load("amal", thread).turns[0].answers
    assert loaded.error_values == {"reason": "bad � byte �", "nested": [{"�": ["x�"]}], "n": 3}
    assert loaded.usage == {"total_s": None, "tokens": 5, "first_s": None}
    assert loaded.grounding is None
    json.dumps([loaded.error_values, loaded.usage], ensure_ascii=False, allow_nan=False).encode()
    (tmp_path / "images").mkdir()
    store.export_thread("amal", thread, tmp_path / "out.zip", tmp_path / "images")
    assert store.import_thread("badr", tmp_path / "out.zip", lambda folder: ("", str(folder)))
    assert store.verify() is None


def test_values_an_earlier_version_stored_can_be_read_and_exported(store, path, tmp_path):
    """A dependence that is no number is none; the rest is written as it can be shown."""
    thread, _, answer = store.begin_turn("amal", None, "q", [], "demo")
    store.finish(answer, "left", "complete", usage={"tokens": 5})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE answers SET grounding = '{\"difference\": NaN}', usage = '{\"total_s\": Infinity}', "
            'error_values = \'{"reason": "bad \\ud83d"}\''
        )
        connection.commit()
    (loaded,) = store.load("amal", thread).turns[0].answers
    assert (loaded.grounding, loaded.usage, loaded.error_values) == (
        None,
        {"total_s": None},
        {"reason": "bad �"},
    )
    (tmp_path / "images").mkdir()
    store.export_thread("amal", thread, tmp_path / "out.zip", tmp_path / "images")
    assert store.import_thread("badr", tmp_path / "out.zip", lambda folder: ("", str(folder)))
