"""A corpus on disk and in memory.

On disk a corpus is a folder `<root>/<name>/` with

    manifest.json        what it is: source, sizes, dims, counts of non-finite values, sha256 of the files beside it
    corpus.safetensors   every split's arrays, ragged: the rows of all utterances one after the other, and offsets
    vectors.safetensors  (optional) word vectors of the corpus's own vocabulary, from a GloVe text file

No file holds anything executable. In memory a split's sequences are `Ragged`: nothing is padded until a model asks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hycon.errors import UserError, nearest

if TYPE_CHECKING:
    from hycon.data.ragged import Ragged

MODALITIES = ("text", "audio", "vision")
SPLITS = ("train", "valid", "test")
FORMAT_VERSION = 1

# The paper's splits and feature sizes (sections 4.1 and 4.4(2)); IEMOCAP's split sizes are not printed.
PAPER = {
    "mosi": {"sizes": (1284, 229, 686), "text": (768, 300), "audio": 74, "vision": 47},
    "mosei": {"sizes": (16265, 1869, 4643), "text": (768, 300), "audio": 74, "vision": 35},
    "iemocap": {"sizes": None, "text": (300,), "audio": 74, "vision": 35},
}


@dataclass(frozen=True)
class Utterance:
    """One utterance as an importer hands it over.

    label: a float in [-3, 3] (sentiment) or (E,) integers 0/1, one per emotion (emotion).
    words: the transcript's words, or None where the source has only vectors.
    text: (T, d) vectors that came with the source, or None.  audio: (T, d).  vision: (T, d).
    """

    id: str
    label: Any
    audio: np.ndarray
    vision: np.ndarray
    words: Sequence[str] | None = None
    text: np.ndarray | None = None


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
    synthetic: bool = False
    version: int = FORMAT_VERSION

    @property
    def sha256(self) -> str:
        """Identity of the data, independent of where it lies and of what it was called."""
        text = json.dumps(self.files, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Where corpora live: the argument, else $BENCH_DATA, else ./data."""
    return Path(root or os.environ.get("BENCH_DATA") or "data")


def corpus_folder(name: str, root: str | os.PathLike | None = None) -> Path:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise UserError(f"{name!r} is not a corpus name: use lower-case letters, digits, '_' and '-'.")
    return data_root(root) / name


def list_corpora(root: str | os.PathLike | None = None) -> list[Manifest]:
    base = data_root(root)
    found = sorted(p.parent.name for p in base.glob("*/manifest.json")) if base.is_dir() else []
    return [read_manifest(name, root) for name in found]


def read_manifest(name: str, root: str | os.PathLike | None = None) -> Manifest:
    folder = corpus_folder(name, root)
    path = folder / "manifest.json"
    if not path.exists():
        names = [p.parent.name for p in data_root(root).glob("*/manifest.json")]
        hint = f"nearest: {nearest(name, names)}" if names else "none is imported yet; see `bench data import --help`"
        raise UserError(f"No corpus {name!r} in {data_root(root)} ({hint}).")
    try:
        raw = json.loads(path.read_text())
        known = {f.name for f in dataclasses.fields(Manifest)}
        if raw.get("version", 0) > FORMAT_VERSION:
            raise UserError(f"{path} was written by a newer version of this suite (format {raw['version']}): upgrade.")
        return Manifest(**{k: v for k, v in raw.items() if k in known})
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): import the corpus again.") from error


