"""The record tells who did what, and every change or removal of an entry is found."""

import random
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from app.errors import ThreadNotFoundError
from app.history.audit import AuditHead, BrokenLink, append
from app.history.seals import row_seals


def _sql(store, statement, value=None):
    with store._database.write() as connection:
        return connection.execute(text(statement), {} if value is None else {"value": value}).rowcount


def _some(store):
    """Ten entries of two owners."""
    with store._database.write() as connection:
        for number in range(10):
            append(connection, ("amal", "badr")[number % 2], "seen", f"subject{number}")
    assert store.verify() is None


def test_what_is_done_is_recorded_without_a_word_of_it(store, path):
    """Asking, seeing, renaming, branching and deleting, in order, by ids; the text is in no entry."""
    thread, turn, answer = store.begin_turn("amal", None, "SECRETQUESTION", [], "demo")
    store.finish(answer, "SECRETANSWER", "complete")
    store.begin_answer("amal", turn, "demo")
    store.record_seen("amal", thread)
    store.rename("amal", thread, "SECRETTITLE")
    branch = store.fork("amal", thread, turn)
    _, other, _ = store.edit("amal", thread, turn, "SECRETEDIT", "demo")
    store.delete("amal", thread)
    assert [(e.action, e.subject) for e in store.audit("amal")] == [
        ("asked", turn), ("answered", answer), ("asked_again", turn), ("seen", thread), ("renamed", thread),
        ("forked", branch), ("asked", other), ("deleted", thread),
    ]  # fmt: skip
    assert [e.sequence for e in store.audit()] == list(range(1, 9))
    assert not any("SECRET" in str(entry) for entry in store.audit())
    assert store.verify() is None
    assert store.verify("amal") is None
    assert b"SECRETANSWER" in path.read_bytes()  # the branch has it still


def test_what_failed_or_was_undone_is_not_recorded(store):
    """Nothing is noted of a conversation that is not there."""
    for call in (store.record_seen, store.delete):
        with pytest.raises(ThreadNotFoundError):
            call("amal", "nothing")
    assert store.audit() == []


@pytest.mark.parametrize(
    "change",
    [
        "time = '2020-01-01 00:00:00.000000'",
        "owner = 'amal2'",
        "action = 'asked'",
        "subject = 'x'",
        "hash = 'x'",
    ],
)
@pytest.mark.parametrize("place", [1, 6, 10])
def test_a_changed_entry_is_named(store, change, place):
    """Whatever of it was changed, and wherever it stands."""
    _some(store)
    assert _sql(store, f"UPDATE audit SET {change} WHERE sequence = :value", place) == 1  # noqa: S608
    assert store.verify() == BrokenLink(place, "changed")


@pytest.mark.parametrize("seed", range(4))
def test_removed_entries_are_named(store, seed):
    """The first that is missing, also when it was the last one or all of them."""
    _some(store)
    gone = sorted(random.Random(seed).sample(range(1, 11), 1 + 3 * seed))
    for sequence in gone:
        _sql(store, "DELETE FROM audit WHERE sequence = :value", sequence)
    assert store.verify().sequence == gone[0]


def test_removal_of_the_end_is_found(store):
    """The newest entry is noted apart."""
    _some(store)
    _sql(store, "DELETE FROM audit WHERE sequence > 8")
    assert store.verify() == BrokenLink(9, "head")
    _sql(store, "DELETE FROM audit")
    assert store.verify() == BrokenLink(1, "head")
    _sql(store, "DELETE FROM audit_head")
    assert store.verify() == BrokenLink(1, "head")


def test_entries_moved_or_renumbered_are_found(store):
    """Two that changed places, and a gap that was closed."""
    _some(store)
    _sql(store, "UPDATE audit SET sequence = -sequence WHERE sequence IN (4, 5)")
    _sql(store, "UPDATE audit SET sequence = 9 + sequence WHERE sequence IN (-4, -5)")
    assert store.verify() == BrokenLink(4, "changed")
    _sql(store, "DELETE FROM audit WHERE sequence = 1")
    _sql(store, "UPDATE audit SET sequence = -sequence")
    _sql(store, "UPDATE audit SET sequence = -sequence - 1")
    assert store.verify() == BrokenLink(1, "changed")


