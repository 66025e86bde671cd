"""benchmarks/bert_on_cpu.py in small: the padded variant computes all positions, and leaves the encoder as it was."""

import sys
from pathlib import Path

import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts, not a package
import bert_on_cpu  # noqa: E402
from gpu_measure import VARIANTS  # noqa: E402
from gpu_training import QUICK, encoder_of, loss_of, made_up, network  # noqa: E402


def test_the_padded_variant_computes_all_positions_and_the_others_few():
    net, batch = network("hycon", "bert", QUICK).eval(), made_up("bert", QUICK, QUICK.train).slice(0, 8)
    encoder, seen = encoder_of(net), []
    encoder.model.encoder.layer[0].output.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape[:-1].numel())
    )
    padded, ours = (next(v for v in VARIANTS if v.name == name) for name in ("eager, padded, fp32", "fp32"))
    losses = []
    for variant in (ours, padded, ours):
        with bert_on_cpu.as_in(variant, net, QUICK.lengths["text"]), torch.no_grad():
            losses.append(loss_of(net, batch))
    few, all_positions, again = seen
    assert all_positions == 8 * QUICK.lengths["text"]
    assert few < all_positions
    assert again == few
    assert torch.equal(losses[0], losses[2])
    torch.testing.assert_close(losses[0], losses[1])


def test_each_variant_takes_the_steps_asked_for():
    found = bert_on_cpu.measure("mag", QUICK, 2)
    assert list(found["seconds"])[:2] == ["eager, padded, fp32", "fp32"]
    assert {len(own) for own in found["seconds"].values()} == {2}
    assert set(found["times_faster"]) == set(found["seconds"]) - {"eager, padded, fp32"}
