"""Shared by the tests: one thread, no hub, no settings of this machine, and small corpora that are written once."""

from __future__ import annotations

import os
import signal
from functools import lru_cache
from pathlib import Path

import pytest

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when numeric libraries load
    os.environ.setdefault(name, "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started by a script's `&`; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

SMALL = {"train": 40, "valid": 16, "test": 16}
EMOTIONS = ["happy", "sad", "angry", "neutral"]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the caller's shell says; `register` also writes BENCH_ENCODERS, which must not reach the next test."""
    for name in ("BENCH_DATA", "BENCH_RESULTS", "BENCH_ENCODERS", "BENCH_STORAGE", "BENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def runs(tmp_path: Path):
    """An empty results folder."""
    from studies.store.run_store import RunStore

    return RunStore(tmp_path / "results")


@pytest.fixture(scope="session")
def utterances_of():
    """Corpus -> {split: [Utterance]}, the inverse of `convert`; text vectors are left out."""
    from hycon.data import Utterance

    def rows(sequences, i):
        start, length = int(sequences.starts[i]), int(sequences.lengths[i])
        return sequences.rows[start : start + length].numpy()

    def invert(corpus):
        return {
            name: [
                Utterance(
                    id=split.ids[i],
                    label=split.label[i].numpy(),
                    words=split.words[i],
                    audio=rows(split.audio, i),
                    vision=rows(split.vision, i),
                )
                for i in range(len(split))
            ]
            for name, split in corpus.splits.items()
        }

    return invert


@pytest.fixture(scope="session")
def vectors_of():
    """Corpus -> the word vectors as `convert` takes them."""
    return lambda corpus: (corpus.manifest.vectors, corpus.vectors["words"], corpus.vectors["matrix"].numpy())


@pytest.fixture(scope="session")
def corpora(tmp_path_factory, utterances_of, vectors_of) -> Path:
    """A folder of corpora, not to be written to:

    small           the demo corpus in small, with word vectors
    vectors         the same utterances with text vectors of their own, one per word
    emotional       the same utterances with four emotions; who is what follows from the sentiment
    text, audio, vision   the demo corpus with the label in one modality only
    """
    import dataclasses

    import numpy as np

    from hycon.data import convert, load
    from hycon.data.importers.synthetic import hash_vector, synthesize

    root = tmp_path_factory.mktemp("corpora")
    synthesize("small", root, sizes=SMALL)
    for modality in ("text", "audio", "vision"):
        synthesize(modality, root, informative=(modality,), sizes={"train": 160, "valid": 48, "test": 64})
    corpus = load("small", root)
    given = utterances_of(corpus)
    lengths = {"text": 24, "audio": 24, "vision": 24}
    described = {
        split: [dataclasses.replace(u, text=np.stack([hash_vector(w)[:9] for w in u.words])) for u in utterances]
        for split, utterances in given.items()
    }
    convert("vectors", described, source={"file": "vectors"}, root=root, lengths=lengths)
    felt = {
        split: [
            dataclasses.replace(u, label=np.eye(4, dtype=int)[int(np.digitize(u.label, (-1.2, 0, 1.2)))]) for u in us
        ]
        for split, us in given.items()
    }
    convert(
        "emotional",
        felt,
        source={"file": "emotional"},
        root=root,
        lengths=lengths,
        vectors=vectors_of(corpus),
        emotions=EMOTIONS,
    )
    return root


@pytest.fixture(scope="session")
def batches(corpora):
    """(corpus, text, scale) -> {"train", "valid", "test"} -> Batch, with the demo encoder behind bert and xlnet."""
    from hycon.data import load
    from hycon.data.prepare import prepare
    from hycon.pretrained import identify, load_tokenizer

    @lru_cache
    def prepared(corpus: str, text: str, scale: str = "none"):
        tokenizer = load_tokenizer(text, identify(text, "demo")) if text in ("bert", "xlnet") else None
        return prepare(load(corpus, corpora), text, tokenizer=tokenizer, scale=scale)

    return prepared
