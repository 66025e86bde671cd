"""From utterances to a corpus on disk: everything is checked first, then a whole folder appears at once.

What is refused here holds for every importer, the synthetic corpus, and data that someone hands over in Python.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.importers.common import Utterance
from hycon.data.manifest import MODALITIES, PAPER, SPLITS, Manifest, corpus_folder
from hycon.errors import UserError
from hycon.files import sha256_file, sweep, temporary

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
    replace: bool = True,
) -> Manifest:
    """Check `splits` (train, valid, test) and write them as corpus `name`. Nothing is written unless all is well.

    lengths: nominal length per modality; default 50 (MAG-BERT, section 1.3 of the reference driver).
    vectors: (description, words, (V, d) matrix), kept beside the corpus for the `glove` front-end.
    Raises UserError: empty or missing split, empty or duplicate ids, empty words, NaN labels, dims that differ within
    the corpus or from the paper's corpus of that name, non-finite features other than COVAREP's -inf and NaN in audio.
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
        positives={s: arrays[f"{s}.label"].sum(0).tolist() for s in SPLITS} if emotions else None,
        synthetic=synthetic,
    )
    return _write(folder, manifest, arrays, vectors, replace)


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
            blank = [k for k, word in enumerate(u.words or ()) if not word.strip()]
            if blank:
                raise UserError(f"{where}: word {blank[0]} of {u.id!r} ({split}) is empty.")
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


def rewrite(
    name: str,
    manifest: Manifest,
    arrays: Mapping[str, np.ndarray],
    vectors: Vectors | None,
    root: str | os.PathLike | None = None,
) -> Manifest:
    """Write an imported corpus again with other word vectors; `arrays` are those of its corpus.safetensors."""
    return _write(corpus_folder(name, root), manifest, arrays, vectors, True)


def _write(
    folder: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray], vectors: Vectors | None, replace: bool
) -> Manifest:
    from safetensors import SafetensorError

    if folder.exists() and not replace:
        raise UserError(f"{folder} exists already.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        temp = temporary(folder)
        temp.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(f"Cannot write to {folder.parent}: {error.strerror}.") from error
    try:
        manifest = _fill(temp, manifest, arrays, vectors)
        _put(temp, folder)
    except (OSError, SafetensorError) as error:  # a full disk is a SafetensorError
        shutil.rmtree(temp, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot write {folder}: {reason}; nothing was changed.") from error
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    return manifest


def _fill(temp: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray], vectors: Vectors | None) -> Manifest:
    """Write the corpus's files into the folder `temp`, down to the disk."""
    from safetensors.numpy import save_file

    save_file(dict(arrays), temp / "corpus.safetensors")
    names, described = ["corpus.safetensors"], None
    if vectors is not None:
        described, words, matrix = dict(vectors[0]), vectors[1], vectors[2]
        blob = np.frombuffer(json.dumps(words, ensure_ascii=False).encode(), dtype=np.uint8)
        save_file({"words": blob, "matrix": matrix.astype(np.float32)}, temp / "vectors.safetensors")
        names.append("vectors.safetensors")
    files = {name: sha256_file(temp / name) for name in names}
    manifest = dataclasses.replace(manifest, files=files, vectors=described)
    text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False)
    (temp / "manifest.json").write_text(text, encoding="utf-8")
    for path in temp.iterdir():
        path.chmod(0o644)
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
    temp.chmod(0o755)  # 0700 would keep a group from sharing its corpora
    return manifest


def _put(temp: Path, folder: Path) -> None:
    """`temp` becomes `folder`; an earlier one is put back where that fails."""
    if not folder.exists():
        os.rename(temp, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        os.rename(folder, old / "old")
        try:
            os.rename(temp, folder)
        except BaseException:
            os.rename(old / "old", folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