def sha256_file(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# ---------------------------------------------------------------------------------------------------- writing


def convert(
    name: str,
    splits: Mapping[str, Sequence[Utterance]],
    *,
    source: Mapping[str, Any],
    root: str | os.PathLike | None = None,
    lengths: Mapping[str, int] | None = None,
    vectors: tuple[Mapping[str, Any], list[str], np.ndarray] | None = None,
    notes: Sequence[str] = (),
    emotions: Sequence[str] | None = None,
    synthetic: bool = False,
    replace: bool = True,
) -> Manifest:
    """Check `splits` (train, valid, test) and write them as corpus `name`. Nothing is written unless all is well.

    lengths: nominal length per modality; default 50 (MAG-BERT, section 1.3 of the reference driver).
    vectors: (description, words, (V, d) matrix), kept beside the corpus for the `glove` front-end.
    Raises UserError: empty or missing split, duplicate ids, NaN labels, dims that differ within the corpus or from
    the paper's corpus of that name, non-finite features other than COVAREP's -inf and NaN in audio.
    """
    folder = corpus_folder(name, root)
    where = str(source.get("file", name))
    _check_ids(splits, where)
    dims = _check_dims(name, splits, where)
    nonfinite: dict[str, dict[str, int]] = {}
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        arrays_of_split, nonfinite[split] = _pack(split, splits[split], emotions, where)
        arrays.update(arrays_of_split)
    manifest = Manifest(
        name=name,
        task="emotion" if emotions else "sentiment",
        source=dict(source),
        sizes={s: len(splits[s]) for s in SPLITS},
        dims=dims,
        lengths=dict(lengths or dict.fromkeys(MODALITIES, 50)),
        aligned=_alignment(splits),
        nonfinite=nonfinite,
        files={},
        notes=list(notes),
        emotions=list(emotions) if emotions else None,
        synthetic=synthetic,
    )
    return _write(folder, manifest, arrays, vectors, replace)


def _check_ids(splits: Mapping[str, Sequence[Utterance]], where: str) -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        if not splits.get(split):
            raise UserError(f"{where}: the {split} split is missing or empty; a corpus needs train, valid and test.")
        for utterance in splits[split]:
            if utterance.id in seen:
                raise UserError(
                    f"{where}: utterance {utterance.id!r} is in {seen[utterance.id]} and again in {split}; "
                    "ids must be unique, or test utterances could be trained on."
                )
            seen[utterance.id] = split


def _check_dims(name: str, splits: Mapping[str, Sequence[Utterance]], where: str) -> dict[str, int]:
    dims: dict[str, int] = {}
    has = {m: getattr(splits["train"][0], m) is not None for m in (*MODALITIES, "words")}
    if not has["text"] and not has["words"]:
        raise UserError(f"{where}: the utterances have neither words nor text vectors.")
    for split in SPLITS:
        for u in splits[split]:
            if (u.text is not None) != has["text"] or (u.words is not None) != has["words"]:
                raise UserError(f"{where}: some utterances have words or text vectors and {u.id!r} ({split}) differs.")
            for modality in MODALITIES:
                value = getattr(u, modality)
                if value is None:
                    continue
                if value.ndim != 2 or value.shape[0] == 0 or value.shape[1] == 0:
                    shape = tuple(value.shape)
                    raise UserError(f"{where}: {modality} of {u.id!r} ({split}) has shape {shape}, expected (T, d).")
                if dims.setdefault(modality, value.shape[1]) != value.shape[1]:
                    raise UserError(
                        f"{where}: {modality} of {u.id!r} ({split}) has {value.shape[1]} features per row, "
                        f"the utterances before it have {dims[modality]}."
                    )
            if u.words is not None and len(u.words) == 0:
                raise UserError(f"{where}: {u.id!r} ({split}) has no words.")
    paper = PAPER.get(name)
    if paper:
        for modality, size in dims.items():
            expected = paper[modality] if isinstance(paper[modality], tuple) else (paper[modality],)
            if size not in expected:
                raise UserError(
                    f"{where}: {modality} has {size} features per row, but {name} in the paper has "
                    f"{' or '.join(map(str, expected))}; import it under another name (such as {name}_{size})."
                )
    return dims


def _alignment(splits: Mapping[str, Sequence[Utterance]]) -> str:
    every = [u for split in SPLITS for u in splits[split]]
    if all(u.words is not None and len(u.words) == len(u.audio) == len(u.vision) for u in every):
        return "word"
    if all(u.text is not None and len(u.text) == len(u.audio) == len(u.vision) for u in every):
        return "step"
    return "none"


def _pack(
    split: str, utterances: Sequence[Utterance], emotions: Sequence[str] | None, where: str
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    arrays: dict[str, np.ndarray] = {}
    zeroed: dict[str, int] = {}
    for modality in MODALITIES:
        values = [getattr(u, modality) for u in utterances]
        if values[0] is None:
            continue
        rows = np.concatenate(values).astype(np.float32)
        offsets = np.cumsum([0, *(len(v) for v in values)]).astype(np.int64)
        zeroed[modality] = _clean(rows, offsets, modality, split, utterances, where)
        arrays[f"{split}.{modality}.rows"], arrays[f"{split}.{modality}.offsets"] = rows, offsets
    labels = _labels(utterances, emotions, split, where)
    arrays[f"{split}.label"] = labels
    strings: dict[str, Any] = {"ids": [u.id for u in utterances]}
    if utterances[0].words is not None:
        strings["words"] = [list(u.words or ()) for u in utterances]
    arrays[f"{split}.strings"] = np.frombuffer(json.dumps(strings, ensure_ascii=False).encode(), dtype=np.uint8)
    return arrays, zeroed


def _clean(rows, offsets, modality: str, split: str, utterances: Sequence[Utterance], where: str) -> int:
    """COVAREP writes log(0) = -inf and NaN into audio: those become 0 and are counted. All else is an error."""
    bad = ~np.isfinite(rows)
    forbidden = bad if modality != "audio" else np.isposinf(rows)
    if forbidden.any():
        row = int(np.argwhere(forbidden)[0][0])
        utterance = utterances[int(np.searchsorted(offsets, row, side="right")) - 1]
        value = rows[row][forbidden[row]][0]
        raise UserError(
            f"{where}: {modality} of utterance {utterance.id!r} ({split}) holds {value}; repair the source."
        )
    rows[bad] = 0.0
    return int(bad.sum())


def _labels(utterances: Sequence[Utterance], emotions: Sequence[str] | None, split: str, where: str) -> np.ndarray:
    if emotions:
        labels = np.stack([np.asarray(u.label) for u in utterances])
        if labels.shape[1:] != (len(emotions),) or not np.isin(labels, (0, 1)).all():
            raise UserError(f"{where}: emotion labels of {split} must be 0 or 1, one per emotion of {list(emotions)}.")
        return labels.astype(np.int64)
    labels = np.array([float(u.label) for u in utterances], dtype=np.float32)
    for utterance, label in zip(utterances, labels, strict=True):
        if not np.isfinite(label) or abs(label) > 3.0 + 1e-4:
            raise UserError(
                f"{where}: the label of {utterance.id!r} ({split}) is {label}; expected a number in [-3, 3]."
            )
    return labels


def _write(folder: Path, manifest: Manifest, arrays, vectors, replace: bool) -> Manifest:
    from safetensors.numpy import save_file

    if folder.exists() and not replace:
        raise UserError(f"{folder} exists already.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UserError(f"Cannot write to {folder.parent}: {error.strerror}.") from error
    try:
        save_file(arrays, temp / "corpus.safetensors")
        files = {"corpus.safetensors": sha256_file(temp / "corpus.safetensors")}
        described = None
        if vectors is not None:
            described, words, matrix = dict(vectors[0]), vectors[1], vectors[2]
            blob = np.frombuffer(json.dumps(words, ensure_ascii=False).encode(), dtype=np.uint8)
            save_file({"words": blob, "matrix": matrix.astype(np.float32)}, temp / "vectors.safetensors")
            files["vectors.safetensors"] = sha256_file(temp / "vectors.safetensors")
        manifest = dataclasses.replace(manifest, files=files, vectors=described)
        (temp / "manifest.json").write_text(json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False))
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            os.rename(folder, old / "old")
            os.rename(temp, folder)
            shutil.rmtree(old)
        else:
            os.rename(temp, folder)
    except OSError as error:
        shutil.rmtree(temp, ignore_errors=True)
        raise UserError(f"Cannot write {folder}: {error.strerror or error}; nothing was changed.") from error
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    return manifest


# ---------------------------------------------------------------------------------------------------- reading


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
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): import the corpus again.") from error
    return Corpus(manifest, splits, vectors)


def _split(tensors, split: str, ragged) -> Split:
    strings = json.loads(tensors[f"{split}.strings"].numpy().tobytes())
    sequences = {
        m: ragged.from_offsets(tensors[f"{split}.{m}.rows"], tensors[f"{split}.{m}.offsets"])
        for m in MODALITIES
        if f"{split}.{m}.rows" in tensors
    }
    return Split(
        ids=strings["ids"],
        words=strings.get("words"),
        text=sequences.get("text"),
        audio=sequences["audio"],
        vision=sequences["vision"],
        label=tensors[f"{split}.label"],
    )
