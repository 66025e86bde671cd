"""The BERT and XLNet forms of the models that read a word at a time: each word piece meets its own audio and vision.

What such a model predicts is what its form for word vectors predicts, where the vectors are what the encoder says of
one sentence at a time, and the weights are the same.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from model_checks import DIMS, batch_of
from torch import nn
from torch.nn.functional import conv1d, pad

from hycon.data.ragged import Ragged
from studies.registry import model_module

LENGTHS = [3, 9, 1, 6, 6, 2]
PIECES, WIDTH, D = 17, 12, 10


class Encoder(nn.Module):
    """Stands in for a PretrainedText: a vector per piece."""

    kind, width = "bert", WIDTH
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=PIECES))

    def __init__(self):
        super().__init__()
        self.vectors = nn.Embedding(PIECES, WIDTH)

    def states(self, text):
        own = (self.vectors(ids) for ids in text.rows[text.starts[0] :].split(text.lengths.tolist()))
        return torch.stack([pad(x, (0, 0, 0, text.longest - len(x))) for x in own])


def convolved(net, states):
    """(n, width) of one sentence, through the Conv1d that EF-LSTM's family puts behind the encoder."""
    return conv1d(states.t()[None], net.text.conv.weight, padding=1)[0].t()


# name -> options of both forms, of the token form, of the other; what the models read of a sentence's states
MODELS = {
    "ef_lstm": ({"hidden": 8}, {"d": D}, {}, convolved),
    "lf_lstm": ({}, {"d": D}, {}, convolved),
    "tcm_lstm": ({"d": D}, {}, {}, convolved),
    "mfn": ({}, {}, {}, lambda net, states: states),
    "graph_mfn": ({}, {}, {}, lambda net, states: states),
    "raven": ({}, {}, {}, lambda net, states: states),
    "mult": (
        {"heads": 2},
        {"token_d": D, "token_layers": 2, "token_kernel": 3},
        {"d": D, "layers": 2, "text_kernel": 3},
        lambda net, states: states,
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_a_piece_is_read_beside_its_own_audio_and_vision(name):
    both, of_tokens, of_vectors, read = MODELS[name]
    module = model_module(name)
    torch.manual_seed(0)
    token_form = module.Model(module.Config(**both, **of_tokens), {**DIMS, "text": WIDTH}, Encoder()).eval()
    batch = batch_of(LENGTHS, DIMS)
    ids = torch.randint(PIECES, (sum(LENGTHS),)).split(LENGTHS)
    sentences = [read(token_form, states) for states in map(_encoder(token_form).vectors, ids)]
    dims = {**DIMS, "text": sentences[0].shape[1]}
    vector_form = module.Model(module.Config(**both, **of_vectors), dims).eval()
    of_text = ("text.vectors", "text.text", "text.conv", "lstms.text.")  # what only the token form has
    vector_form.load_state_dict({k: v for k, v in token_form.state_dict().items() if not k.startswith(of_text)})
    tokens, vectors = (replace(batch, text=Ragged.from_list(x)) for x in (list(ids), sentences))
    expected = vector_form(vectors).prediction
    torch.testing.assert_close(token_form(tokens).prediction, expected, atol=1e-6, rtol=1e-5)
    swapped = replace(vectors, text=Ragged.from_list([x.roll(1, 0) for x in sentences]))  # it does matter
    assert (vector_form(swapped).prediction - expected).abs().max() > 1e-4


def _encoder(net):
    return next(module for module in net.modules() if isinstance(module, Encoder))
