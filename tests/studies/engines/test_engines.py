"""The table of executors: one is a file and a line, and what it can do is written there and nowhere else."""

import ast
import dataclasses
from pathlib import Path

import pytest
from fake_execute import executed, spec

import studies
from hycon.errors import UserError
from studies.cli import main
from studies.engines.executors import DEFAULT, ENGINES, Engine, names
from studies.engines.options import How
from studies.engines.run import check
from studies.store.record import RunSpec

PACKAGE = Path(studies.__file__).parent

TOY = """
import time
from studies.engines.backlog import Event
from studies.engines.child import attempt

def run_toy(backlog, how):
    while backlog.pending:
        run = backlog.claim(how.devices[0])
        if run is None:
            time.sleep(backlog.poll)
            continue
        backlog.notify(Event("start", run, device="toy"))
        attempt(run, backlog.store, how.execute, how.data_root, how.devices[0])
        backlog.settle(run, 0.0, "toy")
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A new engine: its file, and its line."""
    (tmp_path / "toy_engine.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ENGINES, "toy", Engine("toy", "toy_engine:run_toy", no_slots="it is a toy"))


def test_a_new_engine_is_one_file_and_one_line(toy, go, runs, tmp_path):
    specs = [spec(0), spec(1, breaks=1), spec(2)]
    summary = go(specs, "toy")
    assert [s.seed for s in summary.done] == [0, 2]
    assert summary.failed == [(specs[1], "KeyError: 'weights'")]
    assert len(executed(tmp_path)) == 3
    assert {event.device for event in go.events} == {"toy"}
    assert go(specs, "toy").skipped == [specs[0], specs[2]]


def test_no_engine_does_a_run_of_another_protocol(toy, go, runs, tmp_path):
    """Its record would say that it was made under a protocol that this code does not have."""
    newer = dataclasses.replace(spec(0), suite=RunSpec.suite + 1)
    said = f"Run {newer.id} is of version {newer.suite} of the suite; this code has {RunSpec.suite}."
    assert go([newer], "toy").failed == [(newer, said)]
    assert (runs.has(newer.id), executed(tmp_path)) == (False, [])


def test_the_command_line_knows_it(toy, tmp_path, capsys, monkeypatch):
    places = ["--results", str(tmp_path / "r"), "--data", str(tmp_path / "d")]
    command = ["run", "table1", "--profile", "demo", "--rows", "TFN-GloVe", *places, "--executor", "toy", "--quiet"]
    assert main([*command, "--slots", "2", "--dry-run"]) == 2
    assert "are local and slurm" not in capsys.readouterr().err
    assert main([*command, "--cluster-set", "time=3"]) == 2
    assert "are for ray and slurm, not for toy" in capsys.readouterr().err
    monkeypatch.setattr("studies.engines.one_run.execute", lambda *_, **__: exec("raise KeyError('x')"))
    assert main([*command, "--trials", "1", "--seeds", "1"]) == 1
    assert "KeyError: 'x'" in capsys.readouterr().err


def test_messages_name_those_that_can(toy):
    assert names(lambda engine: not engine.no_slots) == "local and slurm"
    with pytest.raises(UserError, match="is for the executors local and slurm, not for toy: it is a toy"):
        check(How(executor="toy", slots=2))
    with pytest.raises(UserError, match="use it with --executor local, ray, slurm or toy"):
        check(How(executor="inline", time_limit=3))


def test_the_default_needs_nothing():
    assert ENGINES[DEFAULT] == Engine(DEFAULT, ENGINES[DEFAULT].run)
    assert all(name == engine.name for name, engine in ENGINES.items())


def test_the_name_of_an_executor_stands_in_its_own_file_and_in_the_table_only():
    """A comparison with a name elsewhere would have to be found by whoever adds an executor."""
    own = {PACKAGE.parent / f"{engine.run.partition(':')[0].replace('.', '/')}.py" for engine in ENGINES.values()}
    elsewhere = []
    for file in sorted(set(PACKAGE.rglob("*.py")) - own - {PACKAGE / "engines" / "executors.py"}):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and node.value in ENGINES:
                elsewhere.append(f"{file.relative_to(PACKAGE)}:{node.lineno}: {node.value!r}")
    assert elsewhere == []
