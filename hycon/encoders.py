"""Unimodal encoders (HyCon sec. 3.2, eq. 1): `F^m`, and the "last time step" of what they give.

The architecture is the one whose parameters count exactly to the paper's Table 8: bert-base-uncased without pooler, a
bias-free Conv1d(k=3) to d per modality, and MulT's pre-LN Transformer (hycon/transformer.py) for audio and vision.

The reference code pads every sequence to T = 50 and reads index T-1, a [PAD] position for BERT and a zero row for
audio/vision. `PretrainedText` gives the same hidden states without the padding: a BERT layer's PAD queries attend to
real tokens only (PAD keys are masked), so a PAD position that is read can be computed alone, given its position id, and
one that is not read need not exist. Sentences of like length are encoded together, in a few chunks of the batch.

So what the nominal length T is moves a prediction, in HyCon and in the baselines that share this front-end. With
`readout=cls, mask_padding=True`, and `positions=own` where XLNet pads on the left, it does not (with `last_real` it
still does for a BERT sentence that fills T: the convolution at its last step sees a [PAD] if there is room for one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batching import Batch
from hycon.data.corpus import MODALITIES
from hycon.data.ragged import Ragged
from hycon.dropout import replace_dropout
from hycon.errors import UserError, nearest
from hycon.options import later
from hycon.output import Output, as_prediction, outputs
from hycon.transformer import SequenceEncoder

READOUTS = ("last", "last_real", "cls", "mean")
POSITIONS = ("nominal", "own")
Injection = Callable[[Tensor, Tensor], Tensor]  # (b, t, D) hidden states, (b,) their utterances -> (b, t, D)
CHUNK = {"cpu": 8, "cuda": 64}  # sentences encoded together; on a CPU padding costs more than calls, on a GPU less


# ---------------------------------------------------------------------------------------------------- pretrained text


class PretrainedText(nn.Module):
    """A BERT or XLNet (transformers) read without padding.

    kind: "bert" (nominal padding on the right) or "xlnet" (on the left; its positions are relative, so how far it is
    padded changes nothing, and its last nominal step is the real [CLS]).  At XLNet's first word the read-out `mean`
    takes the step before as zero, where the padded computation has what XLNet makes of its last PAD.

    BERT attends by scaled_dot_product_attention. transformers has no such form of XLNet, whose relative positions add
    a term per query and key.
    """

    def __init__(self, model: nn.Module, kind: str):
        super().__init__()
        replace_dropout(model)
        self.model = model
        self.kind = kind

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def states(self, text: Ragged, inject: Injection | None = None, before: int = 0) -> Tensor:
        """(B, T, D) hidden states of the real tokens, zeros elsewhere; T is the batch's longest sentence.

        inject: layer `before` reads what it makes of that layer's input (b, t, D), given whose it is (b,), on the CPU:
        indices into the batch.
        """
        longest = text.longest
        parts = [
            F.pad(hidden, (0, 0, 0, longest - hidden.shape[1]))
            for hidden, _ in self._chunks(text, torch.zeros(len(text), 0, dtype=torch.long), inject, before)
        ]
        return self._restore(torch.cat(parts), text)

    def windows(self, text: Ragged, readout: str, nominal: int) -> Tensor:
        """(B, 3, D): what a Conv1d(k=3, padding=1) sees at the read-out step of the sequence padded to `nominal`.

        "mean" gives the mean over the real steps of that triple, to the same effect since the convolution is linear.
        """
        extra = self._extra(text, readout, nominal)
        parts = []
        order = self._order(text)
        for start, (hidden, queried) in zip(
            range(0, len(text), self._size(text)), self._chunks(text, extra), strict=True
        ):
            lengths = text.lengths[order[start : start + self._size(text)]].to(hidden.device)
            parts.append(self._window(hidden, queried, lengths, readout, nominal))
        return self._restore(torch.cat(parts), text)

    def _extra(self, text: Ragged, readout: str, nominal: int) -> Tensor:
        """(B, Q) nominal positions to compute beside the real tokens."""
        if self.kind == "xlnet" or readout == "cls":
            return torch.zeros(len(text), 0, dtype=torch.long)
        if readout == "last":
            return torch.tensor([nominal - 2, nominal - 1]).expand(len(text), 2)
        return text.lengths.clamp(max=nominal - 1)[:, None]  # the step after the last real one

    def _window(self, hidden: Tensor, queried: Tensor, lengths: Tensor, readout: str, nominal: int) -> Tensor:
        none = hidden.new_zeros(len(hidden), hidden.shape[2])
        row = torch.arange(len(hidden), device=hidden.device)
        if readout == "last" and self.kind == "bert":
            return torch.stack([queried[:, 0], queried[:, 1], none], 1)
        if readout == "cls" and self.kind == "bert":
            return torch.stack([none, hidden[:, 0], hidden[:, 1]], 1)
        after = none
        if queried.shape[1]:  # BERT's PAD after the last token, if the sentence leaves room for one
            after = queried[:, 0] * (lengths < nominal)[:, None]
        final = hidden[row, lengths - 1]
        if readout == "mean":
            total = hidden.sum(1)
            return torch.stack([total - final, total, total - hidden[:, 0] + after], 1) / lengths[:, None, None]
        before = hidden[row, (lengths - 2).clamp(min=0)] * (lengths > 1)[:, None]
        return torch.stack([before, final, after], 1)

    def _size(self, text: Ragged) -> int:
        return CHUNK.get(text.rows.device.type, 64)

    def _order(self, text: Ragged) -> Tensor:
        return torch.argsort(text.lengths, descending=True, stable=True)

    def _restore(self, encoded: Tensor, text: Ragged) -> Tensor:
        return encoded[torch.argsort(self._order(text)).to(encoded.device)]

    def _chunks(self, text: Ragged, extra: Tensor, inject: Injection | None = None, before: int = 0):
        """Encode the batch, longest sentences first. Words are embedded once for all chunks: the gradient of the
        embedding table is as large as the table, so one a batch is enough."""
        order = self._order(text)
        text, extra = text.take(order), extra[order].to(text.rows.device)
        owner = torch.repeat_interleave(torch.arange(len(text)), text.lengths).to(text.rows.device)
        first = text.lengths.cumsum(0) - text.lengths
        within = torch.arange(len(owner), device=owner.device) - first.to(owner.device)[owner]
        tokens = text.rows[text.starts[owner] + within]  # (R,) the real tokens of this batch, one after the other
        own = text.device_lengths()[:, None]
        known = extra < own
        queries = text.rows[torch.where(known, text.starts[:, None] + extra, 0)].masked_fill(~known, int(text.pad))
        embedded = self.model.get_input_embeddings()(torch.cat([tokens, queries.flatten()]))  # type: ignore[operator]
        real, queried = embedded[: len(tokens)], embedded[len(tokens) :].unflatten(0, extra.shape)
        words = Ragged(real, first.to(owner.device), text.lengths)
        for start in range(0, len(text), self._size(text)):
            stop = min(start + self._size(text), len(text))
            with self._injected(inject, before, order[start:stop]):
                encoded = self._encode(words.slice(start, stop), queried[start:stop], extra[start:stop])
            yield encoded

    @contextmanager
    def _injected(self, inject: Injection | None, before: int, utterances: Tensor) -> Iterator[None]:
        """Within it, layer `before` reads inject(its input, utterances); XLNet keeps time first inside."""
        if inject is None:
            yield
            return

        xlnet = self.kind == "xlnet"
        name = "output_h" if xlnet else "hidden_states"

        def replace_input(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]):
            """Versions of transformers give the hidden states first or by name."""
            hidden = inputs[0] if inputs else named[name]
            if xlnet:
                changed = inject(hidden.transpose(0, 1), utterances).transpose(0, 1)
            else:
                changed = inject(hidden, utterances)
            return ((changed, *inputs[1:]), named) if inputs else ((), {**named, name: changed})

        layers: Any = self.model.layer if xlnet else self.model.encoder.layer  # type: ignore[union-attr]
        handle = layers[before].register_forward_pre_hook(replace_input, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _encode(self, words: Ragged, queries: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (b, t, D), zero beyond a sentence's end, and (b, Q, D) at the nominal positions `extra`."""
        embedded = words.padded()  # (b, t, D)
        count, length = embedded.shape[:2]
        own = words.device_lengths()[:, None]
        step = torch.arange(length, device=embedded.device).expand(count, length)
        real = step < own  # (b, t)
        if self.kind == "xlnet":
            segments = 2 * (step == own - 1).long()  # [CLS] closes the sentence in a segment of its own
            hidden = self.model(
                inputs_embeds=embedded, attention_mask=real.long(), token_type_ids=segments, use_mems=False
            ).last_hidden_state
            return hidden * real[:, :, None], hidden[:, :0]
        hidden = self.model(
            inputs_embeds=torch.cat([embedded, queries], 1),
            attention_mask=torch.cat([real.long(), torch.zeros_like(extra)], 1),
            position_ids=torch.cat([step, extra], 1),
        ).last_hidden_state
        return hidden[:, :length] * real[:, :, None], hidden[:, length:]


