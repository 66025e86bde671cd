"""Videos from utterance ids, and the whole videos behind a mini-batch."""

import dataclasses

import pytest
import torch

from hycon.data.ragged import Ragged
from hycon.data.videos import find_videos, video_of


@pytest.mark.parametrize(
    ("id", "split", "expected"),
    [
        ("03bSnISJMiM[7]", "train", ("03bSnISJMiM", 7)),
        ("03bSnISJMiM$_$12", "train", ("03bSnISJMiM", 12)),
        ("03bSnISJMiM_3", "train", ("03bSnISJMiM", 3)),
        ("_dI--eQ6qVU_11", "train", ("_dI--eQ6qVU", 11)),  # video names hold underscores
        ("c7UH_rxdZv4", "train", ("c7UH_rxdZv4", 0)),
        ("Ses01F_impro01_F000", "train", ("Ses01F_impro01_F000", 0)),
        ("train_17", "train", ("train_17", 0)),  # numbered by an importer: no video
        ("train_17", "test", ("train", 17)),
        ("a_b[2]", "train", ("a_b", 2)),
    ],
)
def test_ids(id, split, expected):
    assert video_of(id, split) == expected


def batch_of(batches, ids):
    whole = dataclasses.replace(batches("small", "glove")["train"].slice(0, len(ids)), videos=None)
    return dataclasses.replace(whole, videos=find_videos(ids, "train", whole))


def test_complete_videos(batches):
    batch = batch_of(batches, ["b[1]", "a[10]", "b[0]", "alone", "a[9]", "a[2]"])
    whole, lengths, position = batch.take(torch.tensor([1, 3, 5])).videos.complete()
    # videos in order of their first appearance; within one, by k as a number
    assert lengths.tolist() == [3, 1]
    assert torch.equal(whole.label, batch.label[torch.tensor([5, 4, 1, 3])])
    assert position.tolist() == [2, 3, 0]
    assert torch.equal(whole.label[position], batch.label[torch.tensor([1, 3, 5])])


def test_any_way_of_picking_finds_the_same(batches):
    split = batches("small", "glove")["train"]  # ids train0_0 ... train4_7
    index = torch.tensor([9, 33, 2, 8])
    for picked in (
        split.take(index),
        split.take(torch.tensor([5, 9, 33, 2, 8, 1])).slice(1, 5),
        split.to("cpu").take(index),
    ):
        whole, lengths, position = picked.videos.complete()
        assert lengths.tolist() == [8, 8, 8]
        assert torch.equal(whole.label, split.label[torch.cat([torch.arange(s, s + 8) for s in (0, 8, 32)])])
        assert torch.equal(whole.label[position], picked.label)
        assert torch.equal(whole.audio.lengths[position], picked.audio.lengths)
        assert whole.videos is None


def test_numbered_ids_are_videos_of_one(batches):
    batch = batch_of(batches, [f"train_{i}" for i in range(5)])
    whole, lengths, position = batch.slice(1, 4).videos.complete()
    assert lengths.tolist() == [1, 1, 1]
    assert torch.equal(whole.label[position], batch.label[1:4])


def test_nothing_else_of_a_batch_changes(batches):
    split = batches("small", "bert")["valid"]
    bare = dataclasses.replace(split, videos=None)
    index = torch.tensor([3, 0, 7])
    for one, other in ((split.take(index), bare.take(index)), (split.slice(2, 6), bare.slice(2, 6))):
        assert other.videos is None
        assert torch.equal(one.label, other.label)
        assert one.layout == other.layout
        for modality in ("text", "audio", "vision"):
            a, b = getattr(one, modality), getattr(other, modality)
            assert isinstance(a, Ragged) and a.rows.data_ptr() == b.rows.data_ptr()
            assert torch.equal(a.padded(), b.padded())
