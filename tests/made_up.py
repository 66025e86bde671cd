"""A results folder of made-up studies and runs, for what reads results: nothing is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, save_study
from studies.tables import Row, TableSpec

BERT = {"name": "bert-base-uncased", "sha256": "0"}
DRAWS = [{"lr": 1e-4, "hidden": 8}, {"lr": 3e-4, "hidden": 8}, {"lr": 1e-4, "hidden": 16}, {"lr": 3e-4, "hidden": 16}]


def fill(
    store: RunStore,
    table: TableSpec,
    rows: Iterable[Row],
    *,
    seeds: int = 3,
    corpus: str | None = None,
    points: int = 30,
    failing: int | None = 3,
    multimodal: bool = True,
    profile: str = "paper",
    **config,
) -> None:
    """A study of the rows on the table's corpus: four trials (`failing`, if any, failed; trial 1 wins) and `seeds`
    runs, whose metrics, curves and predictions follow from the row and the seed."""
    for row in rows:
        rng = np.random.default_rng(abs(hash_of(row.name)))
        base = RunSpec(
            model=row.model,
            version=1,
            text=row.text,
            corpus=corpus or table.corpus,
            data="0" * 64,
            config={**row.config, **config},
            training={},
            seed=0,
            encoder=BERT if row.text == "bert" else None,
        )
        trials = [dataclasses.replace(base, config={**base.config, **draw}, seed=i) for i, draw in enumerate(DRAWS)]
        for i, spec in enumerate(trials):
            if i == failing:
                store.put_failed(spec, "non-finite loss at epoch 1, step 2")
            else:
                store.put(RunRecord(spec, "done", valid_loss=1.0 + 0.1 * abs(i - 1)), {})
        specs = [dataclasses.replace(base, config=trials[1].config, seed=100 + i) for i in range(seeds)]
        for spec in specs:
            store.put(_run(spec, table, rng), _arrays(table, points, rng, multimodal))
        study = Study(
            model=row.model,
            text=row.text,
            corpus=base.corpus,
            data=base.data,
            row=dict(row.config),
            options={},
            encoder=base.encoder,
            device="cpu",
            profile=profile,
            draws=DRAWS,
            trials=[spec.id for spec in trials],
            selected=1,
            runs=[spec.id for spec in specs],
        )
        save_study(store, study)


def hash_of(text: str) -> int:
    return sum((i + 1) * ord(letter) for i, letter in enumerate(text))  # Python's own differs between processes


def _run(spec: RunSpec, table: TableSpec, rng: np.random.Generator) -> RunRecord:
    around = {"mae": 0.8, "corr": 0.7, "acc7": 0.4}
    noise = rng.normal(0, 0.02, len(table.columns))
    values = {c.metric: around.get(c.metric, 0.8) + float(e) for c, e in zip(table.columns, noise, strict=True)}
    if table.task == "emotion":
        felt: dict[str, dict[str, float]] = {}
        for metric, value in values.items():
            emotion, _, kind = metric.rpartition("_")
            felt.setdefault(emotion, {})[kind] = value
        metrics = {"emotions": felt, "majority": {e: dict.fromkeys(kinds, 0.7) for e, kinds in felt.items()}}
    else:
        metrics = {"paper": values, "all": {metric: value / 2 for metric, value in values.items()}}
    best = int(rng.integers(4, 9))
    epochs = np.arange(1, best + 4)
    valid = 0.8 + 0.4 * np.abs(epochs - best) / best + rng.normal(0, 0.005, len(epochs)) * (epochs != best)
    train = 2.5 * np.exp(-epochs / 3) - 0.4
    curve = [
        {"epoch": int(e), "train_loss": float(t), "valid_loss": float(v)}
        for e, t, v in zip(epochs, train, valid, strict=True)
    ]
    return RunRecord(
        spec,
        "done",
        metrics={"test": metrics},
        valid_loss=float(valid[best - 1]),
        best_epoch=best,
        curve=curve,
        parameters=int(1e8 * rng.uniform(1.0, 1.1)),
        seconds=float(100 * rng.uniform(1, 40)),
        seconds_per_epoch=float(10 * rng.uniform(1, 4)),
        test_seconds=float(rng.uniform(0.5, 1)),
        peak_memory_mib=2000.0,
    )


def _arrays(table: TableSpec, n: int, rng: np.random.Generator, multimodal: bool) -> dict[str, np.ndarray]:
    label = np.random.default_rng(n).uniform(-3, 3, n).round(1).astype(np.float32)  # all runs' test split
    label[0] = 0.0
    centre = np.where(label[:, None] >= 0, 1.5, -1.5)
    arrays = {"test_label": label, "test_prediction": label, "test_id": np.array([f"u{i}" for i in range(n)])}
    if table.task == "emotion":
        arrays["test_label"] = (label[:, None] > np.array([-1, 0, 1, 2])).astype(np.float32)
    if multimodal:
        arrays["test_multimodal"] = (centre + rng.normal(0, 1, (n, 6))).astype(np.float32)
    return arrays
