"""Results folders as tests need them: manifests, settings, specs, records, and rows of them. Nothing is trained.

`fill` makes rows of Table 1 whose runs are off by a known error, `fill_signs` rows whose runs have a known number of
signs wrong, `fill_table` whole tables, with curves and representations, for what only has to look like results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hycon.data.manifest import PAPER, SPLITS, Manifest, read_manifest
from hycon.metrics import all_protocols, sentiment_metrics
from hycon.pretrained import identify
from studies.lookup import Profile
from studies.registry import model_module, resolve
from studies.search.plan import Setting
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, remember_corpus, save_study
from studies.tables import TABLES, Row, TableSpec

ENCODER = {"name": "demo", "sha256": "e" * 64}
BERT = {"name": "bert-base-uncased", "sha256": "0"}
LABEL = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5, -1.5, 3.0], np.float32)
SIGNED = np.where(np.arange(60) % 2 == 0, 1.0, -1.0) * np.linspace(0.6, 2.4, 60)  # labels of `fill_signs`
XEON = "cpu (x86_64, Intel(R) Xeon(R) Processor @ 2.80GHz)"
VERSIONS = {
    "python": "3.11.7",
    "platform": "linux",
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
    "numpy": "2.4.6",
    "tokenizers": "0.23.3",
}
DRAWS = [{"lr": 1e-4, "hidden": 8}, {"lr": 3e-4, "hidden": 8}, {"lr": 1e-4, "hidden": 16}, {"lr": 3e-4, "hidden": 16}]


# ------------------------------------------------------------------------------------------------- one thing


def manifest(name: str = "mosi", content: str = "0", **changes: Any) -> Manifest:
    """content: a digit, of which the files' sha256 is made. Sizes are the paper's, where it has a corpus `name`."""
    one = dict.fromkeys(("text", "audio", "vision"), 1)
    files = {"corpus.safetensors": content * 64}
    sizes = dict(zip(SPLITS, PAPER.get(name, {}).get("sizes") or (1, 1, 1), strict=True))
    return dataclasses.replace(Manifest(name, "sentiment", {}, sizes, one, one, "word", {}, files), **changes)


def setting(trials: int = 4, seeds: int = 3, content: str = "0", most_epochs: int | None = None, **options) -> Setting:
    profile = Profile("paper", trials, seeds, epochs=most_epochs)
    return Setting(manifest(content=content), profile, {"bert": ENCODER}, options=options)


def spec(number: int = 0, model: str = "ef_lstm", **changes: Any) -> RunSpec:
    given = RunSpec(model, 1, "glove", "mosi", manifest().sha256, {"hidden": 8}, {"lr": 0.001}, seed=number)
    return dataclasses.replace(given, **changes)


def spec_of(row: Row, corpus: str = "mosi", data: str = "", encoder: dict | None = None, **changes) -> RunSpec:
    """data: sha256 of the corpus; of `manifest`'s by default."""
    given = RunSpec(
        row.model, 1, row.text, corpus, data or manifest(corpus).sha256, dict(row.config), {}, seed=0, encoder=encoder
    )
    return dataclasses.replace(given, **changes)


def run_spec(root, model: str = "tfn", text: str = "glove", corpus: str = "small", *, seed=1, **overrides) -> RunSpec:
    """The spec of a run that can be trained, on a corpus of conftest's."""
    overrides = {"epochs": 2, "batch_size": 16, **overrides}
    config, training = resolve(model, text, overrides)
    return RunSpec(
        model=model,
        version=model_module(model).VERSION,
        text=text,
        corpus=corpus,
        data=read_manifest(corpus, root).sha256,
        config=dataclasses.asdict(config),
        training=dataclasses.asdict(training),
        seed=seed,
        encoder=identify(text, "demo") if text in ("bert", "xlnet") else None,
    )


def record(given: RunSpec, prediction: np.ndarray, **changes: Any) -> RunRecord:
    metrics = {split: all_protocols(prediction, LABEL) for split in ("valid", "test")}
    known = {"valid_loss": float(np.abs(prediction - LABEL).mean()), "best_epoch": 1, "parameters": 100}
    known |= {"weights_sha256": f"{given.seed:064x}", "device": XEON, "environment": VERSIONS, "seconds": 1.5}
    return RunRecord(given, "done", metrics=metrics, **{**known, **changes})


def put(store: RunStore, given: RunSpec, error: float = 0.1, **changes: Any) -> RunRecord:
    """A finished run that is off by `error`, in turn above and below the label."""
    signs = np.where(np.arange(len(LABEL)) % 2, -1, 1).astype(np.float32)
    prediction = LABEL + np.float32(error) * signs
    ids = np.array([f"u{i}" for i in range(len(LABEL))])
    arrays = {f"{s}_{k}": v for s in ("valid", "test") for k, v in (("prediction", prediction), ("label", LABEL))}
    return store.put(record(given, prediction, **changes), {**arrays, "valid_id": ids, "test_id": ids})


def study_of(
    row: Row, given: RunSpec, draws: list[dict], trials: list[str], runs: list[str], /, **changes: Any
) -> Study:
    """The study of a row whose runs are like `given`; trial 0 wins. A measured row has no trials."""
    study = Study(
        model=row.model,
        text=row.text,
        corpus=given.corpus,
        data=given.data,
        row=dict(row.config),
        options={},
        encoder=given.encoder,
        device="cpu",
        profile="paper",
        draws=draws,
        trials=trials,
        selected=0,
        runs=runs,
    )
    if row.measured:
        fixed = {"batch_size": 48, "epochs": 3, "patience": 3}
        study = dataclasses.replace(study, draws=[], trials=[], selected=None, options=fixed, measured=True)
        changes.pop("selected", None)
    return dataclasses.replace(study, **changes)


