"""What a prediction rests on: never on the label, and on which modalities."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.held import relabelled
from hycon.train import predict
from studies.authors.conformance import build, expect

FEW = 10  # utterances
OTHER = 2.0  # a label, in place of each


@torch.no_grad()
def check_label(model: str, text: str, batch: Batch) -> None:
    """Another label changes no prediction: a model that reads it predicts what it was given."""
    batch, label = batch.slice(0, FEW), batch.label[:FEW].clone()
    net = build(model, text, batch).eval()
    batches = batch, batch, relabelled(batch, OTHER)
    given, again, other = (net.forward(each).prediction for each in batches)  # past hycon.held
    expect(
        torch.equal(given, other) or not torch.equal(given, again),  # the latter is another check's
        "the prediction of an utterance depends on its label",
        "let only loss(output, batch, kind) read batch.label",
    )
    expect(torch.equal(batch.label, label), "forward changes batch.label", "leave the batch as it is")


def unread(model: str, text: str, batch: Batch) -> list[str]:
    """The modalities whose values change no prediction. A model may be meant so, or forget one."""
    batch = batch.slice(0, FEW)
    net = build(model, text, batch)
    for parameter in net.parameters():  # a fresh model may not show a part
        nn.init.normal_(parameter, std=0.3)
    before = predict(net, batch)
    sequences = {m: getattr(batch, m) for m in MODALITIES}
    changed = {m: replace(batch, **{m: replace(each, rows=each.rows.flip(0))}) for m, each in sequences.items()}
    return [m for m, other in changed.items() if torch.equal(predict(net, other), before)]
