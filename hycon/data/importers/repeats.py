"""Count the feature rows and utterances that repeat, in time linear in the corpus, up to sorting one number a row.

Each row becomes 64 bits; equal rows have equal ones, and of the 10^7 rows of a long MOSEI two others share theirs with
probability 10^-5. Rows of one value throughout (no face, no voice, padding), and a row that is FILLER of all, as those
are once features are standardised, repeat for a good reason: they are counted by themselves, as constant.

Text is counted by whole utterances only, since a word has the same vector wherever it is said: of those with words
where the words differ and the vectors do not, of those without words from PHRASE rows on.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.corpus import strings_of
from hycon.data.manifest import MODALITIES, SPLITS, Manifest
from hycon.data.repeats import COUNTS
from hycon.files import temporary

BLOCK = 2**22  # values that are hashed at a time, chosen here: 32 MiB
PHRASE = 5  # rows, chosen here: shorter sentences recur in speech; of MOSEI's 22,788, 0.5 % of this length do
FILLER, FEWEST = 0.01, 100  # of all rows, and rows at least; chosen here
ODD = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio in 64 bits: a multiplier without a pattern (Knuth, 6.4)


def count_repeats(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, dict[str, int]]]:
    """modality -> split -> COUNTS, for the modalities that the corpus has. arrays: those of corpus.safetensors."""
    return {m: _modality(arrays, m) for m in MODALITIES if f"{SPLITS[0]}.{m}.rows" in arrays}


def _modality(arrays: Mapping[str, np.ndarray], modality: str) -> dict[str, dict[str, int]]:
    rows, offsets = ([arrays[f"{split}.{modality}.{part}"] for split in SPLITS] for part in ("rows", "offsets"))
    hashed = [_rows(split) for split in rows]
    hashes, constant = (np.concatenate(parts) for parts in zip(*hashed, strict=True))
    constant |= _filler(hashes)
    lengths = np.concatenate([np.diff(split) for split in offsets])
    row_split = np.repeat(np.arange(len(SPLITS)), [len(split) for split in rows])
    split_of = np.repeat(np.arange(len(SPLITS)), [len(split) - 1 for split in offsets])
    utterances, all_constant = _utterances(hashes, constant, lengths)
    counted, owner = ~all_constant, np.arange(len(lengths))
    again, elsewhere = _repeated(utterances, split_of, owner, counted)
    if modality == "text":
        meant = _other_words(arrays, utterances, counted, lengths)
        again, elsewhere, rows_again = again & meant, elsewhere & meant, np.zeros(len(hashes), bool)
        rows_elsewhere = rows_again
    else:
        rows_again, rows_elsewhere = _repeated(hashes, row_split, np.repeat(owner, lengths), ~constant)
    of_rows, of_utterances = (constant, rows_again, rows_elsewhere), (all_constant, again, elsewhere)
    found = {}
    for i, split in enumerate(SPLITS):
        own, mine = row_split == i, split_of == i
        counts = (own, *(own & mask for mask in of_rows), mine, *(mine & mask for mask in of_utterances))
        found[split] = {name: int(mask.sum()) for name, mask in zip(COUNTS, counts, strict=True)}
    return found


def _rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, d) float32 -> (R,) uint64 hashes, (R,) whether all values of the row are the same."""
    features = rows.shape[1]
    factors = np.random.default_rng(0).integers(2**64, size=features, dtype=np.uint64) | np.uint64(1)
    hashes, constant = np.empty(len(rows), np.uint64), np.empty(len(rows), bool)
    block = max(1, BLOCK // features)
    for start in range(0, len(rows), block):
        part = np.ascontiguousarray(rows[start : start + block], dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0
        # a single feature has one value in every row: there only 0 stands for nothing
        constant[start : start + block] = part.max(1) == (part.min(1) if features > 1 else 0)
        hashes[start : start + block] = _mixed(part.view(np.uint32).astype(np.uint64), factors).sum(1, dtype=np.uint64)
    return hashes, constant


def _filler(hashes: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return (counts > max(FEWEST, FILLER * len(hashes)))[which]


def _mixed(values: np.ndarray, factors: np.ndarray | np.uint64) -> np.ndarray:
    """values * factors mod 2^64, with the upper bits, which depend on all others, folded onto the lower ones."""
    values *= factors
    values ^= values >> np.uint64(32)
    return values


def _utterances(hashes: np.ndarray, constant: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) uint64 hashes of the rows in their order, (N,) whether all rows are constant."""
    starts = np.cumsum(lengths) - lengths
    place = (np.arange(len(hashes)) - np.repeat(starts, lengths)).astype(np.uint64)
    placed = _mixed(hashes + place * ODD, ODD)
    return np.add.reduceat(placed, starts), np.logical_and.reduceat(constant, starts)


def _repeated(
    hashes: np.ndarray, split: np.ndarray, owner: np.ndarray, counted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) whether an entry's hash is that of another owner in its split, and (n,) of an entry of another split.

    owner: ascending.  counted: (n,) the entries that take part.
    """
    again, elsewhere = np.zeros(len(hashes), bool), np.zeros(len(hashes), bool)
    distinct, which = np.unique(hashes[counted], return_inverse=True)
    own_split, own_owner = split[counted], owner[counted]
    present = np.zeros((len(SPLITS), len(distinct)), bool)
    present[own_split, which] = True
    elsewhere[counted] = present.sum(0)[which] > 1
    within = np.zeros(len(which), bool)
    for i in range(len(SPLITS)):
        mine = own_split == i
        within[mine] = _differ(own_owner[mine], which[mine], len(distinct))
    again[counted] = within
    return again, elsewhere


def _differ(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """(n,) whether an entry's group has more than one value."""
    least, most = np.full(groups, np.iinfo(np.int64).max), np.full(groups, np.iinfo(np.int64).min)
    np.minimum.at(least, group, values)
    np.maximum.at(most, group, values)
    return (least != most)[group]


def _other_words(
    arrays: Mapping[str, np.ndarray], utterances: np.ndarray, counted: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """(N,) whether equal text vectors are worth counting: see the module's docstring."""
    sentences = [words for split in SPLITS for words in strings_of(arrays, split).get("words", [])]
    if not sentences:
        return lengths >= PHRASE
    said = np.array([hash(tuple(words)) for words in sentences])
    distinct, which = np.unique(utterances, return_inverse=True)
    return counted & _differ(said, which, len(distinct))


def remember(folder: Path, manifest: Manifest, counted: Mapping[str, Any]) -> None:
    """Write `counted` into the manifest of the corpus in `folder`, unless that is another one by now or read-only.

    Everything is done relative to the opened folder: an import may put another one in its place meanwhile.
    """
    name, temp = "manifest.json", temporary(folder / "manifest.json").name
    with contextlib.suppress(OSError, ValueError):
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with open(os.open(name, os.O_RDONLY, dir_fd=at), encoding="utf-8") as handle:
                found = json.load(handle)
            if found.get("files") != manifest.files:
                return
            text = json.dumps({**found, **counted}, indent=1, ensure_ascii=False)
            with open(
                os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=at), "w", encoding="utf-8"
            ) as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temp, name, src_dir_fd=at, dst_dir_fd=at)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temp, dir_fd=at)  # where it was not renamed
            os.close(at)
