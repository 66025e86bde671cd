"""The CMU-MultimodalSDK's own form: a folder of computational sequences (`.csd`, HDF5), read through `mmsdk`.

Needed in the folder, recognised by their root name or else their file name:

    words    "words", not word vectors             intervals (n, 2) s, features (n, 1) bytes
    audio    "COVAREP" | "OpenSMILE"               intervals (n, 2) s, features (n, d)
    vision   "FACET" | "OpenFace"                  intervals (n, 2) s, features (n, d)
    labels   "label", not emotions                 intervals (n, 2) s, features (n, 1), or (n, 7) sentiment first

The SDK's recipe: audio and vision are averaged within each word, words are assigned to the label segment that they
overlap, "sp" (silence) is dropped, the splits are the SDK's standard folds, an utterance is "video[k]" for the k-th
label segment. The averaging is numpy's here: the same numbers as `mmsdk.mmdataset.align`, whose cost grows with the
square of the ids, and which takes a video for any other whose name begins alike. Unlike in the SDK, a word without a
single frame keeps its place, with a zero row, and is counted.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hycon.busy import at, counted
from hycon.data.importers.common import Imported, Utterance, check_folder, text_of
from hycon.data.manifest import SPLITS, named_after
from hycon.errors import UserError

EPSILON = 1e-3  # seconds; the SDK's 10e-4: a shorter overlap is none
SILENCE = "sp"
KIND = "computational sequence (HDF5 with data and metadata)"
DEEPEST = 4  # groups below each other; a computational sequence has root, data or metadata, video
LARGER = 200  # times its file's size that a file's data may be; chosen here: gzip makes features 2 to 10 times smaller
MEMBER = 64  # bytes that each name and each text of its own length counts; groups within themselves come to an end
TEXTS = 32  # texts of their own lengths that are read at a time: each may be as large as its file; chosen here
TAKEN = "segments"  # of the counts in the manifest, the one that is of nothing left out
CORPORA = ("mosei", "mosi", "pom")  # those for which the SDK has standard folds
ROLES = {
    "words": (("words",), ("vector", "glove", "bert")),
    "audio": (("covarep", "opensmile"), ()),
    "vision": (("facet", "openface"), ()),
    "labels": (("label", "sentiment", "opinion"), ("emotion",)),
}


def recognise(path: Path) -> bool:
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.glob("*.csd") if file.is_file())  # no pipes


def read(path: Path, name: str) -> Imported:
    """Utterances of the sequences in the folder; `name` decides the standard folds where the labels' metadata does not.

    Raises UserError where a sequence is missing, ambiguous or damaged, or no standard folds are known.
    """
    check_folder(path, "csd", recognise(path), ".csd files")
    mmsdk = import_mmsdk()
    opened = {file: _open(mmsdk, file) for file in _files(path)}
    try:
        roles = _roles(opened)
        corpus = _corpus_of(opened[roles["labels"]], name)
        folds = standard_folds(mmsdk, corpus)
        splits, counts = _align({role: (opened[file].data, file.name) for role, file in roles.items()}, folds)
    except (LookupError, ValueError, OSError, RuntimeError) as error:  # HDF5's errors, while its data are read
        raise UserError(f"The .csd files in {path.name} are damaged or not aligned ({error}).") from error
    finally:
        for sequence in opened.values():
            sequence.h5handle.close()
    details = {"sequences": {r: file.name for r, file in roles.items()}, "folds": f"mmsdk {corpus}", "counts": counts}
    return Imported(splits, details=details)


def import_mmsdk() -> Any:
    """`mmsdk.mmdatasdk`, without what it prints. Imports torch."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from mmsdk import mmdatasdk
    except ImportError as error:
        raise UserError(f"mmsdk cannot be imported ({error}); install cmu-multimodal-sdk==0.0.6.") from error
    return mmdatasdk


def standard_folds(mmsdk: Any, corpus: str) -> dict[str, str]:
    """video -> split. A video that the SDK lists twice is refused, since it could be trained and tested on."""
    folds = getattr(mmsdk, corpus if corpus == "pom" else f"cmu_{corpus}").standard_folds
    videos: dict[str, str] = {}
    for split in SPLITS:
        for video in getattr(folds, f"standard_{split}_fold"):
            if videos.setdefault(video, split) != split:
                raise UserError(f"mmsdk's standard folds of {corpus} have {video!r} in {videos[video]} and in {split}.")
    return videos


