"""A conversation leaves and comes back whole; whatever else a file holds, nothing of it is taken in."""

import copy
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from app.errors import ArchiveError, ArchiveTooLargeError, FileAccessError, ThreadNotFoundError
from app.history.archive import ArchiveLimits
from app.history.records import StoredView
from app.history.retention import Retention, expired, prune


@pytest.fixture
def pixels(tmp_path):
    """Folder of stored images, with the one the conversation is about."""
    folder = tmp_path / "images"
    (folder / "d1").mkdir(parents=True)
    (folder / "d1" / "image.json").write_text('{"digest": "d1"}')
    (folder / "d1" / "frames.npy").write_bytes(bytes(range(256)) * 9000)
    return folder


@pytest.fixture
def kept():
    """Keeper of imported images: names them by their content."""

    def keep(folder):
        assert sorted(file.name for file in folder.iterdir()) == ["frames.npy", "image.json"]
        digest = hashlib.sha256((folder / "frames.npy").read_bytes()).hexdigest()
        keep.folders.append(folder)
        return digest, "CT Chest"

    keep.folders = []
    return keep


@pytest.fixture
def thread(store):
    view = StoredView(("d1",), {"image": "d1", "frame": 3, "nested": [{"image": "d1"}]}, "render")
    thread, turn, answer = store.begin_turn("amal", None, "ما هذا؟ <b>x</b>", [view], "demo")
    store.finish(answer, "عقدة رئوية", "complete", usage={"prompt_tokens": 3, "total_s": 1.5})
    store.finish(store.begin_answer("amal", turn, "demo"), "", "failed", error_key="engine.error")
    store.begin_turn("amal", thread, "second", [], "demo")
    store.tag("amal", thread, ["follow-up"])
    return thread


@pytest.fixture
def exported(store, thread, pixels, tmp_path):
    store.export_thread("amal", thread, tmp_path / "out.zip", pixels)
    return tmp_path / "out.zip"


def _content(thread, names):
    def turn(item):
        views = [([names.get(d, d) for d in v.images], v.render_digest) for v in item.views]
        answers = [replace(a, id="") for a in item.answers if a.state != "streaming"]
        return item.question, item.created, views, answers

    return thread.title, thread.created, thread.updated, [turn(item) for item in thread.turns]


def test_a_conversation_comes_back_whole(store, thread, exported, kept):
    """For another owner, with new ids, found by the search, its image under the digest of the keeper."""
    new = store.import_thread("badr", exported, kept)
    original, loaded = store.load("amal", thread), store.load("badr", new)
    digest = loaded.turns[0].views[0].images[0]
    assert _content(loaded, {digest: "d1"}) == _content(original, {})
    assert loaded.turns[0].views[0].view == {"image": digest, "frame": 3, "nested": [{"image": digest}]}
    assert {t.id for t in loaded.turns}.isdisjoint(t.id for t in original.turns)
    assert store.image("badr", digest).label == "CT Chest"
    assert store.threads("badr")[0].tags == ("follow-up",)
    assert [hit.thread_id for hit in store.search("badr", "عقدة", modality="CT")] == [new]
    assert [entry.action for entry in store.audit()][-2:] == ["exported", "imported"]
    assert not any(folder.exists() for folder in kept.folders)


def test_an_export_is_private_whole_and_only_ones_own(store, thread, exported, pixels, tmp_path):
    """Readable by its user alone; nothing is left of one that failed, and the old file stays."""
    assert exported.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(exported) as archive:
        assert sorted(archive.namelist()) == [
            "conversation.json", "images/0/frames.npy", "images/0/image.json",
        ]  # fmt: skip
    with pytest.raises(ThreadNotFoundError):
        store.export_thread("badr", thread, tmp_path / "stolen.zip", pixels)
    before = exported.read_bytes()
    (pixels / "d1" / "frames.npy").unlink()
    with pytest.raises(FileAccessError, match=r"frames\.npy"):
        store.export_thread("amal", thread, exported, pixels)
    assert exported.read_bytes() == before
    assert sorted(file.name for file in tmp_path.glob("*.zip*")) == ["out.zip"]
    assert list(tmp_path.glob(".out*")) == []


