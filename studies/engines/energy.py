"""Energy that a device used while a run trained, where it can be read.

For a CPU, from the package counters of RAPL (Linux's powercap; often readable by root only). For an NVIDIA GPU, Volta
or newer, from NVML's counter, if the package nvidia-ml-py is installed. Both count the whole device: of runs side by
side, each counts the energy of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

RAPL = Path("/sys/class/powercap")
Counters = Mapping[str, tuple[float, float]]  # name -> joules counted so far, joules at which the counter starts anew


def counters(device: str) -> Counters:
    """The counters of "cpu", or "cuda:1", as they stand; none where the device has none or they cannot be read."""
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
    try:
        import pynvml  # of the package nvidia-ml-py
    except ImportError:
        return {}
    import torch

    name = f"GPU-{getattr(torch.cuda.get_device_properties(device), 'uuid', None)}"
    try:
        pynvml.nvmlInit()
        used = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(name))  # mJ
    except pynvml.NVMLError:  # no driver, or a GPU that does not count
        return {}
    return {name: (used / 1e3, math.inf)}
