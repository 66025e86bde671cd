"""One run from spec to record: complete, readable without any other file, and refused where the data is another."""

import dataclasses
import json
import math
import os
import sys
import time
import warnings
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import run_spec as spec_of

import hycon.train
from hycon.data import convert, load
from hycon.errors import NonFiniteLoss, UserError
from hycon.metrics import sentiment_metrics
from hycon.source import digest, sources
from studies.engines.determinism import warnings_noted
from studies.engines.memory import forget_peak, give_back, peak
from studies.engines.one_run import (
    UNSURE,
    _driver,
    checkpoints_in,
    code_of,
    environment,
    execute,
    weights_sha256,
)
from studies.lookup import profile_of
from studies.registry import build_model
from studies.search.check import check_rows
from studies.search.plan import setting_for
from studies.store.record import ENCODER_LAYERS
from studies.store.run_store import RunStore
from studies.tables import TABLES

SPLITS = {"valid": 16, "test": 16}


@pytest.fixture(scope="module")
def done(corpora):
    spec = spec_of(corpora)
    return spec, *execute(spec, data_root=str(corpora))


def test_a_file_that_was_copied_over_with_its_older_time_counts_as_changed(tmp_path, monkeypatch):
    """As rsync brings new code to a cluster where workers run the one before: its hash would stand in their records."""
    path = tmp_path / "net.py"
    path.write_text("1")
    os.utime(path, (0, 0))
    monkeypatch.setitem(sys.modules, "net", SimpleNamespace(__file__=str(path)))
    monkeypatch.setattr("studies.engines.one_run.files", lambda model: {"net.py": path})
    monkeypatch.setattr("multiprocessing.parent_process", lambda: True)
    monkeypatch.setattr("studies.engines.one_run.LOADED", path.stat().st_ctime - 60)
    assert code_of("tfn") == {"net.py": UNSURE}
    monkeypatch.setattr("studies.engines.one_run.LOADED", path.stat().st_ctime + 60)
    assert code_of("tfn") == {"net.py": digest(path)}


def test_a_checkpoint_of_code_that_nobody_knows_is_for_its_own_command(corpora, tmp_path, monkeypatch):
    def identity(code: str):
        return checkpoints_in(tmp_path, spec_of(corpora), "cpu", {"net.py": code}).identity

    before = [identity(code) for code in ("ab", UNSURE)]
    assert [identity(code) for code in ("ab", UNSURE)] == before
    monkeypatch.setattr("studies.engines.one_run.LOADED", 1.0)  # another command
    assert [identity(code) == one for code, one in zip(("ab", UNSURE), before, strict=True)] == [True, False]


def test_the_representation_of_the_test_split_is_kept_where_it_is_narrow(corpora, monkeypatch):
    arrays = execute(spec_of(corpora, "hycon", epochs=1), data_root=str(corpora))[1]
    assert arrays["test_multimodal"].shape == (16, 50)
    assert "valid_multimodal" not in arrays
    monkeypatch.setattr("studies.engines.one_run.WIDEST", 49)
    wide = execute(spec_of(corpora, "hycon", epochs=1), data_root=str(corpora))[1]
    assert not any("multimodal" in name for name in wide)


def test_a_record_has_the_hash_of_its_code(done):
    assert done[1].code == sources("baselines.tfn")


def test_code_that_was_edited_after_it_was_loaded_is_marked(monkeypatch):
    """What ran is not what stands there now. Only a forked process knows when its code was loaded."""
    monkeypatch.setattr("studies.engines.one_run.LOADED", 0.0)
    assert code_of("tfn") == sources("baselines.tfn")
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    assert set(code_of("tfn").values()) == {UNSURE}
    monkeypatch.setattr("studies.engines.one_run.LOADED", time.time() + 60)
    assert code_of("tfn") == sources("baselines.tfn")


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


@pytest.mark.parametrize(
    ("model", "text", "precision", "said"),
    [
        ("hycon", "bert", "fp32", "rows"),
        ("hycon", "bert", "bf16", "rows with joint attention"),
        ("hycon", "xlnet", "fp32", None),
        ("tfn", "glove", "fp32", None),
    ],
)
def test_a_record_says_how_a_cpu_has_encoded_sentences(corpora, model, text, precision, said):
    record, _ = execute(spec_of(corpora, model, text, epochs=1, precision=precision), data_root=str(corpora))
    assert record.environment.get(ENCODER_LAYERS) == said


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


# ------------------------------------------------------------------------------------------------- what a GPU adds


