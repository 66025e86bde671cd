"""`bench verify`: identical where nothing changed, else what differs, where and by how much; and what cannot be run."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import studies.registry
from hycon.data import read_manifest
from hycon.errors import UserError
from hycon.pretrained import identify
from studies.cli import main
from studies.engines.run import run
from studies.registry import model_module, resolve
from studies.store.arrays import npz_bytes
from studies.store.record import ENCODER_LAYERS, RunRecord, RunSpec
from studies.store.run_store import PREDICTIONS, RunStore
from studies.trust.verify import PAGE, check_repeatable, find_run, verify
from studies.trust.verify import _environment as different_environment


def spec_of(root, model="tfn", text="glove", seed=1):
    config, training = resolve(model, text, {"epochs": 2, "batch_size": 16})
    encoder = identify(text, "demo") if text == "bert" else None
    return RunSpec(
        model,
        model_module(model).VERSION,
        text,
        "small",
        read_manifest("small", root).sha256,
        dataclasses.asdict(config),
        dataclasses.asdict(training),
        seed,
        encoder,
    )


@pytest.fixture(scope="module")
def done(corpora, tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("done"))
    specs = [spec_of(corpora), spec_of(corpora, "ef_lstm", seed=2)]
    run(specs, store, executor="inline", data_root=corpora)
    return store, [store.get(spec.id) for spec in specs]


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the store and its TFN run, to be tampered with."""
    store, (record, _) = done
    new = RunStore(tmp_path / "results")
    new.put(record, store.predictions(record.id))
    return new, record


def again(store, record, corpora, **options):
    return verify([record], store, data=corpora, executor="inline", **options)[0]


def tampered(store, record, arrays=None, **changes):
    """The record with `changes`, and the predictions given, stored as if they had been measured."""
    arrays = store.predictions(record.id) if arrays is None else arrays
    folder = store.folder(record.id)
    for file in ("record.json", PREDICTIONS):
        (folder / file).unlink()
    return store.put(dataclasses.replace(record, **changes), arrays)


def test_a_run_is_identical_when_run_again_and_the_store_is_left_alone(done, corpora):
    store, records = done
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    found = verify(records, store, data=corpora, executor="inline")
    assert [(one.run, one.outcome, one.findings, one.environment) for one in found] == [
        (record.id, "identical", (), ()) for record in records
    ]
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_differences_are_told_with_place_and_size(copy, corpora):
    store, record = copy
    arrays = store.predictions(record.id)
    arrays["test_prediction"][3] += np.float32(0.5)
    metrics = json.loads(json.dumps(record.metrics))
    metrics["test"]["paper"]["mae"] += 0.25
    curve = [dict(epoch) for epoch in record.curve]
    curve[1]["valid_loss"] += 0.125
    changed = tampered(store, record, arrays, metrics=metrics, curve=curve, weights_sha256="f" * 64)
    found = again(store, changed, corpora)
    assert found.outcome == "differs"
    assert found.environment == ()
    weights, epochs, predictions, mae = found.findings
    assert weights.startswith("weights: sha256 ffffffffffff then")
    assert epochs == "learning curve: first in epoch 2 (valid_loss by 0.125)"
    assert predictions == "predictions: test_prediction: 1 of 16 utterances, by at most 0.5"
    assert mae.startswith("metrics test paper mae: ")
    assert mae.endswith("(by 0.25)")
    assert "must not differ" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("curve", "learning curve: {less} epochs then, {epochs} now"),
        ("weights_sha256", "weights: the record has no sha256 of them"),
        ("parameters", "parameters: {more} then, {parameters} now (by 1)"),
        ("best_epoch", "best_epoch: None then, {best} now"),
        ("test_label", "predictions: test_label is not among those kept"),
    ],
)
def test_nothing_that_is_missing_or_short_counts_as_equal(copy, corpora, name, said):
    store, record = copy
    changes = {"curve": record.curve[:-1], "parameters": record.parameters + 1}
    kept = {key: array for key, array in store.predictions(record.id).items() if key != name}
    changed = tampered(store, record, kept, **({} if name == "test_label" else {name: changes.get(name)}))
    found = again(store, changed, corpora)
    assert found.outcome == "differs"
    epochs, best = len(record.curve), record.best_epoch
    known = {"less": epochs - 1, "epochs": epochs, "more": record.parameters + 1, "parameters": record.parameters}
    assert found.findings == (said.format(**known, best=best),)


