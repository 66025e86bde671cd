"""Carry out one RunSpec as studies.engines.one_run does, and then measure its model on the test split under each of
hycon.data.conditions. That comes after all else: nothing is chosen by it, and no other number moves."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hycon.data.conditions import CONDITIONS, DRAWS
from studies.engines import one_run
from studies.store.record import RunSpec

if TYPE_CHECKING:
    from torch import nn

    from hycon.data import Corpus
    from hycon.data.batch import Batch

EXECUTE = "studies.engines.robustness:execute"


def robustness(spec: RunSpec, model: nn.Module, batches: dict[str, Batch], corpus: Corpus) -> dict[str, Any]:
    """Fields of a record: the metrics of the test split under each condition."""
    from hycon.data.prepare import permuted_modalities, prepare
    from hycon.data.robustness import intact
    from hycon.pretrained import load_tokenizer
    from hycon.train import predict
    from studies.engines.remembered import Remembered, text_remembered

    tokenizer = load_tokenizer(spec.text, spec.encoder) if spec.encoder else None
    test, scale = batches["test"], spec.training["scale"]
    permuted = permuted_modalities(spec.training.get("permuted", ""))
    if permuted:  # what is dropped is dropped before
        test = prepare(corpus, spec.text, tokenizer=tokenizer, scale=scale, device=test.label.device)["test"]
    whole = intact(corpus, "test", test, spec.text, tokenizer, scale, permuted)
    label = test.label.cpu().numpy()
    found = {}
    memory: Remembered = {}
    for condition in CONDITIONS:
        batch = whole.under(condition)
        with nullcontext() if "text" in condition.modalities else text_remembered(model, memory):
            prediction = predict(model, batch, spec.training["precision"]).cpu().numpy()
        known = bool(np.isfinite(prediction).all())  # what a model makes of zeros need not be a number
        metrics = one_run.metrics_of(prediction if known else np.zeros_like(prediction), label, corpus.manifest)
        metrics.pop("majority", None)
        found[condition.name] = metrics if known else _undefined(metrics)
    return {"robustness": found, "robustness_draws": DRAWS}


def _undefined(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: _undefined(value) if isinstance(value, dict) else None for name, value in metrics.items()}


execute = partial(one_run.execute, more=robustness)  # the record has `robustness`
