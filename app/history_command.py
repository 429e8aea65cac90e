"""``bimedix2 history``: backup, restore, verify, log, vacuum, prune.

Nothing heavy is imported until a task runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.help_texts import wrong_value

if TYPE_CHECKING:
    import argparse

    from app.history.audit import AuditEntry, BrokenLink
    from app.history.retention import Expired, Retention, Unasked
    from app.settings import Settings

__all__ = ["add_history_commands"]


def add_history_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``history`` with its tasks to the commands of the parser."""
    history = commands.add_parser("history", help="back up, restore, check, compact or prune the history")
    tasks = history.add_subparsers(title="tasks", required=True, metavar="TASK")
    backup = tasks.add_parser(
        "backup", parents=[common], help="copy history and images, also while the page is open"
    )
    backup.add_argument("destination", type=Path, metavar="DST", help="folder that does not exist yet")
    backup.set_defaults(command=_history_backup)
    restore = tasks.add_parser(
        "restore", parents=[common], help="put a backup in place; close the page first"
    )
    restore.add_argument("source", type=Path, metavar="SRC", help="folder written by backup")
    restore.add_argument("--yes", action="store_true", help="move aside the history that is there")
    restore.set_defaults(command=_history_restore)
    verify = tasks.add_parser(
        "verify", parents=[common], help="check the file and the record of who did what"
    )
    verify.add_argument(
        "--kept",
        nargs=2,
        metavar=("NUMBER", "HASH"),
        help="newest entry as an earlier verify told it: a record written anew since is found too",
    )
    verify.set_defaults(command=_history_verify)
    log = tasks.add_parser("log", parents=[common], help="list who did what, when")
    log.add_argument("--of", metavar="NAME", help="only of one account, or one owner")
    log.add_argument("--since", type=_day, metavar="YYYY-MM-DD", help="only from this day on (UTC)")
    log.add_argument("--json", action="store_true", help="one JSON object a line, with the hashes")
    log.set_defaults(command=_history_log)
    vacuum = tasks.add_parser("vacuum", parents=[common], help="give back the room of what was deleted")
    vacuum.set_defaults(command=_history_vacuum)
    prune = tasks.add_parser(
        "prune", parents=[common], help="list or delete what is older than the days given"
    )
    for option, what in (
        ("older-than", "conversations, but for pinned ones"),
        ("tagged", "conversations with a tag, instead of --older-than"),
        ("pinned", "pinned conversations"),
        ("images", "images that no conversation shows"),
    ):
        prune.add_argument(f"--{option}", type=_days, metavar="DAYS", help=f"{what}, since the last change")
    prune.add_argument("--yes", action="store_true", help="delete them; without it they are only listed")
    prune.set_defaults(command=_history_prune)


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise wrong_value("expected a number of days from 1 on, found {found}", found=repr(text))
    return int(text)


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise wrong_value("expected a day as 2026-01-31, found {found}", found=repr(text)) from None


def _say(language: str, key: str, **values: object) -> None:
    from i18n.catalogue import Catalogue

    print(Catalogue().text(f"history.{key}", language, **values), flush=True)


