"""Every model and text front-end on a GPU that is not there (pretended_gpu.py): what a GPU's branches compute is what
the CPU's compute, nothing meets across devices, and a training step waits for the GPU as often as is written here."""

import dataclasses
import math

import pytest
import torch
from builders import run_spec
from model_checks import BOTH_FORMS, SENTIMENT, check_gpu, corpus_of, undropped
from pretended_gpu import CUDA, Mixed, PretendedGPU, on_gpu

from hycon.data import load
from hycon.data.batch import form_of
from hycon.kernels.optim import RULES
from hycon.train import Training, fit
from studies.authors.conformance import build, loss_of
from studies.engines.one_run import execute
from studies.registry import model_module


@pytest.mark.parametrize(("model", "text"), SENTIMENT)
def test_a_gpu_s_branches_give_what_the_cpu_s_give(model, text, batches):
    batch = batches(corpus_of(text), text)["train"].slice(0, 9)
    here, there = (undropped(model, text, batch) for _ in range(2))

    def step(net, batch):
        """Nothing that the host would wait for, and nothing uploaded, is done in a training step."""
        gpu.reset()
        loss = loss_of(net, batch)
        loss.backward()
        assert gpu.waits == []
        assert gpu.uploads == []
        return loss

    with PretendedGPU() as gpu:
        check_gpu(here, there, batch, atol=1e-5, rtol=1e-3, step=step)


def test_xlnet_makes_no_mask_on_the_host(batches, monkeypatch):
    """As the library does before version 5.23, by torch.eye."""
    eye = torch.eye
    monkeypatch.setattr(torch, "eye", lambda n, **_: eye(n))
    batch = batches("small", "xlnet")["train"].slice(0, 9)
    net = undropped("hycon", "xlnet", batch)
    with PretendedGPU() as gpu:
        there = batch.to("cuda")
        net.to("cuda").train()
        gpu.reset()
        loss_of(net, there).backward()
    assert gpu.waits == []


@pytest.mark.parametrize(
    "options",
    [{"mask_padding": True, "readout": "mean"}, {"fusion": "low-rank"}, {"beta": 0.2}],
    ids=str,
)
@pytest.mark.parametrize("text", ["glove", "bert"])
def test_options_of_hycon_too(text, options, batches):
    batch = batches("small", text)["train"].slice(0, 9)
    here, there = (undropped("hycon", text, batch, **options) for _ in range(2))
    with PretendedGPU():
        check_gpu(here, there, batch, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("model", "text"), BOTH_FORMS)
def test_an_epoch_with_dropout_and_clipping(model, text, batches):
    split = batches(corpus_of(text), text)
    net = build(model, text, split["train"])
    rule = model_module(model).TRAINING[form_of(text)].optimizer
    training = Training(lr=1e-3, batch_size=20, epochs=1, clip=0.5, optimizer=rule)
    with PretendedGPU() as gpu:
        train, valid = (split[name].to("cuda") for name in ("train", "valid"))
        net.to("cuda")
        gpu.reset()
        fitted = fit(net, train, valid, training, seed=0)
        assert all(on_gpu(p) for p in net.parameters())
        assert len(gpu.uploads) == 1  # the order of the utterances
        # PyTorch's clipping asks C++ for a tensor's device, which is the CPU here, and copies the factor there
        waits = [what for what, _ in gpu.waits if what != "copy to the host ()"]
        assert len(waits) == 2  # for the losses of training, for that of validation
    assert math.isfinite(fitted.valid_loss)


@pytest.mark.parametrize("rule", RULES)
def test_every_optimiser_ends_with_the_cpu_s_weights(rule, batches):
    split = batches("small", "glove")
    here, there = (undropped("lf_lstm", "glove", split["train"]) for _ in range(2))
    before = {name: p.detach().clone() for name, p in here.named_parameters()}
    training = Training(lr=1e-3, batch_size=20, epochs=2, clip=0.05, optimizer=rule, weight_decay=0.01, warmup=0.5)
    expected = fit(here, split["train"], split["valid"], training, seed=0)
    with PretendedGPU():
        moved = {name: part.to("cuda") for name, part in split.items()}
        found = fit(there.to("cuda"), moved["train"], moved["valid"], training, seed=0)
        weights = {name: p.detach().cpu() for name, p in there.named_parameters()}
    assert found.best_epoch == expected.best_epoch
    assert [e["train_loss"] for e in found.curve] == pytest.approx([e["train_loss"] for e in expected.curve], abs=1e-5)
    for name, p in here.named_parameters():
        assert not torch.equal(p, before[name]), name
        torch.testing.assert_close(weights[name], p.detach(), atol=1e-5, rtol=1e-3)


def test_a_whole_run(corpora):
    spec = dataclasses.replace(run_spec(corpora, "hycon", "bert", epochs=1), device="cuda")
    with PretendedGPU():
        record, arrays = execute(spec, data_root=str(corpora), device="cuda:0")
    assert (record.status, record.device, record.notes) == ("done", "pretended", load("small", corpora).manifest.notes)
    assert arrays["test_prediction"].shape == (16,)


# ------------------------------------------------------------------------------------------------- the pretence itself


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x: x + torch.ones(2, 3),
        lambda x: torch.cat([x, torch.zeros(1, 3)]),
        lambda x: x @ torch.ones(3, 3),
        lambda x: torch.where(torch.ones(2, 3) > 0, x, x),
        lambda x: x.index_select(0, torch.tensor([0])),
        lambda x: torch.rand(2, device=x.device, generator=torch.Generator()),
        lambda x: torch.nn.LSTM(3, 2)(x),
    ],
)
def test_what_cuda_refuses_is_refused(mistake):
    with PretendedGPU(), pytest.raises(Mixed):
        mistake(torch.ones(2, 3, device="cuda"))


def test_numpy_takes_nothing_of_a_gpu():
    with PretendedGPU(), pytest.raises(TypeError, match="cuda:0"):
        torch.ones(2, device="cuda").numpy()


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.arange(3).to(x.device),
        lambda x: torch.eye(3).to(x),
        lambda x: torch.arange(3).to(x.device, non_blocking=True),  # not from pinned memory
        lambda x: x[torch.tensor([0])],
        lambda x: x.copy_(torch.ones(2, 3)),
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: torch.repeat_interleave(x[0].long()),
    ],
)
def test_what_waits_is_noted(read):
    with PretendedGPU() as gpu:
        x = torch.ones(2, 3, device="cuda")
        gpu.reset()
        read(x)
    assert gpu.waits


def test_what_does_not_wait_is_not_noted():
    with PretendedGPU() as gpu:
        x = torch.ones(2, 3, device="cuda")
        gpu.reset()
        x.sum().sqrt() * torch.tensor(2.0) + torch.arange(3, device="cuda")
        torch.nn.functional.one_hot(x[0].long(), 2)
        torch.arange(3).pin_memory().to(x.device, non_blocking=True)
    assert gpu.waits == []
    assert len(gpu.uploads) == 1


def test_cudnn_has_no_backward_pass_in_evaluation():
    lstm = torch.nn.LSTM(3, 2).eval()
    with PretendedGPU():
        out, _ = lstm.to("cuda")(torch.ones(4, 1, 3, device="cuda"))
        assert out.device == CUDA
        with pytest.raises(RuntimeError, match="training mode"):
            out.sum().backward()


def test_afterwards_nothing_pretends():
    with PretendedGPU():
        x = torch.ones(2, device="cuda")
    assert x.device.type == "cpu"
    assert not x.is_cuda
    assert "device" not in vars(torch.Tensor)
