"""What this computer has, what it lacks, and what to do about each lack."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from app.model import DEMONSTRATION_FOLDER, describe_model, is_missing
from i18n.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.settings import Settings

__all__ = ["Finding", "examine", "report"]

Level = Literal["ok", "warning", "failed"]
_GB = 1e9
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OLDEST_PYTHON = (3, 11)
_PACKAGES = (
    "torch", "transformers", "peft", "gradio", "pydicom", "imagecodecs", "SimpleITK", "pillow", "sqlalchemy",
    "arabic-reshaper", "python-bidi",
)  # fmt: skip
_WORKING_MEMORY_BYTES = 1.5e9
"""What Python, torch and the page need beside the weights."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    key: str
    values: dict[str, object] = field(default_factory=dict)


def examine(settings: Settings) -> list[Finding]:
    """Look at everything the application needs; never raises for a lack."""
    return [
        *_python(),
        *_packages(),
        *_gpu(),
        *_memory(settings),
        *_data_folder(settings),
        *_several_users(settings),
        *_decoders(),
        *_model(settings),
    ]


def report(findings: Sequence[Finding], language: str) -> str:
    """Write the findings as text, one line each, in the user's language."""
    texts = Catalogue()
    lines = [texts.text("cli.doctor_title", language)]
    for finding in findings:
        level = texts.text(f"cli.doctor_check_{finding.level}", language)
        lines.append(f"  [{level}] {texts.text(finding.key, language, **finding.values)}")
    problems = sum(finding.level != "ok" for finding in findings)
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

    from engine.checkpoint import choose_device, choose_dtype

    if torch.cuda.is_available():
        properties: Any = torch.cuda.get_device_properties(0)
        values: dict[str, object] = {
            "name": properties.name,
            "memory": f"{properties.total_memory / _GB:.0f}",
        }
        yield Finding("ok", "cli.doctor_gpu", values)
    else:
        yield Finding("ok", "cli.doctor_no_gpu")
    device, why_device = choose_device("auto")
    _, why_dtype = choose_dtype("auto", device)
    yield Finding("ok", "cli.doctor_precision", {"reason": f"{why_device}; {why_dtype}"})


def _weights_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _memory(settings: Settings) -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    source = Path(describe_model(settings).source).expanduser()
    # bfloat16 files may be computed in float32, twice their size
    needed = 2 * _weights_bytes(source) + _WORKING_MEMORY_BYTES if source.is_dir() else _WORKING_MEMORY_BYTES
    values: dict[str, object] = {
        "free": f"{memory.available / _GB:.1f}",
        "total": f"{memory.total / _GB:.1f}",
        "needed": f"{needed / _GB:.1f}",
    }
    if memory.available < needed:
        yield Finding("warning", "cli.doctor_memory_short", values)
    else:
        yield Finding("ok", "cli.doctor_memory", values)


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
        yield Finding("ok", "cli.doctor_decoder_missing", {"name": entry.name, "uid": entry.uid})


def _model(settings: Settings) -> Iterator[Finding]:
    info = describe_model(settings)
    if info.is_demonstration:
        there = (DEMONSTRATION_FOLDER / "model.safetensors").is_file()
        key = "cli.doctor_model_demo" if there else "cli.doctor_model_missing"
        yield Finding("ok" if there else "failed", key, {} if there else {"source": DEMONSTRATION_FOLDER})
        return
    key = "cli.doctor_model_missing" if is_missing(info.source) else "cli.doctor_model"
    yield Finding("failed" if is_missing(info.source) else "ok", key, {"source": info.source})
