"""`bench data check`: what an imported corpus holds, beside what the paper's has, and the difference in words."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from hycon.data.corpus import read_arrays, strings_of
from hycon.data.importers.csd import TAKEN
from hycon.data.importers.leaks import leaks
from hycon.data.importers.longest import in_words as length_lines
from hycon.data.importers.repeats import count_repeats, remember
from hycon.data.manifest import MODALITIES, PAPER, SPLITS, Manifest, corpus_folder, named_after
from hycon.data.repeats import Repeats, in_words
from hycon.errors import UserError
from hycon.metrics import NARROW, five_classes

CLASSES = tuple(range(-3, 4))
FIVE = {"to -0.7": -1.0, "to -0.1": -0.4, "to 0.1": 0.0, "to 0.7": 0.4, "to 1": 1.0}  # those of Acc5, by upper end
PERCENTILES = (5, 50, 95, 100)
ALIGNMENT = {
    "word": "Aligned: one audio and one vision row per word.",
    "step": "Aligned: text vectors, audio and vision have equal lengths.",
}
IDENTITIES = {
    True: "of its files, nominal lengths, alignment, task and emotions",
    False: "of its files alone, an earlier rule: import it again to have nominal lengths and emotions in it as well",
}


def check(name: str, root: str | os.PathLike | None = None) -> dict[str, Any]:
    """Everything `render` prints, as plain JSON. Raises UserError where the corpus is missing or damaged.

    Counts the rows that repeat, looks for leaks, and writes both into a manifest that does not have them, for captions.

    "labels": split -> seven counts, labels clipped to [-3, 3] and rounded half to even as in Acc7 (facts of the
    metric), or five as in Acc5 for labels in [-1, 1], and how many are exactly zero; for emotions, how many utterances
    have each.  "same_label": splits all of whose labels are the same.  "paper": the corpus of the paper that this one
    is named after (mosi for mosi_resampled), if any.
    "differences": sentences.
    """
    manifest, arrays = read_arrays(name, root)
    try:
        counted: dict[str, Any] = {"repeats": count_repeats(arrays), "leaks": leaks(arrays)}
        if any(getattr(manifest, key) != found for key, found in counted.items()):
            remember(corpus_folder(name, root), manifest, counted)
        return _report(name, dataclasses.replace(manifest, **counted), arrays)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{corpus_folder(name, root)} is damaged ({error}): import the corpus again.") from error


def _report(name: str, manifest: Manifest, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    corpus = named_after(name, PAPER)
    report: dict[str, Any] = {
        "name": name,
        "task": manifest.task,
        "synthetic": manifest.synthetic,
        "source": manifest.source,
        "notes": manifest.notes,
        "sizes": {split: len(arrays[f"{split}.label"]) for split in SPLITS},
        "dims": dict(manifest.dims),
        "aligned": manifest.aligned,
        "nominal_lengths": dict(manifest.lengths),
        "sha256": manifest.sha256,
        "version": manifest.version,
        "label_range": manifest.label_range or [-3.0, 3.0],
        "labels": {split: _labels(arrays[f"{split}.label"], manifest) for split in SPLITS},
        "largest_label": max(float(np.abs(arrays[f"{split}.label"]).max()) for split in SPLITS),
        "same_label": [split for split in SPLITS if len(np.unique(arrays[f"{split}.label"], axis=0)) == 1],
        "nonfinite": manifest.nonfinite,
        "lengths": {split: _lengths(arrays, split) for split in SPLITS},
        "repeats": manifest.repeats,
        "leaks": manifest.leaks,
        "cropped": manifest.cropped,
        "vectors": manifest.vectors,
        "paper": _paper(corpus),
    }
    return {**report, "differences": _differences(report)}


def _labels(label: np.ndarray, manifest: Manifest) -> dict[str, int]:
    if manifest.emotions:
        return {emotion: int(label[:, i].sum()) for i, emotion in enumerate(manifest.emotions)}
    if manifest.label_bound == NARROW:
        five = five_classes(label)
        return {**{name: int((five == c).sum()) for name, c in FIVE.items()}, "zero": int((label == 0).sum())}
    classes = np.round(np.clip(label, -3.0, 3.0)).astype(int)
    return {**{f"{c:+d}" if c else "0": int((classes == c).sum()) for c in CLASSES}, "zero": int((label == 0).sum())}


def _lengths(arrays: dict[str, np.ndarray], split: str) -> dict[str, list[int]]:
    """Rows per utterance: the percentiles of PERCENTILES, per modality, and of words where there are any."""
    rows = {m: np.diff(arrays[f"{split}.{m}.offsets"]) for m in MODALITIES if f"{split}.{m}.offsets" in arrays}
    words = strings_of(arrays, split).get("words")
    if words is not None:
        rows = {"words": np.array([len(sentence) for sentence in words]), **rows}
    return {what: [int(v) for v in np.percentile(n, PERCENTILES, method="nearest")] for what, n in rows.items()}


def _paper(corpus: str | None) -> dict[str, Any] | None:
    if corpus is None:
        return None
    sizes, *dims = (PAPER[corpus][key] for key in ("sizes", *MODALITIES))
    return {
        "corpus": corpus,
        "sizes": dict(zip(SPLITS, sizes, strict=True)) if sizes else None,
        "dims": {m: list(choices) for m, choices in zip(MODALITIES, dims, strict=True)},
    }


def _differences(report: dict[str, Any]) -> list[str]:
    """Sentences; none where the corpus has the paper's sizes and dims."""
    paper, vectors = report["paper"], report["vectors"] or {}
    out = ["This corpus is synthetic: no number from it says anything about the paper."] if report["synthetic"] else []
    if paper is None:
        return [
            *out,
            f"The paper has no corpus called {report['name']}, and it is not named after one (mosi_...); "
            f"the paper's are {', '.join(PAPER)}.",
        ]
    for split, expected in (paper["sizes"] or {}).items():
        found = report["sizes"][split]
        if found != expected:
            more = "more" if found > expected else "fewer"
            out.append(f"{split} has {found} utterances, {abs(found - expected)} {more} than the paper's {expected}.")
    choices = {m: " or ".join(map(str, sizes)) for m, sizes in paper["dims"].items()}
    for modality, expected in paper["dims"].items():
        size = report["dims"].get(modality, expected[0])
        if size not in expected:
            out.append(f"{modality} has {size} features per row, the paper's has {choices[modality]}.")
    if vectors.get("dim", paper["dims"]["text"][0]) not in paper["dims"]["text"]:
        out.append(f"The word vectors have {vectors['dim']} dimensions, the paper's text has {choices['text']}.")
    return out


