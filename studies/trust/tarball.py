"""A .tar.gz of regular files with a manifest of their sha256, written reproducibly and read defensively.

Written: the same files give the same bytes (sorted names, no times, owners or modes of this machine; plain ustar).
`manifest.json` comes first and names every other file with size and sha256. Read: nothing in the archive is believed.
Refused are links, devices, directories, extended headers, names out of order or twice, files that are not as the
manifest says, and anything beyond the limits. At most one file is held in memory. Which names are allowed is decided in
studies.trust.archive.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hycon.errors import UserError
from hycon.files import temporary

MANIFEST = "manifest.json"
VERSION = 1
FORMAT = "hycon-bench results"
# Limits, chosen here: a run of the largest corpus (4,643 utterances, 512 features kept) is 10 MB, a table of 22 rows
# is 1,210 runs; what is refused above them is a mistake or an attack.
LARGEST_FILE = 256 * 2**20  # bytes, and less for some names
LARGEST_MANIFEST = 64 * 2**20
LARGEST_ARCHIVE = 16 * 2**30
MOST_FILES = 200_000
BLOCK = tarfile.BLOCKSIZE


class Refused(Exception):
    """What in an archive is not as `bench export` writes it, as a part of a sentence without full stop."""


@dataclass(frozen=True)
class Member:
    sha256: str
    size: int  # bytes


@dataclass(frozen=True)
class Contents:
    """The archive's manifest, as far as reading it is concerned."""

    format: str
    version: int
    files: dict[str, Member]


def pack(path: Path, files: Mapping[str, Callable[[], bytes]], about: Mapping[str, Any]) -> int:
    """Write an archive of `files` (name -> its content, read twice), whole or not at all; returns its size in bytes.

    about: goes into the manifest.  Raises UserError where it cannot be written, or where a file changed meanwhile.
    """
    listed = {}
    for name in sorted(files):
        content = files[name]()
        listed[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    manifest = json.dumps({"format": FORMAT, "version": VERSION, **about, "files": listed}, indent=1, sort_keys=True)
    temp = temporary(path)
    try:
        with (
            open(temp, "xb") as raw,
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            _append(archive, MANIFEST, manifest.encode())
            for name in listed:
                content = files[name]()
                if hashlib.sha256(content).hexdigest() != listed[name]["sha256"]:
                    raise UserError(f"{name} changed while it was packed: try again when no run is under way.")
                _append(archive, name, content)
        with open(temp, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temp, path)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temp.unlink(missing_ok=True)
    return path.stat().st_size


def _append(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # mtime, uid and gid 0
    info.size, info.mode = len(content), 0o644
    archive.addfile(info, io.BytesIO(content))


def unpack(path: Path, largest: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each file, "manifest.json" first, each checked against the manifest before it is given out.

    largest: the limit in bytes for a file of that name.
    What comes later may still be refused: read to the end once before acting on anything. Raises UserError.
    """
    try:
        with open(path, "rb") as raw, gzip.GzipFile(fileobj=raw) as packed:
            yield from _members(packed, largest)
    except Refused as error:
        raise UserError(f"{path} is refused, nothing was imported: {error}.") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as an archive of `bench export`: {reason}.") from error


def _members(packed: gzip.GzipFile, largest: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
    info = _header(packed)
    if info is None or info.name != MANIFEST or info.size > LARGEST_MANIFEST:
        raise Refused(f"it does not begin with a {MANIFEST}")
    manifest = _content(packed, info)
    files = _listed(manifest, largest)
    yield MANIFEST, manifest
    last = ""
    while (info := _header(packed)) is not None:
        name, member = info.name, files.pop(info.name, None)
        if name <= last:
            raise Refused(f"it holds {name!r} twice or out of order")
        if member is None:
            raise Refused(f"it holds {name!r}, which its manifest does not name")
        if info.size != member.size:
            raise Refused(f"{name!r} has {info.size} bytes, its manifest says {member.size}")
        content = _content(packed, info)
        if hashlib.sha256(content).hexdigest() != member.sha256:
            raise Refused(f"{name!r} does not have the sha256 of its manifest")
        yield name, content
        last = name
    if files:
        raise Refused(f"{len(files)} files of its manifest are missing, such as {min(files)!r}")
    rest = packed.read(2**20)  # tar pads with zeros to 10 KiB
    if rest.strip(b"\0") or len(rest) == 2**20:
        raise Refused("something follows its end")


def _header(packed: gzip.GzipFile) -> tarfile.TarInfo | None:
    """The next header, None at the end. tarfile's own reader is not used: it follows extended headers of any size."""
    block = packed.read(BLOCK)
    if block == bytes(BLOCK):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise Refused(f"it is torn or no tar file ({error})") from error
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise Refused(f"{info.name!r} is not a plain file (a link, a folder, a device or an extended header)")
    if info.size < 0:
        raise Refused(f"{info.name!r} has {info.size} bytes")
    return info


def _content(packed: gzip.GzipFile, info: tarfile.TarInfo) -> bytes:
    padded = -(-info.size // BLOCK) * BLOCK
    content = packed.read(padded)
    if len(content) != padded:
        raise Refused(f"it ends within {info.name!r}")
    return content[: info.size]


def _listed(manifest: bytes, largest: Callable[[str], int]) -> dict[str, Member]:
    """The manifest's files by name, within the limits."""
    try:
        contents = msgspec.json.decode(manifest, type=Contents)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused(f"its {MANIFEST} is none of `bench export` ({error})") from error
    if contents.format != FORMAT:
        raise Refused(f"its {MANIFEST} is none of `bench export` (its format is {contents.format!r})")
    if contents.version > VERSION:
        raise Refused(f"a newer version of this suite wrote it (archive {contents.version}); upgrade")
    for name, member in contents.files.items():
        if member.size > min(largest(name), LARGEST_FILE):
            raise Refused(f"it declares {name!r} of {member.size} bytes, beyond what is unpacked here")
    sizes = [member.size for member in contents.files.values()]
    if len(sizes) > MOST_FILES or sum(sizes) > LARGEST_ARCHIVE:
        raise Refused(f"it declares {len(sizes)} files of {sum(sizes)} bytes, beyond what is unpacked here")
    if min(sizes, default=0) < 0:
        raise Refused("it declares a negative size")
    return contents.files
