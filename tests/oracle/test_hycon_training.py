"""A whole training of HyCon on word vectors, against one written from the paper and docs/protocol.md without a look at
hycon/: front-end, fusion by addition, losses (hycon_losses.py), batches, PyTorch's own Adam, the epoch that is best on
validation. Without dropout, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from oracle import hycon_losses as oracle
from torch import Tensor

from hycon.data.batch import Batch, Layout
from hycon.data.ragged import Ragged
from hycon.model import Config, Model
from hycon.train import Training, fit

DIMS = {"text": 5, "audio": 3, "vision": 4}
NOMINAL, HEADS, LAYERS, WIDTH = 6, 2, 2, 4
LR, BATCH, EPOCHS, SEED = 3e-3, 4, 3, 11
NO_DROPOUT = {"attn_dropout": 0.0, "relu_dropout": 0.0, "res_dropout": 0.0, "embed_dropout": 0.0}


@dataclass(frozen=True)
class Utterances:
    sequences: dict[str, list[Tensor]]
    labels: list[float]

    def batch(self) -> Batch:
        rows = {m: Ragged.from_list(sequences) for m, sequences in self.sequences.items()}
        return Batch(**rows, label=torch.tensor(self.labels).double(), layout=Layout(dict.fromkeys(DIMS, NOMINAL)))


def utterances(count: int, seed: int) -> Utterances:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, NOMINAL + 1, (count,), generator=generator).tolist()
    sequences = {m: [torch.randn(n, d, generator=generator).double() for n in lengths] for m, d in DIMS.items()}
    labels = torch.randint(-3, 4, (count,), generator=generator).tolist()
    return Utterances(sequences, [float(label) for label in labels])


def positions() -> Tensor:
    """Sines, then cosines, of the places 1, 2, ..., wavelengths from 2 pi to 10,000 times that."""
    rates = torch.tensor([10000 ** -(i / (WIDTH / 2 - 1)) for i in range(WIDTH // 2)]).double()
    angles = torch.arange(1, NOMINAL + 1)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def encoded(w: dict[str, Tensor], m: str, sequence: Tensor) -> Tensor:
    """(d,): the last of all nominal steps, padding too."""
    padded = torch.cat([sequence, sequence.new_zeros(NOMINAL - len(sequence), sequence.shape[1])])
    x = F.conv1d(padded.t()[None], w[f"front.{m}.conv.weight"], padding=1)[0].t()
    x = math.sqrt(WIDTH) * x + positions() * (x[:, :1] != 0)
    for number in range(LAYERS):
        own = {name.split(f"layers.{number}.")[1]: p for name, p in w.items() if f"{m}.layers.{number}." in name}
        normed = F.layer_norm(x, (WIDTH,), own["norm1.weight"], own["norm1.bias"])
        heads = []
        for h in range(HEADS):
            part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
            q, k, v = (
                normed @ weight[part].t() + bias[part]
                for weight, bias in zip(own["in_proj_weight"].chunk(3), own["in_proj_bias"].chunk(3), strict=True)
            )
            heads.append((q @ k.t() / math.sqrt(WIDTH / HEADS)).softmax(1) @ v)
        x = x + torch.cat(heads, 1) @ own["out_proj.weight"].t() + own["out_proj.bias"]
        normed = F.layer_norm(x, (WIDTH,), own["norm2.weight"], own["norm2.bias"])
        hidden = (normed @ own["fc1.weight"].t() + own["fc1.bias"]).clamp(min=0)
        x = x + hidden @ own["fc2.weight"].t() + own["fc2.bias"]
    return F.layer_norm(x, (WIDTH,), w[f"front.{m}.norm.weight"], w[f"front.{m}.norm.bias"])[-1]


def computed(w: dict[str, Tensor], data: Utterances, chosen: list[int]) -> tuple[dict[str, Tensor], Tensor]:
    """Representations {modality: (K, d)} and predictions (K,)."""
    x = {m: torch.stack([encoded(w, m, data.sequences[m][i]) for i in chosen]) for m in DIMS}
    return x, ((x["text"] + x["audio"] + x["vision"]) @ w["predictor.weight"].t() + w["predictor.bias"])[:, 0]


def nothing_drawn(*_):
    raise AssertionError("no pair of these losses is random")


def slow_training(w: dict[str, Tensor], train: Utterances, valid: Utterances, config) -> tuple[int, float, dict]:
    """The best epoch, its loss on validation, its weights."""
    optimizer, order = torch.optim.Adam(w.values(), lr=LR), torch.Generator().manual_seed(SEED)
    best: tuple[int, float, dict] = 0, math.inf, {}
    for epoch in range(1, EPOCHS + 1):
        shuffled = torch.randperm(len(train.labels), generator=order).tolist()
        for start in range(0, len(shuffled), BATCH):
            chosen = shuffled[start : start + BATCH]
            x, predicted = computed(w, train, chosen)
            labels = [train.labels[i] for i in chosen]
            classes = [oracle.sentiment_class(label, "positive") for label in labels]
            hybrid = oracle.hybrid(x, classes, tuple(DIMS), config, nothing_drawn)
            optimizer.zero_grad()
            (oracle.sentiment_loss(list(predicted), labels) + hybrid.total).backward()
            optimizer.step()
        with torch.no_grad():
            _, predicted = computed(w, valid, list(range(len(valid.labels))))
            loss = float(oracle.sentiment_loss(list(predicted), valid.labels))
        if loss < best[1]:
            best = epoch, loss, {name: p.detach().clone() for name, p in w.items()}
    return best


@pytest.mark.parametrize("options", [{}, {"beta": 0.3, "gamma": 0.1}], ids=["HyCon", "HyCon-v2"])
def test_a_whole_training(options):
    config = Config(d=WIDTH, layers=LAYERS, heads=HEADS, **NO_DROPOUT, **options)
    train, valid = utterances(10, 1), utterances(5, 2)  # the last batch has two utterances
    torch.manual_seed(0)
    model = Model(config, DIMS).double()
    for p in model.parameters():  # as large as after training, so that every term of the loss counts
        torch.nn.init.normal_(p, std=0.5)
    copied = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    epoch, loss, weights = slow_training(copied, train, valid, model.hybrid)
    training = Training(lr=LR, batch_size=BATCH, epochs=EPOCHS)
    fitted = fit(model, train.batch(), valid.batch(), training, seed=SEED)
    assert fitted.best_epoch == epoch
    assert fitted.valid_loss == pytest.approx(loss, rel=1e-6)  # computed of float32 predictions
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), weights[name], atol=1e-7, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
