"""ICCN: its loss, what it is read off, and that training correlates the two views."""

import pytest
import torch
from correlation_oracle import slow_correlation
from model_checks import small_model

from baselines.iccn import SEARCH_SPACE
from hycon.kernels.correlation import canonical_correlation
from hycon.output import task_loss
from studies.authors.conformance import check_batch_of_one_of, check_gradients_of, check_own_prediction_of

SMALL = {"d": 12, "channels": 2, "correlated": 4, "hidden": 8}


def test_the_initial_outputs_are_judged_by_correlation_not_scale(batches):
    """The untrained network's views vary by thousandths; ten times as large they correlate no more."""
    batch = batches("small", "glove")["train"].slice(0, 32)
    net = small_model("iccn", **SMALL).eval()
    with torch.no_grad():
        before = float(net.loss(net(batch), batch) - task_loss(net(batch).prediction, batch.label))
        for view in (net.text_audio, net.text_vision):
            view.linear.weight.mul_(10.0)
            view.linear.bias.mul_(10.0)
        after = float(net.loss(net(batch), batch) - task_loss(net(batch).prediction, batch.label))
    assert before < 0.09  # 0.1 would be no correlation at all
    assert after == pytest.approx(before, abs=1e-5)


def test_every_searched_batch_is_large_enough():
    for space in SEARCH_SPACE.values():
        assert min(space["batch_size"]) >= 2 * max(space["correlated"])


def test_loss_is_task_plus_missing_correlation(batches):
    batch = batches("small", "glove")["train"].slice(0, 16)
    net = small_model("iccn", weight=0.5, ridge=1e-3, **SMALL).eval()
    with torch.no_grad():
        output = net(batch)
        task = float(task_loss(output.prediction, batch.label))
        text_audio = net.text_audio(output.representations["text"], output.representations["audio"])
        text_vision = net.text_vision(output.representations["text"], output.representations["vision"])
        found = slow_correlation(text_audio.double().numpy(), text_vision.double().numpy(), 1e-3)
        assert float(net.loss(output, batch)) == pytest.approx(task + 0.5 * (1 - found / 4), abs=1e-5)
        plain = small_model("iccn", weight=0.0, **SMALL).eval()
        assert float(plain.loss(plain(batch), batch)) == task


def test_training_correlates_the_two_views(batches):
    batch = batches("small", "glove")["train"].slice(0, 32)
    net = small_model("iccn", weight=10.0, dropout=0.0, **SMALL)
    steps = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        output = net(batch)
        multimodal = output.multimodal
        losses.append(float(canonical_correlation(multimodal[:, :4], multimodal[:, -4:]).detach()))
        steps.zero_grad()
        net.loss(output, batch).backward()
        steps.step()
    assert losses[-1] > losses[0] + 0.3


def test_conformance(batches):
    split = batches("small", "glove")["train"]
    check_gradients_of(small_model("iccn", **SMALL), split.slice(0, 12))
    check_own_prediction_of(small_model("iccn", **SMALL), split)
    check_batch_of_one_of(small_model("iccn", **SMALL), split)
