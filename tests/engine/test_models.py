"""Checkpoints on this computer: states, mirrors that can break off, damage that is found and named."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from engine.checkpoint import LoadOptions, load
from engine.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    DestinationExistsError,
    DiskSpaceError,
    DownloadError,
)
from engine.export import convert
from engine.models import KNOWN, cached_folder, copy_from_mirror, download, state_of, verify
from tests.engine.tiny import build_original

SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments):
        raise AssertionError(f"a connection was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """Make a mirror with SHA256SUMS, as sha256sum writes it."""
    folder = build_original(tmp_path / "mirror")
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def test_a_copy_from_a_mirror_opens(mirror: Path, tmp_path: Path) -> None:
    """All files arrive, are checked against the mirror's hashes, and load; progress ends at the whole."""
    seen: list[tuple[int, int]] = []

    folder = copy_from_mirror(mirror, tmp_path / "here", lambda done, total: seen.append((done, total)))

    assert {file.name for file in folder.iterdir()} == {file.name for file in mirror.iterdir()}
    assert seen[-1][0] == seen[-1][1] == sum(file.stat().st_size for file in mirror.iterdir())
    assert load(folder, LoadOptions(device="cpu", dtype="float32")).model is not None
    assert state_of(folder) == "complete"


def test_programs_and_pickles_stay_behind(mirror: Path, tmp_path: Path) -> None:
    """Only weights, configuration and texts are copied."""
    (mirror / "modeling.py").write_text("raise SystemExit")
    (mirror / "pytorch_model.bin").write_bytes(b"\x80")

    folder = copy_from_mirror(mirror, tmp_path / "here")

    assert not {"modeling.py", "pytorch_model.bin"} & {file.name for file in folder.iterdir()}


def test_a_copy_that_broke_off_goes_on(mirror: Path, tmp_path: Path) -> None:
    """What an interrupted run left is not copied again; nothing stood at the destination meanwhile."""
    partial = tmp_path / "here.partial"
    first, second = sorted(file.name for file in mirror.glob("*.safetensors"))[:2]
    break_off(mirror, partial, second)
    (partial / second).write_bytes((mirror / second).read_bytes()[:1000])
    untouched = (partial / first).stat().st_mtime_ns

    folder = copy_from_mirror(mirror, tmp_path / "here")

    assert (folder / second).read_bytes() == (mirror / second).read_bytes()
    assert (folder / first).stat().st_mtime_ns == untouched
    assert {file.name for file in folder.iterdir()} == {file.name for file in mirror.iterdir()}


def break_off(mirror: Path, partial: Path, name: str) -> None:
    """Copy until a file is there, then be interrupted."""

    def progress(_done: int, _total: int) -> None:
        if (partial / name).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_from_mirror(mirror, partial.with_suffix(""), progress)


@pytest.mark.parametrize("listed", [True, False])
def test_a_mirror_that_changed_meanwhile_is_copied_anew(
    mirror: Path, tmp_path: Path, *, listed: bool
) -> None:
    """Half a file of another upload is not gone on with, whether or not the mirror lists its hashes."""
    partial = tmp_path / "here.partial"
    break_off(mirror, partial, SHARD)
    data = bytearray((mirror / SHARD).read_bytes())
    (partial / SHARD).write_bytes(data[:-500])
    data[-2000:] = bytes(2000)
    (mirror / SHARD).write_bytes(data)
    sums = mirror / "SHA256SUMS"
    if listed:
        lines = [line for line in sums.read_text().splitlines(keepends=True) if SHARD not in line]
        sums.write_text("".join(lines) + f"{hashlib.sha256(data).hexdigest()}  {SHARD}\n")
    else:
        sums.unlink()

    folder = copy_from_mirror(mirror, tmp_path / "here")

    assert (folder / SHARD).read_bytes() == bytes(data)


