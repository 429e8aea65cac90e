"""The database below the history: connections, transactions, schema and the sweeping of deleted bytes.

SQLite by default, PostgreSQL by URL; what only one of them needs stands in this module.

Durability. The process may be killed at any instant: write-ahead logging keeps every committed
transaction through that. The machine may lose power: a commit with ``synchronous=FULL`` has reached the
disk when it returns, so a question and the end of its answer are never lost. The pieces in between come
eight a second; they use ``NORMAL``, which waits for no disk, and the next ``FULL`` commit takes them along.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, create_engine, event, inspect, make_url
from sqlalchemy.exc import DatabaseError, IntegrityError, NoSuchModuleError

from app.errors import StorageForeignError, StorageTooNewError, StorageUnavailableError
from app.history import parts
from app.history.lock import UseLock, lock_file
from app.history.sqlite_file import library_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Engine

__all__ = ["Database"]

_LOG = logging.getLogger("bimedix2.history")
_MIGRATIONS: Final = Path(__file__).parent / "migrations"

_BUSY_TIMEOUT_MS: Final = 15_000
"""How long to wait for another process's write; longer than any of ours takes on a slow disk."""
_ON_CONNECT: Final = (
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",  # first: the next line needs a lock
    "PRAGMA journal_mode=WAL",  # readers never wait for the writer
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",  # deleted rows are overwritten with zeros
    "PRAGMA temp_store=MEMORY",  # no copy of a conversation in a temporary file
)
_PAGES_KEPT: Final = "PRAGMA cache_size=-32000"
"""32 MB for each connection: a page of an encrypted database costs its decryption each time it is read."""
# A transaction that reads first and writes later can find the database changed in between and fails at
# once, whatever the timeout; taking the write lock at its start makes it wait instead.
_BEGIN: Final = {
    "read": ("BEGIN",),
    "write": ("PRAGMA synchronous=FULL", "BEGIN IMMEDIATE"),
    "write-soon": ("PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE"),
}


