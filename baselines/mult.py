"""MulT: multimodal transformer for unaligned multimodal language sequences (Tsai et al., ACL 2019).

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2); no unimodal representations.

    sec. 3.1  Conv1d(k) to d, sinusoidal positions                     (B, T_m, d) per modality
    sec. 3.2  crossmodal Transformers: for each target modality and each of the two others, queries from the target,
              keys and values from the other's low-level features      six of (B, T_target, d)
    sec. 3.1  concatenated per target, a self-attention Transformer    three of (B, T_m, 2d)
              the last step of each, concatenated                      (B, 6d)
              h + W2 drop(relu(W1 h)), Linear                          (B,) or (B, 2E)

The six crossmodal encoders are one stack of parameters and, where the modalities are aligned, run as one; so do the
three self-attention encoders. Of their last layer only the step that is read is computed. Inside, the steps of all
utterances are R rows without padding; only attention pads (hycon/kernels/padding.py).

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Both, Ragged, rows_in_order
from hycon.errors import UserError
from hycon.kernels.attention import attention
from hycon.kernels.convolution import convolve
from hycon.kernels.dropout import Dropout
from hycon.kernels.feed_forward import feed_forward, keys_values, linears
from hycon.kernels.padding import Plan, chunk_order, last_rows, last_step, make_plan
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training
from hycon.transformer import Steps, steps_of_each

VERSION = 4
Pairs = tuple[tuple[int, int], ...]  # (target, source) as indexes into MODALITIES
PAIRS: Pairs = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
SELF: Pairs = ((0, 0), (1, 1), (2, 2))
Plans = dict[tuple[int, int], Plan]  # how each pair attends


@dataclass(frozen=True)
class Config:
    """The reference code's defaults. Each form ignores what `without_effect` names."""

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


