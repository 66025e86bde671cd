"""What a corpus is: its manifest on disk, and where corpora live. Imports no torch.

A corpus is a folder `<root>/<name>/` with

    manifest.json        what it is: source, sizes, dims, counts of non-finite values, sha256 of the files beside it
    corpus.safetensors   every split's arrays, ragged: the rows of all utterances one after the other, and offsets
    vectors.safetensors  (optional) word vectors of the corpus's own vocabulary, from a GloVe text file

No file holds anything executable.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hycon.errors import UserError, nearest

log = logging.getLogger(__name__)

MODALITIES = ("text", "audio", "vision")
SPLITS = ("train", "valid", "test")
FORMAT_VERSION = 1

# The paper's splits and feature sizes (sections 4.1 and 4.4(2)); IEMOCAP's split sizes are not printed.
PAPER: dict[str, dict[str, Any]] = {
    "mosi": {"sizes": (1284, 229, 686), "text": (768, 300), "audio": 74, "vision": 47},
    "mosei": {"sizes": (16265, 1869, 4643), "text": (768, 300), "audio": 74, "vision": 35},
    "iemocap": {"sizes": None, "text": (300,), "audio": 74, "vision": 35},
}
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Manifest:
    name: str
    task: str  # "sentiment" | "emotion"
    source: dict[str, Any]  # {"file": ..., "sha256": ..., "format": ...}
    sizes: dict[str, int]  # split -> utterances
    dims: dict[str, int]  # modality -> feature size; "text" is absent where the source has words only
    lengths: dict[str, int]  # modality -> nominal (padded) length of a sequence, 50 for word-aligned MOSI
    aligned: str  # "word": one audio and one vision row per word | "step": equal lengths, no words | "none"
    nonfinite: dict[str, dict[str, int]]  # split -> {"audio": n, ...} values that became 0
    files: dict[str, str]  # file name -> sha256
    notes: list[str] = field(default_factory=list)  # said in the caption of every table that uses this corpus
    vectors: dict[str, Any] | None = None  # word vectors: file, sha256, dim, vocabulary, oov counts
    emotions: list[str] | None = None  # emotion corpora: names in the label's order
    positives: dict[str, list[int]] | None = None  # emotion corpora: split -> utterances with each emotion
    synthetic: bool = False
    version: int = FORMAT_VERSION

    @property
    def sha256(self) -> str:
        """Identity of the data, independent of where it lies and of what it was called."""
        text = json.dumps(self.files, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def own_glove(self) -> bool:
        """Whether the text vectors that came with the source are GloVe's, as in MulT's files, which have no words."""
        return self.source.get("format") == "mult" and "text" in self.dims


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Where corpora live: the argument, else $BENCH_DATA, else ./data."""
    root = Path(root or os.environ.get("BENCH_DATA") or "data")
    return existing_folder(root, "a data folder (--data or BENCH_DATA)")


def existing_folder(path: Path, what: str) -> Path:
    """`path`, which need not exist. Raises UserError where something else than a folder is there."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, not {what}.")
    return path


def corpus_folder(name: str, root: str | os.PathLike | None = None) -> Path:
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not a corpus name: use lower-case letters, digits, '_' and '-'.")
    return data_root(root) / name


def corpus_names(root: str | os.PathLike | None = None) -> list[str]:
    """Folders with a manifest, damaged or not; without what a killed import left behind (".mosi.k3x9")."""
    return sorted(p.parent.name for p in data_root(root).glob("*/manifest.json") if NAME.fullmatch(p.parent.name))


def list_corpora(root: str | os.PathLike | None = None) -> list[Manifest]:
    """The manifests of all corpora. A damaged one hides no other: it is left out, and said on stderr (the log)."""
    found = []
    for name in corpus_names(root):
        try:
            found.append(read_manifest(name, root))
        except UserError as error:
            log.warning("%s", error)
    return found


def named_after(name: str, corpora: Iterable[str]) -> str | None:
    """The one of `corpora` that `name` is or begins with: mosi for "mosi" and "mosi_resampled", none for "mosix"."""
    return next((c for c in corpora if name == c or name.startswith((f"{c}_", f"{c}-"))), None)


def read_manifest(name: str, root: str | os.PathLike | None = None) -> Manifest:
    folder = corpus_folder(name, root)
    path = folder / "manifest.json"
    if not path.exists():
        names = corpus_names(root)
        hint = f"nearest: {nearest(name, names)}" if names else "none is imported yet; see `bench data import --help`"
        raise UserError(f"No corpus {name!r} in {data_root(root)} ({hint}).")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in dataclasses.fields(Manifest)}
        if raw.get("version", 0) > FORMAT_VERSION:
            raise UserError(f"{path} was written by a newer version of this suite (format {raw['version']}): upgrade.")
        manifest = Manifest(**{k: v for k, v in raw.items() if k in known})
        for key in ("source", "sizes", "dims", "lengths", "nonfinite", "files"):
            if not isinstance(getattr(manifest, key), dict):
                raise ValueError(f"{key} is no object")
        check_manifest(manifest)
        return manifest
    except (ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): import the corpus again.") from error


def check_manifest(manifest: Manifest) -> None:
    """Raises ValueError where a field is not of its kind, or the name could lead out of the data folder."""
    if not isinstance(manifest.name, str) or not NAME.fullmatch(manifest.name):
        raise ValueError(f"its name is {manifest.name!r}")
    for key in ("sizes", "dims", "lengths"):
        if not all(type(n) is int and n >= 0 for n in getattr(manifest, key).values()):
            raise ValueError(f"{key} are no whole numbers")
    if not all(isinstance(counts, dict) for counts in manifest.nonfinite.values()):
        raise ValueError("nonfinite is no object of objects")
    if not all(isinstance(digest, str) for digest in manifest.files.values()):
        raise ValueError("files are not named with their sha256")
    for key, value in (("notes", manifest.notes), ("emotions", manifest.emotions or [])):
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ValueError(f"{key} are no list of texts")
    for split, counts in (manifest.positives or {}).items():
        most = manifest.sizes.get(split, 0)
        if not isinstance(counts, list) or not all(type(n) is int and 0 <= n <= most for n in counts):
            raise ValueError("positives are no counts of utterances")
    if not isinstance(manifest.vectors or {}, dict) or manifest.task not in ("sentiment", "emotion"):
        raise ValueError("vectors or task are not as they are written here")
