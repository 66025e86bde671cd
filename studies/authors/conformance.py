"""What every model must do, whatever it is: each check takes a model, a text front-end and a small batch, and says in
words what is wrong. The suite's own tests call the same functions.

    check_forward(model, text, batch)     raises Nonconforming

A check that needs another network builds it by `build`, at the sizes of the model's DEMO and on the demo encoder.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from hycon.data.batch import Batch, form_of
from hycon.data.manifest import MODALITIES
from hycon.output import Output, task_loss
from hycon.pretrained import identify
from hycon.train import Training, fit, predict, seed_everything
from studies.registry import build_model, model_module

ODD = 13  # utterances: the signs of an even number of errors may cancel in a bias
UNUSED = frozenset({"mask_emb"})  # XLNet's query for permutation training: the one parameter that no forward pass reads
TOLERANCE = 1e-5  # of float32 sums in another order
FURTHER = 14  # steps of additional nominal length
FITTED = 0.45  # share of the best constant's error that counts as overfitted
STEPS = 80  # of Adam, within which eight utterances must be
EMOTIONS = 4
NOT_FINITE = "look for a division by zero or a log of zero"


class Nonconforming(AssertionError):
    """said: what is wrong, as a sentence without full stop.  remedy: what to do."""

    def __init__(self, said: str, remedy: str):
        super().__init__(f"{said}: {remedy}")
        self.said, self.remedy = said, remedy


def expect(holds: Any, said: str, remedy: str) -> None:
    if not holds:
        raise Nonconforming(said, remedy)


# ------------------------------------------------------------------------------------------------- building


def build(model: str, text: str, batch: Batch, *, emotions: int = 0, seed: int = 0, **overrides: Any) -> Any:
    """A model on the demo encoder, for the dims of `batch`; with one seed initialised alike every time."""
    torch.manual_seed(seed)
    encoder = identify(text, "demo") if form_of(text) == "tokens" else None
    sizes = getattr(model_module(model), "DEMO", {}).get(form_of(text), {})
    dims = {m: getattr(batch, m).rows.shape[-1] for m in ("audio", "vision")}
    dims["text"] = 32 if encoder else batch.text.rows.shape[-1]
    return build_model(model, text=text, dims=dims, encoder=encoder, emotions=emotions, **{**sizes, **overrides})


def undropped_options(model: str) -> dict[str, Any]:
    """The options of a model that name a dropout, at 0."""
    return {f.name: 0.0 for f in dataclasses.fields(model_module(model).Config) if "dropout" in f.name}


def without_dropout(net: nn.Module) -> nn.Module:
    """`net` with every dropout at 0, those of a pretrained encoder too; for those that are no module, its Config is to
    say 0."""
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        config = getattr(module, "config", None)
        if type(config).__module__.startswith("transformers"):
            for name in (name for name in vars(config) if "dropout" in name):
                setattr(config, name, 0.0)
    return net


def loss_of(net: Any, batch: Batch, output: Output | None = None) -> Tensor:
    """The loss that training minimises: the model's own where it has one."""
    output = output or net(batch)
    return net.loss(output, batch, "l1") if hasattr(net, "loss") else task_loss(output.prediction, batch.label)


def shown(net: Any, batch: Batch) -> Any:
    """`net`, and if it keeps something by utterance, with what it keeps of `batch` after two steps: its loss may rest
    on earlier ones."""
    if hasattr(net, "prepare_training"):
        net.prepare_training(batch)
        with torch.no_grad():
            for _ in range(2):
                loss_of(net.train(), batch)
    return net


# ------------------------------------------------------------------------------------------------- what comes out


def check_forward(model: str, text: str, batch: Batch) -> None:
    """The shapes of what `forward` returns, from a batch that it leaves as it is."""
    batch = batch.slice(0, ODD)
    before = {m: getattr(batch, m).rows.clone() for m in MODALITIES}
    check_output(build(model, text, batch).forward(batch), len(batch))  # past hycon.held, which says less
    changed = [f"batch.{m}" for m, rows in before.items() if not torch.equal(getattr(batch, m).rows, rows)]
    expect(
        not changed,
        f"forward changes {' and '.join(changed)}",
        "leave the batch as it is: later epochs read it again (x = x * 2 in place of x *= 2)",
    )


