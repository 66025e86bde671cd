"""A PostgreSQL server that is restarted, hangs or stays away."""

import os
import signal
import time
from collections import Counter
from functools import partial

import pytest
from fake_execute import executed
from postgres_server import MARKS, RUN, ask, leases, rows, start_driver, stopped_server
from waiting import wait_for as wait

from hycon.errors import UserError
from studies.store import database as storage_module
from studies.store.leases_postgres import CLAIM

wait_for = partial(wait, seconds=30.0)
pytestmark = MARKS


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
        assert runs.claim(RUN)  # by another connection
        assert time.monotonic() - began < storage_module.ANSWER + 2
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
