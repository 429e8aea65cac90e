"""Encryption at rest: nothing can be read without the key, nothing is lost with it, halfway goes on."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

from app.cli import run
from app.doctor import _data_folder, report
from app.encryption import conversion
from app.encryption.conversion import rekey, turn_off, turn_on
from app.encryption.envelope import ENVELOPE, Envelope, Secret, make_key_file, read_key_file
from app.encryption.errors import (
    EncryptionError,
    EncryptionHalfDoneError,
    EncryptionLockedError,
    KeyFileError,
    WrongKeyError,
)
from app.encryption.keyring import keyring
from app.errors import BackupUnusableError, HistoryBusyError
from app.history.store import HistoryStore
from app.history.upkeep import back_up, compact, examine, restore
from app.session import Workspace
from app.settings import Settings
from viewers.sealed import SUFFIX
from viewers.view import default_view
from viewers.worker import Intake

CT = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
ME = "me"
MARKER = "ZANZIBAR"
KEY = Secret("key file", bytes(range(32)))
OTHER = Secret("key file", bytes(32))


@pytest.fixture(autouse=True)
def own_keyring(settings: Settings):
    """Whatever a test lets the process know is forgotten after it."""
    keyring.ask(lambda _: KEY)
    yield
    keyring.ask(lambda _: None)
    shutil.rmtree(settings.uploads_folder, ignore_errors=True)  # in memory, outside of the test's folder


@pytest.fixture
def filled(workspace: Workspace):
    """Fill a data folder in clear text and close it; returns how its image is drawn, and its digest."""
    image = workspace.add_upload(ME, CT)
    list(workspace.ask(ME, None, f"{MARKER} of the lung?", [default_view(image)], "run"))
    rendered = workspace.render(ME, default_view(image)).pixels
    workspace._store.close()
    return rendered, image.digest


def on(settings: Settings, secret: Secret = KEY) -> int:
    return turn_on(settings.folder, settings.database_path, settings.images_folder, secret, lambda _: None)


def off(settings: Settings) -> None:
    turn_off(settings.folder, settings.database_path, settings.images_folder, lambda _: None)


def reopened(workspace: Workspace, settings: Settings) -> Workspace:
    """Open the folder anew, as another process would."""
    store = HistoryStore.open(settings.database_path)
    return Workspace(settings, store, workspace._backend, workspace.model, workspace._intake)


def doctor_says(settings: Settings) -> str:
    return report(list(_data_folder(settings)), "en")


def readable(folder: Path) -> list[str]:
    """Names of files that hold something a reader could use."""
    patterns = (MARKER.encode(), b"SQLite format 3", b"CT", b"NUMPY")
    return sorted(
        path.name
        for path in folder.rglob("*")
        if (
            path.is_file() and path.name != ENVELOPE and any(one in path.read_bytes() for one in patterns[:2])
        )
        or path.name in {"frames.npy", "image.json"}
    )


def test_all_is_there_with_the_key_and_nothing_can_be_read(workspace, settings, filled):
    """Found, drawn and asked on as before; database, log and pixels hold no clear text, new ones too."""
    before, digest = filled
    assert on(settings) == 0
    assert readable(settings.folder) == []

    again = reopened(workspace, settings)
    settings.uploads_folder.mkdir(parents=True, exist_ok=True)
    assert [hit.excerpt for hit in again.history.search(ME, "zanzibar")][-1].startswith(MARKER)
    view = default_view(again.image(ME, digest))
    np.testing.assert_array_equal(again.render(ME, view).pixels, before)
    list(again.ask(ME, None, f"{MARKER} again?", [view], "run"))
    assert len(list(settings.folder.glob("history.sqlite3-wal"))) == 1, "looked at while the log is full"
    assert readable(settings.folder) == []
    exported = again.curation.export(ME, again.threads(ME)[0].id)
    assert not exported.is_relative_to(settings.folder)
    assert again.thread(ME, again.curation.bring_in(ME, exported)).turns
    exported.unlink()
    assert again.add_upload("somebody", CT).digest == digest
    assert readable(settings.folder) == []
    again._store.close()
    assert examine(settings.database_path).problems == ()

    off(settings)
    assert not (settings.folder / ENVELOPE).exists()
    assert not list(settings.folder.rglob(f"*{SUFFIX}"))
    plain = reopened(workspace, settings)
    np.testing.assert_array_equal(plain.render(ME, view).pixels, before)
    assert len(plain.threads(ME)) == 3
    plain._store.close()
    assert examine(settings.database_path).problems == ()


@pytest.mark.usefixtures("filled")
def test_another_key_is_told_and_changes_nothing(settings):
    """A wrong key file, none, or a passphrase instead: a clear error each, and every byte as it was."""
    on(settings)

    def state():
        return {path: path.read_bytes() for path in settings.folder.rglob("*") if path.is_file()}

    before = state()
    for given, error in (
        (OTHER, WrongKeyError),
        (Secret("passphrase", b"something else"), WrongKeyError),
        (None, EncryptionLockedError),
    ):
        keyring.ask(lambda _, given=given: given)
        with pytest.raises(error):
            HistoryStore.open(settings.database_path)
        with pytest.raises(error):
            off(settings)
        with pytest.raises(error):
            back_up(settings.database_path, settings.images_folder, settings.folder.parent / "copy")
        with pytest.raises(error):
            rekey(settings.folder, OTHER)
    with pytest.raises(EncryptionError):
        on(settings)
    assert state() == before
    assert not (settings.folder.parent / "copy").exists()


@pytest.mark.usefixtures("filled")
def test_rekey_changes_who_opens_and_nothing_else(settings):
    """The new passphrase opens, the old key does not; the data stays as it is."""
    on(settings)
    before = settings.database_path.read_bytes()
    rekey(settings.folder, Secret("passphrase", b"a longer one"))
    assert settings.database_path.read_bytes() == before
    with pytest.raises(WrongKeyError):
        HistoryStore.open(settings.database_path)
    keyring.ask(lambda envelope: Secret(envelope.kind, b"a longer one"))
    HistoryStore.open(settings.database_path).close()
    assert "longer" not in repr(Secret("passphrase", b"a longer one"))


@pytest.mark.usefixtures("filled")
def test_a_folder_in_use_is_left_alone(settings):
    """Neither direction begins while a process has the history open."""
    with HistoryStore.open(settings.database_path), pytest.raises(HistoryBusyError):
        on(settings)
    assert not (settings.folder / ENVELOPE).exists()


def test_backups_are_encrypted_and_come_back(settings, filled, tmp_path):
    """A backup holds no clear text and is restored with the same key; another key restores nothing."""
    _, digest = filled
    on(settings)
    assert back_up(settings.database_path, settings.images_folder, tmp_path / "copy") == 1
    assert readable(tmp_path / "copy") == []
    compact(settings.database_path)
    other = Settings(data_folder=tmp_path / "other")
    keyring.ask(lambda _: OTHER)
    with pytest.raises(WrongKeyError):
        restore(tmp_path / "copy", other.folder)
    keyring.ask(lambda _: KEY)
    restore(tmp_path / "copy", other.folder)
    assert readable(other.folder) == []
    assert examine(other.database_path).problems == ()
    assert (other.images_folder / digest / f"frames.npy{SUFFIX}").is_file()
    (tmp_path / "copy" / ENVELOPE).unlink()
    with pytest.raises(BackupUnusableError):
        restore(tmp_path / "copy", tmp_path / "third")


@pytest.mark.parametrize("fails_at", range(8))
def test_an_interruption_anywhere_is_made_good(workspace, settings, filled, monkeypatch, fails_at):
    """Whichever step fails, the application refuses the folder by name and the same command goes on."""
    before, digest = filled
    steps = iter(range(100))

    def failing(real):
        def step(*args, **values):
            if next(steps) == fails_at:
                raise OSError(28, "No space left on device")
            return real(*args, **values)

        return step

    names = ("_wipe", "_check_copy", "seal", "unseal", "_flush_folder")
    real = {name: getattr(conversion, name) for name in names}
    for direction, opposite in ((on, "on"), (off, "off")):
        for name in names:
            monkeypatch.setattr(conversion, name, failing(real[name]))
        try:
            direction(settings)
        except OSError:
            with pytest.raises(EncryptionHalfDoneError, match=opposite):
                HistoryStore.open(settings.database_path)
        for name in names:
            monkeypatch.setattr(conversion, name, real[name])
        if (settings.folder / ENVELOPE).exists() and Envelope.read(settings.folder).state != "on":
            direction(settings)
        again = reopened(workspace, settings)
        np.testing.assert_array_equal(again.render(ME, default_view(again.image(ME, digest))).pixels, before)
        assert len(again.history.search(ME, "zanzibar")) == 2
        again._store.close()
        assert examine(settings.database_path).problems == ()
        left = [path.name for path in settings.folder.rglob("*") if path.name.endswith((".clear", ".part"))]
        assert left == []
        steps = iter(range(100))
    assert not (settings.folder / ENVELOPE).exists()


def test_killed_at_any_instant(tmp_path):
    """Ten processes that turn it on and off are killed; what is left goes on, and nothing is lost."""
    settings = Settings(data_folder=tmp_path / "data")
    with HistoryStore.open(settings.database_path) as store:
        for number in range(40):
            answer = store.begin_turn(ME, None, f"{MARKER} {number}", [], "bench")[2]
            store.finish(answer, "An answer. " * 50, "complete")
    place = settings.images_folder / ("0" * 64)
    place.mkdir(parents=True)
    for number in range(6):
        (place / f"file{number}").write_bytes(bytes([number]) * 700_000)
    make_key_file(tmp_path / "key")
    command = [sys.executable, "-m", "app", "encryption", "on", "--key-file", str(tmp_path / "key")]
    environment = {**os.environ, "BIMEDIX2_DATA_FOLDER": str(settings.folder)}
    keyring.ask(lambda _: read_key_file(tmp_path / "key"))
    killed = 0
    for attempt in range(10):
        envelope = Envelope.read(settings.folder)
        command[4] = "off" if envelope and envelope.state in {"on", "turning off"} else "on"
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            began = settings.folder / ENVELOPE
            limit = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < limit:
                if began.exists() and Envelope.read(settings.folder).state.startswith("turning"):
                    time.sleep(0.004 * attempt)
                    break
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    for _ in range(2):
        envelope = Envelope.read(settings.folder)
        command[4] = "off" if envelope and envelope.state in {"on", "turning off"} else "on"
        assert (
            subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL).returncode == 0
        )
        assert examine(settings.database_path).problems == ()
        with HistoryStore.open(settings.database_path) as store:
            assert len(store.search(ME, MARKER, limit=100)) == 40
    encrypted = (settings.folder / ENVELOPE).exists()
    if encrypted:
        off(settings)
    for number in range(6):
        assert (place / f"file{number}").read_bytes() == bytes([number]) * 700_000


@pytest.mark.usefixtures("filled")
def test_the_command(settings, tmp_path, capsys, monkeypatch):
    """On with a key file made by it, status, rekey to a passphrase from standard input; either language."""
    folder = ["--data-folder", str(settings.folder)]
    key = ["--key-file", str(tmp_path / "key")]
    assert run(["encryption", "status", *folder, "--language", "en"]) == 1
    assert "not encrypted" in capsys.readouterr().out
    inside = ["--key-file", str(settings.folder / "key")]
    assert run(["encryption", "on", *folder, *inside, "--language", "en"]) == 1
    assert not (settings.folder / "key").exists()
    assert run(["encryption", "on", *folder, *key, "--language", "ar"]) == 0
    assert "the key given opens them" in doctor_says(settings)
    keyring.ask(lambda _: OTHER)
    assert "not its key file" in doctor_says(settings)
    assert "مشفَّر" in capsys.readouterr().out
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert run(["history", "verify", *folder, "--language", "en"]) == 1
    assert "no key was given" in capsys.readouterr().err
    assert run(["history", "verify", *folder, *key]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert run(["encryption", "rekey", *folder, *key, "--language", "en"]) == 1
    assert "12" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("four words make sense\n"))
    assert run(["encryption", "rekey", *folder, *key]) == 0
    assert run(["history", "verify", *folder, *key]) == 1
    assert run(["encryption", "status", *folder, "--language", "en"]) == 0
    assert "a passphrase" in capsys.readouterr().out


@pytest.mark.usefixtures("filled")
def test_uploads_lie_in_memory(settings, tmp_path):
    """With encryption on, what is being read is not written beside what is encrypted, unless one chooses."""
    assert settings.uploads_folder.is_relative_to(settings.folder)
    on(settings)
    memory = Path("/dev/shm")  # noqa: S108 - only looked at
    if memory.is_dir():
        assert settings.uploads_folder.is_relative_to(memory)
    chosen = replace(settings, scratch_folder=tmp_path / "scratch")
    assert chosen.uploads_folder.is_relative_to(tmp_path / "scratch")


@pytest.mark.parametrize("content", [b"", b"abc\n", b"AAAA" * 20, b"\xff" * 32])
def test_a_key_file_that_is_none(tmp_path, content):
    """A file that would only seem to be a key is refused."""
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(KeyFileError):
        read_key_file(tmp_path / "key")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"state": "?"},
        {"kind": "?"},
        {"costs": [3, 2**40, 4]},
        {"costs": [3]},
        {"salt": 5},
        {"wrapped": "§"},
    ],
)
def test_a_damaged_envelope_is_told(settings, change):
    """Whatever stands in it, the error is clear and no memory is taken as it says."""
    on(settings)
    path = settings.folder / ENVELOPE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EncryptionError):
        HistoryStore.open(settings.database_path)


@pytest.mark.usefixtures("filled")
def test_memory_is_given_back(workspace, settings):
    """What lay in memory is gone when the page is closed."""
    on(settings)
    again = reopened(workspace, settings)
    again.settings.uploads_folder.mkdir(parents=True, exist_ok=True)
    (again.settings.uploads_folder / "left").write_bytes(b"x")
    again._intake = Intake()
    again.close()
    assert not settings.uploads_folder.exists()
