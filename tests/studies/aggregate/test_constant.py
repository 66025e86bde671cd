"""The line of the constant prediction: from the manifest, else from the corpus at hand, else it says what fills it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from hycon.data.corpus import read_labels
from hycon.data.importers.synthetic import synthesize
from hycon.data.manifest import corpus_folder, read_manifest
from hycon.metrics import constant_metrics
from studies.aggregate.table import table_result
from studies.lookup import View
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES


@pytest.fixture
def data(tmp_path):
    synthesize("synthetic", tmp_path / "data")
    return tmp_path / "data"


def last_of(store: RunStore, data, **view):
    row = table_result(TABLES["table1"], store, View(corpus="synthetic", data=data, **view)).rows[-1]
    assert (row.row.name, row.status) == ("Constant prediction", "reference")
    return row


def forget(data) -> None:
    """The manifest as an older version wrote it."""
    path = corpus_folder("synthetic", data) / "manifest.json"
    raw = json.loads(path.read_text())
    del raw["constant"]
    path.write_text(json.dumps(raw))


def test_an_import_counts_it_and_an_older_manifest_is_helped_by_the_corpus(tmp_path, data):
    store = RunStore(tmp_path / "results")
    manifest = read_manifest("synthetic", data)
    labels = read_labels(manifest, data)
    assert manifest.constant == constant_metrics(labels["train"], labels["test"])
    assert [len(labels[split]) for split in manifest.sizes] == list(manifest.sizes.values())
    row = last_of(store, data)
    assert row.cells["mae"].stat.mean == pytest.approx(manifest.constant["paper"]["mae"])
    assert row.cells["acc2"].stat.mean == pytest.approx(100 * manifest.constant["paper"]["acc2"])
    assert last_of(store, data, protocol="all").cells["mae"].stat.mean == manifest.constant["all"]["mae"]
    under = table_result(TABLES["robustness"], store, View(corpus="synthetic", data=data)).rows[-1].cells
    for column in TABLES["robustness"].columns:  # a constant stays what it is without a modality
        whole = "acc2" if column.metric.endswith("acc2") else "mae"
        assert under[column.metric].stat.mean == row.cells[whole].stat.mean
    forget(data)
    assert read_manifest("synthetic", data).constant is None
    assert read_manifest("synthetic", data).sha256 == manifest.sha256
    assert last_of(store, data).cells["mae"].stat.mean == row.cells["mae"].stat.mean


def test_labels_of_other_data_than_the_results_are_not_taken(tmp_path, data):
    forget(data)
    manifest = read_manifest("synthetic", data)
    store = RunStore(tmp_path / "results")
    assert read_labels(dataclasses.replace(manifest, files={}), data) is None
    remember_corpus(store, manifest)
    (corpus_folder("synthetic", data) / "corpus.safetensors").write_bytes(b"damaged")
    row = last_of(store, data)
    assert row.cells["mae"].stat is None
    assert row.reason.endswith("not known: the corpus is not imported here, or has changed since")
    row = last_of(store, tmp_path / "nowhere")
    assert row.cells["mae"].stat is None
