"""One run from spec to record: complete, readable without any other file, and refused where the data is another."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from hycon.data import convert, load, read_manifest
from hycon.errors import NonFiniteLoss, UserError
from hycon.metrics import sentiment_metrics
from hycon.pretrained import identify
from studies.engines.one_run import execute, weights_sha256
from studies.registry import build_model, model_module, resolve
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

SPLITS = {"valid": 16, "test": 16}


def spec_of(root, model="tfn", text="glove", corpus="small", *, seed=1, **overrides):
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


@pytest.fixture(scope="module")
def done(corpora):
    spec = spec_of(corpora)
    return spec, *execute(spec, data_root=str(corpora))


def test_the_representation_of_the_test_split_is_kept_where_it_is_narrow(corpora, monkeypatch):
    arrays = execute(spec_of(corpora, "hycon", epochs=1), data_root=str(corpora))[1]
    assert arrays["test_multimodal"].shape == (16, 50)
    assert "valid_multimodal" not in arrays
    monkeypatch.setattr("studies.engines.one_run.WIDEST", 49)
    wide = execute(spec_of(corpora, "hycon", epochs=1), data_root=str(corpora))[1]
    assert not any("multimodal" in name for name in wide)


def test_record_is_complete(done, corpora):
    spec, record, _ = done
    assert record.spec == spec
    assert record.status == "done"
    assert record.reason is None
    assert set(record.metrics) == {"valid", "test"}
    assert set(record.metrics["test"]) == {"paper", "all", "mult", "mmsa"}
    assert set(record.metrics["test"]["paper"]) == {"acc7", "acc2", "f1", "mae", "corr"}
    assert [e["epoch"] for e in record.curve] == [1, 2]
    assert (
        record.valid_loss
        == record.curve[record.best_epoch - 1]["valid_loss"]
        == min(e["valid_loss"] for e in record.curve)
    )
    net = build_model("tfn", text="glove", dims={"text": 24, "audio": 8, "vision": 6}, **spec.config)
    assert record.parameters == sum(p.numel() for p in net.parameters())
    assert len(record.weights_sha256) == 64
    assert record.seconds > 0
    assert record.seconds_per_epoch == record.seconds / 2
    assert record.test_seconds > 0
    assert record.peak_memory_mib > 10
    assert record.device.startswith("cpu (")
    assert record.environment["torch"] == torch.__version__
    assert record.notes == load("small", corpora).manifest.notes
    assert record.notes


def test_predictions_are_the_split_s_and_give_the_metrics(done, corpora):
    _, record, arrays = done
    corpus = load("small", corpora)
    for split, size in SPLITS.items():
        assert arrays[f"{split}_prediction"].shape == (size,)
        assert arrays[f"{split}_id"].tolist() == corpus.splits[split].ids
        np.testing.assert_array_equal(arrays[f"{split}_label"], corpus.splits[split].label)
        for protocol, found in record.metrics[split].items():
            expected = sentiment_metrics(arrays[f"{split}_prediction"], arrays[f"{split}_label"], protocol)
            assert found == pytest.approx(expected, nan_ok=True)
    error = np.abs(arrays["valid_prediction"] - arrays["valid_label"]).mean()
    assert record.valid_loss == pytest.approx(error, rel=1e-5)


def test_record_survives_the_store(done, tmp_path):
    _, record, arrays = done
    store = RunStore(tmp_path)
    stored = store.put(record, arrays)
    assert store.get(record.id) == stored
    assert dataclasses.replace(stored, predictions=None) == record
    for name, array in store.predictions(record.id).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize(("model", "text"), [("hycon", "bert"), ("lf_lstm", "xlnet"), ("lmf", "glove")])
def test_other_front_ends(model, text, corpora):
    spec = spec_of(corpora, model, text, epochs=1)
    record, arrays = execute(spec, data_root=str(corpora))
    assert record.spec == spec
    assert math.isfinite(record.valid_loss)
    assert np.isfinite(arrays["test_prediction"]).all()


def test_emotions(corpora):
    record, arrays = execute(spec_of(corpora, "hycon", corpus="emotional", epochs=1), data_root=str(corpora))
    assert arrays["test_prediction"].shape == (16, 4, 2)
    assert arrays["test_label"].shape == (16, 4)
    assert {"happy", "sad", "angry", "neutral"} <= set(record.metrics["test"]["emotions"])


def test_constant_predictions_have_no_correlation_and_still_a_record(corpora, tmp_path):
    """A learning rate of next to nothing and a TFN that says 0 to everyone: the undefined metric is stored as null."""
    spec = spec_of(corpora, "tfn", epochs=1, lr=1e-30, fusion_dropout=0.0)
    record, arrays = execute(spec, data_root=str(corpora))
    arrays = {**arrays, "test_prediction": np.zeros(16, np.float32)}
    metrics = {"test": {"paper": sentiment_metrics(arrays["test_prediction"], arrays["test_label"])}}
    store = RunStore(tmp_path)
    store.put(dataclasses.replace(record, metrics=metrics), arrays)
    corr = store.get(spec.id).metrics["test"]["paper"]["corr"]
    assert corr is None or corr == 0


# ------------------------------------------------------------------------------------------------- refusals


def test_other_data_is_refused(corpora):
    spec = dataclasses.replace(spec_of(corpora), data="0" * 64)
    with pytest.raises(UserError, match="data has changed"):
        execute(spec, data_root=str(corpora))


def test_another_version_of_a_model_is_refused(corpora):
    spec = dataclasses.replace(spec_of(corpora), version=99)
    with pytest.raises(UserError, match="version 99"):
        execute(spec, data_root=str(corpora))


def test_a_missing_corpus_is_refused(corpora, tmp_path):
    with pytest.raises(UserError, match="No corpus 'small'"):
        execute(spec_of(corpora), data_root=str(tmp_path))


def test_early_fusion_refuses_unaligned_data(corpora, tmp_path, utterances_of, vectors_of):
    corpus = load("small", corpora)
    splits = utterances_of(corpus)
    first = splits["test"][0]
    splits["test"][0] = dataclasses.replace(first, audio=np.concatenate([first.audio, first.audio]))
    convert("small", splits, source={"file": "unaligned"}, root=tmp_path, vectors=vectors_of(corpus))
    with pytest.raises(UserError, match="word-aligned"):
        execute(spec_of(tmp_path, "ef_lstm"), data_root=str(tmp_path))
    execute(spec_of(tmp_path, "lf_lstm", epochs=1), data_root=str(tmp_path))


def test_divergence_is_no_number(corpora):
    with pytest.raises(NonFiniteLoss, match="epoch 1, step 2"):
        execute(spec_of(corpora, "lf_lstm", lr=1e38), data_root=str(corpora))


def test_weights_digest_sees_values_names_and_buffers():
    net = torch.nn.BatchNorm1d(3)
    first = weights_sha256(net)
    assert weights_sha256(torch.nn.BatchNorm1d(3)) == first
    net.running_mean[1] = 0.5
    assert weights_sha256(net) != first
    assert weights_sha256(torch.nn.Sequential(torch.nn.BatchNorm1d(3))) != first