def test_another_environment_is_named_and_no_blame_is_laid(copy, corpora):
    store, record = copy
    environment = {**record.environment, "torch": "1.0", "numpy": "1.0"}
    changed = tampered(store, record, environment=environment, device="cpu (x86_64, Other)", weights_sha256="f" * 64)
    found = again(store, changed, corpora)
    assert [said.split(":")[0] for said in found.environment] == ["device", "torch", "numpy"]
    assert "1.0 then" in found.environment[1]
    assert found.outcome == "differs"
    assert found.notes == ()
    same = tampered(store, changed, environment=environment, weights_sha256=record.weights_sha256)
    assert again(store, same, corpora).outcome == "identical"  # other versions may well give the same bits


def test_sentences_that_were_encoded_otherwise_are_another_environment():
    spec = RunSpec("hycon", 1, "bert", "small", "0" * 64, {}, {}, seed=1, encoder={"name": "demo", "sha256": "0" * 64})
    old = RunRecord(spec, "done", environment={"torch": "2.13.0"})
    new = dataclasses.replace(old, environment={"torch": "2.13.0", ENCODER_LAYERS: "rows"})
    assert list(different_environment(old, new)) == ["encoder layers: padded then, rows now"]
    assert list(different_environment(new, new)) == []


def test_what_older_code_did_not_record_is_no_difference(copy, corpora):
    store, record = copy
    arrays = {k: v for k, v in store.predictions(record.id).items() if k != "test_multimodal"}
    old = {k: v for k, v in record.environment.items() if k != "instructions"}
    assert again(store, tampered(store, record, arrays, environment=old), corpora).outcome == "identical"


def test_a_build_and_versions_of_cuda_that_older_code_did_not_record_are_no_difference():
    spec = RunSpec("tfn", 1, "glove", "small", "0" * 64, {}, {}, seed=1, device="cuda")
    old = RunRecord(spec, "done", device="H100", environment={"python": "3.11.7", "torch": "2.13.0"})
    told = {**old.environment, "torch": "2.13.0+cu130", "cuda": "13.0", "cudnn": "91002", "driver": "580.65.06"}
    new = dataclasses.replace(old, environment=told)
    assert list(different_environment(old, new)) == []
    other = dataclasses.replace(old, environment={**told, "torch": "2.12.1+cu130", "driver": "570.1"})
    assert list(different_environment(other, new)) == [
        "torch: 2.12.1+cu130 then, 2.13.0+cu130 now",
        "driver: 570.1 then, 580.65.06 now",
    ]


def test_arrays_of_another_shape_or_gone(copy, corpora):
    store, record = copy
    arrays = store.predictions(record.id)
    arrays |= {"test_prediction": arrays["test_prediction"][:-1], "test_extra": np.zeros(2)}
    found = again(store, tampered(store, record, arrays), corpora).findings
    assert [said for said in found if "test_extra is no longer made" in said]
    assert [said for said in found if "test_prediction was float32 (15,), is float32 (16,)" in said]


def test_without_predictions_weights_and_metrics_are_compared(copy, corpora):
    store, record = copy
    (store.folder(record.id) / PREDICTIONS).unlink()
    found = again(store, record, corpora)
    assert found.outcome == "identical"
    assert "not kept here: their sha256 is the same" in found.notes[0]
    other = dataclasses.replace(record, predictions={"file": PREDICTIONS, "sha256": "0" * 64}, weights_sha256="0" * 64)
    found = again(store, other, corpora)
    assert found.outcome == "differs"
    assert "not kept here: their sha256 is another" in found.notes[0]
    found = again(store, dataclasses.replace(record, predictions=None), corpora)
    assert "metrics are compared, predictions are not" in found.notes[0]


def test_bits_count_even_where_numbers_are_equal(copy, corpora):
    from studies.trust.verify import _gap

    assert _gap(np.array([0.0, 1.0]), np.array([-0.0, 1.0])) == "1 of 2 utterances, by at most 0"
    assert _gap(np.array(["a", "b"]), np.array(["a", "c"])) == "1 of 2 utterances"
    assert _gap(np.zeros((2, 3)), np.array([[0, 0, 0], [0, 2.0, 1.0]])) == "1 of 2 utterances, by at most 2"


def test_a_run_that_fails_when_run_again(copy, corpora, monkeypatch):
    def broken(spec, **where):
        raise KeyError("weights")

    monkeypatch.setattr("studies.engines.one_run.execute", broken)
    found = again(*copy, corpora)
    assert (found.outcome, found.findings) == ("failed", ("KeyError: 'weights'",))


# ------------------------------------------------------------------------------------------------- mistakes


