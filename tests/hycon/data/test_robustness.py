"""What is dropped and where noise falls: the same for all models and batches, and no more than a condition says."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from hycon.data import convert, load
from hycon.data.conditions import CONDITIONS, LEVELS, SHARES, Condition, dropping
from hycon.data.prepare import prepare
from hycon.data.ragged import rows_in_order
from hycon.data.robustness import intact
from hycon.errors import UserError
from hycon.pretrained import identify, load_tokenizer

TEXTS = ("glove", "bert", "xlnet")
MODALITIES = ("text", "audio", "vision")


def whole(root, text="glove", corpus="small", scale="none"):
    tokenizer = load_tokenizer(text, identify(text, "demo")) if text in ("bert", "xlnet") else None
    made = load(corpus, root)
    batch = prepare(made, text, tokenizer=tokenizer, scale=scale)["test"]
    return intact(made, "test", batch, text, tokenizer, scale)


def each(sequences):
    """The rows of each utterance."""
    return [x.numpy() for x in rows_in_order(sequences).split(sequences.lengths.tolist())]


def words_dropped(found, batch, modality):
    """(utterance id, word) of the words that have another row than in the intact batch."""
    steps = found.steps[modality]
    differs = rows_in_order(getattr(batch, modality)) != rows_in_order(getattr(found.batch, modality))
    differs = differs if differs.dim() == 1 else differs.any(1)
    first = dict(zip(found.ids, steps.first.tolist(), strict=True))
    owner = np.repeat(found.ids, getattr(batch, modality).lengths)
    return {(id, int(w) - first[id]) for id, w, d in zip(owner, steps.word, differs, strict=True) if d}


def test_conditions_are_each_modality_each_pair_nine_shares_and_the_levels():
    names = [condition.name for condition in CONDITIONS]
    assert len(set(names)) == len(names) == 6 + 3 * len(SHARES) + 2 * len(LEVELS)
    assert {"missing_text", "missing_audio_vision", "dropped_text_0.3", "noise_vision_0.5"} <= set(names)
    assert list(dropping("audio")) == [*SHARES, 1.0]
    assert dropping("audio")[1.0] == "missing_audio"


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_all_text_forms_lose_the_same_words(corpora, modality):
    """Also where a word is several pieces."""
    dropped = []
    for text in TEXTS:
        found = whole(corpora, text)
        dropped.append(words_dropped(found, found.under(Condition("dropped", (modality,), 0.4)), modality))
    assert dropped[0]
    assert dropped[0] == dropped[1] == dropped[2]


def test_text_loses_the_same_words_as_vectors_and_as_pieces(corpora):
    """A word that the vectors or the pieces do not know looks dropped already."""
    condition = Condition("dropped", ("text",), 0.5)
    found = {text: whole(corpora, text) for text in TEXTS}
    dropped = {text: words_dropped(one, one.under(condition), "text") for text, one in found.items()}
    assert len(dropped["glove"] & dropped["bert"]) > 0.9 * len(dropped["glove"])
    assert dropped["bert"] == dropped["xlnet"]


def test_modalities_lose_other_words(corpora):
    found = whole(corpora)
    one, other = (words_dropped(found, found.under(Condition("dropped", (m,), 0.4)), m) for m in ("audio", "vision"))
    assert one != other


def test_utterances_of_one_length_lose_other_words(corpora):
    found = whole(corpora)
    lost = words_dropped(found, found.under(Condition("dropped", ("audio",), 0.5)), "audio")
    by_length = {}
    for id, count in zip(found.ids, found.steps["audio"].count.tolist(), strict=True):
        by_length.setdefault(count, []).append(frozenset(word for own, word in lost if own == id))
    most = max(by_length.values(), key=len)
    assert len(most) > 1
    assert len(set(most)) > 1


def test_draws_depend_on_the_utterance_and_not_on_its_place(corpora, tmp_path, utterances_of, vectors_of):
    made = load("small", corpora)
    splits = utterances_of(made)
    splits["test"] = splits["test"][::-1][:9]
    convert("small", splits, source={"file": "x"}, root=tmp_path, vectors=vectors_of(made))
    before, after = whole(corpora), whole(tmp_path)
    for condition in (Condition("dropped", ("text",), 0.5), Condition("noise", ("audio",), 1.0)):
        modality = condition.modalities[0]
        then = dict(zip(before.ids, each(getattr(before.under(condition), modality)), strict=True))
        now = dict(zip(after.ids, each(getattr(after.under(condition), modality)), strict=True))
        assert len(now) == 9
        for id, rows in now.items():
            np.testing.assert_array_equal(rows, then[id])


def test_larger_shares_drop_more_of_the_same_words(corpora):
    found = whole(corpora)
    some = [words_dropped(found, found.under(Condition("dropped", ("audio",), s)), "audio") for s in (0.0, *SHARES)]
    assert some[0] == set()
    assert all(few <= many for few, many in itertools.pairwise(some))
    counts = found.steps["audio"].count
    for share, dropped in zip(SHARES, some[1:], strict=True):
        assert len(dropped) == sum(int(share * n + 0.5) for n in counts.tolist())


@pytest.mark.parametrize("text", TEXTS)
def test_a_share_of_nothing_changes_no_bit(corpora, text):
    found = whole(corpora, text)
    for modality in MODALITIES:
        batch = found.under(Condition("dropped", (modality,), 0.0))
        for m in MODALITIES:
            torch.testing.assert_close(
                rows_in_order(getattr(batch, m)), rows_in_order(getattr(found.batch, m)), rtol=0, atol=0
            )


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_what_is_missing_is_zeros_and_unknown_pieces(corpora, text, scale):
    found = whole(corpora, text, scale=scale)
    for modality in MODALITIES:
        for kind in ("missing", "dropped"):
            batch = found.under(Condition(kind, (modality,)))
            assert torch.equal(getattr(batch, modality).lengths, getattr(found.batch, modality).lengths)
            rows = rows_in_order(getattr(batch, modality))
            if rows.dim() > 1:
                assert not rows.any()
                continue
            special = found.steps["text"].word == -1
            assert set(rows[~special].tolist()) == {found.unknown}
            assert torch.equal(rows[special], rows_in_order(found.batch.text)[special])


def test_only_the_modalities_of_a_condition_change(corpora):
    found = whole(corpora, "bert")
    for condition in CONDITIONS:
        batch = found.under(condition)
        for modality in MODALITIES:
            same = torch.equal(rows_in_order(getattr(batch, modality)), rows_in_order(getattr(found.batch, modality)))
            assert same != (modality in condition.modalities), condition.name
        assert batch.label is found.batch.label


def test_the_neighbours_of_an_utterance_lose_theirs_too(corpora):
    """HFFN reads the whole video."""
    batch = whole(corpora).under(Condition("missing", ("audio",)))
    assert not rows_in_order(batch.videos.whole.audio).any()


@pytest.mark.parametrize("scale", ["none", "standard", "maxabs"])
def test_noise_is_in_deviations_of_the_train_split_whatever_the_scale(corpora, scale):
    found = whole(corpora, scale=scale)
    plain = whole(corpora)
    train = {m: getattr(load("small", corpora).splits["train"], m).rows for m in ("audio", "vision")}
    for modality in ("audio", "vision"):
        noise = [
            rows_in_order(getattr(one.under(Condition("noise", (modality,), 0.5)), modality))
            - rows_in_order(getattr(one.batch, modality))
            for one in (found, plain)
        ]
        drawn = [n / (0.5 * one.deviation[modality]) for n, one in zip(noise, (found, plain), strict=True)]
        torch.testing.assert_close(drawn[0], drawn[1], rtol=1e-3, atol=1e-3)
        assert drawn[0].std().item() == pytest.approx(1, abs=0.1)
        torch.testing.assert_close(plain.deviation[modality], train[modality].std(0, correction=0))


def test_pieces_of_a_word_share_its_noise_and_special_tokens_have_none(corpora):
    found = whole(corpora, "bert")
    noise = rows_in_order(found.under(Condition("noise", ("audio",), 1.0)).audio) - rows_in_order(found.batch.audio)
    word = found.steps["audio"].word
    assert not noise[word == -1].any()
    repeated = [i for i in range(1, len(word)) if word[i] == word[i - 1] != -1]
    assert repeated
    for i in repeated:
        torch.testing.assert_close(noise[i], noise[i - 1], rtol=0, atol=1e-5)


def test_unaligned_modalities_lose_their_own_steps(tmp_path, corpora, utterances_of, vectors_of):
    made = load("small", corpora)
    splits = {
        name: [dataclasses.replace(u, audio=np.repeat(u.audio, 3, 0)) for u in utterances]
        for name, utterances in utterances_of(made).items()
    }
    lengths = {"text": 50, "audio": 200, "vision": 50}
    convert("odd", splits, source={"file": "x"}, root=tmp_path, vectors=vectors_of(made), lengths=lengths)
    found = whole(tmp_path, "bert", "odd")
    assert not found.batch.layout.aligned
    dropped = words_dropped(found, found.under(Condition("dropped", ("audio",), 0.5)), "audio")
    assert len(dropped) == sum(int(0.5 * n + 0.5) for n in found.batch.audio.lengths.tolist())


def test_a_tokenizer_without_an_unknown_piece_is_said(corpora):
    found = dataclasses.replace(whole(corpora, "bert"), unknown=None)
    with pytest.raises(UserError, match=r"no \[UNK\]"):
        found.under(Condition("missing", ("text",)))


def test_permuted_modalities_are_permuted_after_what_is_dropped(corpora):
    """As those of the control are; without a drop its batch is what `prepare` makes."""
    found = dataclasses.replace(whole(corpora, "bert"), permuted=("audio", "vision"))
    tokenizer = load_tokenizer("bert", identify("bert", "demo"))
    made = prepare(load("small", corpora), "bert", tokenizer=tokenizer, permuted="audio,vision")["test"]
    batch = found.under(Condition("dropped", ("audio",), 0.0))
    for modality in MODALITIES:
        assert torch.equal(getattr(batch, modality).lengths, getattr(made, modality).lengths)
        assert torch.equal(rows_in_order(getattr(batch, modality)), rows_in_order(getattr(made, modality)))
    assert batch.layout == made.layout
    assert torch.equal(batch.label, made.label)
    assert not rows_in_order(found.under(Condition("missing", ("audio",))).audio).any()
