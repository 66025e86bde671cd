"""What is shown while runs are done, and how long they are expected to take."""

import dataclasses
import time
from io import StringIO

import pytest
from fake_execute import spec

from studies.engines.history import Estimate, History, duration
from studies.engines.progress import Progress
from studies.engines.run import Event
from studies.store.record import RunRecord


def measured(number, seconds, loss=0.5, **changes):
    return RunRecord(dataclasses.replace(spec(number), **changes), "done", seconds=seconds, valid_loss=loss)


def test_estimate_is_the_mean_of_runs_of_the_same_kind():
    records = [
        measured(0, 10.0),
        measured(1, 20.0),
        measured(2, 500.0, corpus="other"),
        measured(3, 500.0, text="bert", encoder={"name": "tiny", "sha256": "0"}),
        measured(4, 500.0, device="cuda"),
        measured(5, None),
    ]
    history = History(records)
    assert history.estimate([spec(7), spec(8)]) == Estimate(30.0, unknown=0)
    unlike = dataclasses.replace(spec(9), model="new")
    assert history.estimate([spec(7), unlike]) == Estimate(15.0, unknown=1)
    assert history.estimate([]) == Estimate(0.0, unknown=0)


def test_a_line_per_event_where_there_is_no_terminal():
    stream = StringIO()
    with Progress([spec(0), spec(1), spec(2)], [measured(9, 60.0)], workers=1, stream=stream) as progress:
        progress(Event("start", spec(0), device="cpu"))
        progress(Event("retry", spec(0), 1.0, reason="killed by signal 9 (out of memory?)", device="cpu"))
        progress(Event("done", spec(0), 61.0, measured(0, 60.0, 0.25)))
        progress(Event("failed", spec(1), 2.0, reason="non-finite loss at epoch 1, step 2"))
        progress(Event("elsewhere", spec(2), 60.0, measured(2, 60.0, 0.75)))
    lines = stream.getvalue().splitlines()
    a, b, c = (f"fake-glove toy {spec(n).id[:8]}" for n in range(3))
    assert lines == [
        f"start     {a} on cpu",
        f"retry     {a} in 1 s: killed by signal 9 (out of memory?) [0/3, about 3 min 00 s left]",
        f"done      {a} in 1 min 01 s, validation loss 0.2500 "
        f"[1/3, about 2 min 00 s left, best validation loss 0.2500 ({a})]",
        f"failed    {b} in 2 s: non-finite loss at epoch 1, step 2 "
        f"[2/3, 1 failed, about 1 min 00 s left, best validation loss 0.2500 ({a})]",
        f"elsewhere {c} in 1 min 00 s, validation loss 0.7500 [3/3, 1 failed, best validation loss 0.2500 ({a})]",
    ]


def test_quiet_prints_nothing():
    stream = StringIO()
    with Progress([spec(0)], quiet=True, stream=stream) as progress:
        progress(Event("start", spec(0), device="cpu"))
        progress(Event("failed", spec(0), 1.0, reason="x"))
    assert stream.getvalue() == ""


def test_live_display_on_a_terminal():
    class Terminal(StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress([spec(0), spec(1)], stream=stream) as progress:
        progress(Event("start", spec(0), device="cuda:1"))
        time.sleep(0.6)
        progress(Event("failed", spec(0), 1.0, reason="KeyError: [x]"))
    text = stream.getvalue()
    assert "cuda:1" in text
    assert "0/2, time left unknown" in text
    assert "KeyError: [x]" in text


def test_eta_counts_what_runs_already_and_the_workers():
    progress = Progress([spec(n) for n in range(4)], [measured(9, 10.0)], workers=2, quiet=True)
    assert progress.eta_seconds() == pytest.approx(20.0)
    progress(Event("start", spec(0), device="cpu"))
    progress.running[spec(0).id] = (spec(0), time.monotonic() - 4.0, "cpu")
    assert progress.eta_seconds() == pytest.approx(18.0, abs=0.1)
    for n in range(4):
        progress(Event("done", spec(n), 10.0, measured(n, 10.0)))
    assert progress.eta_seconds() == 0.0
    assert Progress([spec(0)], quiet=True).eta_seconds() is None


@pytest.mark.parametrize(
    "seconds, text", [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7810, "2 h 10 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
