"""`bench data download`: the CMU-MultimodalSDK's computational sequences from the addresses in `mmsdk`'s recipes.

A file grows as NAME.part and gets its name when it is whole: a cut connection is taken up where it broke (HTTP
Range, with If-Range against a file that changed meanwhile), here for a few attempts and again by the next call.
Checks: the length that the server announced, that HDF5 opens it (dead links answer with a web page), and sha256:
where CHECKSUMS knows it, and ever after the first download, by the NAME.sha256 written beside the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hycon.data.manifest import data_root
from hycon.errors import UserError, nearest
from hycon.files import sha256_file
from hycon.offline import offline

# What the csd importer reads, as (dictionary in mmsdk's recipe, key): words, audio, vision, labels.
RECIPES = {
    "mosi": (
        ("raw", "words"), ("highlevel", "COVAREP"), ("highlevel", "FACET 4.1"), ("labels", "Opinion Segment Labels"),
    ),
    "mosei": (("raw", "words"), ("highlevel", "COVAREP"), ("highlevel", "FACET 4.2"), ("labels", "Sentiment Labels")),
}  # fmt: skip
CHECKSUMS: dict[
    str, str
] = {}  # file name -> sha256; CMU publishes none, so none is known until someone vouches for one
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of data
ATTEMPTS = 4  # requests per address without any progress between them
PIECE = 1 << 14  # bytes; what a cut connection loses at most


class _Unusable(Exception):
    """This address will not give the file; another one might."""


@dataclass(frozen=True)
class _Options:
    timeout: tuple[float, float]
    pause: float  # seconds before the first repetition, doubled each time
    checksums: Mapping[str, str]


def download(
    name: str,
    root: str | os.PathLike | None = None,
    *,
    base_urls: Sequence[str] | None = None,
    progress: bool = True,
    checksums: Mapping[str, str] | None = None,
    timeout: tuple[float, float] = TIMEOUT,
    pause: float = 1.0,
) -> Path:
    """Fetch the .csd files of mosi or mosei into `<root>/downloads/<name>` and return that folder.

    base_urls: servers to try in turn in place of CMU's, each with the recipe's paths below it.
    progress: a bar per file on a terminal, a line per file elsewhere.  checksums: file name -> sha256.
    Raises UserError, with the manual route, where a file cannot be had or is not what it should be; what was
    fetched by then is kept, and the next call goes on from there.
    """
    if name not in RECIPES:
        raise UserError(f"No download is known for {name!r}; nearest: {nearest(name, RECIPES)}. Others: import a file.")
    if offline():
        raise UserError("A download needs the network, but --offline (or BENCH_OFFLINE) says to use none.")
    options = _Options(timeout, pause, CHECKSUMS if checksums is None else checksums)
    folder = data_root(root) / "downloads" / name
    addresses = _addresses(name)
    files = ", ".join(path.rsplit("/", 1)[-1] for _, path in addresses)
    manual = (
        f"By hand: put {files} into {folder} (from a colleague, or where the CMU-MultimodalSDK's page points to now), "
        f"then `bench data import {name} {folder} --format csd`."
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder), _bar(progress) as bar:
            for server, path in addresses:
                urls = [f"{base.rstrip('/')}{path}" for base in base_urls or [server]]
                _file(urls, folder / path.rsplit("/", 1)[-1], options, bar)
    except _Unusable as error:
        raise UserError(f"{error} {manual}") from error
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {error.strerror or error}.") from error
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two downloads at once would write into the same .part files."""
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another download into {folder} is running; wait for it.") from error
        yield


def _addresses(name: str) -> list[tuple[str, str]]:
    """(server, path) of each file in mmsdk's recipe."""
    from hycon.data.importers.csd import import_mmsdk

    recipe = getattr(import_mmsdk(), f"cmu_{name}")
    parts = [urlsplit(getattr(recipe, group)[key]) for group, key in RECIPES[name]]
    return [(f"{part.scheme}://{part.netloc}", part.path) for part in parts]


def _file(urls: Sequence[str], target: Path, options: _Options, bar: Callable[..., None]) -> None:
    expected = options.checksums.get(target.name) or _recorded(target)
    if target.exists():
        if expected and sha256_file(target) != expected:
            raise _Unusable(
                f"{target} does not have the sha256 {expected[:12]}...: it was changed; delete it and repeat."
            )
        bar(target.name, done=target.stat().st_size, total=target.stat().st_size, note="already there")
        _record(target)
        return
    part = target.with_name(target.name + ".part")
    problems = []
    for url in urls:
        try:
            _fetch(url, part, options, bar)
            break
        except _Unusable as error:
            problems.append(str(error))
    else:
        kept = f" The {part.stat().st_size} bytes fetched so far are kept." if part.exists() else ""
        raise _Unusable(f"{target.name} could not be downloaded: {'; '.join(problems)}.{kept}")
    _verify(part, target, expected)
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(part, target)
    _tag(part).unlink(missing_ok=True)
    _record(target)


