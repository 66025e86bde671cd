"""Optimisers: PyTorch's own update rules, without the class torch.optim.Optimizer around them.

Making one of those imports `torch._dynamo`, for compiled training steps, which nothing here has: 72 MiB and a second in
every process. The rules are functions too (PyTorch's "functional API"); here is what keeps their state. The numbers are
the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop

# PyTorch's defaults; fused: one kernel for all parameters
ADAM: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False, "fused": True}
RMSPROP: dict[str, Any] = {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False}

Columns = list[list[Tensor]]  # one list of tensors for each thing that a rule keeps of a parameter
Update = Callable[..., None]


def _adam(rule: Callable[..., None]) -> Update:
    def update(params: list[Tensor], grads: list[Tensor], kept: Columns, **rates: Any) -> None:
        means, squares, steps = kept
        rule(params, grads, means, squares, [], steps, **(ADAM | rates))

    return update


def _rmsprop(params: list[Tensor], grads: list[Tensor], kept: Columns, **rates: Any) -> None:
    squares, steps = kept
    rmsprop(params, grads, squares, [], [], steps, **(RMSPROP | rates))


def _adam_state(p: Tensor) -> tuple[Tensor, ...]:
    return torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device)


def _rmsprop_state(p: Tensor) -> tuple[Tensor, ...]:
    return torch.zeros_like(p), torch.zeros(())  # its count of steps stays with the host


RULES: dict[str, tuple[Update, Callable[[Tensor], tuple[Tensor, ...]]]] = {
    "adam": (_adam(adam), _adam_state),
    "adamw": (_adam(adamw), _adam_state),
    "rmsprop": (_rmsprop, _rmsprop_state),
}


class Optimizer:
    """One of RULES over groups of parameters.

    groups: dicts of "params" and, where they differ from the arguments and from PyTorch's defaults, "lr",
    "weight_decay" and the rule's own numbers (ADAM, RMSPROP).
    """

    def __init__(self, rule: str, groups: Iterable[dict[str, Any]], *, lr: float, weight_decay: float):
        self._update, self._new_state = RULES[rule]
        self.groups = [{"lr": lr, "weight_decay": weight_decay, **g, "params": list(g["params"])} for g in groups]
        self._state: dict[Tensor, tuple[Tensor, ...]] = {}

    def state(self) -> dict[str, Tensor]:
        """What the rule keeps of each parameter, by "<group>.<index>.<column>"."""
        found: dict[str, Tensor] = {}
        for key, p in self._indexed():
            found |= {f"{key}.{column}": value for column, value in enumerate(self._state.get(p, ()))}
        return found

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError where `state` is not one of this optimiser's."""
        known = {
            f"{key}.{column}": value for key, p in self._indexed() for column, value in enumerate(self._new_state(p))
        }
        for name, value in state.items():
            if name not in known or known[name].shape != value.shape or known[name].dtype != value.dtype:
                raise ValueError(f"its optimiser's state has another {name}")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, also on another device."""
        self._state = {}
        for key, p in self._indexed():
            fresh = self._new_state(p)
            if f"{key}.0" in state:
                columns = (state[f"{key}.{column}"].to(value.device) for column, value in enumerate(fresh))
                self._state[p] = tuple(column.clone() for column in columns)

    def _indexed(self) -> Iterator[tuple[str, Tensor]]:
        for number, group in enumerate(self.groups):
            yield from ((f"{number}.{index}", p) for index, p in enumerate(group["params"]))

    def zero_grad(self) -> None:
        for group in self.groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """factor: of the learning rates, in this step. A parameter without a gradient stays as it is."""
        for group in self.groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            self._state |= {p: self._new_state(p) for p in params if p not in self._state}
            kept = [list(column) for column in zip(*(self._state[p] for p in params), strict=True)]
            rates = {name: value for name, value in group.items() if name != "params"}
            rates["lr"] *= factor
            self._update(params, [p.grad for p in params if p.grad is not None], kept, **rates)