def _changed(file, change):
    """Write an archive anew with a changed record."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    record = json.loads(content["conversation.json"])
    change(record, content)
    content.setdefault("conversation.json", b"")
    if content["conversation.json"] != b"raw":
        content["conversation.json"] = json.dumps(record).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    file.write_bytes(made.getvalue())


def _set(path, value):
    def change(record, _content):
        place = record
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


def _nested(depth):
    value = {}
    for _ in range(depth):
        value = {"x": value}
    return value


_TURN = ("thread", "turns", 0)
ATTACKS = {
    "version": _set(("version",), 4),
    "format": _set(("format",), ["bimedix2-conversation"]),
    "unknown entry": _set(("thread", "owner"), "root"),
    "missing entry": lambda record, _: record["thread"].pop("tags"),
    "traversal in a digest": _set((*_TURN, "views", 0, "images", 0), "../../x"),
    "traversal in an image": _set(("images", 0, "digest"), "../../etc/passwd"),
    "image not held": _set((*_TURN, "views", 0, "images", 0), "d2"),
    "image twice": lambda record, _: record["images"].append(copy.deepcopy(record["images"][0])),
    "wrong checksum": _set(("images", 0, "sha256", "frames.npy"), "0" * 64),
    "changed pixels": lambda _, content: content.update({"images/0/frames.npy": b"other"}),
    "image left out": lambda _, content: content.pop("images/0/image.json"),
    "state": _set((*_TURN, "answers", 0, "state"), "streaming"),
    "state as a list": _set((*_TURN, "answers", 0, "state"), ["complete"]),
    "error key": _set((*_TURN, "answers", 0, "error_key"), "{0.__class__}"),
    "time": _set((*_TURN, "created"), "2026-01-01"),
    "time without zone": _set((*_TURN, "created"), "2026-01-01T00:00:00"),
    "time as number": _set((*_TURN, "created"), 5),
    "text as object": _set((*_TURN, "question"), {"$ne": ""}),
    "too deep": _set((*_TURN, "views", 0, "view"), _nested(50)),
    "number too large": _set((*_TURN, "views", 0, "view"), {"n": 2**70}),
    "not a number": _set((*_TURN, "views", 0, "view"), {"n": float("nan")}),
    "NUL in a view": _set((*_TURN, "views", 0, "view"), {"n": "\x00"}),
    "too many views": lambda record, _: record["thread"]["turns"][0]["views"].extend(
        record["thread"]["turns"][0]["views"] * 70
    ),
    "title": _set(("thread", "title"), "x" * 201),
    "turns": _set(("thread", "turns"), None),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_a_wrong_archive_is_taken_in(path, store, exported, kept, attack):
    """The error says so, and the history is as it was; refused before any database is asked."""
    del path  # on one database
    _changed(exported, ATTACKS[attack])
    with pytest.raises(ArchiveError, match="Nothing was taken in"):
        store.import_thread("badr", exported, kept)
    assert store.threads("badr") == []
    assert store.images("badr") == []
    assert kept.folders == []


def test_files_of_other_names_are_never_written(store, exported, kept, tmp_path):
    """A zip may name any place: only the files expected are read."""
    _changed(exported, lambda _, content: content.update({"../escaped": b"x", "/escaped": b"x"}))
    store.import_thread("badr", exported, kept)
    assert list(tmp_path.rglob("escaped")) == []


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"x" * 5000, b'{"a": 1}'])
def test_what_is_no_archive_is_refused(store, kept, tmp_path, data):
    """Other files, and one that is not there, say what they are."""
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="found another file"):
        store.import_thread("badr", tmp_path / "in.zip", kept)
    with pytest.raises(FileAccessError, match="No such file"):
        store.import_thread("badr", tmp_path / "none.zip", kept)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_damaged_archive_is_refused(store, exported, kept, share):
    """Cut, or with bytes of its content overwritten."""
    whole = exported.read_bytes()
    place = int(len(whole) * share)
    for damaged in (whole[:place], whole[:place] + b"\xff" * 8 + whole[place + 8 :]):
        exported.write_bytes(damaged)
        with pytest.raises(ArchiveError):
            store.import_thread("badr", exported, kept)
    assert store.threads("badr") == []


def test_sizes_are_bounded_by_what_comes_out(store, exported, kept):
    """A record, an image and a number of images beyond the limit are refused while they are read."""
    for limits in (
        ArchiveLimits(record_bytes=100),
        ArchiveLimits(image_bytes=70_000),
        ArchiveLimits(images=0),
    ):
        with pytest.raises(ArchiveTooLargeError, match="holds too much"):
            store.import_thread("badr", exported, kept, limits)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversation.json", b" " * (80 << 20))
    exported.write_bytes(bomb.getvalue())
    with pytest.raises(ArchiveTooLargeError):
        store.import_thread("badr", exported, kept)


def test_an_image_that_cannot_be_kept_leaves_nothing(store, exported):
    """The keeper's own error comes through."""

    def keep(_folder):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.import_thread("badr", exported, keep)
    assert store.threads("badr") == []


