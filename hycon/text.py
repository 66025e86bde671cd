"""A pretrained text encoder, read without padding (HyCon sec. 3.2, eq. 1).

The reference code pads every sentence to T = 50 and reads index T-1, a [PAD] position for BERT. `PretrainedText` gives
the same hidden states without the padding: a BERT layer's PAD queries attend to real tokens only (PAD keys are masked),
so a PAD position that is read can be computed alone, given its position id, and one that is not read need not exist.
On a CPU the layers of BERT and its kin run over rows without padding (hycon/text_rows.py). Those of other encoders, and
all on a GPU, see sentences of like length together, in a few chunks of the batch.

For an encoder whose layers see where a [PAD] lies, or of whose inside nothing is known (hycon/encoder_families.py),
the sentences of a chunk are padded: to T where a [PAD] is read, else to the longest of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.ragged import Both, Ragged, first_rows, longest_first, rows_in_order, steps_of
from hycon.encoder_families import FAMILIES, Family, family_of
from hycon.kernels.cast_weights import Place, cast_at_once, factors
from hycon.kernels.dropout import replace_dropout
from hycon.kernels.joined_linears import join_linears
from hycon.text_rows import encode

Picks = Callable[[Ragged], Ragged]  # from sequences of the batch, those of some of its utterances
Injection = Callable[[Tensor, Picks], Tensor]  # (b, t, D) hidden states, how to pick their utterances' -> (b, t, D)
CHUNK = {"cpu": 8}  # sentences encoded together; on a GPU, where padding costs less than calls, all of the batch
# From version 5 on the library takes a ready mask as it is. Of any other it asks whether it masks anything at all, for
# which a host waits.
READY_MASK = int(version("transformers").split(".")[0]) >= 5


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
        join_linears(model)
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
    def by_rows(self) -> bool:
        """Whether a CPU reads it over rows without padding (hycon/text_rows.py)."""
        plain = not getattr(self._config, "is_decoder", False)
        plain &= getattr(self._config, "position_embedding_type", "absolute") in ("absolute", None)
        return self.family.rows and plain

    @property
    def width(self) -> int:
        return int(self._config.hidden_size)

    def states(self, text: Ragged, inject: Injection | None = None, before: int = 0) -> Tensor:
        """(B, T, D) hidden states of the real tokens, zeros elsewhere; T is the batch's longest sentence.

        inject: layer `before` reads what it makes of that layer's input (b, t, D).
        """
        none = text.starts.new_empty(len(text), 0)
        order = _order(text)
        chunks = self._chunks(text, none, order, 0, inject, before)
        return _in_order([_widened(hidden, text.longest) for hidden, *_ in chunks], order)

    def windows(self, text: Ragged, readout: str, nominal: int) -> Tensor:
        """(B, 3, D): what a Conv1d(k=3, padding=1) sees at the read-out step of the sequence padded to `nominal`.

        "mean" gives the mean over the real steps of that triple, to the same effect since the convolution is linear.
        """
        order = _order(text)
        only = readout == "last" and self.kind == "bert"
        chunks = self._chunks(text, self._extra(text, readout, nominal), order, nominal, only=only)
        return _in_order([self._window(*chunk, readout, nominal) for chunk in chunks], order)

    def _extra(self, text: Ragged, readout: str, nominal: int) -> Tensor:
        """(B, Q) nominal positions to compute beside the real tokens."""
        if self.kind == "xlnet" or readout == "cls":
            return text.starts.new_empty(len(text), 0)
        if readout == "last":
            return torch.arange(nominal - 2, nominal, device=text.rows.device).expand(len(text), 2)
        return text.device_lengths().clamp(max=nominal - 1)[:, None]  # the step after the last real one

    def _window(self, hidden: Tensor, queried: Tensor, lengths: Tensor, readout: str, nominal: int) -> Tensor:
        if readout == "last" and self.kind == "bert":
            return torch.cat([queried, queried.new_zeros(len(queried), 1, queried.shape[2])], 1)
        none = hidden.new_zeros(len(hidden), hidden.shape[2])
        if readout == "cls" and self.kind == "bert":
            return torch.stack([none, hidden[:, 0], hidden[:, 1]], 1)
        after = none
        if queried.shape[1]:  # BERT's PAD after the last token, if the sentence leaves room for one
            after = queried[:, 0] * (lengths < nominal)[:, None]
        row = torch.arange(len(hidden), device=hidden.device)
        final = hidden[row, lengths - 1]
        if readout == "mean":
            total = hidden.sum(1)
            return torch.stack([total - final, total, total - hidden[:, 0] + after], 1) / lengths[:, None, None]
        before = hidden[row, (lengths - 2).clamp(min=0)] * (lengths > 1)[:, None]
        return torch.stack([before, final, after], 1)

    def _chunks(
        self,
        text: Ragged,
        extra: Tensor,
        order: Both | None,
        nominal: int,
        inject: Injection | None = None,
        before: int = 0,
        only: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Encode the batch a few sentences at a time, in `order`: hidden states (b, t, D), zero beyond a sentence's
        end, those at the nominal positions `extra` (b, Q, D), and lengths (b,).

        only: nothing but the states at `extra` is read.
        """
        if order is not None:
            text, extra = text.take(order), extra[order.device]
        if order is not None and self.by_rows:
            yield *self._encode_rows(text, extra, order, inject, before, only), text.device_lengths()
            return
        padded = not self.known or (self.family.relative and extra.shape[1] > 0)
        words, queries = (text, extra) if padded or order is None else self._embedded(text, extra)
        size = CHUNK.get(text.rows.device.type, len(text))
        for start in range(0, len(text), size):
            stop = min(start + size, len(text))
            some = words.slice(start, stop)
            if padded:
                encoded = self._encode_padded(some, extra[start:stop], nominal)
            else:
                chosen = None if order is None else order.slice(start, stop)
                if order is None:
                    inputs = self._embedded_ids(text, extra)
                else:
                    inputs = torch.cat([some.padded(), queries[start:stop]], 1)
                with self._injected(inject, before, chosen):
                    encoded = self._encode(inputs, some.device_lengths(), extra[start:stop])
            yield *encoded, some.device_lengths()

    def _embedded(self, text: Ragged, extra: Tensor) -> tuple[Ragged, Tensor]:
        """Embedded words, and what stands at the nominal positions `extra` (B, Q, D).

        Once for all chunks: the gradient of the embedding table is as large as the table, so one a batch is enough.
        """
        tokens = rows_in_order(text)  # (R,) the real tokens of this batch, one after the other
        queries = _queried(text, extra)
        embedded = self.model.get_input_embeddings()(torch.cat([tokens, queries.flatten()]))  # type: ignore[operator]
        real, queried = embedded[: len(tokens)], embedded[len(tokens) :].unflatten(0, extra.shape)
        own = text.device_lengths()
        return Ragged(real, first_rows(own), text.lengths, own=own), queried

    def _encode_rows(
        self, text: Ragged, extra: Tensor, order: Both, inject: Injection | None, before: int, only: bool
    ) -> tuple[Tensor, Tensor]:
        """`_encode` of all sentences, `text` in `order`, over rows without padding (hycon/text_rows.py)."""
        words, queries = self._embedded(text, extra)
        lengths, queried = text.both, extra.shape[1]
        own = lengths.device[:, None]
        positions = torch.cat([steps_of(lengths), extra.flatten()])
        if self.family.offset:
            pad = self._config.pad_token_id
            within = torch.cat([torch.ones(lengths.total, dtype=torch.bool), (extra < own).flatten()])
            positions = torch.where(within, positions + pad + 1, pad)
        inputs = torch.cat([words.rows, queries.flatten(0, 1)])
        model: Any = self.model
        first = torch.zeros_like(positions)  # said, since transformers 4 has no more of them than positions
        x = model.embeddings(inputs_embeds=inputs[None], position_ids=positions[None], token_type_ids=first[None])
        if hasattr(model, "embeddings_project"):
            x = model.embeddings_project(x)

        def change(number: int, x: Tensor) -> Tensor:
            if inject is None or number != before:
                return x
            return torch.cat([_inject_rows(inject, replace(words, rows=x), order), x[lengths.total :]])

        x = encode(model.get_submodule(self.family.layers), x[0], lengths, queried, change, only)
        hidden = x[:0] if only else replace(words, rows=x).padded()
        return hidden, x[len(x) - extra.numel() :].unflatten(0, extra.shape)

    def _embedded_ids(self, text: Ragged, extra: Tensor) -> Tensor:
        """(B, t + Q, D): `_embedded` of all sentences as one padded chunk. What a padding gives meets no real token."""
        ids = text.padded()
        if extra.shape[1]:
            ids = torch.cat([ids, _queried(text, extra)], 1)
        return self.model.get_input_embeddings()(ids)  # type: ignore[operator]

    @contextmanager
    def _injected(self, inject: Injection | None, before: int, utterances: Both | None) -> Iterator[None]:
        """Within it, layer `before` reads what `inject` makes of its input; XLNet keeps time first inside.

        utterances: (b,) whose it is; None: the batch's, in its order.
        """
        if inject is None:
            yield
            return

        xlnet = self.kind == "xlnet"
        name = "output_h" if xlnet else "hidden_states"

        def pick(sequences: Ragged) -> Ragged:
            return sequences if utterances is None else sequences.take(utterances)

        def replace_input(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]):
            """Versions of transformers give the hidden states first or by name."""
            hidden = inputs[0] if inputs else named[name]
            if xlnet:
                changed = inject(hidden.transpose(0, 1), pick).transpose(0, 1)
            else:
                changed = inject(hidden, pick)
            return ((changed, *inputs[1:]), named) if inputs else ((), {**named, name: changed})

        layers: Any = self.model.get_submodule(self.family.layers)
        handle = layers[before].register_forward_pre_hook(replace_input, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _encode(self, inputs: Tensor, lengths: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (b, t, D), zero beyond a sentence's end, and (b, Q, D) at the nominal positions `extra`.

        inputs: (b, t + Q, D) embedded words, and what stands at `extra`.
        """
        count, longest, own = len(inputs), inputs.shape[1] - extra.shape[1], lengths[:, None]
        step = torch.arange(longest, device=inputs.device).expand(count, longest)
        real = step < own  # (b, t)
        if self.kind == "xlnet":
            segments = 2 * (step == own - 1).long()  # [CLS] closes the sentence in a segment of its own
            with self._hidden_from_xlnet(real, inputs.dtype), self._cast(inputs):
                hidden = self.model(inputs_embeds=inputs, token_type_ids=segments, use_mems=False).last_hidden_state
            return hidden * real[:, :, None], hidden[:, :0]
        positions = torch.cat([step, extra], 1) if extra.shape[1] else step
        if self.family.offset:
            pad = self._config.pad_token_id
            positions = torch.where(positions < own, positions + pad + 1, pad)
        if READY_MASK and self.family.attention == "sdpa" and inputs.device.type != "cpu":
            mask = _bias(real, positions.shape[1])
        else:
            mask = torch.cat([real.long(), torch.zeros_like(extra)], 1)
        with self._cast(inputs):
            hidden = self.model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions).last_hidden_state
        return hidden[:, : step.shape[1]] * real[:, :, None], hidden[:, step.shape[1] :]

    def _cast(self, inputs: Tensor) -> AbstractContextManager[None]:
        """Under autocast on a GPU, the weights' copies for this pass, made at once."""
        if self.family.relative or not (inputs.is_cuda and torch.is_autocast_enabled("cuda")):
            return nullcontext()
        return cast_at_once(self._factors, torch.get_autocast_dtype("cuda"))

    @cached_property
    def _factors(self) -> list[Place]:
        return factors(self.model)

    @contextmanager
    def _hidden_from_xlnet(self, real: Tensor, dtype: torch.dtype) -> Iterator[None]:
        """Within it, each of XLNet's layers hides padding, (b, t) not `real`, from all but itself.

        The library makes the same mask of an `attention_mask`, before version 5.23 on the host, which waits for its
        upload.
        """
        step = torch.arange(real.shape[1], device=real.device)
        others = step[:, None] != step
        mask = (others[:, :, None] & ~real.t()).to(dtype)[..., None]  # (t, t, b, 1)
        layers: Any = self.model.get_submodule(self.family.layers)

        def give(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]):
            return inputs, {**named, "attn_mask_h": mask}

        handles = [layer.register_forward_pre_hook(give, with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _encode_padded(self, text: Ragged, extra: Tensor, nominal: int) -> tuple[Tensor, Tensor]:
        """`_encode` of token ids, by the padded sentences."""
        length = nominal if extra.shape[1] else text.longest
        ids = text.padded(length)  # (b, T)
        real = torch.arange(length, device=ids.device) < text.device_lengths()[:, None]
        hidden = self.model(input_ids=ids, attention_mask=real.long()).last_hidden_state
        queried = hidden.gather(1, extra[:, :, None].expand(-1, -1, hidden.shape[2]))
        return (hidden * real[:, :, None])[:, : text.longest], queried


def _widened(hidden: Tensor, length: int) -> Tensor:
    """(b, t, D) -> (b, length, D), zeros beyond; no copy where t is that long."""
    return hidden if hidden.shape[1] == length else F.pad(hidden, (0, 0, 0, length - hidden.shape[1]))


def _picked(utterances: Both) -> Picks:
    return lambda sequences: sequences.take(utterances)


def _inject_rows(inject: Injection, words: Ragged, order: Both) -> Tensor:
    """(R, D): what `inject` makes of the words' rows; it sees a few sentences at a time, padded."""
    changed = []
    for start in range(0, len(words), CHUNK["cpu"]):
        stop = start + CHUNK["cpu"]
        some, pick = words.slice(start, stop), _picked(order.slice(start, stop))
        hidden = inject(some.padded(), pick)
        changed.append(hidden[torch.arange(hidden.shape[1]) < some.device_lengths()[:, None]])
    return torch.cat(changed)


def _queried(text: Ragged, extra: Tensor) -> Tensor:
    """(B, Q) the token ids at the nominal positions `extra`."""
    known = extra < text.device_lengths()[:, None]
    return text.rows[torch.where(known, text.starts[:, None] + extra, 0)].masked_fill(~known, int(text.pad))


def _bias(real: Tensor, keys: int) -> Tensor:
    """(b, t) -> (b, 1, 1, keys): what attention adds to its scores, 0 at real steps, -inf elsewhere.

    Its rows start at multiples of 8 elements, as PyTorch's fused attention has them; else each layer would copy it.
    """
    kind = real.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    out = torch.full((len(real), -(-keys // 8) * 8), float("-inf"), dtype=dtype, device=real.device)
    out[:, : real.shape[1]].masked_fill_(real, 0.0)
    return out[:, None, None, :keys]


def _order(text: Ragged) -> Both | None:
    """In which sentences are encoded: longest first, or, where one chunk holds them all, as they come."""
    return longest_first(text.both) if text.rows.device.type in CHUNK else None


def _in_order(chunks: list[Tensor], order: Both | None) -> Tensor:
    """What `_chunks` gave, joined in the order of the batch."""
    if order is None:
        return chunks[0]
    return torch.cat(chunks)[torch.argsort(order.device)]
