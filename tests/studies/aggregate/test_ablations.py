"""Parts by name: what removing them changes, and what the comparison with the intact model says."""

import csv
import io
import json

import numpy as np
import pytest
import torch

from hycon.errors import UserError
from hycon.metrics import all_protocols
from studies.aggregate.ablation import ablation_table, differences, render_ablation
from studies.aggregate.cells import assemble
from studies.aggregate.obstacles import CorpusInfo
from studies.authors.conformance import build, loss_of
from studies.cli.listing import ablations
from studies.registry import MODELS, literal, model_module, resolve, search_space
from studies.statistics.comparison import benjamini_hochberg
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.tables import TABLES

PARTS = [(model, part) for model in MODELS for part in literal(model, "ABLATIONS") or {}]
SELECTION = "positive-selection"
LABEL = np.array([1.0, -1.0, 2.0, -2.0], np.float32)
EXACT, OFF = LABEL, np.array([-1.0, -1.0, 2.0, -2.0], np.float32)  # OFF misses the first label by 2


# ------------------------------------------------------------------------------------------------- parts by name


def test_every_part_is_described_and_changes_something():
    for model, part in PARTS:
        module = model_module(model)
        assert list(module.REMOVED) == list(module.ABLATIONS)
        text = MODELS[model].text[0]
        intact = getattr(module, "INTACT", {}).get(part, {})
        assert resolve(model, text, module.ABLATIONS[part]) != resolve(model, text, intact)
    assert {model for model, _ in PARTS} >= {"hycon", "mfn", "graph_mfn", "mult", "raven", "mag", "lmf", "qmf", "iccn"}


def test_the_list_names_table_4s_rows():
    named = [item["table4"] for item in ablations(None) if item["table4"]]
    assert named == [row.name for row in TABLES["table4"].rows if "W/O" in row.name]
    assert {item["model"] for item in ablations(None) if item["table4"]} == {"hycon"}


OF_BASELINES = [  # hycon's and iccn's change the loss only: test_models.py, test_iccn.py in tests/baselines
    (model, part, text)
    for model, part in PARTS
    for text in ("glove", "bert")
    if model not in ("hycon", "iccn") and text in MODELS[model].text
]


@pytest.mark.parametrize(("model", "part", "text"), OF_BASELINES)
def test_a_baseline_without_a_part_is_another_model_that_trains(model, part, text, batches):
    batch = batches("small", text)["train"].slice(0, 13)
    change = model_module(model).ABLATIONS[part]
    intact, ablated = build(model, text, batch), build(model, text, batch, **change)
    for parameter in (*intact.parameters(), *ablated.parameters()):  # a fresh model may not yet show a part
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    prediction = ablated.eval()(batch).prediction
    moved = prediction.shape == (13,) and not torch.equal(prediction, intact.eval()(batch).prediction)
    frozen = [p.requires_grad for p in ablated.parameters()] != [p.requires_grad for p in intact.parameters()]
    other_loss = bool(loss_of(ablated, batch) != loss_of(intact, batch))
    assert moved or frozen or other_loss
    prediction.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in ablated.parameters())


def test_a_part_that_is_not_there_is_not_searched():
    space = search_space("mfn", "glove", {"gated_memory": False})
    assert "attention_hidden" in space
    assert not {"memory", "retain_hidden", "update_dropout"} & set(space)
    assert "attention_hidden" not in search_space("mfn", "glove", {"attention": False})
    assert "gamma" not in search_space("hycon", "bert", {"modalities": "text", "iamcl": 0.0, "beta": 0.2})
    assert "gamma" in search_space("hycon", "bert", {"modalities": "text", "beta": 0.2})


# ------------------------------------------------------------------------------------------------- the two rows


@pytest.mark.parametrize(
    ("remove", "options", "intact", "ablated", "label"),
    [
        (["iemcl"], {}, {}, {"iemcl": 0.0}, "w/o iemcl"),
        (["iemcl"], {"margin": 0.5}, {}, {"iemcl": 0.0, "margin": 0.5}, "w/o iemcl, margin=0.5"),
        (["contrast", "scl"], {}, {}, {"iamcl": 0.0, "iemcl": 0.0, "scl": 0.0}, "w/o contrast, w/o scl"),
        ([], {"beta": 0.3}, {}, {"beta": 0.3}, "beta=0.3"),
        ([SELECTION], {}, {"beta": 0.2}, {"beta": 0.2, "select_positives": False}, f"w/o {SELECTION}"),
        (
            [SELECTION],
            {"beta": 0.5},
            {"beta": 0.5},
            {"beta": 0.5, "select_positives": False},
            f"w/o {SELECTION}, beta=0.5",
        ),
    ],
)
def test_intact_and_ablated_row(remove, options, intact, ablated, label):
    one, other = ablation_table("hycon", "bert", remove, options).rows
    assert (one.name, dict(one.config)) == ("hycon-bert", intact)
    assert (other.name, dict(other.config)) == (f"hycon-bert ({label})", ablated)
    assert (one.intact, other.intact) == (None, one)


@pytest.mark.parametrize(
    ("model", "remove", "options", "said"),
    [
        ("hycon", [], {}, "--remove PART"),
        ("hycon", ["imcl"], {}, "nearest: .*iamcl"),
        ("tfn", ["scl"], {}, "names no parts"),
        ("hycon", ["text", "audio"], {}, "both set modalities"),
        ("hycon", [], {"margin": 0.8}, "margin=0.8 is what the intact hycon has"),
        ("hycon", [], {"fusion": "tensor", "modalities": "text"}, "addition or concatenation"),
    ],
)
def test_what_cannot_be_ablated(model, remove, options, said):
    with pytest.raises(UserError, match=said):
        ablation_table(model, "bert", remove, options)


