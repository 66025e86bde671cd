"""benchmarks/mosei*.py in small: the made-up files are imported, and what a training step holds does not grow with the
corpus."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("h5py")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts, not a package
from mosei_files import videos_of, write_folder  # noqa: E402
from mosei_steps import DEMO_SIZE, ROWS, Held, counted  # noqa: E402

from hycon.data import load  # noqa: E402
from hycon.data.importers import import_corpus  # noqa: E402
from hycon.data.importers.csd import import_mmsdk, standard_folds  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two corpora of made-up files, one with four times the videos of the other."""
    root = tmp_path_factory.mktemp("mosei")
    for name, scale in (("small", 0.002), ("large", 0.008)):
        write_folder(root / f"in_{name}", scale)
        glove = root / f"in_{name}" / "glove.txt"
        import_corpus("mosei", root / f"in_{name}", root=root / name, text_vectors=glove)
    return root


def test_the_whole_set_is_of_moseis_size():
    videos = videos_of(1.0)
    folds = standard_folds(import_mmsdk(), "mosei")
    sentences: Counter = Counter()
    for video, words in videos.items():
        sentences[folds[video]] += len(words)
    assert len(videos) == 3228
    assert sentences == {"train": 16265, "valid": 1869, "test": 4643}
    assert sum(map(sum, videos.values())) == pytest.approx(447143, rel=0.02)


def test_the_files_are_imported_as_they_were_made(data):
    corpus, videos = load("mosei", data / "small"), videos_of(0.002)
    words = {f"{video}[{k}]": n for video, own in videos.items() for k, n in enumerate(own)}
    found = {id: len(said) for split in corpus.splits.values() for id, said in zip(split.ids, split.words, strict=True)}
    assert found == words
    manifest = corpus.manifest
    assert (manifest.aligned, manifest.dims, manifest.cropped) == ("word", {"audio": 74, "vision": 35}, None)
    assert manifest.vectors["types"]["missing"] == 0
    counts = manifest.source["counts"]
    assert counts["segments"] == len(words)
    assert [n for what, n in counts.items() if what != "segments"] == [0] * 5


def test_what_lives_is_counted():
    with Held() as held:
        weight = torch.zeros(256, 1024, requires_grad=True)  # 1 MiB
        product = (weight * 2).exp()
        assert held.bytes == 2 * 2**20
        loss = product.sum()
        del product  # the backward pass needs it
        assert held.bytes == 2 * 2**20 + 512
        loss.backward()
        del loss
        assert held.bytes == 2 * 2**20  # the weight and its gradient
        assert held.most >= 3 * 2**20
        weight.grad = None
    assert held.bytes == 2**20


@pytest.mark.parametrize("row", ROWS)
def test_a_step_does_not_grow_with_the_corpus(data, row):
    """HFFN reads the videos that a batch touches whole: with two utterances, two of 4 or of 18."""
    size = replace(DEMO_SIZE, batch=2 if row == "HFFN" else 8)
    small, large = (counted(str(data / name), row, size=size)["step_mib"] for name in ("small", "large"))
    assert large < 1.3 * small
