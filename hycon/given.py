"""Utterances that someone gives to a trained model: each checked against what the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hycon.data.batch import form_of
from hycon.data.corpus import Split
from hycon.data.importers.common import numbers
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.errors import UserError, check_known
from hycon.saved import Description

MISSING = ("refuse", "zeros")


def as_split(utterances: Sequence[Any], model: Description, fill: Mapping[str, np.ndarray], missing: str) -> Split:
    """The utterances as a Split, with labels of 0.

    utterances: mappings, or `hycon.data.Utterance`. Keys: id (default: their number), text (a sentence, or (T, d)
    vectors), words, audio (T, d), vision (T, d).  fill: modality -> the row (d,) that stands for a missing one.
    missing: "refuse", or "zeros": a modality that an utterance lacks is rows of `fill`. One that the model does not
    read may always be missing.
    Raises UserError naming the first utterance that the model cannot read.
    """
    check_known("answer to missing modalities", missing, MISSING)
    if not len(utterances):
        raise UserError("There is no utterance to predict.")
    found = [_Given(utterance, str(i)) for i, utterance in enumerate(utterances)]
    needs_words = form_of(str(model.spec["text"])) == "tokens" or not model.own_vectors
    sequences: dict[str, list[np.ndarray]] = {modality: [] for modality in MODALITIES}
    for given in found:
        if needs_words:
            given.check_words("text" in model.reads or model.aligned)
        for modality in MODALITIES:
            if modality != "text" or not needs_words:
                sequences[modality].append(_rows(given, modality, model, fill, missing))
        if model.aligned:
            _check_steps(given, sequences, needs_words)
    ragged = {m: Ragged.from_list([torch.from_numpy(rows) for rows in own]) for m, own in sequences.items() if own}
    label = torch.zeros(len(found), len(model.emotions)) if model.emotions else torch.zeros(len(found))
    return Split(
        [given.id for given in found],
        [given.words for given in found] if needs_words else None,
        ragged.get("text"),
        ragged["audio"],
        ragged["vision"],
        label,
    )


class _Given:
    """One utterance, whatever form it came in."""

    def __init__(self, utterance: Any, number: str):
        get = utterance.get if isinstance(utterance, Mapping) else lambda name: getattr(utterance, name, None)
        self.id = str(number if get("id") is None else get("id"))
        self.rows = {modality: get(modality) for modality in MODALITIES}
        words = get("words")
        if isinstance(self.rows["text"], str):
            words = self.rows["text"].split() if words is None else words
            self.rows["text"] = None
        self.words = [str(word) for word in (() if words is None else words)]

    def check_words(self, read: bool) -> None:
        """Raises UserError for an empty sentence, unless nothing reads it: then a word that nobody knows stands in."""
        if not self.words and read:
            raise UserError(f"Utterance {self.id!r} has no words: give it some text, or leave it out.")
        self.words = self.words or ["?"]
        if any(not word.strip() for word in self.words):
            raise UserError(f"Utterance {self.id!r} has an empty word: leave it out.")


def _rows(given: _Given, modality: str, model: Description, fill: Mapping[str, np.ndarray], missing: str) -> np.ndarray:
    """(T, d) float32 of a modality."""
    value, width = given.rows[modality], model.dims[modality]
    if value is None:
        if modality in model.reads and missing == "refuse":
            raise UserError(
                f"Utterance {given.id!r} has no {modality}, which the model reads ({', '.join(model.reads)}): give it, "
                "use a model that does not need it (table `modalities`), or let zeros stand for it (--missing zeros)."
            )
        others = [len(rows) for rows in given.rows.values() if rows is not None]
        steps = len(given.words) or next(iter(others), 1)
        return np.tile(fill[modality], (steps if model.aligned else 1, 1))
    rows = numbers(value, f"{modality} of {given.id!r}", 2)
    if 0 in rows.shape:
        raise UserError(f"{modality.capitalize()} of utterance {given.id!r} is empty, of shape {rows.shape}.")
    if rows.shape[1] != width:
        raise UserError(
            f"{modality.capitalize()} of utterance {given.id!r} has {rows.shape[1]} features per row; the model was "
            f"trained on {width}: they must be computed as those of corpus {model.spec.get('corpus')!r} were."
        )
    bad = ~np.isfinite(rows)
    if bad.any() and (modality != "audio" or np.isposinf(rows).any()):
        raise UserError(f"{modality.capitalize()} of utterance {given.id!r} holds {rows[bad][0]}; repair it.")
    return np.where(bad, np.float32(0), rows)  # COVAREP's -inf and NaN, as at import


def _check_steps(given: _Given, sequences: Mapping[str, Sequence[np.ndarray]], by_words: bool) -> None:
    """Raises UserError where an utterance is not aligned as the training data were."""
    steps = {modality: len(own[-1]) for modality, own in sequences.items() if own}
    if by_words:
        steps = {"words": len(given.words), **steps}
    if len(set(steps.values())) > 1:
        said = ", ".join(
            f"{count} {'words' if name == 'words' else f'rows of {name}'}" for name, count in steps.items()
        )
        what = "one row per word" if by_words else "as many rows in each modality"
        raise UserError(f"Utterance {given.id!r} has {said}; the model was trained on utterances with {what}.")
