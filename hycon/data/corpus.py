"""A corpus in memory: memory-mapped, checked against its manifest. Nothing is padded. Imports torch to load one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycon.data.manifest import MODALITIES, SPLITS, Manifest, check_files, corpus_folder, read_manifest
from hycon.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from hycon.data.ragged import Ragged


@dataclass(frozen=True)
class Split:
    """N utterances.  words: None where the source had none.  text: Ragged of (d,), None where it had no vectors.
    audio, vision: Ragged of (d,).  label: (N,) float32, or (N, E) int64 for emotions."""

    ids: list[str]
    words: list[list[str]] | None
    text: Ragged | None
    audio: Ragged
    vision: Ragged
    label: Any

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
    """Open an imported corpus. Its tensors are torch's, mapped from the file.

    Raises UserError where the corpus is missing, damaged, changed or of a newer version of this suite.
    """
    from safetensors import SafetensorError, safe_open

    manifest = read_manifest(name, root)
    folder = corpus_folder(name, root)
    check_files(folder, manifest)
    try:
        with safe_open(folder / "corpus.safetensors", framework="pt") as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (not a dict)
        splits = {split: _split(tensors, split) for split in SPLITS}
        vectors = None
        if "vectors.safetensors" in manifest.files:
            with safe_open(folder / "vectors.safetensors", framework="pt") as handle:
                words = json.loads(handle.get_tensor("words").numpy().tobytes())
                vectors = {"words": words, "matrix": handle.get_tensor("matrix")}
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{folder} is damaged ({error}): import the corpus again.") from error
    return Corpus(manifest, splits, vectors)


def _split(tensors: dict[str, Any], split: str) -> Split:
    """The tensors whose names begin with `split`. Raises ValueError where they do not belong together."""
    from hycon.data.ragged import Ragged

    strings = strings_of(tensors, split)
    ids, words, label = strings["ids"], strings.get("words"), tensors[f"{split}.label"]
    sequences = {
        m: Ragged.from_offsets(tensors[f"{split}.{m}.rows"], tensors[f"{split}.{m}.offsets"])
        for m in MODALITIES
        if f"{split}.{m}.rows" in tensors
    }
    listed = [ids, label, *sequences.values()] + ([] if words is None else [words])
    if len({len(items) for items in listed}) != 1 or not all(isinstance(id, str) for id in ids):
        raise ValueError(f"{split} has ids, labels or sequences of different numbers")
    for modality, sequence in sequences.items():
        ends = sequence.starts + sequence.lengths
        if sequence.rows.dim() != 2 or sequence.starts.is_floating_point() or not len(ends):
            raise ValueError(f"{split}.{modality} is no table of rows")
        if sequence.starts[0] != 0 or int(sequence.lengths.min()) < 1 or ends[-1] != len(sequence.rows):
            raise ValueError(f"{split}.{modality} has offsets that are not those of its rows")
    return Split(ids, words, sequences.get("text"), sequences["audio"], sequences["vision"], label)


def read_arrays(folder: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """The arrays of corpus.safetensors, without torch. Raises UserError where a file differs from its manifest."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    check_files(folder, manifest)
    try:
        return load_file(folder / "corpus.safetensors")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): import the corpus again.") from error


def read_labels(manifest: Manifest, root: str | os.PathLike | None = None) -> dict[str, np.ndarray] | None:
    """Split -> labels (N,), or (N, E) of emotions, of the corpus that `manifest` describes, without torch.

    None where that corpus is not in the data folder, or cannot be read. The digests of its files are not checked.
    """
    from safetensors import SafetensorError, safe_open

    folder = corpus_folder(manifest.name, root)
    try:
        if read_manifest(manifest.name, root).sha256 != manifest.sha256:
            return None
        with safe_open(folder / "corpus.safetensors", framework="np") as handle:
            return {split: handle.get_tensor(f"{split}.label") for split in SPLITS}
    except (UserError, SafetensorError, OSError):
        return None


def strings_of(arrays: Mapping[str, Any], split: str) -> dict[str, Any]:
    """{"ids": [...], "words": [[...], ...] if there are words} of a split, from its array or tensor of bytes."""
    import numpy as np

    return json.loads(np.asarray(arrays[f"{split}.strings"]).tobytes())
