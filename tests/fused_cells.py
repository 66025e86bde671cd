"""What PyTorch's fused LSTM cell computes on CUDA, the only device that has it: aten/src/ATen/native/cuda/RNN.cu."""

import torch
from torch import Tensor


def cell(
    inputs: Tensor, hidden: Tensor, c: Tensor, input_bias: Tensor | None = None, hidden_bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 4h), (n, 4h), (n, h) -> h_t, c_t and the activated gates."""
    assert inputs.shape == hidden.shape == (len(c), 4 * c.shape[1])
    i, f, g, o = (inputs + hidden).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    after = f * c + i * g
    return o * after.tanh(), after, torch.cat([i, f, g, o], 1)


def cell_backward(
    grad_h: Tensor | None, grad_c: Tensor | None, c: Tensor, after: Tensor, gates: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, None]:
    """d(loss)/d(inputs + hidden), d(loss)/d(c)."""
    assert not has_bias
    i, f, g, o = gates.chunk(4, 1)
    of_h = torch.zeros_like(after) if grad_h is None else grad_h
    of_c = of_h * o * (1 - after.tanh() ** 2) + (0 if grad_c is None else grad_c)
    parts = of_c * g * i * (1 - i), of_c * c * f * (1 - f), of_c * i * (1 - g**2), of_h * after.tanh() * o * (1 - o)
    return torch.cat(parts, 1), of_c * f, None
