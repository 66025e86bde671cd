"""The longest sequence that a corpus holds: what is beyond it is cropped at import, counted and said.

Memory grows with the nominal length of a modality, in attention with its square, and one odd recording among thousands
of training utterances would set it for all. Where text, audio and vision of an utterance have one row for each step,
they stay so: all three end where its text does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hycon.data.importers.common import Utterance
from hycon.data.manifest import MODALITIES, Alignment

# Rows. No file of the field has more: MulT's CMU-MOSI and CMU-MOSEI have up to 50, 500 and 500, MMSA's CH-SIMS v2 has
# 50, 925 and 232. BERT has positions for 512 word pieces.
LONGEST = {"text": 500, "audio": 1000, "vision": 1000}


def crop(utterance: Utterance, counts: dict[str, int]) -> Utterance:
    """Without what no model reads; `counts`, modality -> utterances, is raised where something was left out."""
    most = _allowed(_in_step(utterance))
    changes = {}
    for part, modality in (("words", "text"), *((m, m) for m in MODALITIES)):
        rows = getattr(utterance, part)
        if rows is not None and len(rows) > most[modality]:
            kept = rows[: most[modality]]
            changes[part] = kept if part == "words" else kept.copy()  # a view would keep all of it in memory
    for modality in {"text" if part == "words" else part for part in changes}:
        counts[modality] = counts.get(modality, 0) + 1
    return dataclasses.replace(utterance, **changes) if changes else utterance


def nominal(lengths: Mapping[str, int], aligned: Alignment) -> dict[str, int]:
    """The nominal lengths, none beyond what utterances may have."""
    most = _allowed(aligned != "none")
    return {modality: min(length, most[modality]) for modality, length in lengths.items()}


def in_words(cropped: Mapping[str, Mapping[str, int]] | None, lengths: Mapping[str, int]) -> list[str]:
    """Sentences, and an empty line after them: what was cropped, and nominal lengths of before there was a longest."""
    parts = [f"{m} of {n:,} in {split}" for split, counts in (cropped or {}).items() for m, n in counts.items()]
    limits = ", ".join(f"{m} {n:,}" for m, n in LONGEST.items())
    said = [f"Longer utterances were cropped at import: {', '.join(parts)} (rows at most: {limits})."] if parts else []
    beyond = [f"{m} {n:,}" for m, n in lengths.items() if n > LONGEST.get(m, n)]
    if beyond:
        said.append(
            f"Nominal lengths of an earlier rule, for which memory may not suffice: {', '.join(beyond)}. "
            f"Import it again: rows end at {limits}."
        )
    return [*said, ""] if said else []


def _in_step(utterance: Utterance) -> bool:
    text = [rows for rows in (utterance.words, utterance.text) if rows is not None]
    return any(len(rows) == len(utterance.audio) == len(utterance.vision) for rows in text)


def _allowed(in_step: bool) -> dict[str, int]:
    return dict.fromkeys(MODALITIES, LONGEST["text"]) if in_step else LONGEST
