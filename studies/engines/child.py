"""What happens inside a worker's process: train, and write the outcome to the store. Every executor calls `attempt`."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from hycon.errors import NonFiniteLoss, UserError
from hycon.host import keep_freed_memory
from hycon.model_file import ModelFile, place
from hycon.saved import WEIGHTS
from studies.engines.fresh import put_back, take_environment
from studies.engines.memory import give_back, peak
from studies.registry import MODELS, path_of, register
from studies.store.curve import writing
from studies.store.inside import make_folder, open_log
from studies.store.record import RunSpec
from studies.store.run_store import LOG, RunStore, unwritable

# Read when numeric libraries load. One thread per process: two on a busy machine were 15 times slower than one.
# CUBLAS_WORKSPACE_CONFIG is what deterministic algorithms on CUDA ask for in PyTorch before 2.13: 8 buffers of 4 MiB.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
# Of MKL, oneDNN and cuBLAS: each moves the numbers of a run, and neither its specification nor its record tells of it.
UNSET = (
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *(f"{name}_{what}" for name in ("ONEDNN", "DNNL") for what in ("MAX_CPU_ISA", "DEFAULT_FPMATH_MODE")),
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION"),
)


# What CUDA and its libraries say where a GPU's memory is full. A library that is "not initialized" could not make its
# handle, for which memory is the usual reason. cuDNN 9 has names of its own.
GPU_FULL = (
    "CUDA error: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
MACHINE_FULL = ("DefaultCPUAllocator", "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED")

UNWRITABLE = 1  # exit code of a run whose outcome could not be stored; with a complaint, since it is also Python's own
HOST_FULL, DEVICE_FULL = 12, 13  # of one that ran out of the machine's memory, or of its GPU's


class OutOfMemory(Exception):
    """A run did not get the memory that it asked for. host: of the machine; else of its GPU."""

    def __init__(self, error: BaseException, host: bool):
        super().__init__(f"out of memory: {type(error).__name__}: {error}")
        self.host = host


def attempt(
    spec: RunSpec,
    store: RunStore,
    execute: str,
    data_root: str,
    device: str,
    keep_weights: bool = False,
    first_epoch: Callable[[], None] | None = None,
) -> bool:
    """Run `spec` once; its record or its failure is in the store afterwards. keep_weights: its weights, too.

    first_epoch: called when one has ended.  Returns whether all went as it may, so that this process can do another.
    Raises OutOfMemory, with nothing stored: what that means depends on what else was running. Raises UserError only
    where the store cannot be written. KeyboardInterrupt passes through.
    """
    started, folder = time.monotonic(), _folder_of(spec, store)
    kept: dict[str, Any] = {"weights": folder / WEIGHTS} if keep_weights else {}
    try:
        if spec.suite != RunSpec.suite:  # a worker that has loaded, or a node that holds, older or newer code
            raise UserError(f"Run {spec.id} is of version {spec.suite} of the suite; this code has {RunSpec.suite}.")
        with writing(store, spec.id) as write:
            on_epoch = write if first_epoch is None else _also_once(write, first_epoch)
            record, arrays = resolve_name(execute)(
                spec, data_root=data_root, device=device, on_epoch=on_epoch, folder=folder, **kept
            )
        if record.spec != spec:
            raise ValueError(f"{execute} returned the record of another run, {record.id}")
    except (Exception, SystemExit) as error:
        expected = isinstance(error, UserError | NonFiniteLoss)
        reason = str(error) if expected else f"{type(error).__name__}: {error}{_where(spec, error)}"
        if not expected:
            _append(folder / LOG, traceback.format_exc())
        host = _memory_missed(error)
        if host is not None:
            raise OutOfMemory(error, host) from None
        store.put_failed(spec, reason, seconds=time.monotonic() - started, device=device)
        return expected
    store.put(record, arrays)
    return True


def _folder_of(spec: RunSpec, store: RunStore) -> Path:
    """The run's folder, made. Raises UserError, before anything is trained, for a link and where it cannot be made."""
    folder = store.folder(spec.id)
    try:
        return make_folder(store.root, folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _also_once(write: Callable[[Mapping[str, float]], None], first: Callable[[], None]) -> Callable[..., None]:
    left = [first]

    def on_epoch(epoch: Mapping[str, float]) -> None:
        write(epoch)
        if left:
            left.pop()()

    return on_epoch


def _where(spec: RunSpec, error: BaseException) -> str:
    """The line of the model's file that an error came through: " (/home/me/my.py, line 12)"."""
    found = place(error, path_of(spec.model)) if spec.model in MODELS else None
    return f" ({found})" if found else ""


def _memory_missed(error: BaseException) -> bool | None:
    """True: the machine's, False: a GPU's, None: it is another error. On the CPU, PyTorch raises a RuntimeError."""
    said = str(error)
    if isinstance(error, MemoryError) or any(phrase in said for phrase in MACHINE_FULL):
        return True
    if type(error).__name__ == "OutOfMemoryError" or any(phrase in said for phrase in GPU_FULL):
        return False
    return None


@dataclass(frozen=True)
class Job:
    """A run for a worker.

    environment: the driver's; the fork server's may be older.
    models: outside the repository, as the driver has read them.
    last: the worker ends after it.
    execute, keep_weights: as its driver asks, see studies.engines.options.How.
    """

    spec: RunSpec
    device: str
    environment: Mapping[str, str]
    models: Sequence[ModelFile]
    last: bool
    execute: str
    keep_weights: bool


def worker_main(driver: Connection, store: RunStore, data_root: str) -> None:
    """Entry of a worker process: does a Job after another until `driver` closes its end, or a run spoils the process.

    The driver learns a run's outcome from the store. What it is told: None, the run has ended and the next may come;
    a number, the MiB that the run took in its first epoch; a text, why the process ends now: it ran out of memory, or
    the store cannot be written, which ends the command.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_driver, name="watchdog", daemon=True).start()
    keep_freed_memory()
    gc.freeze()  # what is imported: not looked through between runs
    while job := _next(driver):
        with contextlib.nullcontext() if job.last else put_back():
            unspoilt = _do(job, driver, store, data_root)
        if job.last or not unspoilt:
            return
        give_back(job.device)
        _tell(driver, None)


def _next(driver: Connection) -> Job | None:
    """What to do next; None where the driver has no more for this worker."""
    try:
        return driver.recv()
    except (EOFError, ConnectionError):
        return None


def _tell(driver: Connection, what: float | str | None) -> None:
    with contextlib.suppress(ConnectionError):  # a driver that has ended, which the watchdog notices
        driver.send(what)


def _do(job: Job, driver: Connection, store: RunStore, data_root: str) -> bool:
    """One run. Whether the process is fit for another."""
    inherited = {name: value for name, value in job.environment.items() if name not in UNSET}
    take_environment({**inherited, **ENVIRONMENT})
    log = store.folder(job.spec.id) / LOG

    def first_epoch() -> None:
        _tell(driver, peak(job.device))

    _redirect_output(log)
    try:
        for file in job.models:
            register(file)
        return attempt(job.spec, store, job.execute, data_root, job.device, job.keep_weights, first_epoch)
    except UserError as error:
        _tell(driver, str(error))
        raise SystemExit(UNWRITABLE) from error
    except OutOfMemory as error:
        _tell(driver, str(error))
        raise SystemExit(HOST_FULL if error.host else DEVICE_FULL) from None
    finally:
        _end_log(log)


def _end_log(log: Path) -> None:
    """Write out what the run has printed, and leave no empty log. What comes later is not of this run."""
    with contextlib.suppress(OSError):
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before this process started
            stream.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        if log.stat().st_size == 0:
            log.unlink()


def _end_with_the_driver() -> None:
    """A driver that is killed cannot stop its workers: they notice that its end of a pipe has closed."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _redirect_output(log: Path) -> None:
    """Send what the run prints to its log, also from C, so that it cannot tear the driver's progress display."""
    with contextlib.suppress(OSError), open_log(log, os.O_TRUNC) as opened:
        os.dup2(opened.fileno(), 1)
        os.dup2(opened.fileno(), 2)


def _append(log: Path, text: str) -> None:
    with contextlib.suppress(OSError), open_log(log, os.O_APPEND) as opened:  # the failure is recorded in any case
        opened.write(text)
