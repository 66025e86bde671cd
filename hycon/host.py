"""This machine: where the packages and their data lie, which processes are alive, and what becomes of freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
from functools import cache
from pathlib import Path
from typing import Any

from hycon.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def source_root() -> Path:
    """The folder that holds the packages: a checkout's root, or an environment's site-packages."""
    return Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """results/NAME as it comes with the suite: in an installed wheel, where pyproject.toml puts it, else in a checkout.

    Raises UserError where it is in neither.
    """
    installed, checkout = source_root() / "studies/_results" / name, source_root() / "results" / name
    for path in (installed, checkout):
        if path.exists():
            return path
    raise UserError(f"{name} is neither at {installed} nor at {checkout}: install the package again.")


@cache
def machine() -> str:
    """Names the space in which a pid means one process: containers may share a host name but not pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no /proc (macOS)
        return socket.gethostname()


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


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed memory instead of returning it to the kernel; changes no number. False elsewhere.

    Each large tensor is otherwise mapped anew and its pages are faulted in one by one, every step
    (benchmarks/README.md). For processes of our own only: it holds for the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> None:
    """Have glibc return to the kernel what is free now, also where it is asked to keep it otherwise."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
