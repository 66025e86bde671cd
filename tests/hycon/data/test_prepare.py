"""Front-ends: which row lands at which word piece, which words are found, whose statistics scale what."""

import numpy as np
import pytest
import torch

from hycon.data import Utterance, convert, load
from hycon.data.batch import FRONT_ENDS, form_of
from hycon.data.prepare import WordPieces, prepare
from hycon.errors import UserError

CLS, SEP, PAD = 101, 102, 0
NAMES = {"train": "t", "valid": "v", "test": "e"}


def letters(words):
    """A tokenizer that gives a piece per letter: "abc" -> [1, 2, 3]."""
    return [[ord(letter) - ord("a") + 1 for letter in word] for word in words]


TOKENIZER = WordPieces(letters, cls=CLS, sep=SEP, pad=PAD)


def utterance(id, words, *, label=1.0, audio=None, vision=None, text=None):
    """Audio and vision rows say where they belong: audio [i + 1, 10 (i + 1)], vision [-(i + 1)]."""
    steps = np.arange(1, len(words) + 1, dtype=np.float32)[:, None]
    audio = np.concatenate([steps, 10 * steps], 1) if audio is None else np.asarray(audio, np.float32)
    return Utterance(id, label, audio, -steps if vision is None else np.asarray(vision, np.float32), words, text)


@pytest.fixture
def corpus(tmp_path):
    """make(train=[...], valid=[...], test=[...], **options of convert) -> Corpus; a missing split gets a filler."""

    def make(vectors=None, **options):
        splits = {s: options.pop(s, [utterance(f"{short}0", ["a", "b"])]) for s, short in NAMES.items()}
        convert("made", splits, source={"file": "made"}, root=tmp_path, vectors=vectors, **options)
        return load("made", tmp_path)

    return make


def rows(sequences, i):
    start, length = int(sequences.starts[i]), int(sequences.lengths[i])
    return sequences.rows[start : start + length].tolist()


# ------------------------------------------------------------------------------------------------- word pieces


def test_bert_repeats_rows_for_each_piece_of_a_word(corpus):
    made = corpus(train=[utterance("one", ["ab", "c", "cab"]), utterance("two", ["b"], label=-2.5)])
    batch = prepare(made, "bert", tokenizer=TOKENIZER)["train"]
    assert rows(batch.text, 0) == [CLS, 1, 2, 3, 3, 1, 2, SEP]
    assert [r[0] for r in rows(batch.audio, 0)] == [0, 1, 1, 2, 3, 3, 3, 0]  # zero rows at [CLS] and [SEP]
    assert [r[1] for r in rows(batch.audio, 0)] == [0, 10, 10, 20, 30, 30, 30, 0]
    assert [r[0] for r in rows(batch.vision, 0)] == [0, -1, -1, -2, -3, -3, -3, 0]
    assert rows(batch.text, 1) == [CLS, 2, SEP]
    assert [r[0] for r in rows(batch.audio, 1)] == [0, 1, 0]
    assert batch.label.tolist() == [1.0, -2.5]
    layout = batch.layout
    assert (layout.side, layout.tokens, layout.aligned) == ("right", True, True)
    assert layout.lengths == {"text": 50, "audio": 50, "vision": 50}
    assert batch.text.padded(10)[1].tolist() == [CLS, 2, SEP] + [PAD] * 7


def test_xlnet_closes_with_the_special_pieces_and_pads_on_the_left(corpus):
    batch = prepare(corpus(train=[utterance("one", ["ab", "c"])]), "xlnet", tokenizer=TOKENIZER)["train"]
    assert rows(batch.text, 0) == [1, 2, 3, SEP, CLS]
    assert [r[0] for r in rows(batch.audio, 0)] == [1, 1, 2, 0, 0]
    assert batch.layout.side == "left"
    assert batch.text.padded(7, "left")[0].tolist() == [PAD, PAD, 1, 2, 3, SEP, CLS]
    assert batch.audio.padded(7, "left")[0, :, 0].tolist() == [0, 0, 1, 1, 2, 0, 0]


