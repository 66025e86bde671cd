"""`bench run robustness`: what records carry, how finished runs come to it, and that nothing is chosen by it."""

import dataclasses
import json

import numpy as np
import pytest
from builders import run_spec
from commands import bench, places

import studies.engines.one_run
from hycon.data.conditions import CONDITIONS, DRAWS, dropping
from studies.aggregate.cells import measures
from studies.engines.options import How
from studies.engines.robustness import EXECUTE, execute
from studies.search import again
from studies.store.run_store import RunStore
from studies.trust.verify import verify

BUDGET = ["--profile", "demo", "--rows", "EF-LSTM-GloVe", "--trials", "2", "--seeds", "2", "--epochs", "1"]
INLINE = [*BUDGET, "--quiet", "--executor", "inline"]


@pytest.fixture(scope="module")
def measured(corpora):
    """The same run without and with its robustness."""
    spec = run_spec(corpora, "ef_lstm", epochs=1)
    plain = studies.engines.one_run.execute(spec, data_root=str(corpora))
    return spec, plain, execute(spec, data_root=str(corpora))


def how(corpora) -> How:
    return How(executor="inline", data_root=str(corpora))


def test_a_record_has_every_condition_and_nothing_else_of_it_moves(measured):
    _spec, (plain, arrays), (record, same) = measured
    assert set(record.robustness) == {condition.name for condition in CONDITIONS}
    assert record.robustness_draws == DRAWS
    assert record.robust
    assert not plain.robust
    for name in ("metrics", "valid_loss", "best_epoch", "curve", "weights_sha256", "code"):
        assert getattr(record, name) == getattr(plain, name)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, same[name])


def test_the_id_and_the_record_of_other_runs_are_as_before(measured):
    spec, (plain, _), (record, _) = measured
    assert plain.id == record.id == spec.id
    assert not any("robust" in key for key in plain.to_dict())


def test_draws_and_predictions_do_not_see_the_labels_of_the_test_split(corpora, monkeypatch):
    """Other labels: other metrics, the same predictions."""
    seen = {}
    real = studies.engines.one_run.metrics_of

    def noted(which):
        def metrics(prediction, label, manifest):
            seen.setdefault(which, []).append(prediction)
            return real(prediction, label, manifest)

        return metrics

    spec = run_spec(corpora, "ef_lstm", epochs=1)
    monkeypatch.setattr(studies.engines.one_run, "metrics_of", noted("own"))
    first = execute(spec, data_root=str(corpora))[0]
    prepared = studies.engines.one_run.batches_of

    def turned(*arguments):
        batches = prepared(*arguments)
        test = batches["test"]
        return {**batches, "test": dataclasses.replace(test, label=-test.label)}

    monkeypatch.setattr(studies.engines.one_run, "metrics_of", noted("turned"))
    monkeypatch.setattr(studies.engines.one_run, "batches_of", turned)
    second = execute(spec, data_root=str(corpora))[0]
    assert first.weights_sha256 == second.weights_sha256
    assert first.robustness != second.robustness
    for own, other in zip(seen["own"], seen["turned"], strict=True):
        np.testing.assert_array_equal(own, other)


def test_predictions_that_are_no_numbers_are_undefined(corpora, measured, monkeypatch):
    import hycon.train

    real = hycon.train.predict

    def without_audio(model, batch, precision):
        found = real(model, batch, precision)
        return found if batch.audio.padded().any() else found * np.nan

    monkeypatch.setattr("hycon.train.predict", without_audio)
    spec, _, (known, _) = measured
    # fitting predicts too, on intact batches
    record = execute(spec, data_root=str(corpora))[0]
    assert set(record.robustness["missing_audio"]["paper"].values()) == {None}
    assert record.robustness["missing_text"] == known.robustness["missing_text"]


# ------------------------------------------------------------------------------------------------- finished runs


