"""The search finds what was written, however it is spelled, shows where, and forgets what is deleted."""

import itertools
import random
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from app.errors import StorageUnavailableError
from app.history import parts
from app.history.records import StoredView
from app.history.store import HistoryStore
from app.history.words import asked_words, indexed, marks, snippet, words_of

PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXTS = st.text(
    st.one_of(st.characters(), st.sampled_from('اأإآىيةه ـًٌَُِّ٠١٢٫12.5aAbB\u200f\u2067-_*":()')), max_size=60
)
SYNTAX = st.lists(
    st.sampled_from(
        ['"', "'", "*", ":", "(", ")", "^", "-", "+", "NEAR", "AND", "OR", "NOT", "NEAR(a b, 2)", "words:",
         "facets :", "{facets words}", "lung", "رئة", "\x00", "--", ";", "%", "_", "\\", "\ud800"]
    ),
    max_size=8,
).map(" ".join)  # fmt: skip


def _ask(store, question, answer="", owner="amal", thread=None, views=()):
    thread, turn, answer_id = store.begin_turn(owner, thread, question, views, "demo")
    store.finish(answer_id, answer, "complete")
    return thread, turn, answer_id


def _found(store, query, owner="amal", **options):
    return [(hit.turn_id, hit.answer_id) for hit in store.search(owner, query, **options)]


# --- spelling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("هل يوجد ألم في الصدر؟", "الم"),
        ("إصابة في الرأس", "اصابه"),
        ("علاج الالتهاب الرئوي", "التهاب"),
        ("يوجد التهاب رئوي", "الالتهاب"),
        ("التواء الكاحل", "الالتواء"),
        ("آلام الظهر", "الآلام"),
        ("الآلام", "آلام"),
        ("naïve", "naive"),
        ("Ménière", "meniere"),
        ("قطرها 12.5mm", "12.5"),
        ("قطرها 12.5mm", "12.5 mm"),
        ("آفة كبدية", "افه"),
        ("مستشفى الملك", "مستشفي"),
        ("العُقْدَةُ الرِّئَوِيَّة", "عقدة رئوية"),
        ("تـــضـــخـــم القلب", "تضخم"),
        ("قطر العقدة ١٢٫٥ ملم", "12.5"),
        ("قطر العقدة 12.5 ملم", "١٢٫٥"),
        ("Right Upper Lobe NODULE", "nodule lobe"),
        ("وبالرئة اليسرى", "رئة"),
        ("رئة", "الرئة"),
        ("disc at L4–L5", "l4-l5"),
        ("التهاب الرئة", "الريه"),
        ("مؤشر المراره", "موشر"),
        ("جزئي", "جزيي"),
        ("ﺍﻟﺮﺋﺔ ﺍﻟﻴﺴﺮﻯ", "الرئة اليسري"),
        ("کلیه راست", "كليه"),
        ("می\u200cشود", "میشود"),
        ("pneumo\u00adthorax", "pneumothorax"),
        ("ناحیه\u200b ریه", "ناحية رية"),
        ("مرحلۀ اول", "مرحله"),
        ("x² ﬁbrosis", "FIBROSIS"),
    ],
)
def test_two_spellings_of_a_word_are_one(store, written, asked):
    """Alef, ya, ta marbuta, tashkeel, tatweel, digits, case, article and ligatures make no difference."""
    _, turn, answer = _ask(store, written, written)
    _ask(store, "هذا سؤال آخر something else")
    assert _found(store, asked) == [(turn, answer), (turn, None)]
    (first, _) = store.search("amal", asked)
    assert first.marks
    assert all(asked_words(first.excerpt[a:b])[0] in asked_words(asked) for a, b in first.marks)


