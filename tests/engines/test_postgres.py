"""Leases and Optuna studies in a real PostgreSQL: bash tests/engines/setup.sh start FOLDER postgres, then the export
that it prints. The server is stopped and started again by some of these tests."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from fake_execute import executed, spec
from waiting import wait_for as wait

from hycon.errors import UserError
from studies.cli import main
from studies.engines.queue_worker import Limits, work
from studies.engines.run import run
from studies.store import database as storage_module
from studies.store.database import Storage, storage_of
from studies.store.leases import MARK, claim, heartbeat
from studies.store.leases_postgres import CLAIM, PostgresLeases
from studies.store.run_store import RunStore
from studies.trust.doctor import examine, repair

wait_for = partial(wait, seconds=30.0)
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
URL = os.environ.get("BENCH_TEST_POSTGRES", "")

if not URL:
    reason = "needs BENCH_TEST_POSTGRES: bash tests/engines/setup.sh start FOLDER postgres"
    pytest.skip(reason, allow_module_level=True)
psycopg2 = pytest.importorskip("psycopg2", reason="needs the extra postgres")
pytestmark = pytest.mark.engines
RUN = "ab" * 8


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(storage_module, "PAUSE", 0.1)


@pytest.fixture
def database() -> Storage:
    found = storage_of(URL)
    assert found is not None
    return found


@pytest.fixture
def runs(tmp_path, database):
    return RunStore(tmp_path / "results", storage=database)


def leases(runs: RunStore) -> PostgresLeases:
    """As another process on the same folder has them."""
    return RunStore(runs.root, storage=runs.storage).leases  # type: ignore[return-value]


def rows(runs: RunStore) -> list[tuple]:
    found = json.loads((runs.root / "leases" / MARK).read_text())["id"]
    with psycopg2.connect(URL) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT run, nonce FROM bench_leases WHERE store = %s ORDER BY run", (found,))
        return cursor.fetchall()


def ask(sql: str) -> list[tuple]:
    connection = psycopg2.connect(URL)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


@contextmanager
def stopped_server():
    """The server is down in the block."""
    folder = Path(ask("SHOW data_directory")[0][0]).parent.parent
    setup = ["bash", str(HERE / "setup.sh")]
    subprocess.run([*setup, "stop", str(folder), "postgres"], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run([*setup, "start", str(folder), "postgres"], check=True, timeout=60, stdout=subprocess.DEVNULL)


def python(code: str, *arguments: object, **more) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


# ------------------------------------------------------------------------------------------------ claims

RACE = """
import os, sys
from studies.store.database import storage_of
from studies.store.run_store import RunStore

store = RunStore(sys.argv[1], storage=storage_of(os.environ["BENCH_TEST_POSTGRES"]))
store.leases.check()
print("ready", flush=True)
for line in sys.stdin:
    print("won" if store.claim(line.strip()) else "lost", flush=True)
