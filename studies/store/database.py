"""`--storage postgresql://...`: a PostgreSQL database for leases and Optuna's studies, instead of files in the store.

Records are files in either case: the run store is the truth, and a database that is lost costs no result.
The password never gets into a message or a file of results. SQLAlchemy reads the URL, keeps the connections and makes
them anew when they have broken; psycopg2 is the driver.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError, install

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

VARIABLE = "BENCH_STORAGE"
SECRET_OPTIONS = ("sslpassword",)  # of libpq, beside the password itself; never printed and never stored
SHAPE = re.compile(  # stricter than SQLAlchemy, which guesses where a bare / ? # or @ in a password belongs
    r"(postgresql|postgres|postgresql\+psycopg2)://"  # as libpq, older tools, and SQLAlchemy write it
    r"([^/?#@\[\]]*@)?"  # user:password@
    r"(\[[0-9a-fA-F:.]+\]|[^/?#@:\[\]]*)(:\d+)?(/[^?#@]*)?"  # host:port/database
    r"(\?[^=#@&]+=[^#@&]*(&[^=#@&]+=[^#@&]*)*)?"  # options
)
EXPECTED = "expected postgresql://USER@HOST:PORT/DATABASE (in names and passwords, write @ : / ? # % as %40 and so on)"
ANSWER = 5.0  # seconds to connect, and for a statement: ours take milliseconds, a busy disk seconds; chosen here
PAUSE = 1.0  # seconds between attempts to connect anew; chosen here
PATIENCE = 300.0  # seconds without the database after which a command gives up: a restart takes less; chosen here
LEDGERS = 0x48794C6564676572  # key of the advisory lock on Optuna's tables; any number that nobody else uses


class Away(Exception):
    """The database cannot be reached now. Says why, as a part of a sentence without full stop."""


@dataclass(frozen=True)
class Storage:
    """A database. parts: its URL with the password, which SQLAlchemy leaves out wherever it prints one."""

    parts: URL = field(repr=False)

    @property
    def url(self) -> str:
        """The URL without the password, so that it may be printed and stored."""
        return str(self.parts._replace(password=None).difference_update_query(SECRET_OPTIONS))

    @property
    def name(self) -> str:
        """Where it is, for people: host:port/database."""
        return str(self.parts.set(query={})).partition("://")[2].rpartition("@")[2]

    @property
    def password(self) -> str | None:
        return None if self.parts.password is None else str(self.parts.password)

    def full_url(self, scheme: str = "postgresql") -> str:
        """The URL with the password."""
        return self.parts.set(drivername=scheme).render_as_string(hide_password=False)

    def sqlalchemy_url(self) -> str:
        """As Optuna takes it. The driver is named: SQLAlchemy 2.1 looks for another one by default."""
        return self.full_url("postgresql+psycopg2")

    def engine(self) -> Engine:
        """Connections to the database, whose statements end after ANSWER seconds, here and in the server.

        Nothing is connected yet. Raises UserError where psycopg2 is not installed.
        """
        try:
            from psycopg2.extensions import set_wait_callback
        except ImportError as error:
            raise UserError(f"--storage needs psycopg2: {install('postgres')}.") from error
        from sqlalchemy import create_engine, event

        set_wait_callback(_wait)  # otherwise psycopg2 waits for the server without a limit, and deaf to Ctrl-C
        engine = create_engine(
            self.sqlalchemy_url(),
            isolation_level="AUTOCOMMIT",
            pool_pre_ping=True,
            pool_size=1,  # hundreds of workers share a server
            max_overflow=0,
            use_native_hstore=False,
        )

        @event.listens_for(engine, "connect")
        def limit(connection: Any, _: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = %s", (int(1000 * ANSWER),))

        return engine

    def check(self) -> None:
        """Raises UserError, before anything is written, where the database cannot be reached."""
        connection = Connection(self)
        try:
            connection.ask("SELECT 1")
        except Away as error:
            raise self.unusable(error) from error
        connection.engine.dispose()

    def unusable(self, error: Away) -> UserError:
        return UserError(f"The database of --storage cannot be used ({error}): check its URL.")

    def reason(self, error: Exception) -> str:
        """The first line of an error of the database, without the password."""
        error = getattr(error, "orig", None) or error
        text = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
        options = (self.parts.query.get(name, "") for name in SECRET_OPTIONS)
        for secret in filter(None, (self.password, *options)):
            text = text.replace(secret if isinstance(secret, str) else secret[-1], "***")
        return text.rstrip(".")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One `bench` at a time in Optuna's tables: two would each add all trials. Waits for the database.

        Raises UserError where it stays away for PATIENCE seconds, or another one has the lock for so long.
        """
        connection = Connection(self)
        deadline = time.monotonic() + PATIENCE
        try:
            while not connection.locked(LEDGERS):
                if time.monotonic() > deadline:
                    raise UserError(f"The studies in {self.name} are locked by another command: try again.")
                time.sleep(PAUSE)
            yield
        finally:
            connection.engine.dispose()  # which also frees the lock