def test_a_finished_run_is_trained_again_beside_the_store(corpora, measured, runs):
    spec, (plain, arrays), (record, _) = measured
    stored = runs.put(plain, arrays)
    summary = again.measure(runs, again.to_measure(runs, [spec]), how(corpora))
    assert (summary.done, summary.failed) == ([spec], [])
    now = runs.get(spec.id)
    assert now.robustness == record.robustness
    assert dataclasses.replace(now, robustness={}, robustness_draws=None) == stored
    assert again.to_measure(runs, [spec]) == []
    assert not list((runs.root / again.FOLDER / "runs").iterdir())


def test_what_another_command_left_beside_the_store_is_used(corpora, measured, runs):
    spec, (plain, arrays), (record, same) = measured
    runs.put(plain, arrays)
    RunStore(runs.root / again.FOLDER).put(record, same)
    summary = again.measure(runs, [spec], dataclasses.replace(how(corpora), data_root="/nowhere"))
    assert summary.done == [spec]
    assert runs.get(spec.id).robust


def test_what_was_left_beside_the_store_unmeasured_is_made_again(corpora, measured, runs):
    spec, (plain, arrays), _ = measured
    runs.put(plain, arrays)
    RunStore(runs.root / again.FOLDER).put(plain, arrays)
    assert again.measure(runs, [spec], how(corpora)).done == [spec]
    assert runs.get(spec.id).robust


def test_a_run_whose_weights_come_out_as_others_stays_as_it_is(corpora, measured, runs):
    spec, (plain, arrays), _ = measured
    other = dataclasses.replace(plain, weights_sha256="0" * 64, device="another machine")
    stored = runs.put(other, arrays)
    ((failed, reason),) = again.measure(runs, [spec], how(corpora)).failed
    assert failed == spec
    assert "trained again, its weights are others (sha256" in reason
    assert "another machine" in reason
    assert runs.get(spec.id) == stored


def test_verify_measures_it_again_and_compares(corpora, measured, runs):
    _spec, _plain, (record, arrays) = measured
    stored = runs.put(record, arrays)
    (found,) = verify([stored], runs, data=corpora, executor="inline")
    assert (found.outcome, found.findings) == ("identical", ())
    other = json.loads(json.dumps(record.robustness))
    other["missing_audio"]["paper"]["mae"] += 0.25
    (found,) = verify([dataclasses.replace(stored, robustness=other)], runs, data=corpora, executor="inline")
    assert found.outcome == "differs"
    (said,) = found.findings
    assert said.startswith("robustness missing_audio paper mae: ")
    assert said.endswith("(by 0.25)")


def test_other_draws_count_as_not_measured(measured):
    record = measured[2][0]
    assert not dataclasses.replace(record, robustness_draws=DRAWS + 1).robust
    some = {name: value for name, value in record.robustness.items() if name != "missing_text"}
    assert not dataclasses.replace(record, robustness=some).robust


def test_how_names_the_function_that_measures(corpora):
    assert again.measured_by(how(corpora)).execute == EXECUTE


# ------------------------------------------------------------------------------------------------- the command


def test_the_table_takes_the_runs_of_table1_and_only_seeded_ones_are_measured(tmp_path, capsys):
    assert bench(capsys, "run", "table1", *INLINE, *places(tmp_path))[0] == 0
    store = RunStore(tmp_path / "results")
    before = {record.id: record for record in store.records()}
    code, out, _ = bench(capsys, "table", "robustness", "--profile", "demo", *places(tmp_path))
    assert code == 0
    assert "robustness not measured" in out
    said = " ".join(out.split())
    assert "Robustness not measured in 1 row: `bench run robustness --rows EF-LSTM-GloVe" in said
    assert "2 " in bench(capsys, "run", "robustness", *BUDGET, "--dry-run", *places(tmp_path))[1].splitlines()[2]
    code, out, err = bench(capsys, "run", "robustness", *INLINE, *places(tmp_path))
    assert (code, err) == (0, "")
    assert "not measured" not in out
    after = {record.id: record for record in store.records()}
    assert before.keys() == after.keys()
    assert sum(record.robust for record in after.values()) == 2
    for run, record in after.items():
        assert dataclasses.replace(record, robustness={}, robustness_draws=None) == before[run]
    assert "0 runs" in bench(capsys, "run", "robustness", *BUDGET, "--dry-run", *places(tmp_path))[1]


