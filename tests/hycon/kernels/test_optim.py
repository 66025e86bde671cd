"""Our optimisers do to the bit what those of torch.optim do, and do not import what those import."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from hycon.kernels.optim import Optimizer

THEIRS = {
    "adam": lambda groups, **o: torch.optim.Adam(groups, fused=True, **o),
    "adamw": lambda groups, **o: torch.optim.AdamW(groups, fused=True, **o),
    "rmsprop": torch.optim.RMSprop,
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("rule", THEIRS)
def test_the_same_as_torch_to_the_bit(rule, weight_decay):
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(size, generator=generator) for size in ((7, 5), (5,), (3, 2), (4,))]
    ours, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))

    def groups(params):
        return [{"params": params[:2]}, {"params": iter(params[2:]), "lr": 0.03, "weight_decay": 0.2}]

    mine = Optimizer(rule, groups(ours), lr=0.01, weight_decay=weight_decay)
    other = THEIRS[rule](groups(theirs), lr=0.01, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(other, lambda step: 1 / (1 + step))
    for step in range(6):
        mine.zero_grad(), other.zero_grad()
        for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if n != 1 or step % 3:  # a parameter that is not always used
                a.grad = torch.randn(a.shape, generator=generator)
                b.grad = a.grad.clone()
        mine.step(1 / (1 + step))
        other.step()
        schedule.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)), step
    assert not any(torch.equal(a, x) for a, x in zip(ours, start, strict=True))


def test_no_run_on_word_vectors_imports_dynamo(tmp_path):
    """72 MiB and a second of every process."""
    code = (
        "import sys; from studies.cli import main; "
        "options = '--profile demo --executor inline --trials 1 --seeds 1 --rows EF-LSTM-GloVe,MULT-GloVe'; "
        "main(['run', 'table1', *options.split()]); "
        "assert 'torch' in sys.modules; sys.exit('torch._dynamo' in sys.modules)"
    )
    environment = os.environ | {"BENCH_DATA": str(tmp_path / "data"), "BENCH_RESULTS": str(tmp_path / "results")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