def test_words_beginnings_and_phrases_are_told_apart(store):
    """Words in any order, whole; their beginnings; or one after the other."""
    _, one, _ = _ask(store, "small pleural effusion on the left")
    _, two, _ = _ask(store, "pleural thickening without effusion")
    questions = {"words": "effusion pleural", "beginnings": "pleu eff", "phrase": "pleural effusion"}
    assert [t for t, _ in _found(store, questions["words"], match="words")] == [two, one]
    assert [t for t, _ in _found(store, questions["beginnings"], match="beginnings")] == [two, one]
    assert [t for t, _ in _found(store, questions["phrase"], match="phrase")] == [one]
    assert _found(store, questions["beginnings"], match="words") == []
    assert _found(store, questions["words"], match="phrase") == []


def test_kind_and_time_choose_without_any_word(store):
    """Each alone, together, and page by page; nothing asked for finds nothing."""
    ct = StoredView(("d1",), {"frame": 1}, "r")
    store.add_image("amal", "d1", "CT Chest")
    _, first, answer = store.begin_turn("amal", None, "what is this?", [ct], "demo")
    store.finish(answer, "a mass", "complete")
    store.judge("amal", answer, ["wrong_side"])
    _, second, _ = _ask(store, "without any image")
    everything = _found(store, "", since=datetime(2020, 1, 1, tzinfo=UTC))
    assert {turn for turn, _ in everything} == {first, second}
    for match in ("words", "beginnings", "phrase"):
        assert _found(store, " … ", match=match, modality="CT") == [(first, answer), (first, None)]
    assert _found(store, "", feedback="wrong_side") == [(first, answer)]
    assert _found(store, "", feedback="wrong_side", modality="MR") == []
    assert _found(store, "", until=datetime(2020, 1, 1, tzinfo=UTC)) == []
    (newest,) = store.search("amal", "", modality="CT", limit=1)
    (older,) = store.search("amal", "", modality="CT", limit=1, before=newest)
    assert (newest.answer_id, older.answer_id, newest.marks) == (answer, None, ())
    assert store.search("badr", "", modality="CT") == []
    assert _found(store, "") == []


def test_an_answer_is_found_when_it_has_ended(store):
    """Not while it is written; as far as it came when the process died; whole when it ends after all."""
    _, turn, answer = store.begin_turn("amal", None, "question", [], "demo")
    store.grow(answer, "half alpha")
    assert _found(store, "alpha") == []
    store.recover()
    assert _found(store, "alpha") == [(turn, answer)]
    store.finish(answer, "whole beta", "complete")
    assert (_found(store, "alpha"), _found(store, "beta")) == ([], [(turn, answer)])


@given(text=TEXTS)
def test_words_have_their_places(text):
    """Each word of a text, taken alone from its place, holds that word; places are in order."""
    last = 0
    for word in words_of(text):
        assert last <= word.start + 1 <= word.end <= len(text)
        assert word.text in [again.text for again in words_of(text[word.start : word.end])]
        assert word.text.isalnum()
        last = word.start
    assert indexed(text).split() == [word.text for word in words_of(text)]


@PROPERTY
@given(text=TEXTS, chance=st.randoms(use_true_random=False))
def test_any_word_of_any_text_is_found_and_marked(store, text, chance):
    """Whatever was written: each of its words finds it, and the mark stands on that word."""
    _, turn, _ = _ask(store, text)
    words = list(words_of(store.load("amal", store.threads("amal", 1)[0].id).turns[0].question))
    if not words:
        return
    word = chance.choice(words).text
    for match, query in (("words", word), ("beginnings", word[:1]), ("phrase", indexed(text))):
        asked = asked_words(query)
        hits = [hit for hit in store.search("amal", query, match=match, limit=500) if hit.turn_id == turn]
        if match == "phrase" and len(asked) > 16:
            continue
        assert len(hits) == (1 if asked else 0)
        assert all(hit.marks for hit in hits)


# --- the query is data ------------------------------------------------------------------------------


