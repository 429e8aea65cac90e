"""A PostgreSQL server of our own for the tests: in a temporary folder, on a socket only, as nobody."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Server", "programs"]

_OPTIONS = (
    "-c listen_addresses= -c fsync=off -c full_page_writes=off -c autovacuum=off -c shared_buffers=64MB "
    "-c max_connections=60"
)


def programs() -> Path | None:
    """Folder of initdb and pg_ctl; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class Server:
    """A running server.

    Parameters
    ----------
    folder : Path
        Readable by the server's user alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """Start a server and stop it, whatever happens, without a trace on the disk."""
        place = programs()
        assert place is not None
        folder = Path(tempfile.mkdtemp(prefix="bimedix2-postgres-"))
        # the server refuses to run as root
        user = "nobody" if os.geteuid() == 0 else None
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

        def run(program: str, *arguments: str) -> None:
            command = [str(place / program), "-D", str(folder / "data"), *arguments]
            with (folder / "out.log").open("ab") as out:
                subprocess.run(command, check=True, cwd="/", user=user, stdout=out, stderr=out, timeout=60)

        try:
            run("initdb", "--no-sync", "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale=C.UTF-8")
            run("pg_ctl", "-w", "-l", str(folder / "server.log"), "-o", f"{_OPTIONS} -k {folder}", "start")
            try:
                yield cls(folder)
            finally:
                run("pg_ctl", "-m", "immediate", "stop")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def new(self, template: str | None = None) -> str:
        """URL of a new database, empty or a copy of that at another URL."""
        name = f"history{next(self._numbers)}"
        source = template.partition("@/")[2].partition("?")[0] if template else "template0"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY file_copy")
        return f"postgresql+psycopg://tests@/{name}?host={self._folder}"

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected."""
        self.run("postgres", f"DROP DATABASE {url.partition('@/')[2].partition('?')[0]} WITH (FORCE)")

    def run(self, database: str, statement: str) -> None:
        """Run one statement outside any transaction."""
        with psycopg.connect(
            host=str(self._folder), user="tests", dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement)