def test_what_arrived_damaged_is_fetched_anew(mirror: Path, tmp_path: Path) -> None:
    """The next run does not stumble over what the one before it left."""
    whole = (mirror / SHARD).read_bytes()
    state = (mirror / SHARD).stat()
    (mirror / SHARD).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(mirror / SHARD, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(DamagedCheckpointError):
        copy_from_mirror(mirror, tmp_path / "here")
    (mirror / SHARD).write_bytes(whole)
    os.utime(mirror / SHARD, ns=(state.st_atime_ns, state.st_mtime_ns))

    assert (copy_from_mirror(mirror, tmp_path / "here") / SHARD).read_bytes() == whole


def test_a_copy_with_other_bytes_is_refused(mirror: Path, tmp_path: Path) -> None:
    """A mirror that does not hold what its own list says is not taken; the file is named."""
    data = bytearray((mirror / SHARD).read_bytes())
    data[-1] ^= 1
    (mirror / SHARD).write_bytes(data)

    with pytest.raises(
        DamagedCheckpointError, match=rf"{SHARD}: its bytes are not those that were published"
    ):
        copy_from_mirror(mirror, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_nothing_is_overwritten_and_no_disk_is_filled(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that exists and a disk that is full are refused before copying."""
    (tmp_path / "there").mkdir()
    with pytest.raises(DestinationExistsError):
        copy_from_mirror(mirror, tmp_path / "there")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(DiskSpaceError):
        copy_from_mirror(mirror, tmp_path / "here")


def test_an_empty_mirror_is_named(tmp_path: Path) -> None:
    """A folder without config.json is no mirror."""
    with pytest.raises(CheckpointNotFoundError):
        copy_from_mirror(tmp_path, tmp_path / "here")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("shorter", "bytes, and its header says"),
        ("missing", "it is missing"),
        ("header", "cannot be read"),
        ("tokenizer", "cannot be read"),
        ("one bit", "its bytes are not those that were published"),
    ],
)
def test_verify_names_the_damaged_file_and_no_other(mirror: Path, damage: str, named: str) -> None:
    """Each kind of damage is found, in the one file that has it."""
    file = mirror / ("tokenizer.json" if damage == "tokenizer" else SHARD)
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        changed = {
            "shorter": data[:-5],
            "header": b"\xff" * 8 + data[8:],
            "tokenizer": b"{",
            "one bit": data[:-1] + bytes([data[-1] ^ 1]),
        }[damage]
        file.write_bytes(changed)

    findings = {finding.name: finding for finding in verify(mirror)}

    assert [name for name, finding in findings.items() if finding.problem] == [file.name]
    assert named in findings[file.name].problem
    assert all(finding.hashed for name, finding in findings.items() if name != file.name)


def test_without_hashes_verify_says_so(mirror: Path) -> None:
    """Headers and lengths are checked, and what was not compared is not claimed."""
    (mirror / "SHA256SUMS").unlink()

    findings = verify(mirror)

    assert not [finding for finding in findings if finding.problem or finding.hashed]


def test_a_converted_folder_is_verified_by_its_manifest(mirror: Path, tmp_path: Path) -> None:
    """What converting wrote down is compared."""
    folder = convert(mirror, tmp_path / "converted").folder
    assert all(finding.hashed for finding in verify(folder) if finding.name != "conversion.json")
    data = bytearray((folder / SHARD).read_bytes())
    data[-1] ^= 1
    (folder / SHARD).write_bytes(data)

    assert [finding.name for finding in verify(folder) if finding.problem] == [SHARD]


def test_a_download_into_a_folder_is_verified_by_the_client_s_notes(mirror: Path) -> None:
    """The Hub's client leaves the SHA-256 of large files beside them; they are compared."""
    notes = mirror / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    digest = hashlib.sha256((mirror / SHARD).read_bytes()).hexdigest()
    (notes / f"{SHARD}.metadata").write_text(f"{'a' * 40}\n{digest}\n1.0\n")
    (mirror / "SHA256SUMS").unlink()

    assert [finding.name for finding in verify(mirror) if finding.hashed] == [SHARD]


def in_cache(home: Path, source: Path, hub_id: str) -> Path:
    """Lay a folder out as the Hub's cache does: files named by their hash, links in the snapshot."""
    repository = home / ("models--" + hub_id.replace("/", "--"))
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    for file in source.iterdir():
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def test_the_hub_s_cache_is_read_without_asking_the_network(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complete, incomplete and absent are told apart; hashes are those the cache names its files by."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    first, second = KNOWN[1].hub_id, KNOWN[2].hub_id
    (mirror / "SHA256SUMS").unlink()
    snapshot = in_cache(tmp_path / "hub", mirror, first)
    broken = in_cache(tmp_path / "hub", mirror, second)
    (broken / SHARD).unlink()

    assert cached_folder(first) == snapshot
    assert state_of(cached_folder(first)) == "complete"
    assert state_of(cached_folder(second)) == "incomplete"
    assert cached_folder(KNOWN[0].hub_id) is None
    assert state_of(None) == "absent"
    assert all(finding.hashed and not finding.problem for finding in verify(snapshot))


def test_a_download_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, the error names the checkpoint and that the command can be given again."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(DownloadError, match=r"MBZUAI/BiMediX2-8B-Bi could not be downloaded"):
        download("MBZUAI/BiMediX2-8B-Bi", tmp_path / "here")


def test_a_download_is_checked_and_brings_no_program(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the Hub's client is asked for holds neither pickles nor programs, and damage is refused."""
    asked: dict[str, object] = {}

    def fetch(hub_id: str, **arguments: object) -> str:
        asked.update(arguments, hub_id=hub_id)
        return str(mirror)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert download(KNOWN[2].hub_id, tmp_path / "here") == mirror
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert not [
        name for name in patterns if name.endswith((".bin", ".py", ".pt", "*")) and name != "LICENSE*"
    ]

    (mirror / SHARD).write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match=SHARD):
        download(KNOWN[2].hub_id, tmp_path / "here")


def test_every_released_checkpoint_is_listed_with_its_licence() -> None:
    """Five checkpoints, all for research only."""
    assert {known.hub_id.removeprefix("MBZUAI/BiMediX2-") for known in KNOWN} == {
        "4B", "8B", "8B-Bi", "8B-hf", "70B",
    }  # fmt: skip
    assert {known.licence for known in KNOWN} == {"CC BY-NC-SA 4.0"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors.index.json", b"[]"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 5, "b": "../outside.safetensors"}}'),
        ("SHA256SUMS", b"\xff\xfe\x00nothing"),
    ],
)
def test_notes_without_sense_end_in_findings(mirror: Path, name: str, content: bytes) -> None:
    """Whatever stands in an index or in sums, nothing outside the folder is looked at."""
    (mirror / name).write_bytes(content)

    findings = verify(mirror)
    assert findings
    assert not any("outside" in finding.name for finding in findings)


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"files": {"config.json": "x"}}'])
def test_a_manifest_without_sense_is_named(mirror: Path, content: bytes) -> None:
    """It was written by a conversion, so nothing is guessed in its place."""
    (mirror / "conversion.json").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"conversion\.json cannot be read"):
        verify(mirror)
