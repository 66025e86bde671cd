"""`--storage postgresql://...`: a PostgreSQL database for leases and Optuna's studies, instead of files in the store.

Records are files in either case: the run store is the truth, and a database that is lost costs no result.
A password never gets into a message or a file: it is cut off the URL here, and handed to the database only.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from hycon.errors import UserError

VARIABLE = "BENCH_STORAGE"
SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")  # as libpq, older tools, and SQLAlchemy write it
EXPECTED = "expected postgresql://USER@HOST:PORT/DATABASE (in names and passwords, write @ : / ? # % as %40 and so on)"
ANSWER = 5.0  # seconds to connect, and for a statement: ours take milliseconds, a busy disk seconds; chosen here
PAUSE = 1.0  # seconds between attempts to connect anew; chosen here
PATIENCE = 300.0  # seconds without the database after which a command gives up: a restart takes less; chosen here
LEDGERS = 0x48794C6564676572  # key of the advisory lock on Optuna's tables; any number that nobody else uses


class Away(Exception):
    """The database cannot be reached now. Says why, in one sentence's part without full stop."""


@dataclass(frozen=True)
class Storage:
    """A database. url: as libpq reads it, without the password, so that it may be printed and stored."""

    url: str
    password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Where it is, for people: host:port/database."""
        parts = urlsplit(self.url)
        return parts.netloc.rpartition("@")[2] + parts.path

    def full_url(self, scheme: str = "postgresql") -> str:
        """The URL with the password."""
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        secret = "" if self.password is None else ":" + quote(self.password, safe="")
        netloc = f"{user}{secret}@{host}" if at or secret else host
        return _url(scheme, netloc, parts.path, parts.query)

    def sqlalchemy_url(self) -> str:
        """As Optuna takes it. The driver is named: SQLAlchemy 2.1 looks for another one by default."""
        return self.full_url("postgresql+psycopg2")

    def connect(self, seconds: float = ANSWER) -> Any:
        """A connection for `execute`, whose statements the server ends after `seconds`.

        Asynchronous: psycopg2's others wait for the server without a limit, and deaf to Ctrl-C.
        Raises Away where the database cannot be reached, and UserError where psycopg2 is not installed.
        """
        try:
            import psycopg2
        except ImportError as error:
            raise UserError("--storage needs psycopg2: pip install 'hycon-bench[postgres]'.") from error
        secret = {} if self.password is None else {"password": self.password}
        try:
            connection = psycopg2.connect(self.url, async_=True, **secret)
            _wait(connection, ANSWER)
            execute(connection, "SET statement_timeout = %s", (int(1000 * seconds),))
        except psycopg2.Error as error:
            raise Away(self.said(error)) from error
        return connection

    def check(self) -> None:
        """Raises UserError, before anything is written, where the database cannot be reached."""
        try:
            self.connect().close()
        except Away as error:
            raise UserError(f"The database of --storage cannot be used ({error}): check its URL.") from error

    def said(self, error: Exception) -> str:
        """The first sentence of an error of the database's, in one line."""
        text = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
        return (text.replace(self.password, "***") if self.password else text).rstrip(".")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One `bench` at a time in Optuna's tables; two would each enqueue all trials. Waits for the database.

        Raises UserError where it stays away for PATIENCE seconds, or is in use by another that long.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection = self.connect(PATIENCE)
                break
            except Away as error:
                if time.monotonic() > deadline:
                    raise UserError(gone(self, str(error))) from error
                time.sleep(PAUSE)
        with contextlib.closing(connection):  # which also frees the lock
            try:
                execute(connection, "SELECT pg_advisory_lock(%s)", (LEDGERS,), PATIENCE)
            except Exception as error:
                raise UserError(f"The studies in {self.name} are locked ({self.said(error)}): try again.") from error
            yield


