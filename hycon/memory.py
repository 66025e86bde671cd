"""Keep freed memory inside a process that trains on a CPU."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt(3)


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
