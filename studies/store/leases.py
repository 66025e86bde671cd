"""Leases: which process is busy with which run, so that several `bench` processes share one results folder.

A lease is a file `<folder>/<run id>.<generation>.json` that says who holds it. Its modification time is its heartbeat.
Exclusive creation (O_EXCL) decides who wins, on a local disk and on NFSv3 or later, and no lock is ever waited for:

* a run without a lease file is claimed by creating generation 0;
* a stale lease of generation g is taken over by creating g + 1, which only one taker can. A taker that then finds a
  file it had not seen before, or a stale one renewed meanwhile, came too late: it removes its own and gives up.

A lease is stale when its holder is known to be dead (same machine, and no such process), or when its heartbeat is
older than `ttl` by the file system's own clock: clocks of different machines are never compared.

With --storage leases are rows of a database instead (studies.store.leases_postgres). All who share a results folder
must use the same kind: MARK in the folder says that it is the database, and whoever comes with files is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hycon.errors import UserError
from hycon.files import temporary
from hycon.host import machine, start_time
from studies.store.inside import Unfit, make_folder, open_regular, refuse_links
from studies.store.record import object_of

TTL = 60.0  # seconds without a heartbeat after which a lease of another machine is stale; chosen here
BEATS_PER_TTL = 12  # a heartbeat every 5 s: several may be late (a busy NFS server) before anything is taken over
LONGEST_TTL = 86400.0  # seconds that a lease file may ask for; chosen here, beyond what anybody sets
MARK = "postgresql.json"  # among the leases: they are in a database


class Held(Protocol):
    """A claim on a run. label: its name for people."""

    @property
    def label(self) -> str: ...

    def renew(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class FileLeases:
    """The leases of one results folder, as files in `folder`. studies.store.leases_postgres has the same methods."""

    folder: Path

    def check(self) -> None:
        """Raises UserError, before anything is run, where the folder's leases are in a database."""
        mark = self.folder / MARK
        if os.path.lexists(mark):
            raise UserError(
                f"The leases of {self.folder.parent} are in a PostgreSQL database: give --storage with the URL of the "
                f"one in {mark}; if it is gone and nothing runs here, delete that file."
            )

    def claim(self, run_id: str, ttl: float = TTL) -> Lease | None:
        self.check()
        lease = claim(self.folder, run_id, ttl)
        try:
            self.check()  # again: who takes them to a database notes that first, then looks for leases like this one
        except UserError:
            if lease is not None:
                lease.release()
            raise
        return lease

    def leased(self) -> set[str]:
        """Ids of the runs that have a lease, live or stale, by one look."""
        try:
            return {name.partition(".")[0] for name in os.listdir(self.folder) if not name.startswith(".")}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _unusable(self.folder, error) from error

    def survey(self, ttl: float = TTL) -> tuple[set[str], dict[str, list[Held]]]:
        self.check()
        return survey(self.folder, ttl)


@dataclass(frozen=True)
class Lease:
    """A claim on a run, held by this process until `release`, or until its heartbeat stops for its ttl."""

    path: Path
    inode: int

    @property
    def label(self) -> str:
        return f"leases/{self.path.name}"

    def renew(self) -> None:
        """Beat. A disk in trouble shows when the record is written; the heartbeat need not die of it."""
        with contextlib.suppress(OSError):
            if self._mine():
                os.utime(self.path)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if self._mine():
                self.path.unlink()

    def _mine(self) -> bool:
        """False where it was taken over while this process was suspended."""
        return self.path.lstat().st_ino == self.inode


def claim(folder: Path, run_id: str, ttl: float = TTL) -> Lease | None:
    """The lease on `run_id`, or None while another live process holds it.

    Whoever gets it must look at the store once more: the run may have been finished just before.
    Raises UserError where the folder cannot be written.
    """
    try:
        make_folder(folder.parent, folder)
        seen = _files(folder, run_id)
        if any(_alive(path, stat, ttl) for path, stat in seen.items()):
            return None
        generation = 1 + max((_generation(path) for path in seen), default=-1)
        mine = folder / f"{run_id}.{generation}.json"
        inode = _create(mine, ttl)
        if inode is None:
            return None
        now = _files(folder, run_id)
        now.pop(mine, None)
        if any(seen.get(path, _GONE)[:2] != stat[:2] for path, stat in now.items()):
            mine.unlink(missing_ok=True)
            return None
        for path in now:
            path.unlink(missing_ok=True)
        return Lease(mine, inode)
    except OSError as error:
        raise _unusable(folder, error) from error


