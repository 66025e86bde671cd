"""Sequences that are absurdly long are cropped at import, by a rule that is said; one of them decides little."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hycon.data import Utterance, convert, load
from hycon.data.importers import import_corpus
from hycon.data.importers.check import check, render
from hycon.data.importers.longest import LONGEST, crop
from hycon.data.manifest import MODALITIES, PAPER
from hycon.data.prepare import WordPieces, prepare

TOKENS = WordPieces(lambda words: [[7, 8] for _ in words], cls=1, sep=2, pad=0)


def utterance(id: str, words: int, audio: int, vision: int, **more) -> Utterance:
    rows = {m: np.ones((n, 3), np.float32) for m, n in (("audio", audio), ("vision", vision))}
    return Utterance(id, 1.0, words=["word"] * words, **rows, **more)


def corpus_of(root: Path, train: list[Utterance], **options):
    splits = {"train": train, **{s: [utterance(f"{s}_0", 4, 4, 4)] for s in ("valid", "test")}}
    return convert("own", splits, source={"file": "made up"}, root=root, **options)


def write_plain(folder: Path, sizes: dict[str, tuple[int, int, int]], width: int = 3) -> Path:
    """A plain table: id -> words, rows of audio, of vision; the id's beginning is its split."""
    folder.mkdir()
    lines = [f"{id},{id.split('_')[0]},1.0,{' '.join(['w'] * n)}" for id, (n, *_) in sizes.items()]
    (folder / "utterances.csv").write_text("\n".join(["id,split,label,text", *lines]) + "\n")
    for place, modality in ((1, "audio"), (2, "vision")):
        arrays = {id: np.random.default_rng(0).random((n[place], width), np.float32) for id, n in sizes.items()}
        np.savez(folder / f"{modality}.npz", **arrays)
    return folder


def test_one_long_utterance_of_train_sets_no_absurd_length(root, tmp_path):
    sizes = {"train_0": (300, 20000, 20), "train_1": (5, 9, 7), "valid_0": (3, 30000, 4), "test_0": (4, 5, 6)}
    manifest = import_corpus("own", write_plain(tmp_path / "in", sizes), root=root)
    assert manifest.lengths == {"text": 300, "audio": LONGEST["audio"], "vision": 50}
    assert manifest.cropped == {"train": {"audio": 1}, "valid": {"audio": 1}, "test": {}}
    assert load("own", root).splits["train"].audio.lengths.tolist() == [1000, 9]
    said = "cropped at import: audio of 1 in train, audio of 1 in valid (rows at most: text 500, audio 1,000, vision"
    assert said in render(check("own", root))


@pytest.mark.parametrize("words", [300, 501, 20000])
def test_one_row_per_word_stays_so(root, words):
    manifest = corpus_of(root, [utterance("train_0", words, words, words), utterance("train_1", 5, 5, 5)])
    split, kept = load("own", root).splits["train"], min(words, LONGEST["text"])
    assert manifest.aligned == "word"
    assert [len(split.words[0]), int(split.audio.lengths[0]), int(split.vision.lengths[0])] == [kept] * 3
    assert manifest.cropped == (None if kept == words else {"train": dict.fromkeys(MODALITIES, 1)} | NOT_CROPPED)
    batch = prepare(load("own", root), "bert", tokenizer=TOKENS)["train"]
    assert batch.text.longest == 50  # the nominal length of this source


NOT_CROPPED = {"valid": {}, "test": {}}


def test_a_source_cannot_ask_for_more(root):
    asked = {"text": 600, "audio": 900, "vision": 5000}
    assert corpus_of(root, [utterance("train_0", 4, 7, 9)], lengths=asked).lengths == {
        "text": 500,
        "audio": 900,
        "vision": 1000,
    }
    assert set(corpus_of(root, [utterance("train_0", 4, 4, 4)], lengths=asked).lengths.values()) == {500}


def test_what_the_field_has_is_left_as_it_is():
    """MulT's unaligned CMU-MOSI and CMU-MOSEI, CH-SIMS v2, and the longest sentences of word-aligned CMU-MOSEI."""
    for sizes in ((50, 375, 500), (50, 500, 500), (50, 925, 232), (300, 300, 300)):
        counts: dict[str, int] = {}
        given = utterance("a", *sizes)
        assert crop(given, counts) is given
        assert counts == {}
    assert set(PAPER) == {"mosi", "mosei", "iemocap"}


def test_what_is_left_out_does_not_stay_in_memory():
    given = utterance("a", 5, 20000, 5)
    assert crop(given, {}).audio.base is None


def test_corpora_of_before_keep_their_lengths_and_are_told(root):
    manifest = corpus_of(root, [utterance("train_0", 4, 7, 9)])
    path = root / "own" / "manifest.json"
    older = json.loads(path.read_text())
    del older["cropped"]
    path.write_text(json.dumps({**older, "lengths": {**manifest.lengths, "audio": 20000}}))
    found = load("own", root).manifest
    assert found == dataclasses.replace(manifest, lengths={**manifest.lengths, "audio": 20000})
    assert "may not suffice: audio 20,000. Import it again" in render(check("own", root))


def test_many_long_recordings_fit_a_small_memory(tmp_path):
    """24 utterances of 20,000 rows, 55 MiB, are read and cropped one after the other."""
    sizes = {f"{s}_{i}": (5, 20000, 5) for s, n in (("train", 22), ("valid", 1), ("test", 1)) for i in range(n)}
    folder = write_plain(tmp_path / "in", sizes, width=30)
    code = (
        "import sys; from hycon.data.importers import import_corpus\n"
        "peak = lambda: next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        "before = peak(); import_corpus('own', sys.argv[1], root=sys.argv[2]); print(peak() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code, folder, tmp_path / "data"], check=True, capture_output=True)
    assert int(grown.stdout) / 2**10 < 45