class Database:
    """An opened database of the newest schema; safe to use from several threads at once.

    Parameters
    ----------
    url : URL
        Where it is; see :meth:`open`.
    """

    def __init__(self, url: URL) -> None:
        self._sqlite = url.get_backend_name() == "sqlite"
        self.location = str(url.database) if self._sqlite else url.render_as_string(hide_password=True)
        # SQLite lets one writer in at a time and is not fair about who; this lock is.
        self._writing = threading.Lock()
        # hide_parameters: the text of a conversation never gets into an error message or a log
        self._use = UseLock(lock_file(Path(str(url.database)))) if self._sqlite else None
        library, key = self._library(Path(str(url.database)).parent) if self._sqlite else (None, None)
        # an encrypted database is opened with its key, before anything else is asked of it
        first = [] if key is None else [key, _PAGES_KEPT]
        self._engine: Engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=8,
            max_overflow=-1,
            pool_pre_ping=not self._sqlite,
            **({} if key is None else {"module": library}),
        )
        if self._sqlite:
            event.listen(self._engine, "connect", partial(_prepare_sqlite, [*first, *_ON_CONNECT]))
            event.listen(self._engine, "begin", _begin_sqlite)

    def _library(self, folder: Path) -> tuple[Any, str | None]:
        """Look up what opens a folder's database; asked under the lock, so that nobody converts it now."""
        try:
            return library_of(folder)
        except BaseException:
            if self._use is not None:
                self._use.close()
            raise

    @classmethod
    def open(cls, source: str | Path, *, as_it_is: bool = False) -> Database:
        """Open a database, make it if there is none, and bring it to the newest schema.

        Parameters
        ----------
        source : str or Path
            Path of an SQLite file, or a URL such as ``postgresql+psycopg://...``.
        as_it_is : bool
            Leave its schema alone; see :attr:`is_newest`.

        Raises
        ------
        StorageUnavailableError
            If it cannot be opened or written.
        StorageTooNewError
            If a newer version of the application wrote it.
        StorageForeignError
            If it holds the tables of something else.
        """
        url = _url_of(source)
        if url.get_backend_name() == "sqlite":
            _make_private(Path(str(url.database)))
        try:
            database = cls(url)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            reason = f"{error} (found {url.get_backend_name()}, expected sqlite or postgresql+psycopg)"
            location = url.render_as_string(hide_password=True)
            raise StorageUnavailableError(location=location, reason=reason) from error
        try:
            if not as_it_is:
                with database.write() as connection:
                    _migrate(connection, database.location)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def is_newest(self) -> bool:
        """Whether it has today's schema."""
        with self.read() as connection:
            return _is_newest(connection)

    def close(self) -> None:
        """Close every connection; the last one empties SQLite's write-ahead log."""
        self._engine.dispose()
        if self._use is not None:
            self._use.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that reads: one consistent moment of the history."""
        with self._reported(), self._engine.connect() as connection:
            if not self._sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Open a transaction that writes; it is committed when the block ends and undone when it raises.

        Parameters
        ----------
        durable : bool
            Whether the commit waits for the disk, see the module's text.
        """
        mode = "write" if durable else "write-soon"
        with (
            self._reported(),
            self._writing if self._sqlite else nullcontext(),
            self._engine.connect() as connection,
            connection.execution_options(mode=mode).begin(),
        ):
            yield connection

    def sweep(self) -> None:
        """Empty the write-ahead log, which still holds what was deleted; other databases need nothing."""
        if not self._sqlite:
            return
        with self.read() as connection:
            numbers = parts.unswept(connection)
        for number in numbers:
            self._merge(number)
        with self._reported(), self._writing, closing(self._engine.raw_connection()) as connection:
            busy = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:  # another process reads without end; its next checkpoint, or ours, does it
            _LOG.warning("deleted rows stay in the write-ahead log until other readers are done")

    def vacuum(self) -> tuple[int, int]:
        """Write a PostgreSQL database's tables anew; returns its bytes before and after."""
        with self._reported(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            size = "SELECT pg_database_size(current_database())"
            before = connection.exec_driver_sql(size).scalar_one()
            connection.exec_driver_sql("VACUUM (FULL, ANALYZE)")
            return before, connection.exec_driver_sql(size).scalar_one()

    def check_index(self) -> None:
        """Compare the full-text index with the rows it was made of; PostgreSQL keeps its own right.

        Raises
        ------
        StorageUnavailableError
            If they differ.
        """
        if self._sqlite:
            with self.write() as connection:
                parts.check(connection)

    def _merge(self, number: int) -> None:
        """Write a part of the full-text index anew, without the words its deleted entries still hold.

        It goes in steps of a few megabytes, so that nobody else's question waits for all of it.
        """
        begin = more = True
        while more:
            with self.write(durable=False) as connection:
                more = parts.merge_step(connection, number, begin=begin)
            begin = False

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what the driver says about the database into an error a user can act on."""
        try:
            yield
        except IntegrityError:
            raise  # a broken rule of the schema is a mistake in this program, not of the disk
        except DatabaseError as error:
            raise StorageUnavailableError(location=self.location, reason=str(error.orig)) from error


def _url_of(source: str | Path) -> URL:
    if isinstance(source, str) and "://" in source:
        return make_url(source)
    return URL.create("sqlite", database=str(Path(source).absolute()))


def _make_private(path: Path) -> None:
    """Make folder and file readable by their user alone, before anything is in them."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageUnavailableError(location=str(path), reason=str(error.strerror)) from error


def _prepare_sqlite(statements: Sequence[str], connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own; _begin_sqlite does
    with closing(connection.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement)


def _begin_sqlite(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    for statement in _BEGIN[connection.get_execution_options().get("mode", "read")]:
        driver.execute(statement)


def _migrate(connection: Connection, location: str) -> None:
    """Bring the schema to the newest revision, in the caller's transaction."""
    if _is_newest(connection):
        return
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    if connection.dialect.name == "postgresql":  # two that start at once bring it there one after the other
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6112604250)")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None and (tables := inspect(connection).get_table_names()):
        raise StorageForeignError(location=location, found=", ".join(sorted(tables)))
    if found is not None and found not in known:
        raise StorageTooNewError(location=location, found=found, expected=script.get_current_head())
    if found != script.get_current_head():
        command.upgrade(config, "head")


def _is_newest(connection: Connection) -> bool:
    """Whether nothing is to be done, without reading the migrations: nearly always, and it takes long."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    newest = max(file.name for file in (_MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    return found == [newest]