def test_find_run(tmp_path):
    store = RunStore(tmp_path)
    for name in ("aa11" + "0" * 12, "aa22" + "0" * 12):
        store.folder(name).mkdir(parents=True)
    failed = store.put_failed(spec := RunSpec("tfn", 1, "glove", "small", "0", {}, {}, 7), "it diverged")
    finished = store.put(RunRecord(dataclasses.replace(spec, seed=8), "done"), {})
    assert find_run(store, finished.id) == find_run(store, finished.id[:7]) == finished
    for prefix, said in (
        ("zz", "No run 'zz'"),
        ("", "No run ''"),
        ("aa", "give more of its id"),
        ("aa1", "is not finished"),
        (failed.id, "it diverged"),
    ):
        with pytest.raises(UserError, match=said):
            find_run(store, prefix)
    (store.folder(finished.id) / "record.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        find_run(store, finished.id)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"corpus": "gone"}, "No corpus 'gone'"),
        ({"data": "0" * 64}, "its data has changed"),
        ({"version": 99}, r"version 99 of tfn; this code has \d+: verify it with the code of commit abc"),
        ({"suite": 99}, "version 99 of the suite"),
        ({"model": "nosuch"}, "model 'nosuch'"),
        ({"text": "bert", "encoder": {"name": "demo", "sha256": "0" * 64}}, "text encoder 'demo' is not the one"),
    ],
)
def test_what_cannot_be_repeated_is_refused_before_anything_runs(corpora, tmp_path, changes, said):
    record = RunRecord(dataclasses.replace(spec_of(corpora), **changes), "done", commit="abc")
    with pytest.raises(UserError, match=said) as raised:
        check_repeatable(record, RunStore(tmp_path), data=corpora, encoders={})
    assert PAGE not in str(raised.value)
    published = dataclasses.replace(record, predictions={"file": PREDICTIONS, "sha256": "0" * 64})  # which is not there
    with pytest.raises(UserError, match=rf"{said}.*published run: {PAGE}"):
        check_repeatable(published, RunStore(tmp_path), data=corpora, encoders={})


def test_a_run_on_a_corpus_of_the_earlier_rule_is_verified_on_it_imported_again(corpora, done, tmp_path):
    store, (record, _) = done
    earlier = dataclasses.replace(record.spec, data=read_manifest("small", corpora).files_sha256)
    old = dataclasses.replace(record, spec=earlier)
    new = RunStore(tmp_path / "results")
    new.put(old, store.predictions(record.id))
    found = again(new, old, corpora)
    assert found.outcome == "identical"
    assert "nominal lengths" in found.notes[-1]


def test_every_model_says_its_version_in_a_way_that_can_be_read():
    for name in studies.registry.MODELS:
        assert studies.registry.literal(name, "VERSION") == model_module(name).VERSION


def test_damaged_predictions_and_devices_that_are_not_there(copy, corpora):
    store, record = copy
    with pytest.raises(UserError, match="cuda:99"):
        again(store, record, corpora, device="cuda:99")
    (store.folder(record.id) / PREDICTIONS).write_bytes(npz_bytes({}))
    with pytest.raises(UserError, match="sha256"):
        again(store, record, corpora)


def test_a_run_of_a_gpu_can_be_run_again_on_a_cpu(copy, corpora):
    store, record = copy
    made = dataclasses.replace(
        record, spec=dataclasses.replace(record.spec, device="cuda"), device="NVIDIA H100 80GB HBM3"
    )
    made = store.put(made, store.predictions(record.id))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"finds 0 GPUs\. Say with --device"):
            again(store, made, corpora)
    found = again(store, made, corpora, device="cpu")
    assert found.run == made.id
    assert found.environment[0].startswith("device: NVIDIA H100 80GB HBM3 then, cpu (")
    assert found.outcome == "identical"  # it was made on this CPU


def test_the_command(copy, corpora, capsys):
    store, record = copy
    where = ["--results", str(store.root), "--data", str(corpora), "--executor", "inline", "--quiet"]
    assert main(["verify", record.id[:6], record.id, *where]) == 0
    out = capsys.readouterr().out
    assert out == f"{record.id}  tfn-glove on small, seed 1: identical\n"
    tampered(store, record, weights_sha256="f" * 64)
    assert main(["verify", record.id, "--json", *where]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["outcome"] == "differs"
    assert found["findings"][0].startswith("weights")
    assert main(["verify", record.id, *where]) == 1
    assert "\n  weights: sha256 ffff" in capsys.readouterr().out
    for wrong, said in ((["nosuch"], "No run"), ([record.id, "--workers", "0"], "at least 1")):
        assert main(["verify", *wrong, *where]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert err.count("\n") == 1
