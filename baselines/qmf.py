"""QMF: quantum-inspired multimodal fusion (Li, Gkoumas, Lioma and Melucci, Information Fusion 2021).

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations.

    amplitudes      text: LSTM -> dropout -> Linear to c; audio, vision: dropout -> 3 x (Linear, relu) of width c; each
                    divided by its norm
    phases          a table by word and modality, zero at first
    word state      psi_t = (r e^{i theta})^l x (r e^{i theta})^a x (r e^{i theta})^v, a unit vector of C^(c^3)
    n-gram mixture  rho = sum over the window of w_t |psi_t><psi_t|; w = softmax of the norms, themselves mixed over the
                    modalities by trainable weights
    measurement     p_k = <v_k| rho |v_k> for K trainable projectors |v_k><v_k|
    prediction      max over windows, sizes of window and positions -> dropout -> Linear, relu, Linear, relu, Linear

A mixture is never built: <v| rho |v> = sum of w_t |<v|psi_t>|^2, so each word is measured once and the windows add
numbers. Nothing is computed for padding.

The projectors stay projectors, under any optimiser: `kernel` is free, what measures is `kernel` with each row divided
by its norm (projectors="unit"), or with orthonormal rows by a QR decomposition ("orthonormal": then the K results are
the probabilities of exclusive outcomes, with a sum of at most 1).

Deviates:
1. Phases: the tokens form has the table, by word piece. The GloVe form maps the word vector linearly to the phases,
   a table of limited rank, so that words unseen in training have phases too. Both start at zero; the reference also
   offers a sentiment lexicon.
2. Windows: n words around each word, (n - 1) // 2 of them before it, as in the reference, but cut at the utterance's
   ends. The reference pads to 50 words with zeros that take part in the softmax over a window and lower its trace.
3. The constraint on the projectors. The reference normalises its kernel once, at the start, and then trains it freely
   by RMSprop: its unitary optimiser serves only models with a `get_params`, which LocalMixtureNN has not.
4. The GloVe vectors stay fixed; the reference trains its table.
5. Stops early; the reference reads a `patience` and never uses it.
6. The tokens form is not the reference's: fine-tuned states for word vectors, Adam for RMSprop, no clipping.
7. A word's state has length 1. The reference's has sqrt 2, since its product of the three states starts at 1 + i, and
   so its probabilities are twice these.
Reference implementation consulted: qiuchili/monosenti (LocalMixtureNN); its grid. The results in the paper's tables are
quoted from QMF's publication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.encoders import TokenStates
from hycon.errors import UserError
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import packed_lstm
from hycon.kernels.packing import Packing, pack
from hycon.kernels.tensor_product import outer
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2
NEEDS_ALIGNED = True
TINY = 1e-6  # an amplitude shorter than this is a zero vector, not a direction


@dataclass(frozen=True)
class Config:
    grams: str = "2,3"  # sizes of window; reference's default for MOSI, as the next ones but `projectors`
    text_hidden: int = 32
    width: int = 10  # c, of each modality's state
    measurements: int = 20  # K
    projectors: str = "unit"  # chosen here: deviation 3; or "orthonormal", see above
    hidden: int = 32  # of the last layers
    subnet_dropout: float = 0.2
    output_dropout: float = 0.2
    d: int = 50  # width that token states are projected to, HyCon's; GloVe form: unused


TRAINING = {
    "vectors": Training(lr=3e-3, batch_size=32, optimizer="rmsprop", clip=0.8),  # reference
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's: deviation 6
}
_SIZES = {
    "grams": ("2,3", "1,2", "1,3", "1,2,3", "1,4"),  # reference
    "measurements": (10, 20, 30, 50, 80),  # reference
    "hidden": (32, 48, 64),  # reference
    "subnet_dropout": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),  # reference
    "output_dropout": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),  # reference
    "text_hidden": (32, 48, 64),  # reference
    "scale": ("none", "standard"),  # chosen here
}
SEARCH_SPACE = {
    "vectors": {
        **_SIZES,
        "lr": (0.01, 0.008, 0.005, 0.002, 0.001),  # reference
        "batch_size": (32, 64),  # reference
        "clip": (0.6, 0.7, 0.8, 0.9),  # reference
        "projectors": ("unit", "orthonormal"),  # chosen here
    },
    "tokens": {
        **_SIZES,
        "lr": (1e-5, 2e-5, 5e-5),  # chosen here: around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
    },
}
ABLATIONS = {"n-grams": {"grams": "1"}}
REMOVED = {"n-grams": "the mixtures of neighbouring words: each word by itself"}


class Amplitudes(nn.Module):
    """Audio or vision, word by word: dropout -> 3 x (Linear, relu): (R, d_m) -> (R, c)."""

    def __init__(self, inputs: int, width: int, dropout: float):
        super().__init__()
        self.drop = Dropout(dropout)
        self.layers = nn.ModuleList([nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class TextAmplitudes(nn.Module):
    """Text: LSTM -> dropout -> Linear: (R, d_l) in packed order -> (R, c)."""

    def __init__(self, inputs: int, hidden: int, width: int, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden)
        self.drop = Dropout(dropout)
        self.linear = nn.Linear(hidden, width)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        return self.linear(self.drop(packed_lstm(self.lstm, x, packing)))


class Phases(nn.Module):
    """Text rows (R, d_l), or token ids (R,), -> (R, 3, c) angles, zero at first (deviation 1)."""

    def __init__(self, inputs: int, vocabulary: int | None, width: int):
        super().__init__()
        self.table = nn.Linear(inputs, 3 * width, bias=False) if vocabulary is None else None
        self.words = None if vocabulary is None else nn.Embedding(vocabulary, 3 * width)
        self.width = width
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, rows: Tensor) -> Tensor:
        module = self.words if self.table is None else self.table
        assert module is not None
        return module(rows).float().unflatten(1, (3, self.width))


class Measurement(nn.Module):
    """K projectors: states (R, D), complex unit vectors, -> (R, K) probabilities |<v_k|psi>|^2."""

    def __init__(self, size: int, count: int, kind: str):
        super().__init__()
        if kind not in ("unit", "orthonormal"):
            raise UserError(f"Unknown projectors {kind!r}; expected unit or orthonormal.")
        if kind == "orthonormal" and count > size:
            raise UserError(f"{count} orthonormal projectors do not fit a state of dimension {size}; use fewer.")
        self.kind = kind
        self.kernel = nn.Parameter(torch.rand(count, size, 2))  # positive real and imaginary parts, as the reference's

    def vectors(self) -> Tensor:
        """(K, D) complex: the unit vectors that define the projectors."""
        free = torch.view_as_complex(self.kernel)
        if self.kind == "orthonormal":
            return torch.linalg.qr(free.mT)[0].mT
        return free / torch.linalg.vector_norm(self.kernel, dim=(1, 2))[:, None]

    def forward(self, states: Tensor) -> Tensor:
        amplitude = states @ self.vectors().conj().mT
        return amplitude.real.square() + amplitude.imag.square()


def word_states(amplitudes: Tensor, phases: Tensor) -> tuple[Tensor, Tensor]:
    """(R, 3, c) amplitudes of any length, (R, 3, c) phases -> (R, c^3) complex states, and (R, 3) the lengths."""
    lengths = torch.linalg.vector_norm(amplitudes, dim=2)
    unit = amplitudes / lengths.clamp(min=TINY)[:, :, None]
    return outer(*torch.complex(unit * phases.cos(), unit * phases.sin()).unbind(1)), lengths


def mixtures(probability: Tensor, weight: Tensor, real: Tensor, n: int) -> Tensor:
    """Measured n-gram mixtures: (B, T, K), (B, T), (B, T) -> (B, T, K), for the n words around each position.

    real: False on padding. A window's weights are the softmax of its real words' `weight`.
    """
    around = (n - 1) // 2, n // 2  # words before and after; deviation 2
    windows = F.pad(weight.masked_fill(~real, float("-inf")), around, value=float("-inf")).unfold(1, n, 1)
    share = windows.masked_fill(~real[:, :, None], 0.0).softmax(2)  # a window around padding is not read
    near = F.pad(probability, (0, 0, *around))
    length = probability.shape[1]
    return sum((share[:, :, j, None] * near[:, j : j + length] for j in range(n)), torch.zeros_like(probability))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.emotions, width = emotions, config.width
        self.grams = _window_sizes(config.grams)
        self.text = TokenStates(dims["text"], text, config.d)
        self.text_amplitudes = TextAmplitudes(self.text.width, config.text_hidden, width, config.subnet_dropout)
        self.amplitudes = nn.ModuleDict(
            {m: Amplitudes(dims[m], width, config.subnet_dropout) for m in ("audio", "vision")}
        )
        vocabulary = text.model.config.vocab_size if text else None  # type: ignore[union-attr]
        self.phases = Phases(dims["text"], vocabulary, width)  # type: ignore[arg-type]
        self.modality_weights = nn.Parameter(torch.zeros(len(MODALITIES)))
        self.measurement = Measurement(width**3, config.measurements, config.projectors)
        self.drop = Dropout(config.output_dropout)
        h = config.hidden
        self.layers = nn.ModuleList(
            [nn.Linear(config.measurements, h), nn.Linear(h, h), nn.Linear(h, outputs(emotions))]
        )

    def forward(self, batch: Batch) -> Output:
        y = self.drop(self._measure(batch))
        for layer in self.layers[:-1]:
            y = F.relu(layer(y))
        return Output(as_prediction(self.layers[-1](y), self.emotions), multimodal=y)

    def _measure(self, batch: Batch) -> Tensor:
        """(B, K): each projector's highest probability over the utterance's mixtures."""
        device = batch.label.device
        packing = pack(batch.text.both)
        where = packing.sequence, packing.step  # the utterance and the place in it of each real word
        words = packing.rows(batch.text)  # (R, d_l), or (R,) ids
        amplitudes = [
            self.text_amplitudes(packing.rows(self.text(batch)), packing),
            *(net(packing.rows(getattr(batch, m))) for m, net in self.amplitudes.items()),
        ]
        states, lengths = word_states(torch.stack([a.float() for a in amplitudes], 1), self.phases(words))
        weight = lengths @ self.modality_weights.softmax(0)  # (R,)
        shape = len(batch), batch.text.longest
        real = torch.arange(shape[1], device=device) < batch.text.device_lengths()[:, None]
        probability = self.measurement(states)
        probability = probability.new_zeros(*shape, probability.shape[1]).index_put(where, probability)
        weight = weight.new_zeros(shape).index_put(where, weight)
        every = torch.stack([mixtures(probability, weight, real, n) for n in self.grams])  # (G, B, T, K)
        return every.masked_fill(~real[:, :, None], float("-inf")).amax((0, 2))


def _window_sizes(grams: str) -> list[int]:
    """[2, 3] from "2,3"."""
    sizes = [int(part) for part in grams.split(",") if part.strip().isdigit()]
    if not sizes or min(sizes) < 1 or len(sizes) != grams.count(",") + 1:
        raise UserError(f"grams is {grams!r}; expected sizes of window such as '2,3'.")
    return sizes
