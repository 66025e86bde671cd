"""The engine "slurm": an array of pull workers as Slurm jobs, submitted through submitit; this process only watches.

The queue and the records in the store are all that driver and workers share, so the driver may be killed and issued
again. The jobs go on meanwhile, and the next driver knows them by their name. A worker ends by itself before its job's
time limit, and requeues the job while runs remain, with or without a driver. It does not requeue if it finished no run,
or if that is not allowed; a driver then replaces it. Only squeue is asked: sacct needs a database that many clusters do
not have.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import subprocess
import time
from contextlib import AbstractContextManager
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError, install
from studies.document.words import count_of
from studies.engines.backlog import Backlog
from studies.engines.fresh import environment_set
from studies.engines.options import CHECKPOINT_EVERY, Cluster, How
from studies.engines.queue import publish, waiting
from studies.engines.signals import Interrupt
from studies.registry import register
from studies.store.database import VARIABLE, Storage, storage_of
from studies.store.run_store import RunStore, checkpoint_epochs

if TYPE_CHECKING:
    from studies.engines.queue_worker import Pull

POLL = 10.0  # seconds between looks at store and squeue; sites ask not to call squeue more often; chosen here
MARGIN = 30.0  # seconds before a job's end at which its worker ends: Slurm looks at limits every 30 s or so
PATIENCE = 600.0  # seconds without an answer of squeue after which the driver gives up; chosen here
PARTS = 4  # a job keeps a checkpoint at least so often, if its epochs are short enough; chosen here
SBATCH = {  # parameter of submitit -> option of sbatch
    "name": "job-name",
    "timeout_min": "time",
    "cpus_per_task": "cpus-per-task",
    "gpus_per_node": "gpus-per-node",
    "mem_gb": "mem",
    "slurm_partition": "partition",
    "slurm_account": "account",
    "slurm_qos": "qos",
}
FUTILE = 3  # times in a row that as many workers as are wanted may end without having ended a run; chosen here


def run_slurm(backlog: Backlog, how: How) -> None:
    """Keep up to `how.workers` jobs alive until every run has ended.

    Raises UserError where Slurm or submitit is missing or refuses, KeyboardInterrupt with the jobs cancelled.
    """
    store, name = backlog.store, job_name(backlog.store)
    executor = _executor(store, how.cluster, name)
    futile, heard = 0, -math.inf  # workers since anything was brought on; some may still live: they end one by one
    left: tuple[int, int] | None = None
    with Interrupt() as interrupt:
        while not interrupt.caught:
            backlog.observe()
            if not backlog.pending:
                return
            _publish_again(backlog)
            try:
                alive = len(jobs(name))
                heard = time.monotonic()
            except UserError:  # a busy controller may be silent for minutes
                if time.monotonic() - heard > PATIENCE:
                    raise
                wait([interrupt.reader], POLL)
                continue
            slots = 1 if how.cluster.slots == "auto" else how.cluster.slots  # how many will fit is not known here
            wanted = min(how.workers, math.ceil(len(backlog.pending) / slots))
            if (missing := wanted - alive) > 0:
                now = _left(backlog)
                futile = futile if now == left else 0
                if futile >= FUTILE * wanted:
                    raise UserError(f"{FUTILE} times workers ended and no run with them: see {store.root / 'slurm'}.")
                left, futile = now, futile + missing
                _submit(executor, missing, store, how)
            wait([interrupt.reader], POLL)
    _call("scancel", "--name", name)
    raise KeyboardInterrupt


def job_name(store: RunStore) -> str:
    """The name of the jobs of this results folder, the same for every driver."""
    return f"bench-{hashlib.sha256(os.fsencode(store.root.resolve())).hexdigest()[:8]}"


def jobs(name: str) -> list[str]:
    """Ids of this user's jobs of that name that wait or run, each member of an array by itself."""
    return _call("squeue", "--me", "--noheader", "--array", "--format=%i", "--name", name).split()


def pull_worker(root: str, how: How, storage: str | None = None) -> None:
    """What a job does. storage: the URL without password; the whole one is in the job's environment."""
    from studies.engines.queue_worker import Limits, work

    seconds = seconds_left(how.cluster.time)
    os.environ[CHECKPOINT_EVERY] = str(min(how.checkpoint_every, seconds / PARTS))
    for file in how.models:
        register(file)
    pull = work(
        RunStore(Path(root), storage=storage_of(os.environ.get(VARIABLE) or storage) if storage else None),
        devices=devices_in_job(how),
        slots=how.cluster.slots,
        data_root=str(how.data_root),
        limits=Limits(seconds=seconds),
        execute=how.execute,
        preload=how.preload,
        on_event=lambda event: print(event.kind, event.spec.id, event.reason or "", flush=True),
    )
    for reason in sorted(set(pull.refused.values())):
        print("not taken:", reason, flush=True)
    if wants_requeue(pull):
        requeue()


def wants_requeue(pull: Pull) -> bool:
    """Whether its time ran out before the queue did. Not if it neither ended a run nor brought one on to another
    checkpoint: the next job would not either."""
    return pull.end == "time" and bool(pull.entries) and bool(pull.done or pull.failed or pull.brought_on)


