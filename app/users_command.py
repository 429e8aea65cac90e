"""``bimedix2 users``: add, reset, disable, enable, list.

A password is typed on the terminal or comes from standard input; never from the command line, where every
other user of the machine can read it. Nothing heavy is imported until a task runs.
"""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from app.accounts.store import AccountStore
    from app.settings import Settings

__all__ = ["add_users_commands"]


def add_users_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``users`` with its tasks to the commands of the parser."""
    users = commands.add_parser("users", help="who may use the page, when it is served with --users")
    tasks = users.add_subparsers(title="tasks", required=True, metavar="TASK")
    add = _task(tasks, common, "add", _add, "make an account; its password must be changed at first sign-in")
    add.add_argument("--role", choices=("clinician", "reviewer", "administrator"), default="clinician")
    _task(tasks, common, "reset", _reset, "give an account another password, and sign it out everywhere")
    _task(tasks, common, "disable", _disable, "keep an account out, at once")
    _task(tasks, common, "enable", _enable, "let a disabled account in again")
    listed = tasks.add_parser("list", parents=[common], help="list all accounts")
    listed.set_defaults(command=_list)


def _task(
    tasks: Any, common: argparse.ArgumentParser, name: str, command: object, text: str
) -> argparse.ArgumentParser:
    task: argparse.ArgumentParser = tasks.add_parser(name, parents=[common], help=text)
    task.add_argument("name", metavar="NAME")
    task.set_defaults(command=command)
    return task


def _add(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from app.accounts.names import checked_name

    name = checked_name(options.name)
    password = _ask_password(name, language)
    with _accounts(settings) as accounts:
        account = accounts.add(name, options.role, password)
    _say(language, "added", name=account.name, role=_text(language, f"role_{account.role}"))
    return 0


def _reset(settings: Settings, options: argparse.Namespace, language: str) -> int:
    password = _ask_password(options.name, language)
    with _accounts(settings) as accounts:
        accounts.reset(options.name, password)
    _say(language, "was_reset", name=options.name)
    return 0


def _disable(settings: Settings, options: argparse.Namespace, language: str) -> int:
    with _accounts(settings) as accounts:
        accounts.set_disabled(options.name, disabled=True)
    _say(language, "was_disabled", name=options.name)
    return 0


def _enable(settings: Settings, options: argparse.Namespace, language: str) -> int:
    with _accounts(settings) as accounts:
        accounts.set_disabled(options.name, disabled=False)
    _say(language, "was_enabled", name=options.name)
    return 0


def _list(settings: Settings, _options: argparse.Namespace, language: str) -> int:
    with _accounts(settings) as accounts:
        found = accounts.list()
    for one in found:
        role = _text(language, f"role_{one.role}")
        state = _text(language, "state_disabled" if one.disabled else "state_active")
        seen = f"{one.last_seen:%Y-%m-%d %H:%M} UTC" if one.last_seen else _text(language, "never_used")
        print(f"{one.name}\t{role}\t{state}\t{seen}")
    if not found:
        _say(language, "none_yet")
    return 0


@contextmanager
def _accounts(settings: Settings) -> Iterator[AccountStore]:
    """Open the accounts; also while the page is open, which notices a change within two seconds."""
    from app.accounts.store import AccountStore
    from app.history.database import Database

    with closing(Database.open(settings.history)) as database:
        yield AccountStore(database)


def _ask_password(name: str, language: str) -> str:
    """Ask twice on a terminal; anywhere else the first line of standard input is the password.

    Raises
    ------
    AccountError
        If none was given, or the two differ.
    """
    from getpass import getpass

    from app.accounts.errors import AccountError

    if sys.stdin.isatty():
        password = getpass(_text(language, "asked_password", name=name) + " ")
        if password and getpass(_text(language, "asked_again") + " ") != password:
            raise AccountError(reason=_text(language, "password_differs"))
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise AccountError(reason=_text(language, "no_password"))
    return password


def _text(language: str, key: str, **values: object) -> str:
    from i18n.catalogue import Catalogue

    return Catalogue().text(f"account.{key}", language, **values)


def _say(language: str, key: str, **values: object) -> None:
    print(_text(language, key, **values), flush=True)
