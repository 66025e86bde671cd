"""Leases as rows of a PostgreSQL table, for `--storage postgresql://...`; what a lease is, see studies.store.leases.

    bench_leases   a row for each run that somebody is busy with: who, and when the holder was last heard of
    bench_stores   the results folders whose leases are in this database

One statement decides who wins a run, and only the server's clock is asked. A lease is stale when its holder is known to
be dead (same machine, and no such process), or when it was silent for its ttl while the server was up: after a restart
of the server everybody has a whole ttl to be heard of again.

A results folder is known by an id that its first driver made, kept in <results>/leases/postgresql.json: machines may
see the folder under different paths, and several folders may share a database. A copy of the folder has the same id;
its drivers and those of the original wait for one another, which costs time and nothing else. While that file is there,
drivers and workers without the database are refused (studies.store.leases.FileLeases): they would not see what others
do.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from hycon.errors import UserError
from hycon.files import temporary
from studies.store.database import Away, Connection, Storage
from studies.store.inside import make_folder, read_inside
from studies.store.leases import MARK, TTL, Held, is_dead, me
from studies.store.leases import survey as survey_files
from studies.store.record import object_of

TABLES = """
SELECT pg_advisory_xact_lock(5209674231);  -- two may find that the tables are missing; any number of our own
CREATE TABLE IF NOT EXISTS bench_stores (id text PRIMARY KEY, created timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS bench_leases (
    store text NOT NULL, run text NOT NULL,
    nonce text NOT NULL,              -- of the claim, so that only its holder renews and releases it
    ttl double precision NOT NULL,    -- seconds
    beaten timestamptz NOT NULL,      -- when its holder was last heard of, by this server's clock
    host text, machine text, pid bigint, start bigint,
    PRIMARY KEY (store, run)
)
"""
# abs: where the clock was set back, whoever lives beats by the new one soon.
SILENT = "abs(extract(epoch FROM clock_timestamp() - greatest(held.beaten, pg_postmaster_start_time()))) >= held.ttl"
CLAIM = f"""
INSERT INTO bench_leases AS held (store, run, nonce, ttl, beaten, host, machine, pid, start)
VALUES (%s, %s, %s, %s, clock_timestamp(), %s, %s, %s, %s)
ON CONFLICT (store, run) DO UPDATE SET nonce = excluded.nonce, ttl = excluded.ttl, beaten = clock_timestamp(),
    host = excluded.host, machine = excluded.machine, pid = excluded.pid, start = excluded.start
WHERE held.nonce IN (excluded.nonce, %s) OR {SILENT}
RETURNING nonce
"""
HOLDER = f"SELECT nonce, {SILENT}, machine, pid, start FROM bench_leases AS held WHERE store = %s AND run = %s"
RENEW = "UPDATE bench_leases SET beaten = clock_timestamp() WHERE store = %s AND run = %s AND nonce = %s"
RELEASE = "DELETE FROM bench_leases WHERE store = %s AND run = %s AND nonce = %s"
ALL = f"SELECT run, nonce, {SILENT}, machine, pid, start FROM bench_leases AS held WHERE store = %s ORDER BY run"
RUNS = "SELECT run FROM bench_leases WHERE store = %s"


@dataclass(frozen=True)
class RowLease:
    """A claim on a run, held until `release`, or until its heartbeat stops for its ttl."""

    connection: Connection
    store: str
    run_id: str
    nonce: str

    @property
    def label(self) -> str:
        return f"leases/{self.run_id} ({self.connection.storage.name})"

    def renew(self) -> None:
        """Beat. A database that is away is asked again with the next beat."""
        with contextlib.suppress(Away, UserError):
            self.connection.ask(RENEW, (self.store, self.run_id, self.nonce))

    def release(self) -> None:
        with contextlib.suppress(Away, UserError):  # then it goes by its age, or with this process
            self.connection.ask(RELEASE, (self.store, self.run_id, self.nonce))


@dataclass
class PostgresLeases:
    """The leases of one results folder. folder: where its file leases would be.

    unsure: run id -> nonce of a claim of which only the answer may have been lost; it is tried again with that.
    """

    folder: Path
    storage: Storage
    store: str | None = None
    unsure: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connection = Connection(self.storage)

    def check(self) -> None:
        """Connect, and note in the folder that its leases are in this database.

        Raises UserError where the database cannot be reached or holds no leases of this folder although the folder
        says so, and where others hold leases of it as files.
        """
        self._refuse_files()
        try:
            self.store = _identify(self.folder, self.connection)
        except Away as error:
            raise self.storage.unusable(error) from error
        self._refuse_files()  # again: one may have been claimed before the note was there to be seen

    def claim(self, run_id: str, ttl: float = TTL) -> RowLease | None:
        """The lease on `run_id`; None while another live process holds it, and while the database is away.

        Raises UserError where the database has been away for database.PATIENCE seconds.
        """
        if self.store is None:
            self.check()
        assert self.store is not None
        nonce = self.unsure.pop(run_id, None) or uuid.uuid4().hex
        try:
            dead = nonce
            # Looked at first: most claims are of runs that others hold, and a refused CLAIM would write all the same.
            for held, silent, *holder in self.connection.ask(HOLDER, (self.store, run_id)):
                if is_dead(*holder):
                    dead = held
                elif held != nonce and not silent:
                    return None
            won = self.connection.ask(CLAIM, (self.store, run_id, nonce, ttl, *me().values(), dead))
        except Away:
            self.unsure[run_id] = nonce
            self.connection.check_patience()
            return None
        return RowLease(self.connection, self.store, run_id, nonce) if won else None

    def leased(self) -> set[str]:
        """Ids of the runs that have a lease; none while the database is away, which a claim reports in time."""
        if self.store is None:
            self.check()
        try:
            return {run_id for (run_id,) in self.connection.ask(RUNS, (self.store,))}
        except Away:
            return set()

    def survey(self, ttl: float = TTL) -> tuple[set[str], dict[str, list[Held]]]:
        """See studies.store.leases.survey; includes leases that were left as files before. Writes nothing."""
        live, stale = survey_files(self.folder, ttl)
        store = _known(self.folder)
        if store is None:
            return live, stale
        try:
            for run_id, nonce, silent, *holder in self.connection.ask(ALL, (store,)):
                if silent or is_dead(*holder):
                    stale.setdefault(run_id, []).append(RowLease(self.connection, store, run_id, nonce))
                else:
                    live.add(run_id)
        except Away as error:
            raise self.storage.unusable(error) from error
        return live, stale

    def _refuse_files(self) -> None:
        live, _ = survey_files(self.folder)
        if live:
            raise UserError(
                f"{len(live)} runs in {self.folder.parent} are held by commands without --storage: wait until these "
                "have ended, or stop them, and give --storage to all."
            )


# ------------------------------------------------------------------------------------------------- internals


def _identify(folder: Path, connection: Connection) -> str:
    """The id of the results folder, made if it has none. Raises Away, and UserError where it is another database's."""
    store = _known(folder)
    if connection.ask("SELECT to_regclass('bench_leases') IS NULL")[0][0]:
        connection.ask(TABLES)
    if store is None:
        store = uuid.uuid4().hex
        connection.ask("INSERT INTO bench_stores (id) VALUES (%s) ON CONFLICT DO NOTHING", (store,))
        if not _mark(folder, store, connection.storage.name):
            connection.ask("DELETE FROM bench_stores WHERE id = %s", (store,))
            store = _known(folder)
    if not connection.ask("SELECT id FROM bench_stores WHERE id = %s", (store,)):
        raise UserError(
            f"The leases of {folder.parent} are in another database than {connection.storage.name}: give the one in "
            f"{folder / MARK}; if it is gone and nothing runs here, delete that file."
        )
    return str(store)


def _mark(folder: Path, store: str, database: str) -> bool:
    """Note the id in the folder; False where another process was first."""
    content = json.dumps({"id": store, "database": database}).encode() + b"\n"
    temp = temporary(folder / MARK)
    try:
        make_folder(folder.parent, folder)
        try:
            temp.write_bytes(content)
            os.link(temp, folder / MARK)  # whole, and only where there is none
        finally:
            temp.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"Cannot write to {folder} ({error.strerror or error}).") from error
    return True


def _known(folder: Path) -> str | None:
    """The id of the results folder, None where its leases have never been in a database."""
    try:
        return str(object_of(read_inside(folder.parent, folder / MARK))["id"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"Cannot read {folder / MARK}: {error.strerror or error}.") from error
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder / MARK} is damaged: stop what runs here, delete it, and try again.") from error
