"""Our own form, for someone's own data: a table of utterances and arrays beside it. Described in docs/data.md.

    utterances.csv       columns id, split (train | valid | test), text, and label, or one `emotion:NAME` column each
    audio.npz            one array (T, d) per utterance, named by its id; or a folder audio/ of <id>.npy
    vision.npz           the same
    text.npz             optional: text vectors; then the column text may be left out

The nominal length of a modality is that of the longest training utterance, at least 50. Models read no further, so
longer utterances of valid and test lose their end. If they counted, a test utterance would change what is trained.
No sequence is longer than hycon.data.importers.longest.LONGEST.

Nothing is unpickled, and no array is larger than what is there for it (hycon.data.arrays).
"""

from __future__ import annotations

import contextlib
import csv
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.arrays import BAD_ZIP, read_npy
from hycon.data.importers.common import Imported, Utterance, check_folder, identity, numbers
from hycon.data.importers.longest import crop
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.errors import UserError

TABLE = "utterances.csv"
EMOTION = "emotion:"
SHORTEST = 50  # nominal length at the least: MAG-BERT's, as in hycon.data.importers.convert
SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}
# Bytes that a .npz may unpack to, as a multiple of its own and what any may have; chosen here. Features are 1 to 10
# times their file. Of zeros, for a modality that is not there, 4 MB of zip can hold 4 GiB for every utterance.
LARGER, SPARE = 200, 2**30
Getter = Callable[[str], np.ndarray]  # an utterance's id -> its array


def recognise(path: Path) -> bool:
    return (path / TABLE).is_file()


def read(path: Path, name: str) -> Imported:
    """Utterances of the folder; UserError where the table or an array is missing or damaged."""
    check_folder(path, "plain", recognise(path), f"{TABLE}, audio.npz and vision.npz")
    rows, columns = _table(path / TABLE)
    emotions = [c.removeprefix(EMOTION) for c in columns if c.startswith(EMOTION)]
    if bool(emotions) == ("label" in columns):
        raise UserError(f"{TABLE} needs either a column label or columns {EMOTION}NAME; it has {', '.join(columns)}.")
    splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    cropped: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    with _arrays(path) as arrays:
        missing = [f"{m}.npz" for m in ("audio", "vision") if m not in arrays]
        if missing:
            raise UserError(
                f"{path} has no {' and no '.join(missing)}: for a modality that you do not have, give each utterance "
                "one row of one zero (docs/data.md, Your own data)."
            )
        for line, row in rows:
            split = SPLIT_NAMES.get(row["split"].strip().lower())
            if split is None:
                raise UserError(f"{TABLE}, line {line}: split is {row['split']!r}; expected train, valid or test.")
            utterance = _utterance(row, line, arrays, emotions)
            splits[split].append(crop(utterance, cropped[split]))  # now: thousands of long ones would fill the memory
    lengths = {m: max([SHORTEST, *(_steps(u, m) for u in splits["train"])]) for m in MODALITIES}
    return Imported(splits, lengths=lengths, emotions=emotions or None, cropped=cropped)


def read_unlabelled(path: Path) -> list[dict[str, Any]]:
    """Utterances to predict, in the order of the table: id, and whatever is there of words, text, audio and vision.

    path: the folder, or its table alone. Columns label, split and emotion:NAME need not be there, and are handed on as
    they are written.  Raises UserError where the table or an array is missing or damaged.
    """
    table = path / TABLE if path.is_dir() else path
    if not table.is_file():
        raise UserError(f"{path} has no {TABLE}; see docs/using-a-model.md.")
    rows, columns = _table(table, needs={"id"})
    if not rows:
        raise UserError(f"{table} holds no utterance.")
    if not path.is_dir() and "text" not in columns:
        raise UserError(f"{table} has no column text; it has {', '.join(columns)}.")
    handed_on = [c for c in columns if c in ("split", "label") or c.startswith(EMOTION)]
    found, seen = [], set()
    with _arrays(path) as arrays:
        for line, row in rows:
            name = identity(row["id"], f"{table.name}, line {line}")
            if name in seen:
                raise UserError(f"{table.name}, line {line}: the id {name!r} is there twice.")
            seen.add(name)
            values: dict[str, Any] = {m: get(name) for m, get in arrays.items()}
            words = {"words": row["text"].split()} if "text" in row else {}
            found.append({"id": name, **words, **values, **{column: row[column] for column in handed_on}})
    return found


def _steps(utterance: Utterance, modality: str) -> int:
    """Rows of a modality; of text without vectors, its words."""
    rows = getattr(utterance, modality)
    return len(utterance.words or ()) if rows is None else len(rows)


