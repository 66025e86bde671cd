"""Step `together` of gpu_first.py: several trainings of HyCon-BERT at a time on one device, without and with MPS.

All processes are started once and get ready; then the first, the first four, ... of them train in a window of a few
seconds, in one precision after the other. Each counts its own units (a few training batches and their share of the
validation split) by the clock that all of them share. MPS is a daemon of its own (studies.engines.mps).

    python benchmarks/gpu_together.py INDEX FOLDER DEVICE full|quick     # one of the processes
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hycon.precision import PRECISIONS
from studies.engines import mps

UNIT = 2  # training batches between two looks at the clock
READY = {False: 40.0, True: 200.0}  # quick or not -> seconds in which all have to be ready; busy CPUs take their time
NEED = 5200.0  # MiB of a GPU that a process takes: on an H200 it reserved 4,288, and CUDA's context is beside that
NOT_THERE = "MPS: not available"


def planned(quick: bool, under_mps: bool, most: int) -> list[tuple[str, int]]:
    """(precision, processes) of the windows, few processes first: who trains in one trains in all after it. In the end
    `most` processes at a time."""
    if quick:
        return [(precision, count) for count in (1, 2) for precision in PRECISIONS]
    if not under_mps:
        return [*((precision, 1) for precision in PRECISIONS), ("fp32", min(4, most))]
    counts = sorted({min(count, most) for count in (1, 4, 8, 16)})
    return [(precision, count) for count in counts for precision in PRECISIONS]


def schedule(chosen: Sequence[tuple[str, int]], begin: float) -> list[dict]:
    """The windows, the first from `begin` (time.time) on. Before each, its processes train for `lead` seconds."""
    plan: list[dict] = []
    for precision, count in chosen:
        lead = 0.4 + 0.05 * count  # of 16, one may take a second to end what it does
        window = {"precision": precision, "count": count, "lead": lead, "from": begin + lead}
        window["to"] = begin = window["from"] + 1.3 + 0.17 * count
        plan.append(window)
    return plan


def most_at_a_time(journal: Path) -> int:
    """How many the device's memory has room for, as the journal's setting tells it."""
    from gpu_first import read

    total = next((row.get("memory_mib") for row in reversed(read(journal)) if row["step"] == "setting"), None)
    return max(1, int(total / NEED)) if total else 16


def together(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Iterable[dict]]]]:
    """The items of the step."""
    yield "without MPS", partial(windows, options, {}, "no")
    yield "with MPS", partial(under_mps, options)


def under_mps(options: argparse.Namespace) -> Iterator[dict]:
    if not options.device.startswith("cuda"):
        yield {"mps": "yes", "unavailable": f"{NOT_THERE}: it is for GPUs"}
        return
    try:
        with mps.daemon() as own:
            try:
                yield from windows(options, own, "yes")
            except ChildProcessError as error:
                yield {"mps": "yes", "unavailable": f"{NOT_THERE}: {error}; {mps.log(own)}"}
    except mps.Unavailable as error:
        yield {"mps": "yes", "unavailable": f"{NOT_THERE}: {error}"}


def windows(options: argparse.Namespace, environment: dict[str, str], under: str) -> Iterator[dict]:
    """One row a window. Raises ChildProcessError with a process's last line where one ends early."""
    chosen = planned(options.quick, bool(environment), most_at_a_time(options.journal))
    most = max(count for _, count in chosen)
    folder = options.scratch / f"together-{under}"
    folder.mkdir()
    script = [sys.executable, __file__]
    sizes = "quick" if options.quick else "full"
    processes = []
    try:
        for index in range(most):
            command = [*script, str(index), str(folder), options.device, sizes]
            with (folder / f"{index}.log").open("w") as log:
                own = {**os.environ, **environment}
                processes.append(subprocess.Popen(command, env=own, stdout=log, stderr=log))
        needed = schedule(chosen, 0.0)[-1]["to"]
        patience = min(READY[options.quick], options.deadline - time.monotonic() - needed)
        wait_for(processes, folder, "ready", max(0.0, patience))
        servers = (mps.ask("get_server_list", environment) or "").split() if environment else []
        plan = schedule(chosen, time.time() + 0.5)
        publish(folder / "plan", json.dumps(plan))
        wait_for(processes, folder, "told", plan[-1]["to"] - time.time() + 30)
        told = [json.loads((folder / f"told-{index}").read_text()) for index in range(most)]
        for number, (precision, count) in enumerate(chosen):
            rates = [told[index][number] for index in range(count)]
            row = {"mps": under, "precision": precision, "processes": count}
            row |= {"epochs_per_second": sum(rates), "each": rates}
            yield row | ({"servers": len(servers)} if environment else {})
        for process in processes:  # MPS has less to clean up after one that ends by itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def wait_for(processes: list[subprocess.Popen], folder: Path, what: str, seconds: float) -> None:
    """Until each process has written its file `what`-INDEX."""
    deadline = time.monotonic() + seconds
    while missing := [i for i in range(len(processes)) if not (folder / f"{what}-{i}").exists()]:
        for index in missing:
            if processes[index].poll() is not None and not (folder / f"{what}-{index}").exists():
                lines = (folder / f"{index}.log").read_text(errors="replace").strip().splitlines()
                raise ChildProcessError(f"a process ended: {(lines or ['it said nothing'])[-1][:300]}")
        if time.monotonic() > deadline:
            raise ChildProcessError(f"{len(missing)} of {len(processes)} processes were not {what} in {seconds:.0f} s")
        time.sleep(0.02)


