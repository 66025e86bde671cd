"""Shared by the executors' tests."""

import pytest

from studies.engines.run import run


@pytest.fixture
def go(tmp_path, runs):
    """run(...) with the fake execute; its events are in go.events."""

    def go(specs, executor="local", workers=2, **more):
        go.events = []
        options = {"execute": "fake_execute:execute", "data_root": tmp_path, "preload": ()}
        options |= {"on_event": go.events.append, **more}
        return run(specs, runs, executor=executor, workers=workers, **options)

    return go