@pytest.mark.parametrize("text", ["bert", "xlnet"])
def test_the_first_48_pieces_are_kept(corpus, text):
    long = [utterance("long", ["abcde"] * 12), utterance("fits", ["abcdef"] * 8), utterance("short", ["a"])]
    batch = prepare(corpus(train=long), text, tokenizer=TOKENIZER)["train"]
    assert batch.text.lengths.tolist() == batch.audio.lengths.tolist() == [50, 50, 3]
    audio = [r[0] for r in rows(batch.audio, 0)]
    inner = [i // 5 + 1 for i in range(48)]  # the tenth word is cut after its third piece
    assert audio == ([0, *inner, 0] if text == "bert" else [*inner, 0, 0])


def test_nominal_length_of_the_manifest_decides_what_is_kept(corpus):
    made = corpus(train=[utterance("long", ["abc"] * 9)], lengths={"text": 6, "audio": 6, "vision": 6})
    batch = prepare(made, "bert", tokenizer=TOKENIZER)["train"]
    assert rows(batch.text, 0) == [CLS, 1, 2, 3, 1, SEP]
    assert [r[0] for r in rows(batch.audio, 0)] == [0, 1, 1, 1, 2, 0]


def test_each_word_of_a_split_is_tokenised_once(corpus):
    calls = []

    def pieces(words):
        calls.append(sorted(words))
        return letters(words)

    made = corpus(train=[utterance("one", ["ab", "c", "ab"]), utterance("two", ["c", "ab"])])
    prepare(made, "bert", tokenizer=WordPieces(pieces, cls=CLS, sep=SEP, pad=PAD))
    assert calls == [["ab", "c"], ["a", "b"], ["a", "b"]]


@pytest.mark.parametrize("text", ["bert", "xlnet"])
def test_sentences_are_padded_with_the_tokenizer_s_own_piece(corpus, text):
    made = corpus(train=[utterance("one", ["ab", "c"]), utterance("two", ["c"])])
    batch = prepare(made, text, tokenizer=WordPieces(letters, cls=CLS, sep=SEP, pad=7))["train"]
    padded = batch.text.padded(batch.text.longest)
    assert [row.tolist().count(7) for row in padded] == [0, 2]


def test_unaligned_corpora_keep_their_own_time(corpus):
    """More audio than words: nothing can be repeated, so each modality keeps its steps, up to its nominal length."""
    odd = [utterance("one", ["ab", "c"], audio=np.ones((7, 2)), vision=np.ones((3, 1)))]
    made = corpus(train=odd, lengths={"text": 50, "audio": 5, "vision": 9})
    assert made.manifest.aligned == "none"
    batch = prepare(made, "bert", tokenizer=TOKENIZER)["train"]
    assert rows(batch.text, 0) == [CLS, 1, 2, 3, SEP]
    assert (batch.audio.lengths.tolist(), batch.vision.lengths.tolist()) == ([5], [3])
    assert batch.layout.aligned is False
    assert batch.layout.lengths == {"text": 50, "audio": 5, "vision": 9}


# ------------------------------------------------------------------------------------------------- vectors


VECTORS = ({"file": "glove.txt", "dim": 2}, ["a", "c"], np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))


def test_glove_looks_words_up_and_gives_unknown_ones_zeros(corpus):
    made = corpus(train=[utterance("one", ["c", "a", "b", "c"]), utterance("two", ["b"])], vectors=VECTORS)
    batch = prepare(made, "glove")["train"]
    assert rows(batch.text, 0) == [[3, 4], [1, 2], [0, 0], [3, 4]]
    assert rows(batch.text, 1) == [[0, 0]]
    assert [r[0] for r in rows(batch.audio, 0)] == [1, 2, 3, 4]
    assert batch.layout.aligned
    assert not batch.layout.tokens


def test_glove_keeps_the_first_words_of_a_long_sentence(corpus):
    made = corpus(train=[utterance("one", ["a", "c"] * 40)], vectors=VECTORS)
    batch = prepare(made, "glove")["train"]
    assert batch.text.lengths.tolist() == batch.audio.lengths.tolist() == batch.vision.lengths.tolist() == [50]
    assert rows(batch.audio, 0)[-1] == [50, 500]


def test_features_are_the_vectors_that_came(corpus):
    text = np.arange(6, dtype=np.float32).reshape(2, 3)
    fill = {s: [utterance(f"{n}0", ["a", "b"], text=text)] for s, n in NAMES.items()}
    batch = prepare(corpus(**fill), "features")["test"]
    assert rows(batch.text, 0) == text.tolist()
    assert batch.layout.aligned


def test_features_of_other_lengths_are_not_aligned(corpus):
    fill = {s: [utterance(f"{n}0", ["a", "b"], text=np.ones((2, 3), np.float32))] for s, n in NAMES.items()}
    fill["test"] = [utterance("e0", ["a", "b"], text=np.ones((4, 3), np.float32))]
    for batch in prepare(corpus(**fill), "features").values():  # one odd sentence is enough, in whatever split
        assert batch.layout.aligned is False


# ------------------------------------------------------------------------------------------------- scaling


def scaled(corpus, scale):
    train = [
        utterance("one", ["a", "a"], audio=[[1, 5], [3, 5]], vision=[[-8], [2]]),
        utterance("two", ["a", "a"], audio=[[5, 5], [7, 5]], vision=[[0], [2]]),
    ]
    test = [utterance("e0", ["a"], audio=[[104, 6]], vision=[[16]])]
    return prepare(corpus(train=train, test=test, vectors=VECTORS), "glove", scale=scale)


