"""What a table refuses to average, that it says which runs differ in what, and that --mixed averages them."""

import dataclasses
import json

import pytest
from builders import VERSIONS, XEON, fill, spec

import studies
from hycon.train import Training
from studies.aggregate.comparability import TRAINED, across, described, device_class, environment_class, mixture
from studies.aggregate.table import table_result
from studies.cli import main
from studies.lookup import View
from studies.registry import MODELS, search_space
from studies.store.record import ENCODER_LAYERS, RunRecord
from studies.store.run_store import RunStore
from studies.tables import TABLES

OTHER_TORCH = {**VERSIONS, "torch": "2.12.0+cpu"}
ERRORS = [0.1, 0.2, 0.3]


def made(number=0, device=XEON, environment=VERSIONS, **changes):
    return RunRecord(spec(number, **changes), "done", device=device, environment=environment)


def table(capsys, store, *options):
    code = main(["table", "table1", "--results", str(store.root), "--data", "none", "--format", "json", *options])
    assert code == 0
    return {row["row"]: row for row in json.loads(capsys.readouterr().out)["rows"]}


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (XEON, "cpu x86_64 Intel"),
        ("cpu (x86_64, Intel(R) Xeon(R) Processor)", "cpu x86_64 Intel"),  # as published and as another cloud names it
        ("cpu (x86_64, AMD EPYC 7763 64-Core Processor)", "cpu x86_64 AMD"),
        ("cpu (arm64, Apple M2)", "cpu arm64 Apple"),
        ("cpu (riscv64, unknown)", "cpu riscv64 unknown"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("", "not recorded"),
    ],
)
def test_class_of_a_device(device, expected):
    assert device_class(device) == expected


def test_versions_that_prepare_data_only_are_no_part_of_the_class():
    patched = {**VERSIONS, "python": "3.12.1", "numpy": "2.0.0", "tokenizers": "0.20.0", "transformers": "4.50.0"}
    assert environment_class(made(environment=patched)) == environment_class(made())
    encoder = {"name": "demo", "sha256": "0" * 64}
    first, second = made(encoder=encoder), made(encoder=encoder, environment=patched)
    assert mixture([first, second]) == {"transformers": {"5.23.0": [first.id], "4.50.0": [second.id]}}


def test_sentences_that_were_encoded_otherwise_are_noticed_with_a_pretrained_encoder_alone():
    rows = {**VERSIONS, ENCODER_LAYERS: "rows"}
    encoder = {"name": "demo", "sha256": "0" * 64}
    old, new = made(0, encoder=encoder), made(1, encoder=encoder, environment=rows)
    assert mixture([old, new]) == {ENCODER_LAYERS: {"padded": [old.id], "rows": [new.id]}}
    assert mixture([made(0), made(1, environment=rows)]) == {}
    joint = made(2, encoder=encoder, environment={**rows, ENCODER_LAYERS: "rows with joint attention"})
    assert mixture([new, joint]) == {ENCODER_LAYERS: {"rows": [new.id], "rows with joint attention": [joint.id]}}


@pytest.mark.parametrize(
    ("aspect", "changes"),
    [
        ("device", {"device": "NVIDIA H100 80GB HBM3"}),
        ("torch", {"environment": OTHER_TORCH}),
        ("torch", {"environment": {}}),
        ("platform", {"environment": {**VERSIONS, "platform": "darwin"}}),
        ("model version", {"version": 2}),
        ("suite version", {"suite": 3}),
        ("data", {"data": "f" * 64}),
        ("threads", {"threads": 4}),
        ("encoder weights", {"encoder": {"name": "demo", "sha256": "9" * 64}}),
    ],
)
def test_each_aspect_is_noticed(aspect, changes):
    found = mixture([made(0), made(1), made(2, **changes)])
    assert aspect in found
    assert sorted(map(len, found[aspect].values())) == [1, 2]


def test_runs_that_differ_in_seed_and_commit_alone_are_no_mixture():
    assert mixture([made(n, config={"hidden": 8}) for n in range(5)]) == {}
    assert mixture([dataclasses.replace(made(0), commit="a"), dataclasses.replace(made(1), commit="b")]) == {}
    assert mixture([]) == {}


PYPI, CU130, CU126 = ({**VERSIONS, "torch": f"2.13.0{build}"} for build in ("", "+cu130", "+cu126"))


def test_an_older_record_without_pytorch_s_build_is_of_the_only_build_beside_it():
    old, new = made(0, environment=PYPI), made(1, environment={**CU130, "cuda": "13.0", "driver": "580.65.06"})
    assert mixture([old, new]) == {}
    assert across({"A": [old], "B": [new]}) == ()
    other = made(2, environment=CU126)
    assert len(mixture([old, new, other])["torch"]) == 3  # it may be of either
    assert mixture([made(0, environment={**PYPI, "torch": "2.12.0"}), new])


def test_described_names_values_and_runs():
    a, b = made(0), made(1, environment=OTHER_TORCH)
    expected = f"torch 2.13.0+cpu (1 run: {a.id[:8]}) and 2.12.0+cpu (1 run: {b.id[:8]})"
    assert described(mixture([a, b])) == expected
    assert described(mixture([made(n) for n in range(6)] + [b])).count(", ...") == 1


