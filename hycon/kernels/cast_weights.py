"""Autocast's copies of an encoder's weights, in a few launches in place of two a weight: for a GPU.

Autocast casts each weight where a product first reads it, and casts its gradient back. Here all of them are joined,
cast and read as parts of the result, by ordinary PyTorch, whose way back does the same. The numbers are the same to the
bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

XLNET = ("q", "k", "v", "o", "r")  # its attention's matrices, which are no Linears

Place = tuple[nn.Module, str]  # whose parameter, under which name


def factors(encoder: nn.Module) -> list[Place]:
    """The parameters of a text encoder that products alone read, so that autocast casts each of them."""
    places: list[Place] = []
    for module in encoder.modules():
        names: tuple[str, ...] = ("weight", "bias") if isinstance(module, nn.Linear) else ()
        if type(module).__name__ == "XLNetRelativeAttention":
            names = XLNET
        places += [(module, name) for name in names if getattr(module, name) is not None]
    return places


@contextmanager
def cast_at_once(places: Sequence[Place], dtype: torch.dtype) -> Iterator[None]:
    """Within it, the parameters at `places` are copies in `dtype`, through which gradients reach them."""
    own = [module._parameters[name] for module, name in places]
    weights = [p for p in own if p is not None]
    parts = torch.cat([p.flatten() for p in weights]).to(dtype).split([p.numel() for p in weights])
    try:
        for (module, name), part, p in zip(places, parts, weights, strict=True):
            module._parameters[name] = part.view(p.shape)  # type: ignore[assignment]
        yield
    finally:
        for (module, name), parameter in zip(places, own, strict=True):
            module._parameters[name] = parameter
