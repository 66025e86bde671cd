"""Word vectors: every container, the look-up policy with its counts, and lines that are not what they should be."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from samples import mag_content, mult_content

from hycon.data import load, read_manifest
from hycon.data.importers import import_corpus
from hycon.data.importers.word_vectors import attach_vectors, read_vectors
from hycon.errors import UserError

TEXT = "good 1 2 3\nmovie -1.5 0 0.25\n. . . 7 8 9\nBad 4 5 6\nwell-made 0 0 1\n"


def save(path: Path, text: str = TEXT) -> Path:
    data = text.encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("vectors.txt", data)
        return path
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz", "v.zip"])
def test_the_policy_and_its_counts(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name)
    vocabulary = {
        "good": 5,
        "Movie": 2,
        "(good!)": 1,
        "“MOVIE”,": 4,
        "Bad": 1,
        "bad": 3,
        ". . .": 1,
        "xyzzy": 7,
        "...": 2,
    }
    description, words, matrix = read_vectors(path, vocabulary)
    assert matrix.dtype == np.float32
    assert matrix.shape == (6, 3)
    assert dict(zip(words, matrix.tolist(), strict=True)) == {
        "good": [1, 2, 3],
        "Movie": [-1.5, 0, 0.25],
        "(good!)": [1, 2, 3],
        "“MOVIE”,": [-1.5, 0, 0.25],
        "Bad": [4, 5, 6],
        ". . .": [7, 8, 9],
    }
    assert description == {
        "file": name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "dim": 3,
        "vocabulary": 9,
        "types": {"exact": 3, "lower": 1, "stripped": 2, "missing": 3},  # "bad" must not find "Bad"
        "tokens": {"exact": 7, "lower": 2, "stripped": 5, "missing": 12},
    }


def test_tokens_may_come_one_by_one(tmp_path: Path) -> None:
    description, _, _ = read_vectors(save(tmp_path / "v.txt"), ["good", "good", "nope"])
    assert description["tokens"] == {"exact": 2, "lower": 0, "stripped": 0, "missing": 1}


@pytest.mark.parametrize(
    "text",
    [
        "5 3\n" + TEXT,
        "\ufeff" + TEXT,
        "\ufeff5 3\n" + TEXT,
        TEXT + "\n",
        TEXT + " \r\n\n",
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", " \n"),
        TEXT.rstrip("\n"),
        TEXT + "good 9 9 9\n",
    ],
    ids=[
        "word2vec header",
        "bom",
        "bom and header",
        "a blank last line",
        "blank last lines",
        "windows",
        "trailing space",
        "no last newline",
        "a word twice",
    ],
)
def test_harmless_variants(tmp_path: Path, text: str) -> None:
    _, words, matrix = read_vectors(save(tmp_path / "v.txt", text), ["good", "well-made"])
    assert (words, matrix.tolist()) == (["good", "well-made"], [[1, 2, 3], [0, 0, 1]])


def test_one_dimension_is_no_header(tmp_path: Path) -> None:
    _, words, matrix = read_vectors(save(tmp_path / "v.txt", "a 1\nb 2\n"), ["a", "b"])
    assert (words, matrix.tolist()) == (["a", "b"], [[1], [2]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEXT + "ugly 1 2\n", "line 6 has 2 values, expected 3"),
        (TEXT + "ugly 1 2 3 4\n", "line 6 has 4 values, expected 3"),
        (TEXT + "\n\nugly 1 2 3\n", "line 6 is blank"),
        ("\n" + TEXT, "line 1 is not a word and its numbers"),
        (TEXT.replace("good 1 2", "good 1 x"), "line 2 has 3 values, expected 1"),  # the first line sets it
        (TEXT.replace("movie -1.5", "movie 1,5"), "line 2 holds a value that is no number"),
        (TEXT.replace("movie -1.5", "movie nan"), "line 2 holds a value that is not finite"),
        ("", "is empty"),
        ("<html>\n", "line 1 is not a word and its numbers"),
        ("good" + " 0" * 10_001 + "\n", "has vectors of 10001 dimensions; expected 10000 at most"),
        ("other 1 2 3\n", "a vector for none of the corpus's 2 words"),
    ],
)
def test_damaged_lines_are_numbered(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"v\.txt.*{reason}"):
        read_vectors(save(tmp_path / "v.txt", text), ["good", "movie"])


@pytest.mark.parametrize("name", ["v.txt.gz", "v.zip"])
def test_truncated_containers(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, TEXT * 500)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="v"):
        read_vectors(path, ["good"])


def test_zip_with_several_members(tmp_path: Path) -> None:
    path = tmp_path / "glove.6B.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glove.6B.50d.txt", "good 1\n")
        archive.writestr("glove.6B.300d.txt", "good 1 2 3\n")
    assert read_vectors(path, ["good"])[0]["dim"] == 3
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "good 1\n")
        archive.writestr("b.txt", "good 1\n")
    with pytest.raises(UserError, match=r"holds a\.txt, b\.txt; unpack it"):
        read_vectors(path, ["good"])


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError, match="Cannot read"):
            read_vectors(path, ["good"])


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    with open(path, "w") as handle:
        for i in range(60_000):
            handle.write(f"word{i} " + " ".join(["0.123456"] * 30) + "\n")
    tracemalloc.start()
    _, words, _ = read_vectors(path, ["word59999", "word0"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words == ["word0", "word59999"]
    assert peak < 0.2 * path.stat().st_size


def test_import_and_attach(root: Path, tmp_path: Path, write_pickle) -> None:
    path = write_pickle(mag_content())
    vectors = save(tmp_path / "v.txt")
    manifest = import_corpus("mosi", path, root=root, text_vectors=vectors)
    assert manifest.vectors is not None
    assert manifest.vectors["types"] == {"exact": 1, "lower": 1, "stripped": 0, "missing": 3}
    corpus = load("mosi", root)
    assert corpus.vectors is not None
    assert corpus.vectors["words"] == ["Movie", "good"]
    np.testing.assert_array_equal(corpus.vectors["matrix"].numpy(), [[-1.5, 0, 0.25], [1, 2, 3]])

    plain = import_corpus("later", path, root=root)
    attached = attach_vectors("later", vectors, root)
    assert attached == read_manifest("later", root)
    assert attached.sha256 == manifest.sha256 != plain.sha256
    assert attached.source == plain.source
    assert attached.nonfinite == plain.nonfinite
    before = {p.name: p.read_bytes() for p in (root / "later").iterdir()}
    with pytest.raises(UserError, match="none of the corpus's"):
        attach_vectors("later", save(tmp_path / "w.txt", "other 1 2\n"), root)
    assert {p.name: p.read_bytes() for p in (root / "later").iterdir()} == before
    assert sorted(p.name for p in root.iterdir()) == ["later", "mosi"]


def test_vectors_for_a_corpus_without_words_stop_the_import(root: Path, tmp_path: Path, write_pickle) -> None:
    reason = r"corpus\.pkl has no words to look up in v\.txt, so nothing was imported; leave out --text-vectors\.$"
    with pytest.raises(UserError, match=reason):
        import_corpus("own", write_pickle(mult_content()), root=root, text_vectors=save(tmp_path / "v.txt"))
    assert not root.exists()


def test_bad_vectors_stop_the_import(root: Path, tmp_path: Path, write_pickle) -> None:
    with pytest.raises(UserError, match="line 2 has 1 values"):
        import_corpus(
            "mosi", write_pickle(mag_content()), root=root, text_vectors=save(tmp_path / "v.txt", "a 1 2\nb 1\n")
        )
    assert not root.exists()
