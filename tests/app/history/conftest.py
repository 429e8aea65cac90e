import pytest

from app.history.store import HistoryStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.sqlite3"


@pytest.fixture
def store(path):
    with HistoryStore.open(path) as opened:
        opened.add_image("amal", "d1", "CT Chest")
        yield opened
