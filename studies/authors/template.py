"""NAME: what it is, in a sentence (unpublished; or authors, venue and year).

In: a Batch. Out: prediction (B,) or (B, E, 2), and three representations (B, d).

    x_m = relu(W_m mean_t m_t)              each modality: the mean over its real steps, then a layer to width d
    y   = Linear(dropout(x_l + x_a + x_v))

Deviates: none known.
Reference implementation consulted: none.
"""

# A whole model, in one file. `bench check-model THIS_FILE` checks it, `bench run --model THIS_FILE --profile demo`
# trains it on made-up data. docs/adding-a-model.md has the whole contract.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.encoders import TokenStates
from hycon.output import Output, as_prediction, outputs, task_loss
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1  # raise it with any change that moves the model's numbers


# The architecture. Defaults are the source's, each with its place there.
@dataclass(frozen=True)
class Config:
    d: int = 64  # chosen here
    dropout: float = 0.1  # chosen here
    agreement: float = 0.1  # weight of the model's own loss; chosen here


# How it is trained, for each form of text that it takes: "vectors" (glove, features), "tokens" (bert, xlnet), or one
# of them. Epochs and patience are the suite's, the same for all models.
TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32),  # chosen here
    "tokens": Training(lr=2e-5, batch_size=32),  # chosen here
}

# What the search draws from: fields of Config and of Training. Every one must have an effect.
OWN = {"d": (32, 64, 128), "dropout": (0.0, 0.1, 0.3), "agreement": (0.01, 0.1, 1.0), "scale": ("none", "standard")}
SEARCH_SPACE = {
    "vectors": {**OWN, "lr": (5e-4, 1e-3, 2e-3)},
    "tokens": {**OWN, "lr": (1e-5, 2e-5, 5e-5)},
}

# Optional, for `bench ablate --model THIS_FILE --remove agreement`.
ABLATIONS = {"agreement": {"agreement": 0.0}}
REMOVED = {"agreement": "the loss that draws the three representations together"}


class Model(nn.Module):
    """dims: {"text": d_l, "audio": d_a, "vision": d_v}.  text: the pretrained encoder for tokens, None for vectors.
    emotions: 0 for sentiment, else how many."""

    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.config, self.emotions = config, emotions
        self.text = TokenStates(dims["text"], text, config.d)  # word vectors as they are, or an encoder's states
        widths = {**dims, "text": self.text.width}
        self.project = nn.ModuleDict({m: nn.Linear(widths[m], config.d) for m in MODALITIES})
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.d, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        means = {"text": self.text_mean(batch), "audio": batch.audio.mean(), "vision": batch.vision.mean()}
        x = {m: torch.relu(self.project[m](means[m])) for m in MODALITIES}  # (B, d)
        fused = x["text"] + x["audio"] + x["vision"]
        return Output(as_prediction(self.head(self.dropout(fused)), self.emotions), x, fused)

    def text_mean(self, batch: Batch) -> Tensor:
        """(B, width): over the real steps only. What lies beyond an utterance's end is padding."""
        steps = self.text(batch)
        if not isinstance(steps, Tensor):  # word vectors, without padding
            return steps.mean()
        lengths = batch.text.device_lengths()[:, None]  # (B, 1)
        inside = torch.arange(steps.shape[1], device=steps.device) < lengths  # (B, T)
        return (steps * inside[..., None]).sum(1) / lengths

    # Optional: without it, the task loss alone. `kind` is Training.loss ("l1" or "mse"): pass it on.
    def loss(self, output: Output, batch: Batch, kind: str = "l1") -> Tensor:
        assert output.representations is not None
        x = torch.stack(list(output.representations.values()))  # (3, B, d)
        apart = (x - x.mean(0)).square().mean()
        return task_loss(output.prediction, batch.label, kind) + self.config.agreement * apart
