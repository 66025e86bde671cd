"""Leases as files: held by one process at a time, taken over when their holder is dead or silent."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from studies.store import leases
from studies.store.leases import claim, heartbeat


def lease_files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_lease_excludes_until_it_is_released(tmp_path):
    lease = claim(tmp_path, "a")
    assert lease_files(tmp_path) == ["a.0.json"]
    assert claim(tmp_path, "a") is None
    other = claim(tmp_path, "b")
    lease.release()
    again = claim(tmp_path, "a")
    assert again is not None
    again.release()
    other.release()
    assert lease_files(tmp_path) == []


def hold(tmp_path):
    """A process that claims "a" and waits."""
    code = "import sys,time;from pathlib import Path;from studies.store.leases import claim;"
    code += "print(claim(Path(sys.argv[1]),'a') is not None, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "True"
    return process


def test_lease_of_a_dead_process_is_taken_over_at_once_even_as_a_zombie(tmp_path):
    holder = hold(tmp_path)
    assert claim(tmp_path, "a") is None
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (lease := claim(tmp_path, "a")) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lease is not None
    holder.wait()
    holder.stdout.close()
    assert lease_files(tmp_path) == ["a.1.json"]
    assert claim(tmp_path, "a") is None


def foreign(tmp_path, age, ttl=60, **more):
    """A lease of another machine whose last heartbeat was `age` seconds ago."""
    path = tmp_path / "a.0.json"
    path.write_text(json.dumps({"host": "elsewhere", "machine": "m", "pid": 1, "start": 1, "ttl": ttl, **more}))
    stamp = time.time() - age
    os.utime(path, (stamp, stamp))
    return path


def test_lease_of_another_machine_expires_by_its_heartbeat(tmp_path):
    foreign(tmp_path, age=50)
    assert claim(tmp_path, "a") is None
    foreign(tmp_path, age=70)
    assert claim(tmp_path, "a") is not None
    assert lease_files(tmp_path) == ["a.1.json"]


def test_pid_in_use_again_does_not_keep_a_lease_alive(tmp_path):
    mine = leases.me()
    foreign(tmp_path, age=0, **{**mine, "start": mine["start"] - 1})
    assert claim(tmp_path, "a") is not None
    assert leases.start_time("x") is None


def test_clock_of_this_machine_is_not_used(tmp_path, monkeypatch):
    foreign(tmp_path, age=10)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert claim(tmp_path, "a") is None


def test_a_heartbeat_of_the_future_is_no_life(tmp_path):
    """Where the file server's clock was set back, a holder that lives beats by the new one soon."""
    foreign(tmp_path, age=-50)
    assert claim(tmp_path, "a") is None
    foreign(tmp_path, age=-70)
    assert claim(tmp_path, "a") is not None


def test_no_lease_asks_for_more_than_a_day(tmp_path):
    foreign(tmp_path, age=70, ttl=leases.LONGEST_TTL)
    assert claim(tmp_path, "a") is None
    foreign(tmp_path, age=70, ttl=leases.LONGEST_TTL + 1)  # nobody sets that: the usual ttl counts
    assert claim(tmp_path, "a") is not None


def test_unreadable_lease_counts_by_its_age(tmp_path):
    path = tmp_path / "a.0.json"
    path.write_text("")
    assert claim(tmp_path, "a") is None
    os.utime(path, (1, 1))
    assert claim(tmp_path, "a") is not None


def test_only_one_of_many_takes_over(tmp_path):
    for turn in range(30):
        foreign(tmp_path, age=1000)
        start, won = threading.Barrier(8), []

        def take(start=start, won=won):
            start.wait()
            won.append(claim(tmp_path, "a"))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        held = [lease for lease in won if lease is not None]
        assert len(held) == 1, turn
        held[0].release()
        assert lease_files(tmp_path) == []


def test_taker_that_comes_too_late_gives_up(tmp_path, monkeypatch):
    """Another taker won, worked, and released between this one's look and its creation; a third holds it now."""
    foreign(tmp_path, age=1000)
    create = leases._create

    def slow_create(path, ttl):
        monkeypatch.setattr(leases, "_create", create)
        winner = claim(tmp_path, "a")  # generation 1
        winner.release()
        third = claim(tmp_path, "a")  # generation 0 anew
        assert winner is not None
        assert third is not None
        return create(path, ttl)

    monkeypatch.setattr(leases, "_create", slow_create)
    assert claim(tmp_path, "a") is None
    assert lease_files(tmp_path) == ["a.0.json"]


def test_holder_that_wakes_up_during_a_takeover_keeps_its_lease(tmp_path, monkeypatch):
    path = foreign(tmp_path, age=1000)
    create = leases._create

    def create_after_renewal(mine, ttl):
        os.utime(path)
        return create(mine, ttl)

    monkeypatch.setattr(leases, "_create", create_after_renewal)
    assert claim(tmp_path, "a") is None
    assert lease_files(tmp_path) == ["a.0.json"]


def test_heartbeat_renews_and_releases(tmp_path):
    held = {"a": claim(tmp_path, "a", ttl=0.3)}
    with heartbeat(held, ttl=0.3):
        held["b"] = claim(tmp_path, "b", ttl=0.3)
        time.sleep(0.6)
        assert claim(tmp_path, "a", ttl=0.3) is None
        assert claim(tmp_path, "b", ttl=0.3) is None
    assert lease_files(tmp_path) == []
    claim(tmp_path, "a", ttl=0.1)
    time.sleep(0.2)
    assert claim(tmp_path, "a", ttl=0.1) is not None  # nobody renewed it


def test_a_lost_lease_is_neither_renewed_nor_released_by_its_old_holder(tmp_path):
    old = claim(tmp_path, "a", ttl=0.05)
    keep = open(old.path)  # noqa: SIM115 (keeps its inode from being used again)
    time.sleep(0.1)
    new = claim(tmp_path, "a", ttl=60)
    new.release()
    third = claim(tmp_path, "a")
    assert third.path == old.path
    old.release()
    assert claim(tmp_path, "a") is None
    keep.close()