DROPOUTS = (0.0, 0.1, 0.2, 0.4)  # MSAF, which draws the self-attentions' apart; its .6, .8 are left out, chosen here
TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=24, clip=0.8),  # reference code
    "tokens": Training(lr=2e-5, batch_size=48, clip=0.8),  # as HyCon's, the paper is silent; clip as above
}
SEARCH_SPACE = {
    "vectors": {
        "heads": (2, 3, 5, 6, 10),  # MSAF
        "layers": (2, 3, 4, 5),  # MSAF
        **{f"{name}_dropout": DROPOUTS for name in ("attn", "relu", "res", "embed", "out")},  # MSAF, as the next two
        "attn_dropout_audio": DROPOUTS,
        "attn_dropout_vision": DROPOUTS,
        **{f"{m}_kernel": (1, 3) for m in MODALITIES},  # supplement: 1 to 3
        "lr": (5e-4, 1e-3, 2e-3, 5e-3),  # MMSA
        "batch_size": (16, 24, 32, 64, 128),  # MSAF, and the reference code's 24; the supplement has 128
        "clip": (0.2, 0.4, 0.6, 0.8),  # MSAF: .1 to .8; reference code .8
        "scale": ("none", "standard"),  # chosen here
    },
    "tokens": {  # no source searches a MulT over BERT; chosen here, from
        **{f"{name}_dropout": (0.1, 0.2, 0.3) for name in ("attn", "relu", "res")},  # around the code's .1
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


def without_effect(config: Config, form: str) -> set[str]:
    """Options of the other form."""
    if form == "vectors":
        return {"token_d", "token_layers", "token_kernel"}
    return {"d", "layers", "text_kernel", "audio_kernel", "vision_kernel"}


class Encoders(nn.Module):
    """P Transformer encoders of one shape: layers as hycon.transformer.EncoderLayer (pre-LN, feed-forward 4d), a norm.

    Every matrix is (layers, P, in, out). attn_dropout: one probability per encoder.
    """

    def __init__(
        self, d: int, heads: int, layers: int, *, attn_dropout: Sequence[float], relu_dropout: float, res_dropout: float
    ):
        super().__init__()
        if d % heads:
            raise UserError(f"A width of {d} is not divisible by {heads} heads; choose heads that divide it.")
        self.heads, self.attn_dropout = heads, tuple(attn_dropout)
        self.relu_dropout, self.res_drop = relu_dropout, Dropout(res_dropout)
        shape = (layers, len(self.attn_dropout))
        self.qkv, self.qkv_bias = _xavier(shape, d, 3 * d)  # queries, keys, values
        self.out, self.out_bias = _xavier(shape, d, d)
        self.fc1, self.fc1_bias = _xavier(shape, d, 4 * d)
        self.fc2, self.fc2_bias = _xavier(shape, 4 * d, d)
        self.norm1, self.norm1_bias = _norm(*shape, d)
        self.norm2, self.norm2_bias = _norm(*shape, d)
        self.norm, self.norm_bias = _norm(shape[1], d)

    def layer_weights(self, which: slice) -> list[dict[str, Tensor]]:
        """The weights of encoders `which`, by layer; each layer norm's scale and shift are part of what follows it."""
        weights = {name: p[:, which] for name, p in self.named_parameters() if p.dim() > 2}
        for norm, linear in (("norm1", "qkv"), ("norm2", "fc1")):
            scale, shift = weights.pop(norm), weights.pop(f"{norm}_bias")
            weights[f"{linear}_bias"] = weights[f"{linear}_bias"] + (shift[:, :, None] @ weights[linear])[:, :, 0]
            weights[linear] = scale[..., None] * weights[linear]
        for name in ("qkv", "qkv_bias"):  # queries, and keys with values
            p = weights.pop(name)
            width = p.shape[-1] // 3
            weights[name.replace("qkv", "q")], weights[name.replace("qkv", "kv")] = p.split([width, 2 * width], -1)
        by_layer = {name: p.unbind(0) for name, p in weights.items()}
        return [{name: p[layer] for name, p in by_layer.items()} for layer in range(len(self.qkv))]

    def forward(
        self,
        x: Tensor,
        plan: Plan,
        which: slice,
        source: Tensor | None = None,
        ends: tuple[Both, Tensor] | None = None,
    ) -> Tensor:
        """x: (P, R, d) what encoders `which` start from.  source: (2, P, R', d) what keys and values come from, the
        same for all layers, or None for x itself.  ends: lengths (B,) and rows' owners (R,), if only last steps count.

        Returns (P, R, d) or (P, B, d).
        """
        d, weights = x.shape[-1], self.layer_weights(which)
        p = [p if self.training else 0.0 for p in self.attn_dropout[which]]
        p_relu = self.relu_dropout if self.training else 0.0
        other = None if source is None else keys_values(source, weights)
        for layer, w in enumerate(weights):
            rows = F.layer_norm(x, (d,))
            keys, values = other[layer] if other else linears(rows, w["kv"], w["kv_bias"]).chunk(2, -1)
            if ends is not None and layer == len(weights) - 1:  # no other step of the last layer is read
                rows, x, plan = last_rows(rows, *ends), last_rows(x, *ends), last_step(plan, ends[0])
            mixed = attention(linears(rows, w["q"], w["q_bias"]), keys, values, plan, self.heads, p)
            x = x + self.res_drop(linears(mixed, w["out"], w["out_bias"]))
            rows = F.layer_norm(x, (d,))
            x = x + self.res_drop(feed_forward(rows, w["fc1"], w["fc1_bias"], w["fc2"], w["fc2_bias"], p_relu))
        return torch.addcmul(self.norm_bias[which, None], F.layer_norm(x, (d,)), self.norm[which, None])


def _xavier(shape: tuple[int, ...], inputs: int, out: int) -> tuple[nn.Parameter, nn.Parameter]:
    bound = math.sqrt(6 / (inputs + out))
    weight = nn.Parameter(torch.empty(*shape, inputs, out).uniform_(-bound, bound))
    return weight, nn.Parameter(torch.zeros(*shape, out))


def _norm(*shape: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.config, self.emotions, self.text = config, emotions, text
        d, layers, kernels = config.d, config.layers, [getattr(config, f"{m}_kernel") for m in MODALITIES]
        if text is not None:
            d, layers, kernels = config.token_d, config.token_layers, [config.token_kernel, 1, 1]
        convs = (nn.Conv1d(dims[m], d, k, bias=False) for m, k in zip(MODALITIES, kernels, strict=True))
        self.convs = nn.ModuleList(convs)  # for their weights, which `convolve` reads
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
        sequences = self._sequences(batch)
        order = chunk_order(sequences[0].both.map(lambda *x: torch.stack(x).sum(0), *(s.both for s in sequences[1:])))
        rows, steps = self._low_level(sequences if order is None else [s.take(order) for s in sequences])
        plans = self._plans([step.lengths for step in steps])
        low = [self._embed(x, step) for x, step in zip(rows, steps, strict=True)]  # three (R_m, d)
        mixed = self._crossmodal(low, plans)  # six (R_target, d)
        both = [self._embed(torch.cat(mixed[2 * m : 2 * m + 2], -1), step) for m, step in enumerate(steps)]  # (R_m, 2d)
        h = torch.cat(self._last_steps(both, steps, plans), -1)  # (B, 6d), in that order
        h = h if order is None else h[torch.argsort(order.device)]
        multimodal = h + self.proj2(self.out_drop(F.relu(self.proj1(h))))
        return Output(as_prediction(self.out(multimodal), self.emotions), None, multimodal)

    def _sequences(self, batch: Batch) -> list[Ragged]:
        """The three modalities; text as token states, and the padding as steps like any others, where asked for."""
        text = batch.text if self.text is None else Ragged.from_padded(self.text.states(batch.text), batch.text.both)
        sequences, layout = [text, batch.audio, batch.vision], batch.layout
        if not self.config.attend_padding:
            return sequences
        padded = [s.padded(layout.lengths[m], layout.side) for m, s in zip(MODALITIES, sequences, strict=True)]
        full = [
            s.both.map(partial(torch.full_like, fill_value=x.shape[1])) for s, x in zip(sequences, padded, strict=True)
        ]
        return [Ragged.from_padded(x, lengths) for x, lengths in zip(padded, full, strict=True)]

    def _low_level(self, sequences: list[Ragged]) -> tuple[list[Tensor], list[Steps]]:
        """Each modality's convolved rows (R, d), and where they lie."""
        steps = steps_of_each([s.both for s in sequences])
        text, audio, vision = (
            rows_in_order(s, step.places) for s, step in zip(sequences, steps, strict=True)
        )  # (R, d_m)
        convolved = [
            convolve(rows, s.lengths, conv.get_parameter("weight"), self.config.same_length)
            for rows, s, conv in zip((self.text_drop(text), audio, vision), steps, self.convs, strict=True)
        ]
        kept = all(n is s.lengths for (_, n), s in zip(convolved, steps, strict=True))
        return [x for x, _ in convolved], steps if kept else steps_of_each([n for _, n in convolved])

    def _embed(self, rows: Tensor, steps: Steps) -> Tensor:
        """sqrt(d) x and a position; as in the reference a step whose first channel is exactly 0 has none."""
        scaled = math.sqrt(rows.shape[1]) * rows
        if not self.config.positions:
            return scaled
        return scaled + steps.encoding(rows.shape[1]) * (rows[:, :1] != 0)

    def _plans(self, lengths: list[Both]) -> Plans:
        """One plan for all where the modalities are aligned."""
        future_mask = self.config.future_mask
        if all(n is lengths[0] for n in lengths):
            return dict.fromkeys(PAIRS + SELF, make_plan(lengths[0], lengths[0], future_mask))
        return {(t, s): make_plan(lengths[t], lengths[s], future_mask) for t, s in PAIRS + SELF}

    def _crossmodal(self, low: list[Tensor], plans: Plans) -> list[Tensor]:
        """(R_target, d) of each of PAIRS."""
        mixed: list[Tensor] = []
        for group in _groups(PAIRS, plans):
            targets = self.embed_drop(torch.stack([low[t] for t, _ in group]))
            sources = torch.stack([low[s] for _, s in group])
            sources = self.embed_drop(sources.expand(2, *sources.shape))  # keys' and values' own; reference code
            which = slice(len(mixed), len(mixed) + len(group))
            mixed += self.cross(targets, plans[group[0]], which, sources).unbind(0)
        return mixed

    def _last_steps(self, both: list[Tensor], steps: list[Steps], plans: Plans) -> list[Tensor]:
        """(B, 2d) of each target modality."""
        last: list[Tensor] = []
        for group in _groups(SELF, plans):
            plan, own = plans[group[0]], steps[group[0][0]]
            ends = own.lengths, own.places.owner
            states = self.embed_drop(torch.stack([both[m] for m, _ in group]))
            last += self.within(states, plan, slice(len(last), len(last) + len(group)), ends=ends).unbind(0)
        return last


def _groups(pairs: Pairs, plans: Plans) -> list[Pairs]:
    """All pairs at once where they share one plan, else each by itself."""
    shared = all(plans[pair] is plans[pairs[0]] for pair in pairs)
    return [pairs] if shared else [(pair,) for pair in pairs]
