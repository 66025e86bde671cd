"""Files: written whole or not at all, checksums, TOML, and temporary names that say who is writing.

    .NAME.<machine>-<pid>-<start>.<random>.tmp        machine: 8 hex digits; start: of the process, as /proc has it

So what a killed process of this machine left is known to be abandoned at once. Anything else may belong to another
machine on the same folder; `bench doctor` deletes it by its age.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from hycon.host import machine, start_time

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
def _digest() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut. Raises OSError and leaves nothing."""
    temp = temporary(path)
    try:
        with open(temp, "xb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise
    handle_of_folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse to sync a folder
            os.fsync(handle_of_folder)
    finally:
        os.close(handle_of_folder)


def check_regular(path: Path) -> None:
    """Raises UserError where `path` is a pipe or a device, which may have no end or never begin."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is no regular file: a pipe or a device cannot be read here; save it as a file first.")


def sha256_file(path: Path) -> str:
    """64 hex digits. Raises OSError."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_toml(path: Path, name: str, remedy: str = "") -> dict[str, Any]:
    """What a file holds, which `name` calls in messages. Raises UserError where it is not there, or is no TOML."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {name}: {error.strerror or error}{remedy}.") from error
    except (ValueError, RecursionError) as error:  # of no UTF-8, no TOML, or nested without end
        raise UserError(f"{name} is no TOML file: {error}.") from error


def kept_digests(variable: str) -> dict[str, str]:
    """The digests that an earlier process kept as JSON in an environment variable; none where that is damaged."""
    try:
        known = json.loads(os.environ.get(variable, "{}"))
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}
