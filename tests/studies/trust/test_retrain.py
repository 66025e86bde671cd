"""`bench train` and `bench predict`: the run's weights and predictions bit for bit, from a folder that runs nothing."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from commands import bench
from transformers import BertConfig, BertModel

import hycon
from hycon.data import load, read_manifest
from hycon.errors import UserError
from hycon.pretrained import _demo_sizes, demo_vocabulary, identify
from hycon.saved import CARD, DESCRIPTION, ENCODER, INPUTS, WEIGHTS
from studies.engines.run import run
from studies.registry import model_module, resolve
from studies.store.record import RunSpec
from studies.store.run_store import RunStore
from studies.trust.card import _measured
from studies.trust.doctor import examine
from studies.trust.retrain import median_run, retrain


def spec_of(root, model, text, corpus, encoder=None, seed=1, **options):
    config, training = resolve(model, text, {"epochs": 1, "batch_size": 16, **options})
    version, data = model_module(model).VERSION, read_manifest(corpus, root).sha256
    parts = dataclasses.asdict(config), dataclasses.asdict(training)
    return RunSpec(model, version, text, corpus, data, *parts, seed, encoder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    torch.manual_seed(0)
    BertModel(BertConfig(**_demo_sizes("bert"))).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(demo_vocabulary()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture(scope="module")
def done(corpora, encoder, tmp_path_factory):
    """name -> record, all in one store: word vectors with a scaler, a real encoder folder, emotions, own vectors."""
    store = RunStore(tmp_path_factory.mktemp("done"))
    before = os.environ.get("BENCH_ENCODERS")
    os.environ["BENCH_ENCODERS"] = "{}"
    specs = {
        "glove": spec_of(corpora, "tfn", "glove", "small", scale="standard"),
        "bert": spec_of(corpora, "hycon", "bert", "small", identify("bert", str(encoder))),
        "text": spec_of(corpora, "hycon", "bert", "small", identify("bert", "demo"), modalities="text"),
        "emotions": spec_of(corpora, "ef_lstm", "glove", "emotional"),
        "own": spec_of(corpora, "ef_lstm", "features", "vectors", scale="maxabs"),
        "permuted": spec_of(corpora, "tfn", "glove", "small", permuted="audio,vision"),
    }
    run(specs.values(), store, executor="inline", data_root=corpora, keep_weights=True)
    if before is None:
        del os.environ["BENCH_ENCODERS"]
    return store, {name: store.get(spec.id) for name, spec in specs.items()}


@pytest.fixture(scope="module")
def folders(done, corpora, encoder, tmp_path_factory) -> dict[str, Path]:
    store, records = done
    root = tmp_path_factory.mktemp("models")
    os.environ["BENCH_ENCODERS"] = json.dumps({"tiny": str(encoder)})
    for name, record in records.items():
        assert retrain(record, store, root / name, data=corpora).kept
    del os.environ["BENCH_ENCODERS"]
    return {name: root / name for name in records}


@pytest.mark.parametrize("name", ["glove", "bert", "text", "emotions", "own"])
def test_predictions_of_the_test_split_are_the_runs_own_bits(done, folders, corpora, name):
    store, records = done
    model = hycon.load_model(folders[name])
    found = model.of_corpus(load(records[name].spec.corpus, corpora), "test")
    stored = store.predictions(records[name].id)["test_prediction"]
    assert found.dtype == stored.dtype
    assert found.tobytes() == stored.tobytes()


@pytest.mark.parametrize("name", ["glove", "bert", "emotions", "own"])
def test_the_same_utterances_given_one_by_one_have_the_same_bits(done, folders, corpora, name):
    store, records = done
    split = load(records[name].spec.corpus, corpora).splits["test"]

    def rows(sequences, i):
        return sequences.rows[sequences.starts[i] : sequences.starts[i] + sequences.lengths[i]].numpy()

    given = [
        {
            "id": split.ids[i],
            "words": split.words[i],
            "audio": rows(split.audio, i),
            "vision": rows(split.vision, i),
            **({"text": rows(split.text, i)} if split.text else {}),
        }
        for i in range(len(split))
    ]
    assert (
        hycon.load_model(folders[name])(given).tobytes()
        == store.predictions(records[name].id)["test_prediction"].tobytes()
    )


def test_trained_again_it_has_the_records_weights(done, folders, corpora, tmp_path):
    store, records = done
    bare = RunStore(tmp_path / "results")
    bare.put(records["glove"], store.predictions(records["glove"].id))
    made = retrain(records["glove"], bare, tmp_path / "model", data=corpora, executor="inline")
    assert (made.kept, made.written, made.differs) == (False, True, ())
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == (folders["glove"] / WEIGHTS).read_bytes()
    assert (tmp_path / "model" / DESCRIPTION).read_bytes() == (folders["glove"] / DESCRIPTION).read_bytes()


def test_weights_that_are_not_the_records_are_written_only_when_asked_for_and_marked(done, corpora, tmp_path):
    store, records = done
    other = RunStore(tmp_path / "results")
    changed = {**records["glove"].environment, "torch": "1.0"}
    record = dataclasses.replace(records["glove"], weights_sha256="0" * 64, environment=changed)
    other.put(record, store.predictions(record.id))
    made = retrain(record, other, tmp_path / "model", data=corpora, executor="inline")
    assert not made.written
    assert not (tmp_path / "model").exists()
    assert made.differs[0].startswith("weights: sha256 000000000000 in the record, ")
    assert any(one.startswith("torch: 1.0 then") for one in made.differs)
    made = retrain(record, other, tmp_path / "model", data=corpora, executor="inline", anyway=True)
    assert made.written
    assert "NOT THE WEIGHTS OF RUN" in (tmp_path / "model" / CARD).read_text()
    assert hycon.load_model(tmp_path / "model").description.differs == list(made.differs)


def test_the_folder_has_no_weights_of_the_encoder_beside_the_models(folders):
    found = {path.relative_to(folders["bert"]).as_posix() for path in folders["bert"].rglob("*") if path.is_file()}
    own = {f"{ENCODER}/{name}" for name in ("config.json", "vocab.txt", "tokenizer_config.json")}
    assert found == {CARD, DESCRIPTION, WEIGHTS, *own}
    assert (folders["glove"] / INPUTS).is_file()


def test_the_card_names_synthetic_data_and_metrics(folders, done):
    text = (folders["glove"] / CARD).read_text()
    assert "SYNTHETIC DATA" in text
    assert f"{done[1]['glove'].metrics['test']['paper']['mae']:.3f}" in text
    assert "## Caution" in text


def test_the_card_of_labels_in_a_narrow_range_has_their_metrics(done, corpora):
    metrics = {split: {"sims": {"acc5": 0.25, "mae": 0.5}} for split in ("valid", "test")}
    record = dataclasses.replace(done[1]["glove"], metrics=metrics)
    held = dataclasses.replace(read_manifest("small", corpora), label_range=[-1.0, 1.0])
    table, *_ = _measured(record, held, ())
    assert table.rows == (("acc5", "0.250", "0.250"), ("mae", "0.500", "0.500"))
    assert "by protocol sims" in table.caption


def test_a_folder_that_is_there_is_not_written_over(done, folders, corpora):
    with pytest.raises(UserError, match="is there already"):
        retrain(done[1]["glove"], done[0], folders["glove"], data=corpora)


def test_the_doctor_knows_kept_weights_and_finds_those_of_another_run(done, corpora, tmp_path):
    store, records = done
    copy = RunStore(tmp_path / "results")
    shutil.copytree(store.root, copy.root)
    assert not [f for f in examine(copy) if "weights" in f.path]
    shutil.copyfile(copy.folder(records["glove"].id) / WEIGHTS, copy.folder(records["own"].id) / WEIGHTS)
    found = [f for f in examine(copy) if "weights" in f.path]
    assert [(f.kind, f.path, f.action) for f in found] == [("weights", f"runs/{records['own'].id}/{WEIGHTS}", "delete")]


def test_the_median_run_is_the_middle_one_by_validation_loss(done):
    record = done[1]["glove"]
    runs = [dataclasses.replace(record, valid_loss=loss) for loss in (0.9, 0.2, 0.5, 0.4)]
    assert median_run(runs).valid_loss == 0.4
    assert median_run(runs[:3]).valid_loss == 0.5


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "utterance", "said"),
    [
        ("glove", {"text": "good", "vision": np.zeros((1, 6))}, "Utterance '0' has no audio, which the model reads"),
        ("glove", {"text": "good", "audio": np.zeros((1, 9)), "vision": np.zeros((1, 6))}, "9 features per row"),
        ("glove", {"text": " ", "audio": np.zeros((1, 8)), "vision": np.zeros((1, 6))}, "has no words"),
        ("glove", {"text": "a b", "audio": np.zeros((1, 8)), "vision": np.zeros((2, 6))}, "one row per word"),
        ("glove", {"text": "a", "audio": np.zeros((1, 8)), "vision": np.full((1, 6), np.nan)}, "holds nan"),
        ("glove", {"text": "a", "audio": np.zeros(8), "vision": np.zeros((1, 6))}, "expected numbers in 2 dim"),
        ("own", {"text": "a", "audio": np.zeros((1, 8)), "vision": np.zeros((1, 6))}, "has no text"),
        ("text", {"text": ""}, "has no words"),
    ],
)
def test_utterances_that_cannot_be_read_are_one_sentence(folders, name, utterance, said):
    with pytest.raises(UserError, match=said):
        hycon.load_model(folders[name])([utterance])


def test_zeros_stand_for_missing_modalities_where_that_is_said(folders):
    model = hycon.load_model(folders["glove"])
    mean = {m: shift.numpy()[None] for m, (shift, _) in model.inputs.scalers.items()}
    assert model([{"text": "good"}], missing="zeros") == model([{"text": "good", **mean}])


def test_a_model_of_text_needs_sentences_only(folders):
    found = hycon.load_model(folders["text"])([{"text": "what a good film"}, {"text": "a bad one"}])
    assert found.shape == (2,)
    assert found[0] != found[1]


def test_a_word_is_looked_up_as_at_import_and_unknown_ones_are_told(folders):
    model = hycon.load_model(folders["emotions"])
    audio, vision = np.zeros((2, 8)), np.zeros((2, 6))
    known = model.inputs.vectors["words"][0]
    shouted = [{"text": f"{known.upper()}! zzzz", "audio": audio, "vision": vision}]
    assert model.unknown(shouted) == ["zzzz"]
    plain = [{"text": f"{known} zzzz", "audio": audio, "vision": vision}]
    assert model(shouted).tobytes() == model(plain).tobytes()


def test_another_corpus_is_refused_where_it_is_unlike(folders, corpora):
    model = hycon.load_model(folders["glove"])
    with pytest.raises(UserError, match="labels of another kind"):
        model.of_corpus(load("emotional", corpora), "test")


@pytest.fixture
def folder(folders, tmp_path) -> Path:
    return Path(shutil.copytree(folders["bert"], tmp_path / "model"))


def test_changed_weights_are_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match="was changed"):
        hycon.load_model(folder)


def test_links_are_not_followed(folder, tmp_path):
    (folder / WEIGHTS).rename(tmp_path / "elsewhere")
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        hycon.load_model(folder)


def test_a_file_that_could_be_run_is_refused_and_not_run(folder):
    (folder / ENCODER / "modeling_evil.py").write_text("raise SystemExit(3)")
    with pytest.raises(UserError, match="no configuration or tokenizer"):
        hycon.load_model(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "os"}, "is damaged"),  # its id is not that of such a specification
        ({"version": 99}, "is damaged"),
    ],
)
def test_a_specification_that_was_tampered_with_is_refused(folder, changes, said):
    raw = json.loads((folder / DESCRIPTION).read_text())
    raw["spec"] |= changes
    (folder / DESCRIPTION).write_text(json.dumps(raw))
    with pytest.raises(UserError, match=said):
        hycon.load_model(folder)


def test_a_model_that_the_suite_does_not_have_is_refused_by_name(folder):
    raw = json.loads((folder / DESCRIPTION).read_text())
    raw["spec"]["model"] = "os"
    raw["run"] = RunSpec.from_dict(raw["spec"]).id
    (folder / DESCRIPTION).write_text(json.dumps(raw))
    with pytest.raises(UserError, match="Unknown model 'os'"):
        hycon.load_model(folder)


def test_a_model_of_another_version_is_refused(folder):
    raw = json.loads((folder / DESCRIPTION).read_text())
    raw["spec"]["version"] = 99
    raw["run"] = RunSpec.from_dict(raw["spec"]).id
    (folder / DESCRIPTION).write_text(json.dumps(raw))
    with pytest.raises(UserError, match="version 99 of hycon"):
        hycon.load_model(folder)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "encoder/../../x", "code.py"])
def test_files_outside_the_folder_are_not_named(folder, name):
    raw = json.loads((folder / DESCRIPTION).read_text())
    raw["files"][name] = "0" * 64
    (folder / DESCRIPTION).write_text(json.dumps(raw))
    with pytest.raises(UserError, match="which is no file of a model"):
        hycon.load_model(folder)


def test_what_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="is no trained model"):
        hycon.load_model(tmp_path)


def test_importing_hycon_imports_no_torch():
    code = "import hycon, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ------------------------------------------------------------------------------------------------- the commands


def test_train_by_id_and_predict_a_corpus(done, corpora, tmp_path, capsys):
    store, records = done
    record = records["emotions"]
    where = ["--results", store.root, "--data", corpora]
    code, out, _ = bench(capsys, "train", record.id[:10], "--output", tmp_path / "model", "--quiet", *where)
    assert code == 0
    assert "weights kept with the run" in out
    code, out, _ = bench(capsys, "predict", tmp_path / "model", "emotional", "--data", corpora)
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split(",")[:4] == ["id", "happy", "happy:no", "happy:yes"]
    stored = store.predictions(record.id)["test_prediction"]
    printed = np.array([[np.float32(v) for v in line.split(",")[2:4]] for line in lines])
    assert printed.astype(np.float32).tobytes() == np.ascontiguousarray(stored[:, 0]).tobytes()


def test_a_folder_beside_it_that_holds_no_utterances_hides_no_corpus(
    done, folders, corpora, tmp_path, capsys, monkeypatch
):
    name = next(
        path.parent.name for path in sorted(Path(corpora).glob("*/manifest.json")) if "emotion" not in str(path)
    )
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, _ = bench(capsys, "predict", folders["text"], name, "--data", corpora)
    assert code == 0
    assert out.startswith("id,prediction")
    (tmp_path / name / "utterances.csv").write_text("id,text\nmine,good\n")
    code, out, _ = bench(capsys, "predict", folders["text"], name, "--data", corpora)
    assert [line.split(",")[0] for line in out.splitlines()] == ["id", "mine"]


def test_predict_a_table_of_sentences(folders, tmp_path, capsys):
    table = tmp_path / "ten.csv"
    table.write_text("id,text,label\na,what a good film,1\nb,bad,\n")
    code, out, _ = bench(capsys, "predict", folders["text"], table)
    assert code == 0
    assert [line.split(",")[0] for line in out.splitlines()] == ["id", "a", "b"]
    assert out.splitlines()[0] == "id,prediction,label"
    code, _, err = bench(capsys, "predict", folders["glove"], table)
    assert code == 2
    assert "has no audio" in err
    other = tmp_path / "other.csv"
    other.write_text("id,sentence\na,good\n")
    code, _, err = bench(capsys, "predict", folders["text"], other)
    assert code == 2
    assert "other.csv has no column text; it has id, sentence" in err
    target = tmp_path / "out.csv"
    code, out, err = bench(capsys, "predict", folders["glove"], table, "--missing", "zeros", "--output", target)
    assert (code, out) == (0, "")
    assert len(target.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text\ngood\n", "needs the column id"),
        ("id,text\n", "holds no utterance"),
        ("id,text\na,good\na,bad\n", "the id 'a' is there twice"),
        ("id,text\na,\n", "has no words"),
    ],
)
def test_tables_that_cannot_be_predicted(folders, tmp_path, capsys, content, said):
    (tmp_path / "utterances.csv").write_text(content)
    code, out, err = bench(capsys, "predict", folders["text"], tmp_path)
    assert (code, out) == (2, "")
    assert said in err


def test_parquet_goes_to_a_file(folders, tmp_path, capsys):
    (tmp_path / "utterances.csv").write_text("id,text\na,good\n")
    code, _, err = bench(capsys, "predict", folders["text"], tmp_path, "--format", "parquet")
    assert code == 2
    assert "--output" in err


def test_parquet_is_read_back_by_pandas(folders, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    (tmp_path / "utterances.csv").write_text("id,text,label\na,what a good film,1.5\nb,bad,\n")
    assert bench(capsys, "predict", folders["text"], tmp_path, "--output", tmp_path / "x.parquet")[0] == 0
    found = pandas.read_parquet(tmp_path / "x.parquet")
    assert list(found.columns) == ["id", "prediction", "label"]
    assert list(found["id"]) == ["a", "b"]
    assert found["prediction"].dtype == np.float32
    expected = hycon.load_model(folders["text"])([{"text": "what a good film"}, {"text": "bad"}])
    assert found["prediction"].to_numpy().tobytes() == expected.tobytes()
    np.testing.assert_array_equal(found["label"], [1.5, np.nan])


# ------------------------------------------------------------------------------------------------- labels and controls


@pytest.fixture
def narrow(folders, tmp_path) -> Path:
    """A model of labels in [-1, 1]."""
    folder = Path(shutil.copytree(folders["text"], tmp_path / "narrow"))
    raw = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**raw, "labels": [-1.0, 0.8]}))
    return folder


def test_a_corpus_of_another_range_is_predicted_with_a_caution(folders, narrow, corpora, capsys):
    code, out, err = bench(capsys, "predict", narrow, "small", "--data", corpora)
    assert code == 0
    assert out.startswith("id,prediction,label\n")
    assert "corpus 'small' has labels in [-3, 3], the model was trained on [-1, 1]" in err
    assert "Compute no metrics of them against these labels." in err
    code, _, err = bench(capsys, "predict", folders["text"], "small", "--data", corpora)
    assert code == 0
    assert "model's scale" not in err


@pytest.mark.parametrize(
    ("model", "labels", "said"),
    [
        ("narrow", ["2"], "the utterances have labels up to 2,"),
        ("narrow", ["1"], ""),
        ("narrow", [""], ""),
        ("wide", ["0.2"] * 20, "all labels lie in [-1, 1],"),
        ("wide", ["0.2"] * 19, ""),
        ("wide", ["0.2"] + [""] * 19, ""),  # one label tells nothing
        ("wide", ["good"] * 20, ""),
    ],
)
def test_labels_that_are_handed_on_are_compared_with_the_models(folders, narrow, tmp_path, capsys, model, labels, said):
    lines = "".join(f"{i},a good film,{label}\n" for i, label in enumerate(labels))
    (tmp_path / "utterances.csv").write_text(f"id,text,label\n{lines}")
    code, _, err = bench(capsys, "predict", narrow if model == "narrow" else folders["text"], tmp_path)
    assert code == 0
    assert said in err
    assert ("model's scale" in err) == bool(said)


def test_a_model_of_permuted_modalities_reads_each_utterances_own_and_says_so(done, folders, corpora, capsys):
    store, records = done
    corpus = load("small", corpora)
    split = corpus.splits["test"]
    model = hycon.load_model(folders["permuted"])
    assert model.permuted == ["audio", "vision"]
    assert hycon.load_model(folders["glove"]).permuted == []
    found = model.of_corpus(corpus, "test")
    assert not np.array_equal(found, store.predictions(records["permuted"].id)["test_prediction"])
    first = {m: getattr(split, m) for m in ("audio", "vision")}
    given = {m: own.rows[own.starts[0] : own.starts[0] + own.lengths[0]].numpy() for m, own in first.items()}
    np.testing.assert_allclose(model([{"words": split.words[0], **given}])[0], found[0], rtol=1e-5)
    code, _, err = bench(capsys, "predict", folders["permuted"], "small", "--data", corpora)
    assert code == 0
    assert "trained with audio and vision of other utterances; here it reads each utterance's own" in err
    assert "trained with other utterances' audio and vision" in (folders["permuted"] / CARD).read_text()


def test_a_row_without_runs_cannot_be_trained(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    where = ["--results", tmp_path / "results", "--data", tmp_path]
    code, _, err = bench(capsys, "train", "table1", "TFN-BERT", "--output", tmp_path / "m", *where)
    assert code == 2
    assert "has no finished seeded run here" in err


def test_only_seeded_runs_keep_their_weights_and_archives_leave_them_out(tmp_path, capsys):
    where = ["--results", tmp_path / "results", "--data", tmp_path / "data"]
    asked = ["table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", "--epochs", "1", "--executor", "inline"]
    code, _, err = bench(capsys, "run", *asked, "--keep-weights", "--quiet", *where)
    assert code == 0
    assert "no weights" not in err
    store = RunStore(tmp_path / "results")
    study = json.loads(next((store.root / "studies").glob("*.json")).read_text())
    kept = {path.parent.name for path in (store.root / "runs").glob(f"*/{WEIGHTS}")}
    assert kept == set(study["runs"])
    assert len(kept) == 2
    code, _, err = bench(capsys, "export", tmp_path / "results.tar.gz", "--results", store.root)
    assert code == 0
    assert "the weights of 2 runs are left out" in err
    (store.folder(study["runs"][0]) / WEIGHTS).unlink()
    _, _, err = bench(capsys, "run", *asked, "--keep-weights", "--quiet", *where)
    assert "1 of 2 seeded runs have no weights here" in err
    code, out, _ = bench(capsys, "train", "table1 EF-LSTM-GloVe", "--output", tmp_path / "model", "--quiet", *where)
    assert code == 0
    assert "Of 2 seeded runs of EF-LSTM-GloVe it is the one with the median validation loss" in out
