"""What a corpus is: its manifest on disk, and where corpora live. Imports no torch.

A corpus is a folder `<root>/<name>/` with

    manifest.json        what it is: source, sizes, dims, counts of non-finite values, sha256 of the files beside it
    corpus.safetensors   every split's arrays, ragged: the rows of all utterances one after the other, and offsets
    vectors.safetensors  (optional) word vectors of the corpus's own vocabulary, from a GloVe text file

`Manifest.sha256` is the identity of the data and part of every run's id. Since version 2 of the format it covers the
files and what of the manifest can move a number or the name of one. Corpora of version 1 keep the identity that they
had, which covers the files alone; to be imported again makes them version 2.

No file holds anything executable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hycon.errors import UserError, nearest
from hycon.files import abandoned

log = logging.getLogger(__name__)

MODALITIES = ("text", "audio", "vision")
SPLITS = ("train", "valid", "test")
LARGEST = (
    8 * 2**20
)  # bytes of a manifest, chosen here: one has a few kB, and JSON takes up to 50 times its size in memory
FORMAT_VERSION = 2  # of corpora that are written now

# The paper's splits and feature sizes (sections 4.1 and 4.4(2)); IEMOCAP's split sizes are not printed.
PAPER: dict[str, dict[str, Any]] = {
    "mosi": {"sizes": (1284, 229, 686), "text": (768, 300), "audio": (74,), "vision": (47,)},
    "mosei": {"sizes": (16265, 1869, 4643), "text": (768, 300), "audio": (74,), "vision": (35,)},
    "iemocap": {"sizes": None, "text": (300,), "audio": (74,), "vision": (35,)},
}
REST = 60.0  # seconds after which another machine's import no longer stands between its two renames; chosen here
AVERAGE = "average"  # what records call the mean over the emotions
IDENTITY = ("files", "lengths", "aligned", "emotions", "task", "own_glove", "label_range")
LABEL_RANGES = ([-3.0, 3.0], [-1.0, 1.0])  # CMU's corpora; CH-SIMS's
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Task = Annotated[str, msgspec.Meta(pattern=r"\A(sentiment|emotion)\Z")]
Alignment = Literal["word", "step", "none"]


@dataclass(frozen=True)
class Manifest:
    """manifest.json, key by key. Its types are what `decode_manifest` demands of a file."""

    name: str
    task: Task
    source: dict[str, Any]  # {"file": ..., "sha256": ..., "format": ...}
    sizes: dict[str, Count]  # split -> utterances
    dims: dict[str, Count]  # modality -> feature size; "text" is absent where the source has words only
    lengths: dict[str, Count]  # modality -> nominal (padded) length of a sequence, 50 for word-aligned MOSI
    aligned: Alignment  # "word": one audio and one vision row per word; "step": equal lengths, no words
    nonfinite: dict[str, dict[str, Count]]  # split -> {"audio": n, ...} values that became 0
    files: dict[str, str]  # file name -> sha256
    notes: list[str] = field(default_factory=list)  # part of the caption of every table that uses this corpus
    vectors: dict[str, Any] | None = None  # word vectors: file, sha256, dim, vocabulary, counts of unknown words
    emotions: list[str] | None = None  # emotion corpora: names in the label's order
    positives: dict[str, list[Count]] | None = None  # emotion corpora: split -> utterances with each emotion
    # sentiment corpora: protocol -> metric -> what hycon.metrics.constant_metrics has; absent in older manifests
    constant: dict[str, dict[str, float]] | None = None
    synthetic: bool = False
    # modality -> split -> counts of rows that repeat (hycon.data.repeats); absent in older manifests
    repeats: dict[str, dict[str, dict[str, Count]]] | None = None
    # what makes a test say too much (hycon.data.importers.leaks), in words; None in older manifests
    leaks: list[str] | None = None
    label_range: list[float] | None = None  # of sentiment labels, one of LABEL_RANGES; absent for [-3, 3]
    # split -> modality -> utterances that were cropped at import (hycon.data.importers.longest); None: none
    cropped: dict[str, dict[str, Count]] | None = None
    version: int = 1  # that of manifests without one; corpora that are written have FORMAT_VERSION

    @property
    def sha256(self) -> str:
        """Identity of the data, independent of where it lies and of what it was called.

        Of the files, the nominal lengths, the alignment, the emotions in their order, the task, whether the text
        vectors count as GloVe's, and the labels' range where it is not [-3, 3]; in version 1 of the files alone.
        """
        identity = {key: getattr(self, key) for key in IDENTITY} if self.version > 1 else dict(self.files)
        if identity.get("label_range") is None:  # of corpora from before it
            identity.pop("label_range", None)
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def files_sha256(self) -> str:
        """What the identity of the same files was in version 1."""
        return dataclasses.replace(self, version=1).sha256

    @property
    def label_bound(self) -> float:
        """Sentiment labels lie in [-bound, bound]: 3 or 1."""
        return max(self.label_range or LABEL_RANGES[0])

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
    with contextlib.suppress(OSError):
        restore(data_root(root))
    return sorted(p.parent.name for p in data_root(root).glob("*/manifest.json") if NAME.fullmatch(p.parent.name))


def list_corpora(root: str | os.PathLike | None = None) -> list[Manifest]:
    """The manifests of all corpora, without damaged ones: each is a warning in the log (stderr) and hides no other."""
    found = []
    for name in corpus_names(root):
        try:
            found.append(read_manifest(name, root))
        except UserError as error:
            log.warning("%s", error)
    return found


def restore(root: Path) -> None:
    """Put back what an import had moved out of the way, to `.NAME.*/old`, when it was killed. Raises OSError.

    An import that lives leaves its corpus without a folder for an instant only, so another machine's is put back after
    REST seconds.
    """
    for old in root.glob(".*/old"):
        name, beside = old.parent.name.split(".")[1], old.parent
        if not NAME.fullmatch(name) or (root / name).exists() or not (old / "manifest.json").is_file():
            continue
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            if abandoned(beside) or time.time() - beside.stat().st_mtime > REST:
                os.rename(old, root / name)
                beside.rmdir()


def named_after(name: str, corpora: Iterable[str]) -> str | None:
    """The one of `corpora` that `name` is or begins with: mosi for "mosi" and "mosi_resampled", none for "mosix"."""
    return next((c for c in corpora if name == c or name.startswith((f"{c}_", f"{c}-"))), None)


def read_manifest(name: str, root: str | os.PathLike | None = None) -> Manifest:
    """The manifest of corpus `name`. Raises UserError where there is none, or it is damaged or of a newer version."""
    path = corpus_folder(name, root) / "manifest.json"
    if not path.exists():
        with contextlib.suppress(OSError):
            restore(data_root(root))
    if not path.exists():
        names = corpus_names(root)
        hint = f"nearest: {nearest(name, names)}" if names else "none is imported yet"
        raise UserError(f"No corpus {name!r} in {data_root(root)} ({hint}): `bench data import {name} FILE` makes it.")
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError(f"no regular file of at most {LARGEST} bytes")
        return decode_manifest(path.read_bytes(), str(path))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): import the corpus again.") from error


class _Version(msgspec.Struct):
    version: int = 1


class _Source(msgspec.Struct):
    """The keys of `Manifest.source` that are read; there may be others."""

    file: str | None = None
    format: str | None = None
    sha256: str | None = None
    left_out: list[str] | None = None
    zeroed_vision: dict[str, Count] | None = None
    counts: dict[str, Count] | None = None


class _Vectors(msgspec.Struct):
    """Those of `Manifest.vectors`."""

    file: str | None = None
    dim: Count | None = None
    types: dict[str, Count] = {}
    tokens: dict[str, Count] = {}


def decode_manifest(content: bytes, where: str) -> Manifest:
    """The manifest in the file `where`; keys that are not known here are ignored.

    Raises UserError for a newer version; ValueError (of which msgspec's errors are) or RecursionError where a field has
    another type than Manifest's, the name could lead out of the data folder, or counts exceed their split.
    """
    version = msgspec.json.decode(content, type=_Version).version
    if version > FORMAT_VERSION:
        raise UserError(f"{where} was written by a newer version of this suite (format {version}): upgrade.")
    manifest = msgspec.json.decode(content, type=Manifest)
    msgspec.convert(manifest.source, _Source)
    msgspec.convert(manifest.vectors or {}, _Vectors)
    if not NAME.fullmatch(manifest.name):
        raise ValueError(f"its name is {manifest.name!r}")
    if manifest.label_range not in (None, *LABEL_RANGES):
        raise ValueError(f"its labels' range is {manifest.label_range}")
    for split, counts in (manifest.positives or {}).items():
        if max(counts, default=0) > manifest.sizes.get(split, 0):
            raise ValueError(f"its positives exceed the utterances of {split}")
    return manifest


def check_emotions(emotions: Sequence[str], where: str) -> None:
    """Raises UserError where names are empty, occur twice, or are that of the mean over all emotions."""
    for name in emotions:
        if not name.strip() or emotions.count(name) > 1:
            raise UserError(f"{where}: the emotion {name!r} has no name of its own; expected one for each.")
    if AVERAGE in emotions:
        raise UserError(f"{where}: an emotion cannot be called {AVERAGE!r}, the name of the mean over all emotions.")
