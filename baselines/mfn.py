"""MFN: memory fusion network (Zadeh et al., AAAI 2018).

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations; multimodal (B, h + m).

    System of LSTMs                 one LSTM a modality -> hidden states h_t and memories c_t of all three
    Delta-memory Attention Network  c* = [c_{t-1}; c_t], a = softmax(NN1(c*)), c^ = a o c*
    Multi-view Gated Memory         u^ = tanh(NN2(c^)), g1 = sigmoid(NN3([c^; u_{t-1}])),
                                    g2 = sigmoid(NN4([c^; u_{t-1}])), u_t = g1 o u_{t-1} + g2 o u^
    output                          NN5([h_T; u_T]); every NN is Linear -> relu -> dropout -> Linear

GloVe form: word vectors. BERT and XLNet forms: the fine-tuned token states as they are, over word pieces.
Only the memory u is recurrent: all else is computed for all steps of all utterances at once, on rows without padding,
and of g1 and g2 only what reads u_{t-1} runs step by step (`_Memory`).

The paper's Table 8 gives MFN-BERT 111,256,325 parameters; no natural configuration has that many. The nearest one is
this file's: MMSA's MOSI sizes on unprojected 768/74/47 features behind a BERT without pooler, 111,100,785.

Deviates:
1. Stops at the utterance's own last step; the reference codes run on through the padding.
2. L1 and Adam without the reference's plateau schedule, whose patience of 100 epochs never ends within its 50.
3. Vision as it comes; the official code divides it by the training split's largest (`scale=maxabs`).
Reference implementations consulted: pliang279/MFN, thuiar/MMSA (whose MOSI setting feeds audio and vision as repeated
means of the utterance; here they are what the corpus has at each word).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.config import later
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.kernels.dropout import Dropout, dropout
from hycon.kernels.lstm import packed_states
from hycon.kernels.packing import packed_order, packed_rows, rows_before, step_before
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1
NEEDS_ALIGNED = True
CHUNK = 256  # rows that fit a core's cache, a few times over


@dataclass(frozen=True)
class Config:
    """MMSA's setting for MOSI: the paper prints none. Each NN's dropout is that of its hidden layer."""

    text_hidden: int = 256
    audio_hidden: int = 32
    vision_hidden: int = 256
    memory: int = 400
    attention_hidden: int = 32  # NN1
    attention_dropout: float = 0.2
    proposal_hidden: int = 64  # NN2
    proposal_dropout: float = 0.0
    retain_hidden: int = 256  # g1
    retain_dropout: float = 0.7
    update_hidden: int = 32  # g2
    update_dropout: float = 0.5
    out_hidden: int = 128
    out_dropout: float = 0.0
    attention: bool = later(True)  # False, here and next: for `bench ablate`
    gated_memory: bool = later(True)


SHAPES = (32, 64, 128, 256)  # official, of every NN's hidden layer
DROPOUTS = (0.0, 0.2, 0.5, 0.7)  # official, of every NN
TRAINING = {
    "vectors": Training(lr=2e-3, batch_size=128, epochs=50),  # lr, batch: MMSA on MOSI; epochs: official
    "tokens": Training(lr=2e-5, batch_size=48, epochs=50),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "text_hidden": (32, 64, 88, 128, 156, 256),  # official, as all but the last; MSAF's are among them
        "audio_hidden": (8, 16, 32, 48, 64, 80),
        "vision_hidden": (8, 16, 32, 48, 64, 80),
        "memory": (64, 128, 256, 300, 400),
        "attention_hidden": SHAPES,
        "proposal_hidden": SHAPES,
        "retain_hidden": SHAPES,
        "update_hidden": SHAPES,
        "out_hidden": SHAPES,
        "attention_dropout": DROPOUTS,
        "proposal_dropout": DROPOUTS,
        "retain_dropout": DROPOUTS,
        "update_dropout": DROPOUTS,
        "out_dropout": DROPOUTS,
        "lr": (0.001, 0.002, 0.005, 0.008, 0.01),
        "batch_size": (32, 64, 128, 256),
        "scale": ("none", "standard", "maxabs"),  # maxabs: official, for vision; standard chosen here
    },
    "tokens": {  # no source searches an MFN over BERT; chosen here, from
        "memory": (128, 256, 400),  # the official values, as the next two
        "attention_dropout": (0.0, 0.2, 0.5),
        "out_dropout": (0.0, 0.2, 0.5),
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
        "scale": ("none", "standard"),  # standard chosen here
    },
}
ABLATIONS = {"attention": {"attention": False}, "memory": {"gated_memory": False}}
REMOVED = {
    "attention": "the Delta-memory Attention Network: the memory reads the window of cells as it is",
    "memory": "the Multi-view Gated Memory: the head reads what the attention gives at the last step",
}


def without_effect(config: Config) -> set[str]:
    """Hyper-parameters of what this configuration does not have."""
    gone = set() if config.attention else {"attention_hidden", "attention_dropout"}
    if not config.gated_memory:
        gone |= {"memory"} | {f"{n}_{kind}" for n in ("proposal", "retain", "update") for kind in ("hidden", "dropout")}
    return gone


@dataclass(frozen=True)
class Packing:
    """How packed rows lie: sizes, utterances alive at each step; last (B,), the row where each utterance ends; order
    (B,), the utterance of each row of the first step; before, as hycon.kernels.lstm.rows_before gives it."""

    sizes: list[int]
    last: Tensor
    order: Tensor
    before: Tensor | None

    def step_before(self, rows: Tensor) -> Tensor:
        """(R, d) -> (R - B, d): the row of the step before, of each row but the first steps'."""
        return step_before(rows, self.sizes[0], self.before)

    def shifted(self, rows: Tensor) -> Tensor:
        """(R, d) -> (R, d): each row's row of the step before, zeros at first steps."""
        return F.pad(self.step_before(rows), (0, 0, self.sizes[0], 0))


