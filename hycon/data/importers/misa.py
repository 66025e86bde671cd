"""MISA's folder: train.pkl, dev.pkl, test.pkl, each a list of ((word ids, visual, acoustic, words), label, segment).

word ids: (n,), indices into a vocabulary that is not in the files, so the words are needed.  visual: (n, 47) for
MOSI.  acoustic: (n, 74).  label: (1, 1), or (1, 7) for MOSEI.  segment: "video[k]".
Source: Hazarika et al., ACM MM 2020, the authors' repository MISA (format only).
"""

from __future__ import annotations

from pathlib import Path

from hycon.data.importers.common import Imported, check_folder, word_level, wrong_format
from hycon.data.importers.pickles import load_pickle

ORDER = ("word ids", "vision", "audio", "words")
FILES = {"train.pkl": "train", "dev.pkl": "valid", "test.pkl": "test"}


def recognise(path: Path) -> bool:
    return all((path / file).is_file() for file in FILES)


def read(path: Path, name: str) -> Imported:
    """Utterances of the three files; UserError where they are not of this format."""
    check_folder(path, "misa", recognise(path), ", ".join(FILES))
    splits = {}
    for file, split in FILES.items():
        content = load_pickle(path / file)
        if not isinstance(content, list | tuple):
            raise wrong_format(file, "misa", "a list of utterances", content)
        splits[split] = [word_level(item, ORDER, f"item {i} of {file}") for i, item in enumerate(content)]
    return Imported(splits)