"""


def test_of_several_processes_exactly_one_wins_each_of_200_runs(runs):
    racers = [python(RACE, runs.root, stdin=subprocess.PIPE) for _ in range(4)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
    winners = Counter()
    for number in range(200):
        for racer in racers:
            racer.stdin.write(f"{number:016x}\n")
            racer.stdin.flush()
        said = [racer.stdout.readline().strip() for racer in racers]
        assert sorted(said) == ["lost", "lost", "lost", "won"]
        winners[said.index("won")] += 1
    for racer in racers:
        racer.communicate(timeout=30)
    assert len(winners) > 1  # else it was no race


def test_of_several_threads_exactly_one_takes_over_a_stale_lease(runs):
    others = [leases(runs) for _ in range(4)]
    for other in others:
        other.check()
    for _ in range(50):
        assert others[0].claim(RUN, ttl=0.05)
        time.sleep(0.06)
        won, barrier = [], threading.Barrier(4)

        def race(other, won=won, barrier=barrier):
            barrier.wait()
            won.append(other.claim(RUN))

        threads = [threading.Thread(target=race, args=(other,)) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = (lease for lease in won if lease)
        assert rows(runs) == [(RUN, winner.nonce)]
        winner.release()


def test_a_lease_is_held_until_released(runs):
    mine = runs.claim(RUN)
    assert mine
    assert runs.claim(RUN) is leases(runs).claim(RUN) is None
    assert rows(runs) == [(RUN, mine.nonce)]
    assert runs.leases.survey() == ({RUN}, {})
    mine.release()
    assert rows(runs) == []
    assert leases(runs).claim(RUN)


def test_a_silent_lease_is_taken_over_and_its_old_holder_touches_nothing(runs):
    old = runs.claim(RUN, ttl=0.2)
    assert leases(runs).claim(RUN) is None
    time.sleep(0.3)
    assert list(runs.leases.survey()[1]) == [RUN]
    new = leases(runs).claim(RUN, ttl=60)
    assert new
    old.renew()
    old.release()
    assert rows(runs) == [(RUN, new.nonce)]


def test_a_heartbeat_keeps_a_lease(runs):
    held = {RUN: runs.claim(RUN, ttl=0.6)}
    with heartbeat(held, ttl=0.6):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert leases(runs).claim(RUN) is None
            time.sleep(0.1)
    assert rows(runs) == []


def test_the_lease_of_a_dead_process_of_this_machine_is_free_at_once(runs):
    child = python(RACE, runs.root, stdin=subprocess.PIPE)
    assert child.communicate(RUN + "\n", timeout=30)[0] == "ready\nwon\n"
    assert len(rows(runs)) == 1
    assert leases(runs).claim(RUN)


def test_stores_that_share_a_database_do_not_meet(runs, tmp_path, database):
    other = RunStore(tmp_path / "other", storage=database)
    assert runs.claim(RUN)
    assert other.claim(RUN)


def test_a_store_is_known_under_another_path(runs, tmp_path, database):
    assert runs.claim(RUN)
    (tmp_path / "mounted").symlink_to(runs.root)
    assert RunStore(tmp_path / "mounted", storage=database).claim(RUN) is None


def test_doctor_and_sweep_free_what_is_stale(runs, tmp_path):
    runs.root.mkdir()
    assert runs.claim("0" * 16, ttl=0.01)
    assert runs.claim(RUN)
    time.sleep(0.05)
    found = examine(runs)
    assert [f.kind for f in found] == ["lease"]
    assert found[0].path.startswith("leases/" + "0" * 16)
    assert repair(runs, found) == examine(runs) == []
    assert runs.claim("0" * 16, ttl=0.01)
    time.sleep(0.05)
    runs.sweep()
    assert [row[0] for row in rows(runs)] == [RUN]


# ------------------------------------------------------------------------------------------------ files and database


def test_without_storage_a_store_of_the_database_is_refused(runs, tmp_path, capsys):
    run([spec(0)], runs, executor="inline", execute="fake_execute:execute", data_root=tmp_path)
    files = RunStore(runs.root)
    for refused in (
        lambda: run([spec(1)], files, executor="inline", execute="fake_execute:execute", data_root=tmp_path),
        lambda: work(files, limits=Limits(idle=0)),
        lambda: files.claim(RUN),
        files.sweep,
    ):
        with pytest.raises(UserError, match=r"are in a PostgreSQL database: give --storage .*postgresql\.json"):
            refused()
    assert main(["worker", "--results", str(runs.root)]) == 2
    assert main(["doctor", "--results", str(runs.root)]) == 2
    assert "give --storage" in capsys.readouterr().err
    assert [path.name for path in (runs.root / "leases").iterdir()] == [MARK]


def test_a_store_with_live_leases_in_files_is_refused_and_not_written_to(runs):
    held = claim(runs.root / "leases", RUN)
    with pytest.raises(UserError, match=r"1 runs in .* are held by commands without --storage"):
        runs.leases.check()
    assert not (runs.root / "leases" / MARK).exists()
    held.release()
    assert runs.claim(RUN)


def test_another_database_is_refused(runs, tmp_path):
    assert runs.claim(RUN)
    mark = runs.root / "leases" / MARK
    mark.write_text(json.dumps({"id": "not registered", "database": "elsewhere:5432/bench"}))
    with pytest.raises(UserError, match="are in another database"):
        leases(runs).check()
    mark.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        leases(runs).check()


def test_a_mark_has_no_password(runs, database):
    runs.leases.check()
    assert database.password
    assert database.password not in (runs.root / "leases" / MARK).read_text()
    assert database.password not in repr(runs) + repr(runs.leases)


# ------------------------------------------------------------------------------------------------ drivers

DRIVER = """
import os, sys
from fake_execute import spec
from studies.engines.run import run
from studies.store.database import storage_of
from studies.store.run_store import RunStore

if __name__ == "__main__":
    store = RunStore(sys.argv[1] + "/results", storage=storage_of(os.environ["BENCH_TEST_POSTGRES"]))
    s = run(eval(sys.argv[2]), store, workers=2, data_root=sys.argv[1], execute="fake_execute:execute", preload=())
    print(len(s.done), len(s.failed))
