"""`bench` as the tests call it, and the folder that a small run of the demo leaves."""

import json
from pathlib import Path

from studies.cli import main

ROWS = ["EF-LSTM-GloVe", "HyCon-BERT"]
BUDGET = ["--profile", "demo", "--rows", ",".join(ROWS), "--trials", "2", "--epochs", "1", "--quiet"]
RUN = ["run", "table1", *BUDGET, "--seeds", "2"]
DIMS = {"text": 9, "audio": 4, "vision": 3}
FORMATS = ["text", "md", "latex", "csv", "html", "json"]


def places(folder: Path) -> list[str]:
    return ["--data", str(folder / "data"), "--results", str(folder / "results")]


def bench(capsys, *arguments) -> tuple[int, str, str]:
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    return code, out, err


def records(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in (folder / "results" / "runs").glob("*/record.json")}


def table(capsys, folder: Path, *options) -> dict:
    code, out, _ = bench(capsys, "table", "table1", "--profile", "demo", "--format", "json", *places(folder), *options)
    assert code == 0
    return json.loads(out)
