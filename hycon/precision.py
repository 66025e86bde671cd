"""In what precision a training computes, and what evaluates its model: fp32, tf32 or bf16. Weights are float32 in all.

fp32: products of float32, as PyTorch computes them.  tf32: on a GPU they take 10 bits of each factor's 23, in matrix
products, convolutions and cuDNN's LSTMs, on the way back too.  bf16: PyTorch's autocast.

The precision is in a run's specification, and so in its id. TF32 is a switch of the whole process, which a process that
carries out one run after another has to find as it was: `products` puts it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError

if TYPE_CHECKING:  # who only looks at a specification needs no torch
    import torch

PRECISIONS = ("fp32", "tf32", "bf16")
TF32_FROM = (8, 0)  # compute capability of NVIDIA's Ampere, the first cards with TF32


def check_trainable(precision: str, device: torch.device | str) -> None:
    """Raises UserError where nothing can be trained so on that device; of a GPU that is not looked at, only its kind
    ("cuda") is asked."""
    if precision != "tf32":
        return
    if str(device).partition(":")[0] != "cuda":
        raise UserError(f"precision=tf32 is for GPUs, and these runs are for {device}: take fp32 or bf16, or a GPU.")
    if not isinstance(device, str):
        import torch

        found = torch.cuda.get_device_capability(device)
        if found < TF32_FROM:
            name = torch.cuda.get_device_name(device)
            raise UserError(f"precision=tf32 is for GPUs with TF32, and {name} has none: take fp32, or another GPU.")


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Within it a GPU multiplies float32 as `precision` says, whatever the process had before, and has afterwards.

    A CPU has one way only, so that a model that was trained in tf32 is evaluated there in fp32.
    """
    import torch

    switches: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = precision == "tf32"
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Around a forward pass: bf16's, which does nothing in the others."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
