"""What more workers bring, and what they cost: each part prints a Markdown table, or with --json everything measured.

    python benchmarks/scaling.py overhead [--engines inline,local,worker,ray,slurm] [--runs 60]
    python benchmarks/scaling.py efficiency [--rows ...] [--repeats 3]
    python benchmarks/scaling.py simulate [--results FOLDER] [--bert-times 1] [--draws 20]
    python benchmarks/scaling.py store [--records 1210] [--leases 100]

overhead: runs that do nothing, through each engine; s/run is between the first and the last record, start is before it.
efficiency: the demo profile's GloVe rows but MulT by `bench run`, with 1 and with 2 local workers in turn; medians.
simulate: SIMULATED makespans of Table 1's 1,210 runs on 1 to 64 workers (benchmarks/simulation.py).
store: what workers do all the time, in a store of many records: seconds, and calls that open, list, make or remove.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import no_op
from simulation import ORDERS, lower_bound, makespan, table1, work

from studies.store.run_store import RunStore

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parent / "results" / "published" / "old_protocol" / "mosi_resampled"
WORKERS = (1, 2, 4, 8, 16, 32, 64)
VARIANTS = [("inline", 1), *((engine, n) for engine in ("local", "worker", "ray", "slurm") for n in (1, 2))]
DEMO_ROWS = "EF-LSTM-GloVe,LF-LSTM-GloVe,TFN-GloVe,LMF-GloVe,MFN-GloVe,QMF-GloVe,RAVEN-GloVe"  # MulT is slow
LIMIT = 120  # seconds for one engine's runs; chosen here
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl: CPU time of a command's orphans counts as well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True, metavar="PART")
    added = {name: parts.add_parser(name) for name in ("overhead", "efficiency", "simulate", "store")}
    added["overhead"].add_argument("--engines", default="inline,local,worker,ray,slurm")
    added["overhead"].add_argument("--runs", type=int, default=60)
    added["efficiency"].add_argument("--rows", default=DEMO_ROWS)
    added["efficiency"].add_argument("--repeats", type=int, default=3)
    added["simulate"].add_argument("--bert-times", type=float, default=1.0)
    added["simulate"].add_argument("--draws", type=int, default=20)
    added["store"].add_argument("--records", type=int, default=1210)
    added["store"].add_argument("--leases", type=int, default=100)
    for name in ("overhead", "simulate"):
        added[name].add_argument("--results", type=Path, default=PUBLISHED, help="a results folder with measured runs")
    for name, part in added.items():
        part.add_argument("--json", action="store_true")
        part.set_defaults(measure=globals()[name], show=globals()[f"show_{name}"])
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found = options.measure(options)
    found["setting"] = {
        "date": datetime.date.today().isoformat(), "cores": os.cpu_count(), "load_before": round(load, 1),
        "python": platform.python_version(),
    }  # fmt: skip
    print(json.dumps(found, indent=2) if options.json else options.show(found) + f"\n{found['setting']}")


def markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


# ------------------------------------------------------------------------------------------------- overhead


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    records = list(RunStore(options.results).records())
    typical = statistics.median(r.seconds for r in records if r.seconds is not None)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    rows = []
    for engine, workers in VARIANTS:
        if engine not in options.engines.split(","):
            continue
        row = {"engine": engine, "workers": workers, **_alone(engine, workers, options.runs)}
        if "each" in row:
            row["share"] = row["each"] / typical
        rows.append(row)
    return {"runs": options.runs, "median_run": typical, "measured_runs": len(records), "engines": rows}


def _alone(engine: str, workers: int, count: int) -> dict[str, Any]:
    """`timed_runs` in a process of its own, so that no fork server is warm; killed with its children when it hangs."""
    code = f"import json, scaling; print(json.dumps(scaling.timed_runs({engine!r}, {workers}, {count})))"
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=err, start_new_session=True)
        try:
            code_of_exit = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return {"not_measured": f"not done within {LIMIT} s"}
        out.seek(0)
        err.seek(0)
        said = err.read().strip().splitlines() or ["no reason given"]
        return json.load(out) if code_of_exit == 0 else {"not_measured": said[-1].removeprefix("hycon.errors.")}


def timed_runs(engine: str, workers: int, count: int) -> dict[str, float]:
    """Seconds before the first record, and per record after it; the preload is torch, as for real runs."""
    from studies.engines.queue import Entry, publish
    from studies.engines.queue_worker import Limits, work
    from studies.engines.run import How, run

    specs = no_op.specs(count)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_SCRATCH")) as folder:
        store = RunStore(Path(folder))
        began = time.time()
        if engine == "worker":
            publish(store, [Entry(spec, 0, no_op.EXECUTE, folder) for spec in specs])
            work(store, slots=workers, limits=Limits(idle=0), execute=no_op.EXECUTE, preload=("torch",))
        else:
            how = How(engine, workers, execute=no_op.EXECUTE, data_root=folder, preload=("torch",))
            run(specs, store, how)
        ends = sorted((store.folder(spec.id) / "record.json").stat().st_mtime for spec in specs)
    return {"start": ends[0] - began, "each": (ends[-1] - ends[0]) / (count - 1)}


def show_overhead(found: dict[str, Any]) -> str:
    rows = []
    for row in found["engines"]:
        if "each" in row:
            values = [f"{row['start']:.2f}", f"{row['each']:.3f}", f"{100 * row['share']:.2f} %"]
        else:
            values = ["not measured"] * 3
        rows.append([row["engine"], row["workers"], *values])
    missing = {f"{row['engine']}: {row['not_measured']}" for row in found["engines"] if "not_measured" in row}
    table = markdown(("engine", "workers", "start, s", "s/run", "share of a median run"), rows)
    said = f"{found['runs']} runs that do nothing. Median of {found['measured_runs']} measured runs: "
    return table + said + f"{found['median_run']:.1f} s.\n" + "\n".join(sorted(missing))


# ------------------------------------------------------------------------------------------------- efficiency


def efficiency(options: argparse.Namespace) -> dict[str, Any]:
    """Walls and CPU times of the whole command, imports, choice of winners and the printed table included."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_SCRATCH")) as scratch:
        command = [sys.executable, "-m", "studies.cli", "run", "table1", "--profile", "demo", "--rows", options.rows]
        command += ["--quiet", "--data", f"{scratch}/data"]
        _cost([*command, "--trials", "1", "--seeds", "1", "--results", f"{scratch}/warm-up"])
        for repeat in range(options.repeats):
            for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
                results = f"{scratch}/{workers}-{repeat}"
                own = [*command, "--workers", str(workers), "--results", results]
                found[workers].append({**_cost(own), "runs": len(RunStore(Path(results)).ids())})
    return {"workers": found, "rows": options.rows}


