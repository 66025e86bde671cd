"""kill -9 at random moments, of a worker, of the driver, and of the whole group: nothing is lost, nothing is left."""

import contextlib
import os
import random
import signal
import time

import pytest
from sessions import RUN, wait_for

SEEDS = range(int(os.environ.get("BENCH_LONG", "2")))  # moments of each kind; BENCH_LONG=100 is the long suite


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was over before
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_the_driver(undisturbed, place, recovers, seed):
    session = place.start(*RUN)
    time.sleep(random.Random(f"driver {seed}").uniform(0, undisturbed.seconds))
    kill(session.pid)
    session.end()
    recovers(place)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_the_whole_group(undisturbed, place, recovers, seed):
    session = place.start(*RUN)
    time.sleep(random.Random(f"group {seed}").uniform(0, undisturbed.seconds))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session.pid, signal.SIGKILL)
    session.end()
    recovers(place)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_workers(place, recovers, seed):
    """Three of them, one after the other. A run that dies twice is a failure, and the exit code says so."""
    chance = random.Random(f"worker {seed}")
    session = place.start(*RUN)
    wait_for(place.executed)
    for _ in range(3):
        time.sleep(chance.uniform(0, 0.3))
        if session.code is None:
            kill(chance.choice(place.workers()[-2:]))
    assert session.end() in (0, 1)
    recovers(place)


def test_of_the_driver_while_the_corpus_is_made(undisturbed, place, recovers):
    """The temporary folder of a corpus goes with the next attempt."""
    (place.folder / "data" / "synthetic" / "manifest.json").unlink()
    session = place.start("data", "synthesize")
    wait_for(lambda: list((place.folder / "data").glob(".synthetic.*")) or session.code is not None)
    os.killpg(session.pid, signal.SIGKILL)
    session.end()
    assert place.start("data", "synthesize").end() == 0
    recovers(place)