@PROPERTY
@given(
    query=st.one_of(SYNTAX, st.text(max_size=40)), match=st.sampled_from(["words", "beginnings", "phrase"])
)
def test_no_query_is_a_search_language(store, query, match):
    """Quotes, stars, operators and column names never fail, and find exactly what their words find."""
    if not store.threads("amal"):
        _ask(store, "lung and NEAR rest", "رئة not or words facets a b 2")
        _ask(store, "secret of another", owner="badr")
    plain = " ".join(asked_words(query))
    hits = _found(store, query, match=match)
    assert hits == _found(store, plain, match=match)
    expected = asked_words(query)
    for hit in store.search("amal", query, match=match):
        has = asked_words(hit.excerpt)
        assert all(any(w.startswith(e) for w in has) if match == "beginnings" else e in has for e in expected)


def test_operators_are_words(store):
    """``NOT``, ``OR`` and ``NEAR`` are looked for; a star, a minus and a column name change nothing."""
    _ask(store, "lung mass")
    assert _found(store, "lung NOT mass") == []
    assert _found(store, "lung OR liver") == []
    assert _found(store, "words:lung") == []
    assert len(_found(store, "lu*", match="words")) == 0
    assert len(_found(store, '-lung "mass')) == 1
    assert _found(store, ' * " ( ') == []
    assert _found(store, "") == []


# --- filters and pages ------------------------------------------------------------------------------


def test_somebody_elses_are_never_found(store):
    """Nor by the word the index knows an owner by."""
    from app.history.words import owner_facet

    _ask(store, "nodule", owner="badr")
    assert _found(store, "nodule") == []
    assert _found(store, owner_facet("badr")) == []
    assert len(_found(store, "nodule", owner="badr")) == 1


def test_modality_is_that_of_the_images_shown_so_far(store):
    """A conversation about a CT stays one after its first question; before the MR came it was none."""
    store.add_image("amal", "d2", "MR Brain")
    thread, one, _ = _ask(store, "nodule one", views=[("d1", {}, "r")])
    _, two, _ = _ask(store, "nodule two", thread=thread)
    _, three, _ = _ask(store, "nodule three", thread=thread, views=[("d2", {}, "r")])
    _ask(store, "nodule without image")
    assert [t for t, _ in _found(store, "nodule", modality="CT")] == [three, two, one]
    assert [t for t, _ in _found(store, "nodule", modality="mr")] == [three]
    assert _found(store, "nodule", modality='CT" OR words : "nodule') == []


def test_dates_bound_the_hits(store):
    """From a moment on, and before one."""
    _, one, _ = _ask(store, "nodule")
    between = datetime.now(UTC)
    _, two, _ = _ask(store, "nodule")
    assert [t for t, _ in _found(store, "nodule", since=between)] == [two]
    assert [t for t, _ in _found(store, "nodule", until=between)] == [one]
    assert _found(store, "nodule", since=between, until=between) == []
    assert _found(store, "nodule", since=between + timedelta(days=1)) == []


def test_pages_neither_repeat_nor_leave_out(store):
    """Page by page the hits are those of one long page."""
    for number in range(11):
        _ask(store, f"nodule {number}", "nodule" if number % 2 else "")
    whole = _found(store, "nodule", limit=100)
    pages, last = [], None
    while page := store.search("amal", "nodule", limit=4, before=last):
        pages += [(hit.turn_id, hit.answer_id) for hit in page]
        last = page[-1]
    assert pages == whole
    assert len(whole) == 16


# --- what is shown ----------------------------------------------------------------------------------


def test_an_excerpt_is_the_original_with_its_matches(store):
    """Markup stays text, and the places fit it character by character."""
    question = "<b>x</b> " * 40 + "العُقْدة <script>nodule</script> " + "tail " * 60
    _ask(store, question)
    (hit,) = store.search("amal", "nodule عقدة")
    assert question[hit.offset : hit.offset + len(hit.excerpt)] == hit.excerpt
    assert [hit.excerpt[a:b] for a, b in hit.marks] == ["العُقْدة", "nodule"]
    assert hit.is_cut == (True, True)
    assert len(hit.excerpt) <= 160


@given(text=st.text(st.sampled_from("ab \n"), max_size=400), length=st.integers(10, 80))
def test_a_snippet_lies_in_the_text_and_holds_the_first_match(text, length):
    """Its bounds are those of the text; a match of usual length is in it."""
    places = marks(text, ["ab"], "words")
    start, end = snippet(text, places, length)
    assert 0 <= start <= end <= len(text)
    assert end - start <= 2 * length
    if places:
        assert start <= places[0][0]
        assert places[0][1] <= end