"""


def start_driver(tmp_path, specs: str) -> subprocess.Popen:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), str(tmp_path), specs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


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
    from studies.engines.backlog import How
    from studies.engines.ray import run_one

    how = How(1, ("cpu",), "fake_execute:execute", str(tmp_path), ())
    runs.leases.check()
    run_one(spec(0), str(runs.root), 0, how, 60.0, runs.storage)
    assert runs.has(spec(0).id)
    assert rows(runs) == []
    assert [path.name for path in (runs.root / "leases").iterdir()] == [MARK]


# ------------------------------------------------------------------------------------------------ a server that goes


def test_a_server_restarted_in_mid_run_kills_no_run(runs, tmp_path):
    driver = start_driver(tmp_path, "[spec(n, sleep=1.0) for n in range(6)]")
    wait_for(lambda: len(executed(tmp_path)) == 2)
    with stopped_server():
        time.sleep(1.5)  # the first two end meanwhile
    out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out) == (0, "6 0\n"), err
    assert set(Counter(executed(tmp_path)).values()) == {1}
    assert list(runs.failures()) == []


def test_leases_outlive_an_outage_longer_than_their_ttl(runs):
    mine, other = runs.claim(RUN, ttl=2.0), leases(runs)
    other.check()
    with stopped_server():
        time.sleep(2.5)
        assert runs.claim("0" * 16) is None  # waits for the server
    wait_for(lambda: runs.leases.connection.since is None or runs.claim("1" * 16))
    assert other.claim(RUN) is None  # although silent for its ttl: it could not be heard
    mine.renew()
    time.sleep(1.2)
    assert other.claim(RUN) is None
    wait_for(lambda: other.claim(RUN))


def test_a_broken_connection_is_made_anew(runs):
    mine = runs.claim(RUN)
    ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    mine.renew()
    assert runs.leases.connection.since is None
    mine.release()
    assert rows(runs) == []


def test_a_server_that_does_not_answer_is_not_waited_for(runs):
    runs.leases.check()
    (backend,) = runs.leases.connection.ask("SELECT pg_backend_pid()")[0]
    os.kill(backend, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert runs.claim(RUN) is None
        assert time.monotonic() - began < storage_module.ANSWER + 2
        assert runs.claim(RUN)  # by another connection
    finally:
        os.kill(backend, signal.SIGCONT)


def test_a_claim_whose_answer_was_lost_is_taken_up_again(runs):
    runs.leases.check()
    ask_connection = runs.leases.connection.ask

    def lost(sql, values=()):
        found = ask_connection(sql, values)
        if sql == CLAIM:
            raise storage_module.Away("lost")
        return found

    runs.leases.connection.ask = lost
    assert runs.claim(RUN) is None
    assert len(rows(runs)) == 1
    runs.leases.connection.ask = ask_connection
    assert runs.claim(RUN)
    assert runs.claim(RUN) is None


def test_a_server_that_stays_away_ends_in_a_sentence(runs, monkeypatch, database):
    monkeypatch.setattr(storage_module, "PATIENCE", 0.5)
    assert runs.claim(RUN)
    with stopped_server():
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            assert runs.claim("0" * 16) is None
            time.sleep(0.05)
        time.sleep(0.3)
        with pytest.raises(UserError, match=r"has not been there for 0 s .*: issue the command again") as caught:
            runs.claim("0" * 16)
        with pytest.raises(UserError), database.alone():
            pass
    assert database.password not in str(caught.value)


# ------------------------------------------------------------------------------------------------ Optuna


def search(runs: RunStore, name: str):
    import optuna

    return optuna.load_study(study_name=name, storage=runs.storage.sqlalchemy_url())


SEARCH = """
import os, sys
from studies.search.ledger import ledger
from studies.store.database import storage_of

storage = storage_of(os.environ["BENCH_TEST_POSTGRES"])
for done in (3, 8):
    with storage.alone():
        ledger(storage.sqlalchemy_url(), sys.argv[1], [{"x": n} for n in range(8)], {"x": list(range(8))},
               {n: n / 8 for n in range(done)})
"""


def test_drivers_that_enter_one_search_at_the_same_time_enter_it_once(runs, tmp_path):
    drivers = [python(SEARCH, tmp_path) for _ in range(3)]
    for driver in drivers:
        _, err = driver.communicate(timeout=120)
        assert driver.returncode == 0, err
    study = search(runs, str(tmp_path))
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
