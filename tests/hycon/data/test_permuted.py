"""Audio and vision of other utterances: the control that says whether a model uses them."""

import pytest
import torch

from hycon.config import settings
from hycon.data import load
from hycon.data.prepare import prepare
from hycon.errors import UserError
from hycon.train import Training
from studies.registry import resolve


def rows(sequences, i):
    return sequences.rows[sequences.starts[i] : sequences.starts[i] + sequences.lengths[i]]


def same(a, b):
    return a.shape == b.shape and torch.equal(a, b)


def test_every_utterance_has_the_audio_and_vision_of_one_other(corpora):
    corpus = load("small", corpora)
    plain, permuted = (prepare(corpus, "glove", permuted=p) for p in ("", "audio,vision"))
    for name, split in permuted.items():
        count = len(split)
        source = [
            [j for j in range(count) if same(rows(split.audio, i), rows(plain[name].audio, j))] for i in range(count)
        ]
        assert all(len(found) == 1 for found in source)
        taken = [found[0] for found in source]
        assert sorted(taken) == list(range(count))
        assert all(i != j for i, j in enumerate(taken))
        assert all(same(rows(split.vision, i), rows(plain[name].vision, j)) for i, j in enumerate(taken))
        assert torch.equal(split.text.rows, plain[name].text.rows)
        assert torch.equal(split.label, plain[name].label)
        assert not split.layout.aligned


def test_it_is_the_same_in_every_run_and_can_be_one_modality(corpora):
    corpus = load("small", corpora)
    one, other = (prepare(corpus, "glove", permuted="audio,vision")["train"] for _ in range(2))
    assert torch.equal(one.audio.starts, other.audio.starts)
    vision = prepare(corpus, "glove", permuted="vision")["train"]
    assert torch.equal(vision.vision.starts, one.vision.starts)
    assert torch.equal(vision.audio.starts, prepare(corpus, "glove")["train"].audio.starts)


def test_it_is_part_of_a_run_only_where_it_is_set():
    assert "permuted" not in settings(Training(lr=1.0))
    assert settings(Training(lr=1.0, permuted="audio"))["permuted"] == "audio"


@pytest.mark.parametrize("names", ["text", "vision,audio", "audio,", "sound"])
def test_what_cannot_be_permuted(names):
    with pytest.raises(UserError, match="expected audio,vision"):
        Training(lr=1.0, permuted=names)


def test_a_model_that_reads_word_by_word_refuses():
    with pytest.raises(UserError, match="word by word"):
        resolve("mag", "bert", {"permuted": "audio"})
