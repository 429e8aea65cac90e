"""The history on both databases: a test that asks for ``store`` or ``source`` runs on SQLite and PostgreSQL.

A test that asks for ``path`` is about SQLite's files and runs on SQLite alone.
"""

import pytest

from app.history.store import HistoryStore
from tests.app.history.server import Server, programs

BOTH = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc):
    """Run what does not look at SQLite's files on both databases."""
    names = set(metafunc.fixturenames)
    if "_kind" in names:
        metafunc.parametrize("_kind", ("sqlite",) if "path" in names else BOTH, indirect=True)


@pytest.fixture(scope="session")
def server():
    """Start a PostgreSQL server, once."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with Server.running() as started:
        yield started


@pytest.fixture(scope="session")
def _template(server):
    url = server.new()
    HistoryStore.open(url).close()
    return url


@pytest.fixture
def path(tmp_path):
    """Place of an SQLite history."""
    return tmp_path / "history.sqlite3"


@pytest.fixture
def _kind(request):
    return request.param


@pytest.fixture
def source(_kind, tmp_path, request):
    """Where a history may be: a path, or the URL of an empty history on a server."""
    if _kind == "sqlite":
        yield tmp_path / "history.sqlite3"
        return
    server = request.getfixturevalue("server")
    url = server.new(request.getfixturevalue("_template"))
    yield url
    server.drop(url)


@pytest.fixture
def store(source):
    """Open a history in which amal has one image."""
    with HistoryStore.open(source) as opened:
        opened.add_image("amal", "d1", "CT Chest")
        yield opened
