"""Leases in a real PostgreSQL: one holder each, whoever dies, and no mixing with leases in files."""

import json
import subprocess
import threading
import time
from collections import Counter
from functools import partial

import pytest
from fake_execute import spec
from postgres_server import MARKS, RACE, RUN, leases, python, rows
from waiting import wait_for as wait

from hycon.errors import UserError
from studies.cli import main
from studies.engines.queue_worker import Limits, work
from studies.engines.run import run
from studies.store.leases import MARK, claim, heartbeat
from studies.store.run_store import RunStore
from studies.trust.doctor import examine, repair

wait_for = partial(wait, seconds=30.0)
pytestmark = MARKS


# ------------------------------------------------------------------------------------------------ claims


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
