"""EF-LSTM: MMSA's batch norm over time steps, which is off by default."""

import pytest
import torch
from model_checks import batch_of, small_model
from torch import nn

from baselines.ef_lstm import StepNorm
from hycon.errors import UserError

DIMS = {"text": 5, "audio": 3, "vision": 2}


@pytest.mark.parametrize("training", [True, False])
def test_without_padding_it_is_torch_s_batch_norm(training):
    torch.manual_seed(0)
    ours, theirs = StepNorm(6).train(training), nn.BatchNorm1d(6).train(training)
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = torch.rand(6) + 0.5
        getattr(ours, name).data.copy_(value)
        getattr(theirs, name).data.copy_(value)
    x = torch.randn(4, 6, 3)
    torch.testing.assert_close(ours(x, torch.full((4,), 6)), theirs(x), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_a_step_is_normalised_by_those_that_reach_it():
    torch.manual_seed(0)
    norm, x = StepNorm(8), torch.randn(3, 5, 4)
    lengths = torch.tensor([5, 2, 3])
    found = norm(x, lengths)
    beyond = torch.arange(5) >= lengths[:, None]
    torch.testing.assert_close(norm(x.masked_fill(beyond[..., None], 7.0), lengths)[~beyond], found[~beyond])
    third = torch.stack([x[0, 2], x[2, 2]])
    torch.testing.assert_close(found[0, 2], ((x[0, 2] - third.mean()) / (third.var(unbiased=False) + 1e-5).sqrt()))


def test_it_is_part_of_the_model_only_where_asked_for():
    plain, normed = (small_model("ef_lstm", dims=DIMS, **given) for given in ({}, {"time_norm": 6}))
    assert {n for n, _ in normed.named_parameters()} - {n for n, _ in plain.named_parameters()} == {
        "time_norm.weight",
        "time_norm.bias",
    }
    batch = batch_of([4, 1, 6], DIMS)
    normed(batch).prediction.sum().backward()
    assert normed.time_norm.weight.grad.all()
    normed.eval()
    together, alone = normed(batch).prediction, normed(batch.slice(1, 2)).prediction
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=1e-6)
    with pytest.raises(UserError, match="has 7 steps, but time_norm is 6"):
        normed(batch_of([7], DIMS))
