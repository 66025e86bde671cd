"""What a model keeps by utterance: rows, state_dict, the hook in `fit`, and Self-MM's labels."""

import torch
from model_checks import build, loss_of

from hycon.memory import Memory
from hycon.train import Training, fit


def test_rows_are_of_the_utterances_that_are_named():
    memory = Memory(label=(), feature=(2,))
    memory.allocate(4)
    memory.write("label", torch.tensor([2, 0]), torch.tensor([5.0, 6.0]))
    assert memory["label"].tolist() == [6.0, 0.0, 5.0, 0.0]
    assert memory["feature"].shape == (4, 2)


def test_a_state_dict_of_any_size_is_loaded():
    one, other = Memory(label=()), Memory(label=())
    one.allocate(3)
    one.write("label", torch.arange(3), torch.tensor([1.0, 2.0, 3.0]))
    other.load_state_dict(one.state_dict())
    assert other["label"].tolist() == [1.0, 2.0, 3.0]


def test_a_batch_knows_which_utterances_it_has(batches):
    split = batches("small", "bert")["train"]
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    assert torch.equal(split.take(order).slice(3, 9).index, order[3:9])


def test_labels_move_from_the_second_epoch_on_whatever_the_order(batches):
    """...in fit, which shows the model its train split; the multimodal label never moves, and no other split counts."""
    split = batches("small", "bert")
    net = build("self_mm", "bert", split["train"])
    training = Training(lr=1e-3, batch_size=16, epochs=1)
    fit(net, split["train"], split["valid"], training, seed=0)
    label = split["train"].label
    assert torch.equal(net.memory["label_text"], label)
    assert net.memory["seen"].unique().tolist() == [1.0]
    kept = net.memory["label_text"].clone()
    loss_of(net.eval(), split["train"].slice(0, 8))
    assert torch.equal(net.memory["label_text"], kept)
    loss_of(net.train(), split["train"].slice(0, 8))
    moved = net.memory["label_text"] != kept
    assert moved[:8].all()
    assert not moved[8:].any()
    assert torch.equal(net.memory["label_fusion"], label)


def test_a_weight_is_how_far_the_unimodal_label_is_from_the_label(batches):
    split = batches("small", "bert")["train"].slice(0, 8)
    net = build("self_mm", "bert", split).eval()
    output = net(split)
    alone = net.loss(output, split)
    net.prepare_training(split)
    assert torch.equal(net.loss(output, split), alone)
    net.memory.write("label_audio", torch.tensor([3]), split.label[3:4] + 1)
    error = (output.parts["prediction_audio"][3] - split.label[3] - 1).abs()
    torch.testing.assert_close(net.loss(output, split) - alone, torch.tanh(torch.tensor(1.0)) * error / 8)