def _cost(command: list[str]) -> dict[str, float]:
    """Seconds of wall and of CPU; those of orphaned grandchildren too, where they are handed to this process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - began
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def show_efficiency(found: dict[str, Any]) -> str:
    rows, one = [], 0.0
    for workers, tries in sorted(found["workers"].items()):
        wall = statistics.median(t["wall"] for t in tries)
        one = one or wall
        walls = ", ".join(f"{t['wall']:.1f}" for t in tries)
        cpu = statistics.median(t["cpu"] for t in tries)
        up = one / wall
        rows.append([workers, f"{wall:.1f} ({walls})", f"{cpu:.1f}", f"{up:.2f}", f"{100 * up / workers:.0f} %"])
    table = markdown(("workers", "wall, s: median (each)", "CPU, s", "speed-up", "efficiency"), rows)
    return table + f"{tries[0]['runs']} runs of the demo profile."


# ------------------------------------------------------------------------------------------------- simulation


def simulate(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over draws of the 1,210 durations, in seconds."""
    records = list(RunStore(options.results).records())
    try:
        draws = [table1(records, options.bert_times, seed) for seed in range(options.draws)]
    except ValueError as error:
        raise SystemExit(f"{options.results}: {error}") from error
    table = []
    for workers in WORKERS:
        row: dict[str, Any] = {"workers": workers}
        row["bound"] = statistics.median(lower_bound(rows, workers) for rows, _ in draws)
        for waves in (True, False):
            for order in ORDERS:
                spans = [makespan(rows, workers, order, waves=waves, seed=i) for i, (rows, _) in enumerate(draws)]
                row[f"{order}, {'waves' if waves else 'rows'}"] = statistics.median(spans)
        table.append(row)
    total = statistics.median(work(rows) for rows, _ in draws)
    return {"draws": options.draws, "total": total, "origins": draws[0][1], "table": table}


