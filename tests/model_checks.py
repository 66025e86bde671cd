"""What every model must do, as functions for the tests of single models."""

import torch

from hycon.output import task_loss
from studies.registry import build_model

DIMS = {"text": 24, "audio": 8, "vision": 6}  # of the corpora in conftest


def small_model(name, *, text="glove", emotions=0, dims=DIMS, **overrides):
    """A model for the corpora of the tests, its weights drawn alike every time."""
    torch.manual_seed(0)
    return build_model(name, text=text, dims=dims, emotions=emotions, **overrides)


def loss_of(net, batch):
    output = net(batch)
    return net.loss(output, batch) if hasattr(net, "loss") else task_loss(output.prediction, batch.label)


def check_gradients(net, batch):
    """A finite loss, and a gradient in every parameter that is not all zeros."""
    loss = loss_of(net.train(), batch)
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
        assert torch.isfinite(parameter.grad).all(), name


def check_batch_of_one(net, batch):
    loss = loss_of(net.train(), batch.slice(0, 1))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@torch.no_grad()
def check_own_prediction(net, split):
    """The shortest and the longest utterances together, each alone, and in another order: the same numbers."""
    net.eval()
    order = torch.argsort(split.text.lengths)
    batch = split.take(torch.cat([order[:3], order[-3:]]))
    together = net(batch).prediction
    alone = torch.cat([net(batch.slice(i, i + 1)).prediction for i in range(6)])
    shuffle = torch.tensor([4, 0, 5, 2, 1, 3])
    assert together.unique().numel() == 6
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net(batch.take(shuffle)).prediction, together[shuffle], atol=1e-5, rtol=1e-5)


def rows_of(sequences, i):
    """(T, d) rows of the i-th sequence, as numpy."""
    start, length = int(sequences.starts[i]), int(sequences.lengths[i])
    return sequences.rows[start : start + length].numpy()


def weights_of(net):
    """Every parameter as a float64 numpy array."""
    return {name: p.detach().double().numpy() for name, p in net.named_parameters()}
