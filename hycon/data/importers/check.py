"""`bench data check`: what an imported corpus holds, beside what the paper's has, and the difference in words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.manifest import MODALITIES, PAPER, SPLITS, Manifest, corpus_folder, named_after, read_manifest
from hycon.errors import UserError
from hycon.files import sha256_file

CLASSES = tuple(range(-3, 4))
PERCENTILES = (5, 50, 95, 100)


def check(name: str, root: str | os.PathLike | None = None) -> dict[str, Any]:
    """Everything `render` prints, as plain JSON. Raises UserError where the corpus is missing or damaged.

    "labels": split -> seven counts, labels clipped to [-3, 3] and rounded half to even as in Acc7 (facts of the
    metric), and how many are exactly zero; for emotions, how many utterances have each.  "paper": the corpus of the
    paper that this one is named after (mosi for mosi_resampled), if any.  "differences": sentences.
    """
    manifest = read_manifest(name, root)
    arrays = read_arrays(corpus_folder(name, root), manifest)
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
        "labels": {split: _labels(arrays[f"{split}.label"], manifest) for split in SPLITS},
        "nonfinite": manifest.nonfinite,
        "lengths": {split: _lengths(arrays, split) for split in SPLITS},
        "vectors": manifest.vectors,
        "paper": _paper(corpus),
    }
    return {**report, "differences": _differences(report)}


def read_arrays(folder: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """The arrays of corpus.safetensors, without torch; UserError where any file differs from its manifest."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for file, digest in manifest.files.items():
        path = folder / file
        if Path(file).name != file or not path.is_file():
            raise UserError(f"{path} is missing: import the corpus again.")
        if sha256_file(path) != digest:
            raise UserError(f"{path} does not have the sha256 of its manifest: it was changed; import it again.")
    try:
        return load_file(folder / "corpus.safetensors")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): import the corpus again.") from error


def strings_of(arrays: dict[str, np.ndarray], split: str) -> dict[str, Any]:
    """{"ids": [...], "words": [[...], ...] if there are words} of a split."""
    return json.loads(arrays[f"{split}.strings"].tobytes())


def _labels(label: np.ndarray, manifest: Manifest) -> dict[str, int]:
    if manifest.emotions:
        return {emotion: int(label[:, i].sum()) for i, emotion in enumerate(manifest.emotions)}
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
    paper = PAPER[corpus]
    sizes = dict(zip(SPLITS, paper["sizes"], strict=True)) if paper["sizes"] else None
    return {"corpus": corpus, "sizes": sizes, "dims": {m: _choices(paper[m]) for m in MODALITIES}}


def _choices(size: int | tuple[int, ...]) -> list[int]:
    return list(size) if isinstance(size, tuple) else [size]


def _differences(report: dict[str, Any]) -> list[str]:
    """Sentences; none where the corpus has the paper's sizes and dims."""
    out = []
    paper = report["paper"]
    if report["synthetic"]:
        out.append("This corpus is synthetic: no number from it says anything about the paper.")
    if paper is None:
        out.append(
            f"The paper has no corpus called {report['name']}, and it is not named after one (mosi_...); "
            f"the paper's are {', '.join(PAPER)}."
        )
        return out
    for split, expected in (paper["sizes"] or {}).items():
        found = report["sizes"][split]
        if found != expected:
            more = "more" if found > expected else "fewer"
            out.append(f"{split} has {found} utterances, {abs(found - expected)} {more} than the paper's {expected}.")
    for modality, expected in paper["dims"].items():
        size = report["dims"].get(modality)
        if size is not None and size not in expected:
            out.append(f"{modality} has {size} features per row, the paper's has {' or '.join(map(str, expected))}.")
    return out + _of_vectors(report["vectors"], paper["dims"]["text"])


def _of_vectors(vectors: dict[str, Any] | None, expected: list[int]) -> list[str]:
    if not vectors or "dim" not in vectors or vectors["dim"] in expected:
        return []
    return [
        f"The word vectors have {vectors['dim']} dimensions, the paper's text has {' or '.join(map(str, expected))}."
    ]


def render(report: dict[str, Any]) -> str:
    """The report as aligned text; ends with the differences."""
    paper = report["paper"] or {}
    source = report["source"]
    lines = [
        f"Corpus {report['name']} ({report['task']}), from {source.get('file')} ({source.get('format', 'no')} format)",
        "",
    ]
    lines += [f"Note: {note}" for note in report["notes"]]
    lines += _table(
        ["split", "utterances", "paper", "zeroed audio values"],
        [
            [
                split,
                size,
                (paper.get("sizes") or {}).get(split, "-"),
                report["nonfinite"].get(split, {}).get("audio", 0),
            ]
            for split, size in report["sizes"].items()
        ],
    )
    dims = {m: " or ".join(map(str, paper["dims"][m])) if paper else "-" for m in MODALITIES}
    lines += _table(
        ["modality", "features", "paper", "nominal length"],
        [[m, report["dims"].get(m, "words only"), dims[m], report["nominal_lengths"].get(m, "-")] for m in MODALITIES],
    )
    names = list(report["labels"]["train"])
    lines += _table(["labels", *names], [[split, *counts.values()] for split, counts in report["labels"].items()])
    lines += _table(
        ["rows per utterance", *(f"{p} %" if p < 100 else "longest" for p in PERCENTILES)],
        [[f"{split} {what}", *row] for split, rows in report["lengths"].items() for what, row in rows.items()],
    )
    lines += [_alignment(report["aligned"]), *_vector_lines(report["vectors"]), ""]
    differences = report["differences"] or ["Sizes and feature dimensions are the paper's."]
    beside = f"Beside the paper's {paper['corpus']}:" if paper else "Beside the paper:"
    return "\n".join([*lines, beside, *(f"  {sentence}" for sentence in differences)]) + "\n"


def _alignment(aligned: str) -> str:
    return {
        "word": "Aligned: one audio and one vision row per word.",
        "step": "Aligned: text vectors, audio and vision have equal lengths.",
    }.get(aligned, "Not aligned: the modalities have lengths of their own.")


def _vector_lines(vectors: dict[str, Any] | None) -> list[str]:
    if not vectors:
        return ["Word vectors: none (import with --text-vectors FILE for the glove front-end)."]
    lines = [f"Word vectors: {vectors.get('file')}, {vectors.get('dim')} dimensions."]
    for unit in ("types", "tokens"):
        counts = vectors.get(unit)
        if isinstance(counts, dict) and sum(counts.values()):
            total = sum(counts.values())
            parts = ", ".join(f"{n} {step}" for step, n in counts.items())
            lines.append(f"  {unit}: {parts} ({100 * counts.get('missing', 0) / total:.1f} % unknown, zero vectors)")
    return lines


def _table(header: list[str], rows: list[list[Any]]) -> list[str]:
    cells = [header, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return [*(line.rstrip() for line in lines), ""]
