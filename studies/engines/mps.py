"""NVIDIA's Multi-Process Service: kernels of several processes run on one GPU at the same time, instead of in turn.

A daemon of our own, whose pipes are in a temporary folder of ours; nothing of the card is changed. Another process, the
guard, starts the daemon, and ends it as soon as this one has ended, whatever ends it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO

from studies.engines.fresh import environment_set
from studies.engines.options import Asked

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS, VISIBLE = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"
DEFAULT = "/tmp/nvidia-mps"  # where pipes are that no variable names
START = 15.0  # seconds that the daemon, and the first process that uses it, may take; chosen here
ENDING = 1.0  # seconds to wait for its end, which goes on by itself; Ctrl-C must be over within 2 s
# A process that makes a context: where MPS is forbidden (some containers), CUDA refuses. Without torch: that takes long
PROBE = """
import ctypes
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
raise SystemExit(int(bool(cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))))
"""
# Starts the daemon and tells its exit code, be it to nobody. Then reads until the write end closes, which the system
# does for a killed process too. "quit" waits for clients, which end with their driver as well.
GUARD = (
    f'{CONTROL} -d </dev/null >/dev/null 2>&1; code=$?; trap "" PIPE; echo $code; '
    f'cat >/dev/null; echo quit | {CONTROL} >/dev/null 2>&1; rm -rf -- "${PIPES}"'
)


class Unavailable(Exception):
    """Why MPS cannot be had, as part of a sentence."""


def installed() -> bool:
    return shutil.which(CONTROL) is not None


def running() -> bool:
    """Whether a daemon serves the processes that this one starts."""
    return servers() is not None


def servers() -> list[str] | None:
    """The process numbers of its servers, one a user; None where there is no daemon."""
    pipes = Path(os.environ.get(PIPES, DEFAULT))
    told = ask("get_server_list") if (pipes / "control").exists() else None
    return None if told is None else told.split()


def ask(command: str, own: Mapping[str, str] | None = None) -> str | None:
    """What the daemon of these pipes answers; None where there is none.  own: in place of this process's pipes."""
    own = own or {}
    try:
        told = subprocess.run(
            [CONTROL], input=command + "\n", env={**os.environ, **own}, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() if told.returncode == 0 else None


def shared(devices: Sequence[str], slots: Asked | None, workers: int) -> bool:
    """Whether several runs may be on one GPU at a time."""
    gpus = Counter(device for device in devices if device != "cpu")
    if isinstance(slots, int):
        return workers > 1 and any(slots * count > 1 for count in gpus.values())
    return bool(gpus) and workers > len(set(devices))


@contextlib.contextmanager
def sharing(devices: Sequence[str], slots: Asked | None, workers: int, wanted: str = "auto") -> Iterator[str | None]:
    """While the block runs, processes that this one starts use MPS, where several share a GPU and it is installed. One
    that runs already is used as it is. Gives why it cannot be had, where it is installed; None: nothing to say.

    wanted: "auto", or "no".
    """
    if wanted == "no" or not shared(devices, slots, workers) or not installed() or running():
        yield None
        return
    with contextlib.ExitStack() as stack:
        why = None
        try:
            stack.enter_context(environment_set(stack.enter_context(daemon())))
        except Unavailable as error:
            why = f"{error}"
        yield why


@contextlib.contextmanager
def daemon() -> Iterator[dict[str, str]]:
    """Start one; the environment that processes need to use it. Raises Unavailable where it cannot be used."""
    _check_visible(os.environ.get(VISIBLE, ""))
    try:
        pipes = tempfile.mkdtemp(prefix="mps-", dir=_short())  # a socket's path has 107 characters at most
        own = {PIPES: pipes, LOGS: pipes}
        guard = _guard(own)
    except OSError as error:
        raise Unavailable(f"its daemon does not start: {error}") from error
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        _check_started(guard.stdout)
        _probe(own)
        yield own
    finally:
        guard.stdin.close()
        guard.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(ENDING)


def _short() -> str | None:
    return "/tmp" if len(tempfile.gettempdir()) > 60 and os.access("/tmp", os.W_OK) else None


def _check_visible(names: str) -> None:
    """The daemon counts the GPUs that it sees anew, and a process under it names them by those numbers."""
    numbers = [name.strip() for name in names.split(",") if name.strip().isdecimal()]
    if numbers != [str(n) for n in range(len(numbers))]:
        raise Unavailable(f"{VISIBLE}={names} names GPUs by numbers, which MPS counts anew: name them by UUID")


def _guard(own: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", GUARD], env={**os.environ, **own}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _check_started(told: IO[bytes]) -> None:
    if not wait([told.fileno()], START):
        raise Unavailable(f"its daemon does not start in {START:g} s")
    code = told.readline().decode().strip()
    if code != "0":
        raise Unavailable(f"its daemon ended with exit code {code}")


def _probe(own: Mapping[str, str]) -> None:
    try:
        tried = subprocess.run(
            [sys.executable, "-c", PROBE], env={**os.environ, **own}, capture_output=True, timeout=START
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"a process that uses it makes no context in {START:g} s") from error
    if tried.returncode:
        raise Unavailable(f"a process that uses it can make no context; {log(own)}")


def end_client(pid: int) -> None:
    """Before a process is killed: one that is killed under MPS in the middle of its kernels may harm its neighbours.

    Does nothing where there is no daemon, or it does not know this command.
    """
    for server in servers() or ():
        ask(f"terminate_client {server} {pid}")


def log(own: Mapping[str, str]) -> str:
    """The last line that MPS has written."""
    logs = [path for path in (Path(own[LOGS]) / "server.log", Path(own[LOGS]) / "control.log") if path.exists()]
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines()[-1:]]
    return f"its log: {lines[0][:200]}" if lines else "it has no log"