class Runner:
    """Stands in for an executor: a run's loss is what `loss` says of its spec, None is a failure. calls: their ids."""

    def __init__(self, store, loss=lambda spec: spec.seed % 997):
        self.store, self.loss, self.calls = store, loss, []

    def __call__(self, specs):
        self.calls.append([spec.id for spec in specs])
        for spec in specs:
            loss = self.loss(spec)
            if loss is None:
                self.store.put_failed(spec, "non-finite loss at epoch 1, step 1")
            elif not self.store.has(spec.id):
                self.store.put(RunRecord(spec, "done", valid_loss=float(loss)), {"valid_prediction": np.zeros(2)})


# ------------------------------------------------------------------------------------------------- rows


def fill(store: RunStore, errors: Sequence[float], row: str = "EF-LSTM-GloVe", trials: int = 1, **changes) -> Study:
    """A row of Table 1, searched and run: one seeded run for each of `errors`, each with its record `changes`
    (a list gives one value a run; `spec_...` changes the spec)."""
    found = next(r for r in TABLES["table1"].rows if r.name == row)
    common = {
        k.removeprefix("spec_"): v for k, v in changes.items() if k.startswith("spec_") and not isinstance(v, list)
    }
    tried = [put(store, spec(1000 + i, found.model, **common), 0.5 + i).id for i in range(trials)]
    runs = []
    for number, error in enumerate(errors):
        given = {k: v[number] if isinstance(v, list) else v for k, v in changes.items()}
        own = {k.removeprefix("spec_"): v for k, v in given.items() if k.startswith("spec_")}
        known = {k: v for k, v in given.items() if not k.startswith("spec_")}
        runs.append(put(store, spec(number, found.model, **own), error, **known).id)
    remember_corpus(store, manifest())
    draws = [{"lr": 0.001 * (i + 1)} for i in range(trials)]
    study = study_of(
        found, spec(**common), draws, tried, runs, text="glove", row={}, model_version=spec(**common).version
    )
    save_study(store, study)
    return study


def fill_signs(
    store: RunStore,
    row: Row,
    wrong: Sequence[int],
    *,
    corpus: str = "mosi",
    encoder: dict | None = BERT,
    suite: int = RunSpec.suite,
    data: str = "",
    version: int = 1,
    options: Mapping[str, Any] | None = None,
    **known,
) -> None:
    """A finished run per entry of `wrong`: seed i has so many of the 60 signs of SIGNED wrong, the rest exact.
    options: what was set by hand."""
    _remember(store, corpus)
    rng = np.random.default_rng([len(row.name), *wrong])
    records = []
    for seed, count in enumerate(wrong):
        prediction = SIGNED.copy()
        prediction[rng.permutation(60)[:count]] *= -1
        given = spec_of(row, corpus, data, encoder, seed=seed, suite=suite, version=version)
        metrics = {"test": {p: sentiment_metrics(prediction, SIGNED, p) for p in ("paper", "mmsa")}}
        made = RunRecord(given, "done", metrics=metrics, **{"parameters": 100, "seconds": 10.0 + seed, **known})
        ids = np.array([f"u{i}" for i in range(60)])
        points = np.stack([prediction, np.zeros(60)], 1) + rng.normal(size=(60, 2))
        arrays = {"test_prediction": prediction, "test_label": SIGNED, "test_id": ids, "test_multimodal": points}
        records.append(store.put(made, arrays))
    runs = [made.id for made in records]
    trials, given = [f"t{i}" for i in range(50)], spec_of(row, corpus, data, encoder)
    save_study(store, study_of(row, given, [{}] * 50, trials, runs, options=dict(options or {})))


def _remember(store: RunStore, corpus: str) -> None:
    """A corpus of the paper's, with its sizes, unless the folder has one of that name."""
    if corpus in ("mosi", "mosei") and not (store.root / "corpora" / corpus).exists():
        remember_corpus(store, manifest(corpus))


def fill_table(
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
    **config: Any,
) -> None:
    """A study of the rows on the table's corpus: four trials (`failing`, if any, failed; trial 1 wins) and `seeds`
    runs, whose metrics, curves and predictions follow from the row and the seed."""
    _remember(store, corpus or table.corpus)
    for row in rows:
        rng = np.random.default_rng(abs(hash_of(row.name)))
        encoder = BERT if row.text == "bert" else None
        base = spec_of(row, corpus or table.corpus, encoder=encoder, config={**row.config, **config})
        trials = [dataclasses.replace(base, config={**base.config, **draw}, seed=i) for i, draw in enumerate(DRAWS)]
        for i, trial in enumerate(trials):
            if i == failing:
                store.put_failed(trial, "non-finite loss at epoch 1, step 2")
            else:
                store.put(RunRecord(trial, "done", valid_loss=1.0 + 0.1 * abs(i - 1)), {})
        runs = [dataclasses.replace(base, config=trials[1].config, seed=100 + i) for i in range(seeds)]
        for run in runs:
            store.put(_run(run, table, rng), _arrays(table, points, rng, multimodal))
        ids = [run.id for run in runs]
        save_study(store, study_of(row, base, DRAWS, [trial.id for trial in trials], ids, selected=1, profile=profile))


def hash_of(text: str) -> int:
    return sum((i + 1) * ord(letter) for i, letter in enumerate(text))  # Python's own differs between processes


def _run(given: RunSpec, table: TableSpec, rng: np.random.Generator) -> RunRecord:
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
        given,
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
