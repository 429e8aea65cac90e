"""What this computer has, what it lacks, and what to do about each lack."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.findings import Finding, Level
from app.model_check import examine_model
from i18n.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.settings import Settings

__all__ = ["Finding", "examine", "report"]

_GB = 1e9
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OLDEST_PYTHON = (3, 11)
_PACKAGES = (
    "torch", "transformers", "peft", "gradio", "pydicom", "imagecodecs", "SimpleITK", "pillow", "sqlalchemy",
    "arabic-reshaper", "python-bidi",
)  # fmt: skip


def examine(settings: Settings) -> list[Finding]:
    """Look at everything the application needs; never raises for a lack."""
    return [
        *_python(),
        *_packages(),
        *_gpu(),
        *_data_folder(settings),
        *_several_users(settings),
        *_decoders(),
        *examine_model(settings),
    ]


def report(findings: Sequence[Finding], language: str) -> str:
    """Write the findings as text, one line each, in the user's language."""
    texts = Catalogue()
    lines = [texts.text("cli.doctor_title", language)]
    for finding in findings:
        level = texts.text(f"cli.doctor_check_{finding.level}", language)
        lines.append(f"  [{level}] {texts.text(finding.key, language, **finding.values)}")
    problems = sum(finding.level in {"warning", "failed"} for finding in findings)
    lines.append(
        texts.text("cli.doctor_problems", language, count=problems)
        if problems
        else texts.text("cli.doctor_ok", language)
    )
    return "\n".join(lines)


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    level: Level = "ok" if sys.version_info[:2] >= _OLDEST_PYTHON else "failed"
    values: dict[str, object] = {"found": found, "expected": ".".join(map(str, _OLDEST_PYTHON))}
    yield Finding(level, "cli.doctor_python", values)


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            values: dict[str, object] = {"name": name, "command": f"pip install {name}"}
            yield Finding("failed", "cli.doctor_package_missing", values)
        else:
            yield Finding("ok", "cli.doctor_package_found", {"name": name, "version": version})


def _gpu() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        properties: Any = torch.cuda.get_device_properties(0)
        values: dict[str, object] = {
            "name": properties.name,
            "memory": f"{properties.total_memory / _GB:.0f}",
        }
        yield Finding("ok", "cli.doctor_gpu", values)
    else:
        yield Finding("note", "cli.doctor_no_gpu")


def _data_folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        values: dict[str, object] = {"location": folder, "reason": error.strerror}
        yield Finding("failed", "cli.doctor_data_unwritable", values)
        return
    yield Finding("ok", "cli.doctor_data", {"location": folder})
    free = shutil.disk_usage(folder).free / _GB
    level: Level = "ok" if free >= 1 else "warning"
    yield Finding(level, "cli.doctor_disk", {"free": f"{free:.0f}", "location": folder})
    yield _encryption(settings)


def _encryption(settings: Settings) -> Finding:
    """Say whether what is kept is encrypted; a disk that is itself encrypted cannot be told from here."""
    from app.encryption.envelope import Envelope
    from app.encryption.errors import EncryptionError
    from app.encryption.keyring import key_of

    if Envelope.read(settings.folder) is None:
        return Finding("note", "cli.doctor_not_encrypted")
    try:
        key_of(settings.folder)
    except EncryptionError as error:
        return Finding("failed", error.key, error.values)
    return Finding("ok", "cli.doctor_encrypted")


def _several_users(settings: Settings) -> Iterator[Finding]:
    """Look at what an installation for several people needs; one person's needs none of it."""
    if settings.ownership != "users":
        if settings.host not in _LOOPBACK and settings.ownership == "single":
            yield Finding("warning", "cli.doctor_open_to_all", {"host": settings.host})
        return
    yield _accounts(settings)
    if settings.host not in _LOOPBACK and not settings.is_https:
        yield Finding("warning", "cli.doctor_no_tls", {"host": settings.host})
    for file in (settings.tls_cert, settings.tls_key):
        if file != Path() and not file.is_file():
            yield Finding("failed", "cli.doctor_tls_missing", {"location": file})
    if settings.oidc_issuer and importlib.util.find_spec("authlib") is None:
        command = 'pip install "bimedix2-workstation[oidc]"'
        yield Finding("failed", "cli.doctor_package_missing", {"name": "authlib", "command": command})


def _accounts(settings: Settings) -> Finding:
    from contextlib import closing

    from app.accounts.store import AccountStore
    from app.history.database import Database

    if not settings.database and not settings.database_path.is_file():
        return Finding("warning", "account.none_yet")
    with closing(Database.open(settings.history)) as database:
        found = [one for one in AccountStore(database).list() if not one.disabled]
    if not any(one.role == "administrator" for one in found):
        return Finding("warning", "account.none_yet")
    return Finding("ok", "cli.doctor_accounts", {"found": len(found)})


def _decoders() -> Iterator[Finding]:
    from viewers.intake import decoders

    known = decoders()
    missing = [entry for entry in known if not entry.available]
    values: dict[str, object] = {"found": len(known) - len(missing), "known": len(known)}
    yield Finding("ok", "cli.doctor_decoders", values)
    for entry in missing:
        yield Finding("note", "cli.doctor_decoder_missing", {"name": entry.name, "uid": entry.uid})
