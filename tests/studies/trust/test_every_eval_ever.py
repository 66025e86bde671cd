"""`bench export --schema every_eval_ever`: files that the schema takes, with the numbers of the runs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from builders import fill, fill_table, manifest
from commands import bench, places

from hycon.errors import UserError
from hycon.metrics import PROTOCOLS
from studies.store.run_store import RunStore
from studies.tables import TABLES
from studies.trust.every_eval_ever import evaluation_log, export_logs

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
NUMBER_OR_INFINITY = {"oneOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity"]}]}


def closed(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


TEXT = {"type": "string"}
METRIC = closed(
    {"lower_is_better": {"type": "boolean"}, "score_type": {"const": "continuous"}}
    | {"min_score": NUMBER_OR_INFINITY, "max_score": NUMBER_OR_INFINITY}
    | dict.fromkeys(("evaluation_description", "metric_id", "metric_name", "metric_kind", "metric_unit"), TEXT)
    | {"metric_parameters": STRINGS}
)
INTERVAL = closed(
    {"lower": {"type": "number"}, "upper": {"type": "number"}}, {"confidence_level": {"const": 0.95}, "method": TEXT}
)
UNCERTAINTY = closed(
    {"num_samples": {"type": "integer"}}, {"standard_deviation": {"type": "number"}, "confidence_interval": INTERVAL}
)
SOURCE = closed({"dataset_name": TEXT, "source_type": {"const": "other"}, "additional_details": STRINGS})
RESULT = closed(
    {"evaluation_result_id": TEXT, "evaluation_name": TEXT, "source_data": SOURCE, "metric_config": METRIC}
    | {"score_details": closed({"score": {"type": "number"}, "details": STRINGS, "uncertainty": UNCERTAINTY})}
)
DETAILS = {**STRINGS, "required": ["deployment_type", "model_availability"]}
# What of the coalition's schema (0.3.0) this export uses, and nothing else: stricter than that
LOG = closed(
    {"schema_version": {"const": "0.3.0"}, "evaluation_id": TEXT, "retrieved_timestamp": {**TEXT, "pattern": r"^\d+$"}}
    | {
        "source_metadata": closed(
            {"source_name": TEXT, "source_type": {"const": "evaluation_run"}, "source_organization_name": TEXT}
            | {"evaluator_relationship": {"enum": ["third_party", "other"]}}
        ),
        "eval_library": closed({"name": TEXT, "version": TEXT, "additional_details": STRINGS}),
        "model_info": closed({"name": TEXT, "id": TEXT, "developer": TEXT, "additional_details": DETAILS}),
        "evaluation_results": {"type": "array", "minItems": 1, "items": RESULT},
    },
    {"evaluation_timestamp": TEXT},
)


def check(log: dict[str, Any]) -> None:
    jsonschema.validate(log, LOG)
    try:
        from every_eval_ever.schema import schema_json  # the coalition's own, where it is installed
    except ImportError:
        return
    jsonschema.validate(log, schema_json())


def read(paths: list[Path]) -> list[dict[str, Any]]:
    logs = [json.loads(path.read_text()) for path in paths]
    for log in logs:
        check(log)
    return logs


def test_a_row_of_table_1(tmp_path: Path, monkeypatch) -> None:
    store = RunStore(tmp_path / "results")
    study = fill(store, [0.1, 0.3, 0.2])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    paths = export_logs(store, tmp_path / "out", organization="A university")
    (log,) = read(paths)
    assert paths[0].relative_to(tmp_path / "out").parts[:3] == ("mosi", "hycon-bench", "EF-LSTM-GloVe")
    assert log["evaluation_id"] == "mosi/hycon-bench_EF-LSTM-GloVe/1700000000"
    assert log["source_metadata"]["source_organization_name"] == "A university"
    assert {r["metric_config"]["metric_parameters"]["protocol"] for r in log["evaluation_results"]} == set(PROTOCOLS)
    (mae,) = [r for r in log["evaluation_results"] if r["evaluation_result_id"] == f"{study.id}.paper.mae"]
    values = [store.get(run).metrics["test"]["paper"]["mae"] for run in study.runs]
    assert mae["score_details"]["score"] == pytest.approx(statistics.fmean(values))
    uncertainty = mae["score_details"]["uncertainty"]
    assert uncertainty["num_samples"] == 3
    assert uncertainty["standard_deviation"] == pytest.approx(statistics.stdev(values))
    assert uncertainty["confidence_interval"]["lower"] >= 0
    assert mae["score_details"]["details"]["runs"] == ", ".join(study.runs)
    assert mae["metric_config"]["lower_is_better"] is True
    before = paths[0].read_bytes()
    assert export_logs(store, tmp_path / "out", organization="A university") == paths
    assert paths[0].read_bytes() == before


def test_one_run_has_no_spread_and_emotions_are_results_of_their_own(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results")
    fill(store, [0.1])
    table = TABLES["table3"]
    fill_table(store, table, table.rows[-1:], seeds=2)
    logs = {log["evaluation_results"][0]["evaluation_name"]: log for log in read(export_logs(store, tmp_path / "out"))}
    assert logs["mosi"]["evaluation_results"][0]["score_details"]["uncertainty"] == {"num_samples": 1}
    names = {r["metric_config"]["metric_id"] for r in logs["iemocap"]["evaluation_results"]}
    assert {"hycon-bench.happy.f1", "hycon-bench.average.acc"} <= names


def test_notes_on_the_data_are_in_it(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results")
    study = fill(store, [0.1, 0.2])
    runs = [store.get(run) for run in study.runs]
    log = evaluation_log(study, runs, manifest(notes=["audio is resampled"], synthetic=True), "unknown")
    check(log)
    details = log["evaluation_results"][0]["source_data"]["additional_details"]
    assert details["notes"] == "audio is resampled"
    assert details["synthetic"] == "true"


def test_what_the_import_found_is_in_it(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results")
    study = fill(store, [0.1, 0.2])
    runs = [store.get(run) for run in study.runs]
    repeats = {"audio": {"test": {"rows": 80, "rows_elsewhere": 60}}}
    log = evaluation_log(study, runs, manifest(repeats=repeats, leaks=["a video is in two splits"]), "unknown")
    notes = log["evaluation_results"][0]["source_data"]["additional_details"]["notes"]
    assert (
        notes == "features repeat: 75 % of the test split's audio also stands in other splits; a video is in two splits"
    )


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results")
    with pytest.raises(UserError, match="holds no finished seeded run to export"):
        export_logs(store, tmp_path / "out")
    fill(store, [0.1])
    with pytest.raises(UserError, match="holds no finished seeded run of mosei to export"):
        export_logs(store, tmp_path / "out", corpus="mosei")
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, capsys) -> None:
    fill(RunStore(tmp_path / "results"), [0.1, 0.2])
    given = ["export", tmp_path / "out", *places(tmp_path)]
    code, out, _ = bench(capsys, *given, "--schema", "every_eval_ever")
    assert code == 0
    assert "1 study, a file each, in the schema every_eval_ever 0.3.0" in out
    assert len(list((tmp_path / "out").rglob("*.json"))) == 1
    for wrong, said in (
        (["--schema", "every_eval"], "Unknown schema 'every_eval'; nearest: every_eval_ever"),
        (["--organization", "A university"], "--organization is for --schema"),
        (["--schema", "every_eval_ever", "--without-predictions"], "--without-predictions is for an archive"),
    ):
        code, _, err = bench(capsys, *given, *wrong)
        assert code == 2
        assert said in err
