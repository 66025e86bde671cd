"""A pretrained text encoder, read without padding (HyCon sec. 3.2, eq. 1).

The reference code pads every sentence to T = 50 and reads index T-1, a [PAD] position for BERT. `PretrainedText` gives
the same hidden states without the padding: a BERT layer's PAD queries attend to real tokens only (PAD keys are masked),
so a PAD position that is read can be computed alone, given its position id, and one that is not read need not exist.
Sentences of like length are encoded together, in a few chunks of the batch.

For an encoder whose layers see where a [PAD] lies, or of whose inside nothing is known (hycon/encoder_families.py),
the sentences of a chunk are padded: to T where a [PAD] is read, else to the longest of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.ragged import Ragged
from hycon.encoder_families import FAMILIES, Family, family_of
from hycon.kernels.dropout import replace_dropout
from hycon.kernels.padding import first_rows, rows_in_order

Injection = Callable[[Tensor, Tensor], Tensor]  # (b, t, D) hidden states, (b,) their utterances -> (b, t, D)
CHUNK = {"cpu": 8, "cuda": 64}  # sentences encoded together; on a CPU padding costs more than calls, on a GPU less


class PretrainedText(nn.Module):
    """A text encoder of the library transformers, read without padding.

    kind: "bert" or "xlnet", the front-end; behind "bert" stands BERT or another encoder of [CLS] w.. [SEP]
    (hycon/encoder_families.py), of which the same holds. BERT's nominal padding is on the right. XLNet's is on the
    left: its positions are relative, so how far it is padded changes nothing, and its last nominal step is the real
    [CLS].

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
    def _config(self) -> Any:
        return self.model.config

    @property
    def family(self) -> Family:
        return family_of(self._config.model_type)

    @cached_property
    def known(self) -> bool:
        """Whether its inside is. DistilBERT takes positions only in later versions of transformers."""
        takes_positions = "position_ids" in inspect.signature(self.model.forward).parameters
        return self._config.model_type in FAMILIES and (self.kind == "xlnet" or takes_positions)

    @property
    def width(self) -> int:
        return int(self._config.hidden_size)

    def states(self, text: Ragged, inject: Injection | None = None, before: int = 0) -> Tensor:
        """(B, T, D) hidden states of the real tokens, zeros elsewhere; T is the batch's longest sentence.

        inject: layer `before` reads what it makes of that layer's input (b, t, D), given whose it is (b,), on the CPU:
        indices into the batch.
        """
        chunks = self._chunks(text, torch.zeros(len(text), 0, dtype=torch.long), 0, inject, before)
        return _in_order([F.pad(hidden, (0, 0, 0, text.longest - hidden.shape[1])) for hidden, *_ in chunks], text)

    def windows(self, text: Ragged, readout: str, nominal: int) -> Tensor:
        """(B, 3, D): what a Conv1d(k=3, padding=1) sees at the read-out step of the sequence padded to `nominal`.

        "mean" gives the mean over the real steps of that triple, to the same effect since the convolution is linear.
        """
        chunks = self._chunks(text, self._extra(text, readout, nominal), nominal)
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
        self, text: Ragged, extra: Tensor, nominal: int, inject: Injection | None = None, before: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Encode the batch a few sentences at a time, longest first: hidden states (b, t, D), zero beyond a sentence's
        end, those at the nominal positions `extra` (b, Q, D), and lengths (b,)."""
        order = _longest_first(text)
        text, extra = text.take(order), extra[order].to(text.rows.device)
        padded = not self.known or (self.family.relative and extra.shape[1] > 0)
        words, queries = (text, extra) if padded else self._embedded(text, extra)
        size = CHUNK.get(text.rows.device.type, 64)
        for start in range(0, len(text), size):
            stop = min(start + size, len(text))
            some = words.slice(start, stop)
            if padded:
                encoded = self._encode_padded(some, extra[start:stop], nominal)
            else:
                with self._injected(inject, before, order[start:stop]):
                    encoded = self._encode(some, queries[start:stop], extra[start:stop])
            yield *encoded, some.device_lengths()

    def _embedded(self, text: Ragged, extra: Tensor) -> tuple[Ragged, Tensor]:
        """Embedded words, and what stands at the nominal positions `extra` (B, Q, D).

        Once for all chunks: the gradient of the embedding table is as large as the table, so one a batch is enough.
        """
        tokens = rows_in_order(text)  # (R,) the real tokens of this batch, one after the other
        known = extra < text.device_lengths()[:, None]
        queries = text.rows[torch.where(known, text.starts[:, None] + extra, 0)].masked_fill(~known, int(text.pad))
        embedded = self.model.get_input_embeddings()(torch.cat([tokens, queries.flatten()]))  # type: ignore[operator]
        real, queried = embedded[: len(tokens)], embedded[len(tokens) :].unflatten(0, extra.shape)
        return Ragged(real, first_rows(text.lengths).to(real.device), text.lengths), queried

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

        layers: Any = self.model.get_submodule(self.family.layers)
        handle = layers[before].register_forward_pre_hook(replace_input, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _encode(self, words: Ragged, queries: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (b, t, D), zero beyond a sentence's end, and (b, Q, D) at the nominal positions `extra`."""
        embedded = words.padded()  # (b, t, D)
        own = words.device_lengths()[:, None]
        step = torch.arange(embedded.shape[1], device=embedded.device).expand(embedded.shape[:2])
        real = step < own  # (b, t)
        if self.kind == "xlnet":
            segments = 2 * (step == own - 1).long()  # [CLS] closes the sentence in a segment of its own
            hidden = self.model(
                inputs_embeds=embedded, attention_mask=real.long(), token_type_ids=segments, use_mems=False
            ).last_hidden_state
            return hidden * real[:, :, None], hidden[:, :0]
        positions = torch.cat([step, extra], 1)
        if self.family.offset:
            pad = self._config.pad_token_id
            positions = torch.where(positions < own, positions + pad + 1, pad)
        hidden = self.model(
            inputs_embeds=torch.cat([embedded, queries], 1),
            attention_mask=torch.cat([real.long(), torch.zeros_like(extra)], 1),
            position_ids=positions,
        ).last_hidden_state
        return hidden[:, : step.shape[1]] * real[:, :, None], hidden[:, step.shape[1] :]

    def _encode_padded(self, text: Ragged, extra: Tensor, nominal: int) -> tuple[Tensor, Tensor]:
        """`_encode` of token ids, by the padded sentences."""
        length = nominal if extra.shape[1] else text.longest
        ids = text.padded(length)  # (b, T)
        real = torch.arange(length, device=ids.device) < text.device_lengths()[:, None]
        hidden = self.model(input_ids=ids, attention_mask=real.long()).last_hidden_state
        queried = hidden.gather(1, extra[:, :, None].expand(-1, -1, hidden.shape[2]))
        return (hidden * real[:, :, None])[:, : text.longest], queried


def _longest_first(text: Ragged) -> Tensor:
    return torch.argsort(text.lengths, descending=True, stable=True)


def _in_order(chunks: list[Tensor], text: Ragged) -> Tensor:
    """What `_chunks` gave, joined in the order of the batch."""
    encoded = torch.cat(chunks)
    return encoded[torch.argsort(_longest_first(text)).to(encoded.device)]