def storage_of(given: str | None = None) -> Storage | None:
    """What `--storage` names, else $BENCH_STORAGE; None: files. Nothing is connected yet.

    Raises UserError for what is no URL of a PostgreSQL database, without repeating it: it may hold a password.
    """
    text = given or os.environ.get(VARIABLE)
    if not text:
        return None
    from sqlalchemy import make_url
    from sqlalchemy.util import immutabledict

    where = "--storage" if given else VARIABLE
    if not SHAPE.fullmatch(text):
        raise UserError(f"{where} is no URL of a PostgreSQL database; {EXPECTED}.")
    url = make_url(text)
    query = dict(url.query)
    in_query = query.pop("password", "")
    password = url.password or (in_query if isinstance(in_query, str) else in_query[-1]) or None
    user = url.username if password is None else url.username or ""  # a password stands after a user's name
    return Storage(url._replace(drivername="postgresql", username=user, password=password, query=immutabledict(query)))


@dataclass
class Connection:
    """Statements for the database, each a transaction of its own; from any thread.

    since: when the database was missed first, None while it is there.  failed: when it was missed last.
    """

    storage: Storage
    since: float | None = None
    failed: float = -1e9
    reason: str = ""

    @cached_property
    def engine(self) -> Engine:
        return self.storage.engine()

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        """The rows of one statement.

        Raises Away where the database does not answer, then for PAUSE seconds without asking it, since a search for
        something to claim asks for every run; and UserError where it refuses the statement. After Away the statement
        may have been executed: the connection may have broken before the answer came.
        """
        from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

        if time.monotonic() - self.failed < PAUSE:
            raise Away(self.reason)
        try:
            with self.engine.connect() as connection:
                result = connection.exec_driver_sql(sql, tuple(values))
                rows = [tuple(row) for row in result] if result.returns_rows else []
        except DBAPIError as error:
            self.reason = self.storage.reason(error)
            if not isinstance(error, OperationalError | InterfaceError) and not error.connection_invalidated:
                raise UserError(f"The database {self.storage.name} cannot hold leases: {self.reason}.") from error
            self.failed = time.monotonic()
            self.since = self.failed if self.since is None else self.since
            raise Away(self.reason) from error
        self.since = None
        return rows

    def locked(self, key: int) -> bool:
        """Whether this connection has got an advisory lock. False while another has it or the database is away.

        Raises UserError where the database has been away for PATIENCE seconds.
        """
        try:
            return self.ask("SELECT pg_try_advisory_lock(%s)", (key,))[0][0]
        except Away:
            self.check_patience()
            return False

    def check_patience(self) -> None:
        """Raises UserError where the database has been away for PATIENCE seconds."""
        if self.since is not None and time.monotonic() - self.since > PATIENCE:
            raise UserError(
                f"The database {self.storage.name} has not been there for {PATIENCE:.0f} s ({self.reason}): issue the "
                "command again."
            )


def _wait(connection: Any) -> None:
    """What psycopg2 calls while it waits for the server. Where it raises, psycopg2 closes the connection."""
    from psycopg2 import OperationalError
    from psycopg2.extensions import POLL_OK, POLL_READ

    deadline = time.monotonic() + ANSWER
    while (state := connection.poll()) != POLL_OK:
        ready = select.poll()
        ready.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        if not ready.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            raise OperationalError(f"no answer within {ANSWER:g} s")
