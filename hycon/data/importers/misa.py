"""MISA's folder: train.pkl, dev.pkl, test.pkl, each a list of ((word ids, visual, acoustic, words), label, segment).

word ids: (n,), indices into a vocabulary that is not in the files, so the words are needed.  visual: (n, 47) for
MOSI.  acoustic: (n, 74).  label: (1, 1), or (1, 7) for MOSEI.  segment: "video[k]".
Source: Hazarika et al., ACM MM 2020, the authors' repository MISA (format only).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hycon.data.importers.common import Imported, Utterance, describe, word_level
from hycon.data.importers.pickles import load_pickle
from hycon.errors import UserError

FILES = {"train.pkl": "train", "dev.pkl": "valid", "test.pkl": "test"}


def recognise(folder: Path) -> bool:
    return all((folder / file).is_file() for file in FILES)


def read(folder: Path) -> Imported:
    """Utterances of the three files in `folder`; UserError where they are not of this format."""
    if not folder.is_dir() or not recognise(folder):
        raise UserError(f"{folder} is not in the misa format: expected a folder with {', '.join(FILES)}.")
    splits = {}
    for file, split in FILES.items():
        content = load_pickle(folder / file)
        if not isinstance(content, list | tuple):
            raise UserError(
                f"{file} is not in the misa format: expected a list of utterances, found {describe(content)}."
            )
        splits[split] = [_utterance(item, f"item {i} of {file}") for i, item in enumerate(content)]
    return Imported(splits)


def _utterance(item: Any, place: str) -> Utterance:
    try:
        sequences, label, segment = item
        sequences = tuple(sequences)
        _ids, visual, acoustic = sequences[:3]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{place} is not ((word ids, visual, acoustic, words), label, segment); found {describe(item)}."
        ) from error
    words = sequences[3] if len(sequences) > 3 else None
    if not isinstance(words, list | tuple) or not all(isinstance(word, str | bytes) for word in words):
        raise UserError(
            f"{place} has word ids but no words, and its vocabulary is not in the file; "
            "use a file whose utterances carry their words as a fourth item."
        )
    return word_level(words, acoustic, visual, label, segment, place)
