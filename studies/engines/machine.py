"""What this machine has for runs: memory of its devices, and processors."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from studies.engines.fresh import take_environment

CPUINFO = Path("/proc/cpuinfo")
BF16 = {"avx512_bf16", "amx_bf16"}  # flags of the x86 processors that multiply bfloat16
PATIENCE = 120.0  # seconds to import torch and start CUDA; chosen here


def processors() -> int:
    """How many processors this process may use; a cluster's job has only its own."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: str) -> float:
    """MiB that are free on `device` now. Raises UserError where that cannot be found out."""
    if device == "cpu":
        return _host_memory() / 2**20
    told, why = _told_apart(memory_of, device)
    if why:
        raise UserError(f"The memory of {device} cannot be read ({why}): give --slots a number.")
    return told / 2**20


def unlike_gpus(devices: Sequence[str]) -> str:
    """Where GPUs of this machine are of several kinds, whose runs are not averaged: each kind and its devices, "cuda:0
    is NVIDIA A100, cuda:1 is NVIDIA V100". Else "", and where a GPU does not tell."""
    gpus = sorted({device for device in devices if device != "cpu"})
    if len(gpus) < 2:
        return ""
    told = {gpu: _told_apart(name_of, gpu)[0] for gpu in gpus}
    return ", ".join(f"{gpu} is {name}" for gpu, name in told.items()) if len({*told.values()} - {None}) > 1 else ""


def _told_apart(ask: Callable[[str], Any], device: str) -> tuple[Any, str]:
    """What `ask` says of a GPU, and why it says nothing.

    It is asked by a process of its own: whoever asks takes some hundred MiB of the GPU until it ends. It comes from the
    server that workers are forked from, since to import PyTorch once more would take longer than to start them.
    """
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(there, ask, device, dict(os.environ)), daemon=True)
    try:
        process.start()
        there.close()
        return here.recv() if here.poll(PATIENCE) else (None, f"no answer within {PATIENCE:g} s")
    except (EOFError, OSError):
        return None, "no answer"
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        here.close()


def _tell(pipe: Connection, ask: Callable[[str], Any], device: str, environment: dict[str, str]) -> None:
    take_environment(environment)  # the server's may be older
    try:
        pipe.send((ask(device), ""))
    except Exception as error:
        pipe.send((None, f"{type(error).__name__}: {error}"))


def memory_of(device: str) -> int:
    """Bytes that are free on a GPU."""
    import torch

    return torch.cuda.mem_get_info(device)[0]


def name_of(device: str) -> str:
    """A GPU's full name, as in a record."""
    import torch

    return torch.cuda.get_device_name(device)


def _host_memory(root: Path = Path("/")) -> float:
    """Bytes: what the kernel calls available, and no more than the control groups of this process may have."""
    meminfo = root / "proc/meminfo"
    if not meminfo.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = 1024.0 * int(found.get("MemAvailable", found["MemTotal"]).split()[0])
    return min([available, *_group_limits(root)])


def _group_limits(root: Path) -> list[int]:
    """Bytes that each control group of this process may have, in versions 1 and 2; "max" is no limit."""
    limits = []
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for _, controllers, path in (line.split(":", 2) for line in groups):
        if controllers not in ("", "memory"):
            continue
        mounted, name = ("", "memory.max") if controllers == "" else ("memory", "memory.limit_in_bytes")
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):  # a group's limit holds for all below it
            try:
                text = (root / "sys/fs/cgroup" / mounted / group / name).read_text().strip()
            except OSError:
                continue
            limits += [int(text)] if text.isdecimal() else []
    return limits


def check_devices(devices: Sequence[str], here: bool = True) -> None:
    """Raises UserError for what is no device's name, and (here) for one that this machine does not have."""
    for device in devices:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise UserError(f"Unknown device {device!r}; expected cpu, or NVIDIA GPUs such as cuda:0,cuda:1.")
    wanted = [int(device.partition(":")[2] or 0) for device in devices if device != "cpu"]
    if wanted and here:
        import torch

        if max(wanted) >= torch.cuda.device_count():
            raise UserError(
                f"Device cuda:{max(wanted)} was asked for, but PyTorch finds {torch.cuda.device_count()} GPUs."
            )


def check_bf16() -> None:
    """Raises UserError where this processor is known not to multiply bfloat16. PyTorch finds another way there, which
    takes longer than fp32: 2.5 times with AVX-512 and 20 times with AVX2, for a layer of 768 to 768 on one core."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), None)
    if flags is not None and not BF16 & set(flags):
        raise UserError(
            f"precision=bf16 is for processors that multiply bfloat16 ({' or '.join(sorted(BF16))}), which this one "
            "does not: runs would take longer than in fp32, so leave it out."
        )