def _history_backup(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from app.history.lock import FilesLock
    from app.history.upkeep import back_up

    files = FilesLock(settings.folder / ".images.lock")
    count = back_up(settings.history, settings.images_folder, options.destination, files)
    _say(language, "backed_up", location=options.destination, count=count)
    return 0


def _history_restore(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from app.history.upkeep import restore

    broken: list[BrokenLink] = []
    aside = restore(
        options.source,
        settings.folder,
        overwrite=options.yes,
        url=settings.database or None,
        on_broken=broken.append,
    )
    _say(language, "restored", location=settings.folder)
    if aside is not None:
        _say(language, "moved_aside", location=aside)
    for link in broken:
        _say(language, f"check_{link.kind}", sequence=link.sequence, subject=link.subject)
    return 1 if broken else 0


def _history_verify(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from app.history.audit import AuditHead
    from app.history.upkeep import examine

    if _is_missing(settings, language):
        return 0
    kept = AuditHead(_number(options.kept[0]), options.kept[1]) if options.kept else None
    health = examine(settings.history, kept)
    for problem in health.problems:
        _say(language, "check_problem", problem=problem)
    if health.broken is not None:
        broken = health.broken
        _say(language, f"check_{broken.kind}", sequence=broken.sequence, subject=broken.subject)
    if health.problems or health.broken is not None:
        return 1
    _say(language, "check_ok", sequence=health.head.sequence, hash=health.head.hash)
    return 0


def _history_log(settings: Settings, options: argparse.Namespace, language: str) -> int:
    """List the record, oldest first; accounts by their names."""
    from app.accounts.store import AccountStore
    from app.history.store import HistoryStore

    if _is_missing(settings, language):
        return 0
    with HistoryStore.open(settings.history) as store:
        names = {one.owner: one.name for one in AccountStore(store.database).list()}
        owners = {name: owner for owner, name in names.items()}
        wanted = owners.get(options.of, options.of)
        after = 0
        while some := store.audit(wanted, after):
            for entry in some:
                if options.since is None or entry.time >= options.since:
                    print(_log_line(entry, names.get(entry.owner, entry.owner), language, options.json))
            after = some[-1].sequence
    return 0


def _log_line(entry: AuditEntry, who: str, language: str, as_json: bool) -> str:  # noqa: FBT001 - the flag
    if as_json:
        values = {**asdict(entry), "time": entry.time.isoformat(), "who": who}
        return json.dumps(values, ensure_ascii=False)
    from i18n.catalogue import Catalogue

    did = Catalogue().text(f"history.did_{entry.action}", language)
    return f"{entry.sequence}\t{entry.time:%Y-%m-%d %H:%M:%S} UTC\t{who}\t{did}\t{entry.subject}"


def _number(text: str) -> int:
    from app.errors import SettingsError

    if not text.isascii() or not text.isdigit():
        raise SettingsError(place="--kept", found=text, expected="NUMBER HASH")
    return int(text)


def _history_vacuum(settings: Settings, _options: argparse.Namespace, language: str) -> int:
    from app.history.upkeep import compact

    if _is_missing(settings, language):
        return 0
    before, after = (f"{size / 1e6:.1f}" for size in compact(settings.history))
    _say(language, "vacuumed", before=before, after=after)
    return 0


def _history_prune(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from contextlib import closing

    from app.history.database import Database
    from app.history.lock import FilesLock
    from app.history.retention import expired, prune, remove_files, stray, unasked

    rule, now = _rule(settings, options), datetime.now(UTC)
    if rule.keeps_all:
        _say(language, "prune_nothing")
        return 0
    if _is_missing(settings, language):
        return 0
    with closing(Database.open(settings.history)) as database:
        found, left = expired(database, rule, now), unasked(database, rule, now)
        lost = stray(database, settings.images_folder) if rule.images is not None else []
        _list(language, found, left, lost)
        if not options.yes or not (found or left or lost):
            _say(language, "prune_would", count=len(found), images=len(left) + len(lost))
            return 0
        count, orphans = prune(database, found, left)
        files = FilesLock(settings.folder / ".images.lock")
        removed = remove_files(database, settings.images_folder, [*orphans, *lost], files)
    _say(language, "pruned", count=count, images=removed)
    return 0


def _rule(settings: Settings, options: argparse.Namespace) -> Retention:
    """Days as given, or else as in the settings."""
    from app.history.retention import Retention

    plain = options.older_than or settings.retention_days or None
    return Retention(
        plain=plain,
        tagged=options.tagged or settings.retention_tagged_days or plain,
        pinned=options.pinned or settings.retention_pinned_days or None,
        images=options.images or settings.retention_images_days or None,
    )


def _list(language: str, found: list[Expired], left: list[Unasked], lost: list[str]) -> None:
    from i18n.catalogue import Catalogue

    for item in found:
        kind = Catalogue().text(f"history.class_{item.kind}", language)
        changed = item.updated.date().isoformat()
        _say(language, "prune_item", updated=changed, thread=item.thread_id, kind=kind, count=item.turn_count)
    for image in left:
        _say(language, "prune_image", created=image.created.date().isoformat(), digest=image.digest[:12])
    for digest in lost:
        _say(language, "prune_stray", digest=digest[:12])


def _is_missing(settings: Settings, language: str) -> bool:
    if settings.database or settings.database_path.is_file():
        return False
    _say(language, "none_there", location=settings.folder)
    return True