def _table(path: Path, needs: Collection[str] = ("id", "split")) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, strict=True)
            columns = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        open_quote = isinstance(error, csv.Error) and "unexpected end" in str(error)
        why = "a quotation mark is not closed" if open_quote else error
        remedy = ": save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise UserError(f"{path.name} is not a readable UTF-8 comma-separated table ({why}){remedy}.") from error
    twice = [column for column, n in Counter(columns).items() if n > 1]
    if twice:
        raise UserError(f"{path.name} has the column {twice[0]!r} more than once; keep one of them.")
    if not set(needs) <= set(columns):
        which = "columns" if len(needs) > 1 else "column"
        other = next((f": put commas in place of {sign!r}" for sign in ";\t" if sign in "".join(columns)), "")
        has = f"{', '.join(columns) or 'none'}{other}"
        raise UserError(f"{path.name} needs the {which} {' and '.join(needs)}; it has {has}.")
    for line, row in rows:
        if None in row or None in row.values():
            found = sum(value is not None for key, value in row.items() if key is not None) + len(row.get(None) or ())
            hint = ": put a text with commas between quotation marks" if found > len(columns) else ""
            raise UserError(f"{path.name}, line {line} has {found} columns, the header has {len(columns)}{hint}.")
    return rows, columns


def _utterance(row: dict[str, str], line: int, arrays: dict[str, Getter], emotions: list[str]) -> Utterance:
    place = f"{TABLE}, line {line}"
    name = identity(row["id"], place)
    if emotions:
        label: Any = np.array([_present(row[EMOTION + e], f"{place}: {e} of {name!r}") for e in emotions])
    else:
        label = _number(row["label"], f"{place}: the label of {name!r}", "a number")
    values = {m: _rows(get(name), f"{m} of {name!r} ({place})") for m, get in arrays.items()}
    words = row["text"].split() if "text" in row else None
    return Utterance(id=name, label=label, words=words, **values)


def _rows(array: np.ndarray, what: str) -> np.ndarray:
    """(T, d) float32. One vector for the whole utterance is a common mistake, so the message says what it should be."""
    if array.ndim == 1:
        form = "expected numbers in 2 dimensions, (rows, features)"
        raise UserError(f"{what} is an array of shape {array.shape}; {form}: one vector is one row, array[None].")
    return numbers(array, what, 2)


def _number(cell: str, what: str, expected: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise UserError(f"{what} is {cell!r}, which is not a number; expected {expected}.") from error


def _present(cell: str, what: str) -> int:
    """0 or 1, also written 0.0 or 1.0."""
    value = _number(cell, what, "0 or 1")
    if value not in (0, 1):
        raise UserError(f"{what} is {cell!r}; expected 0 or 1.")
    return int(value)


@contextlib.contextmanager
def _arrays(folder: Path) -> Iterator[dict[str, Getter]]:
    """Modality -> its arrays, of those that the folder has; of no folder none."""
    with contextlib.ExitStack() as stack:
        there = [m for m in MODALITIES if (folder / f"{m}.npz").is_file() or (folder / m).is_dir()]
        yield {m: stack.enter_context(_arrays_of(folder, m)) for m in there}


@contextlib.contextmanager
def _arrays_of(folder: Path, modality: str) -> Iterator[Getter]:
    """The arrays in MODALITY.npz, or else in MODALITY/<id>.npy."""
    packed = folder / f"{modality}.npz"
    if not packed.is_file():
        yield lambda name: _load(folder / modality, name)
        return
    try:
        archive = zipfile.ZipFile(packed)
        known = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except BAD_ZIP as error:
        raise UserError(f"{packed.name} is not a readable .npz file ({error}).") from error

    most, total = SPARE + LARGER * packed.stat().st_size, 0

    def get(name: str) -> np.ndarray:
        nonlocal total
        if name not in known:
            some = ", ".join(map(repr, [*known][:3])) + (" ..." if len(known) > 3 else "")
            raise UserError(f"{packed.name} has no array for utterance {name!r}; it holds {some or 'none'}.")
        total += known[name].file_size
        if total > most:
            raise UserError(f"{packed.name} unpacks to over {most} bytes, more than {LARGER} times its size; not read.")
        try:
            with archive.open(known[name]) as member:
                return read_npy(member, known[name].file_size)
        except BAD_ZIP as error:
            raise UserError(f"{packed.name}: the array of {name!r} is damaged or not numeric ({error}).") from error

    with archive:
        yield get


def _load(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.npy"
    if Path(name).name != name:
        raise UserError(f"The id {name!r} cannot name a file; use {folder.name}.npz, or ids without slashes.")
    if not path.is_file():
        raise UserError(f"{folder.name}/{path.name} is missing: utterance {name!r} has no {folder.name}.")
    try:
        with open(path, "rb") as handle:
            return read_npy(handle, path.stat().st_size)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder.name}/{path.name} is damaged or not numeric ({error}).") from error
