"""Claims and runs with known truth, for the tests of studies.claims."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from hycon.metrics import sentiment_metrics
from studies.claims import evaluate, load_claims
from studies.lookup import View
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, save_study
from studies.tables import TABLES, Row

LABEL = np.where(np.arange(60) % 2 == 0, 1.0, -1.0) * np.linspace(0.6, 2.4, 60)
BERT = {"name": "bert-base-uncased", "sha256": "0"}
ROWS = {row.name: row for row in TABLES["table4"].rows}
FULL, NONE, IAMCL, SCL = ("HyCon", *(f"HyCon (W/O {part})" for part in ("Contrast Learning", "L_IAMCL", "L_SCL")))


def put(store: RunStore, row: Row, wrong: list[int], *, corpus: str = "mosi", encoder=BERT, **known) -> None:
    """A finished run per entry of `wrong`: seed i has so many of the 60 signs wrong, the rest exact."""
    rng = np.random.default_rng([len(row.name), *wrong])
    records = []
    for seed, count in enumerate(wrong):
        prediction = LABEL.copy()
        prediction[rng.permutation(60)[:count]] *= -1
        spec = RunSpec(row.model, 1, row.text, corpus, "sha", dict(row.config), {}, seed=seed, encoder=encoder)
        metrics = {"test": {p: sentiment_metrics(prediction, LABEL, p) for p in ("paper", "mmsa")}}
        record = RunRecord(spec, "done", metrics=metrics, **{"parameters": 100, "seconds": 10.0 + seed, **known})
        ids = np.array([f"u{i}" for i in range(60)])
        points = np.stack([prediction, np.zeros(60)], 1) + rng.normal(size=(60, 2))
        arrays = {"test_prediction": prediction, "test_label": LABEL, "test_id": ids, "test_multimodal": points}
        records.append(store.put(record, arrays))
    runs = [record.id for record in records]
    study = Study(
        row.model, row.text, corpus, "sha", dict(row.config), {}, encoder, "cpu", "paper", [{}] * 50, ["t"] * 50
    )
    save_study(store, dataclasses.replace(study, selected=0, runs=runs))


def claim(tmp_path: Path, text: str, **changes):
    """The one claim of a file with these lines beside what every claim has."""
    head = {"id": '"x"', "quote": '"as they say"', "place": '"sec. 4.5.3"', "tables": '["table4"]', **changes}
    lines = [f"{key} = {value}" for key, value in head.items() if value is not None]
    path = tmp_path / "claims.toml"
    path.write_text("[groups]\nboth = ['HyCon', 'HyCon-v2']\n[[claim]]\n" + "\n".join([*lines, text]))
    (found,) = load_claims(path)
    return found


def beats(a: str, *b: str, metrics: str = "['acc2']", more: str = "") -> str:
    return f"kind = 'beats'\nrows = ['{a}']\nthan = {list(b)}\nmetrics = {metrics}\n{more}"


BEATS = beats(FULL, IAMCL)


def verdict(store, tmp_path, text, **options):
    changes = options.pop("changes", {})
    (found,) = evaluate(store, View(**options), claims=[claim(tmp_path, text, **changes)])
    return found