def check_output(output: Any, count: int) -> None:
    expect(
        isinstance(output, Output),
        f"forward returns a {type(output).__name__}",
        "return hycon.output.Output(prediction, representations, multimodal)",
    )
    expect(
        output.prediction.shape == (count,),
        f"the prediction of {count} utterances has shape {tuple(output.prediction.shape)}, not ({count},)",
        "give the head outputs(emotions) numbers and pass them through as_prediction(raw, emotions) (hycon.output)",
    )
    expect(torch.isfinite(output.prediction).all(), "a prediction is not finite", NOT_FINITE)
    if output.representations is not None:
        expect(
            list(output.representations) == list(MODALITIES),
            f"representations has the keys {', '.join(output.representations)}",
            "expected text, audio and vision, in that order, or None",
        )
        shapes = {tuple(x.shape) for x in output.representations.values()}
        expect(
            len(shapes) == 1 and next(iter(shapes))[0] == count and len(next(iter(shapes))) == 2,
            f"representations have the shapes {', '.join(map(str, sorted(shapes)))}",
            "expected (B, d), the same for all three",
        )
    if output.multimodal is not None:
        expect(
            output.multimodal.dim() == 2 and len(output.multimodal) == count,
            f"multimodal has shape {tuple(output.multimodal.shape)}",
            f"expected ({count}, width), or None",
        )


def check_emotions(model: str, text: str, batch: Batch) -> None:
    """Two logits for each emotion, where a corpus has emotions and the model is for them."""
    if not getattr(model_module(model), "EMOTIONS", True):
        return
    batch = batch.slice(0, ODD)
    shape = tuple(build(model, text, batch, emotions=EMOTIONS)(batch).prediction.shape)
    expect(
        shape == (ODD, EMOTIONS, 2),
        f"with emotions={EMOTIONS} the prediction has shape {shape}, not ({ODD}, {EMOTIONS}, 2)",
        "give the head outputs(emotions) numbers and pass them through as_prediction(raw, emotions) (hycon.output)",
    )


# ------------------------------------------------------------------------------------------------- loss and gradients


def check_gradients(model: str, text: str, batch: Batch) -> None:
    """A finite loss, and a finite gradient that is not all zeros in every parameter."""
    batch = batch.slice(0, ODD)
    check_gradients_of(shown(build(model, text, batch), batch), batch)


def check_gradients_of(net: Any, batch: Batch, output: Output | None = None) -> None:
    loss = loss_of(net.train(), batch, output)
    _check_loss(loss, "the loss")
    loss.backward()
    idle = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    idle = [name for name in idle if name.rpartition(".")[2] not in UNUSED]
    expect(
        not idle,
        f"no gradient reaches {', '.join(idle)}",
        "let forward or loss read it, build it only where it is read, or set requires_grad=False",
    )
    _check_finite(net)


def check_batch_of_one(model: str, text: str, batch: Batch) -> None:
    """A batch of one utterance trains: the last batch of an epoch may be one."""
    check_batch_of_one_of(build(model, text, batch), batch)


def check_batch_of_one_of(net: Any, batch: Batch) -> None:
    loss = loss_of(net.train(), batch.slice(0, 1))
    _check_loss(loss, "the loss of a batch of one utterance")
    loss.backward()
    _check_finite(net)


def _check_loss(loss: Tensor, what: str) -> None:
    expect(loss.dim() == 0, f"{what} has shape {tuple(loss.shape)}", "return a scalar: the mean over utterances")
    expect(torch.isfinite(loss), f"{what} is {loss.item()}", NOT_FINITE)


