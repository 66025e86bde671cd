"""A corpus in memory: memory-mapped, checked against its manifest. Nothing is padded. Imports torch to load one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hycon.data.checksums import check_files
from hycon.data.manifest import MODALITIES, SPLITS, Manifest, check_emotions, corpus_folder, read_manifest
from hycon.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from hycon.data.ragged import Ragged

Read = TypeVar("Read")
TRIES = 10  # how often a corpus is read where imports put others in its place; chosen here


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
    return _undisturbed(name, root, _load)


def read_arrays(name: str, root: str | os.PathLike | None = None) -> tuple[Manifest, dict[str, np.ndarray]]:
    """The manifest and the arrays of corpus.safetensors, without torch. Raises UserError as `load` does."""

    def read(folder: Path, manifest: Manifest) -> tuple[Manifest, dict[str, np.ndarray]]:
        from safetensors.numpy import load_file

        arrays = load_file(folder / "corpus.safetensors")
        check_shapes(manifest, arrays)
        return manifest, arrays

    return _undisturbed(name, root, read)


def _undisturbed(name: str, root: str | os.PathLike | None, read: Callable[[Path, Manifest], Read]) -> Read:
    """What `read` makes of a corpus that is the one of its manifest, from the first look to the last.

    An import may put another one in its place meanwhile; then it is read anew.
    """
    from safetensors import SafetensorError

    folder = corpus_folder(name, root)
    for _ in range(TRIES):
        before = _state(folder)
        try:
            manifest = read_manifest(name, root)
            check_emotions(manifest.emotions or (), str(folder))
            check_files(folder, manifest)
            found = read(folder, manifest)
        except UserError:
            if _state(folder) == before and (before or not any(folder.parent.glob(f".{folder.name}.*/old"))):
                raise
            time.sleep(0.01)  # chosen here: an import has moved the corpus away, and puts the new one there at once
        except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            if _state(folder) == before:
                raise UserError(f"{folder} is damaged ({error}): import the corpus again.") from error
        else:
            if _state(folder) == before:
                return found
    raise UserError(f"{folder} was imported again each time that it was read: try when that has ended.")


def _state(folder: Path) -> list[tuple[str, int, int, int]]:
    """What is another one after an import: names, inodes, sizes and times of the files."""
    try:
        files = [(entry.name, entry.stat()) for entry in sorted(folder.iterdir())]
    except OSError:
        return []
    return [(name, status.st_ino, status.st_size, status.st_ctime_ns) for name, status in files]


def _load(folder: Path, manifest: Manifest) -> Corpus:
    from safetensors import safe_open

    with safe_open(folder / "corpus.safetensors", framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (not a dict)
    check_shapes(manifest, tensors)
    splits = {split: _split(tensors, split) for split in SPLITS}
    vectors = None
    if "vectors.safetensors" in manifest.files:
        with safe_open(folder / "vectors.safetensors", framework="pt") as handle:
            words = json.loads(handle.get_tensor("words").numpy().tobytes())
            vectors = {"words": words, "matrix": handle.get_tensor("matrix")}
    return Corpus(manifest, splits, vectors)


def check_shapes(manifest: Manifest, arrays: Mapping[str, Any]) -> None:
    """Raises ValueError where arrays or tensors do not have the sizes that the manifest says."""
    if bool(manifest.emotions) != (manifest.task == "emotion"):
        raise ValueError(f"its task is {manifest.task}, its emotions are {manifest.emotions}")
    for split in SPLITS:
        label, emotions = arrays[f"{split}.label"], manifest.emotions
        expected = (manifest.sizes.get(split), *([len(emotions)] if emotions else []))
        if tuple(label.shape) != expected:
            raise ValueError(f"{split}.label has shape {tuple(label.shape)}, expected {expected}")
        for modality in MODALITIES:
            rows = arrays.get(f"{split}.{modality}.rows")
            size = None if rows is None or len(rows.shape) != 2 else rows.shape[1]
            if size != manifest.dims.get(modality) or (size is None and modality != "text"):
                raise ValueError(f"{split}.{modality} has {size} features, not {manifest.dims.get(modality)}")
    if min(manifest.lengths.get(modality, 0) for modality in MODALITIES) < 1:
        raise ValueError("it has no nominal length of text, audio or vision")


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
