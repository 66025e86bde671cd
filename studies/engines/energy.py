"""Energy that a device used while a run trained, where the device tells.

A CPU tells by the package counters of RAPL (Linux's powercap; often readable by root only), an NVIDIA GPU by NVML's
counter (Volta or newer). Both are of the whole device, whoever used it: runs side by side each count all of it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from pathlib import Path

RAPL = Path("/sys/class/powercap")
Counters = Mapping[str, tuple[float, float]]  # name -> joules counted so far, joules at which the counter starts anew


def counters(device: str) -> Counters:
    """The counters of "cpu", or "cuda:1", as they stand; none where the device has none or lets nobody read them."""
    return _gpu(device) if device.startswith("cuda") else _cpu()


def joules(before: Counters, after: Counters) -> float | None:
    """What was used in between; None where nothing was counted."""
    if not before or before.keys() != after.keys():
        return None
    return sum((after[name][0] - start) % limit for name, (start, limit) in before.items())


def _cpu() -> Counters:
    """RAPL's packages; their parts (cores, memory controller) are within them, and so are not added."""
    found = {}
    try:
        for package in sorted(RAPL.glob("intel-rapl:[0-9]*")):
            if package.name.count(":") == 1:
                used, limit = (int((package / f).read_text()) / 1e6 for f in ("energy_uj", "max_energy_range_uj"))
                found[package.name] = (used, limit)
    except (OSError, ValueError):
        return {}
    return found


def _gpu(device: str) -> Counters:
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    handle, used = ctypes.c_void_p(), ctypes.c_ulonglong()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        calls = (
            lambda: nvml.nvmlInit_v2(),
            lambda: nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(handle)),
            lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used)),  # mJ
        )
        if any(call() != 0 for call in calls):  # in order, until one fails
            return {}
    except (OSError, AttributeError):  # no driver, or an older one
        return {}
    return {f"GPU-{uuid}": (used.value / 1e3, math.inf)}
