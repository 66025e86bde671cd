"""Word vectors from GloVe text files: one word per line, then its numbers. Plain, .gz or .zip, any dimension.

Only the corpus's words are kept, under the corpus's own spelling. A word is looked up as it is, then in lower
case, then without the punctuation around it (as it is, then in lower case); what is still unknown is a zero vector.
How many words (types) and occurrences (tokens) each step found is in the description.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import string
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from hycon.busy import at
from hycon.data.arrays import BAD_ZIP
from hycon.data.corpus import read_arrays, strings_of
from hycon.data.importers.convert import write_corpus
from hycon.data.manifest import SPLITS, Manifest, corpus_folder
from hycon.errors import UserError
from hycon.files import check_regular, sha256_file

PAPER_MEMBER = "300d"  # of a zip with several files: 300 dimensions are the paper's (section 4.4(2))
PUNCTUATION = string.punctuation + "“”‘’…–—¿¡«»"
LONGEST = 1 << 20  # bytes of a line; chosen here: 300 numbers take 3 kB. An archive can unpack to a line without end
WIDEST = 10_000  # dimensions; chosen here: GloVe has 300. Half a million would take 2 MB of memory a word
TOLD = 10_000  # lines after which it is said how far the file is read; chosen here
STEPS = ("exact", "lower", "stripped", "missing")


def read_vectors(
    path: str | os.PathLike, vocabulary: Mapping[str, int] | Iterable[str]
) -> tuple[dict[str, Any], list[str], np.ndarray]:
    """(description, words, matrix (V, d) float32) of those words of `vocabulary` that the file has.

    vocabulary: word -> occurrences, or all words one after the other.
    Raises UserError: unreadable or truncated file, a line with another number of values or none that are numbers
    (with its line number), a blank line that is not at the end, a file that knows none of the words.
    """
    path, counts = Path(path), Counter(vocabulary)
    check_regular(path)
    spelled = {word: spellings(word) for word in sorted(counts)}
    found, dim = _scan(path, {spelling for pairs in spelled.values() for _, spelling in pairs})
    words, rows = [], []
    types, tokens = Counter(dict.fromkeys(STEPS, 0)), Counter(dict.fromkeys(STEPS, 0))
    for word, pairs in spelled.items():
        step, spelling = next(((step, s) for step, s in pairs if s in found), ("missing", ""))
        types[step] += 1
        tokens[step] += counts[word]
        if step != "missing":
            words.append(word)
            rows.append(found[spelling])
    if not words:
        raise UserError(
            f"{path.name} has a vector for none of the corpus's {len(counts)} words; is it a GloVe text file?"
        )
    description = {"file": path.name, "sha256": sha256_file(path), "dim": dim, "vocabulary": len(counts)}
    return {**description, "types": dict(types), "tokens": dict(tokens)}, words, np.stack(rows)


def attach_vectors(name: str, file: str | os.PathLike, root: str | os.PathLike | None = None) -> Manifest:
    """Give the imported corpus `name` word vectors from `file`, in place of any it had. Atomic; its sha256 changes."""
    manifest, arrays = read_arrays(name, root)
    words = Counter(w for split in SPLITS for ws in strings_of(arrays, split).get("words") or () for w in ws)
    if not words:
        raise UserError(f"Corpus {name!r} has no words, so there is nothing to look up in {Path(file).name}.")
    return write_corpus(corpus_folder(name, root), manifest, arrays, read_vectors(file, words))


def spellings(word: str) -> list[tuple[str, str]]:
    """(step, spelling) under which a word is looked up, the first one first."""
    bare = word.strip(PUNCTUATION)
    steps = [("exact", word), ("lower", word.lower()), ("stripped", bare), ("stripped", bare.lower())]
    return [(step, spelling) for step, spelling in steps if spelling]


def _scan(path: Path, wanted: set[str]) -> tuple[dict[str, np.ndarray], int]:
    """The wanted words' vectors, in one pass that keeps nothing else in memory; and the dimension."""
    keys = {word.encode(): word for word in wanted}
    found: dict[str, np.ndarray] = {}
    dim = 0
    for number, line in _lines(path):
        if number == 1:
            header, dim = _first(line, path)
            if dim > WIDEST:
                raise UserError(f"{path.name} has vectors of {dim} dimensions; expected {WIDEST} at most.")
            if header:
                continue
        spaces = line.count(b" ")
        if spaces != dim:
            _check_width(line, spaces, dim, f"{path.name}, line {number}")
            key = line.rsplit(b" ", dim)[0]
        else:
            key = line[: line.index(b" ")]
        word = keys.get(key)
        if word is not None and word not in found:
            found[word] = _numbers(line, dim, f"{path.name}, line {number}")
    if dim == 0:
        raise UserError(f"{path.name} is empty; expected a GloVe text file.")
    return found, dim


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line) without its end, of a file without blank lines but at its end. Says how far it is read."""
    blank = 0
    try:
        with _open(path) as (handle, share):
            for number, line in enumerate(iter(lambda: handle.readline(LONGEST), b""), 1):
                if number % TOLD == 0:
                    at(f"{path.name}, {share():.0%}")
                if len(line) == LONGEST:
                    raise UserError(f"{path.name}, line {number} is over {LONGEST} bytes long; the file is damaged.")
                line = line.rstrip(b" \r\n")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                elif not line:
                    blank = blank or number
                    continue
                if blank:
                    raise UserError(f"{path.name}, line {blank} is blank; the file is damaged.")
                yield number, line
    except BAD_ZIP as error:
        raise UserError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """The unpacked file, and a function that says what share of the file itself has been read."""
    with open(path, "rb") as raw:
        size = os.fstat(raw.fileno()).st_size

        def share() -> float:
            return min(raw.tell() / max(size, 1), 1.0)

        start = raw.read(4)
        raw.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.open(raw) as unpacked:
                yield io.BufferedReader(unpacked, 1 << 20), share
        elif start == b"PK\x03\x04":
            with zipfile.ZipFile(raw) as archive, archive.open(_member(archive, path)) as member:
                yield io.BufferedReader(cast(io.RawIOBase, member), 1 << 20), share
        else:
            yield raw, share


def _member(archive: zipfile.ZipFile, path: Path) -> str:
    files = [info.filename for info in archive.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]
    chosen = files if len(files) == 1 else [file for file in files if PAPER_MEMBER in file]
    if len(chosen) != 1:
        raise UserError(f"{path.name} holds {', '.join(files) or 'no file'}; unpack it and give the one to use.")
    return chosen[0]


def _first(line: bytes, path: Path) -> tuple[bool, int]:
    """Whether the first line is word2vec's header ("400000 300"), and the dimension."""
    parts = line.split(b" ")
    if len(parts) == 2 and parts[0].isdigit() and parts[1].isdigit() and int(parts[1]) > 0:
        return True, int(parts[1])
    numeric = 0
    while numeric < len(parts) - 1 and _is_number(parts[-1 - numeric]):
        numeric += 1
    if numeric == 0:
        raise UserError(f"{path.name}, line 1 is not a word and its numbers; expected a GloVe text file.")
    return False, numeric


def _check_width(line: bytes, spaces: int, dim: int, place: str) -> None:
    """More values than `dim` are a word with spaces in it (". . ." in GloVe 840B), unless they are numbers, too."""
    extra = line.split(b" ")[1 : spaces - dim + 1] if spaces > dim else []
    if spaces < dim or all(_is_number(part) for part in extra):
        raise UserError(f"{place} has {spaces} values, expected {dim}; the file is damaged or cut off.")


def _is_number(part: bytes) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return True


def _numbers(line: bytes, dim: int, place: str) -> np.ndarray:
    try:
        vector = np.array(line.rsplit(b" ", dim)[1:], dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{place} holds a value that is no number ({error}).") from error
    if not np.isfinite(vector).all():
        raise UserError(f"{place} holds a value that is not finite.")
    return vector
