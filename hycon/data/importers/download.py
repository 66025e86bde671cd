"""`bench data download`: the CMU-MultimodalSDK's computational sequences from the addresses in `mmsdk`'s recipes.

A file grows as NAME.part and gets its name when it is whole. A cut connection is resumed where it broke (HTTP Range,
with If-Range against a file that changed meanwhile): a few times here, and again by the next call. A whole file has
the length that the server announced, opens as HDF5 (dead links answer with a web page), and has the sha256 that the
first download left in NAME.sha256, or that somebody put there; CMU publishes none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hycon.data.manifest import data_root
from hycon.errors import UserError, nearest
from hycon.files import sha256_file, write_atomic
from hycon.offline import offline

# What the csd importer reads, as (dictionary in mmsdk's recipe, key): words, audio, vision, labels.
RECIPES = {
    "mosi": (
        ("raw", "words"), ("highlevel", "COVAREP"), ("highlevel", "FACET 4.1"), ("labels", "Opinion Segment Labels"),
    ),
    "mosei": (("raw", "words"), ("highlevel", "COVAREP"), ("highlevel", "FACET 4.2"), ("labels", "Sentiment Labels")),
}  # fmt: skip
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of data; chosen here
ATTEMPTS = 4  # requests per address without any progress between them; chosen here
PIECE = 1 << 14  # bytes; what a cut connection loses at most


class _Unusable(Exception):
    """This address will not give the file; another one might."""


@dataclass(frozen=True)
class _Options:
    timeout: tuple[float, float]
    pause: float  # seconds before the first repetition, doubled each time


def download(
    name: str,
    root: str | os.PathLike | None = None,
    *,
    base_urls: Sequence[str] | None = None,
    progress: bool = True,
    timeout: tuple[float, float] = TIMEOUT,
    pause: float = 1.0,
) -> Path:
    """Fetch the .csd files of mosi or mosei into `<root>/downloads/<name>` and return that folder.

    base_urls: servers to try in turn in place of CMU's, each with the recipe's paths below it.
    progress: a bar per file on a terminal, a line per file elsewhere.
    Raises UserError, with the manual route, where a file cannot be had or is not what it should be; what was
    fetched by then is kept, and the next call goes on from there.
    """
    if name not in RECIPES:
        raise UserError(f"No download is known for {name!r}; nearest: {nearest(name, RECIPES)}. Others: import a file.")
    if offline():
        raise UserError("A download needs the network, but --offline (or BENCH_OFFLINE) says to use none.")
    options = _Options(timeout, pause)
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
    """`target` from the first of `urls` that gives it; what is there already is only checked."""
    checksum = _beside(target, ".sha256")  # in the form that `sha256sum -c` reads
    expected = _text(checksum).split(" ")[0]
    if target.exists():
        if expected and sha256_file(target) != expected:
            raise _Unusable(
                f"{target} does not have the sha256 {expected[:12]}...: it was changed; delete it and repeat."
            )
        bar(target.name, done=_size(target), total=_size(target), note="already there")
    else:
        part = _beside(target, ".part")
        _fetch_from_any(urls, part, target.name, options, bar)
        _verify(part, target.name, expected)
        with open(part, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(part, target)
        _beside(part, ".etag").unlink(missing_ok=True)
    if not checksum.exists():
        write_atomic(checksum, f"{sha256_file(target)}  {target.name}\n".encode())


def _fetch_from_any(urls: Sequence[str], part: Path, name: str, options: _Options, bar: Callable[..., None]) -> None:
    problems = []
    for url in urls:
        try:
            return _fetch(url, part, options, bar)
        except _Unusable as error:
            problems.append(str(error))
    kept = f" The {_size(part)} bytes fetched so far are kept." if part.exists() else ""
    raise _Unusable(f"{name} could not be downloaded: {'; '.join(problems)}.{kept}")


def _verify(part: Path, name: str, expected: str) -> None:
    """A file that is not what it should be is deleted, so that the next call starts afresh."""
    import h5py

    problem, found = "", sha256_file(part)
    try:
        h5py.File(part, "r").close()  # the header says how long the file must be
    except OSError:
        problem = "is no whole HDF5 file (a web page in its place?)"
    if not problem and expected and found != expected:
        problem = f"has sha256 {found[:12]}..., expected {expected[:12]}..."
    if problem:
        part.unlink()
        _beside(part, ".etag").unlink(missing_ok=True)
        raise _Unusable(f"{name} as sent {problem}; it was deleted.")


def _fetch(url: str, part: Path, options: _Options, bar: Callable[..., None]) -> None:
    """`url` into `part`, going on from the bytes that are there; _Unusable after ATTEMPTS without progress."""
    import requests

    failures = 0
    while True:
        before = _size(part)
        try:
            return _request(url, part, options.timeout, bar)
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

    have, etag = _size(part), _beside(part, ".etag")
    headers = {"Accept-Encoding": "identity"}  # a compressed answer could not be resumed
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": _text(etag)} if _text(etag) else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        start, size = _content_range(answer)
        if answer.status_code == 416 and have == size:
            return
        if answer.status_code == 416 or (answer.status_code == 206 and start != have):
            part.unlink(missing_ok=True)  # the file there is shorter than ours, or another one: begin again
            raise EOFError
        if answer.status_code >= 500:
            raise requests.HTTPError(f"{answer.status_code}")
        if answer.status_code not in (200, 206):
            raise _Unusable(f"{url} answers {answer.status_code} {answer.reason}")
        have = have if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        etag.write_text(_validator(answer), encoding="utf-8")
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


def _content_range(answer: Any) -> tuple[int | None, int | None]:
    """Where the answer begins ("bytes 5-9/10") and the size of the file; None for what it does not say."""
    found = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+)?", answer.headers.get("Content-Range", ""))
    start, size = found.groups() if found else (None, None)
    return start and int(start), size and int(size)  # type: ignore[return-value]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


@contextlib.contextmanager
def _bar(wanted: bool) -> Iterator[Callable[..., None]]:
    """bar(file, done=bytes, total=bytes or None, note="") on stderr: bars on a terminal, else a line per file."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True, quiet=not wanted)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, Any] = {}
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bars:

        def bar(file: str, done: int, total: int | None, note: str = "downloading") -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(f"{file} {note}")
                if not console.is_terminal:
                    size = "unknown size" if total is None else f"{total / 2**20:.1f} MiB"
                    console.print(f"{file}: {note}, {size}")
            bars.update(tasks[file], completed=done, total=total)

        yield bar
