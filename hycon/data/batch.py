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
from hycon.data.ragged import Ragged
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
    indexes are int64 on the CPU.
    """

    whole: Batch
    members: Ragged
    video: Tensor
    place: Tensor

    def take(self, index: Tensor) -> Videos:
        return replace(self, video=self.video[index], place=self.place[index])

    def slice(self, start: int, stop: int) -> Videos:
        return replace(self, video=self.video[start:stop], place=self.place[start:stop])

    def complete(self) -> tuple[Tensor, Tensor, Tensor]:
        """All utterances of the videos that the batch touches, whichever of them are in the batch.

        Returns (M,) their indexes into `whole`, one video after the other; (V,) how many each video has; (B,) where the
        batch's own utterances are among the M.
        """
        touched, which = torch.unique(self.video, return_inverse=True)
        videos = self.members.take(touched)
        first = videos.lengths.cumsum(0) - videos.lengths
        owner = torch.repeat_interleave(torch.arange(len(videos)), videos.lengths)
        index = videos.rows[videos.starts[owner] + torch.arange(len(owner)) - first[owner]]
        return index, videos.lengths, first[which] + self.place


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

    def take(self, index: Tensor) -> Batch:
        there = index.to(self.label.device)
        return self._each(lambda rows: rows.take(index), lambda x: x[there], self.videos and self.videos.take(index))

    def slice(self, start: int, stop: int) -> Batch:
        videos = self.videos and self.videos.slice(start, stop)
        return self._each(lambda rows: rows.slice(start, stop), lambda x: x[start:stop], videos)

    def to(self, device: torch.device | str) -> Batch:
        """On `device`; the rows that the batch shares with its videos' split are moved once."""
        videos = self.videos and replace(self.videos, whole=self.videos.whole.to(device))
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
