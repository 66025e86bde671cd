"""MAG: multimodal adaptation gate inside BERT or XLNet (Rahman et al., "Integrating multimodal information in large
pretrained transformers", ACL 2020).

In: a word-aligned Batch of tokens; audio and vision rows are those of each piece's word, zeros at special tokens.
Out: prediction (B,) or (B, E, 2); no unimodal representations.

The paper's section on the Multimodal Adaptation Gate, of every token (B, T, D), D the width of BERT or XLNet:

    gates         g_v = relu(W_gv [v; z] + b_gv), g_a likewise                   (B, T, D)
    displacement  h = g_v o (W_v v + b_v) + g_a o (W_a a + b_a)                  (B, T, D)
    shift         alpha = min(beta |z| / |h|, 1); z + alpha h -> layer norm -> dropout -> the next layer  (B, T, D)
                  z: BERT's embeddings, or what XLNet's second layer reads
    head          BERT: pooler of [CLS] -> dropout -> Linear.  XLNet: [CLS] -> tanh Linear -> dropout -> Linear  (B,)

On MOSI 110,853,121 parameters with BERT (Table XI of the same authors' MIB paper) and 118,679,809 with XLNet, which is
what the paper's Table 8 prints beside "MAG-BERT".

Deviates:
1. Weight decay spares every bias and layer norm; the reference, which tells them by name, decays XLNet's own norms.
2. W_v and W_a have a bias each, as in the reference code (exact counts); the paper's displacement has one for both.
3. The learning rate falls to 0 over this suite's budget of epochs, the reference's over 40. Training stops early and
   keeps the epoch that is best on validation, by the squared error of its loss; the reference does neither.
4. The schedule counts the last, smaller batch of an epoch as a step. The reference rounds the steps of an epoch down
   (26 for 27 on MOSI with 48), so its rate is 0 in the last epoch or two, and falls 4 % faster.
5. The rate rises over a tenth of the steps and falls then, as the reference's options say. Until December 2021, and so
   in the paper's time, its code took the two numbers of its schedule for each other: the rate rose until the end of
   training (`warmup=1.0`; a row of the table `sensitivity`).
Reference implementations consulted: WasifurRahman/BERT_multimodal_transformer, thuiar/MMSA (Adam and L1 in place of
AdamW and MSE). Both copy transformers' model files; here the gate is hooked before a layer of the untouched model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.encoders import init_like_authors
from hycon.kernels.dropout import Dropout
from hycon.output import Output, as_prediction, outputs
from hycon.text import Picks, PretrainedText
from hycon.train import Training

VERSION = 2
NEEDS_ALIGNED = True
NEEDS_POOLER = True
BEFORE = {"bert": 0, "xlnet": 1}  # the layer that reads the shifted states; reference code
EPSILON = 1e-6  # added to |h|; reference code
ADAMW_EPSILON = 1e-6  # of the AdamW in the library transformers, which the reference uses; PyTorch's is 1e-8


@dataclass(frozen=True)
class Config:
    beta_shift: float = 1.0  # beta of the shift; reference code, as the next
    dropout: float = 0.5  # of what the gate gives
    head_dropout: float = 0.1  # of BERT and of XLNet's sequence summary


TRAINING = {
    "tokens": Training(
        lr=1e-5,  # reference code, as all
        batch_size=48,
        optimizer="adamw",
        weight_decay=0.01,
        warmup=0.1,
        loss="mse",
    ),
}
SEARCH_SPACE = {
    "tokens": {
        "beta_shift": (0.5, 1.0, 2.0),  # the paper tunes it; these values chosen here
        "dropout": (0.1, 0.2, 0.3, 0.4, 0.5),  # MMSA .1 to .4; reference .5
        "lr": (1e-5, 2e-5, 5e-5, 1e-4),  # MMSA
        "batch_size": (32, 48, 64),  # MMSA
        "scale": ("none", "standard"),  # chosen here
    },
}
ABLATIONS = {"shift": {"beta_shift": 0.0}}
REMOVED = {"shift": "the shift of the words by audio and vision: text alone is left"}


def without_effect(config: Config, form: str) -> set[str]:
    """Options of what this configuration does not have."""
    return {"scale"} if config.beta_shift == 0 else set()


class Gate(nn.Module):
    """Gates, displacement and shift: z (B, T, D), audio (B, T, d_a), vision (B, T, d_v) -> (B, T, D)."""

    def __init__(self, width: int, audio: int, vision: int, beta_shift: float, dropout: float):
        super().__init__()
        self.gate_audio, self.gate_vision = nn.Linear(audio + width, width), nn.Linear(vision + width, width)
        self.audio, self.vision = nn.Linear(audio, width), nn.Linear(vision, width)
        self.beta_shift = beta_shift
        self.norm, self.drop = nn.LayerNorm(width), Dropout(dropout)

    def forward(self, z: Tensor, audio: Tensor, vision: Tensor) -> Tensor:
        gate_audio = F.relu(self.gate_audio(torch.cat([audio, z], -1)))
        gate_vision = F.relu(self.gate_vision(torch.cat([vision, z], -1)))
        h = gate_vision * self.vision(vision) + gate_audio * self.audio(audio)  # (B, T, D)
        length = h.norm(dim=-1, keepdim=True)  # (B, T, 1)
        length = length.masked_fill(length == 0, 1.0)
        alpha = (self.beta_shift * z.norm(dim=-1, keepdim=True) / (length + EPSILON)).clamp(max=1.0)
        return self.drop(self.norm(z + alpha * h))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText, emotions: int = 0):
        super().__init__()
        self.emotions = emotions
        width = text.width
        self.gate = Gate(width, dims["audio"], dims["vision"], config.beta_shift, config.dropout)
        self.drop = Dropout(config.head_dropout)
        self.predictor = nn.Linear(width, outputs(emotions))
        self.summary = nn.Linear(width, width) if text.kind == "xlnet" else None
        init_like_authors(self)
        self.text = text
        # BERT's own pooler, at the end of the whole batch instead of in each of the encoder's calls
        if text.kind == "bert":
            bert: Any = text.model
            text.pooler, bert.pooler = bert.pooler, None

    def forward(self, batch: Batch) -> Output:
        def shift(z: Tensor, pick: Picks) -> Tensor:
            audio, vision = (pick(m).padded(z.shape[1]) for m in (batch.audio, batch.vision))
            return self.gate(z, audio, vision)

        states = self.text.states(batch.text, shift, BEFORE[self.text.kind])  # (B, T, D)
        if self.summary is None:
            assert self.text.pooler is not None
            pooled = self.text.pooler(states)
        else:
            last = batch.text.device_lengths() - 1  # [CLS] closes the sentence
            pooled = torch.tanh(self.summary(states[torch.arange(len(states), device=states.device), last]))
        pooled = self.drop(pooled)
        return Output(as_prediction(self.predictor(pooled), self.emotions), None, pooled)

    def param_groups(self, training: Training) -> list[dict[str, Any]]:
        """Weight decay for all but biases and layer norms, and AdamW's epsilon in the reference."""
        norms = {id(p) for module in self.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
        decayed: list[nn.Parameter] = []
        spared: list[nn.Parameter] = []
        for name, p in self.named_parameters():
            (spared if "bias" in name or id(p) in norms else decayed).append(p)
        own = {"eps": ADAMW_EPSILON} if training.optimizer == "adamw" else {}
        return [
            {"params": decayed, "weight_decay": training.weight_decay, **own},
            {"params": spared, "weight_decay": 0.0, **own},
        ]
