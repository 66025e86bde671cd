"""MISA: modality-invariant and -specific representations (Hazarika, Zimmermann and Poria, ACM MM 2020).

In: a Batch of tokens, aligned or not. Out: prediction (B,) or (B, E, 2); representations, the sum of the two of each
modality (B, d).

    sec. 3.2.1  utterance     text: mean of BERT's states. Audio, vision: two LSTMs in both directions, a layer norm
                              between them, the last states of both: 4 widths. Then relu Linear to d, layer norm   u_m
    sec. 3.3    subspaces     specific h_m = sigmoid(P_m u_m); invariant s_m = sigmoid(S u_m), one S for all      (B, d)
    sec. 3.5    fusion        the six vectors through a Transformer layer of two heads, side by side, Linear to 3d,
                              relu, Linear
    sec. 3.4    task          mean squared error
                similarity    central moment discrepancy of the three pairs of s_m, up to the fifth moment
                difference    squared products of h_m with s_m, and of the h_m with each other
                reconstruct   D_m (h_m + s_m) against u_m, mean squared error

On MOSI (768, 74, 47) 110,369,101 parameters, counted in the tests; MMSA's, with what it never trains, has more.

Deviates:
1. Each modality has its own last step; the reference reads all three to the last token of the text.
2. No clipping of single gradient values (1 in the original, .8 in MMSA on MOSI): this suite clips norms only.
3. The original freezes BERT's first nine layers on MOSEI; nothing is frozen here, nor in MMSA.
4. A batch is a step; MMSA adds the gradients of two batches of 16 on MOSI, and those of an epoch's rest are lost.
5. Left out is what gets no gradient there: the discriminator of invariant and specific vectors, whose weight MMSA
   never reads (0 in the original), a layer norm of the text, BERT's pooler.
6. The difference is a mean over d x d products, and lengths are constants in it, as in the code; the paper has a sum.
7. No weight decay: the original has none, and MMSA's trainer never reads that of its grid.
Reference implementation consulted: thuiar/MMSA, a port of the authors'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import packed_lstm
from hycon.kernels.packing import Packing, pack
from hycon.output import Output, as_prediction, outputs, task_loss
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1
ORDER = ("text", "vision", "audio")  # in fusion; reference code
MOMENTS = 5  # paper and code
EPSILON = 1e-6  # added to lengths in the difference; code


@dataclass(frozen=True)
class Config:
    d: int = 128  # original, as all that name no other source; MMSA's for MOSI beside it
    heads: int = 2
    dropout: float = 0.5  # of fusion; MMSA .2
    layer_dropout: float = 0.1  # inside the Transformer layer: PyTorch's
    sim_weight: float = 1.0  # MMSA .3
    diff_weight: float = 0.3  # MMSA .1
    recon_weight: float = 1.0


TRAINING = {"tokens": Training(lr=1e-4, batch_size=64, loss="mse")}
SEARCH_SPACE = {
    "tokens": {
        "d": (64, 128, 256),  # MMSA's grid, as all that say nothing else
        "dropout": (0.0, 0.2, 0.5),
        "sim_weight": (0.3, 0.5, 0.8, 1.0),  # and MMSA's choice
        "diff_weight": (0.1, 0.3, 0.5),
        "recon_weight": (0.5, 0.8, 1.0),
        "lr": (2e-5, 5e-5, 1e-4),  # the source's, and two below it, chosen here; MMSA's grid goes up to 1e-3
        "batch_size": (16, 32, 64),
        "scale": ("none", "standard"),  # chosen here
    },
}
ABLATIONS = {
    "similarity": {"sim_weight": 0.0},
    "difference": {"diff_weight": 0.0},
    "reconstruction": {"recon_weight": 0.0},
}
REMOVED = {
    "similarity": "the central moment discrepancy between invariant representations",
    "difference": "the orthogonality of specific and invariant representations",
    "reconstruction": "the reconstruction of the utterances' vectors",
}


class Recurrent(nn.Module):
    """Ragged (w,) -> (B, 4 w): the last states of two bidirectional LSTMs; ahead and ahead, back and back."""

    def __init__(self, width: int):
        super().__init__()
        self.ahead1, self.back1 = nn.LSTM(width, width), nn.LSTM(width, width)
        self.norm = nn.LayerNorm(2 * width)
        self.ahead2, self.back2 = nn.LSTM(2 * width, width), nn.LSTM(2 * width, width)
        for lstm in (self.ahead1, self.back1, self.ahead2, self.back2):
            nn.init.orthogonal_(lstm.get_parameter("weight_hh_l0"))  # original

    def forward(self, sequences: Ragged) -> Tensor:
        packing = pack(sequences.both)
        turned = mirror(packing)
        rows = packing.rows(sequences)
        ahead1, back1 = packed_lstm(self.ahead1, rows, packing), packed_lstm(self.back1, rows[turned], packing)
        rows = self.norm(torch.cat([ahead1, back1[turned]], 1))
        ahead2, back2 = packed_lstm(self.ahead2, rows, packing), packed_lstm(self.back2, rows[turned], packing)
        return torch.cat([packing.last_rows(states) for states in (ahead1, ahead2, back1, back2)], 1)


def mirror(packing: Packing) -> Tensor:
    """(R,) for each row in packed order, the row that takes its place when every sequence is read from its end."""
    sizes, step, device = packing.counts, packing.step, packing.step.device
    first = sizes.cumsum(0) - sizes
    rank = torch.arange(len(step), device=device) - first[step]
    length = (sizes[:, None] > torch.arange(packing.sizes[0], device=device)).sum(0)  # of the sequence of each rank
    return first[length[rank] - 1 - step] + rank


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText, emotions: int = 0):
        super().__init__()
        self.config, self.emotions = config, emotions
        d = config.d
        self.sequence = nn.ModuleDict({m: Recurrent(dims[m]) for m in ("audio", "vision")})
        widths = {"text": text.width, "audio": 4 * dims["audio"], "vision": 4 * dims["vision"]}
        self.project = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(widths[m], d), nn.ReLU(), nn.LayerNorm(d)) for m in MODALITIES}
        )
        self.specific = nn.ModuleDict({m: nn.Linear(d, d) for m in MODALITIES})
        self.invariant = nn.Linear(d, d)
        self.decoder = nn.ModuleDict({m: nn.Linear(d, d) for m in MODALITIES})
        self.layer = nn.TransformerEncoderLayer(d, config.heads, dropout=config.layer_dropout)
        self.hidden, self.drop = nn.Linear(6 * d, 3 * d), Dropout(config.dropout)
        self.predictor = nn.Linear(3 * d, outputs(emotions))
        self.text = text

    def forward(self, batch: Batch) -> Output:
        mean = self.text.states(batch.text).sum(1) / batch.text.device_lengths()[:, None]  # (B, D)
        read = {"text": mean, **{m: self.sequence[m](getattr(batch, m)) for m in ("audio", "vision")}}
        u = {m: self.project[m](read[m]) for m in MODALITIES}  # (B, d) each, as all below
        specific = {m: torch.sigmoid(self.specific[m](u[m])) for m in MODALITIES}
        invariant = {m: torch.sigmoid(self.invariant(u[m])) for m in MODALITIES}
        six = torch.stack([specific[m] for m in ORDER] + [invariant[m] for m in ORDER])  # (6, B, d)
        multimodal = F.relu(self.drop(self.hidden(torch.cat(tuple(self.layer(six)), 1))))  # (B, 3 d)
        parts = {
            f"{name}.{m}": x[m]
            for name, x in (("utterance", u), ("specific", specific), ("invariant", invariant))
            for m in MODALITIES
        }
        both = {m: specific[m] + invariant[m] for m in MODALITIES}
        return Output(as_prediction(self.predictor(multimodal), self.emotions), both, multimodal, parts)

    def loss(self, output: Output, batch: Batch, kind: str = "mse") -> Tensor:
        """The task loss and the three weighed losses."""
        assert output.parts is not None
        assert output.representations is not None
        u, h, s = (
            {m: output.parts[f"{name}.{m}"] for m in MODALITIES} for name in ("utterance", "specific", "invariant")
        )
        pairs = list(combinations(MODALITIES, 2))
        similarity = torch.stack([moment_discrepancy(s[a], s[b]) for a, b in pairs]).mean()
        differences = [difference(h[m], s[m]) for m in MODALITIES] + [difference(h[a], h[b]) for a, b in pairs]
        decoded = {m: self.decoder[m](output.representations[m]) for m in MODALITIES}
        reconstruction = torch.stack([(decoded[m] - u[m]).square().mean() for m in MODALITIES]).mean()
        return (
            task_loss(output.prediction, batch.label, kind)
            + self.config.sim_weight * similarity
            + self.config.diff_weight * torch.stack(differences).sum()
            + self.config.recon_weight * reconstruction
        )


def moment_discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """CMD of (B, d) and (B, d) in [0, 1]: |E x - E y| + the sum over k = 2 ... 5 of |c_k(x) - c_k(y)|, Euclidean."""
    means = x.mean(0), y.mean(0)
    x, y = x - means[0], y - means[1]
    apart = [means[0] - means[1], *((x**k).mean(0) - (y**k).mean(0) for k in range(2, MOMENTS + 1))]
    return torch.stack([torch.linalg.vector_norm(a) for a in apart]).sum()


def difference(x: Tensor, y: Tensor) -> Tensor:
    """Mean over d x d of (X^T Y)^2; X and Y (B, d) centred over the batch, each row divided by its length."""
    x, y = (v - v.mean(0) for v in (x, y))
    x, y = (v / (v.detach().norm(dim=1, keepdim=True) + EPSILON) for v in (x, y))
    return (x.t() @ y).square().mean()
