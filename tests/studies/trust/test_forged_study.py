"""A study's file that somebody has changed, and every command that reads it.

Each says one sentence, or goes without the study and `bench doctor` names the file. None ends in a traceback, and the
table shows either the numbers of the sound study or none. BENCH_LONG: more kinds of junk in each field.
"""

import json
import math
import os
from pathlib import Path

import pytest
from builders import fill_table
from commands import bench

from hycon.errors import UserError
from studies.store.run_store import RunStore
from studies.store.study import read_study
from studies.tables import TABLES

ROWS = ("EF-LSTM-GloVe", "HyCon-BERT")
JUNK = (None, 5, 10**400, "\ud800", [], {"a": {}})
if "BENCH_LONG" in os.environ:
    JUNK = (*JUNK, True, -1, 1.5, math.nan, "x", "../../etc/passwd", "\x1b[2J", {}, [None])
TABLE = ("table", "table1", "--format", "json")
READING = (
    TABLE,
    ("doctor",),
    ("list", "studies"),
    ("status", "table1"),
    ("table", "table4"),
    ("show", "table1 HyCon-BERT"),
)
SLOW = (("claims",), ("figure", "curves", "--output"), ("report", "--output"))  # seconds each, so for few forgeries
if "BENCH_LONG" not in os.environ:
    SLOW = SLOW[:1]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two rows of Table 1, with configurations that hold what makes a row of HyCon's. Left as it was by each test."""
    folder = tmp_path_factory.mktemp("forged") / "results"
    fill_table(RunStore(folder), TABLES["table1"], [r for r in TABLES["table1"].rows if r.name in ROWS], beta=None)
    return folder


@pytest.fixture(scope="module")
def study(results) -> Path:
    """The file of HyCon's study."""
    return next(p for p in sorted(results.glob("studies/*.json")) if json.loads(p.read_text())["model"] == "hycon")


def forgeries(study: dict) -> dict[str, dict]:
    """What is changed -> the fields that change. Those of one name are tried one after the other."""
    runs, trials, draws = study["runs"], study["trials"], study["draws"]
    odd = {name: [{name: junk} for junk in JUNK] for name in study if name != "id"}
    odd["selected"] += [{"selected": value} for value in (2, 3, 4)]
    odd["runs"] += [
        {"runs": ids} for ids in (runs[:1], runs * 2, trials[:2], ["../../x"], ["0" * 16], [*runs, "0" * 16])
    ]
    odd["trials"] += [{"trials": trials[:2]}, {"trials": trials[:2], "draws": draws[:2]}]
    odd["draws"] += [{"draws": [{"lr": lr}] * 4} for lr in (math.nan, "=1+1", [])]
    odd["model"] += [{"model": "tfn"}, {"model": "baselines.tfn"}]
    odd["text"] += [{"text": "glove"}]
    odd["corpus"] += [{"corpus": name} for name in ("mosei", "iemocap", "../x")]
    odd["row"] += [{"row": {"beta": 0.2}}]
    odd["options"] += [{"options": {"lr": 1}}, {"options": {"epochs": "x"}}]
    odd["encoder"] += [{"encoder": e} for e in ({"name": "b"}, {"sha256": "0"}, {"name": "x" * 10**5, "sha256": "0"})]
    odd["profile"] += [{"profile": "demo"}]
    odd["space"] += [{"space": {"lr": choices}} for choices in ([], [[1]], [math.nan])]
    odd["winner_of"] += [{"winner_of": study["id"]}]
    odd["version"] += [{"version": 99}]
    return odd


def numbers(table: str) -> list:
    rows = json.loads(table)["rows"]
    return [(r["row"], r.get("n"), {k: (v.get("mean"), v.get("sd")) for k, v in r["metrics"].items()}) for r in rows]


def forged(study: Path, change: dict):
    """The forged file, once under the name that it had and, where that makes it another study, under its new one."""
    raw = {**json.loads(study.read_text()), **change}
    yield study, json.dumps(raw)
    if readable(json.dumps(raw)) and (new := read_study(json.dumps(raw).encode()).id) != study.stem:
        yield study.with_name(f"{new}.json"), json.dumps({**raw, "id": new})


def readable(content: str) -> bool:
    try:
        read_study(content.encode())
    except (ValueError, UserError):
        return False
    return True


def one_sentence(code: int, err: str) -> None:
    assert code in (0, 1, 2)
    if code == 2:
        assert err.startswith("bench: ")
        assert err.count("\n") == 1


FIELDS = [
    "model", "text", "corpus", "data", "row", "options", "encoder", "device", "profile", "draws", "trials", "selected",
    "runs", "model_version", "number", "space", "winner_of", "measured", "version",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_forged_field(results, study, capsys, tmp_path, field):
    where = ["--data", str(tmp_path / "data"), "--results", str(results)]
    sound = study.read_text()
    shown = numbers(bench(capsys, *TABLE, *where)[1])
    study.unlink()
    absent = numbers(bench(capsys, *TABLE, *where)[1])
    study.write_text(sound)
    for change in forgeries(json.loads(sound))[field]:
        for file, content in list(forged(study, change)):
            study.unlink()
            file.write_text(content)
            try:
                commands = READING if readable(content) else READING[:2]  # what cannot be read is skipped by all alike
                said = {command: bench(capsys, *command, *where) for command in commands}
                if readable(content):
                    said["export"] = bench(capsys, "export", tmp_path / "x.tar.gz", *where)
            finally:
                file.unlink()
                study.write_text(sound)
            for code, _, err in said.values():
                one_sentence(code, err)
            code, out, _ = said[TABLE]
            named = file.name in said["doctor",][1]
            assert code == 2 or numbers(out) == shown or named or (numbers(out) == absent and field == "number"), change


@pytest.mark.parametrize(
    "change", [{"encoder": {"sha256": "0"}}, {"row": {"beta": 0.2}}, {"space": {"lr": [[1]]}}, {"number": 10**400}]
)
def test_pages_and_pictures_of_a_forged_study(results, study, capsys, tmp_path, change):
    sound = study.read_text()
    study.write_text(json.dumps({**json.loads(sound), **change}))
    try:
        for number, command in enumerate(SLOW):
            target = [tmp_path / f"{number}.svg"] if "--output" in command else []
            code, _, err = bench(capsys, *command, *target, "--data", tmp_path, "--results", results)
            one_sentence(code, err)
    finally:
        study.write_text(sound)
