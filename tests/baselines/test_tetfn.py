"""TETFN: parity with MMSA as recorded; its labels in training; the groups of its optimiser."""

import pytest
import torch
from model_checks import build, loss_of
from peer.test_against_mmsa_tetfn import SIZES
from recorded import GOLDEN
from recorded_states import compare_tetfn
from safetensors.torch import load_file

from baselines.tetfn import largest
from hycon.data.ragged import Both
from hycon.errors import UserError
from studies.registry import build_model, resolve

MOSI = {"text": 768, "audio": 74, "vision": 47}


def test_same_numbers_as_recorded():
    compare_tetfn(load_file(GOLDEN / "tetfn.safetensors"), **SIZES)


def test_the_largest_of_an_utterance_s_own_steps():
    rows = torch.tensor([[-3.0, -1.0], [-2.0, -5.0], [-4.0, -4.0]])
    assert largest(rows, Both.of(torch.tensor([2, 1]))).tolist() == [[-2.0, -1.0], [-4.0, -4.0]]


def test_unimodal_labels_move_from_the_second_epoch_on(batches):
    split = batches("small", "bert")["train"].slice(0, 12)
    net = build("tetfn", "bert", split).train()
    net.prepare_training(split)
    moved = []
    for _ in range(2):
        loss_of(net, split)
        moved.append((net.memory["label_audio"] - split.label).abs().max() > 0)
    assert moved == [False, True]
    assert torch.equal(net.memory["label_fusion"], split.label)
    net.eval()
    before = net.memory["label_audio"].clone()
    loss_of(net, split)
    assert torch.equal(net.memory["label_audio"], before)


def test_the_groups_of_the_optimiser():
    with torch.device("meta"):
        net = build_model("tetfn", text="bert", dims=MOSI)
    groups = net.param_groups(resolve("tetfn", "bert", {})[1])
    numbers = [{k: v for k, v in g.items() if k != "params"} for g in groups]
    assert numbers == [{}, {"weight_decay": 0.0}, {"lr": 5e-4}, {"lr": 3e-4}, {}]
    found = [id(p) for g in groups for p in g["params"]]
    assert sorted(found) == sorted(id(p) for p in net.parameters())


def test_it_is_not_for_emotions(batches):
    with pytest.raises(UserError, match="not for emotions"):
        build("tetfn", "bert", batches("small", "bert")["train"], emotions=4)
