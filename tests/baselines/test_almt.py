"""ALMT: parity with MMSA as recorded, and what its fusion does not read."""

import dataclasses

import pytest
import torch
from model_checks import undropped
from peer.test_against_mmsa_almt import HEAD_WIDTH, SIZES
from recorded import GOLDEN
from recorded_states import compare_almt
from safetensors.torch import load_file

from hycon.errors import UserError
from hycon.train import predict
from studies.registry import resolve


def test_same_numbers_as_recorded():
    compare_almt(load_file(GOLDEN / "almt.safetensors"), **SIZES, head_width=HEAD_WIDTH)


def test_later_steps_share_the_last_position(batches):
    split = batches("small", "bert")["train"].slice(0, 6)
    longest = max(getattr(split, m).longest for m in ("text", "audio", "vision"))
    one, other = (undropped("almt", "bert", split, steps=n) for n in (longest, 3))
    state = {k: v for k, v in one.state_dict().items() if not k.endswith("positions") or "embed" not in k}
    other.load_state_dict(state, strict=False)
    with torch.no_grad():
        for m in ("text", "audio", "vision"):
            here, there = one.embed[m].positions, other.embed[m].positions
            n = len(there)
            here[n:] = here[n - 1]
            there.copy_(here[:n])
    torch.testing.assert_close(predict(one, split), predict(other, split))


def test_without_audio_and_vision_the_text_says_nothing(batches):
    """Values come from audio and vision alone; where these are the same at each step, where text looks is all one."""
    split = batches("small", "bert")["train"].slice(0, 6)
    net = undropped("almt", "bert", split)
    assert predict(net, split).std() > 0
    with torch.no_grad():
        for layer in net.hyper_layers:
            layer.v_audio.weight.zero_()
            layer.v_vision.weight.zero_()
    assert float(predict(net, split).std()) == pytest.approx(0, abs=1e-6)


def test_heads_that_do_not_divide():
    with pytest.raises(UserError, match="d must be a multiple of heads"):
        resolve("almt", "bert", {"heads": 7})


def test_training_is_the_reference_s():
    training = resolve("almt", "bert", {})[1]
    assert (training.optimizer, training.loss, training.warmup) == ("adamw", "mse", 0.1)
    assert dataclasses.replace(training, lr=1e-4, batch_size=64, weight_decay=1e-4) == training
