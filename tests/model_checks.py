"""What every model must do, for the conformance tests and those of single models; inputs and numbers of models."""

import dataclasses

import pytest
import torch

from hycon.data.batch import Batch, Layout, form_of
from hycon.data.ragged import Ragged
from hycon.output import task_loss
from hycon.pretrained import identify
from hycon.train import predict, seed_everything
from studies.registry import MODELS, build_model, model_module

EVERY = [(model, text) for model, entry in MODELS.items() for text in entry.text]  # model, text front-end
SENTIMENT = [pytest.param(m, t, id=f"{m}-{t}") for m, t in EVERY]
BOTH_FORMS = [pytest.param(m, t, id=f"{m}-{t}") for m, t in EVERY if t in ("glove", "bert")]
DIMS = {"text": 24, "audio": 8, "vision": 6}  # of the corpora in conftest


def corpus_of(text):
    return "vectors" if text == "features" else "small"


def build(model, text, batch, *, emotions=0, **overrides):
    """A model on the demo encoder, for the dims of `batch`; initialised alike every time."""
    torch.manual_seed(0)
    encoder = identify(text, "demo") if form_of(text) == "tokens" else None
    sizes = getattr(model_module(model), "DEMO", {}).get(form_of(text), {})
    dims = {m: getattr(batch, m).rows.shape[-1] for m in ("audio", "vision")}
    dims["text"] = 32 if encoder else batch.text.rows.shape[-1]
    return build_model(model, text=text, dims=dims, encoder=encoder, emotions=emotions, **{**sizes, **overrides})


def undropped(model, text, batch, **overrides):
    """`build` without any dropout."""
    fields = {f.name: 0.0 for f in dataclasses.fields(model_module(model).Config) if "dropout" in f.name}
    return without_dropout(build(model, text, batch, **fields, **overrides))


def small_model(name, *, text="glove", emotions=0, dims=DIMS, **overrides):
    """A model for the corpora of the tests, its weights drawn alike every time."""
    torch.manual_seed(0)
    return build_model(name, text=text, dims=dims, emotions=emotions, **overrides)


def batch_of(lengths, dims, seed=0):
    """A word-aligned batch of random vectors, labels 0, nominally as long as its longest utterance."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: Ragged.from_list([torch.randn(n, d, generator=generator) for n in lengths]) for m, d in dims.items()}
    return Batch(**inputs, label=torch.zeros(len(lengths)), layout=Layout(dict.fromkeys(dims, max(lengths))))


def loss_of(net, batch, output=None):
    output = output or net(batch)
    return net.loss(output, batch) if hasattr(net, "loss") else task_loss(output.prediction, batch.label)


def ready(net, batch):
    """`net`; if it keeps something by utterance, with what it keeps of `batch` after two steps."""
    if hasattr(net, "prepare_training"):
        net.prepare_training(batch)
        for _ in range(2):
            with torch.no_grad():
                loss_of(net.train(), batch)
    return net


def unmoved(net):
    """The names of the parameters that want a gradient and have none, or one of zeros only."""
    return {n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}


def check_gradients(net, batch, output=None, unused=frozenset()):
    """A finite loss, and a finite gradient in every parameter, not all zeros but for those called as in `unused`."""
    loss = loss_of(net.train(), batch, output)
    assert loss.dim() == 0
    assert torch.isfinite(loss)
    loss.backward()
    assert {name.rpartition(".")[2] for name in unmoved(net)} <= unused
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def check_batch_of_one(net, batch):
    loss = loss_of(net.train(), batch.slice(0, 1))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@torch.no_grad()
def check_own_prediction(net, split):
    """Alone, beside far longer utterances, or in another order: the same number."""
    net.eval()
    order = torch.argsort(split.text.lengths)
    picked = torch.cat([order[:3], order[-3:]])  # the shortest and the longest
    assert split.text.lengths[picked[-1]] > 2 * split.text.lengths[picked[0]]
    batch = split.take(picked)
    together = net(batch).prediction
    alone = torch.cat([net(batch.slice(i, i + 1)).prediction for i in range(6)])
    shuffle = torch.tensor([4, 0, 5, 2, 1, 3])
    assert together.unique().numel() == 6
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net(batch.take(shuffle)).prediction, together[shuffle], atol=1e-5, rtol=1e-5)


def without_dropout(net):
    """`net` with every dropout at 0, those of a pretrained encoder too; for those that are no module, its Config is to
    say 0."""
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        config = getattr(module, "config", None)
        if type(config).__module__.startswith("transformers"):
            for name in (name for name in vars(config) if "dropout" in name):
                setattr(config, name, 0.0)
    return net


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
