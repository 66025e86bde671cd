"""MMIM: MultiModal InfoMax (Han et al., "Improving multimodal fusion with hierarchical mutual information maximization
for multimodal sentiment analysis", EMNLP 2021).

In: a Batch of tokens, aligned or not. Out: prediction (B,) or (B, E, 2); no unimodal representations of one width, so
`parts` holds what the loss reads: h_t (B, D), h_a and h_v (B, d_m).

The paper's section "Methodology", by the headings of its parts:

    modality encoding     h_t = BERT's [CLS];  h_m = W_m LSTM_m(x_m) at its own last step, m in {a, v}
    fusion                z = tanh(W2 tanh(W1 drop([h_t; h_a; h_v])))                     (B, fusion)
                          y = w z                                                          (B,)
    inter-modality MI     I(h_t; h_m) >= E log q(h_m | h_t) + H(h_m)                       Barber and Agakov's bound
                          q is Gaussian: mean and log variance are read off h_t
                          H = 1/4 (log det S_+ + log det S_-), S the covariances of a projection of h_m over utterances
                          of positive and of negative label, those of a memory with those of the batch
    fusion-level MI       L_CPC = sum over t, a, v of -log softmax of cos(h_m, G_m z) over the batch
    training              L = L_task + alpha L_CPC + beta L_BA,  L_BA = -sum_m (log q + H), which does not train q;
                          L_lld = -sum_m log q trains q, and nothing but q

`loss` is L + L_lld. That each trains its own part is a matter of what is detached: q reads detached h_t and h_m in
L_lld, and has detached weights in L.

As in the reference's code, log q lacks a Gaussian's term -1/2 log variance (`log_variance=True` adds it),
so that a large variance satisfies it; and H projects h_m by a random layer that no optimiser trains, a buffer here.

On MOSI (768, 74, 47) 109,174,913 parameters: MMSA's, but for BERT's pooler and that random layer.

Deviates:
1. An epoch of the reference has two stages, each a pass over the training split with an optimiser of its own: L_lld
   (on MOSEI over half of the split), then L. Here a step takes both gradients from one forward pass, so q makes the
   same number of steps, beside the main network's and not before them; clipping sees both gradients as one. All layers
   beside BERT have one learning rate (`head_lr`): the reference's defaults are equal too.
2. The memory holds the last `memory` utterances, from the first batch on, over the ends of epochs. The reference's
   holds the batch before, is emptied each epoch, and counts from an epoch's third batch on.
3. A class whose covariance is singular (fewer utterances than dimensions, say) adds nothing to H. The reference takes
   the logarithm anyway, and small batches end in NaN.
4. The learning rate does not fall on a plateau. The epoch is chosen on validation; the reference keeps, of the epochs
   that improve validation, the one with the best test error.
5. With emotions there is no sign to tell two classes by: H is 0.
Reference implementations consulted: declare-lab/Multimodal-Infomax, thuiar/MMSA (LSTMs of two directions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hycon.data.batch import Batch
from hycon.errors import UserError
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import last_hidden
from hycon.output import Output, as_prediction, outputs, task_loss
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1
OTHERS = ("vision", "audio")  # the paper bounds I(t; v) and I(t; a), not I(v; a)
SHRINK = 4  # H is that of a projection to a quarter of the width; reference code
SINGULAR = 1e-9  # of det S, where 1 is that of a sphere with S's trace; chosen here


@dataclass(frozen=True)
class Config:
    audio_hidden: int = 16  # reference code, as all up to beta
    vision_hidden: int = 16
    audio_out: int = 16
    vision_out: int = 16
    fusion: int = 128
    dropout: float = 0.1  # of what the fusion reads
    alpha: float = 0.1
    beta: float = 0.1
    memory: int = 32  # utterances: one batch, as in the reference code
    log_variance: bool = False  # reference code; True: the whole logarithm of a Gaussian, as in the paper

    def __post_init__(self) -> None:
        if min(self.audio_out, self.vision_out) < SHRINK:
            raise UserError(f"audio_out is {self.audio_out}, vision_out {self.vision_out}; expected at least {SHRINK}.")


TRAINING = {
    # reference code, as all; lr is BERT's
    "tokens": Training(lr=5e-5, head_lr=1e-3, batch_size=32, clip=1.0, weight_decay=1e-4),
}
SEARCH_SPACE = {
    "tokens": {
        "audio_hidden": (16, 32, 64, 128),  # MMSA, as all but lr and scale
        "vision_hidden": (16, 32, 64, 128),
        "audio_out": (16, 32, 64, 128),
        "vision_out": (16, 32, 64, 128),
        "fusion": (64, 128, 256, 512),
        "dropout": (0.0, 0.1, 0.2, 0.3, 0.4),
        "alpha": (0.0, 0.1, 0.2, 0.3, 0.4),
        "beta": (0.0, 0.1, 0.2, 0.3, 0.4),
        "lr": (1e-5, 2e-5, 5e-5),  # chosen here, up to the reference's; MMSA searches with a frozen BERT
        "head_lr": (1e-4, 1e-3, 5e-3),
        "weight_decay": (0.0, 1e-4, 1e-3),
        "batch_size": (16, 32),
        "clip": (0.6, 0.8, 1.0),
        "scale": ("none", "standard"),  # as in every row
    },
}
ABLATIONS = {"cpc": {"alpha": 0.0}, "ba": {"beta": 0.0}}
REMOVED = {
    "cpc": "the mutual information of the fusion with each modality",
    "ba": "the mutual information of text with audio and with vision",
}


def without_effect(config: Config, form: str) -> set[str]:
    """The memory serves the bound between modalities alone."""
    return {"memory"} if config.beta == 0 else set()


class Encoder(nn.Module):
    """LSTM at its own last step, then Linear: Ragged (d_m,) -> (B, out)."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.lstm, self.linear = nn.LSTM(width, hidden), nn.Linear(hidden, out)

    def forward(self, x: Any) -> Tensor:
        return self.linear(last_hidden(self.lstm, x, lengths=x.both))


