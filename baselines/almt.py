"""ALMT: adaptive language-guided multimodal Transformer (Zhang et al., "Learning language-guided adaptive
hyper-modality representation for multimodal sentiment analysis", EMNLP 2023).

In: a Batch of tokens, aligned or not. Out: prediction (B,) or (B, E, 2); no unimodal representations: each modality is
`tokens` vectors.

The paper's section "Method", by the headings of its parts; n is `tokens`:

    multimodal input      BERT's token states; audio and vision as they are          (B, T_m, d_m)
    modality embedding    H_m = what n learned tokens become in a Transformer layer over [tokens; W_m x_m]   (B, n, d)
    adaptive hyper-modality learning
                          H_l^1, H_l^2, ...: H_l, then after each layer of a Transformer            (B, n, d)
                          H^0 learned;  H^j = H^(j-1) + W_o (MHA(H_l^j, H_a) + MHA(H_l^j, H_v)),
                          queries from text, keys and values from audio and from vision
    multimodal fusion     a crossmodal Transformer of queries [token; H_l^J], keys and values [token; H^J]
                          what the learned token becomes, Linear                      (B, d) -> (B,)

Transformers are pre-LN: queries, keys and values have a layer norm each. Positions are learned.

The fusion's queries attend to its keys and never to each other, and only the token's is read. So the rest of them,
H_l^J, has no part in the prediction, in the reference as here, where it is not computed: the text is heard only in
where hyper-modality learning looks. The positions of H_l^J, n d numbers that nothing trains, are not here either.

On MOSI (768, 74, 47) 111,407,361 parameters: MMSA's for sequences of 50, but for BERT's pooler and those positions.

Deviates:
1. An utterance is encoded as if it were alone: no token attends to padding. The reference has no mask.
2. Learned positions need a longest utterance, the nominal length in the reference. Here `steps`, and later steps share
   the last position.
3. The rate rises over a tenth of the training and then falls linearly, step by step, over this suite's budget; in the
   reference by a cosine, epoch by epoch, over 200 epochs. Training stops early.
4. The epoch is chosen on validation. The reference reports for each metric its best epoch on the test split, so that
   its published numbers belong to no one model.
5. H^0 starts with a little noise about 1. The reference's is all ones, so its layer norm is 0, and that one's scale has
   no gradient.
As in the reference's code, and not in the paper: H^(j-1) is replaced by its layer norm before the sum.
Reference implementations consulted: Haoyu-ha/ALMT, thuiar/MMSA (git; its max_grad_norm is never used).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.errors import UserError
from hycon.kernels.attention import masked_attention
from hycon.kernels.dropout import Dropout
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1
NOISE = 1e-4  # chosen here: far below the layer norm's epsilon, whose root is 3e-3


@dataclass(frozen=True)
class Config:
    """The reference code's for MOSI."""

    d: int = 128
    tokens: int = 8
    heads: int = 8
    head_width: int = 64  # in Transformers; in hyper-modality learning it is d / heads
    hidden: int = 128  # of feed-forwards
    hyper_layers: int = 3
    fusion_layers: int = 2  # MOSEI: 4
    dropout: float = 0.0  # of what attention and feed-forwards give
    steps: int = 50  # positions; the nominal length of word-aligned data

    def __post_init__(self) -> None:
        if self.d % self.heads:
            raise UserError(f"d is {self.d}, heads {self.heads}: d must be a multiple of heads.")