def test_a_warning_that_bits_may_differ_is_in_the_notes_and_shown(corpora, monkeypatch):
    fit, said = (
        hycon.train.fit,
        "An attention defaults to a non-deterministic algorithm. To change it call x. (Triggered",
    )

    def warned(*given, **named):
        for _ in range(2):
            warnings.warn(said, stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        return fit(*given, **named)

    monkeypatch.setattr("hycon.train.fit", warned)
    for _ in range(2):  # in one process
        with pytest.warns(UserWarning) as shown:
            record, _ = execute(spec_of(corpora, epochs=1), data_root=str(corpora))
        assert record.notes[len(load("small", corpora).manifest.notes) :] == [
            "equal bits are not assured when this is run again (PyTorch: An attention defaults to a "
            "non-deterministic algorithm)"
        ]
        assert {str(w.message) for w in shown} == {said, "something else"}


def test_such_a_warning_fails_no_run_where_warnings_are_errors():
    with pytest.warns(UserWarning, match="no longer fast"):
        warnings.simplefilter("error")
        with warnings_noted("cpu") as notes:
            warnings.warn("f is no longer fast. Deterministic it is not.", stacklevel=1)
            with pytest.raises(UserWarning, match="other"):
                warnings.warn("other", stacklevel=1)
    assert notes == ["equal bits are not assured when this is run again (PyTorch: f is no longer fast)"]


def test_pytorch_repeats_its_warnings_in_runs_on_a_gpu_only():
    with warnings_noted("cuda:0"):
        assert torch.is_warn_always_enabled()
    assert not torch.is_warn_always_enabled()


@contextmanager
def _present(called, device):
    called.append(("present", device))
    yield
    called.append(("present", None))


def test_peak_memory_of_a_gpu_is_what_the_run_itself_reserved(monkeypatch):
    called = []
    for name in ("init", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *device, name=name: called.append((name, *device)))
    monkeypatch.setattr(torch.cuda, "device", partial(_present, called))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: {"cuda:1": 3 * 2**20}[device])
    forget_peak("cpu")
    assert called == []
    emptied = [("present", "cuda:1"), ("empty_cache",), ("present", None)]  # else it takes memory of the first GPU
    forget_peak("cuda:1")
    assert called == [("init",), *emptied, ("reset_peak_memory_stats", "cuda:1")]
    assert peak("cuda:1") == 3.0
    called.clear()
    give_back("cuda:1")
    assert called == emptied


def test_the_environment_of_a_gpu_s_run_tells_cuda_s_versions(monkeypatch):
    environment.cache_clear()
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr("studies.engines.one_run._driver", lambda: "580.65.06")
    told = {"cuda": "13.0", "cudnn": "91002", "driver": "580.65.06"}
    assert environment("cuda:0") == {**environment("cpu"), **told}
    assert environment("cpu")["torch"] == "2.13.0+cu130"
    assert not told.keys() & environment("cpu").keys()
    environment.cache_clear()
    monkeypatch.setattr("studies.engines.one_run._driver", lambda: None)
    assert "driver" not in environment("cuda:0")
    environment.cache_clear()


def test_the_driver_s_version_is_that_of_its_kernel_module(tmp_path, monkeypatch):
    monkeypatch.setattr("studies.engines.one_run.DRIVER", tmp_path / "version")
    assert _driver() is None
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    assert _driver() == "580.65.06"


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


@pytest.mark.parametrize("split", ["valid", "test"])
def test_labels_that_no_metric_counts_are_refused_before_training(corpora, tmp_path, utterances_of, vectors_of, split):
    corpus = load("small", corpora)
    splits = utterances_of(corpus)
    splits[split] = [dataclasses.replace(utterance, label=0.0) for utterance in splits[split]]
    convert("small", splits, source={"file": "zeros"}, root=tmp_path, vectors=vectors_of(corpus))
    row = next(row for row in TABLES["table1"].rows if row.name == "TFN-GloVe")
    setting = setting_for(TABLES["table1"], [row], profile_of("demo"), corpus="small", data=tmp_path)
    said = rf"Corpus 'small' has no label other than 0 in its {split} split"
    with pytest.raises(UserError, match=said):
        check_rows([row], setting, tmp_path)
    with pytest.raises(UserError, match=said):
        execute(spec_of(tmp_path), data_root=str(tmp_path))


def test_sentences_beyond_berts_positions_are_refused_before_training(corpora, tmp_path, utterances_of):
    """Of a corpus that was imported before nominal lengths ended at 500."""
    manifest = convert("small", utterances_of(load("small", corpora)), source={"file": "long"}, root=tmp_path)
    older = {**dataclasses.asdict(manifest), "lengths": dict.fromkeys(("text", "audio", "vision"), 513)}
    (tmp_path / "small" / "manifest.json").write_text(json.dumps(older))
    rows = [row for row in TABLES["table1"].rows if row.name in ("TFN-BERT", "MAG-XLNet")]
    said = r"pads sentences to 513 steps, and the text encoder has positions for 512 \(TFN-BERT\): leave them out"
    setting = setting_for(TABLES["table1"], rows, profile_of("demo"), corpus="small", data=tmp_path)
    with pytest.raises(UserError, match=said):
        check_rows(rows, setting, tmp_path)
    check_rows(rows[1:], setting, tmp_path)
    with pytest.raises(UserError, match="positions for 512"):
        execute(spec_of(tmp_path, text="bert"), data_root=str(tmp_path))


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
