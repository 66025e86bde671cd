"""MAG-BERT's pickle (`mosi.pkl`, `mosei.pkl`): {"train", "dev", "test"} -> ((words, visual, acoustic), label, id), ...

words: list of n strings.  visual: (n, 47) for MOSI.  acoustic: (n, 74).  label: (1, 1).  Visual comes first.
Source: Rahman et al., ACL 2020, the authors' repository BERT_multimodal_transformer (format only).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hycon.data.importers.common import Imported, pickle_fits, pickled, word_level

ORDER = ("words", "vision", "audio")
SPLIT_NAMES = {"train": "train", "dev": "valid", "test": "test"}


def _fits(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(name), list | tuple) for name in SPLIT_NAMES)


def recognise(path: Path) -> bool:
    return pickle_fits(path, _fits)


def read(path: Path, name: str) -> Imported:
    """Utterances of the file; UserError where it is not of this format."""
    content = pickled(path, "mag", _fits, "lists under train, dev, test")
    return Imported(
        {
            split: [word_level(u, ORDER, f"item {i} of {source} in {path.name}") for i, u in enumerate(content[source])]
            for source, split in SPLIT_NAMES.items()
        }
    )