def _open(mmsdk: Any, path: Path) -> Any:
    at(path.name)
    _check_hdf5(path)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return mmsdk.computational_sequence(str(path))
    except Exception as error:  # mmsdk raises None, RuntimeError, KeyError ... for a file that is none of its own
        raise UserError(f"{path.name} is not a readable {KIND}.") from error


def _check_hdf5(path: Path) -> None:
    """Raises UserError where a file holds data of other files, links, or more data than can be in it."""
    import h5py

    most = LARGER * path.stat().st_size

    def declared(group: Any, depth: int, total: int) -> int:
        """Bytes of all data below `group`, by every name that leads to them."""
        for name in group:
            where, link = f"{path.name}: {text_of(name)!r}", group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise UserError(f"{where} is a link, which is not followed; expected the data itself.")
            member = group[name]
            total += MEMBER
            if isinstance(member, h5py.Dataset):
                if member.external or member.is_virtual:
                    raise UserError(f"{where} takes its data from another file, which is not read.")
                total += member.size * member.dtype.itemsize if member.shape is not None else 0
                total = _with_texts(member, where, total, most) if member.dtype.hasobject else total
            elif depth == DEEPEST:
                raise UserError(f"{where} lies deeper than a computational sequence has groups.")
            elif isinstance(member, h5py.Group):
                total = declared(member, depth + 1, total)
            if total > most:
                raise UserError(f"{path.name} declares over {most} bytes of data, {LARGER} times its size; not read.")
        return total

    try:
        with h5py.File(path, "r") as handle:
            declared(handle, 1, 0)
    except (OSError, LookupError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"{path.name} is not a readable {KIND} ({error}).") from error


