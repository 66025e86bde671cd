"""Drivers, workers and searches that share a PostgreSQL; mistakes in its URL."""

import json
import os
import signal
from collections import Counter
from functools import partial

import pytest
from fake_execute import executed, spec
from postgres_server import MARKS, URL, python, rows, start_driver
from waiting import wait_for as wait

from studies.cli import main
from studies.engines.queue_worker import Limits, work
from studies.store.leases import MARK
from studies.store.run_store import RunStore

wait_for = partial(wait, seconds=30.0)
pytestmark = MARKS


# ------------------------------------------------------------------------------------------------ drivers


def test_two_drivers_share_the_runs_and_each_is_done_once(runs, tmp_path):
    specs = [spec(n, sleep=0.05) for n in range(24)]
    drivers = [start_driver(tmp_path, "[spec(n, sleep=0.05) for n in range(24)]") for _ in range(2)]
    for driver in drivers:
        out, err = driver.communicate(timeout=60)
        assert driver.returncode == 0, err
        assert out == "24 0\n"
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)
    assert rows(runs) == []
    assert all(map(runs.has, [s.id for s in specs]))


def test_a_driver_that_is_killed_and_issued_again(runs, tmp_path):
    driver = start_driver(tmp_path, "[spec(n, sleep=1.0) for n in range(4)]")
    wait_for(lambda: len(executed(tmp_path)) == 2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=30)
    assert len(rows(runs)) == 2
    again = start_driver(tmp_path, "[spec(n, sleep=1.0) for n in range(4)]")
    assert again.communicate(timeout=30)[0] == "4 0\n"
    assert rows(runs) == []
    assert list(runs.failures()) == []


def test_interrupting_a_driver_frees_its_runs(runs, tmp_path):
    driver = start_driver(tmp_path, "[spec(n, sleep=60) for n in range(4)]")
    wait_for(lambda: len(executed(tmp_path)) == 2)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=10)
    assert rows(runs) == []


def test_a_pull_worker_does_what_is_queued(runs, tmp_path):
    driver = start_driver(tmp_path, "[spec(n, sleep=0.5) for n in range(8)]")
    wait_for(lambda: executed(tmp_path))
    done = work(runs, slots=2, limits=Limits(idle=1), execute="fake_execute:execute", preload=(), poll=0.1)
    assert driver.communicate(timeout=30)[0] == "8 0\n"
    assert len(done.done) >= 1
    assert set(Counter(executed(tmp_path)).values()) == {1}
    assert rows(runs) == []


def test_a_task_of_ray_s_takes_its_lease_from_the_database(runs, tmp_path):
    """What a worker of Ray's calls; the whole engine is tried in test_ray.py."""
    from studies.engines.options import How
    from studies.engines.ray import run_one

    how = How(execute="fake_execute:execute", data_root=tmp_path, preload=())
    runs.leases.check()
    run_one(spec(0), str(runs.root), 0, how, 60.0, runs.storage)
    assert runs.has(spec(0).id)
    assert rows(runs) == []
    assert [path.name for path in (runs.root / "leases").iterdir()] == [MARK]


# ------------------------------------------------------------------------------------------------ Optuna


def search(runs: RunStore, name: str):
    import optuna

    return optuna.load_study(study_name=name, storage=runs.storage.sqlalchemy_url())


SEARCH = """
import os, sys
from studies.search.ledger import write_ledger
from studies.store.database import storage_of
from studies.store.run_store import RunStore
from studies.store.study import Study

store = RunStore(sys.argv[1], storage=storage_of(os.environ["BENCH_TEST_POSTGRES"]))
draws = [{"x": n} for n in range(8)]
trials = [str(n) for n in range(8)]
study = Study("m", "t", "c", sys.argv[1], {}, {}, None, "cpu", "paper", draws, trials, space={"x": list(range(8))})
for done in (3, 8):
    write_ledger(store, study, [n / 8 if n < done else None for n in range(8)])
print(study.id)
"""


def test_drivers_that_enter_one_search_at_the_same_time_enter_it_once(runs, tmp_path):
    drivers = [python(SEARCH, tmp_path) for _ in range(3)]
    for driver in drivers:
        out, err = driver.communicate(timeout=120)
        assert driver.returncode == 0, err
    study = search(runs, f"m-t-c-{out.strip()}")
    assert [(t.number, t.params["x"], t.value) for t in study.trials] == [(n, n, n / 8) for n in range(8)]
    assert study.best_trial.number == 0


def test_the_command_keeps_its_leases_and_its_search_in_the_database(runs, tmp_path, database):
    """The real command, twice at the same time."""
    options = ["run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", "--trials", "2", "--seeds", "2"]
    options += ["--epochs", "1", "--storage", URL, "--results", str(runs.root), "--data", str(tmp_path / "data")]
    commands = [python("import sys; from studies.cli import main; sys.exit(main(sys.argv[1:]))", *options)]
    wait_for(lambda: (tmp_path / "data" / "synthetic" / "manifest.json").exists(), seconds=60)
    commands.append(python("import sys; from studies.cli import main; sys.exit(main(sys.argv[1:]))", *options))
    for command in commands:
        out, err = command.communicate(timeout=240)
        assert command.returncode == 0, err
        assert "EF-LSTM-GloVe" in out
    assert len(list(runs.records())) == 4
    assert rows(runs) == []
    (saved,) = [json.loads(path.read_text()) for path in (runs.root / "studies").glob("*.json")]
    assert not list((runs.root / "studies").glob("*.journal*"))
    study = search(runs, f"{saved['model']}-{saved['text']}-{saved['corpus']}-{saved['id']}")
    assert [t.value for t in study.trials] == [runs.get(trial).valid_loss for trial in saved["trials"]]
    assert study.best_trial.number == saved["selected"]
    for path in runs.root.rglob("*"):
        assert path.is_dir() or database.password.encode() not in path.read_bytes()


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("of", "to", "said"),
    [
        ("{password}", "wrong", "password authentication failed"),
        (":16832", ":1", "refused"),
        ("/postgres", "/nosuch", 'database "nosuch" does not exist'),
        ("@127.0.0.1", "@nosuch.invalid", "could not translate host name"),
        ("postgresql:", "mysql:", "is no URL of a PostgreSQL database"),
    ],
)
def test_a_wrong_url_is_a_sentence_before_anything_is_written(tmp_path, capsys, database, of, to, said):
    url = URL.replace(of.format(password=database.password), to)
    root = tmp_path / "results"
    assert url != URL
    options = ["--storage", url, "--results", str(root), "--data", str(tmp_path / "data")]
    assert main(["run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert database.password not in error
    assert "wrong" not in error
    assert list(tmp_path.iterdir()) == []