def _verify(part: Path, target: Path, expected: str | None) -> None:
    """A file that is not what it should be is deleted, so that the next call starts afresh."""
    whole, found = _is_whole(part), sha256_file(part)
    if whole and expected in (None, found):
        return
    part.unlink()
    _tag(part).unlink(missing_ok=True)
    if not whole:
        raise _Unusable(f"{target.name} as sent is no whole HDF5 file (a web page in its place?); it was deleted.")
    raise _Unusable(
        f"{target.name} as sent has sha256 {found[:12]}..., expected {str(expected)[:12]}...; it was deleted."
    )


def _is_whole(path: Path) -> bool:
    """Whether the file opens as HDF5, whose header says how long the file must be."""
    import h5py

    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


def _fetch(url: str, part: Path, options: _Options, bar: Callable[..., None]) -> None:
    """`url` into `part`, going on from the bytes that are there; _Unusable after ATTEMPTS without progress."""
    import requests

    failures = 0
    while True:
        before = _size(part)
        try:
            _request(url, part, options.timeout, bar)
            return
        except (requests.RequestException, EOFError) as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise _Unusable(f"{urlsplit(url).netloc} {_reason(error)}") from error
        time.sleep(min(options.pause * 2**failures, 30.0))


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | EOFError):
        return "keeps breaking the connection"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return f"failed ({type(error).__name__})"


def _request(url: str, part: Path, timeout: tuple[float, float], bar: Callable[..., None]) -> None:
    import requests

    have, tag = _size(part), _read(_tag(part))
    headers = {"Accept-Encoding": "identity"}  # a compressed answer could not be resumed
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == 416 and have == _total(answer):
            return
        if answer.status_code == 416 or (answer.status_code == 206 and _start(answer) != have):
            part.unlink(missing_ok=True)  # the file there is shorter than ours, or another one: begin again
            raise EOFError
        if answer.status_code >= 500:
            raise requests.HTTPError(f"{answer.status_code}")
        if answer.status_code not in (200, 206):
            raise _Unusable(f"{url} answers {answer.status_code} {answer.reason}")
        have = have if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        _tag(part).write_text(_validator(answer), encoding="utf-8")
        with open(part, "ab" if have else "wb") as handle:
            for piece in answer.iter_content(PIECE):
                handle.write(piece)
                have += len(piece)
                bar(part.name.removesuffix(".part"), done=have, total=total)
        if total is not None and have != total:
            raise EOFError


def _validator(answer: Any) -> str:
    """What If-Range may name: a strong ETag, else the date; a weak ETag says nothing about bytes."""
    etag = answer.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _start(answer: Any) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _total(answer: Any) -> int | None:
    found = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _recorded(target: Path) -> str | None:
    return _read(target.with_name(target.name + ".sha256")).split(" ")[0] or None


def _record(target: Path) -> None:
    """NAME.sha256 in the form that `sha256sum -c` reads."""
    path = target.with_name(target.name + ".sha256")
    if not path.exists():
        temp = path.with_name(path.name + ".part")
        temp.write_text(f"{sha256_file(target)}  {target.name}\n", encoding="utf-8")
        os.replace(temp, path)


@contextlib.contextmanager
def _bar(wanted: bool) -> Iterator[Callable[..., None]]:
    """bar(file, done=bytes, total=bytes or None, note="") on stderr: bars on a terminal, else a line per file."""
    if not wanted:
        yield lambda file, done, total, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    seen: dict[str, Any] = {}
    if not console.is_terminal:

        def line(file: str, done: int, total: int | None, note: str = "downloading") -> None:
            if seen.setdefault(file, True) is True:
                seen[file] = False
                console.print(f"{file}: {note}, {'unknown size' if total is None else f'{total / 2**20:.1f} MiB'}")

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def bar(file: str, done: int, total: int | None, note: str = "") -> None:
            if file not in seen:
                seen[file] = bars.add_task(file)
            bars.update(seen[file], completed=done, total=total, description=f"{file} {note}".strip())

        yield bar