def _long(file, turn_count, answer_count=1):
    """Make the record of an archive long, all of it of one instant."""

    def lengthen(record, _content):
        turn = record["thread"]["turns"][1]
        answer = record["thread"]["turns"][0]["answers"][0]
        moment = turn["created"]
        answer |= {"started": moment, "finished": moment, "translation_of": None}
        turns = [
            {**turn, "question": f"عقدة {n}", "answers": [answer] * answer_count} for n in range(turn_count)
        ]
        record["thread"]["turns"] = turns
        record["images"] = []

    _changed(file, lengthen)


def test_messages_of_one_instant_come_in_their_order_and_in_few_steps(store, exported, kept):
    """Twice as many take twice as many statements at most, and the second archive goes behind the first."""
    steps = []
    event.listen(store.database._engine, "before_cursor_execute", lambda *_: steps.append(1))
    counts = []
    for turn_count in (200, 400):
        _long(exported, turn_count)
        steps.clear()
        store.import_thread("badr", exported, kept)
        counts.append(len(steps))
    assert counts[1] < 6 * 2 * 400, counts
    found = store.search("badr", "عقدة", limit=3000)
    assert [hit.number for hit in found] == sorted((hit.number for hit in found), reverse=True)
    assert len(found) == 2 * (200 + 400), "question and answer each"
    asked = [hit.excerpt for hit in found if hit.answer_id is None]
    assert asked == [f"عقدة {n}" for count in (400, 200) for n in reversed(range(count))]
    store.database.check_index()


def test_no_more_messages_are_taken_in_than_a_conversation_has(path, store, exported, kept):
    """Told with what was found and what is allowed, before anybody waits for the database."""
    del path  # on one database
    _long(exported, 11, 1000)
    with pytest.raises(ArchiveTooLargeError, match=r"found 11000 answers, at most 10000"):
        store.import_thread("badr", exported, kept)
    _long(exported, 5_001, 0)
    with pytest.raises(ArchiveTooLargeError, match=r"found 5001 questions, at most 5000"):
        store.import_thread("badr", exported, kept)
    assert store.threads("badr") == []


def test_judgements_that_come_with_a_conversation_are_found(store, thread, pixels, kept, tmp_path):
    """An answer is chosen by what was said of it where it was exported."""
    answer = store.load("amal", thread).turns[0].answers[0]
    store.judge("amal", answer.id, ["wrong_side"], "left, not right")
    store.export_thread("amal", thread, tmp_path / "out.zip", pixels)
    new = store.import_thread("badr", tmp_path / "out.zip", kept)
    (hit,) = store.search("badr", "", feedback="wrong_side")
    assert hit.thread_id == new
    assert store.verify() is None


def test_an_old_conversation_is_kept_from_the_day_it_came(store, exported, kept):
    """Retention counts from the import where nothing was changed since."""
    _changed(exported, _set(("thread", "updated"), "2020-01-01T00:00:00+00:00"))
    new, now = store.import_thread("badr", exported, kept), datetime.now(UTC)
    assert store.load("badr", new).updated.year == 2020
    rule = Retention(plain=30, tagged=30)
    assert new not in {item.thread_id for item in expired(store.database, rule, now + timedelta(days=29))}
    (item,) = (one for one in expired(store.database, rule, now + timedelta(days=31)) if one.owner == "badr")
    assert prune(store.database, [item])[0] == 1


def test_no_time_of_an_archive_is_still_to_come(store, exported, kept):
    """One dated 9998 stands where one of today does, in the list and in the search, and grows old like it."""

    def later(record, _content):
        moment = "9998-01-01T00:00:00+00:00"
        record["thread"] |= {"created": moment, "updated": moment}
        for turn in record["thread"]["turns"]:
            turn["created"] = moment
            for answer in turn["answers"]:
                answer |= {"started": moment, "finished": moment}

    _changed(exported, later)
    new = store.import_thread("badr", exported, kept)
    thread, _, _ = store.begin_turn("badr", None, "a question of now", [], "demo")
    assert [one.id for one in store.threads("badr")] == [thread, new]
    first, *_ = store.search("badr", "", since=datetime(2020, 1, 1, tzinfo=UTC))
    assert first.thread_id == thread
    loaded = store.load("badr", new)
    now = datetime.now(UTC)
    times = [loaded.created, loaded.updated, *(turn.created for turn in loaded.turns)]
    times += [
        moment for turn in loaded.turns for one in turn.answers for moment in (one.started, one.finished)
    ]
    assert all(moment <= now for moment in times)
