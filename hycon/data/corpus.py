"""A corpus in memory: memory-mapped, checked against its manifest. Sequences are `Ragged`: nothing is padded until a
model asks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycon.data.manifest import MODALITIES, SPLITS, Manifest, corpus_folder, read_manifest
from hycon.errors import UserError
from hycon.files import sha256_file

if TYPE_CHECKING:
    from hycon.data.ragged import Ragged


@dataclass(frozen=True)
class Split:
    ids: list[str]
    words: list[list[str]] | None
    text: Ragged | None
    audio: Ragged
    vision: Ragged
    label: Any  # (N,) float32, or (N, E) int64 for emotions

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Corpus:
    manifest: Manifest
    splits: dict[str, Split]
    vectors: dict[str, Any] | None = None  # {"words": [...], "matrix": (V, d)}

    @property
    def name(self) -> str:
        return self.manifest.name


def load(name: str, root: str | os.PathLike | None = None) -> Corpus:
    """Open an imported corpus: memory-mapped, checked against the sha256 in its manifest. Tensors are torch's.

    Raises UserError where the corpus is missing, damaged or was written by a newer version.
    """
    from safetensors import SafetensorError, safe_open

    from hycon.data.ragged import Ragged

    manifest = read_manifest(name, root)
    folder = corpus_folder(name, root)
    for file, digest in manifest.files.items():
        path = folder / file
        if not path.is_file() or Path(file).name != file:
            raise UserError(f"{path} is missing: import the corpus again.")
        if sha256_file(path) != digest:
            raise UserError(f"{path} does not have the sha256 of its manifest: it was changed; import it again.")
    try:
        with safe_open(folder / "corpus.safetensors", framework="pt") as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (not a dict)
        splits = {split: _split(tensors, split, Ragged) for split in SPLITS}
        vectors = None
        if "vectors.safetensors" in manifest.files:
            with safe_open(folder / "vectors.safetensors", framework="pt") as handle:
                words = json.loads(handle.get_tensor("words").numpy().tobytes())
                vectors = {"words": words, "matrix": handle.get_tensor("matrix")}
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise UserError(f"{folder} is damaged ({error}): import the corpus again.") from error
    return Corpus(manifest, splits, vectors)


def _split(tensors, split: str, ragged) -> Split:
    strings = json.loads(tensors[f"{split}.strings"].numpy().tobytes())
    sequences = {
        m: ragged.from_offsets(tensors[f"{split}.{m}.rows"], tensors[f"{split}.{m}.offsets"])
        for m in MODALITIES
        if f"{split}.{m}.rows" in tensors
    }
    label = tensors[f"{split}.label"]
    _check_lengths(split, strings, sequences, label)
    return Split(
        ids=strings["ids"],
        words=strings.get("words"),
        text=sequences.get("text"),
        audio=sequences["audio"],
        vision=sequences["vision"],
        label=label,
    )


def _check_lengths(split: str, strings, sequences, label) -> None:
    """Raises ValueError where ids, words, labels and sequences are not of one number, or offsets leave the rows."""
    numbers = {len(strings["ids"]), len(label), *(len(s) for s in sequences.values()), *map(len, _listed(strings))}
    if len(numbers) != 1 or not all(isinstance(name, str) for name in strings["ids"]):
        raise ValueError(f"{split} has ids, labels or sequences of different numbers")
    for modality, sequence in sequences.items():
        ends = sequence.starts + sequence.lengths
        if sequence.rows.dim() != 2 or sequence.starts.is_floating_point() or not len(ends):
            raise ValueError(f"{split}.{modality} is no table of rows")
        if sequence.starts[0] != 0 or int(sequence.lengths.min()) < 1 or ends[-1] != len(sequence.rows):
            raise ValueError(f"{split}.{modality} has offsets that are not those of its rows")


def _listed(strings) -> list[list]:
    return [strings["words"]] if strings.get("words") is not None else []
