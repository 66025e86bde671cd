"""Temporary files and folders whose names say who is writing them, so that a killed process leaves none for long.

    .NAME.<machine>-<pid>-<start>.<random>.tmp        machine: 8 hex digits; start: of the process, as /proc has it

What a process of this machine left and no longer writes is known to be abandoned at once. Anything else may belong to
another machine on the same folder; `bench doctor` deletes it by its age.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import uuid
from functools import cache
from pathlib import Path
from typing import Any

_NAME = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<start>\d{1,20})\.[0-9a-f]{32}\.tmp")


def temporary(path: Path) -> Path:
    """A hidden name beside `path` that nobody else has; nothing is created."""
    pid = os.getpid()
    return path.with_name(f".{path.name}.{_digest()}-{pid}-{start_time(pid)}.{uuid.uuid4().hex}.tmp")


def abandoned(path: Path) -> bool:
    """Whether `path` is a temporary file or folder of a process of this machine that has ended."""
    found = _NAME.fullmatch(path.name)
    if found is None or found["machine"] != _digest():
        return False
    return start_time(int(found["pid"])) != int(found["start"])


def sweep(folder: Path) -> None:
    """Delete what is abandoned in `folder` (not below). What cannot be deleted stays; a link is not followed."""
    with contextlib.suppress(OSError):
        for path in list(folder.glob(".*.tmp")):
            if not abandoned(path):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@cache
def machine() -> str:
    """Names the space in which a pid means one process: containers may share a host name but not pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no /proc (macOS)
        return socket.gethostname()


@cache
def _digest() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def start_time(pid: Any) -> int | None:
    """When process `pid` of this machine started (a pid alone may be in use again), None if it is dead."""
    if not isinstance(pid, int):
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])  # state, field 3; starttime, field 22 of proc(5)
    except OSError:
        pass
    if os.path.isdir("/proc/self"):
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:  # someone else's process: alive
        pass
    return 0
