"""A pretrained BERT or XLNet, read without padding (HyCon sec. 3.2, eq. 1).

The reference code pads every sentence to T = 50 and reads index T-1, a [PAD] position for BERT. `PretrainedText` gives
the same hidden states without the padding: a BERT layer's PAD queries attend to real tokens only (PAD keys are masked),
so a PAD position that is read can be computed alone, given its position id, and one that is not read need not exist.
Sentences of like length are encoded together, in a few chunks of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.ragged import Ragged
from hycon.kernels.dropout import replace_dropout
from hycon.kernels.padding import first_rows, rows_in_order

Injection = Callable[[Tensor, Tensor], Tensor]  # (b, t, D) hidden states, (b,) their utterances -> (b, t, D)
CHUNK = {"cpu": 8, "cuda": 64}  # sentences encoded together; on a CPU padding costs more than calls, on a GPU less


class PretrainedText(nn.Module):
    """A BERT or XLNet of the library transformers, read without padding.

    kind: "bert" or "xlnet". BERT's nominal padding is on the right. XLNet's is on the left: its positions are relative,
    so how far it is padded changes nothing, and its last nominal step is the real [CLS].

    At XLNet's first word the read-out `mean` takes the step before as zero, where the padded computation has what XLNet
    makes of its last PAD.
    """

    def __init__(self, model: nn.Module, kind: str):
        super().__init__()
        replace_dropout(model)
        self.model = model
        self.pooler: nn.Module | None = None  # MAG's: BERT's own, taken out of `model`
        self.kind = kind

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def states(self, text: Ragged, inject: Injection | None = None, before: int = 0) -> Tensor:
        """(B, T, D) hidden states of the real tokens, zeros elsewhere; T is the batch's longest sentence.

        inject: layer `before` reads what it makes of that layer's input (b, t, D), given whose it is (b,), on the CPU:
        indices into the batch.
        """
        chunks = self._chunks(text, torch.zeros(len(text), 0, dtype=torch.long), inject, before)
        return _in_order([F.pad(hidden, (0, 0, 0, text.longest - hidden.shape[1])) for hidden, *_ in chunks], text)

    def windows(self, text: Ragged, readout: str, nominal: int) -> Tensor:
        """(B, 3, D): what a Conv1d(k=3, padding=1) sees at the read-out step of the sequence padded to `nominal`.

        "mean" gives the mean over the real steps of that triple, to the same effect since the convolution is linear.
        """
        chunks = self._chunks(text, self._extra(text, readout, nominal))
        return _in_order([self._window(*chunk, readout, nominal) for chunk in chunks], text)

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

    def _chunks(
        self, text: Ragged, extra: Tensor, inject: Injection | None = None, before: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Encode the batch a few sentences at a time, longest first: `_encode`'s (b, t, D) and (b, Q, D), lengths (b,).

        Words are embedded once for all chunks: the gradient of the embedding table is as large as the table, so one a
        batch is enough.
        """
        order = _longest_first(text)
        text, extra = text.take(order), extra[order].to(text.rows.device)
        tokens = rows_in_order(text)  # (R,) the real tokens of this batch, one after the other
        known = extra < text.device_lengths()[:, None]
        queries = text.rows[torch.where(known, text.starts[:, None] + extra, 0)].masked_fill(~known, int(text.pad))
        embedded = self.model.get_input_embeddings()(torch.cat([tokens, queries.flatten()]))  # type: ignore[operator]
        real, queried = embedded[: len(tokens)], embedded[len(tokens) :].unflatten(0, extra.shape)
        words = Ragged(real, first_rows(text.lengths).to(real.device), text.lengths)
        size = CHUNK.get(real.device.type, 64)
        for start in range(0, len(text), size):
            stop = min(start + size, len(text))
            some = words.slice(start, stop)
            with self._injected(inject, before, order[start:stop]):
                encoded = self._encode(some, queried[start:stop], extra[start:stop])
            yield *encoded, some.device_lengths()

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


def _longest_first(text: Ragged) -> Tensor:
    return torch.argsort(text.lengths, descending=True, stable=True)


def _in_order(chunks: list[Tensor], text: Ragged) -> Tensor:
    """What `_chunks` gave, joined in the order of the batch."""
    encoded = torch.cat(chunks)
    return encoded[torch.argsort(_longest_first(text)).to(encoded.device)]