def publish(path: Path, text: str) -> None:
    """At once: whoever sees the file sees all of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


class Over(Exception):
    """The window has passed."""


def be_one_of_them(index: int, folder: Path, device: str, quick: bool) -> None:
    """Train while a window is this process's; afterwards write its epochs a second in each."""
    import torch
    from gpu_training import FULL, QUICK, made_up, network, precision_on, training_of

    from hycon import train

    torch.set_num_threads(1)
    size = QUICK if quick else FULL
    training = training_of("hycon", "bert", size)
    batches = -(-size.train // training.batch_size)
    unit = min(UNIT, batches)
    few = made_up("bert", size, unit * training.batch_size).to(device)
    valid = few.slice(0, max(1, round(size.valid * unit / batches)))
    train.seed_everything(index, device)
    net = network("hycon", "bert", size).to(device)
    marks: list[float] = []

    def train_until(end: float, precision: str) -> None:
        """Unit after unit, at least one. That one is computed is known at its end, as its validation loss is."""

        def look(_: dict) -> None:
            marks.append(time.time())
            if marks[-1] >= end:
                raise Over

        if torch.device(device).type == "cuda":
            torch.cuda.empty_cache()  # others need it; each precision has blocks of its own sizes
        endless = replace(training, epochs=10**6, patience=10**6, precision=precision_on(device, precision))
        with contextlib.suppress(Over):
            train.fit(net, few, valid, endless, seed=0, on_epoch=look)

    for precision in PRECISIONS:
        train_until(0.0, precision)  # what a first step loads
    publish(folder / f"ready-{index}", "")
    while not (folder / "plan").exists():
        time.sleep(0.002)
    plan = json.loads((folder / "plan").read_text())
    for window in plan:
        if index < window["count"]:
            time.sleep(max(0.0, window["from"] - window["lead"] - time.time()))
            train_until(window["to"], window["precision"])
    rates = [rate(marks, w["from"], w["to"]) * unit / batches if index < w["count"] else 0.0 for w in plan]
    publish(folder / f"told-{index}", json.dumps(rates))


def rate(marks: list[float], begin: float, end: float) -> float:
    """Units a second in a window: between its first and last mark, or, with fewer than three, marks over its length."""
    inside = [mark for mark in marks if begin <= mark <= end]
    if len(inside) < 3:
        return len(inside) / (end - begin)
    return (len(inside) - 1) / (inside[-1] - inside[0])


if __name__ == "__main__":
    be_one_of_them(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "quick")