def requeue() -> None:
    """Have Slurm start this job, or this member of its array, again; where it refuses, a driver replaces the worker."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")  # its own id would be that of the whole array for one of the members
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        _call("scontrol", "requeue", job)
        print("requeued", job, flush=True)
    except UserError as error:
        print("not requeued:", error, flush=True)


def devices_in_job(how: How) -> list[str]:
    """All the GPUs of the job where runs are for GPUs; Slurm shows a job only its own, from number 0."""
    wants_gpu = any(device.startswith("cuda") for device in how.devices)
    return [f"cuda:{i}" for i in range(max(1, math.ceil(how.cluster.gpus)))] if wants_gpu else ["cpu"]


def seconds_left(minutes: float) -> float:
    """For work in this job: until the end that Slurm gives in its environment, else the whole limit; less a margin."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    left = float(end) - time.time() if end.isdecimal() else math.inf
    return max(1.0, min(left, 60.0 * minutes) - MARGIN)


# ------------------------------------------------------------------------------------------------- internals


def _executor(store: RunStore, cluster: Cluster, name: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError(f"The executor slurm needs submitit: {install('slurm')}.") from error
    if 60 * cluster.time <= MARGIN:
        raise UserError(f"The cluster's time is {cluster.time} min; expected more than {MARGIN:.0f} s.")
    _call("squeue", "--version")
    options = {"slurm_python": cluster.python} if cluster.python else {}
    try:
        executor = submitit.AutoExecutor(folder=store.root / "slurm", cluster="slurm", **options)
        executor.update_parameters(**parameters(cluster, name))
    except (RuntimeError, ValueError, NameError, TypeError) as error:
        raise UserError(f"Slurm cannot be used here: {error}.") from error
    return executor


def parameters(cluster: Cluster, name: str) -> dict[str, Any]:
    """As submitit calls them; what is None is left out. Jobs may be requeued, unless [sbatch] says no-requeue."""
    sbatch = {key.replace("_", "-"): value for key, value in cluster.sbatch.items()}
    if "no-requeue" not in sbatch:
        sbatch.setdefault("requeue", True)
    known = {
        "name": name,
        "timeout_min": cluster.time,
        "cpus_per_task": math.ceil(cluster.cpus),
        "gpus_per_node": math.ceil(cluster.gpus) or None,
        "mem_gb": cluster.memory,
        "slurm_partition": cluster.partition,
        "slurm_account": cluster.account,
        "slurm_qos": cluster.qos,
        "slurm_setup": list(cluster.setup) or None,
        "slurm_additional_parameters": sbatch,
        "slurm_use_srun": False,  # a worker is one process on one node, and sees signals itself
    }
    return {key: value for key, value in known.items() if value is not None}


def asked_of_slurm(store: RunStore, how: How) -> str:
    """What jobs a command would submit, as options of sbatch. Needs neither Slurm nor submitit."""
    found = parameters(how.cluster, job_name(store))
    named = {option: found[key] for key, option in SBATCH.items() if key in found}
    named |= {"mem": f"{named['mem']:g}G"} if "mem" in named else {}
    options = {**named, **found["slurm_additional_parameters"]}
    given = " ".join(f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items())
    setup = ["Before a worker starts:", *(f"  {line}" for line in how.cluster.setup)] if how.cluster.setup else []
    slots = how.slots or how.cluster.slots
    many = "" if slots == 1 else f" ({'as many runs as fit' if slots == 'auto' else f'{slots} runs'} on each device)"
    most = f"Slurm: up to {count_of(how.workers, 'job')} at a time, each a worker{many}, submitted with"
    return "\n".join([most, f"  {given}", *setup, f"Their logs are in {store.root / 'slurm'}."])


def inherited(storage: Storage | None) -> AbstractContextManager[None]:
    """Processes that are started in the block find the database, password and all, in their environment."""
    return environment_set({VARIABLE: storage.full_url()} if storage else {})


def _submit(executor: Any, count: int, store: RunStore, how: How) -> None:
    arguments = (str(store.root), dataclasses.replace(how, workers=1), store.storage and store.storage.url)
    try:
        with inherited(store.storage):  # what submitit is given is written to a file
            executor.map_array(pull_worker, *([value] * count for value in arguments))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:  # submitit's are RuntimeErrors
        raise UserError(f"Slurm did not take the workers: {str(error).strip()}.") from error


def _left(backlog: Backlog) -> tuple[int, int]:
    """How many runs there are to do, and how many epochs their checkpoints hold."""
    return len(backlog.pending), sum(checkpoint_epochs(backlog.store, spec.id) for spec in backlog.pending)


def _publish_again(backlog: Backlog) -> None:
    """What another driver took away when it ended, although it is still wanted here."""
    there = waiting(backlog.store)  # one look at the folder
    publish(backlog.store, [backlog.entries[spec.id] for spec in backlog.pending if spec.id not in there])


def _call(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except FileNotFoundError as error:
        raise UserError(
            f"The executor slurm needs {command[0]}, which is not here: run it where jobs are submitted."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} did not answer within 60 s: is the cluster's controller up?") from error
    except subprocess.CalledProcessError as error:
        raise UserError(f"{command[0]} failed: {error.stderr.strip() or error}.") from error
