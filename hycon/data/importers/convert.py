"""From utterances to a corpus on disk: everything is checked first, then a whole folder appears at once.

The checks hold for every format, for the synthetic corpus, and for utterances that someone builds in Python.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.importers.common import Utterance
from hycon.data.importers.leaks import leaks
from hycon.data.importers.longest import crop, nominal
from hycon.data.importers.repeats import count_repeats
from hycon.data.manifest import (
    FORMAT_VERSION,
    LABEL_RANGES,
    MODALITIES,
    PAPER,
    SPLITS,
    Alignment,
    Manifest,
    check_emotions,
    corpus_folder,
    restore,
)
from hycon.errors import UserError
from hycon.files import sha256_file, sweep, temporary
from hycon.metrics import constant_metrics

Vectors = tuple[Mapping[str, Any], list[str], np.ndarray]  # (description, words, (V, d) matrix)


def convert(
    name: str,
    splits: Mapping[str, Sequence[Utterance]],
    *,
    source: Mapping[str, Any],
    root: str | os.PathLike | None = None,
    lengths: Mapping[str, int] | None = None,
    vectors: Vectors | None = None,
    notes: Sequence[str] = (),
    emotions: Sequence[str] | None = None,
    synthetic: bool = False,
    label_range: Sequence[float] | None = None,
    cropped: Mapping[str, Mapping[str, int]] | None = None,
) -> Manifest:
    """Check `splits` (train, valid, test) and write them as corpus `name`, in place of an earlier one.

    lengths: nominal length per modality; default 50 (MAG-BERT, section 1.3 of the reference driver).
    vectors: (description, words, (V, d) matrix), kept beside the corpus for the `glove` front-end.
    label_range: of sentiment labels, (-1, 1); default [-3, 3].
    cropped: split -> modality -> utterances that the caller has cropped already.
    Sequences and nominal lengths end at hycon.data.importers.longest.LONGEST; the manifest counts what was cropped.
    Raises UserError, and writes nothing: empty or missing split, empty or duplicate ids, empty words, NaN labels, dims
    that differ within the corpus or from the paper's corpus of that name, non-finite features other than COVAREP's
    -inf and NaN in audio.
    """
    folder = corpus_folder(name, root)
    narrow = list(map(float, label_range)) if label_range and not emotions else None
    bound = max(narrow or LABEL_RANGES[0])
    where = str(source.get("file", name))
    _check_ids(splits, where)
    dims = _check_dims(splits, where)
    _check_paper(name, dims, where)
    check_emotions(list(emotions or ()), where)
    aligned = _alignment(splits)
    short = {split: dict((cropped or {}).get(split, {})) for split in SPLITS}
    splits = {split: [crop(utterance, short[split]) for utterance in splits[split]] for split in SPLITS}
    nonfinite: dict[str, dict[str, int]] = {}
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        arrays_of_split, nonfinite[split] = _pack(split, splits[split], emotions, bound, where)
        arrays.update(arrays_of_split)
    manifest = Manifest(
        name=name,
        task="emotion" if emotions else "sentiment",
        source=dict(source),
        sizes={s: len(splits[s]) for s in SPLITS},
        dims=dims,
        lengths=nominal(lengths or dict.fromkeys(MODALITIES, 50), aligned),
        aligned=aligned,
        nonfinite=nonfinite,
        files={},
        notes=list(notes),
        emotions=list(emotions) if emotions else None,
        positives={s: arrays[f"{s}.label"].sum(0).tolist() for s in SPLITS} if emotions else None,
        constant=None if emotions else constant_metrics(arrays["train.label"], arrays["test.label"], bound),
        synthetic=synthetic,
        repeats=count_repeats(arrays),
        leaks=leaks(arrays),
        label_range=narrow if narrow != LABEL_RANGES[0] else None,
        cropped=short if any(short.values()) else None,
    )
    return write_corpus(folder, manifest, arrays, vectors)


def _check_ids(splits: Mapping[str, Sequence[Utterance]], where: str) -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        if not splits.get(split):
            raise UserError(f"{where}: the {split} split is missing or empty; a corpus needs train, valid and test.")
        for i, utterance in enumerate(splits[split]):
            if not isinstance(utterance.id, str) or not utterance.id.strip():
                raise UserError(f"{where}: utterance {i} of {split} has the id {utterance.id!r}; expected some text.")
            if utterance.id in seen:
                raise UserError(
                    f"{where}: utterance {utterance.id!r} is in {seen[utterance.id]} and again in {split}; "
                    "ids must be unique, or test utterances could be trained on."
                )
            seen[utterance.id] = split


def _check_dims(splits: Mapping[str, Sequence[Utterance]], where: str) -> dict[str, int]:
    """modality -> d, the same in all utterances; these have all words, or none, and all text vectors, or none."""
    dims: dict[str, int] = {}
    first = splits["train"][0]
    if first.text is None and first.words is None:
        raise UserError(f"{where}: the utterances have neither words nor text vectors.")
    for split, u in ((name, u) for name in SPLITS for u in splits[name]):
        which = f"{u.id!r} ({split})"
        if (u.text is None, u.words is None) != (first.text is None, first.words is None):
            raise UserError(f"{where}: some utterances have words or text vectors and {which} differs.")
        for modality, value in (("text", u.text), ("audio", u.audio), ("vision", u.vision)):
            if value is None:
                continue
            if value.ndim != 2 or 0 in value.shape:
                raise UserError(f"{where}: {modality} of {which} has shape {tuple(value.shape)}, expected (T, d).")
            if dims.setdefault(modality, value.shape[1]) != value.shape[1]:
                raise UserError(
                    f"{where}: {modality} of {which} has {value.shape[1]} features per row, "
                    f"the utterances before it have {dims[modality]}."
                )
        if u.words is not None and len(u.words) == 0:
            raise UserError(f"{where}: {which} has no words.")
        blank = [k for k, word in enumerate(u.words or ()) if not word.strip()]
        if blank:
            raise UserError(f"{where}: word {blank[0]} of {which} is empty.")
    return dims


def _check_paper(name: str, dims: Mapping[str, int], where: str) -> None:
    for modality, size in dims.items():
        expected = PAPER[name][modality] if name in PAPER else (size,)
        if size not in expected:
            raise UserError(
                f"{where}: {modality} has {size} features per row, but {name} in the paper has "
                f"{' or '.join(map(str, expected))}; import it under another name (such as {name}_{size})."
            )


def _alignment(splits: Mapping[str, Sequence[Utterance]]) -> Alignment:
    every = [u for split in SPLITS for u in splits[split]]
    if all(u.words is not None and len(u.words) == len(u.audio) == len(u.vision) for u in every):
        return "word"
    if all(u.text is not None and len(u.text) == len(u.audio) == len(u.vision) for u in every):
        return "step"
    return "none"


def _pack(
    split: str, utterances: Sequence[Utterance], emotions: Sequence[str] | None, bound: float, where: str
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
    labels = _labels(utterances, emotions, bound, split, where)
    arrays[f"{split}.label"] = labels
    strings: dict[str, Any] = {"ids": [u.id for u in utterances]}
    if utterances[0].words is not None:
        strings["words"] = [list(u.words or ()) for u in utterances]
    arrays[f"{split}.strings"] = _json_bytes(strings)
    return arrays, zeroed


def _clean(rows, offsets, modality: str, split: str, utterances: Sequence[Utterance], where: str) -> int:
    """COVAREP writes log(0) = -inf and NaN into audio: those become 0 and are counted. All else is an error."""
    bad = ~np.isfinite(rows)
    forbidden = bad if modality != "audio" else np.isposinf(rows)
    if forbidden.any():
        row = int(np.argwhere(forbidden)[0][0])
        utterance = utterances[int(np.searchsorted(offsets, row, side="right")) - 1]
        value = rows[row][forbidden[row]][0]
        which = f"{modality} of utterance {utterance.id!r} ({split})"
        raise UserError(f"{where}: {which} holds {value}; repair the source.")
    rows[bad] = 0.0
    return int(bad.sum())


def _labels(
    utterances: Sequence[Utterance], emotions: Sequence[str] | None, bound: float, split: str, where: str
) -> np.ndarray:
    if emotions:
        labels = np.stack([np.asarray(u.label) for u in utterances])
        if labels.shape[1:] != (len(emotions),) or not np.isin(labels, (0, 1)).all():
            raise UserError(f"{where}: emotion labels of {split} must be 0 or 1, one per emotion of {list(emotions)}.")
        return labels.astype(np.int64)
    labels = np.array([float(u.label) for u in utterances], dtype=np.float32)
    for utterance, label in zip(utterances, labels, strict=True):
        if not np.isfinite(label) or abs(label) > bound + 1e-4:
            raise UserError(
                f"{where}: the label of {utterance.id!r} ({split}) is {label}; "
                f"expected a number in [-{bound:g}, {bound:g}]."
            )
    return labels


def write_corpus(
    folder: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray], vectors: Vectors | None
) -> Manifest:
    """Write a corpus, in place of an earlier one; returns its manifest with the files' digests.

    arrays: those of corpus.safetensors.  Raises UserError where the disk refuses, and leaves everything as it was.
    """
    from safetensors import SafetensorError

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        restore(folder.parent)  # before what a killed import has left is deleted
        sweep(folder.parent)
        temp = temporary(folder)
        temp.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(f"Cannot write to {folder.parent}: {error.strerror}.") from error
    try:
        manifest = _fill(temp, manifest, arrays, vectors)
        _put(temp, folder)
    except (OSError, SafetensorError) as error:  # a full disk is a SafetensorError
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot write {folder}: {reason}; nothing was changed.") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return manifest


def _fill(temp: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray], vectors: Vectors | None) -> Manifest:
    """Write the corpus's files into the folder `temp`, down to the disk."""
    from safetensors.numpy import save_file

    contents = {"corpus.safetensors": dict(arrays)}
    if vectors is not None:
        description, words, matrix = vectors
        contents["vectors.safetensors"] = {"words": _json_bytes(words), "matrix": matrix.astype(np.float32)}
        manifest = dataclasses.replace(manifest, vectors=dict(description))
    for file, tensors in contents.items():
        save_file(tensors, temp / file)
    files = {file: sha256_file(temp / file) for file in contents}
    manifest = dataclasses.replace(manifest, files=files, version=FORMAT_VERSION)
    text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False)
    # Of a file's name that is no UTF-8, Python keeps the odd bytes as letters that no UTF-8 can hold: they become "?".
    (temp / "manifest.json").write_bytes(text.encode("utf-8", "replace"))
    for path in temp.iterdir():
        path.chmod(0o644)
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
    temp.chmod(0o755)  # 0700 would keep a group from sharing its corpora
    return manifest


def _json_bytes(value: Any) -> np.ndarray:
    """JSON as an array of bytes: safetensors holds no strings."""
    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), dtype=np.uint8)


def _put(temp: Path, folder: Path) -> None:
    """`temp` becomes `folder`; an earlier one is put back where that fails."""
    if not folder.exists():
        os.rename(temp, folder)
        return
    old = temporary(folder)  # its name tells whose it is: `restore` puts back what a killed import left in it
    old.mkdir(mode=0o700)
    try:
        os.rename(folder, old / "old")
        try:
            os.rename(temp, folder)
        except BaseException:
            os.rename(old / "old", folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
