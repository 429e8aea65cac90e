"""Commands that de-identify DICOM files, and that tell who stands behind a pseudonym.

Only what a command needs is imported when it runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from app.settings import Settings
    from viewers.deid import Policy
    from viewers.findings import Finding
    from viewers.reidentify import IdentityMap

__all__ = ["add_commands"]

_MAP, _MAP_KEY = "identities.map", "identities.key"
"""In the data folder."""


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``deidentify`` and ``reidentify`` to the parser of all commands."""
    deidentify = commands.add_parser(
        "deidentify", parents=[common], help="write de-identified copies of DICOM files"
    )
    deidentify.add_argument("source", type=Path, metavar="IN", help="a file, folder or zip")
    deidentify.add_argument("output", type=Path, metavar="OUT", help="a folder; files get new names")
    deidentify.add_argument("--shift-dates", action="store_true", help="move dates instead of removing them")
    deidentify.add_argument(
        "--keep-pixels", action="store_true", help="do not blacken ultrasound outside its regions"
    )
    deidentify.add_argument(
        "--mask-text",
        action="store_true",
        help="blacken what looks like text in pictures; needs the extra ocr",
    )
    deidentify.add_argument(
        "--map", action="store_true", help="remember, encrypted in the data folder, who stands for whom"
    )
    _add_map_key(deidentify)
    deidentify.set_defaults(command=_deidentify)
    reidentify = commands.add_parser(
        "reidentify", parents=[common], help="show whom a pseudonym or a new UID stands for"
    )
    reidentify.add_argument("name", metavar="PSEUDONYM|UID", help="of a file written with deidentify --map")
    _add_map_key(reidentify)
    reidentify.set_defaults(command=_reidentify)


def _add_map_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--map-key", type=Path, metavar="FILE", help="key of the map, 32 bytes; made beside it if left out"
    )


def _map(settings: Settings, options: argparse.Namespace) -> IdentityMap:
    from viewers.reidentify import IdentityMap, key_file

    key = key_file(options.map_key or settings.folder / _MAP_KEY)
    return IdentityMap(settings.folder / _MAP, key)


def _deidentify(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from app.errors import user_text
    from app.finding_text import finding_text
    from app.pseudonym_key import pseudonym_key
    from i18n.catalogue import Catalogue
    from viewers.archive import FileWalk
    from viewers.deid import Policy
    from viewers.errors import OpenError
    from viewers.limits import Limits

    options.source.stat()
    _check_output(options.source, options.output)
    identities = _map(settings, options) if options.map else None
    options.output.mkdir(parents=True, exist_ok=True)
    policy = Policy(
        pseudonym_key(settings),
        shift_dates=options.shift_dates,
        mask_regions=not options.keep_pixels,
        mask_text=options.mask_text,
    )
    written = failed = 0
    with tempfile.TemporaryDirectory(prefix="bimedix2-") as scratch:
        files = FileWalk(options.source, Path(scratch), Limits())
        for file in files:
            target = options.output / f"{file.index:06d}.dcm"
            try:
                findings = _write_deidentified(file.path, target, policy, identities)
            except OpenError as error:
                failed += 1
                print(f"{file.name or file.index}: {user_text(error, language)}", file=sys.stderr)
                continue
            written += 1
            for found in findings:
                print(f"{target.name}: {finding_text(found, language)}", file=sys.stderr)
        for name, found in zip(files.names, files.findings, strict=True):
            print(f"{name}: {finding_text(found, language)}", file=sys.stderr)
    if identities is not None:
        identities.save()
    said = {"location": options.output, "written": written, "left_out": failed}
    print(Catalogue().text("cli.deidentified", language, **said))
    return 0 if written and not failed else 1


def _check_output(source: Path, output: Path) -> None:
    """Refuse a place where copies would replace the originals, or stand among other files."""
    from app.errors import OutputExistsError

    origin, target = source.resolve(), output.resolve()
    apart = (
        target != origin
        and origin not in target.parents
        and not (source.is_dir() and target in origin.parents)
    )
    if not apart or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise OutputExistsError(location=output)


def _write_deidentified(
    source: Path, target: Path, policy: Policy, identities: IdentityMap | None
) -> tuple[Finding, ...]:
    from viewers.dataset import parse
    from viewers.deid import deidentify
    from viewers.errors import TooLargeError
    from viewers.limits import Limits
    from viewers.reidentify import originals
    from viewers.silence import collected_warnings

    limits = Limits()
    with source.open("rb") as stream:
        raw = stream.read(limits.file_bytes + 1)
    if len(raw) > limits.file_bytes:
        raise TooLargeError(quantity="bytes", found=f"> {limits.file_bytes}", limit=limits.file_bytes)
    with collected_warnings():
        parsed = parse(raw, limits)
        dataset = parsed.dataset
        if not hasattr(dataset, "file_meta"):
            from pydicom.dataset import FileMetaDataset

            dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = parsed.transfer_syntax
    # The bytes of a name whose character set is wrong are there until the dataset has been gone through.
    found = originals(dataset, policy) if identities is not None else None
    made = deidentify(dataset, policy, limits)
    try:
        made.save(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if identities is not None and found is not None:
        identities.add(found)
    return made.findings


def _reidentify(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from i18n.catalogue import Catalogue

    identities = _map(settings, options)
    found = identities.patient(options.name)
    if found is not None:
        for keyword, values in found["patient"].items():
            print(f"{keyword}: {', '.join(values)}")
        print(Catalogue().text("cli.dates_moved", language, days=found["days"]))
        return 0
    original = identities.uid(options.name)
    print(original or Catalogue().text("cli.no_identity", language))
    return 0 if original else 1
