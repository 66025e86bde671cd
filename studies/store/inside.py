"""Files inside a results folder, which others may have written: regular files of a limited size, and no links.

The folder itself may be a link; nothing below it is read or written through one. A link, a pipe, a device or a file
beyond its limit is `Unfit`, an OSError whose strerror says why as part of a sentence.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, TextIO

from hycon.errors import UserError

# Bytes of the largest file of each kind, chosen here. Of the published results: a record 13 kB, a study 22 kB; a run
# of the largest corpus has 10 MB of predictions. JSON takes up to 50 times its size in memory.
LARGEST = {".json": 8 * 2**20, ".journal": 64 * 2**20, ".npz": 256 * 2**20}
# The folders in a results folder
SHARED = ("runs", "leases", "queue", "studies", "corpora", "figures", "tensorboard", "quarantine", "again")


class Unfit(OSError):
    """What stands there is not opened."""


def largest(name: str) -> int:
    """The limit in bytes for a file of that name."""
    return LARGEST.get(os.path.splitext(name)[1], LARGEST[".json"])


def refuse_links(root: Path, path: Path) -> None:
    """Raises Unfit where `path`, or a folder between it and `root`, is a link, and where a name in it leads out again,
    as a corpus called "../x" in a record would. What is not there is no link."""
    below = path.relative_to(root)
    if ".." in below.parts:
        raise Unfit(errno.EINVAL, f"{below} leads out of it", str(path))
    for part in (*reversed(below.parents[:-1]), below) if below.parts else ():
        if (root / part).is_symlink():
            raise Unfit(errno.ELOOP, f"{part} is a link, which is not followed", str(root / part))


def fit(root: Path, path: Path) -> bool:
    """Whether there is a folder or a regular file, within its limit, and no link on the way to it."""
    try:
        refuse_links(root, path)
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_size <= largest(path.name))


def check_results(folder: Path) -> None:
    """Raises UserError where a folder holds other things, and nothing that a results folder has."""
    there = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if there and not any(path.name in SHARED for path in there):
        inside = sorted(path.name for path in there if (path / "runs").is_dir())
        some = ", ".join(inside[:3]) + (" ..." if len(inside) > 3 else "")
        hint = f"give one of those in it ({some})" if inside else "give another with --results"
        raise UserError(f"{folder} is no results folder, it has no runs and no studies: {hint}.")


def make_folder(root: Path, folder: Path) -> Path:
    """The folder, made where it is missing. Raises Unfit and other OSErrors."""
    refuse_links(root, folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_regular(root: Path, path: Path) -> BinaryIO:
    """Open a file for reading. Raises Unfit and other OSErrors. A pipe is not waited for."""
    refuse_links(root, path)
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    found = os.fstat(handle)
    if stat.S_ISREG(found.st_mode) and found.st_size <= largest(path.name):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISREG(found.st_mode):
        raise Unfit(errno.EFBIG, f"it has {found.st_size} bytes, more than is read here", str(path))
    raise Unfit(errno.EINVAL, "it is no regular file", str(path))


def read_inside(root: Path, path: Path) -> bytes:
    """The content of a file. Raises Unfit and other OSErrors."""
    limit = largest(path.name)
    with open_regular(root, path) as handle:
        content = handle.read(limit + 1)
    if len(content) > limit:
        raise Unfit(errno.EFBIG, "it grows beyond what is read here", str(path))
    return content


def open_log(log: Path, flags: int) -> TextIO:
    """A run's log for writing, in a folder that is made where it is missing. Raises OSError, also for a link or pipe.

    flags: O_APPEND, or O_TRUNC to begin it anew.
    """
    if log.parent.is_symlink():
        raise Unfit(errno.ELOOP, "its folder is a link", str(log.parent))
    log.parent.mkdir(parents=True, exist_ok=True)
    never_wait = os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | never_wait | flags, 0o644)
    return open(handle, "a", encoding="utf-8", errors="backslashreplace")  # names of files may be no UTF-8
