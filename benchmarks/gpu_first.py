"""A GPU's first ten minutes: whether the suite is right there, repeats itself, and how fast it is.

    python benchmarks/gpu_first.py [--device cuda] [--minutes 8] [--steps conformance,bits,...] [--out results/gpu]
    python benchmarks/gpu_first.py --device cpu --quick     # everything in small, to try the script
    python benchmarks/gpu_first.py --report results/gpu/gpu_first.jsonl

Steps, in order of worth:

    conformance  every model x text front-end: prediction, loss and gradients against the CPU's
    bits         every row of Table 1, unaligned ones too: the same weights from two processes?
    start        from starting a process to its first training step
    speed        seconds per epoch, kernel launches, host waits, model FLOP utilisation, reserved memory
    together     1, 4, 8, 16 runs at a time under MPS in fp32, TF32 and bf16; without MPS 1, and 4 in fp32

Each step is a process of its own, killed at its limit; what it had measured stays. Where an item ends the process (a
CUDA error does), the step goes on behind it. Results go to OUT/gpu_first.jsonl as they come, a later call's behind an
earlier one's; what the steps print, to OUT/gpu_first.log; at the end, also after Ctrl-C, OUT/<card>.md is written.
Needs what is installed with the package. The card's settings stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_page import latest, page

from studies.engines.child import ENVIRONMENT

HERE = Path(__file__).parent
POISONED = 75  # exit code of a step whose CUDA context is lost; the item that lost it is recorded
NO_DEVICE = 2
LEAST = 5.0  # seconds: with less left, a step is not started
SEEN = 90.0  # seconds in which a process has to import everything and to find the device
GRACE = 3.0  # seconds from SIGTERM to SIGKILL, in which a step stops what it has started
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a scheduler, a lost connection
TRIES = 8  # of a step, each behind the item at which the one before ended


@dataclass(frozen=True)
class Step:
    """command: without the options that every step gets."""

    name: str
    seconds: float
    command: tuple[str, ...]


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP."""


def steps(quick: bool = False) -> list[Step]:
    """quick: with four times as long, for a CPU that others use too."""
    python = (sys.executable, str(HERE / "gpu_steps.py"))
    limits = {"conformance": 80, "bits": 110, "start": 40, "speed": 180, "together": 120}
    return [Step(name, seconds * (4 if quick else 1), (*python, name)) for name, seconds in limits.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in steps()]
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu (cuda)")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (8)")
    parser.add_argument("--steps", default=",".join(names), help="which, comma-separated (all)")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of the results (results/gpu)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page of a .jsonl file again, no more")
    options = parser.parse_args()
    if options.report:
        return report(options.report)
    chosen = options.steps.split(",")
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"unknown step {unknown[0]!r}; the steps are {', '.join(names)}")
    deadline = time.monotonic() + 60 * options.minutes
    journal = options.out / "gpu_first.jsonl"
    given = ["--device", options.device, *(["--quick"] if options.quick else [])]
    if not begin(journal, given):
        return NO_DEVICE
    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        run([step for step in steps(options.quick) if step.name in chosen], journal, given, deadline)
    except Interrupted:
        append(journal, {"step": "end", "failed": "interrupted"})
        report(journal)
        return 130
    return report(journal)


def interrupt(*_: Any) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # one is enough: what was started has to be ended
    raise Interrupted


def begin(journal: Path, given: Sequence[str]) -> bool:
    """Find the device, and write the setting that the results are measured in. False where there is none."""
    command = [sys.executable, str(HERE / "gpu_steps.py"), "setting", *given]
    try:
        found = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=SEEN)
    except subprocess.TimeoutExpired:
        print(f"The device did not answer in {SEEN:.0f} s.", file=sys.stderr)
        return False
    if found.returncode:
        print(last_line(found.stderr) or "The device could not be looked at.", file=sys.stderr)
        return False
    journal.parent.mkdir(parents=True, exist_ok=True)
    append(journal, json.loads(found.stdout.splitlines()[-1]))
    return True


