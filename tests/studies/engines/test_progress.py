"""What is shown while runs are done, and how long they are expected to take."""

import dataclasses
import re
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


def test_a_run_with_other_limits_is_expected_to_take_as_long_an_epoch():
    def curve(epochs):
        return [{"epoch": n, "train_loss": 1.0, "valid_loss": 1.0} for n in range(1, epochs + 1)]

    def limited(number, epochs):
        return dataclasses.replace(spec(number), training={"epochs": epochs, "patience": 20})

    short = RunRecord(limited(0, 3), "done", seconds=6.0, curve=curve(3))
    history = History([short])
    assert history.expected(limited(1, 3)) == 6.0
    assert history.expected(limited(1, 100)) == 200.0
    stopped = RunRecord(limited(2, 100), "done", seconds=70.0, curve=curve(35))
    history.learn(stopped)
    assert history.expected(limited(1, 100)) == 70.0
    assert history.expected(limited(1, 3)) == 6.0
    other = dataclasses.replace(limited(1, 19), model="new")
    assert history.expected(other) is None
    assert history.guess(other) == 19 * 76.0 / 38


def progress_of(specs, records=(), **options):
    """It calls run n "row seed n"."""
    progress = Progress((), records, **options)
    progress.expect(specs, {one.id: f"row seed {one.seed}" for one in specs}, "seeds")
    return progress


def test_lines_now_and_then_where_there_is_no_terminal(monkeypatch):
    stream = StringIO()
    specs = [spec(n) for n in range(4)]
    with progress_of(specs, [measured(9, 60.0)], stream=stream) as progress:
        progress(Event("start", spec(0), device="cpu"))
        progress(Event("retry", spec(0), 1.0, reason="killed by signal 9 (out of memory?)", device="cpu"))
        progress(Event("done", spec(0), 60.0, measured(0, 60.0, 0.25)))
        progress(Event("failed", spec(1), 2.0, reason="non-finite loss"))
        progress(Event("elsewhere", spec(2), 60.0, measured(2, 60.0, 0.75)))  # at once: not worth a line
        monkeypatch.setattr("studies.engines.progress.EVERY", 0.0)
        progress(Event("done", spec(3), 60.0, measured(3, 60.0, 0.5)))
    assert stream.getvalue().splitlines() == [
        "retry     row seed 0 in 1 s: killed by signal 9 (out of memory?) [0 of 4 runs, about 4 min 00 s left]",
        "failed    row seed 1 in 2 s: non-finite loss [2 of 4 runs, 1 failed, about 2 min 00 s left]",
        "done      row seed 3 in 1 min 00 s, validation loss 0.5000 [4 of 4 runs, 1 failed]",
    ]


def test_one_count_over_search_and_seeds():
    stream = StringIO()
    with progress_of([spec(0), spec(1), spec(2)], stream=stream) as progress:
        progress(Event("done", spec(0), 10.0, measured(0, 10.0)))
        progress.expect([spec(3), spec(4)], {}, "seeds")  # the winner's: in place of those that stood for them
        assert progress.counts() == "1 of 3 runs, about 20 s left"
    assert stream.getvalue().startswith("done      row seed 0 in 10 s, validation loss 0.5000 [1 of 3 runs, about 20 s")


def test_quiet_prints_nothing():
    stream = StringIO()
    with Progress([spec(0)], quiet=True, stream=stream) as progress:
        progress(Event("start", spec(0), device="cpu"))
        progress(Event("failed", spec(0), 1.0, reason="x"))
    assert stream.getvalue() == ""


class Terminal(StringIO):
    def isatty(self):
        return True


def test_live_display_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    training = {"epochs": 50}
    specs = [dataclasses.replace(spec(n), training=training) for n in range(12)]
    with progress_of(specs, stream=stream, workers=12, epoch=lambda run: 13) as progress:
        progress.names[specs[1].id] = "hycon-bert (w/o iemcl, margin=0.5, fusion=tensor, and what else) trial 12/50"
        for one in specs[:10]:
            progress(Event("start", one, device="cuda:1"))
        time.sleep(0.6)
        progress(Event("failed", specs[0], 1.0, reason="KeyError: [x]"))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert re.search(r"row seed 0 +epoch 13/50 +cuda:1 +\d s", text)
    assert re.search(r"hycon-bert \(w/o iemcl, margin=0\.5, [^)]*(\.\.\.|…) +epoch 13/50", text)
    assert "and 2 more" in text
    assert "0 of 12 runs, time left unknown" in text
    assert "KeyError: [x]" in text
    assert max(len(line) for part in text.split("\n") for line in part.split("\r") if "failed" not in line) <= 80


def test_eta_counts_what_runs_already_and_the_workers():
    progress = Progress([spec(n) for n in range(4)], [measured(9, 10.0)], workers=2, quiet=True)
    assert progress.eta_seconds() == pytest.approx(20.0)
    progress(Event("start", spec(0), device="cpu"))
    running = progress.running[spec(0).id]
    progress.running[spec(0).id] = dataclasses.replace(running, started=time.monotonic() - 4.0)
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
