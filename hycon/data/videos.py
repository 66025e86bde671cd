"""Which utterances share a video, for models that read an utterance in the context of its video (HFFN).

An utterance's id names its video and its place in it: "video[k]" (CMU-MultimodalSDK, MAG-BERT, MulT), "video$_$k"
(MMSA), "video_k". Ids of any other form stand for a video of one utterance, and so do numbers that name no video: those
behind the name of a split ("train_17", as an importer numbers utterances whose source had no ids), and those of a split
whose ids all begin alike ("utt_0", "utt_1", ...). Such a corpus has no video context, and a model that wants it sees
each utterance alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hycon.data.ragged import Ragged

if TYPE_CHECKING:
    from hycon.data.batching import Batch

FORMS = (r"(.+)\[(\d+)\]", r"(.+)\$_\$(\d+)", r"(.+)_(\d+)")
SPLIT_NAMES = ("train", "valid", "val", "dev", "test")


def video_of(id: str) -> tuple[str, int]:
    """("video", k) of an utterance id; (id, 0) where it names no video."""
    for form in FORMS:
        found = re.fullmatch(form, id)
        if found and found[1].lower() not in SPLIT_NAMES:
            return found[1], int(found[2])
    return id, 0


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


def find_videos(ids: Sequence[str], whole: Batch) -> Videos:
    """The videos of a whole split; ids: its utterances', in order."""
    found = [video_of(id) for id in ids]
    if len({name for name, _ in found}) == 1:
        found = [(id, 0) for id in ids]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in found))}
    members: list[list[int]] = [[] for _ in numbers]
    for i in sorted(range(len(found)), key=lambda i: found[i][1]):
        members[numbers[found[i][0]]].append(i)
    place = torch.empty(len(found), dtype=torch.int64)
    for own in members:
        place[torch.tensor(own)] = torch.arange(len(own))
    video = torch.tensor([numbers[name] for name, _ in found])
    return Videos(whole, Ragged.from_list([torch.tensor(own) for own in members]), video, place)
