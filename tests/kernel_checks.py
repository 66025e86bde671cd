"""What every kernel must do: give the values and the gradients of its plain form, under the same dropout."""

import torch


def seeded(kernel, inputs, seed=7):
    """What `kernel` gives, as a tuple; dropout is drawn alike every time."""
    torch.manual_seed(seed)
    found = kernel(*inputs)
    return found if isinstance(found, tuple) else (found,)


def check_alike(fast, plain, inputs, atol=1e-9):
    """Values and gradients of `fast` are those of `plain`. inputs: float64 tensors that want gradients."""
    found, expected = seeded(fast, inputs), seeded(plain, inputs)
    assert [x.dtype for x in found] == [torch.float64] * len(expected)
    goals = [torch.randn(x.shape, dtype=x.dtype) for x in expected]
    gradients = []
    for outputs in (found, expected):
        total = sum((x * goal).sum() for x, goal in zip(outputs, goals, strict=True))
        gradients.append(torch.autograd.grad(total, inputs))
    for a, b in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-7)


def check_derivative(kernel, inputs, fast_mode=False):
    """The gradient that is written out is that of finite differences; inputs as for `check_alike`.

    fast_mode: along random directions, not one number after the other.
    """
    assert torch.autograd.gradcheck(lambda *x: seeded(kernel, x), inputs, fast_mode=fast_mode)


def randn(*shape):
    """A float64 leaf that wants a gradient."""
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)