def show_simulate(found: dict[str, Any]) -> str:
    said = f"SIMULATED: medians of {found['draws']} draws, hours and share of the lower bound.\n"
    said += f"Work: {found['total'] / 3600:.1f} h.\n"
    for kind, meaning in (("waves", "all searches, then all seeded runs"), ("rows", "a row's seeds after its search")):
        rows = []
        for row in found["table"]:
            spans = [row[f"{order}, {kind}"] for order in ORDERS]
            cells = [f"{span / 3600:.2f} ({100 * row['bound'] / span:.0f} %)" for span in spans]
            rows.append([row["workers"], f"{row['bound'] / 3600:.2f}", *cells])
        said += f"\n{meaning}:\n\n" + markdown(("workers", "lower bound", *ORDERS), rows)
    return said + "\nDurations: " + "; ".join(f"{name} {origin}" for name, origin in found["origins"].items())


# ------------------------------------------------------------------------------------------------- the store


def store(options: argparse.Namespace) -> dict[str, Any]:
    """One look of each kind at a store where all but `--leases` runs are done, and one where none is."""
    from studies.engines import queue
    from studies.engines.backlog import Backlog, Summary
    from studies.store.leases import claim, heartbeat

    specs = no_op.specs(options.records, kinds=22)  # as many rows as Table 1 has
    looks: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_SCRATCH")) as folder:
        runs = RunStore(Path(folder))
        runs.check_writable()

        entries = {spec.id: queue.Entry(spec, 0, no_op.EXECUTE, folder) for spec in specs}

        def backlog(pending) -> Backlog:
            return Backlog(runs, list(pending), entries, Summary(), lambda event: None)

        queue.publish(runs, entries.values())
        looks["list the queue"] = counted(lambda: queue.waiting(runs))
        looks["observe, nothing begun"] = counted(backlog(specs).observe)
        held = {spec.id: claim(runs.root / "leases", spec.id) for spec in specs[: options.leases]}
        with heartbeat(held):
            looks["claim, others hold leases and more is free"] = counted(lambda: backlog(specs).claim("cpu"))
            looks["claim, others hold all that is left"] = counted(
                lambda: backlog(specs[: options.leases]).claim("cpu")
            )
        for spec in specs:
            runs.put(*no_op.execute(spec, data_root=folder))
        looks["has, one run"] = counted(lambda: runs.has(specs[0].id))
        looks["records, all"] = counted(lambda: list(runs.records()))
        looks["the same has, for all"] = counted(lambda: [runs.has(spec.id) for spec in specs])
    return {"records": options.records, "leases": options.leases, "looks": looks}


def counted(look: Callable[[], object]) -> dict[str, float]:
    with counting() as calls:
        began = time.perf_counter()
        look()
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "calls": sum(calls.values())}


_COUNTING: list[dict[str, int]] = []
_COUNTED = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.utime")


@contextlib.contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Calls of this process to the file system, but for stat, which Python does not tell of."""
    if not hasattr(sys, "_scaling_audited"):
        sys.addaudithook(_count)
        sys._scaling_audited = True  # type: ignore[attr-defined]
    _COUNTING.append({})
    try:
        yield _COUNTING[-1]
    finally:
        _COUNTING.pop()


def _count(event: str, _: object) -> None:
    if _COUNTING and event in _COUNTED:
        _COUNTING[-1][event] = _COUNTING[-1].get(event, 0) + 1


def show_store(found: dict[str, Any]) -> str:
    rows = [[name, f"{1000 * look['seconds']:.1f}", look["calls"]] for name, look in found["looks"].items()]
    table = markdown((f"{found['records']} runs, {found['leases']} leases of others", "ms", "calls"), rows)
    return table + "Calls: opening, listing, making, removing; stats are not counted."


if __name__ == "__main__":
    main()