def render(report: dict[str, Any]) -> str:
    """The report as aligned text; ends with the differences."""
    paper, source, dims = report["paper"] or {}, report["source"], report["dims"]
    sizes = paper.get("sizes") or {}
    choices = {m: " or ".join(map(str, paper["dims"][m])) if paper else "-" for m in MODALITIES}
    same = report["same_label"]
    zeroed = {split: report["nonfinite"].get(split, {}).get("audio", 0) for split in SPLITS}
    by_split = {s: [n, *([sizes.get(s, "-")] if paper else []), zeroed[s]] for s, n in report["sizes"].items()}
    by_modality = {
        m: [dims.get(m, "words only"), *([choices[m]] if paper else []), report["nominal_lengths"].get(m, "-")]
        for m in MODALITIES
    }
    beside = ["paper"] if paper else []
    lengths = {f"{split} {what}": row for split, rows in report["lengths"].items() for what, row in rows.items()}
    differences = report["differences"] or ["Sizes and feature dimensions are the paper's."]
    lines = [
        f"Corpus {report['name']} ({report['task']}), from {source.get('file')} ({source.get('format', 'no')} format)",
        "",
        *(f"Note: {note}" for note in report["notes"]),
        *_table(["split", "utterances", *beside, "zeroed audio values"], by_split),
        *_table(["modality", "features", *beside, "nominal length"], by_modality),
        *_table(["labels", *report["labels"]["train"]], {s: list(n.values()) for s, n in report["labels"].items()}),
        *(
            [f"All labels of {', '.join(same)} are the same: nothing can be learned or measured by them.", ""]
            if same
            else []
        ),
        *_range_lines(report),
        *_table(["rows per utterance", *(f"{p} %" if p < 100 else "longest" for p in PERCENTILES)], lengths),
        *length_lines(report["cropped"], report["nominal_lengths"]),
        *_repeat_lines(report["repeats"]),
        *_leak_lines(report["leaks"]),
        *_source_lines(report),
        ALIGNMENT.get(report["aligned"], "Not aligned: the modalities have lengths of their own."),
        *_vector_lines(report["vectors"]),
        f"Identity: {report['sha256']} ({IDENTITIES[report['version'] > 1]}).",
        "",
        f"Beside the paper's {paper['corpus']}:" if paper else "Beside the paper:",
        *(f"  {sentence}" for sentence in differences),
    ]
    return "\n".join(lines) + "\n"