def storage_of(given: str | None = None) -> Storage | None:
    """What `--storage` names, else $BENCH_STORAGE; None: files. Nothing is connected yet.

    Raises UserError for what is no URL of a PostgreSQL database, without repeating it: it may hold a password.
    """
    text = given or os.environ.get(VARIABLE)
    if not text:
        return None
    where = "--storage" if given else VARIABLE
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme not in SCHEMES:
        raise UserError(f"{where} is no URL of a PostgreSQL database; {EXPECTED}.")
    try:
        parts = urlsplit(text)
        _ = parts.port  # read only to be checked
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        parts, options = None, []
    # An unescaped / ? # or @ in a password ends up in the wrong part.
    if parts is None or parts.fragment or "@" in parts.path + parts.query or parts.netloc.count("@") > 1:
        raise UserError(f"{where} cannot be read as the URL of a database; {EXPECTED}.")
    user, at, host = parts.netloc.rpartition("@")
    user, colon, secret = user.partition(":")
    password = unquote(secret) if colon else dict(options).get("password")
    query = urlencode([(key, value) for key, value in options if key != "password"], safe="/")
    return Storage(_url("postgresql", user + at + host, parts.path, query), password or None)


@contextlib.contextmanager
def inherited(storage: Storage | None) -> Iterator[None]:
    """Processes that are started in the block find the database, password and all, in their environment."""
    before = os.environ.get(VARIABLE)
    try:
        if storage is not None:
            os.environ[VARIABLE] = storage.full_url()
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def execute(connection: Any, sql: str, values: Sequence[Any] = (), seconds: float = ANSWER) -> list[tuple]:
    """The rows of a statement, each of which is a transaction. Raises psycopg2.Error, and Away after `seconds`."""
    cursor = connection.cursor()
    cursor.execute(sql, values)
    _wait(connection, seconds)
    return cursor.fetchall() if cursor.description else []


def _wait(connection: Any, seconds: float) -> None:
    from psycopg2.extensions import POLL_OK, POLL_READ

    deadline = time.monotonic() + seconds
    while (state := connection.poll()) != POLL_OK:
        ready = select.poll()
        ready.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        if not ready.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            raise Away(f"no answer within {seconds:g} s")


def _url(scheme: str, netloc: str, path: str, query: str) -> str:
    """Unlike urllib's, with // also where there is no host: that is this machine's own server."""
    return f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")


def gone(storage: Storage, reason: str) -> str:
    return f"The database {storage.name} has not been there for {PATIENCE:.0f} s ({reason}): issue the command again."


@dataclass
class Connection:
    """A connection that is made anew when it has broken; one statement at a time, from any thread.

    since: when it was missed first, None while it is there.  tried: when connecting failed last.
    """

    storage: Storage
    since: float | None = None
    tried: float = -1e9
    reason: str = ""
    lock: Any = field(default_factory=threading.Lock, repr=False)
    opened: Any = field(default=None, repr=False)

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        """The rows of one statement; it may be executed twice where the connection broke before the answer came.

        Raises Away at once while the database cannot be reached, and UserError where it refuses the statement.
        """
        import psycopg2

        with self.lock:
            for last in (False, True):
                self._open()
                try:
                    rows = execute(self.opened, sql, values)
                except psycopg2.Error as error:
                    said = self.storage.said(error)
                    broken = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
                    if not broken and not self.opened.closed:
                        raise UserError(f"The database {self.storage.name} cannot hold leases: {said}.") from error
                    self._close()
                    if last:
                        raise self._missed(said) from error
                except Away as error:
                    self._close()
                    raise self._missed(str(error)) from error
                except BaseException:  # Ctrl-C: nobody knows how far this came
                    self._close()
                    raise
                else:
                    self.since = None
                    return rows
        raise AssertionError("not reached")

    def check_patience(self) -> None:
        """Raises UserError where the database has been away for too long."""
        if self.since is not None and time.monotonic() - self.since > PATIENCE:
            raise UserError(gone(self.storage, self.reason))

    def _open(self) -> None:
        if self.opened is not None:
            return
        if time.monotonic() - self.tried < PAUSE:  # a search for something to claim asks for every run
            raise self._missed(self.reason)
        try:
            self.opened = self.storage.connect()
        except Away as error:
            self.tried = time.monotonic()
            raise self._missed(str(error)) from error

    def _close(self) -> None:
        self.opened.close()
        self.opened = None

    def _missed(self, reason: str) -> Away:
        self.reason = reason
        self.since = time.monotonic() if self.since is None else self.since
        return Away(reason)