# ---------------------------------------------------------------------------------------------------- front-ends


class TextProjection(nn.Module):
    """Conv1d(D, d, k=3, no bias) over BERT's or XLNet's last hidden states, at the read-out step: Ragged -> (B, d)."""

    def __init__(self, text: PretrainedText, d: int, readout: str):
        super().__init__()
        self.text, self.readout = text, readout
        self.conv = nn.Conv1d(text.width, d, 3, padding=1, bias=False)

    def forward(self, text: Ragged, nominal: int) -> Tensor:
        window = self.text.windows(text, self.readout, nominal)  # (B, 3, D)
        return F.conv1d(window.transpose(1, 2), self.conv.weight)[:, :, 0]


@dataclass(frozen=True)
class FrontEndConfig:
    """What HyCon and the baselines that share its front-end configure alike. "lineage": the authors' code of MIB."""

    d: int = 50  # sec. 4.4(3)
    layers: int = 3  # exact count of Table 8
    heads: int = 5  # lineage
    attn_dropout: float = 0.5  # lineage, as the next three
    relu_dropout: float = 0.3
    res_dropout: float = 0.3
    embed_dropout: float = 0.2
    readout: str = "last"  # lineage: index T-1, a padding step; options last_real, cls, mean
    mask_padding: bool = False  # lineage: audio/vision attend to the padding too
    positions: str = later("nominal")  # lineage: audio/vision count steps from the nominal first; own: from their own

    def __post_init__(self) -> None:
        """Refuse before a search starts what no run could use."""
        if self.positions not in POSITIONS:
            raise UserError(f"positions is {self.positions!r}; expected nominal or own.")
        if self.readout not in READOUTS:
            raise UserError(f"Unknown readout {self.readout!r}; nearest: {nearest(self.readout, READOUTS)}.")
        if self.layers < 1 or self.heads < 1 or self.d % self.heads:
            raise UserError(f"layers is {self.layers}, heads {self.heads}, d {self.d}: d must be a multiple of heads.")


