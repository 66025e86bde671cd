"""Text that an encoder has read before: the same bits, fewer computations, and nothing taken for something else."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from builders import run_spec

from hycon.data.ragged import Ragged
from hycon.pretrained import identify, load_model
from hycon.text import PretrainedText
from studies.engines import remembered
from studies.engines.remembered import text_remembered
from studies.engines.robustness import execute


def sentences(seed):
    generator = torch.Generator().manual_seed(seed)
    return Ragged.from_list([torch.randint(5, 100, (n,), generator=generator) for n in (3, 9, 7)])


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return PretrainedText(load_model("bert", identify("bert", "demo")), "bert").eval().requires_grad_(False)


@pytest.fixture
def computed(monkeypatch):
    """The number of sentences of each batch that a text encoder computes."""
    counts, chunks = [], PretrainedText._chunks

    def counted(self, text, *arguments, **named):
        counts.append(len(text))
        return chunks(self, text, *arguments, **named)

    monkeypatch.setattr(PretrainedText, "_chunks", counted)
    return counts


def test_the_same_words_are_computed_once(encoder, computed):
    own, other = sentences(0), sentences(1)
    plain = [encoder.states(own), encoder.states(other)]
    del computed[:]
    with text_remembered(encoder, memory := {}):
        for _ in range(2):
            first = encoder.states(own)
            assert torch.equal(first, plain[0])
            first.zero_()  # what a model does with it is its own affair
            assert torch.equal(encoder.states(other), plain[1])
    assert len(computed) == len(memory) == 2
    encoder.states(own)
    assert len(computed) == 3  # as before once the block is left


def test_words_with_other_lengths_and_other_questions_are_other_keys(encoder, computed):
    text = replace(sentences(0), pad=int(sentences(0).rows[-1]))
    shorter = text.crop(6)
    padding = replace(text, lengths=torch.tensor([3, 9, 6]))  # whose last sentence looks the same once it is padded
    with text_remembered(encoder, {}):
        for asked in (text, shorter, padding):
            encoder.states(asked)
        for readout, nominal in (("cls", 24), ("mean", 24), ("mean", 9)):
            encoder.windows(text, readout, nominal)
    assert len(computed) == 6


def test_what_an_injection_makes_is_not_remembered(encoder, computed):
    text = sentences(0)
    with text_remembered(encoder, memory := {}):
        ones = encoder.states(text, lambda hidden, pick: hidden + 1)
        twos = encoder.states(text, inject=lambda hidden, pick: hidden + 2)
    assert not torch.equal(ones, twos)
    assert memory == {}


def test_a_memory_that_is_full_takes_no_more(encoder, computed, monkeypatch):
    text = sentences(0)
    size = encoder.states(text).numel() * 4
    monkeypatch.setattr(remembered, "LARGEST", size)
    with text_remembered(encoder, memory := {}):
        encoder.states(text)
        assert torch.equal(encoder.states(sentences(1)), encoder.states(sentences(1)))
    assert len(memory) == 1


@pytest.mark.parametrize(
    ("model", "text"), [("hycon", "bert"), ("mult", "bert"), ("misa", "bert"), ("almt", "bert"), ("mag", "xlnet")]
)
def test_robustness_is_the_same_to_the_bit(corpora, computed, monkeypatch, model, text):
    spec = run_spec(corpora, model, text, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "text_remembered", lambda model, memory: nullcontext())
        plain = execute(spec, data_root=str(corpora))[0]
    asked = len(computed)
    del computed[:]
    record = execute(spec, data_root=str(corpora))[0]
    assert record.robustness == plain.robustness
    if model == "mag":
        assert len(computed) == asked
    else:
        assert len(computed) <= asked - 28  # of 29 conditions that leave the text as it is, one computes it
