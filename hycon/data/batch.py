"""Batches: ragged sequences of three modalities, their labels, and the videos that their utterances come from.

`prepare` makes one Batch of a whole split. A mini-batch is `split.take(index)`, which copies no row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Both, Ragged, first_rows, rows_in_order
from hycon.errors import check_known

FRONT_ENDS = ("glove", "features", "bert", "xlnet")


def form_of(text: str) -> str:
    """ "tokens" (bert, xlnet: a pretrained encoder is fine-tuned) or "vectors" (glove, features)."""
    check_known("text front-end", text, FRONT_ENDS)
    return "tokens" if text in ("bert", "xlnet") else "vectors"


@dataclass(frozen=True)
class Layout:
    """How the sequences of a batch are padded where a model asks for it.

    lengths: modality -> nominal length T, what the reference code pads to.  side: where that padding goes.
    tokens: text rows are token ids.  aligned: step t of the three modalities belongs to the same word (piece).
    """

    lengths: dict[str, int]
    side: str = "right"
    tokens: bool = False
    aligned: bool = True


@dataclass(frozen=True)
class Videos:
    """The videos of a batch's utterances, and the split that holds them whole.

    whole: the split, without `videos` of its own.  members: Ragged of (), a video's utterances as indexes into `whole`,
    in their order.  video, place: (B,) which video, and which of its members, an utterance of the batch is. All
    indexes are int64.
    """

    whole: Batch
    members: Ragged
    video: Both
    place: Both

    def take(self, index: Both) -> Videos:
        return replace(self, video=self.video.take(index), place=self.place.take(index))

    def slice(self, start: int, stop: int) -> Videos:
        return replace(self, video=self.video.slice(start, stop), place=self.place.slice(start, stop))

    def to(self, device: torch.device | str) -> Videos:
        moved = self.whole.to(device), self.members.to(device), self.video.to(device), self.place.to(device)
        return Videos(*moved)

    def complete(self) -> tuple[Tensor, Both, Tensor]:
        """All utterances of the videos that the batch touches, whichever of them are in the batch.

        Returns (M,) their indexes into `whole`, one video after the other; (V,) how many each video has; (B,) where the
        batch's own utterances are among the M. The first and the last are on the compute device.
        """
        touched = Both(torch.unique(self.video.host), torch.empty(0))
        device = self.video.device.device
        among = torch.zeros(len(self.members), dtype=torch.long, device=device).index_fill(0, self.video.device, 1)
        touched = replace(touched, device=torch.argsort(among, descending=True, stable=True)[: len(touched)])
        videos = self.members.take(touched)
        first = first_rows(videos.device_lengths())
        return rows_in_order(videos), videos.both, first[among.cumsum(0)[self.video.device] - 1] + self.place.device


@dataclass(frozen=True)
class Batch:
    """text: Ragged of token ids () or vectors (d_l,).  audio, vision: Ragged of (d_m,).  label: (B,) or (B, E).

    videos: the utterances' videos, for the models that read an utterance among its neighbours; None where a batch was
    not made by `prepare`.
    index: (B,) int64 on the label's device, which utterance of its split each is, for the models that keep something by
    utterance (hycon/memory.py); None likewise.
    """

    text: Ragged
    audio: Ragged
    vision: Ragged
    label: Tensor
    layout: Layout
    videos: Videos | None = None
    index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.label)

    def _each(
        self, sequences: Callable[[Ragged], Ragged], each: Callable[[Tensor], Tensor], videos: Videos | None
    ) -> Batch:
        text, audio, vision = (sequences(getattr(self, m)) for m in MODALITIES)
        index = None if self.index is None else each(self.index)
        return replace(self, text=text, audio=audio, vision=vision, label=each(self.label), videos=videos, index=index)

    def take(self, index: Tensor | Both) -> Batch:
        """The utterances `index`; from the CPU it is uploaded once for all that is picked."""
        both = index if isinstance(index, Both) else Both.of(index, self.label.device)
        videos = self.videos and self.videos.take(both)
        return self._each(lambda rows: rows.take(both), lambda x: x[both.device], videos)

    def slice(self, start: int, stop: int) -> Batch:
        videos = self.videos and self.videos.slice(start, stop)
        return self._each(lambda rows: rows.slice(start, stop), lambda x: x[start:stop], videos)

    def to(self, device: torch.device | str) -> Batch:
        """On `device`; the rows that the batch shares with its videos' split are moved once."""
        videos = self.videos and self.videos.to(device)
        moved = {}
        if self.videos and videos:
            moved = {id(getattr(self.videos.whole, m).rows): getattr(videos.whole, m).rows for m in MODALITIES}

        def move(sequences: Ragged) -> Ragged:
            return replace(sequences, rows=moved.get(id(sequences.rows), sequences.rows)).to(device)

        return self._each(move, lambda x: x.to(device), videos)

    @cached_property
    def means(self) -> dict[str, Tensor]:
        """{modality: (B, d_m)}: the mean of each utterance's vectors; computed when first asked for."""
        with torch.inference_mode(False):  # whoever asks first, training will read them too
            return {m: getattr(self, m).mean() for m in MODALITIES}