# --- what is deleted --------------------------------------------------------------------------------


def _bytes(path):
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("الرئة", "الر"),
        ("القلب", "الق"),
        ("الكبد", "ال"),
        ("للرئة", "لل"),
        ("وبالرئة", "وبالر"),
        ("الالتهاب", "الت"),
        ("الالتهاب", "الالت"),
        ("الالتهاب", "الته"),
        ("فالج", "فال"),
    ],
)
def test_a_word_is_found_while_it_is_typed(store, written, typed):
    """With its article, from the article on; and what begins otherwise is not."""
    _ask(store, f"{written} سليم")
    assert len(_found(store, typed, match="beginnings")) >= 1
    assert len(_found(store, f"سليم {typed}", match="beginnings")) == 1
    assert _found(store, f"غير {typed}", match="beginnings") == []
    assert _found(store, "المز", match="beginnings") == []


def test_a_whole_word_that_looks_like_an_article_is_no_article(store):
    """ألم has a hamza: nothing that merely begins with its last letter is found."""
    _ask(store, "ألم شديد")
    _ask(store, "المريض")
    (hit,) = store.search("amal", "ألم", match="beginnings")
    assert hit.excerpt == "ألم شديد"
    assert len(_found(store, "الم", match="beginnings")) == 2


@pytest.mark.parametrize("seed", range(3))
def test_deletion_leaves_no_word_in_the_index(path, seed):
    """Of a deleted conversation's words not even the end is left in any file; the others are found."""
    chance = random.Random(seed)
    with HistoryStore.open(path) as store:
        secrets, threads = [], []
        for number in range(24):
            secret = "".join(chance.choices("bcdfghjklmnpqrstvwxz", k=24))
            question, answer = f"{secret} lung {number}", f"lung {secret} " * chance.randint(1, 30)
            threads.append(_ask(store, question, answer)[0])
            secrets.append(secret)
        assert all(secret.encode() in _bytes(path) for secret in secrets)
        gone = chance.sample(range(24), 12)
        for number in gone:
            store.delete("amal", threads[number])
        left = _bytes(path)
        for number, secret in enumerate(secrets):
            assert bool(_found(store, secret)) is (number not in gone)
            assert (secret[8:].encode() in left) is (number not in gone)
        store._database.check_index()
    with HistoryStore.open(path) as again:
        assert len(again.search("amal", "lung", limit=100)) == 24


def test_rows_removed_behind_the_stores_back_are_not_found_and_told(path, store):
    """A hit needs its row; the check names the difference. An undone transaction leaves no entry."""
    del path  # on SQLite
    thread, _, _ = _ask(store, "alpha beta")
    with store._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM threads")
        connection.rollback()
    assert len(_found(store, "alpha")) == 1
    store._database.check_index()
    with store._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM turns WHERE thread_id = ?", (thread,))
    assert _found(store, "alpha") == []
    with pytest.raises(StorageUnavailableError):
        store._database.check_index()


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_the_index_make_no_difference(path, monkeypatch, seed):
    """Cut into many parts, with a clock that jumps, the same is found as by reading every message."""
    monkeypatch.setattr(parts, "_SIZE", 5)
    chance = random.Random(seed)
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    def now():
        clock[0] += timedelta(seconds=chance.choice([1, 1, 1, 1, 1, 60, -40, -3600, 86400]))
        return clock[0]

    monkeypatch.setattr("app.history.store._now", now)
    vocabulary = ["lung", "lungs", "nodule", "الرئة", "رئوية", "12", "left"]
    with HistoryStore.open(path) as store:
        store.add_image("amal", "d1", "CT Chest")
        threads = []
        for number in range(40):
            shown = [("d1", {}, "r")] if number % 2 else []
            words = [" ".join(chance.choices(vocabulary, k=k)) for k in (4, 6)]
            thread, _, answer = _ask(store, *words, views=shown)
            threads.append(thread)
            if number % 5 == 0:
                store.judge("amal", answer, ["other"])
            if number % 7 == 3:
                store.delete("amal", threads.pop(chance.randrange(len(threads))))
            store._database.check_index()
        everything = _everything(store, threads)
        assert len(everything) == 2 * len(threads)
        queries = [" ".join(chance.choices(vocabulary, k=k)) for k in (1, 1, 2, 2, 3)]
        for query, match in itertools.product(queries, ("words", "beginnings", "phrase")):
            expected = [ids for _, ids, text in everything if _meets(text, query, match)]
            assert _found(store, query, match=match, limit=1000) == expected
            page, joined = None, []
            while some := store.search("amal", query, match=match, limit=3, before=page):
                joined += [(hit.turn_id, hit.answer_id) for hit in some]
                page = some[-1]
            assert joined == expected
        with store._database.read() as connection:
            assert len(connection.exec_driver_sql("SELECT * FROM search_parts").all()) > 5
            assert parts.unswept(connection) == []