def test_one_owner_is_told_of_their_own_entries(store):
    """A changed entry of somebody else is passed over, a missing one is not."""
    _some(store)
    _sql(store, "UPDATE audit SET subject = 'x' WHERE sequence = 2")
    assert store.verify("badr") == BrokenLink(2, "changed")
    assert store.verify("amal") is None
    _sql(store, "DELETE FROM audit WHERE sequence = 5")
    assert store.verify("amal") == BrokenLink(5, "missing")


def test_a_record_written_anew_is_found_by_a_head_kept_elsewhere(store):
    """It is consistent in itself: only what was kept outside tells."""
    _some(store)
    kept = store.head()
    assert kept.sequence == 10
    _some(store)
    assert store.verify(kept=kept) is None
    _sql(store, "DELETE FROM audit")
    _sql(store, "UPDATE audit_head SET sequence = 0, hash = :value", "0" * 64)
    assert store.verify() is None
    assert store.verify(kept=kept) == BrokenLink(1, "head")
    _some(store)
    assert store.verify() is None
    assert store.verify(kept=kept) == BrokenLink(10, "head")
    assert store.verify(kept=AuditHead(0, "0" * 64)) is None


# --- rows changed behind the store's back -------------------------------------------------------------


def _talk(store):
    """Two conversations with views, a translation, a judgement and a branch; nothing is wrong with them."""
    view = (("d1",), {"image": "d1", "center": 40.0, "n": 1}, "render")
    thread, turn, answer = store.begin_turn("amal", None, "Is there a nodule?", [view], "demo")
    store.grow(answer, "Left")
    store.finish(answer, "Left, 12.5 mm", "complete", usage={"tokens": 3, "total_s": 0.25})
    twin = store.begin_translation("amal", answer, "demo")
    store.finish(twin, "يسار، 12.5 مم", "complete")
    store.judge("amal", answer, ["wrong_side"], "right")
    branch = store.fork("amal", thread, turn)
    other, _, said = store.begin_turn("badr", None, "لماذا؟", [], "demo")
    store.finish(said, "", "failed", error_key="engine.error", error_values={"reason": "x"})
    store.rename("badr", other, "new title")
    store.pin("amal", thread)
    store.tag("amal", thread, ["t"])
    return {"thread": thread, "turn": turn, "answer": answer, "branch": branch, "other": other}


