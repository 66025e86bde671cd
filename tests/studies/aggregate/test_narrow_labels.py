"""Labels in [-1, 1]: their protocols, and Acc5 and Acc3 in place of Acc7, in every command that shows metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import manifest, spec_of, study_of
from commands import bench, places

import studies
from hycon.metrics import NARROW, all_protocols, constant_metrics
from studies.store.recompute import other_metrics
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus, save_study
from studies.tables import TABLES

LABEL = np.float32([-1, -0.6, -0.1, 0, 0, 0.1, 0.4, 0.8, 1, 1])
ROW = next(row for row in TABLES["table1"].rows if row.name == "TFN-GloVe")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "results")
    corpus = manifest("sims", label_range=[-1.0, 1.0], constant=constant_metrics(LABEL, LABEL, NARROW))
    remember_corpus(store, corpus)
    runs = []
    for seed in (0, 1, 2):  # a trial, and two seeded runs
        given = spec_of(ROW, "sims", corpus.sha256, seed=seed)
        prediction = LABEL + np.float32(0.2 * seed)
        arrays = {f"{s}_{k}": v for s in ("valid", "test") for k, v in (("prediction", prediction), ("label", LABEL))}
        arrays |= {f"{s}_id": np.array([f"u{i}" for i in range(len(LABEL))]) for s in ("valid", "test")}
        metrics = {split: all_protocols(prediction, LABEL, NARROW) for split in ("valid", "test")}
        record = RunRecord(given, "done", metrics=metrics, valid_loss=0.2 * seed, best_epoch=1)
        runs.append(store.put(record, arrays).id)
    save_study(store, study_of(ROW, spec_of(ROW, "sims", corpus.sha256), [{}], runs[:1], runs[1:]))
    return store


def shown(capsys, store: RunStore, *options: str) -> dict:
    given = ["--corpus", "sims", "--rows", "TFN-GloVe", "--format", "json", *places(store.root.parent)]
    code, out, err = bench(capsys, "table", "table1", *given, *options)
    assert code == 0, err
    return json.loads(out)


def test_the_table_has_their_columns_and_protocols(store: RunStore, capsys) -> None:
    found = shown(capsys, store)
    assert found["protocol"] == "sims"
    row = found["rows"][0]
    assert list(row["metrics"]) == ["acc5", "acc3", "acc2", "f1", "mae", "corr"]
    assert row["metrics"]["acc2"]["mean"] == pytest.approx(70)  # -0.1 and both zeros are answered above 0
    other = shown(capsys, store, "--protocol", "non0")
    assert other["protocol"] == "sims_non0"
    assert other["rows"][0]["metrics"]["acc2"]["mean"] == pytest.approx(87.5)
    assert shown(capsys, store, "--protocol", "has0")["protocol"] == "sims"


def test_protocols_of_the_other_range_are_refused(store: RunStore, capsys) -> None:
    code, _, err = bench(
        capsys, "table", "table1", "--corpus", "sims", "--protocol", "mult", *places(store.root.parent)
    )
    assert code == 2
    assert "Protocol 'mult' is not for labels in [-1, 1]" in err


def test_every_command_that_shows_metrics(store: RunStore, capsys) -> None:
    place = places(store.root.parent)
    run = next(iter(store.records())).id
    for command in (
        ["show", "table1", "TFN-GloVe", "acc5", "--corpus", "sims"],
        ["show", run],
        ["list", "runs"],
        ["claims", "--corpus", "sims"],
        ["status", "table1", "--corpus", "sims"],
        ["report", "--corpus", "sims"],
    ):
        code, out, err = bench(capsys, *command, *place)
        assert code == 0, (command, err)
        if command[0] == "show":
            assert "acc5" in out.lower(), command
    found = studies.results("table1", corpus="sims", results=store.root, data=store.root.parent / "data")
    assert {"acc5", "acc3", "acc2"} <= set(found.columns)
    assert "acc7" not in found.columns
    assert found["acc5"].notna().all()


def test_their_metrics_are_those_of_their_predictions(store: RunStore) -> None:
    record = next(iter(store.records()))
    assert other_metrics(record, store.predictions(record.id)) is None
    record.metrics["test"]["sims"]["acc5"] += 0.1
    assert "acc5" in (other_metrics(record, store.predictions(record.id)) or "")
