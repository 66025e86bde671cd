"""What a model keeps of every utterance of the train split, from one step of training to the next.

`fit` shows a model that has the method `prepare_training(train)` the whole train split once, before the first step;
there it sizes its memory. `batch.index` says which rows are a batch's. The rows are buffers: a state_dict has them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """Named rows, one an utterance: `Memory(label=(), feature=(128,))` keeps (N,) and (N, 128), zeros at first.

    N is 0 until `allocate`. A state_dict of any N can be loaded.
    """

    def __init__(self, **shapes: tuple[int, ...]):
        super().__init__()
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(0, *shape))
        self.names = tuple(shapes)

    def __len__(self) -> int:
        return len(self[self.names[0]])

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def allocate(self, count: int) -> None:
        """Rows for `count` utterances, all zeros, where the memory's rows are."""
        for name in self.names:
            setattr(self, name, self[name].new_zeros(count, *self[name].shape[1:]))

    @torch.no_grad()
    def write(self, name: str, index: Tensor, rows: Tensor) -> None:
        """rows: (B, ...) of the utterances `index` (B,), each named once."""
        self[name].index_copy_(0, index, rows.to(self[name].dtype))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        if prefix + self.names[0] in state_dict:
            self.allocate(len(state_dict[prefix + self.names[0]]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