class Conditional(nn.Module):
    """q(y | x), a Gaussian with diagonal covariance: x (B, d_x), y (B, d_y) -> the mean of log q, without constants."""

    def __init__(self, x: int, y: int, log_variance: bool):
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(x, y), nn.ReLU(), nn.Linear(y, y))
        self.variance = nn.Sequential(nn.Linear(x, y), nn.ReLU(), nn.Linear(y, y))  # its logarithm
        self.log_variance = log_variance

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        mean, log = self.mean(x).float(), self.variance(x).float()
        log_q = -((mean - y) ** 2) / 2 / log.exp()
        if self.log_variance:
            log_q = log_q - log / 2
        return log_q.sum(-1).mean()

    def frozen(self, x: Tensor, y: Tensor) -> Tensor:
        """The same, without a gradient for the weights."""
        return functional_call(self, {name: p.detach() for name, p in self.named_parameters()}, (x, y))


def contrast(x: Tensor, predicted: Tensor) -> Tensor:
    """-log softmax over the batch of the cosine of x_i (B, d) with its own prediction among all predictions (B, d)."""
    scores = F.normalize(x, dim=1) @ F.normalize(predicted, dim=1).t()  # (B, B)
    return F.cross_entropy(scores.float(), torch.arange(len(x), device=x.device))


def log_det_covariance(rows: Tensor, member: Tensor) -> Tensor:
    """log det of the covariance of those rows (N, d) that are members (N,), 0 where it is singular."""
    rows, d = rows.double(), rows.shape[1]
    weight = member.double()[:, None]
    count = weight.sum().clamp(min=1)
    centred = rows - (weight * rows).sum(0) / count
    covariance = (weight * centred).t() @ centred / count  # (d, d)
    known = covariance.detach()
    regular = (count > d) & (torch.linalg.det(known) > SINGULAR * (known.trace() / d) ** d)
    return torch.logdet(torch.where(regular, covariance, torch.eye(d, dtype=rows.dtype, device=rows.device)))


class Entropy(nn.Module):
    """H of y (B, d), by the labels' signs, over the batch and the last `memory` utterances that training saw."""

    def __init__(self, d: int, memory: int):
        super().__init__()
        projection = nn.Linear(d, d // SHRINK)
        nn.init.xavier_normal_(projection.weight)
        for name, value in (
            ("weight", projection.weight.detach()),
            ("bias", projection.bias.detach()),
            ("recent", torch.zeros(memory, d // SHRINK)),
            ("recent_label", torch.zeros(memory)),  # 0: of neither class
        ):
            self.register_buffer(name, value)

    def forward(self, y: Tensor, label: Tensor) -> Tensor:
        weight, bias, recent, recent_label = (
            self.get_buffer(name) for name in ("weight", "bias", "recent", "recent_label")
        )
        projected = torch.tanh(F.linear(y, weight, bias)).to(recent.dtype)  # (B, d / 4)
        rows, labels = torch.cat([recent, projected]), torch.cat([recent_label, label.to(recent_label.dtype)])
        if self.training:
            recent.copy_(rows[-len(recent) :].detach())
            recent_label.copy_(labels[-len(recent) :])
        return (log_det_covariance(rows, labels > 0) + log_det_covariance(rows, labels < 0)) / 4


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText, emotions: int = 0):
        super().__init__()
        self.config, self.emotions = config, emotions
        out = {"text": text.width, "audio": config.audio_out, "vision": config.vision_out}
        self.audio = Encoder(dims["audio"], config.audio_hidden, config.audio_out)
        self.vision = Encoder(dims["vision"], config.vision_hidden, config.vision_out)
        self.conditional = nn.ModuleDict({m: Conditional(text.width, out[m], config.log_variance) for m in OTHERS})
        self.cpc = nn.ModuleDict({m: nn.Linear(config.fusion, width) for m, width in out.items()})  # G_m
        self.drop = Dropout(config.dropout)
        self.linear1, self.linear2 = (
            nn.Linear(sum(out.values()), config.fusion),
            nn.Linear(config.fusion, config.fusion),
        )
        self.predictor = nn.Linear(config.fusion, outputs(emotions))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)  # reference code
        self.entropy = nn.ModuleDict({m: Entropy(out[m], config.memory) for m in OTHERS})
        self.text = text

    def forward(self, batch: Batch) -> Output:
        h = {
            "text": self.text.states(batch.text)[:, 0],  # (B, D)
            "audio": self.audio(batch.audio),  # (B, d_a)
            "vision": self.vision(batch.vision),
        }
        z = torch.tanh(self.linear1(self.drop(torch.cat(list(h.values()), 1))))
        z = torch.tanh(self.linear2(z))  # (B, fusion)
        return Output(as_prediction(self.predictor(z), self.emotions), None, z, h)

    def loss(self, output: Output, batch: Batch, kind: str = "l1") -> Tensor:
        assert output.parts is not None
        assert output.multimodal is not None
        h, z = output.parts, output.multimodal
        total = task_loss(output.prediction, batch.label, kind)
        for m, x in h.items():
            total = total + self.config.alpha * contrast(x, self.cpc[m](z))
        for m in OTHERS:
            q: Any = self.conditional[m]
            bound = q.frozen(h["text"], h[m])
            if not self.emotions:
                bound = bound + self.entropy[m](h[m], batch.label).to(bound.dtype)
            total = total - self.config.beta * bound - q(h["text"].detach(), h[m].detach())
        return total