class FrontEnd(nn.Module):
    """The three unimodal networks of HyCon and of the baselines that share them: Batch -> {modality: (B, d)}.

    modalities: which of them there are; the others, BERT or XLNet with them, are not built.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        text: PretrainedText | None,
        config: FrontEndConfig,
        modalities: Sequence[str] = MODALITIES,
    ):
        super().__init__()
        self.modalities = tuple(modalities)
        options: dict[str, Any] = {
            "layers": config.layers,
            "heads": config.heads,
            "readout": config.readout,
            "mask_padding": config.mask_padding,
            "positions": config.positions,
            "dropouts": {name: getattr(config, f"{name}_dropout") for name in ("attn", "relu", "res", "embed")},
        }
        for modality in self.modalities:
            if modality == "text" and text is not None:
                self.text = TextProjection(text, config.d, config.readout)
            else:
                setattr(self, modality, SequenceEncoder(dims[modality], config.d, **options))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {modality: self._encoded(batch, modality) for modality in self.modalities}

    def _encoded(self, batch: Batch, modality: str) -> Tensor:
        """(B, d) of one modality."""
        encoder, sequences = getattr(self, modality), getattr(batch, modality)
        nominal = batch.layout.lengths[modality]
        if isinstance(encoder, TextProjection):
            return encoder(sequences, nominal)
        return encoder(sequences, nominal, batch.layout.side)


class FusionNet(nn.Module):
    """Front-end, a fusion, one linear layer: the shape of HyCon, TFN-BERT, LMF-BERT and GFN.

    In: a Batch. Out: `Output` with the unimodal representations (B, d).  config, modalities: as for FrontEnd.
    fusion: makes the module; a function, so that the front-end draws its initial weights first.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        text: PretrainedText | None,
        config: FrontEndConfig,
        fusion: Callable[[], nn.Module],
        emotions: int = 0,
        modalities: Sequence[str] = MODALITIES,
    ):
        super().__init__()
        self.emotions = emotions
        self.front = FrontEnd(dims, text, config, modalities)
        self.fusion = fusion()
        self.predictor = nn.Linear(int(self.fusion.width), outputs(emotions))  # type: ignore[arg-type]
        init_like_authors(self)

    def forward(self, batch: Batch) -> Output:
        x = self.front(batch)  # {modality: (B, d)}
        multimodal = self.fusion(x)  # (B, width)
        return Output(as_prediction(self.predictor(multimodal), self.emotions), x, multimodal)


def init_like_authors(module: nn.Module) -> None:
    """Every nn.Linear of the non-pretrained part ~ N(0, 0.02), bias 0, as the authors' call of `init_weights` does."""
    for child in module.children():
        if isinstance(child, PretrainedText):
            continue
        if isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        init_like_authors(child)