TRAINING = {
    # reference code, as all
    "tokens": Training(lr=1e-4, batch_size=64, optimizer="adamw", weight_decay=1e-4, warmup=0.1, loss="mse"),
}
SEARCH_SPACE = {
    "tokens": {
        "hyper_layers": (2, 3, 4),  # chosen here, around the reference's
        "fusion_layers": (2, 4),  # reference code: MOSI, MOSEI
        "dropout": (0.0, 0.1, 0.2),  # chosen here; the reference has none
        "lr": (2e-5, 5e-5, 1e-4),  # chosen here, up to the reference's
        "weight_decay": (0.0, 1e-4, 1e-3),  # chosen here, around the reference's
        "batch_size": (32, 64),  # chosen here, up to the reference's
        "scale": ("none", "standard"),  # as in every row
    },
}
DEMO = {"tokens": {"d": 32, "heads": 4, "head_width": 8, "hidden": 32}}


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads * w) -> (B, heads, T, w)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """x + drop(MHA(LN x, LN s, LN s)), then x + drop(W2 drop(gelu(W1 LN x)))."""

    def __init__(self, config: Config):
        super().__init__()
        d, inner = config.d, config.heads * config.head_width
        self.heads, self.drop = config.heads, Dropout(config.dropout)
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(d) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(d, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, d)
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(d), nn.Linear(d, config.hidden), nn.Linear(config.hidden, d)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, n, d).  source: (B, T, d).  mask: (B, 1, 1, T) True where attention may look.  Returns (B, n, d)."""
        q, k, v = self.q(self.norm_q(x)), self.k(self.norm_k(source)), self.v(self.norm_v(source))
        q, k, v = (heads_of(y, self.heads) for y in (q, k, v))
        mixed = masked_attention(q, k, v, mask, 0.0)
        x = x + self.drop(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.drop(self.fc2(self.drop(F.gelu(self.fc1(self.norm(x))))))


class Embedding(nn.Module):
    """Modality embedding: n learned tokens read a sequence (B, T, width) -> (B, n, d)."""

    def __init__(self, width: int, config: Config):
        super().__init__()
        n, d = config.tokens, config.d
        self.linear, self.layer = nn.Linear(width, d), Layer(config)
        self.tokens = nn.Parameter(torch.zeros(n, d))
        self.positions = nn.Parameter(torch.randn(n + config.steps, d))  # the tokens' own first

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        n, steps = len(self.tokens), x.shape[1]
        place = torch.arange(n + steps, device=x.device)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), self.linear(x)], 1)  # (B, n + T, d)
        x = x + self.positions[place.clamp(max=len(self.positions) - 1)]
        mask = (place < n + lengths[:, None])[:, None, None]
        return self.layer(x[:, :n], x, mask)  # of the layer's output only the tokens are read


class Hyper(nn.Module):
    """A layer of hyper-modality learning: LN h + drop(W_o (MHA(text, audio) + MHA(text, vision)))."""

    def __init__(self, config: Config):
        super().__init__()
        d = config.d
        self.heads, self.drop = config.heads, Dropout(config.dropout)
        self.norm_text, self.norm_audio, self.norm_vision, self.norm = (nn.LayerNorm(d) for _ in range(4))
        self.q, self.k_audio, self.k_vision, self.v_audio, self.v_vision = (
            nn.Linear(d, d, bias=False) for _ in range(5)
        )
        self.out = nn.Linear(d, d)

    def forward(self, hyper: Tensor, text: Tensor, audio: Tensor, vision: Tensor) -> Tensor:
        """All (B, n, d)."""
        audio, vision = self.norm_audio(audio), self.norm_vision(vision)
        q = heads_of(self.q(self.norm_text(text)), self.heads)
        mixed = [
            masked_attention(q, heads_of(k(x), self.heads), heads_of(v(x), self.heads), None, 0.0)
            for x, k, v in ((audio, self.k_audio, self.v_audio), (vision, self.k_vision, self.v_vision))
        ]
        return self.norm(hyper) + self.drop(self.out((mixed[0] + mixed[1]).transpose(1, 2).flatten(2)))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText, emotions: int = 0):
        super().__init__()
        self.emotions = emotions
        n, d = config.tokens, config.d
        widths = {"text": text.width, "audio": dims["audio"], "vision": dims["vision"]}
        self.embed = nn.ModuleDict({m: Embedding(width, config) for m, width in widths.items()})
        self.text_positions = nn.Parameter(torch.randn(n, d))
        self.text_layers = nn.ModuleList(Layer(config) for _ in range(config.hyper_layers - 1))
        self.hyper = nn.Parameter(1 + NOISE * torch.randn(n, d))
        self.hyper_layers = nn.ModuleList(Hyper(config) for _ in range(config.hyper_layers))
        self.fusion_token = nn.Parameter(torch.zeros(1, d))
        self.hyper_positions = nn.Parameter(torch.randn(n + 1, d))  # the token's own first
        self.fusion_position = nn.Parameter(torch.randn(1, d))
        self.fusion_layers = nn.ModuleList(Layer(config) for _ in range(config.fusion_layers))
        self.predictor = nn.Linear(d, outputs(emotions))
        self.text = text

    def forward(self, batch: Batch) -> Output:
        text = self.embed["text"](self.text.states(batch.text), batch.text.device_lengths())  # (B, n, d)
        audio = self.embed["audio"](batch.audio.padded(), batch.audio.device_lengths())
        vision = self.embed["vision"](batch.vision.padded(), batch.vision.device_lengths())
        scales = [text + self.text_positions]
        for layer in self.text_layers:
            scales.append(layer(scales[-1], scales[-1]))
        hyper = self.hyper.expand(len(text), -1, -1)
        for layer, scale in zip(self.hyper_layers, scales, strict=True):
            hyper = layer(hyper, scale, audio, vision)
        token = self.fusion_token.expand(len(text), 1, -1)
        source, fused = torch.cat([token, hyper], 1) + self.hyper_positions, token + self.fusion_position
        for layer in self.fusion_layers:
            fused = layer(fused, source)
        multimodal = fused[:, 0]  # (B, d)
        return Output(as_prediction(self.predictor(multimodal), self.emotions), None, multimodal)