def test_a_mixed_row_has_no_number_and_says_why_while_others_stay(tmp_path, capsys):
    store = RunStore(tmp_path)
    mixed = fill(store, ERRORS, environment=[VERSIONS, OTHER_TORCH, VERSIONS])
    fill(store, ERRORS, row="LF-LSTM-GloVe")
    rows = table(capsys, store)
    row, other = rows["EF-LSTM-GloVe"], rows["LF-LSTM-GloVe"]
    assert (row["status"], row["n"], row["metrics"]["mae"]["mean"]) == ("missing", 0, None)
    assert "--mixed" in row["reason"]
    assert "2.12.0+cpu" in row["reason"]
    assert mixed.runs[1][:8] in row["reason"]
    assert (other["status"], other["n"], other["reason"]) == ("measured", 3, "")
    rows = table(capsys, store, "--mixed")
    row = rows["EF-LSTM-GloVe"]
    assert (row["status"], row["n"]) == ("measured", 3)
    assert row["metrics"]["mae"]["mean"] == pytest.approx(0.2)
    assert "--mixed" in row["reason"]
    assert "2.12.0+cpu" in row["reason"]


def test_status_says_it_too(tmp_path, capsys):
    store = RunStore(tmp_path)
    fill(store, ERRORS, device=[XEON, XEON, "cpu (x86_64, AMD EPYC)"])
    where = ["--results", str(tmp_path), "--data", "none", "--rows", "EF-LSTM-GloVe", "--json"]
    assert main(["status", *where]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert found["status"] == "missing"
    assert "cpu x86_64 AMD" in found["reason"]
    assert main(["status", *where, "--mixed"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["n"] == 3


def test_the_data_frame_holds_every_run_with_its_environment(tmp_path):
    fill(RunStore(tmp_path), ERRORS, environment=[VERSIONS, OTHER_TORCH, VERSIONS])
    frame = studies.results("table1", results=tmp_path, data="none")
    assert frame["environment"].tolist().count("cpu x86_64 Intel, linux, 2.12.0+cpu, 1") == 1
    assert len(frame) == 3


def test_rows_that_differ_from_each_other_are_said_in_the_caption(tmp_path):
    store = RunStore(tmp_path)
    for row in ("EF-LSTM-GloVe", "LF-LSTM-GloVe"):
        fill(store, ERRORS, row=row)
    assert across({}) == ()
    assert table_result(TABLES["table1"], store, View(data="none")).notes == ()
    fill(store, ERRORS, row="TFN-GloVe", environment=OTHER_TORCH)
    said = "rows differ in torch: 2.12.0+cpu (TFN-GloVe), otherwise 2.13.0+cpu"
    assert table_result(TABLES["table1"], store, View(data="none")).notes == (said,)


@pytest.mark.parametrize(
    ("aspect", "changes", "value"),
    [
        ("data", {"data": "f" * 64}, "f" * 12),
        ("suite version", {"suite": 1}, "1"),
        ("threads", {"threads": 4}, "4"),
        ("device", {"device": "NVIDIA H100"}, "NVIDIA H100"),
        ("platform", {"environment": {**VERSIONS, "platform": "darwin"}}, "darwin"),
    ],
)
def test_in_what_rows_may_not_differ_unsaid(aspect, changes, value):
    (said,) = across({"A": [made(0)], "B": [made(1)], "C": [made(2, **changes)]})
    assert said.startswith(f"rows differ in {aspect}: {value} (C), otherwise ")
    assert across({"A": [made(0)], "B": [made(1, version=2)]}) == ()  # each model has its own


MAGS = {"lr": 1e-5, "loss": "mse", "optimizer": "adamw", "warmup": 0.1}  # its authors' training


def test_rows_that_are_trained_by_another_loss_are_said_in_the_caption():
    plain, mag = made(0, training={"lr": 1e-5, "loss": "l1", "warmup": 0.0}), made(1, training=MAGS)
    assert across({"TFN-BERT": [plain], "MFN-BERT": [made(2)], "MAG-BERT": [mag, made(3, training=MAGS)]}) == (
        "rows differ in loss (it trains, and chooses epoch and trial): mse (MAG-BERT), otherwise l1",
        "rows differ in optimizer: adamw (MAG-BERT), otherwise adam",
        "rows differ in warmup: 0.1 (MAG-BERT), otherwise 0",
    )
    assert across({"TFN-BERT": [plain], "MFN-BERT": [made(2)]}) == ()
    assert mixture([made(n, training=MAGS) for n in range(3)]) == {}


def test_what_captions_say_of_training_has_the_defaults_and_is_searched_by_no_model():
    assert {option: own for option, (_, own) in TRAINED.items()} == {
        option: getattr(Training(lr=1.0), option) for option in TRAINED
    }
    for name, entry in MODELS.items():
        for text in entry.text:
            assert not TRAINED.keys() & search_space(name, text, {}).keys(), name


def test_failed_runs_are_no_part_of_a_mixture(tmp_path):
    store = RunStore(tmp_path)
    study = fill(store, ERRORS)
    failed = study.runs[0]
    store.folder(failed).joinpath("record.json").unlink()
    store.put_failed(spec(0), "killed", device="NVIDIA H100", environment={})
    found = table_result(TABLES["table1"], store, View(data="none"))
    row = next(r for r in found.rows if r.row.name == "EF-LSTM-GloVe")
    assert (row.status, row.n) == ("measured", 2)
