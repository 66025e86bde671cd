"""Same spec, same bits, whatever ran before, beside or in which order; and test labels decide nothing."""

import dataclasses

import numpy as np
import pytest
import torch

from hycon.data import convert, load
from studies.engines.one_run import execute
from studies.engines.run import How, run
from studies.lookup import Profile
from studies.search.plan import Setting, trial_specs
from studies.search.run import run_table
from studies.store.run_store import RunStore
from studies.tables import Row

VARYING = {"seconds", "seconds_per_epoch", "test_seconds", "peak_memory_mib", "energy_joules", "started"}
TFN = Row("TFN-GloVe", "tfn", "glove")
ROWS = [TFN, Row("LMF-GloVe", "lmf", "glove"), Row("HyCon-BERT", "hycon", "bert")]


def setting_on(root, trials=2, seeds=1):
    from hycon.pretrained import identify

    profile = Profile("paper", trials, seeds, epochs=2)
    options = {"lr": 0.005}
    return Setting(load("small", root).manifest, profile, {"bert": identify("bert", "demo")}, options=options)


def fixed(record):
    """Everything of a record but what a clock or a memory gauge says."""
    return {name: value for name, value in record.to_dict().items() if name not in VARYING}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_same_spec_gives_the_same_bits(row, corpora):
    spec = trial_specs(row, setting_on(corpora))[1][0]
    first, arrays = execute(spec, data_root=str(corpora))
    torch.manual_seed(torch.seed())  # whatever ran in between
    torch.rand(7)
    second, again = execute(spec, data_root=str(corpora))
    assert fixed(first) == fixed(second)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    other, _ = execute(dataclasses.replace(spec, seed=spec.seed + 1), data_root=str(corpora))
    assert other.weights_sha256 != first.weights_sha256


def test_workers_order_and_engine_change_nothing(corpora, tmp_path):
    specs = [spec for row in ROWS for spec in trial_specs(row, setting_on(corpora))[1]]
    found = []
    for name, order, how in (
        ("inline", specs, {"executor": "inline"}),
        ("one", specs[::-1], {"executor": "local", "workers": 1}),
        ("two", specs, {"executor": "local", "workers": 2}),
    ):
        store = RunStore(tmp_path / name)
        assert not run(order, store, data_root=corpora, **how).failed
        found.append(
            {s.id: (fixed(store.get(s.id)), (store.folder(s.id) / "predictions.npz").read_bytes()) for s in specs}
        )
    assert len(found[0]) == 6
    assert found[0] == found[1] == found[2]


def test_permuted_test_labels_change_no_choice_no_weight_and_no_validation_number(
    corpora, tmp_path, utterances_of, vectors_of
):
    corpus = load("small", corpora)
    splits = utterances_of(corpus)
    labels = [u.label for u in splits["test"]]
    splits["test"] = [
        dataclasses.replace(u, label=label) for u, label in zip(splits["test"], labels[1:] + labels[:1], strict=True)
    ]
    convert(
        "small",
        splits,
        source=corpus.manifest.source,
        root=tmp_path / "data",
        lengths=corpus.manifest.lengths,
        vectors=vectors_of(corpus),
        notes=corpus.manifest.notes,
        synthetic=True,
    )
    outcomes = []
    for name, root in (("as it is", corpora), ("permuted", tmp_path / "data")):
        store = RunStore(tmp_path / name)
        how = How(executor="inline", data_root=root)
        outcome = run_table([TFN], setting_on(root, trials=3, seeds=2), store, how)
        assert not outcome.failed
        [study] = outcome.studies
        records = [store.get(run) for run in (*study.trials, *study.runs)]
        predictions = [store.predictions(record.id)["test_prediction"].tolist() for record in records]
        chosen = [(r.weights_sha256, r.valid_loss, r.best_epoch, r.curve, r.metrics["valid"]) for r in records]
        outcomes.append((study.selected, study.draws, chosen, predictions, [r.metrics["test"] for r in records]))
        outcomes[-1] += (study.data,)
    intact, permuted = outcomes
    assert intact[:4] == permuted[:4]
    assert len(intact[2]) == 5
    assert intact[4] != permuted[4]
    assert intact[5] != permuted[5]  # the labels were indeed others