def test_standard_scale_is_the_train_split_s(corpus):
    batches = scaled(corpus, "standard")
    audio = batches["train"].audio.rows
    np.testing.assert_allclose(audio[:, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(audio[:, 0].std(correction=0), 1, rtol=1e-6)
    assert not audio[:, 1].any()  # a constant feature: shifted, not divided by nothing
    np.testing.assert_allclose(batches["test"].audio.rows[0], [(104 - 4) / 5**0.5, 1], rtol=1e-6)
    np.testing.assert_allclose(batches["test"].vision.rows[0, 0], (16 + 1) / 17**0.5, rtol=1e-6)
    assert torch.equal(batches["train"].text.rows, scaled(corpus, "none")["train"].text.rows)


def test_maxabs_scale_is_the_train_split_s(corpus):
    batches = scaled(corpus, "maxabs")
    np.testing.assert_allclose(batches["train"].vision.rows[:, 0], [-1, 0.25, 0, 0.25])
    np.testing.assert_allclose(batches["test"].vision.rows[0, 0], 2)  # the test split may leave [-1, 1]
    assert torch.equal(batches["train"].audio.rows, scaled(corpus, "none")["train"].audio.rows)  # vision only


def test_maxabs_scale_of_features_below_one_and_of_one_that_is_always_zero(corpus):
    train = [utterance("one", ["a", "a"], vision=[[0.5, 0], [-0.25, 0]])]
    valid = [utterance("v0", ["a"], vision=[[1, 0]])]
    test = [utterance("e0", ["a"], vision=[[0.25, 3]])]
    made = corpus(train=train, valid=valid, test=test, vectors=VECTORS)
    batches = prepare(made, "glove", scale="maxabs")
    assert batches["train"].vision.rows.tolist() == [[1, 0], [-0.5, 0]]
    assert batches["test"].vision.rows.tolist() == [[0.5, 3]]  # nothing is divided by zero


def test_scaling_leaves_special_pieces_at_zero(corpus):
    made = corpus(train=[utterance("one", ["ab", "c"])])
    batch = prepare(made, "bert", tokenizer=TOKENIZER, scale="standard")["train"]
    audio = rows(batch.audio, 0)
    assert audio[0] == audio[-1] == [0, 0]
    assert audio[1] == audio[2] != [0, 0]


# ------------------------------------------------------------------------------------------------- batches


def test_take_and_slice_are_the_split_s_utterances(corpus):
    train = [utterance(str(i), ["a"] * (i + 1), label=i / 2) for i in range(5)]
    batch = prepare(corpus(train=train), "bert", tokenizer=TOKENIZER)["train"]
    picked = batch.take(torch.tensor([4, 0, 4]))
    assert picked.label.tolist() == [2.0, 0.0, 2.0]
    assert picked.text.lengths.tolist() == [7, 3, 7]
    assert rows(picked.audio, 2) == rows(batch.audio, 4)
    assert picked.text.rows is batch.text.rows  # no row is copied
    assert rows(batch.slice(1, 3).vision, 1) == rows(batch.vision, 2)
    assert len(batch.slice(1, 3)) == 2


def test_emotion_labels_are_integers(corpus):
    def felt(id, label):
        return utterance(id, ["a"], label=np.array(label))

    made = corpus(
        train=[felt("t0", [1, 0])], valid=[felt("v0", [0, 1])], test=[felt("e0", [0, 0])], emotions=["sad", "happy"]
    )
    batch = prepare(made, "bert", tokenizer=TOKENIZER)["train"]
    assert batch.label.tolist() == [[1, 0]]
    assert batch.label.dtype == torch.int64


# ------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("glove", {}, "no word vectors"),
        ("features", {}, "without text vectors"),
        ("bert", {}, "needs a tokenizer"),
        ("bret", {}, "bert"),
        ("bert", {"scale": "zscore", "tokenizer": TOKENIZER}, "standard"),
    ],
)
def test_what_a_corpus_cannot_serve_is_said(corpus, text, options, said):
    with pytest.raises(UserError, match=said):
        prepare(corpus(), text, **options)


@pytest.mark.parametrize("text", ["glove", "bert"])
def test_a_corpus_without_words_serves_features_only(corpus, text):
    fill = {
        s: [Utterance(f"{n}0", 1.0, np.ones((2, 2)), np.ones((2, 1)), text=np.ones((2, 3)))] for s, n in NAMES.items()
    }
    made = corpus(**fill)
    assert len(prepare(made, "features")["train"]) == 1
    with pytest.raises(UserError, match="no words"):
        prepare(made, text, tokenizer=TOKENIZER)


def test_forms():
    assert {text: form_of(text) for text in FRONT_ENDS} == {
        "glove": "vectors",
        "features": "vectors",
        "bert": "tokens",
        "xlnet": "tokens",
    }
