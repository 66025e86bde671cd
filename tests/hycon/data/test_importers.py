"""Formats: each recognises its own files and no other's, and a further one is one entry."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from samples import (
    SIZES,
    assert_aligned_corpus,
    count,
    label_of,
    mag_content,
    misa_folder,
    mmsa_content,
    mult_content,
    plain_folder,
    sequence,
    words_of,
)

from hycon.data import load
from hycon.data.importers import FORMATS, Imported, Utterance, import_corpus, pickles
from hycon.data.importers.common import describe
from hycon.errors import UserError


@pytest.fixture
def files(tmp_path: Path, write_pickle) -> dict[str, Path]:
    """A file or folder of every format."""
    csd = tmp_path / "csd"
    csd.mkdir()
    (csd / "words.csd").write_bytes(b"")
    return {
        "mag": write_pickle(mag_content(), "mag.pkl"),
        "mmsa": write_pickle(mmsa_content(), "mmsa.pkl"),
        "mult": write_pickle(mult_content(), "mult.pkl"),
        "misa": misa_folder(tmp_path / "misa"),
        "csd": csd,
        "plain": plain_folder(tmp_path / "plain"),
    }


def test_every_format_recognises_its_own_files_only(files: dict[str, Path]) -> None:
    assert files.keys() == FORMATS.keys()
    for own, module in FORMATS.items():
        assert [name for name, path in files.items() if module.recognise(path)] == [own]


def test_what_nothing_can_be_read_of_is_of_no_format(tmp_path: Path, files: dict[str, Path]) -> None:
    whole = files["mag"].read_bytes()
    (tmp_path / "empty").mkdir()
    for name, content in {
        "cut.pkl": whole[:-20],
        "none.pkl": b"",
        "page.pkl": b"<html>",
        "run.pkl": b"cos\nsystem\n.",
    }.items():
        (tmp_path / name).write_bytes(content)
        for module in FORMATS.values():
            for path in (tmp_path / name, tmp_path / "empty", tmp_path / "missing"):
                assert not module.recognise(path)


def test_mmsa_comes_before_mult(root: Path, write_pickle) -> None:
    content = mmsa_content()
    for raw in content.values():
        raw["labels"] = raw["regression_labels"]
    assert import_corpus("own", write_pickle(content), root=root).source["format"] == "mmsa"


@pytest.mark.parametrize("format", ["auto", "lines"])
def test_a_further_format_is_one_entry(root: Path, tmp_path: Path, monkeypatch, format: str) -> None:
    def recognise(path: Path) -> bool:
        return path.suffix == ".jsonl"

    def read(path: Path, name: str) -> Imported:
        splits: dict[str, list[Utterance]] = {split: [] for split in SIZES}
        for line in path.read_text().splitlines():
            split, i = json.loads(line)
            audio, vision = (sequence(i, count(split, i), 3, offset) for offset in (2000, 1000))
            splits[split].append(Utterance(f"{split}_{i}", label_of(split, i), audio, vision, words_of(split, i)))
        return Imported(splits, details={"called": name})

    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps([split, i]) for split, size in SIZES.items() for i in range(size)))
    monkeypatch.setitem(FORMATS, "lines", SimpleNamespace(recognise=recognise, read=read))
    manifest = import_corpus("own", path, format=format, root=root)
    assert (manifest.source["format"], manifest.source["called"]) == ("lines", "own")
    assert_aligned_corpus(load("own", root))


@pytest.mark.parametrize("format", ["mag", "mmsa", "mult"])
def test_a_pickle_is_read_once_and_not_kept(root: Path, files, monkeypatch, format: str) -> None:
    loads, original = [], pickles._load

    def counted(handle, name):
        loads.append(name)
        return original(handle, name)

    monkeypatch.setattr(pickles, "_load", counted)
    assert import_corpus("own", files[format], root=root).source["format"] == format
    assert loads == [f"{format}.pkl"]
    assert pickles._kept.get(None) is None
    files[format].write_bytes(pickle.dumps([1]))
    with pytest.raises(UserError, match="no known format"):
        import_corpus("own", files[format], root=root)
    assert len(loads) == 2
    files[format].write_bytes(b"<html>")  # nor is a file that cannot be read tried for every format
    with pytest.raises(UserError, match="a web page"):
        import_corpus("own", files[format], root=root)
    assert len(loads) == 3


def test_what_cannot_be_told_lists_the_formats(root: Path, tmp_path: Path, write_pickle) -> None:
    with pytest.raises(UserError, match=r"no known format: expected mag, mmsa, mult.*a dict with keys a"):
        import_corpus("own", write_pickle({"a": 1}), root=root)
    with pytest.raises(UserError, match="give its folder"):
        import_corpus("own", write_pickle([1, 2]), root=root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"misa.*csd.*plain"):
        import_corpus("own", tmp_path / "empty", root=root)
    with pytest.raises(UserError, match="is a folder; the mag format is one pickle file"):
        import_corpus("own", tmp_path / "empty", format="mag", root=root)
    with pytest.raises(UserError, match="is a file; give the folder"):
        import_corpus("own", write_pickle({}), format="csd", root=root)
    with pytest.raises(UserError, match=r"\.csv is a file; give the folder that holds it"):
        import_corpus("own", plain_folder(tmp_path / "plain") / "utterances.csv", root=root)
    with pytest.raises(UserError, match=r"not in the misa format: expected a folder with train\.pkl.*an empty folder"):
        import_corpus("own", tmp_path / "empty", format="misa", root=root)
    with pytest.raises(UserError, match="Unknown format 'mga'; nearest: mag"):
        import_corpus("own", write_pickle({}), format="mga", root=root)
    with pytest.raises(UserError, match="does not exist"):
        import_corpus("own", tmp_path / "nothing.pkl", root=root)
    with pytest.raises(UserError, match="not a corpus name"):
        import_corpus("../own", write_pickle(mag_content()), root=root)


@pytest.mark.parametrize("format", ["mult", "mmsa"])
def test_a_file_of_another_format_is_refused(root: Path, write_pickle, format: str) -> None:
    with pytest.raises(UserError, match=f"corpus.pkl is not in the {format} format"):
        import_corpus("mosi", write_pickle(mag_content()), format=format, root=root)


def test_articles() -> None:
    assert [describe(value) for value in (3, 1.5, np.uint8(1), object())] == [
        "an int",
        "a float",
        "a uint8",
        "an object",
    ]


def test_names_that_are_no_utf8_are_read_and_written_with_a_question_mark(root: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"m\xff")
    path = tmp_path / f"{odd}.pkl"
    path.write_bytes(pickle.dumps(mag_content()))
    vectors = tmp_path / f"{odd}.txt"
    vectors.write_text("good 1 2\n")
    import_corpus("one", path, root=root, text_vectors=vectors, notes=[f"{odd} made up"])
    found = load("one", root).manifest
    assert found.source["file"] == "m?.pkl"
    assert found.vectors is not None
    assert found.vectors["file"] == "m?.txt"
    assert found.notes == ["m? made up"]
    folder = plain_folder(tmp_path / odd)
    first = import_corpus("two", folder, root=root).source["sha256"]
    (folder / f"{odd}.txt").write_text("beside")
    assert import_corpus("two", folder, root=root).source["sha256"] != first
    assert load("two", root).manifest.source["file"] == "m?"


@pytest.mark.parametrize("what", ["file", "vectors", "csd"])
def test_a_pipe_is_not_waited_for(root: Path, tmp_path: Path, what: str) -> None:
    pipe = tmp_path / "in" / "words.csd"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    given = {"file": (pipe, None), "vectors": (plain_folder(tmp_path / "p"), pipe), "csd": (pipe.parent, None)}[what]
    said = "is of no known format" if what == "csd" else "is no regular file: a pipe or a device"
    with pytest.raises(UserError, match=said):
        import_corpus("own", given[0], root=root, text_vectors=given[1])