def test_columns_are_of_the_conditions_and_share_0_is_the_intact_split(tmp_path, capsys):
    assert bench(capsys, "run", "robustness", *INLINE, *places(tmp_path))[0] == 0
    store = RunStore(tmp_path / "results")
    records = [record for record in store.records() if record.robust]
    assert len(records) == 2
    _code, out, _ = bench(capsys, "table", "robustness", "--profile", "demo", "--format", "json", *places(tmp_path))
    row = json.loads(out)["rows"][0]["metrics"]
    for metric, scale in (("acc2", 100), ("mae", 1)):
        curves = [
            [record.metrics["test"]["paper"][metric]]
            + [record.robustness[name]["paper"][metric] for name in dropping("audio").values()]
            for record in records
        ]
        shares = np.linspace(0, 1, 11)
        expected = scale * np.mean([np.trapezoid(curve, shares) for curve in curves])
        assert row[f"auc_audio_{metric}"]["mean"] == pytest.approx(expected, abs=1e-6)
        intact = scale * np.mean([curve[0] for curve in curves])
        assert row[metric]["mean"] == pytest.approx(intact, abs=1e-6)
    missing = 100 * np.mean([record.robustness["missing_vision"]["paper"]["acc2"] for record in records])
    assert row["missing_vision_acc2"]["mean"] == pytest.approx(missing, abs=1e-6)


# ------------------------------------------------------------------------------------------------- emotions


def test_a_run_on_emotions_is_measured_too(corpora):
    spec = run_spec(corpora, "ef_lstm", corpus="emotional", epochs=1)
    record, _ = execute(spec, data_root=str(corpora))
    assert record.robust
    assert set(record.robustness["missing_text"]["emotions"]) == {"happy", "sad", "angry", "neutral", "average"}
    found = measures(record, "paper")
    shares = [record.metrics["test"]["emotions"]["average"]["f1"]]
    shares += [record.robustness[name]["emotions"]["average"]["f1"] for name in dropping("audio").values()]
    assert found["auc_audio_average_f1"] == pytest.approx(np.trapezoid(shares, np.linspace(0, 1, 11)))
    assert found["missing_text_happy_acc"] == record.robustness["missing_text"]["emotions"]["happy"]["acc"]


def test_the_table_and_the_figure_of_emotions(tmp_path, capsys):
    asked = ["--profile", "demo", "--rows", "MFN", "--trials", "1", "--seeds", "2", "--epochs", "1"]
    code, out, err = bench(
        capsys, "run", "robustness_emotions", *asked, "--quiet", "--executor", "inline", *places(tmp_path)
    )
    assert (code, err) == (0, "")
    assert "F1 AUC audio" in " ".join(out.split())
    _, out, _ = bench(
        capsys, "table", "robustness_emotions", "--profile", "demo", "--format", "json", *places(tmp_path)
    )
    row = json.loads(out)["rows"][0]["metrics"]
    store = RunStore(tmp_path / "results")
    records = [record for record in store.records() if record.robust]
    intact = 100 * np.mean([record.metrics["test"]["emotions"]["average"]["f1"] for record in records])
    assert row["average_f1"]["mean"] == pytest.approx(intact, abs=1e-6)
    assert row["missing_text_average_f1"]["n"] == 2
    where = ["--table", "robustness_emotions", "--profile", "demo", *places(tmp_path)]
    _, out, _ = bench(capsys, "figure", "robustness", "--json", *where)
    assert {n["metric"] for n in json.loads(out)["numbers"]} == {"average_f1", "average_acc"}


def test_a_table_of_another_kind_of_labels_is_refused(tmp_path, capsys):
    said = "robustness is about sentiments; the labels of corpus synthetic_emotions are emotions"
    asked = ["robustness", "--corpus", "synthetic_emotions", "--profile", "demo"]
    code, out, err = bench(capsys, "run", *asked, *places(tmp_path))
    assert (code, out) == (2, "")
    assert said in err