class LSTMs(nn.Module):
    """System of LSTMs: Batch -> {modality: (hidden (R, h_m), cell (R, h_m))} in packed order, and the packing."""

    def __init__(self, dims: Mapping[str, int], hidden: Mapping[str, int], text: PretrainedText | None):
        super().__init__()
        self.text = text
        widths = {**dims, "text": text.width if text else dims["text"]}
        self.lstms = nn.ModuleDict({m: nn.LSTM(widths[m], hidden[m]) for m in MODALITIES})

    def forward(self, batch: Batch) -> tuple[dict[str, tuple[Tensor, Tensor]], Packing]:
        sizes, *indices = packed_order(batch.text.lengths)
        device = batch.label.device
        sequence, step, last = (i.to(device, non_blocking=True) for i in indices)
        before = rows_before(sizes, device)
        rows = {m: packed_rows(getattr(batch, m), sequence, step) for m in ("audio", "vision")}
        if self.text is None:
            rows["text"] = packed_rows(batch.text, sequence, step)
        else:
            rows["text"] = self.text.states(batch.text)[sequence, step]
        states = {m: packed_states(self.lstms[m], rows[m], sizes, before) for m in MODALITIES}  # type: ignore[arg-type]
        return states, Packing(sizes, last, sequence[: sizes[0]], before)


class TwoLayer(nn.Module):
    """NN of the paper: Linear -> relu -> dropout -> Linear."""

    def __init__(self, width: int, hidden: int, out: int, dropout: float):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, out)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.hidden(self.fc1(x)))

    def hidden(self, x: Tensor) -> Tensor:
        """What the second layer reads, given what the first one gives."""
        return self.drop(F.relu(x))


