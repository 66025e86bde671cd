"""Videos from utterance ids, and the whole videos behind a mini-batch."""

import dataclasses

import numpy as np
import pytest
import torch
from model_checks import rows_of

from hycon.data.prepare import find_videos
from hycon.data.ragged import Ragged
from hycon.data.videos import video_of


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("03bSnISJMiM[7]", ("03bSnISJMiM", 7)),
        ("03bSnISJMiM$_$12", ("03bSnISJMiM", 12)),
        ("03bSnISJMiM_3", ("03bSnISJMiM", 3)),
        ("_dI--eQ6qVU_11", ("_dI--eQ6qVU", 11)),  # video names hold underscores
        ("c7UH_rxdZv4", ("c7UH_rxdZv4", 0)),
        ("Ses01F_impro01_F000", ("Ses01F_impro01_F000", 0)),
        ("a_b[2]", ("a_b", 2)),
        ("training_3", ("training", 3)),
        ("train0_7", ("train0", 7)),  # the demo corpus's first video
        *(
            (id, (id, 0)) for id in ("train_17", "valid_0", "val_3", "Dev_2", "TEST_1", "test[4]", "dev$_$5")
        ),  # no video
    ],
)
def test_ids(id, expected):
    assert video_of(id) == expected


def batch_of(batches, ids):
    whole = dataclasses.replace(batches("small", "glove")["train"].slice(0, len(ids)), videos=None)
    return dataclasses.replace(whole, videos=find_videos(ids, whole))


def test_complete_videos(batches):
    batch = batch_of(batches, ["b[1]", "a[10]", "b[0]", "alone", "a[9]", "a[2]"])
    index, lengths, position = batch.take(torch.tensor([1, 3, 5])).videos.complete()
    # videos in order of their first appearance; within one, by k as a number
    assert lengths.host.tolist() == [3, 1]
    assert index.tolist() == [5, 4, 1, 3]
    assert position.tolist() == [2, 3, 0]


def test_any_way_of_picking_finds_the_same(batches):
    split = batches("small", "glove")["train"]  # ids train0_0 ... train4_7
    index = torch.tensor([9, 33, 2, 8])
    for picked in (
        split.take(index),
        split.take(torch.tensor([5, 9, 33, 2, 8, 1])).slice(1, 5),
        split.to("cpu").take(index),
    ):
        found, lengths, position = picked.videos.complete()
        assert lengths.host.tolist() == [8, 8, 8]
        assert torch.equal(found, torch.cat([torch.arange(s, s + 8) for s in (0, 8, 32)]))
        assert torch.equal(found[position], index)
        assert torch.equal(picked.videos.whole.take(index).label, picked.label)


@pytest.mark.parametrize("prefix", ["train_", "dev_", "utt_", "segment["])
def test_numbered_ids_are_videos_of_one(prefix, batches):
    batch = batch_of(batches, [f"{prefix}{i}{']' * prefix.endswith('[')}" for i in range(5)])
    index, lengths, position = batch.slice(1, 4).videos.complete()
    assert lengths.host.tolist() == [1, 1, 1]
    assert index[position].tolist() == [1, 2, 3]


def test_rows_move_once(batches):
    split = batches("small", "glove")["train"]
    other = dataclasses.replace(split, audio=split.vision)  # its audio is not the videos'
    for batch in (split, split.take(torch.tensor([9, 33, 2])), other):
        moved = batch.to("meta")
        whole = moved.videos.whole
        assert moved.text.rows is whole.text.rows
        assert moved.vision.rows is whole.vision.rows
        assert (moved.audio.rows is whole.audio.rows) == (batch is not other)
        for sequences in (moved.text, moved.audio, moved.vision, whole.text, whole.audio, whole.vision):
            assert sequences.rows.device.type == sequences.starts.device.type == "meta"
            assert sequences.lengths.device.type == "cpu"
        assert moved.label.device.type == whole.label.device.type == "meta"


def test_means_are_over_an_utterance_s_own_rows(batches):
    split = batches("small", "glove")["train"].take(torch.tensor([5, 0, 31]))
    for m in ("text", "audio", "vision"):
        expected = [rows_of(getattr(split, m), i).mean(0) for i in range(3)]
        np.testing.assert_allclose(split.means[m], expected, atol=1e-6)


def test_mean_of_ragged_sequences_and_its_gradient():
    rows = torch.randn(12, 2, 3, dtype=torch.double, requires_grad=True)
    sequences = Ragged.from_offsets(rows, torch.tensor([0, 5, 6, 12])).take(torch.tensor([2, 0, 2])).crop(4)
    expected = torch.stack([rows[6:10].mean(0), rows[:4].mean(0), rows[6:10].mean(0)])
    torch.testing.assert_close(sequences.mean(), expected)
    assert torch.autograd.gradcheck(lambda x: dataclasses.replace(sequences, rows=x).mean(), rows)


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
            assert isinstance(a, Ragged)
            assert a.rows.data_ptr() == b.rows.data_ptr()
            assert torch.equal(a.padded(), b.padded())