def _range_lines(report: dict[str, Any]) -> list[str]:
    """Where labels look as if they were on a narrower scale than they count as."""
    wide = report["task"] == "sentiment" and report["label_range"][1] > NARROW
    if not wide or report["largest_label"] > NARROW:
        return []
    return [
        "All labels lie in [-1, 1] and count as labels in [-3, 3]. If 1 is the most, import with --label-range 1.",
        "",
    ]


def _repeat_lines(repeats: Repeats) -> list[str]:
    """What repeats, by modality and split, and what captions say of it."""
    found = {
        f"{split} {m}": [
            f"{counts[f'{unit}_{kind}']:,} of {counts[unit]:,}"
            for unit, kind in (
                ("rows", "constant"),
                ("rows", "again"),
                ("rows", "elsewhere"),
                ("utterances", "elsewhere"),
            )
        ]
        for m, splits in repeats.items()
        for split, counts in splits.items()
        if any(
            counts[f"{unit}_{kind}"] for unit in ("rows", "utterances") for kind in ("constant", "again", "elsewhere")
        )
    }
    if not found:
        return ["No features repeat across utterances or splits, and none are constant.", ""]
    heads = [
        "features that repeat",
        "constant rows",
        "in other utterances",
        "in other splits",
        "whole utterances there",
    ]
    said = in_words(repeats)
    lines = [f"Captions say: {phrase}." for phrase in said] or ["That is little, and no caption mentions it."]
    return [*_table(heads, found)[:-1], *lines, ""]


def _leak_lines(leaks: list[str]) -> list[str]:
    said = [f"A test on this corpus says too much, and captions say why: {phrase}." for phrase in leaks]
    return [*said, ""] if said else []


def _source_lines(report: dict[str, Any]) -> list[str]:
    """What of the source is not in the corpus, and the labels' range where it is not the usual one."""
    source = report["source"]
    left_out, zeroed = source.get("left_out") or [], source.get("zeroed_vision") or {}
    low, high = report["label_range"]
    lines = [f"Labels lie in [{low:g}, {high:g}]: tables show Acc5 and Acc3, protocol sims."] if high == NARROW else []
    lines += [f"Left out of the source: {', '.join(map(str, left_out))}."] if left_out else []
    counts = ", ".join(f"{count} in {split}" for split, count in zeroed.items())
    lines += [f"Vision held -inf, which became 0: {counts}."] if zeroed else []
    missing = [f"{what} ({count:,})" for what, count in (source.get("counts") or {}).items() if what != TAKEN and count]
    return [*lines, *([f"Left out, or filled with zeros: {', '.join(missing)}."] if missing else [])]


def _vector_lines(vectors: dict[str, Any] | None) -> list[str]:
    if not vectors:
        return ["Word vectors: none (import with --text-vectors FILE for the glove front-end)."]
    lines = [f"Word vectors: {vectors.get('file')}, {vectors.get('dim')} dimensions."]
    for unit in ("types", "tokens"):
        counts = vectors.get(unit)
        if isinstance(counts, dict) and sum(counts.values()):
            unknown = 100 * counts.get("missing", 0) / sum(counts.values())
            parts = ", ".join(f"{n} {step}" for step, n in counts.items())
            lines.append(f"  {unit}: {parts} ({unknown:.1f} % unknown, zero vectors)")
    return lines


def _table(header: list[str], rows: dict[str, list[Any]]) -> list[str]:
    """Lines, with an empty one at the end. rows: first cell -> the others."""
    from tabulate import tabulate

    cells = [[first, *map(str, others)] for first, others in rows.items()]
    align = ("left", *["right"] * (len(header) - 1))
    text = tabulate(cells, header, tablefmt="plain", disable_numparse=True, colalign=align)
    return [*(line.rstrip() for line in text.splitlines()), ""]