def _everything(store, threads):
    """Every message as (time, ids, text), newest first."""
    found = []
    for thread in threads:
        for turn in store.load("amal", thread).turns:
            found.append((turn.created, (turn.id, None), turn.question))
            found += [(a.started, (turn.id, a.id), a.text) for a in turn.answers]
    with store._database.read() as connection:
        order = {tuple(row): number for number, row in enumerate(connection.exec_driver_sql(
            "SELECT turn_id, answer_id FROM passages ORDER BY id DESC"))}  # fmt: skip
    return sorted(found, key=lambda one: order[one[1]])


def _meets(text, query, match):
    words, asked = indexed(text).split(), asked_words(query)
    if match == "phrase":
        return f" {' '.join(asked)} " in f" {' '.join(words)} "
    if match == "words":
        return set(asked) <= set(words)
    return all(any(word.startswith(one) for word in words) for one in asked)


def test_an_interrupted_sweep_is_done_later(path, monkeypatch):
    """A process that dies between deleting and sweeping leaves a note; the next start sweeps."""
    with HistoryStore.open(path) as store:
        thread, _, _ = _ask(store, "qwzxcvbnmlkjhgfd")
        monkeypatch.setattr(store._database, "sweep", lambda: None)
        store.delete("amal", thread)
        assert b"qwzxcvbnmlkjhgfd" in _bytes(path)
    with HistoryStore.open(path) as again:
        again.recover()
        assert b"zxcvbnmlkjhgfd" not in _bytes(path)


def test_an_old_history_is_searched_after_its_upgrade(path):
    """Questions and answers of revision 2 are found, with owner, modality and time."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", "app/history/migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    engine.dispose()
    connection, now = sqlite3.connect(path), "2026-01-02 03:04:05.000006"
    connection.execute("INSERT INTO threads VALUES ('t', 'amal', 'title', ?, ?)", (now, now))
    connection.execute("INSERT INTO turns VALUES ('u', 't', 0, 'عُقدة', ?)", (now,))
    connection.execute("INSERT INTO views VALUES ('u', 0, 'd', '{}', 'r')")
    connection.execute("INSERT INTO images VALUES ('amal', 'd', 'CT Chest', ?)", (now,))
    for id_, state in (("a", "complete"), ("b", "streaming")):
        connection.execute(
            "INSERT INTO answers VALUES (?, 'u', ?, 'العقدة', ?, 'demo', 'ar', NULL, NULL, NULL, ?, NULL)",
            (id_, ord(id_), state, now),
        )
    connection.commit()
    connection.close()
    with HistoryStore.open(path) as store:
        assert _found(store, "عقدة", modality="CT") == [("u", "a"), ("u", None)]
        assert _found(store, "عقدة", until=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == []
        assert _found(store, "عقدة", owner="badr") == []
        assert store.recover() == 1
        assert len(_found(store, "عقدة")) == 3
        store.delete("amal", "t")
        assert _found(store, "عقدة") == []