# ------------------------------------------------------------------------------------------------- the comparison


def filled(tmp_path, intact, ablated):
    """The ablation table with one run for each prediction."""
    table = ablation_table("hycon", "bert", ["iemcl"], {})
    store, records = RunStore(tmp_path), {}
    for row, predictions in zip(table.rows, (intact, ablated), strict=True):
        records[row.name] = []
        for seed, prediction in enumerate(predictions):
            spec = RunSpec("hycon", 1, "bert", "mosi", "sha", dict(row.config), {}, seed)
            arrays = {"test_prediction": prediction, "test_label": LABEL, "test_id": np.array(list("abcd"))}
            store.put(RunRecord(spec, "done", metrics={"test": all_protocols(prediction, LABEL)}), arrays)
            records[row.name].append(store.get(spec.id))
    return assemble(table, records, {}, corpus=CorpusInfo("mosi")), store


def test_the_difference_is_ablated_less_intact_in_printed_units(tmp_path):
    result, store = filled(tmp_path, [EXACT] * 6, [OFF] * 6)
    found = {one.column.metric: one.numbers() for one in differences(result, store)}
    assert list(found) == ["acc7", "acc2", "f1", "mae", "corr"]
    assert found["acc2"]["difference"] == pytest.approx(-25.0)  # 1 of 4
    assert found["mae"]["difference"] == pytest.approx(0.5)  # 2 over 4
    assert found["mae"]["low"] < 0.5 < found["mae"]["high"]
    assert found["acc2"]["p"] == pytest.approx(2 / 2**6)  # all six signs alike
    assert found["acc2"]["low"] < 0 < found["acc2"]["high"]  # but of one utterance in four
    assert found["acc2"]["p_interval"] > 0.05
    larger = [max(one["p"], one["p_interval"]) for one in found.values()]
    assert [one["p_adjusted"] for one in found.values()] == benjamini_hochberg(larger)
    assert found["acc2"]["paired"]
    assert not found["acc2"]["underpowered"]
    assert (found["acc2"]["n_intact"], found["acc2"]["n_ablated"], found["acc2"]["utterances"]) == (6, 6, 4)


def test_five_seeds_are_underpowered_and_the_text_says_so(tmp_path):
    result, store = filled(tmp_path, [EXACT] * 5, [OFF] * 5)
    text = render_ablation(result, differences(result, store), "text")
    assert "Runs of the intact and of the ablated model share seeds" in " ".join(text.split())
    below = text[text.index("Ablated less intact") :]
    assert "5 pairs of runs of equal seeds on 4 utterances" in " ".join(below.split())
    line = next(line for line in below.splitlines() if line.startswith("Acc2"))
    assert line.split()[:2] == ["Acc2", "-25.00"]
    assert "0.062" in line  # 2 / 2^5
    assert below.count("\nunderpowered: p < 0.05 needs 6 seeds a row at least\n") == 1  # of every metric
    assert "MAE (lower is better)" in below
    heads = [line for line in text.splitlines() if line.startswith("Model")]
    assert heads
    assert "paper" not in " ".join(heads)


def test_without_predictions_the_interval_is_over_seeds_alone(tmp_path):
    result, store = filled(tmp_path, [EXACT] * 6, [OFF] * 6)
    assert "Interval: over seeds and utterances." in render_ablation(result, differences(result, store), "md")
    for file in store.root.glob("runs/*/predictions.npz"):
        file.unlink()
    said = render_ablation(result, differences(result, store), "md")
    assert "Interval: over seeds alone: a row keeps no predictions." in said
    assert "seeds and utterances" not in said


def test_every_format_has_the_comparison(tmp_path):
    result, store = filled(tmp_path, [EXACT] * 2, [OFF] * 2)
    found = differences(result, store)
    printed = {name: render_ablation(result, found, name) for name in ("md", "latex", "html", "json", "csv")}
    assert "| Acc2" in printed["md"]
    assert printed["latex"].count("\\end{table}") == 2
    assert printed["html"].rstrip().endswith("</html>")
    assert '<table id="ablation-difference"' in printed["html"]
    comparison = json.loads(printed["json"])["comparison"]
    assert comparison["mae"]["difference"] == pytest.approx(0.5)
    lines = list(csv.DictReader(io.StringIO(printed["csv"])))
    assert len(lines) == 15  # the constant prediction, too
    assert [line["comparison_difference"] for line in lines if line["metric"] == "mae"] == ["", "0.5", ""]


def test_one_run_has_no_interval_and_no_run_no_comparison(tmp_path):
    result, store = filled(tmp_path / "one", [EXACT], [OFF])
    text = render_ablation(result, differences(result, store), "text")
    assert "none below 3 runs" in text
    assert "-25.00" in text
    result, store = filled(tmp_path / "none", [EXACT], [])
    assert differences(result, store) == []
    for name in ("text", "md", "latex", "html"):
        assert "No comparison: a row has no finished run." in render_ablation(result, [], name)
    assert json.loads(render_ablation(result, [], "json"))["comparison"] == {}
    assert "comparison" not in render_ablation(result, [], "csv").splitlines()[0]
