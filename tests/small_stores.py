"""Results folders in small: finished rows of a table with records, predictions, a study and the corpus's manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hycon.data.manifest import Manifest
from hycon.metrics import all_protocols
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, remember_corpus, save_study
from studies.tables import TABLES

LABEL = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5, -1.5, 3.0], np.float32)
XEON = "cpu (x86_64, Intel(R) Xeon(R) Processor @ 2.80GHz)"
VERSIONS = {
    "python": "3.11.7",
    "platform": "linux",
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
    "numpy": "2.4.6",
    "tokenizers": "0.23.3",
}
DATA = {"corpus.safetensors": "1" * 64}


def manifest(name: str = "mosi", files: dict[str, str] = DATA) -> Manifest:
    return Manifest(name, "sentiment", {}, {"train": 1}, {"audio": 1}, {}, "word", {}, files)


def spec(number: int = 0, model: str = "ef_lstm", **changes) -> RunSpec:
    given = RunSpec(model, 1, "glove", "mosi", manifest().sha256, {"hidden": 8}, {"lr": 0.001}, seed=number)
    return dataclasses.replace(given, **changes)


def record(given: RunSpec, prediction: np.ndarray, **changes) -> RunRecord:
    metrics = {split: all_protocols(prediction, LABEL) for split in ("valid", "test")}
    known = {"valid_loss": float(np.abs(prediction - LABEL).mean()), "best_epoch": 1, "parameters": 100}
    known |= {"weights_sha256": f"{given.seed:064x}", "device": XEON, "environment": VERSIONS, "seconds": 1.5}
    return RunRecord(given, "done", metrics=metrics, **{**known, **changes})


def put(store: RunStore, given: RunSpec, error: float = 0.1, **changes) -> RunRecord:
    """A finished run that is off by `error`, in turn above and below the label."""
    signs = np.where(np.arange(len(LABEL)) % 2, -1, 1).astype(np.float32)
    prediction = LABEL + np.float32(error) * signs
    ids = np.array([f"u{i}" for i in range(len(LABEL))])
    arrays = {f"{s}_{k}": v for s in ("valid", "test") for k, v in (("prediction", prediction), ("label", LABEL))}
    return store.put(record(given, prediction, **changes), {**arrays, "valid_id": ids, "test_id": ids})


def fill(store: RunStore, errors: Sequence[float], row: str = "EF-LSTM-GloVe", trials: int = 1, **changes) -> Study:
    """A row of Table 1, searched and run: one seeded run for each of `errors`, each with its record `changes`
    (a list gives one value a run; `spec_...` changes the spec)."""
    model = next(r for r in TABLES["table1"].rows if r.name == row).model

    def of(number: int) -> dict:
        return {k: v[number] if isinstance(v, list) else v for k, v in changes.items()}

    def split(number: int) -> tuple[dict, dict]:
        given = of(number)
        own = {k.removeprefix("spec_"): v for k, v in given.items() if k.startswith("spec_")}
        return own, {k: v for k, v in given.items() if not k.startswith("spec_")}

    tried = [put(store, spec(1000 + i, model), 0.5 + i).id for i in range(trials)]
    runs = []
    for number, error in enumerate(errors):
        own, known = split(number)
        runs.append(put(store, spec(number, model, **own), error, **known).id)
    remember_corpus(store, manifest())
    draws = [{"lr": 0.001 * (i + 1)} for i in range(trials)]
    study = Study(model, "glove", "mosi", manifest().sha256, {}, {}, None, "cpu", "paper", draws, tried, 0, runs, 1)
    save_study(store, study)
    return study