def _with_texts(texts: Any, where: str, total: int, most: int) -> int:
    """`total` and the bytes of a dataset of texts that have lengths of their own; no further than beyond `most`.

    What it declares are references only, and any number of them can lead to one text. Raises UserError for references
    to anything else.
    """
    import h5py

    rows = texts.shape[0] if texts.shape else 1
    if h5py.check_string_dtype(texts.dtype) is None or (rows and texts.size // rows > TEXTS):
        raise UserError(f"{where} has neither numbers nor a column of texts.")
    step = max(1, TEXTS * rows // max(texts.size, 1))
    for start in range(0, rows, step):
        if total > most:
            break
        part = np.atleast_1d(texts[start : start + step] if texts.shape else texts[()])
        total += sum(MEMBER + len(text) for text in part.ravel())
    return total


def _metadata(sequence: Any, key: str) -> str:
    """A text of the sequence's metadata, in lower case; "" where it has none."""
    return text_of(sequence.metadata.get(key, "")).strip('"').lower()


def _roles(opened: dict[Path, Any]) -> dict[str, Path]:
    roles = {}
    for role, (wanted, unwanted) in ROLES.items():
        found = []
        for path, sequence in opened.items():
            names = (_metadata(sequence, "root name"), path.stem.lower())
            has_wanted, has_unwanted = (any(p in n for p in parts for n in names) for parts in (wanted, unwanted))
            if has_wanted and not has_unwanted:
                found.append(path)
        if len(found) != 1:
            have = ", ".join(path.name for path in found or opened)
            problem = "more than one is there" if found else "none is there"
            raise UserError(
                f"A csd folder needs one sequence of {role} (named like {' or '.join(wanted)}), {problem}: {have}."
            )
        roles[role] = found[0]
    return roles


def _corpus_of(labels: Any, name: str) -> str:
    """The metadata's corpus where it names one ("CMU-MOSI"), else what the corpus is imported as (mosi, mosi_facet)."""
    declared = _metadata(labels, "dataset name").removeprefix("cmu-")
    corpus = named_after(declared, CORPORA) or named_after(name.lower(), CORPORA)
    if corpus:
        return corpus
    raise UserError(
        f"The SDK has standard folds for {', '.join(CORPORA)}, not for {declared or name!r}: "
        "name the corpus after one of them, or bring your own splits in the plain format."
    )


def _align(
    sequences: dict[str, tuple[Any, str]], folds: dict[str, str]
) -> tuple[dict[str, list[Utterance]], dict[str, int]]:
    """All label segments of the folds' videos as utterances, and counts of what was left out or filled."""
    splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    counts = dict.fromkeys(
        (TAKEN, "videos without a fold", "videos without words, audio or vision", "segments without words",
         "words without audio frames", "words without vision frames"), 0
    )  # fmt: skip
    labels = sequences["labels"][0]
    for video in counted(labels, "video"):
        if video not in folds:
            counts["videos without a fold"] += 1
            continue
        if any(video not in sequences[role][0] for role in ("words", "audio", "vision")):
            counts["videos without words, audio or vision"] += 1
            continue
        data = {role: _frames(sequence[video], role, video, file) for role, (sequence, file) in sequences.items()}
        splits[folds[video]] += _video(video, data, counts)
    return splits, counts


def _frames(entry: Any, role: str, video: str, file: str) -> tuple[np.ndarray, np.ndarray]:
    """intervals (n, 2) float64 and features (n, d) of one video, by their start."""
    intervals, features = np.asarray(entry["intervals"], dtype=np.float64), np.asarray(entry["features"])
    if intervals.ndim != 2 or intervals.shape[1] != 2 or features.ndim != 2 or len(features) != len(intervals):
        raise UserError(
            f"{file}: {video!r} has intervals {intervals.shape} and features {features.shape}; expected (n, 2), (n, d)."
        )
    if not np.isfinite(intervals).all():
        raise UserError(f"{file}: {video!r} has intervals that are not finite.")
    if role != "words" and features.dtype.kind not in "biuf":
        raise UserError(f"{file}: {video!r} has features of {features.dtype}; expected numbers.")
    if role == "words" and features.dtype.kind not in "SUO":
        raise UserError(f"{file}: {video!r} has words of {features.dtype}; expected texts.")
    if role == "labels":  # the k of "video[k]" is the place in the file
        return intervals, features
    order = np.argsort(intervals[:, 0], kind="stable")
    return intervals[order], features[order]


def _video(video: str, data: dict[str, tuple[np.ndarray, np.ndarray]], counts: dict[str, int]) -> list[Utterance]:
    times, raw = data["words"]
    words = [text_of(word) for word in raw[:, 0]]
    keep = [i for i, word in enumerate(words) if word != SILENCE and times[i, 1] - times[i, 0] >= EPSILON]
    times, words = times[keep], [words[i] for i in keep]
    means, empty = {}, {}
    for modality in ("audio", "vision"):
        means[modality], empty[modality] = average(*data[modality], times)
    utterances = []
    for k, (segment, label) in enumerate(zip(*data["labels"], strict=True)):
        counts[TAKEN] += 1
        inside = np.flatnonzero(_overlap(times, segment) > EPSILON)
        if len(inside) == 0:
            counts["segments without words"] += 1
            continue
        for modality in means:
            counts[f"words without {modality} frames"] += int(empty[modality][inside].sum())
        utterances.append(
            Utterance(
                id=f"{video}[{k}]",
                label=float(label[0]),
                words=[words[i] for i in inside],
                **{modality: rows[inside] for modality, rows in means.items()},
            )
        )
    return utterances


def _overlap(intervals: np.ndarray, span: np.ndarray) -> np.ndarray:
    """(n,) seconds that each interval (n, 2) shares with `span` (2,); negative where they are apart."""
    return np.minimum(intervals[:, 1], span[1]) - np.maximum(intervals[:, 0], span[0])


def average(intervals: np.ndarray, features: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the frames that overlap each word by more than EPSILON seconds, unweighted as in the SDK's examples.

    intervals: (n, 2), sorted by start.  features: (n, d).  words: (w, 2).
    Returns (w, d) float32 and (w,) bool: the words without a frame, whose row is zero.
    """
    rows = np.zeros((len(words), features.shape[1]), dtype=np.float32)
    empty = np.ones(len(words), dtype=bool)
    long = intervals[:, 1] - intervals[:, 0] > EPSILON
    intervals, features = intervals[long], features[long]
    latest = np.maximum.accumulate(intervals[:, 1]) if len(intervals) else np.zeros(0)
    first = np.searchsorted(latest, words[:, 0] + EPSILON, side="right")
    last = np.searchsorted(intervals[:, 0], words[:, 1] - EPSILON, side="left")
    in_order = bool((latest == intervals[:, 1]).all())  # then all frames from first to last overlap the word
    with np.errstate(invalid="ignore", over="ignore"):  # COVAREP's -inf and NaN go on to convert(), which counts them
        for i, (low, high) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            frames = features[low:high]
            if not in_order:
                frames = frames[_overlap(intervals[low:high], words[i]) > EPSILON]
            if len(frames):
                rows[i] = np.add.reduce(frames, 0, dtype=np.float64) / len(frames)
                empty[i] = False
    return rows, empty
