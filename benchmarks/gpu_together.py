"""Step `together` of gpu_first.py: 1, 2, 4 and 8 trainings of HyCon-BERT at a time on one device, without and with MPS.

All processes are started once and get ready; then the first, the first two, ... of them train in a window of a few
seconds. Each counts its own units (a few training batches and their share of the validation split) by the clock that
all of them share. MPS is a daemon of its own (studies.engines.mps).

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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from studies.engines import mps

UNIT = 4  # training batches between two looks at the clock
COUNTS = {False: (1, 2, 4, 8), True: (1, 2)}  # quick or not -> processes at a time
LEAD = 0.5  # seconds that the processes of a window train before it
READY = {False: 40.0, True: 200.0}  # quick or not -> seconds in which all have to be ready; busy CPUs take their time
WINDOWS = 20.0  # seconds that all windows take, at most
NOT_THERE = "MPS: not available"


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
    """One row a number of processes. Raises ChildProcessError with a process's last line where one ends early."""
    counts = COUNTS[options.quick]
    folder = options.scratch / f"together-{under}"
    folder.mkdir()
    script = [sys.executable, __file__]
    sizes = "quick" if options.quick else "full"
    processes = []
    try:
        for index in range(counts[-1]):
            command = [*script, str(index), str(folder), options.device, sizes]
            with (folder / f"{index}.log").open("w") as log:
                own = {**os.environ, **environment}
                processes.append(subprocess.Popen(command, env=own, stdout=log, stderr=log))
        patience = min(READY[options.quick], options.deadline - time.monotonic() - WINDOWS)
        wait_for(processes, folder, "ready", max(0.0, patience))
        servers = (mps.ask("get_server_list", environment) or "").split() if environment else []
        length = 1.0 if options.quick else 2.0
        begin, plan = time.time() + 2 * LEAD, []
        for count in counts:
            plan.append({"count": count, "from": begin, "to": begin + length * max(1.0, count**0.5)})
            begin = plan[-1]["to"] + 2 * LEAD
        publish(folder / "plan", json.dumps(plan))
        wait_for(processes, folder, "told", begin - time.time() + 30)
        told = [json.loads((folder / f"told-{index}").read_text()) for index in range(counts[-1])]
        for number, count in enumerate(counts):
            rates = [told[index][number] for index in range(count)]
            row = {"mps": under, "processes": count, "epochs_per_second": sum(rates), "each": rates}
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
    """All windows have passed."""


def be_one_of_them(index: int, folder: Path, device: str, quick: bool) -> None:
    """Train while a window is this process's; afterwards write its epochs a second in each."""
    import torch
    from gpu_training import FULL, QUICK, made_up, network, training_of

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
    plan: list[dict] = []

    def wait(_: dict) -> None:
        """At a unit's end; that it is computed is known, as its validation loss is."""
        marks.append(time.time())
        if len(marks) == 2:
            publish(folder / f"ready-{index}", "")
        while len(marks) >= 2:
            if not plan and (folder / "plan").exists():
                plan.extend(json.loads((folder / "plan").read_text()))
            now = time.time()
            if plan and now > plan[-1]["to"]:
                raise Over
            if any(index < w["count"] and w["from"] - LEAD <= now < w["to"] for w in plan):
                return
            time.sleep(0.002)

    endless = replace(training, epochs=10**6, patience=10**6)
    with contextlib.suppress(Over):
        train.fit(net, few, valid, endless, seed=0, on_epoch=wait)
    rates = [rate(marks, w["from"], w["to"]) * unit / batches for w in plan]
    publish(folder / f"told-{index}", json.dumps(rates))


def rate(marks: list[float], begin: float, end: float) -> float:
    """Units a second in a window: between its first and last mark, or, with fewer than three, marks over its length."""
    inside = [mark for mark in marks if begin <= mark <= end]
    if len(inside) < 3:
        return len(inside) / (end - begin)
    return (len(inside) - 1) / (inside[-1] - inside[0])


if __name__ == "__main__":
    be_one_of_them(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "quick")
