"""Every earlier revision becomes today's schema on both databases, with all its rows in place and found."""

from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, event, insert, inspect

from app.history import audit, database, parts
from app.history.models import metadata
from app.history.records import StoredView
from app.history.seals import thread_seals
from app.history.store import HistoryStore
from app.history.words import facets_of

NOW = "2026-01-02 03:04:05.000006"
ROWS = {
    "threads": {"id": "t", "owner": "amal", "title": "title", "created": NOW, "updated": NOW, "pinned": NOW},
    "turns": {"id": "u", "thread_id": "t", "position": 0, "question": "هل توجد عُقدة رئوية مع الالتهاب؟",
              "created": NOW},
    "views": {"turn_id": "u", "position": 0, "image": "d1", "view": {"frame": 1}, "render_digest": "r"},
    "view_images": {"turn_id": "u", "position": 0, "place": 0, "digest": "d1"},
    "answers": {
        "id": "a", "turn_id": "u", "position": 0, "text": "العقدة 12.5 mm", "state": "complete",
        "backend": "demo", "language": "ar", "usage": {"tokens": 3}, "started": NOW, "finished": NOW,
    },
    "images": {"owner": "amal", "digest": "d1", "label": "CT Chest", "created": NOW},
    "tags": {"thread_id": "t", "tag": "follow-up"},
    "feedback": {"answer_id": "a", "reasons": ["other"], "text": "why", "created": NOW},
    "passages": {"id": 1767323045000006, "turn_id": "u", "facets": "o55a5b6 mct",
                 "words": "هل توجد عقده رئويه مع التهاب"},
}  # fmt: skip
"""A row of each table, with the columns of any revision; those a revision lacks are left out."""


def _config():
    config = Config()
    config.set_main_option("script_location", str(database._MIGRATIONS))
    return config


REVISIONS = sorted(one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions())


def _engine(source):
    engine = create_engine(source if isinstance(source, str) else f"sqlite:///{source}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    return engine


@pytest.fixture
def empty(_kind, tmp_path, request):
    """Place of a database without any table."""
    if _kind == "sqlite":
        yield tmp_path / "history.sqlite3"
        return
    server = request.getfixturevalue("server")
    url = server.new()
    yield url
    server.drop(url)


def _ours(name, kind, parents):
    """Leave out what only one database has: the indexes of the search."""
    if kind == "table":
        return not name.startswith("search")
    return not (parents.get("table_name") == "passages" and "lexemes" in name)


def _differences(source):
    engine = _engine(source)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": _ours}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    engine.dispose()
    return found


def _fill(source, revision):
    """Bring an empty database to a revision and put a row into each of its tables."""
    engine = _engine(source)
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        there = set(inspect(connection).get_table_names())
        for name, row in ROWS.items():
            if name in there:
                tables = MetaData()
                tables.reflect(connection, only=[name], resolve_fks=False)
                table = tables.tables[name]
                values = {
                    key: _typed(connection, value) for key, value in row.items() if key in table.columns
                }
                if name == "passages":  # the words of then: those of the owner are made by the code
                    values["facets"] = facets_of("amal", ["CT Chest"])
                    for number, answer in enumerate((None, "a")):
                        more = {"id": row["id"] + number, "answer_id": answer}
                        connection.execute(insert(table).values({**values, **more}))
                        if "search_parts" in there:
                            put = (more["id"], values["facets"], values["words"])
                            parts.put(connection, [put])
                    continue
                connection.execute(insert(table).values(values))
        if "seals" in there:
            audit.append(connection, "", "sealed", "", thread_seals(connection, "t"))
    engine.dispose()


def _typed(connection, value):
    if value == NOW:
        moment = datetime.fromisoformat(NOW)
        return moment if connection.dialect.name == "sqlite" else moment.replace(tzinfo=UTC)
    return value


def test_nothing_but_migrations_makes_the_models(empty):
    """The migrations from nothing make exactly the tables the code speaks of."""
    HistoryStore.open(empty).close()
    assert _differences(empty) == []


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_earlier_history_keeps_everything(empty, revision):
    """Rows of every revision are read, found, deleted and exported by today's code; the schema is today's."""
    _fill(empty, revision)
    assert (_differences(empty) != []) is (revision < "0013"), "the last ones write words anew, nothing else"
    with HistoryStore.open(empty) as store:
        loaded = store.load("amal", "t")
        (turn,) = loaded.turns
        (answer,) = turn.answers
        assert (turn.question, answer.text, answer.usage) == (
            ROWS["turns"]["question"],
            ROWS["answers"]["text"],
            {"tokens": 3},
        )
        assert turn.views == (StoredView(("d1",), {"frame": 1}, "r"),)
        assert loaded.updated.isoformat() == "2026-01-02T03:04:05.000006+00:00"
        assert store.threads("amal")[0].pinned is (revision >= "0004")
        assert len(store.judgements("amal", "t")) == (revision >= "0004")
        hits = store.search("amal", "عقدة", modality="CT")
        assert {hit.answer_id for hit in hits} == {None, "a"}
        assert len(store.search("amal", "ريوية")) == 1, "words are those of today"
        assert len(store.search("amal", "التهاب")) == len(store.search("amal", "الالتهاب")) == 1
        store._database.check_index()
        assert store.verify() is None
        with store._database.write() as connection:
            connection.exec_driver_sql("UPDATE answers SET text = 'other'")
        assert store.verify().kind == "content"
        assert store.delete("amal", "t") == ["d1"]
        assert store.search("amal", "عقدة") == []
    assert _differences(empty) == []
