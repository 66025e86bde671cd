"""What happens inside a run's process: train, and write the outcome to the store. Every executor calls `attempt`."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hycon.errors import NonFiniteLoss, UserError
from hycon.host import keep_freed_memory
from hycon.model_file import ModelFile, place
from hycon.saved import WEIGHTS
from studies.registry import MODELS, path_of, register
from studies.store.curve import writing
from studies.store.inside import open_log
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

# Read when numeric libraries load. One thread per process: two on a busy machine were 15 times slower than one.
# CUBLAS_WORKSPACE_CONFIG is what deterministic algorithms on CUDA ask for in PyTorch before 2.13: 8 buffers of 4 MiB.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


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


def load_function(dotted: str) -> Callable[..., Any]:
    """The function named by "package.module:name"."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def attempt(
    spec: RunSpec, store: RunStore, execute: str, data_root: str, device: str, keep_weights: bool = False
) -> None:
    """Run `spec` once; its record or its failure is in the store afterwards. keep_weights: its weights, too.

    Raises OutOfMemory, with nothing stored: what that means depends on what else was running. Raises UserError only
    where the store cannot be written. KeyboardInterrupt passes through.
    """
    started, folder = time.monotonic(), store.folder(spec.id)
    kept: dict[str, Any] = {"weights": folder / WEIGHTS} if keep_weights else {}
    try:
        with writing(store, spec.id) as on_epoch:
            record, arrays = load_function(execute)(
                spec, data_root=data_root, device=device, on_epoch=on_epoch, folder=folder, **kept
            )
        if record.spec != spec:
            raise ValueError(f"{execute} returned the record of another run, {record.id}")
    except (Exception, SystemExit) as error:
        expected = isinstance(error, UserError | NonFiniteLoss)
        reason = str(error) if expected else f"{type(error).__name__}: {error}{_where(spec, error)}"
        if not expected:
            _append(folder / "log.txt", traceback.format_exc())
        host = _memory_missed(error)
        if host is not None:
            raise OutOfMemory(error, host) from None
        store.put_failed(spec, reason, seconds=time.monotonic() - started, device=device)
        return
    store.put(record, arrays)


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


def child_main(
    spec: RunSpec,
    store: RunStore,
    execute: str,
    data_root: str,
    device: str,
    complaint: Connection,
    known: Mapping[str, str],
    models: Sequence[ModelFile] = (),
    keep_weights: bool = False,
) -> None:
    """Entry of a worker process. The driver learns the outcome from the store, and from the way this process ends.

    complaint: takes why it ran out of memory; or where the store cannot be written, the sentence that ends the command.
    known: of the driver's environment, which the fork server may have left behind.
    models: outside the repository, as the driver has read them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_driver, name="watchdog", daemon=True).start()
    os.environ.update({**ENVIRONMENT, **known})
    keep_freed_memory()
    log = store.folder(spec.id) / "log.txt"
    _redirect_output(log)
    try:
        for file in models:
            register(file)
        attempt(spec, store, execute, data_root, device, keep_weights)
    except UserError as error:
        complaint.send(str(error))
        raise SystemExit(UNWRITABLE) from error
    except OutOfMemory as error:
        complaint.send(str(error))
        raise SystemExit(HOST_FULL if error.host else DEVICE_FULL) from None
    finally:
        with contextlib.suppress(OSError):
            for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before this process started
                stream.flush()
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
