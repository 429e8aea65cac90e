"""``bimedix2 encryption``: on, off, rekey, status.

A passphrase is typed on the terminal or comes from standard input; never from the command line, where every
other user of the machine can read it. Nothing heavy is imported until a task runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from app.encryption.envelope import Envelope, Secret
    from app.settings import Settings

__all__ = ["add_encryption_commands", "unlock_by"]


def add_encryption_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``encryption`` with its tasks to the commands of the parser."""
    encryption = commands.add_parser(
        "encryption", help="encrypt history and pixels on the disk, or no longer"
    )
    tasks = encryption.add_subparsers(title="tasks", required=True, metavar="TASK")
    on = tasks.add_parser(
        "on",
        parents=[common],
        help="encrypt the data folder with the key in --key-file, made if it is not there, or a passphrase",
    )
    on.set_defaults(command=_on)
    off = tasks.add_parser("off", parents=[common], help="put the data folder back into clear text")
    off.set_defaults(command=_off)
    rekey = tasks.add_parser("rekey", parents=[common], help="open it by another key file or passphrase")
    rekey.add_argument("--new-key-file", type=Path, metavar="FILE", help="instead of a passphrase")
    rekey.set_defaults(command=_rekey)
    status = tasks.add_parser("status", parents=[common], help="say whether the data folder is encrypted")
    status.set_defaults(command=_status)


def unlock_by(settings: Settings, language: str) -> None:
    """Open encrypted folders by the key file of the settings, or by a passphrase typed when it is needed."""
    from app.encryption.keyring import keyring

    keyring.ask(lambda envelope: _secret(settings, envelope, language))


def _secret(settings: Settings, envelope: Envelope, language: str) -> Secret | None:
    from app.encryption.envelope import Secret, read_key_file

    if envelope.kind == "key file":
        given = settings.encryption_key_file
        return None if given == Path() else read_key_file(given.expanduser())
    if not sys.stdin.isatty():
        return None
    from getpass import getpass

    return Secret("passphrase", getpass(_text(language, "asked") + " ").encode())


def _on(settings: Settings, _options: argparse.Namespace, language: str) -> int:
    from app.encryption.conversion import turn_on
    from app.encryption.envelope import Envelope

    begun = Envelope.read(settings.folder)
    secret = _given(settings, settings.encryption_key_file, language, new=begun is None)
    left = turn_on(
        settings.folder, settings.database_path, settings.images_folder, secret, _counted(language)
    )
    print(_text(language, "is_on", location=settings.folder))
    if left:
        print(_text(language, "left_clear", count=left))
    if settings.database:
        print(_text(language, "server_apart"))
    print(_text(language, "keep_key"))
    return 0


def _off(settings: Settings, _options: argparse.Namespace, language: str) -> int:
    from app.encryption.conversion import turn_off

    turn_off(settings.folder, settings.database_path, settings.images_folder, _counted(language))
    print(_text(language, "is_off", location=settings.folder))
    return 0


def _rekey(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from app.encryption.conversion import rekey
    from app.encryption.keyring import key_of

    key_of(settings.folder)  # whoever cannot open it is asked nothing more
    rekey(settings.folder, _given(settings, options.new_key_file or Path(), language, new=True))
    print(_text(language, "rekeyed"))
    return 0


def _status(settings: Settings, _options: argparse.Namespace, language: str) -> int:
    from app.encryption.envelope import Envelope

    envelope = Envelope.read(settings.folder)
    if envelope is None:
        print(_text(language, "is_not", location=settings.folder))
        return 1
    state = _text(language, f"state_{envelope.state.replace(' ', '_')}")
    kind = _text(language, f"by_{envelope.kind.replace(' ', '_')}")
    print(_text(language, "status", location=settings.folder, state=state, kind=kind))
    return 0


def _given(settings: Settings, key_file: Path, language: str, *, new: bool) -> Secret:
    """Return the key file's key, made if it is new, or a passphrase typed twice."""
    from app.encryption.envelope import Secret, make_key_file, read_key_file
    from app.encryption.errors import KeyFileError

    if key_file != Path():
        place = key_file.expanduser().absolute()
        if place.is_relative_to(settings.folder):
            raise KeyFileError(location=place, reason="it would lie beside what it encrypts")
        if new and not place.exists():
            make_key_file(place)
            print(_text(language, "key_made", location=place))
        return read_key_file(place)
    return Secret("passphrase", _passphrase(language, new=new).encode())


def _passphrase(language: str, *, new: bool) -> str:
    """Ask on a terminal, twice for a new one; anywhere else the first line of standard input is it."""
    from getpass import getpass

    from app.encryption.errors import EncryptionError

    if sys.stdin.isatty():
        given = getpass(_text(language, "asked_new" if new else "asked") + " ")
        if new and given and getpass(_text(language, "asked_again") + " ") != given:
            raise EncryptionError(reason=_text(language, "differs"))
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if new and len(given) < _SHORTEST:
        raise EncryptionError(reason=_text(language, "too_short", least=_SHORTEST))
    return given


_SHORTEST = 12
"""Characters of a passphrase: whoever has the disk may try as often as they like."""


def _counted(language: str) -> Any:
    def tell(done: int) -> None:
        if sys.stderr.isatty():
            print(_text(language, "progress", count=done), end="\r", file=sys.stderr, flush=True)

    return tell


def _text(language: str, key: str, **values: object) -> str:
    from i18n.catalogue import Catalogue

    return Catalogue().text(f"encryption.{key}", language, **values)