CHANGES = {
    "question": ("UPDATE turns SET question = 'Is there none?' WHERE id = :turn", "content"),
    "time": ("UPDATE turns SET created = '2020-01-01 00:00:00.000000' WHERE id = :turn", "content"),
    "answer": ("UPDATE answers SET text = 'Right, 12.5 mm' WHERE id = :answer", "content"),
    "state": ("UPDATE answers SET state = 'stopped' WHERE id = :answer", "content"),
    "answer opened again": ("UPDATE answers SET state = 'streaming' WHERE id = :answer", "removed"),
    "what answered": ("UPDATE answers SET backend = 'other' WHERE id = :answer", "content"),
    "view": ("UPDATE views SET view = '{}' WHERE turn_id = :turn", "content"),
    "image of a view": ("UPDATE view_images SET digest = 'd2' WHERE turn_id = :turn", "content"),
    "view removed": ("DELETE FROM views WHERE turn_id = :turn", "content"),
    "judgement": ("UPDATE feedback SET text = 'left' WHERE answer_id = :answer", "content"),
    "judgement removed": ("DELETE FROM feedback WHERE answer_id = :answer", "removed"),
    "salt": ("UPDATE turns SET salt = 'x' WHERE id = :turn", "content"),
    "answer removed": ("DELETE FROM answers WHERE id = :answer", "removed"),
    "conversation removed": ("DELETE FROM threads WHERE id = :thread", "removed"),
    "turn moved": ("UPDATE turns SET thread_id = :other, position = 7 WHERE id = :turn", "content"),
    "judgement added": (
        "INSERT INTO feedback SELECT id, '[]', 'x', started, 'y' FROM answers WHERE state = 'failed'", "added"
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_changed_behind_the_stores_back_is_named(store, change):
    """Every stored word, view and judgement is covered; the entry that brought it is told."""
    ids = _talk(store)
    assert store.verify() is None
    statement, kind = CHANGES[change]
    with store._database.write() as connection:
        used = {name: value for name, value in ids.items() if f":{name}" in statement}
        assert connection.execute(text(statement), used).rowcount
    broken = store.verify()
    assert broken is not None
    assert broken.kind == kind
    assert broken.subject
    if kind != "added":
        (entry,) = store.audit(after=broken.sequence - 1, limit=1)
        assert entry.action in {"asked", "answered", "judged"}
        assert store.verify("badr") is None


def test_a_seal_cannot_be_changed_with_its_row(store):
    """A digest made to fit the changed row no longer fits the entry it is listed under."""
    ids = _talk(store)
    with store._database.write() as connection:
        connection.execute(
            text("UPDATE turns SET question = 'other' WHERE id = :turn"), {"turn": ids["turn"]}
        )
        (seal,) = row_seals(connection, "turn", [ids["turn"]])
        values = {"digest": seal.digest, "turn": ids["turn"]}
        connection.execute(text("UPDATE seals SET digest = :digest WHERE subject = :turn"), values)
    assert store.verify() == BrokenLink(1, "changed")
    with store._database.write() as connection:
        connection.execute(text("DELETE FROM seals WHERE subject = :turn"), {"turn": ids["turn"]})
    assert store.verify() == BrokenLink(1, "changed")


def test_what_the_store_changes_itself_is_right(store):
    """Deleting, taking a judgement back, recovering and going on after it leave nothing to tell."""
    ids = _talk(store)
    store.judge("amal", ids["answer"], [])
    left = store.begin_answer("amal", ids["turn"], "demo")
    store.grow(left, "half")
    assert store.recover() == 1
    assert store.verify() is None
    store.grow(left, "half and more")
    assert store.verify() is None
    store.finish(left, "half and more, whole", "complete")
    assert store.verify() is None
    store.delete("amal", ids["thread"])
    assert store.verify() is None
    store.delete("amal", ids["branch"])
    assert store.verify() is None


def test_a_list_of_seals_without_an_entry_is_told(store):
    """It would otherwise count as the last digest of a question, and hide that the question was changed."""
    thread, turn, answer = store.begin_turn("amal", None, "mass on the left?", [], "demo")
    store.finish(answer, "yes", "complete")
    assert store.verify() is None
    _sql(store, "UPDATE turns SET question = 'mass on the right?'")
    for sequence in (999_999, 0, -5):
        with _unchecked(store) as connection:
            connection.execute(
                text(
                    "INSERT INTO seals (sequence, place, kind, subject, thread_id, digest) "
                    "VALUES (:sequence, 0, 'turn', :turn, :thread, '')"
                ),
                {"sequence": sequence, "turn": turn, "thread": thread},
            )
        assert store.verify() == store.verify("amal") == BrokenLink(sequence, "missing")
        _sql(store, "DELETE FROM seals WHERE sequence = :value", sequence)
    assert store.verify().kind == "content"


@contextmanager
def _unchecked(store):
    """Write as somebody does who stands above the rules of the schema."""
    engine = store.database._engine
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")
        else:
            connection.execute(text("SET session_replication_role = replica"))
        yield connection
        connection.commit()
        connection.connection.invalidate()


@pytest.mark.parametrize(
    "emptied", [("audit_head",), ("seals", "audit", "audit_head"), ("audit", "audit_head")]
)
def test_a_record_without_its_end_is_told_and_work_goes_on(store, emptied):
    """Nobody is kept from asking; that the record was emptied stays to be seen."""
    _, _, answer = store.begin_turn("amal", None, "question", [], "demo")
    store.finish(answer, "yes", "complete")
    with _unchecked(store) as connection:
        for table in emptied:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608  # our tables
    broken = store.verify()
    assert broken is not None
    assert isinstance(store.head(), AuditHead)
    for _ in range(2):
        _, _, answer = store.begin_turn("amal", None, "another", [], "demo")
        store.finish(answer, "no", "complete")
    assert store.verify() is not None
    assert store.verify().kind in ("head", "missing")


def test_a_conversation_given_to_somebody_else_is_told(store):
    """The entry that brought a question names whose it is."""
    thread, turn, answer = store.begin_turn("amal", None, "question", [], "demo")
    store.finish(answer, "yes", "complete")
    assert store.verify() is None
    _sql(store, "UPDATE threads SET owner = 'mallory' WHERE id = :value", thread)
    assert store.verify() == store.verify("amal") == BrokenLink(1, "content", turn)
