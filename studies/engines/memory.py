"""The memory that a run takes, in a process that may do one run after another."""

from __future__ import annotations

import contextlib
import gc
import re
import resource
import sys
from pathlib import Path

from hycon.host import return_freed_memory

PEAK = Path("/proc/self/clear_refs"), "5"  # forgets the largest resident set: proc(5), since Linux 4.0
STATUS = Path("/proc/self/status")


def forget_peak(device: str) -> None:
    """What an earlier run took, or left on the GPU, is not this one's."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.init()  # which resetting the peak needs, and does not do
        gc.collect()
        _empty_cache(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            PEAK[0].write_text(PEAK[1])


def peak(device: str) -> float:
    """MiB: the most that PyTorch reserved on the GPU, used or not, since others cannot have it; on a CPU this process's
    largest resident set."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) / 2**10
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)


def give_back(device: str) -> None:
    """Free what a run has left, here and on its GPU, so that runs of other processes can have it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        _empty_cache(device)
    return_freed_memory()


def _empty_cache(device: str) -> None:
    """As that GPU is the present one: PyTorch makes a context on the present one, of some hundred MiB of its memory."""
    import torch

    with torch.cuda.device(device):
        torch.cuda.empty_cache()