def _check_finite(net: nn.Module) -> None:
    bad = [n for n, p in net.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    expect(not bad, f"the gradient of {', '.join(bad)} is not finite", "look for a square root or a norm at zero")


def check_loss_kind(model: str, text: str, batch: Batch) -> None:
    """A loss of the model's own passes `kind` on to the task loss, so that Training.loss has an effect."""
    batch = batch.slice(0, 8)
    net = build(model, text, batch).eval()
    if not hasattr(net, "loss"):
        return
    output = net(batch)
    task = task_loss(output.prediction, batch.label, "mse") - task_loss(output.prediction, batch.label)
    difference = net.loss(output, batch, "mse") - net.loss(output, batch, "l1")
    expect(
        torch.allclose(difference, task, atol=TOLERANCE, rtol=TOLERANCE),
        "loss(output, batch, kind) does not pass kind on",
        "add hycon.output.task_loss(output.prediction, batch.label, kind) to the model's own terms",
    )


# ------------------------------------------------------------------------------------------------- whose prediction


@torch.no_grad()
def check_own_prediction(model: str, text: str, split: Batch) -> None:
    """Alone, beside far longer utterances, or in another order: the same number."""
    check_own_prediction_of(build(model, text, split), split)


@torch.no_grad()
def check_own_prediction_of(net: Any, split: Batch) -> None:
    net.eval()
    order = torch.argsort(split.text.lengths)
    picked = torch.cat([order[:3], order[-3:]])  # the shortest and the longest
    assert split.text.lengths[picked[-1]] > 2 * split.text.lengths[picked[0]], "the batch is too even for this check"
    batch = split.take(picked)
    together = net(batch).prediction
    expect(
        together.unique().numel() == len(picked),
        "different utterances get the same prediction",
        "look whether forward reads the batch",
    )
    _same(
        net(batch).prediction,
        together,
        "in evaluation the same batch gets another prediction each time",
        "draw random numbers in training alone (self.training)",
    )
    alone = torch.cat([net(batch.slice(i, i + 1)).prediction for i in range(len(picked))])
    _same(
        alone,
        together,
        "the prediction of an utterance depends on the others in its batch",
        "zero or mask what lies beyond an utterance's end (batch.text.lengths), and take no statistics over a batch in "
        "evaluation",
    )
    shuffle = torch.tensor([4, 0, 5, 2, 1, 3])
    _same(
        net(batch.take(shuffle)).prediction,
        together[shuffle],
        "predictions do not come in the order of the batch",
        "undo whatever sorts the utterances",
    )


def check_padding(model: str, text: str, split: Batch) -> None:
    """A longer nominal length changes no prediction; HyCon's front-end is told so, since it reads it by default."""
    split = split.slice(0, 10)
    fields = {f.name for f in dataclasses.fields(model_module(model).Config)}
    own: dict[str, Any] = {"readout": "cls", "mask_padding": True, "positions": "own"} if "readout" in fields else {}
    before, after = padded_further(build(model, text, split, **own), split)
    _same(
        after,
        before,
        f"a nominal length of {FURTHER} steps more changes predictions",
        "mask the padding wherever steps are averaged, attended to or read last (batch.text.lengths)",
    )


def padded_further(net: nn.Module, split: Batch) -> tuple[Tensor, Tensor]:
    """Predictions as they are, and with a longer nominal length; weights as large as after training."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    longer = {m: n + FURTHER for m, n in split.layout.lengths.items()}
    before = predict(net, split)
    expect(before.std() > 2e-4, "all predictions are nearly the same", "look whether forward reads the batch")
    return before, predict(net, dataclasses.replace(split, layout=dataclasses.replace(split.layout, lengths=longer)))


def _same(found: Tensor, expected: Tensor, said: str, remedy: str) -> None:
    gap = float((found - expected).abs().max())
    expect(torch.allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE), f"{said} (by up to {gap:.2g})", remedy)


# ------------------------------------------------------------------------------------------------- training


def check_overfits(model: str, text: str, batch: Batch) -> None:
    """Eight utterances can be learned by heart."""
    batch = batch.slice(0, 8)
    without = {k: v for k, v in undropped_options(model).items() if k.endswith("dropout")}
    net = build(model, text, batch, **without).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    with torch.no_grad():
        first = (batch.label - batch.label.median()).abs().mean()  # what the best constant reaches
    for _ in range(STEPS):
        loss = task_loss(net(batch).prediction, batch.label)
        if loss < FITTED * first:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise Nonconforming(
        f"after {STEPS} steps on 8 utterances the error is {loss.item() / first.item():.0%} of a constant's at best",
        "look for a squashed output, a layer that is cut off, or sizes in DEMO that are too small",
    )


def check_repeats(model: str, text: str, split: Batch) -> None:
    """Two trainings from the same seed give the same weights, bit for bit."""
    weights = []
    for _ in range(2):
        seed_everything(7)
        net = build(model, text, split)
        train, valid = split.slice(0, 20), split.slice(20, 28)
        fit(net, train, valid, Training(lr=1e-3, batch_size=8, epochs=1), seed=0)
        weights.append([p.detach().clone() for p in net.parameters()])
    expect(
        all(torch.equal(a, b) for a, b in zip(*weights, strict=True)),
        "two trainings from one seed end with different weights",
        "draw random numbers from torch only, and keep no state between batches outside the model",
    )
