"""Importers: any known format, once, into a corpus of our own (hycon.data.manifest). Files are only read, never run.

A format is one file here with two functions, and one line in FORMATS:

    recognise(path) -> bool        whether the file or folder `path` is of this format; False also where it is damaged
    read(path, name) -> Imported   its utterances, for a corpus called `name`; UserError where it is of another format
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hycon.busy import at
from hycon.data.importers import csd, mag, misa, mmsa, mult, plain
from hycon.data.importers.common import Imported, Utterance, describe
from hycon.data.importers.convert import convert
from hycon.data.importers.pickles import kept, load_pickle
from hycon.data.manifest import LABEL_RANGES, SPLITS, Manifest, corpus_folder
from hycon.errors import UserError, check_known
from hycon.files import check_regular, sha256_file

__all__ = ["FORMATS", "Imported", "Utterance", "convert", "import_corpus"]

# In the order in which they are tried: mmsa before mult, which asks for less (a file of MMSA's with labels beside
# regression_labels would pass for mult); our own form last, since its table may lie beside the files it was made from.
FORMATS: dict[str, Any] = {"mag": mag, "mmsa": mmsa, "mult": mult, "misa": misa, "csd": csd, "plain": plain}


def import_corpus(
    name: str,
    file: str | os.PathLike,
    *,
    format: str = "auto",
    root: str | os.PathLike | None = None,
    text_vectors: str | os.PathLike | None = None,
    notes: Sequence[str] = (),
    label_range: float | None = None,
) -> Manifest:
    """Read `file` (a pickle, or a folder for misa, csd and plain) and write it as corpus `name` under `root`.

    text_vectors: a GloVe text file; the vectors of the corpus's words are kept with it.  notes: go into captions.
    label_range: 1 or 3 where the sentiment labels lie in [-1, 1] or [-3, 3]; by default what the format knows of it,
    else 3.
    Raises UserError where the file is missing, damaged, dangerous, too large or of no known format, and for all that
    `hycon.data.convert` refuses; then an earlier corpus of that name is left as it was.
    """
    corpus_folder(name, root)  # refuse a bad name before a long reading
    check_known("format", format, ["auto", *FORMATS])
    if label_range is not None and [-label_range, label_range] not in LABEL_RANGES:
        raise UserError(f"The labels' range is {label_range:g}; expected 1, for labels in [-1, 1], or 3.")
    path = Path(file)
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a file or folder of a known format ({', '.join(FORMATS)}).")
    if not path.is_dir():
        check_regular(path)
    try:
        with kept():
            format = _format_of(path) if format == "auto" else format
            imported = FORMATS[format].read(path, name)
        source = {"file": path.resolve().name, "sha256": digest(path), "format": format, **imported.details}
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:  # a shape that nobody foresaw
        raise UserError(f"{path.name} is not in the {format} format, or is damaged ({error}).") from error
    except MemoryError as error:
        raise UserError(f"{path.name} needs more memory than there is, or is damaged; nothing was imported.") from error
    words = _vectors(text_vectors, imported, path)
    at("checking and writing")
    return convert(
        name,
        imported.splits,
        source=source,
        root=root,
        lengths=imported.lengths,
        vectors=words,
        notes=notes,
        emotions=imported.emotions,
        label_range=imported.label_range if label_range is None else (-label_range, label_range),
        cropped=imported.cropped,
    )


def digest(path: Path) -> str:
    """sha256 of a file; of a folder, over the names and digests of the files in it."""

    def read(file: Path) -> str:
        at(f"checksum of {file.name}")
        return sha256_file(file)

    if path.is_file():
        return read(path)
    lines = [f"{p.relative_to(path).as_posix()} {read(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()  # of any bytes in names


def _format_of(path: Path) -> str:
    for format, module in FORMATS.items():
        if module.recognise(path):
            return format
    if path.suffix in (".csd", ".csv"):
        raise UserError(f"{path} is a file; give the folder that holds it (the formats csd and plain are folders).")
    content = path if path.is_dir() else load_pickle(path)  # says what is wrong with a file that is no pickle
    hint = "; a list is one split of the misa format: give its folder" if isinstance(content, list) else ""
    raise UserError(
        f"{path.name} is of no known format: expected {', '.join(FORMATS)}, found {describe(content)}{hint}. "
        "`--format NAME` says what one format expects."
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
