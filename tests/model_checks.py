"""For the conformance tests (studies.authors.conformance) and those of single models: inputs and numbers of models."""

import pytest
import torch

from hycon.data.batch import Batch, Layout
from hycon.data.ragged import Ragged
from hycon.train import predict, seed_everything
from studies.authors.conformance import build, loss_of, undropped_options, without_dropout
from studies.registry import MODELS, build_model

EVERY = [(model, text) for model, entry in MODELS.items() for text in entry.text]  # model, text front-end
SENTIMENT = [pytest.param(m, t, id=f"{m}-{t}") for m, t in EVERY]
BOTH_FORMS = [pytest.param(m, t, id=f"{m}-{t}") for m, t in EVERY if t in ("glove", "bert")]
DIMS = {"text": 24, "audio": 8, "vision": 6}  # of the corpora in conftest


def corpus_of(text):
    return "vectors" if text == "features" else "small"


def undropped(model, text, batch, **overrides):
    """`build` without any dropout."""
    return without_dropout(build(model, text, batch, **undropped_options(model), **overrides))


def small_model(name, *, text="glove", emotions=0, dims=DIMS, **overrides):
    """A model for the corpora of the tests, its weights drawn alike every time."""
    torch.manual_seed(0)
    return build_model(name, text=text, dims=dims, emotions=emotions, **overrides)


def batch_of(lengths, dims, seed=0):
    """A word-aligned batch of random vectors, labels 0, nominally as long as its longest utterance."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: Ragged.from_list([torch.randn(n, d, generator=generator) for n in lengths]) for m, d in dims.items()}
    return Batch(**inputs, label=torch.zeros(len(lengths)), layout=Layout(dict.fromkeys(dims, max(lengths))))


def unmoved(net):
    """The names of the parameters that want a gradient and have none, or one of zeros only."""
    return {n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}


def train_step(net, batch):
    """The loss, after its backward pass."""
    loss = loss_of(net, batch)
    loss.backward()
    return loss


def check_gpu(here, there, batch, atol, rtol, step=train_step):
    """`there`, the same model without dropout, gives on a GPU what `here` gives on the CPU: loss and gradients in
    training mode (cuDNN's LSTM has no backward pass in evaluation), and predictions in evaluation."""
    seed_everything(0, "cuda")
    there, moved = there.to("cuda"), batch.to("cuda")
    expected, loss = step(here.train(), batch), step(there.train(), moved)
    assert loss.device.type == "cuda"
    torch.testing.assert_close(loss.detach().cpu(), expected.detach(), atol=atol, rtol=rtol)
    for (name, one), other in zip(here.named_parameters(), there.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            assert other.grad.device.type == "cuda", name
            torch.testing.assert_close(
                other.grad.cpu(), one.grad, atol=atol, rtol=rtol, msg=lambda text, name=name: f"{name}: {text}"
            )
    torch.testing.assert_close(predict(there, moved).cpu(), predict(here, batch), atol=atol, rtol=rtol)


def rows_of(sequences, i):
    """(T, d) rows of the i-th sequence, as numpy."""
    start, length = int(sequences.starts[i]), int(sequences.lengths[i])
    return sequences.rows[start : start + length].numpy()


def weights_of(net):
    """Every parameter as a float64 numpy array."""
    return {name: p.detach().double().numpy() for name, p in net.named_parameters()}