def environment() -> dict[str, str]:
    """As in each run of `bench run`."""
    return {**os.environ, **ENVIRONMENT}


def run(chosen: Sequence[Step], journal: Path, given: Sequence[str], deadline: float) -> None:
    """Carry the steps out, one after the other, until `deadline` (time.monotonic)."""
    for step in chosen:
        left = deadline - time.monotonic()
        if left < LEAST:
            said(journal, {"step": step.name, "skipped": f"{max(0.0, left):.0f} s were left"})
            continue
        began = time.monotonic()
        carry_out(step, journal, given, min(deadline, began + step.seconds))
        append(journal, {"step": step.name, "took": round(time.monotonic() - began, 1)})


def carry_out(step: Step, journal: Path, given: Sequence[str], deadline: float) -> None:
    """One step, again behind the item at which its process ended, until it is through or `deadline` has come."""
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="gpu", ignore_cleanup_errors=True) as scratch:
            left = deadline - time.monotonic()
            if left < LEAST:
                said(journal, {"step": step.name, "failed": "no time was left to go on behind the failed item"})
                return
            print(f"{step.name} (at most {left:.0f} s)", file=sys.stderr, flush=True)
            code, within = attempt(step, journal, [*given, "--seconds", str(left), "--scratch", scratch], left)
            item = current_item(Path(scratch))
        row = {"step": step.name, **({"item": item} if item else {})}
        if code == 0:
            return
        if not within:
            where = f", in {item}" if item else ""
            said(journal, row | {"failed": f"killed at its limit of {left:.0f} s{where}"})
            return
        if code == POISONED:
            continue
        said(journal, row | {"failed": ending(code, journal.with_suffix(".log"))})
        if not item:  # not even begun: the same would come again
            return
    said(journal, {"step": step.name, "failed": f"given up after {TRIES} processes"})


def attempt(step: Step, journal: Path, given: Sequence[str], seconds: float) -> tuple[int, bool]:
    """(exit code, whether it ended by itself) of a step's process, which is killed after `seconds`."""
    command = [*step.command, *given, "--journal", str(journal)]
    with journal.with_suffix(".log").open("a") as log:
        print(f"== {step.name}", file=log, flush=True)
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, start_new_session=True)
        try:
            return process.wait(seconds), True
        except subprocess.TimeoutExpired:
            return process.poll() or -signal.SIGKILL, False
        finally:
            end_group(process)


def end_group(process: subprocess.Popen) -> None:
    """End a step and all that it has started; SIGTERM first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE)
        except (ProcessLookupError, PermissionError):  # nobody is left
            return
        except subprocess.TimeoutExpired:  # a process that waits for the driver may outlive even SIGKILL for a while
            continue


def current_item(scratch: Path) -> str | None:
    """What the step was at when it ended."""
    found = scratch / "item"
    return (found.read_text() or None) if found.exists() else None


def ending(code: int, log: Path) -> str:
    """Why a process ended, in a line."""
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}: {last_line(log.read_text(errors='replace'))}"


def last_line(text: str) -> str:
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "")


def said(journal: Path, row: dict) -> None:
    """Into the journal, and one line for whoever watches."""
    append(journal, row)
    print(f"{row['step']}: {row.get('failed') or row.get('skipped')}", file=sys.stderr, flush=True)


def append(journal: Path, row: dict) -> None:
    with journal.open("a") as out:
        out.write(json.dumps(row) + "\n")


def read(journal: Path) -> list[dict]:
    """The rows; a last line that a kill has cut is left out."""
    rows = []
    for line in journal.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def report(journal: Path) -> int:
    """Write the page beside the rows. Returns the exit code: 1 where something failed."""
    rows = read(journal)
    card = next((row["device"] for row in reversed(rows) if row["step"] == "setting"), "unknown")
    path = journal.parent / f"{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}.md"
    path.write_text(page(rows))
    print(path)
    return 1 if any("failed" in row for row in latest(rows)) else 0


if __name__ == "__main__":
    sys.exit(main())
