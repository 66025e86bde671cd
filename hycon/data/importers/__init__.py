"""Importers: any known format once into our own (hycon.data.corpus). One file per format; nothing is run, only read."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hycon.data.importers import csd, mag, misa, mmsa, mult, plain
from hycon.data.importers.common import Imported, describe
from hycon.data.importers.convert import convert
from hycon.data.importers.pickles import load_pickle
from hycon.data.manifest import SPLITS, Manifest, corpus_folder
from hycon.errors import UserError, check_known
from hycon.files import sha256_file

PICKLES: dict[str, Any] = {"mag": mag, "mmsa": mmsa, "mult": mult}  # the order in which contents are recognised
FOLDERS: dict[str, Callable[[Path, str], Imported]] = {
    "misa": lambda folder, name: misa.read(folder),
    "csd": csd.read,
    "plain": lambda folder, name: plain.read(folder),
}
FORMATS = ("auto", "mag", "misa", "mult", "mmsa", "csd", "plain")


def import_corpus(
    name: str,
    file: str | os.PathLike,
    *,
    format: str = "auto",
    root: str | os.PathLike | None = None,
    text_vectors: str | os.PathLike | None = None,
    notes: Sequence[str] = (),
) -> Manifest:
    """Read `file` (a pickle, or a folder for misa, csd and plain) and write it as corpus `name` under `root`.

    text_vectors: a GloVe text file; the vectors of the corpus's words are kept beside it.  notes: said in captions.
    Raises UserError where the file is missing, damaged, dangerous or of no known format, and for all that
    `hycon.data.convert` refuses; then an earlier corpus of that name is left as it was.
    """
    corpus_folder(name, root)  # refuse a bad name before a long reading
    check_known("format", format, FORMATS)
    path = Path(file)
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a pickle, or a folder for misa, csd and plain.")
    try:
        format, imported = _read(path, name, format)
        source = {"file": path.resolve().name, "sha256": digest(path), "format": format, **imported.details}
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    return convert(
        name,
        imported.splits,
        source=source,
        root=root,
        lengths=imported.lengths,
        vectors=_vectors(text_vectors, imported, path),
        notes=notes,
        emotions=imported.emotions,
    )


def digest(path: Path) -> str:
    """sha256 of a file; of a folder, over the names and digests of the files in it."""
    if path.is_file():
        return sha256_file(path)
    lines = [f"{p.relative_to(path).as_posix()} {sha256_file(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read(path: Path, name: str, format: str) -> tuple[str, Imported]:
    if path.is_dir():
        format = _format_of_folder(path) if format == "auto" else format
        if format in PICKLES:
            raise UserError(f"{path} is a folder; the {format} format is one pickle file.")
        return format, FOLDERS[format](path, name)
    if format in FOLDERS or path.suffix in (".csd", ".csv"):
        raise UserError(
            f"{path} is a file; give the folder that holds it (the formats misa, csd and plain are folders)."
        )
    content = load_pickle(path)
    format = _format_of(content, path) if format == "auto" else format
    try:
        return format, PICKLES[format].parse(content, path.name)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:  # a shape that nobody foresaw
        raise UserError(f"{path.name} is not in the {format} format, or is damaged ({error}).") from error


def _format_of_folder(folder: Path) -> str:
    for format, module in (("misa", misa), ("csd", csd), ("plain", plain)):
        if module.recognise(folder):
            return format
    raise UserError(
        f"{folder} is of no known format: expected train.pkl, dev.pkl and test.pkl (misa), .csd files (csd), "
        f"or {plain.TABLE} (plain)."
    )


def _format_of(content: Any, path: Path) -> str:
    for format, module in PICKLES.items():
        if module.recognise(content):
            return format
    hint = "; a list is one split of the misa format: give its folder" if isinstance(content, list) else ""
    raise UserError(
        f"{path.name} is of no known format: expected {', '.join(PICKLES)} (a pickle with train, dev or valid, test), "
        f"found {describe(content)}{hint}."
    )


def _vectors(file: str | os.PathLike | None, imported: Imported, path: Path) -> Any:
    if file is None:
        return None
    from hycon.data.importers.word_vectors import read_vectors

    words = Counter(w for split in SPLITS for u in imported.splits.get(split, []) for w in u.words or ())
    if not words:
        raise UserError(
            f"{path.name} has no words to look up in {Path(file).name}, so nothing was imported; "
            "leave out --text-vectors."
        )
    return read_vectors(file, words)