@contextlib.contextmanager
def heartbeat(leases: dict[str, Held], ttl: float = TTL) -> Iterator[None]:
    """Renew all of `leases` (run id -> lease; it may change meanwhile) until the block ends, then release them."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(ttl / BEATS_PER_TTL):
            for lease in list(leases.values()):
                lease.renew()

    thread = threading.Thread(target=beat, name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        while leases:
            leases.popitem()[1].release()


def survey(folder: Path, ttl: float = TTL) -> tuple[set[str], dict[str, list[Held]]]:
    """(run ids that a live process is busy with, run id -> its stale leases), for looking after a results folder.

    A stale lease is freed with `release`, which leaves it alone where it was taken over meanwhile.
    Raises UserError where the folder cannot be read.
    """
    live: set[str] = set()
    stale: dict[str, list[Held]] = {}
    try:
        refuse_links(folder.parent, folder)
        for run_id in sorted({path.name.split(".")[0] for path in folder.glob("[!.]*.*.json")}):
            for path, seen in _files(folder, run_id).items():
                if _alive(path, seen, ttl):
                    live.add(run_id)
                else:
                    stale.setdefault(run_id, []).append(Lease(path, seen[0]))
    except OSError as error:
        raise _unusable(folder, error) from error
    return live, stale


# ------------------------------------------------------------------------------------------------- internals

_Seen = tuple[int, int, dict[str, Any]]  # inode, modification time in ns, holder (empty: unreadable)
_GONE: _Seen = (-1, -1, {})


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(f"Cannot write or read leases in {folder}: {error.strerror or error}.")


def _files(folder: Path, run_id: str) -> dict[Path, _Seen]:
    """All generations of a lease. Opened, not only stat'ed: on NFS only opening asks the server for the time."""
    seen: dict[Path, _Seen] = {}
    for path in sorted(folder.glob(f"{run_id}.*.json")):
        try:
            with open_regular(folder.parent, path) as handle:
                stat = os.fstat(handle.fileno())
                text = handle.read()
        except FileNotFoundError:  # released between listing and opening
            continue
        except Unfit:  # nobody's lease; stale when it is old
            stat, text = path.lstat(), b""
        try:
            holder = object_of(text)
        except ValueError:  # created this instant and not yet written, or its writer was killed in between
            holder = {}
        seen[path] = (stat.st_ino, stat.st_mtime_ns, holder)
    return seen


def _generation(path: Path) -> int:
    part = path.name.split(".")[-2]
    return int(part) if part.isdecimal() else 0


def _create(path: Path, ttl: float) -> int | None:
    """Create the lease file and return its inode, or None where another process was first."""
    holder = {"nonce": uuid.uuid4().hex, "ttl": ttl, **me()}
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    try:
        os.write(handle, json.dumps(holder).encode())
        return os.fstat(handle).st_ino
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def _alive(path: Path, seen: _Seen, ttl: float) -> bool:
    _, modified, holder = seen
    if is_dead(holder.get("machine"), holder.get("pid"), holder.get("start")):
        return False
    own = holder.get("ttl")
    ttl = own if isinstance(own, int | float) and own <= LONGEST_TTL else ttl
    # abs: where the clock was set back, whoever lives beats by the new one soon.
    return abs(_clock(path.parent) - modified) < ttl * 1e9


def is_dead(of_machine: Any, pid: Any, start: Any) -> bool:
    """Whether a holder was a process of this machine that has ended."""
    return of_machine == machine() and start_time(pid) != start


def _clock(folder: Path) -> int:
    """Now, in ns, by the clock that stamps the files of `folder`."""
    probe = temporary(folder / "clock")
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)


def me() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "machine": machine(), "pid": pid, "start": start_time(pid)}
