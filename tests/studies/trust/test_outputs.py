"""Predictions without labels: nothing of the corpus leaves, and whoever has the corpus judges by them as before."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from archives import files, repacked
from builders import run_spec, spec
from commands import bench

from hycon.data.manifest import read_manifest
from hycon.errors import UserError
from hycon.metrics import all_protocols
from studies.aggregate.predictions import compare_records, group_of, separation_of
from studies.engines.run import run
from studies.store.arrays import npz_bytes
from studies.store.outputs import OUTPUTS, Labels, read_answers
from studies.store.record import RunRecord
from studies.store.run_store import PREDICTIONS, RunStore
from studies.trust.archive import export, import_results
from studies.trust.doctor import examine
from studies.trust.verify import verify

ROWS = ("HyCon", "HyCon (W/O Contrast Learning)")


def put(store: RunStore, data: Path, number: int, error: float) -> RunRecord:
    """A finished run on corpus small that is off by `error` and some noise."""
    manifest = read_manifest("small", data)
    answers = read_answers(manifest, data)
    rng = np.random.default_rng([number, int(100 * error)])
    predictions = {
        s: answers[f"{s}_label"] + rng.normal(0, error, len(answers[f"{s}_label"])).astype(np.float32)
        for s in ("valid", "test")
    }
    metrics = {s: all_protocols(found, answers[f"{s}_label"]) for s, found in predictions.items()}
    arrays = {**answers, **{f"{s}_prediction": found for s, found in predictions.items()}}
    arrays["test_multimodal"] = rng.normal(size=(len(predictions["test"]), 3)).astype(np.float32)
    given = spec(number, corpus="small", data=manifest.sha256)
    return store.put(RunRecord(given, "done", metrics=metrics, valid_loss=1.0), arrays)


@pytest.fixture
def store(tmp_path, corpora):
    made = RunStore(tmp_path / "results")
    for number, error in enumerate([0.3, 0.4, 0.5, 1.0, 1.1, 1.2]):
        put(made, corpora, number, error)
    return made


@pytest.fixture
def published(store, tmp_path, corpora):
    export(store, tmp_path / "x.tar.gz", labels=False)
    made = RunStore(tmp_path / "published", labels=Labels(corpora))
    import_results(tmp_path / "x.tar.gz", made)
    return made


def test_nothing_of_the_corpus_leaves(store, published):
    assert len(published.ids()) == len(store.ids())
    for run_id in published.ids():
        folder = published.folder(run_id)
        assert sorted(p.name for p in folder.iterdir()) == [OUTPUTS, "record.json"]
        held = np.load(folder / OUTPUTS)
        assert sorted(held) == ["separation", "test_prediction", "valid_prediction"]
        full = store.predictions(run_id)
        for name in ("test_prediction", "valid_prediction"):
            assert np.array_equal(held[name], full[name])


def test_with_the_corpus_at_hand_rows_are_compared_as_before(store, published):
    a, b = (list(store.records())[i::2] for i in (0, 1))
    ours, theirs = (group_of(s, a) for s in (published, store))
    assert all(
        np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y
        for x, y in zip(dataclasses.astuple(ours), dataclasses.astuple(theirs), strict=True)
    )
    compared = compare_records(published, a, b, "mae")
    assert compared == compare_records(store, a, b, "mae")
    assert compared.utterances == 16
    assert compare_records(RunStore(published.root), a, b, "mae").utterances == 0  # by one number a run


@pytest.mark.parametrize("labels", [None, "nowhere", "another"])
def test_without_the_corpus_they_are_not_there(published, tmp_path, corpora, labels):
    """Also where another corpus has its name."""
    if labels == "another":
        shutil.copytree(corpora / "text", tmp_path / "data" / "small")
        manifest = tmp_path / "data/small/manifest.json"
        manifest.write_text(manifest.read_text().replace('"name": "text"', '"name": "small"'))
        assert read_manifest("small", tmp_path / "data").name == "small"
    held = RunStore(published.root, labels=labels and Labels(tmp_path / "data"))
    run_id = held.ids()[0]
    assert not held.has_predictions(run_id)
    assert held.has_outputs(run_id)
    with pytest.raises(UserError, match="holds predictions without labels: import corpus small"):
        held.predictions(run_id)
    assert examine(held) == []


def test_a_corpus_whose_file_was_edited_gives_no_labels(published, tmp_path, corpora):
    shutil.copytree(corpora / "small", tmp_path / "data" / "small")
    file = tmp_path / "data/small/corpus.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    held = RunStore(published.root, labels=Labels(tmp_path / "data"))
    assert not held.has_predictions(held.ids()[0])


def test_outputs_of_another_run_are_found(published):
    first, second = published.ids()[:2]
    shutil.copy(published.folder(first) / OUTPUTS, published.folder(second) / OUTPUTS)
    with pytest.raises(UserError, match=r"is damaged \((valid|test) .* its predictions give"):
        published.predictions(second)
    (found,) = examine(published)
    assert (found.kind, found.path, found.action) == ("predictions", f"runs/{second}", "quarantine")


@pytest.mark.parametrize("content", [b"", b"nothing", npz_bytes({"test_prediction": np.zeros(3, np.float32)})])
def test_damaged_outputs_are_found_without_the_corpus_too(published, content):
    run_id = published.ids()[0]
    (published.folder(run_id) / OUTPUTS).write_bytes(content)
    for held in (published, RunStore(published.root)):
        (found,) = examine(held)
        assert (found.kind, found.path, found.action) == ("predictions", f"runs/{run_id}", "quarantine")


def test_one_that_is_missing_is_found(published):
    run_id = published.ids()[0]
    (published.folder(run_id) / OUTPUTS).unlink()
    (found,) = examine(published)
    assert "gone" in found.said


@pytest.mark.parametrize("name", ["test_label", "test_id", "test_multimodal", "x"])
def test_an_archive_with_more_in_it_is_refused(published, tmp_path, name):
    def change(content):
        one = next(n for n in content if n.endswith(OUTPUTS))
        arrays = {"valid_prediction": np.zeros(3, np.float32), "test_prediction": np.zeros(3, np.float32)}
        return {**content, one: npz_bytes({**arrays, name: np.zeros(3)})}

    target = repacked(tmp_path / "x.tar.gz", tmp_path / "forged.tar.gz", change)
    with pytest.raises(UserError, match=f"it holds '{name}'"):
        import_results(target, RunStore(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_labels_can_follow(store, published, tmp_path):
    export(store, tmp_path / "full.tar.gz")
    import_results(tmp_path / "full.tar.gz", published)
    assert files(published.root) == files(store.root)
    import_results(tmp_path / "x.tar.gz", published)  # and are not taken away again
    assert files(published.root) == files(store.root)
    run_id = published.ids()[0]
    (published.folder(run_id) / OUTPUTS).write_bytes(b"")  # where both lie, the whole ones are read
    assert not published.has_outputs(run_id)
    assert "test_multimodal" in published.predictions(run_id)


def test_outputs_of_a_run_with_another_result_are_not_added(store, published, tmp_path):
    run_id = published.ids()[0]
    folder = published.folder(run_id)
    (folder / OUTPUTS).unlink()
    path = folder / "record.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "predictions": {**raw["predictions"], "sha256": "0" * 64}}))
    import_results(tmp_path / "x.tar.gz", published)
    assert not published.has_outputs(run_id)


def test_a_published_folder_is_exported_as_it_is(published, tmp_path):
    for labels in (True, False):
        done = export(published, tmp_path / "y.tar.gz", labels=labels)
        assert done.predictions == 0
        assert (tmp_path / "y.tar.gz").read_bytes() == (tmp_path / "x.tar.gz").read_bytes()
    export(published, tmp_path / "y.tar.gz", predictions=False)
    import_results(tmp_path / "y.tar.gz", RunStore(tmp_path / "new"))
    assert not list((tmp_path / "new").rglob("*.npz"))


def test_what_an_import_would_refuse_is_not_exported(store, tmp_path, corpora):
    given = spec(50, corpus="small", data=read_manifest("small", corpora).sha256)
    store.put(RunRecord(given, "done"), {"test_prediction": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="cannot be exported without labels: it has no predictions of valid"):
        export(store, tmp_path / "y.tar.gz", labels=False)
    assert not (tmp_path / "y.tar.gz").exists()


def test_claims_are_judged_as_with_the_whole_predictions(capsys, tmp_path):
    """By the commands: run, publish without labels, and judge from the published folder and the corpus."""
    data, ours, theirs = tmp_path / "data", tmp_path / "results", tmp_path / "published"
    budget = ["--profile", "demo", "--trials", "1", "--seeds", "3", "--epochs", "2", "--quiet"]
    code, _, err = bench(capsys, "run", "table4", "--rows", ",".join(ROWS), *budget, "--data", data, "--results", ours)
    assert code == 0, err
    assert bench(capsys, "export", tmp_path / "x.tar.gz", "--without-labels", "--results", ours)[0] == 0
    assert bench(capsys, "import-results", tmp_path / "x.tar.gz", "--results", theirs)[0] == 0

    def claims(results, where=data):
        code, out, err = bench(capsys, "claims", "--profile", "demo", "--json", "--results", results, "--data", where)
        assert code == 0, err
        return json.loads(out)

    assert claims(theirs) == claims(ours)
    parts = [part for claim in claims(theirs) for part in claim["parts"]]
    assert any(part["metric"] == "separation" and part["a"] is not None for part in parts)
    assert any(part["metric"] == "acc2" and part["p_interval"] is not None for part in parts)
    code, _, err = bench(
        capsys, "figure", "fig4", "--rows", ROWS[0], "--profile", "demo", "--results", theirs, "--data", data
    )
    assert code == 2
    assert "published results come without" in err


def test_options_that_exclude_each_other(capsys, store, tmp_path):
    where = ["--results", store.root]
    code, _, err = bench(capsys, "export", tmp_path / "x", "--without-labels", "--without-predictions", *where)
    assert code == 2
    assert "not allowed with" in err
    code, _, err = bench(capsys, "export", tmp_path / "x", "--without-labels", "--schema", "every_eval_ever", *where)
    assert (code, "--without-labels is for an archive" in err) == (2, True)


def test_representations_are_compared_by_the_number_kept(store, published):
    for record in store.records():
        assert separation_of(published, record) == separation_of(store, record) is not None


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("trained"))
    given = run_spec(corpora)
    run([given], store, executor="inline", data_root=corpora)
    return store, store.get(given.id)


@pytest.mark.parametrize("how", ["labels", "predictions"])
def test_verify_adds_predictions_that_a_folder_lacks(trained, corpora, tmp_path, how):
    store, record = trained
    export(store, tmp_path / "x.tar.gz", **{how: False})
    held = RunStore(tmp_path / "published")
    import_results(tmp_path / "x.tar.gz", held)
    before = files(held.root)
    where = {"data": corpora, "executor": "inline"}
    (found,) = verify([record], held, **where)
    kept = "kept without labels" if how == "labels" else "not kept here"
    assert found.outcome == "identical"
    assert found.notes == (f"the run's predictions are {kept}: their sha256 is the same",)
    assert files(held.root) == before
    (found,) = verify([record], held, add_predictions=True, **where)
    assert (found.outcome, found.notes[1:]) == ("identical", ("its predictions were added",))
    assert files(held.root / "runs" / record.id).keys() == {"record.json", PREDICTIONS}
    assert all(np.array_equal(a, held.predictions(record.id)[n]) for n, a in store.predictions(record.id).items())
    assert verify([record], held, add_predictions=True, **where)[0].notes == ()


def test_verify_adds_no_other_predictions(trained, corpora, tmp_path):
    record = trained[1]
    held = RunStore(tmp_path / "published")
    other = dataclasses.replace(record, predictions={"file": PREDICTIONS, "sha256": "0" * 64})
    held.folder(record.id).mkdir(parents=True)
    (held.folder(record.id) / "record.json").write_bytes(other.to_json())
    (found,) = verify([other], held, data=corpora, executor="inline", add_predictions=True)
    assert "added" not in " ".join(found.notes)
    assert not held.has_predictions(record.id)


def test_verify_compares_outputs_bit_for_bit(trained, corpora, tmp_path):
    store, record = trained
    export(store, tmp_path / "x.tar.gz", labels=False)
    held = RunStore(tmp_path / "published")
    import_results(tmp_path / "x.tar.gz", held)
    arrays = held.outputs(record.id)
    arrays["test_prediction"] = np.nextafter(arrays["test_prediction"], np.float32(9))
    (held.folder(record.id) / OUTPUTS).write_bytes(npz_bytes(arrays))
    (found,) = verify([record], held, data=corpora, executor="inline")
    assert found.outcome == "differs"
    assert len(found.findings) == 1
    assert found.findings[0].startswith("predictions: test_prediction: 16 of 16 utterances, by at most")


def test_emotions_too(corpora, tmp_path):
    store, given = RunStore(tmp_path / "results"), run_spec(corpora, "ef_lstm", corpus="emotional")
    run([given], store, executor="inline", data_root=corpora)
    export(store, tmp_path / "x.tar.gz", labels=False)
    held = RunStore(tmp_path / "published", labels=Labels(corpora))
    import_results(tmp_path / "x.tar.gz", held)
    assert "separation" not in held.outputs(given.id)
    ours, theirs = (group_of(s, [store.get(given.id)]) for s in (held, store))
    assert np.array_equal(ours.label, theirs.label)
    assert np.array_equal(ours.prediction, theirs.prediction)
    assert examine(held) == []