class DeltaAttention(TwoLayer):
    """Delta-memory Attention Network: c* (R, 2h) -> softmax(NN(c*)) o c*."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(width, hidden, width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(self.fc1(x))
        with torch.autocast(x.device.type, enabled=False):
            weight = self.fc2.weight
            return _Attend.apply(hidden.to(weight.dtype), weight, self.fc2.bias, x.to(weight.dtype))


class _Attend(torch.autograd.Function):
    """softmax(Linear(hidden)) o x, a few rows at a time: on a CPU they stay in cache from one operation to the next.

    hidden (R, k), weight (n, k), bias (n,), x (R, n) -> (R, n).
    """

    @staticmethod
    def forward(ctx: Any, hidden, weight, bias, x):  # type: ignore[override]
        attention, attended = torch.empty_like(x), torch.empty_like(x)
        up = weight.t()
        for z, x_c, a, out in zip(*(t.split(_chunk(x)) for t in (hidden, x, attention, attended)), strict=True):
            torch.addmm(bias, z, up, out=a)
            a.sub_(a.amax(1, keepdim=True)).exp_()
            a.div_(a.sum(1, keepdim=True))
            torch.mul(a, x_c, out=out)
        ctx.save_for_backward(hidden, weight, x, attention)
        return attended

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        hidden, weight, x, attention = ctx.saved_tensors
        dx, dz, dw, db = (
            torch.empty_like(x),
            torch.empty_like(hidden),
            torch.zeros_like(weight),
            x.new_zeros(x.shape[1]),
        )
        chunks = (t.split(_chunk(x)) for t in (grad, hidden, x, attention, dx, dz))
        for g, z, x_c, a, dx_c, dz_c in zip(*chunks, strict=True):
            torch.mul(g, a, out=dx_c)
            d = dx_c * x_c  # g o x o a: of the softmax, a (g x - sum(a g x))
            d.addcmul_(a, d.sum(1, keepdim=True), value=-1)
            torch.mm(d, weight, out=dz_c)
            dw.addmm_(d.t(), z)
            db += d.sum(0)
        return dz, dw, db, dx


def _chunk(x: Tensor) -> int:
    """Rows to work on at once."""
    return CHUNK if x.device.type == "cpu" else len(x)


class GatedMemory(nn.Module):
    """Multi-view Gated Memory: (R, width) packed rows -> (B, memory), the memory after each utterance's last step.

    config needs memory and {proposal,retain,update}_{hidden,dropout}.
    """

    def __init__(self, width: int, config: Any):
        super().__init__()
        m = config.memory
        self.proposal = TwoLayer(width, config.proposal_hidden, m, config.proposal_dropout)
        self.retain = TwoLayer(width + m, config.retain_hidden, m, config.retain_dropout)
        self.update = TwoLayer(width + m, config.update_hidden, m, config.update_dropout)
        self.width = width

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        proposal, gates = self.proposal, (self.retain, self.update)
        weights = [proposal.fc1.weight, *(gate.fc1.weight[:, : self.width] for gate in gates)]
        biases: list[Tensor] = [proposal.fc1.bias, *(gate.fc1.bias for gate in gates)]
        first = F.linear(x, torch.cat(weights), torch.cat(biases))  # one product for all that reads x
        proposed, inputs = first.split([len(weights[0]), len(weights[1]) + len(weights[2])], 1)
        u = torch.tanh(proposal.fc2(proposal.hidden(proposed)))
        kept = [dropout(inputs.new_ones(len(x), gate.fc1.out_features), gate.drop.p, self.training) for gate in gates]
        recurrent = torch.cat([gate.fc1.weight[:, self.width :] for gate in gates])
        second = [p for gate in gates for p in (gate.fc2.weight, gate.fc2.bias)]
        with torch.autocast(x.device.type, enabled=False):
            rows = (y.to(recurrent.dtype) for y in (inputs, u, torch.cat(kept, 1)))
            return _Memory.apply(*rows, recurrent, *second, packing)


class _Memory(torch.autograd.Function):
    """u_t = g1 o u_{t-1} + g2 o u^ over packed rows, its backward pass written out.

    inputs (R, k1 + k2): what both gates' hidden layers get from x.  u (R, m): proposals.  kept (R, k1 + k2): their
    dropout's mask, scaled.  recurrent (k1 + k2, m): their weights on u_{t-1}.  w1 (m, k1), b1, w2 (m, k2), b2: their
    second layers.  Gives u (B, m) after each utterance's last step.
    """

    @staticmethod
    def forward(ctx: Any, inputs, u, kept, recurrent, w1, b1, w2, b2, packing: Packing):  # type: ignore[override]
        k1, sizes = w1.shape[1], packing.sizes
        hidden = inputs.clone(memory_format=torch.contiguous_format)  # becomes relu(.) o kept in place
        g1, g2, memory = (torch.empty_like(u) for _ in range(3))
        onto, up1, up2 = recurrent.t().contiguous(), w1.t().contiguous(), w2.t().contiguous()
        blocks = (hidden, hidden[:, :k1], hidden[:, k1:], kept, u, g1, g2, memory)
        before = None
        for n, z, z1, z2, keep, u_t, a, b, out in zip(sizes, *(x.split(sizes) for x in blocks), strict=True):
            if before is not None:
                z.addmm_(before[:n], onto)
            z.relu_().mul_(keep)
            torch.addmm(b1, z1, up1, out=a).sigmoid_()
            torch.addmm(b2, z2, up2, out=b).sigmoid_()
            torch.mul(b, u_t, out=out)
            if before is not None:
                out.addcmul_(a, before[:n])
            before = out
        ctx.save_for_backward(u, kept, recurrent, w1, w2, hidden, g1, g2, memory)
        ctx.packing = packing
        return memory[packing.last]

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        u, kept, recurrent, w1, w2, hidden, g1, g2, memory = ctx.saved_tensors
        packing: Packing = ctx.packing
        sizes, first, k1 = packing.sizes, packing.sizes[0], w1.shape[1]
        d1, d2 = _gate_derivatives(g1, g2, u, memory, packing)
        du, dz = torch.empty_like(u), torch.empty_like(hidden)
        dm = grad[packing.order]  # by rank: an utterance's row is first touched at its last step
        blocks = (d1, d2, g1, g2, du, dz, dz[:, :k1], dz[:, k1:], hidden, kept)
        steps = list(zip(sizes, *(x.split(sizes) for x in blocks), strict=True))
        for step in range(len(sizes) - 1, -1, -1):
            n, d1_t, d2_t, a, b, du_t, z, z1, z2, hidden_t, kept_t = steps[step]
            d = dm[:n]
            torch.mul(d, b, out=du_t)
            torch.mm(d1_t.mul_(d), w1, out=z1)
            torch.mm(d2_t.mul_(d), w2, out=z2)
            torch.ops.aten.threshold_backward.grad_input(z, hidden_t, 0, grad_input=z).mul_(kept_t)
            if step:
                d.mul_(a).addmm_(z, recurrent)
        d_recurrent = dz[first:].t() @ packing.step_before(memory)
        dw1, dw2 = d1.t() @ hidden[:, :k1], d2.t() @ hidden[:, k1:]
        return dz, du, None, d_recurrent, dw1, d1.sum(0), dw2, d2.sum(0), None


def _gate_derivatives(g1: Tensor, g2: Tensor, u: Tensor, memory: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """(R, m), (R, m): d(memory)/d(pre-activation) of the two gates."""
    first = packing.sizes[0]
    d1 = torch.empty_like(g1)
    d1[:first].zero_()
    torch.mul(packing.step_before(memory), g1[first:], out=d1[first:])  # u_{t-1} g1 (1 - g1)
    d1.addcmul_(d1, g1, value=-1)
    d2 = u * g2
    return d1, d2.addcmul_(d2, g2, value=-1)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.emotions = emotions
        hidden = {m: getattr(config, f"{m}_hidden") for m in MODALITIES}
        total = sum(hidden.values())
        self.lstms = LSTMs(dims, hidden, text)
        self.attention: nn.Module = nn.Identity()
        if config.attention:
            self.attention = DeltaAttention(2 * total, config.attention_hidden, config.attention_dropout)
        self.memory = GatedMemory(2 * total, config) if config.gated_memory else None
        width = total + (config.memory if config.gated_memory else 2 * total)
        self.out = TwoLayer(width, config.out_hidden, outputs(emotions), config.out_dropout)

    def forward(self, batch: Batch) -> Output:
        states, packing = self.lstms(batch)
        cells = torch.cat([states[m][1] for m in MODALITIES], 1)  # (R, h)
        window = torch.cat([packing.shifted(cells), cells], 1)  # c*: (R, 2h)
        attended = self.attention(window)
        memory = attended[packing.last] if self.memory is None else self.memory(attended, packing)
        final = torch.cat([*(states[m][0][packing.last] for m in MODALITIES), memory], 1)  # (B, h + m)
        return Output(as_prediction(self.out(final), self.emotions), multimodal=final)
