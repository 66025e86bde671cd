"""MulT: multimodal transformer for unaligned multimodal language sequences (Tsai et al., ACL 2019).

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2); no unimodal representations.

    sec. 3.1  Conv1d(k) to d, sinusoidal positions                     (B, T_m, d) per modality
    sec. 3.2  crossmodal Transformers: for each target modality and each of the two others, queries from the target,
              keys and values from the other's low-level features      six of (B, T_target, d)
    sec. 3.1  concatenated per target, a self-attention Transformer    three of (B, T_m, 2d)
              the last step of each, concatenated                      (B, 6d)
              h + W2 drop(relu(W1 h)), Linear                          (B,) or (B, 2E)

The six crossmodal encoders are one stack of parameters and, where the modalities are aligned, run as one; so do the
three self-attention encoders (baselines/crossmodal.py). Of their last layer only the step that is read is computed.

BERT and XLNet forms: fine-tuned token states, d = 50, three layers, kernels 3, 1, 1: exactly the 110,838,399 parameters
of the paper's Table 8 on MOSI, and no other choice of sizes in a wide grid gives them.

Deviates:
1. An utterance is encoded as if it were alone: attention sees none of the padding, "the last step" is its own last, and
   the future mask is that of its own lengths. The reference pads every utterance and attends to the padding, so that
   what it predicts depends on the padding (`attend_padding=True` does that; token states are zeros there).
2. A modality whose feature size is d already is projected like the others; the reference code skips its convolution.
3. The paper's convolution keeps the length, the reference code's does not; equal for its kernel of 1
   (`same_length=False`: the code's. An utterance shorter than the kernel is then padded to it).
4. The learning rate does not fall on a plateau (reference: by 10 after 20 epochs without progress).
Reference implementations consulted: yaohungt/Multimodal-Transformer, thuiar/MMSA (no positions: `positions=False`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.crossmodal import Encoders, Plan, first_rows, last_step, make_plan
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.kernels.dropout import Dropout
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training
from hycon.transformer import positional_encoding

VERSION = 2
PAIRS: tuple[tuple[int, int], ...] = (
    (0, 1),
    (0, 2),
    (1, 0),
    (1, 2),
    (2, 0),
    (2, 1),
)  # (target, source), in the order of MODALITIES


@dataclass(frozen=True)
class Config:
    """The reference code's defaults. The GloVe form reads d, layers and the three kernels, the BERT and XLNet forms
    token_d, token_layers and token_kernel in their place; either ignores the other's."""

    d: int = 30  # the paper's supplement has 40
    heads: int = 5
    layers: int = 5
    text_kernel: int = 1
    audio_kernel: int = 1
    vision_kernel: int = 1
    text_dropout: float | None = None  # of the text's input; None: embed_dropout, as in the reference code
    attn_dropout: float = 0.1  # crossmodal where the source is text, as the next two; and of all three self-attentions
    attn_dropout_audio: float = 0.0
    attn_dropout_vision: float = 0.0
    relu_dropout: float = 0.1
    res_dropout: float = 0.1
    embed_dropout: float = 0.25
    out_dropout: float = 0.0
    future_mask: bool = True  # a step sees no later one (of the source: up to the difference of their lengths)
    positions: bool = True
    same_length: bool = True
    attend_padding: bool = False
    token_d: int = 50  # exact count of Table 8, as the next two
    token_layers: int = 3
    token_kernel: int = 3  # of the text; audio and vision 1


