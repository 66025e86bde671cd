"""Shared by the tests of executors and of pull workers."""

import pytest
from queued import EXECUTE

from studies.engines.queue_worker import Limits, work
from studies.engines.run import run


@pytest.fixture
def go(tmp_path, runs):
    """run(...) with the fake execute; its events are in go.events."""

    def go(specs, executor="local", workers=2, **more):
        go.events = []
        options = {"execute": EXECUTE, "data_root": tmp_path, "preload": ()}
        options |= {"on_event": go.events.append, **more}
        return run(specs, runs, executor=executor, workers=workers, **options)

    return go


@pytest.fixture
def pull(runs):
    """work(...) with the fake execute; its events are in pull.events."""

    def pull(**more):
        pull.events = []
        options = {"limits": Limits(idle=0), "poll": 0.05, "execute": EXECUTE, "preload": ()}
        options |= {"on_event": pull.events.append, **more}
        return work(runs, **options)

    return pull
