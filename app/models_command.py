"""``bimedix2 models``: what there is, fetching, checking, converting and merging checkpoints.

Only ``models download`` without ``--from`` goes to the network, because it was asked to.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from app.settings import Settings
    from engine.export import Conversion

__all__ = ["add_models_command"]

_SHOW_EVERY_S = 1.0


def add_models_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``models list | download | verify | convert | merge`` to the parser of all commands."""
    models = commands.add_parser("models", help="list, download, verify, convert or merge checkpoints")
    actions = models.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[common], help="released checkpoints, and what is here")
    listing.set_defaults(command=_list)
    fetch = actions.add_parser(
        "download", parents=[common], help="fetch a checkpoint; the same command goes on after a break"
    )
    fetch.add_argument("source", metavar="ID", help="e.g. MBZUAI/BiMediX2-8B-Bi")
    fetch.add_argument(
        "--from", dest="mirror", type=Path, metavar="FOLDER", help="mirror instead of the network"
    )
    fetch.add_argument("--to", dest="folder", type=Path, metavar="FOLDER", help="where to put it")
    fetch.set_defaults(command=_download)
    check = actions.add_parser("verify", parents=[common], help="check every file of a checkpoint")
    check.add_argument("source", metavar="FOLDER|ID")
    check.set_defaults(command=_verify)
    convert = actions.add_parser(
        "convert", parents=[common], help="write a folder that stock transformers and vLLM open"
    )
    convert.add_argument("source", metavar="FOLDER|ID")
    convert.add_argument("destination", type=Path, metavar="NEW_FOLDER")
    convert.set_defaults(command=_convert)
    merge = actions.add_parser(
        "merge", parents=[common], help="add an adapter (LoRA) to its base, for stock transformers and vLLM"
    )
    merge.add_argument("base", metavar="BASE", help="folder or id of the model the adapter was made for")
    merge.add_argument("adapter", metavar="ADAPTER", help="folder or id of the adapter")
    merge.add_argument("destination", type=Path, metavar="NEW_FOLDER")
    merge.add_argument(
        "--any-base", action="store_true", help="also if the adapter names another base, if its shapes fit"
    )
    merge.set_defaults(command=_merge)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f}"


def _list(_settings: Settings, _options: argparse.Namespace, language: str) -> int:
    from engine.models import KNOWN, cached_folder, state_of
    from i18n.catalogue import Catalogue

    texts = Catalogue()
    states = {
        "complete": texts.text("cli.models_complete", language),
        "incomplete": texts.text("cli.models_incomplete", language),
        "absent": texts.text("cli.models_absent", language),
    }
    for known in KNOWN:
        folder = cached_folder(known.hub_id)
        size = f"{known.bytes / 1e9:.1f} GB"
        state = states[state_of(folder)]
        _say(
            f"{known.hub_id:26} {known.parameters:4} {known.languages:7} {size:>9}  {known.licence}  {state}"
        )
        if folder is not None:
            _say(f"    {folder}")
    _say(texts.text("app.licence_notice", language))
    return 0


def _download(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from engine.models import copy_from_mirror, download
    from i18n.catalogue import Catalogue

    texts = Catalogue()
    _say(texts.text("app.licence_notice", language))
    if options.mirror is None:
        folder = download(options.source, options.folder)
    else:
        target = options.folder or settings.folder / "models" / Path(options.source).name
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = copy_from_mirror(options.mirror, target, _meter(language))
    _say(texts.text("cli.models_downloaded", language, location=folder))
    return 0


def _verify(_settings: Settings, options: argparse.Namespace, language: str) -> int:
    from engine.models import verify
    from i18n.catalogue import Catalogue

    texts = Catalogue()
    damaged = 0
    for finding in verify(_folder_of(options.source)):
        if finding.problem:
            damaged += 1
            _say(texts.text("cli.models_damaged", language, name=finding.name, reason=finding.problem))
        elif finding.hashed:
            _say(texts.text("cli.models_hashed", language, name=finding.name))
        else:
            _say(texts.text("cli.models_measured", language, name=finding.name))
    return 1 if damaged else 0


def _convert(_settings: Settings, options: argparse.Namespace, language: str) -> int:
    from engine.export import convert

    _written(convert(_folder_of(options.source), options.destination, _meter(language)), language)
    return 0


def _merge(_settings: Settings, options: argparse.Namespace, language: str) -> int:
    from engine.merging import merge

    done = merge(
        _folder_of(options.base),
        _folder_of(options.adapter),
        options.destination,
        _meter(language),
        any_base=options.any_base,
    )
    _written(done, language)
    return 0


def _written(done: Conversion, language: str) -> None:
    """Say what was written, and what memory it took."""
    from i18n.catalogue import Catalogue

    texts = Catalogue()
    _say(texts.text("cli.models_converted", language, count=done.tensors, location=done.folder))
    largest = max(file.stat().st_size for file in done.folder.glob("*.safetensors"))
    sizes = {"peak": f"{_peak_bytes() / 1e6:.0f}", "largest": f"{largest / 1e6:.0f}"}
    _say(texts.text("cli.models_peak", language, **sizes))


def _peak_bytes() -> int:
    """Most memory this process has ever had resident."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def _folder_of(source: str) -> Path:
    """Folder of a checkpoint given as a folder or as the id of one in the Hub's cache."""
    from engine.models import cached_folder

    folder = Path(source).expanduser()
    if folder.is_dir() or source.count("/") != 1:
        return folder
    return cached_folder(source) or folder


def _meter(language: str) -> Callable[[int, int], None]:
    """Say now and then how much is done."""
    from i18n.catalogue import Catalogue

    texts, began = Catalogue(), time.monotonic()
    said = began

    def tell(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < _SHOW_EVERY_S:
            return
        said = now
        left = f"{(now - began) / max(done, 1) * (total - done):.0f}"
        _say(
            texts.text(
                "cli.models_progress", language, done=_gigabytes(done), total=_gigabytes(total), seconds=left
            )
        )

    return tell