DROPOUTS = (0.0, 0.1, 0.2, 0.4)  # MSAF; its .6 and .8 are left out, chosen here
TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=24, epochs=40, clip=0.8),  # reference code
    # as HyCon's, the paper is silent; clip as with vectors
    "tokens": Training(lr=2e-5, batch_size=48, epochs=50, clip=0.8),
}
SEARCH_SPACE = {
    "vectors": {
        "heads": (2, 3, 5, 6, 10),  # MSAF
        "layers": (2, 3, 4, 5),  # MSAF
        "attn_dropout": DROPOUTS,  # MSAF, as the next six
        "attn_dropout_audio": DROPOUTS,
        "attn_dropout_vision": DROPOUTS,
        "relu_dropout": DROPOUTS,
        "res_dropout": DROPOUTS,
        "embed_dropout": DROPOUTS,
        "out_dropout": DROPOUTS,
        "text_kernel": (1, 3),  # supplement: 1 to 3, as the next two
        "audio_kernel": (1, 3),
        "vision_kernel": (1, 3),
        "lr": (5e-4, 1e-3, 2e-3),  # MMSA, without its 5e-3
        "batch_size": (16, 32, 64),  # MSAF, without its 128
        "scale": ("none", "standard"),  # chosen here
    },
    "tokens": {  # no source searches a MulT over BERT; chosen here, from
        "attn_dropout": (0.1, 0.2, 0.3),  # MMSA's
        "embed_dropout": (0.1, 0.25),  # MMSA's .1 and the reference code's
        "out_dropout": (0.0, 0.1),  # the reference code's and the supplement's
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
        "scale": ("none", "standard"),  # as with vectors
    },
}
ABLATIONS = {"positions": {"positions": False}, "future-mask": {"future_mask": False}}
REMOVED = {"positions": "the position embeddings", "future-mask": "the mask that hides later steps"}
DEMO = {"vectors": {"d": 20, "layers": 1, "heads": 5}, "tokens": {"token_d": 20, "token_layers": 1}}  # demo profile


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.config, self.emotions, self.text = config, emotions, text
        d, layers = (config.d, config.layers) if text is None else (config.token_d, config.token_layers)
        kernels = (config.text_kernel, config.audio_kernel, config.vision_kernel)
        if text is not None:
            kernels = (config.token_kernel, 1, 1)
        # they hold and initialise the weights, no more: `_convolve` reads them
        self.convs = nn.ModuleList(
            nn.Conv1d(dims[m], d, k, bias=False) for m, k in zip(MODALITIES, kernels, strict=True)
        )
        drops = (config.attn_dropout, config.attn_dropout_audio, config.attn_dropout_vision)
        shared = {"relu_dropout": config.relu_dropout, "res_dropout": config.res_dropout}
        self.cross = Encoders(d, config.heads, layers, attn_dropout=[drops[s] for _, s in PAIRS], **shared)
        self.within = Encoders(2 * d, config.heads, max(layers, 3), attn_dropout=[config.attn_dropout] * 3, **shared)
        self.embed_drop = Dropout(config.embed_dropout)
        self.text_drop = self.embed_drop if config.text_dropout is None else Dropout(config.text_dropout)
        self.out_drop = Dropout(config.out_dropout)
        self.proj1, self.proj2 = nn.Linear(6 * d, 6 * d), nn.Linear(6 * d, 6 * d)
        self.out = nn.Linear(6 * d, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        device, sequences = batch.label.device, self._sequences(batch)
        order = torch.argsort(torch.stack([s.lengths for s in sequences]).sum(0), descending=True, stable=True)
        rows, lengths = self._low_level([s.take(order) for s in sequences])
        low = [self._embed(x, n) for x, n in zip(rows, lengths, strict=True)]
        plans = self._plans(lengths, device)
        mixed = self._crossmodal(low, plans)
        both = [self._embed(torch.cat(mixed[2 * m : 2 * m + 2], -1), n) for m, n in enumerate(lengths)]  # (R_m, 2d)
        h = torch.cat(self._last_steps(both, lengths, plans), -1)  # (B, 6d), longest first
        h = h[torch.argsort(order).to(device, non_blocking=True)]
        multimodal = h + self.proj2(self.out_drop(F.relu(self.proj1(h))))
        return Output(as_prediction(self.out(multimodal), self.emotions), None, multimodal)

    def _plans(self, lengths: list[Tensor], device: torch.device) -> dict[tuple[int, int], Plan]:
        """How each (target, source) attends; one entry where the modalities are aligned and all do alike."""
        aligned = all(torch.equal(n, lengths[0]) for n in lengths)
        pairs = PAIRS[:1] if aligned else (*PAIRS, (0, 0), (1, 1), (2, 2))
        return {(t, s): make_plan(lengths[t], lengths[s], self.config.future_mask, device) for t, s in pairs}

    def _crossmodal(self, low: list[Tensor], plans: dict[tuple[int, int], Plan]) -> list[Tensor]:
        """(R_target, d) of each pair."""
        groups = [PAIRS] if len(plans) == 1 else [(pair,) for pair in PAIRS]
        mixed: list[Tensor] = []
        for group in groups:
            which = slice(len(mixed), len(mixed) + len(group))
            targets = self.embed_drop(torch.stack([low[t] for t, _ in group]))
            sources = torch.stack([low[s] for _, s in group])
            # keys and values have a dropout of their own, as the reference has it
            sources = self.embed_drop(sources.expand(2, *sources.shape))
            mixed += self.cross(targets, plans[group[0]], which, sources).unbind(0)
        return mixed

    def _last_steps(
        self, both: list[Tensor], lengths: list[Tensor], plans: dict[tuple[int, int], Plan]
    ) -> list[Tensor]:
        """(B, 2d) of each target modality."""
        aligned = len(plans) == 1
        groups: list[tuple[int, ...]] = [(0, 1, 2)] if aligned else [(0,), (1,), (2,)]
        last: list[Tensor] = []
        for group in groups:
            first = group[0]
            plan = plans[PAIRS[0] if aligned else (first, first)]
            own = lengths[first]
            read = ((own.cumsum(0) - 1).to(both[first].device, non_blocking=True), last_step(plan, own))
            states = self.embed_drop(torch.stack([both[m] for m in group]))
            last += self.within(states, plan, slice(first, first + len(group)), read=read).unbind(0)
        return last

    def _sequences(self, batch: Batch) -> list[Ragged]:
        text = batch.text
        if self.text is not None:
            states = self.text.states(text)  # (B, T, D)
            starts = torch.arange(len(states), device=states.device) * states.shape[1]
            text = Ragged(states.flatten(0, 1), starts, text.lengths)
        sequences = {"text": text, "audio": batch.audio, "vision": batch.vision}
        if not self.config.attend_padding:
            return list(sequences.values())
        return [_with_padding(s, batch.layout.lengths[m], batch.layout.side) for m, s in sequences.items()]

    def _low_level(self, sequences: list[Ragged]) -> tuple[list[Tensor], list[Tensor]]:
        """Each modality's convolved rows (R, d), and each utterance's length (B,) there."""
        x, lengths = [], []
        for i, (sequence, conv) in enumerate(zip(sequences, self.convs, strict=True)):
            rows = sequence.rows.index_select(0, _places(sequence))  # (R, d_m)
            if i == 0:
                rows = self.text_drop(rows)
            convolved, own = _convolve(rows, sequence.lengths, conv.get_parameter("weight"), self.config.same_length)
            x.append(convolved)
            lengths.append(own)
        return x, lengths

    def _embed(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """sqrt(d) x and a position; as in the reference a step whose first channel is exactly 0 has none."""
        scaled = math.sqrt(rows.shape[1]) * rows
        if not self.config.positions:
            return scaled
        encoding = positional_encoding(int(lengths.max()), rows.shape[1], rows.device)
        return scaled + encoding[_steps(lengths, rows.device)] * (rows[:, :1] != 0)


def _each_step(x: Tensor, lengths: Tensor, device: torch.device) -> Tensor:
    """(R,): x (B,) of each utterance, for each of its steps. lengths: (B,) on the CPU, so that R is known at once."""
    own = lengths.to(device, non_blocking=True)
    return torch.repeat_interleave(x.to(device, non_blocking=True), own, output_size=int(lengths.sum()))


def _steps(lengths: Tensor, device: torch.device) -> Tensor:
    """(R,): 0, 1, ... for each utterance."""
    return torch.arange(int(lengths.sum()), device=device) - _each_step(first_rows(lengths), lengths, device)


def _places(sequences: Ragged) -> Tensor:
    """(R,): where the utterances' rows are among sequences.rows, one utterance after the other."""
    lengths, device = sequences.lengths, sequences.rows.device
    return _each_step(sequences.starts, lengths, device) + _steps(lengths, device)


def _convolve(rows: Tensor, lengths: Tensor, weight: Tensor, same_length: bool) -> tuple[Tensor, Tensor]:
    """Conv1d without bias over each utterance by itself: rows (R, in), weight (d, in, k) -> (R', d), lengths (B,).

    same_length: zeros on both sides. Otherwise k - 1 steps fewer, and one at least.
    """
    kernel, device = weight.shape[2], rows.device
    if kernel == 1:
        return rows @ weight[:, :, 0].t(), lengths
    out = lengths if same_length else (lengths - kernel + 1).clamp(min=1)
    tap = torch.arange(kernel, device=device)
    place = _steps(out, device)[:, None] + tap - ((kernel - 1) // 2 if same_length else 0)  # (R', k)
    own, start = (_each_step(x, out, device)[:, None] for x in (lengths, first_rows(lengths)))
    index = (start + place).masked_fill_((place < 0) | (place >= own), len(rows))
    # what each row gives to each of k places, and a row of zeros for what is beyond the ends
    given = F.pad(rows @ weight.permute(1, 2, 0).flatten(1), (0, 0, 0, 1)).unflatten(1, (kernel, -1))  # (R + 1, k, d)
    return given[index, tap].sum(1), out


def _with_padding(sequences: Ragged, nominal: int, side: str) -> Ragged:
    """The same sequences, the padding to `nominal` being rows like any others."""
    rows = sequences.padded(nominal, side)
    lengths = torch.full_like(sequences.lengths, nominal)
    return Ragged(rows.flatten(0, 1), torch.arange(len(rows), device=rows.device) * nominal, lengths)
