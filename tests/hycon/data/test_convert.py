"""Writing a corpus: all or nothing, and nothing that a model could not read."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from samples import WORDS, listing, mag_content

from hycon.data import Utterance, convert, load
from hycon.data.importers import import_corpus
from hycon.errors import UserError


def test_same_file_same_corpus(root: Path, write_pickle) -> None:
    path = write_pickle(mag_content())
    first = import_corpus("mosi", path, root=root)
    assert import_corpus("other", path, root=root).sha256 == first.sha256
    changed = copy.deepcopy(mag_content())
    changed["train"][0][0][2][0, 0] += 1
    assert import_corpus("mosi", write_pickle(changed), root=root).sha256 != first.sha256
    assert sorted(p.name for p in root.iterdir()) == ["mosi", "other"]


def test_the_same_utterances_padded_otherwise_are_another_corpus(root: Path) -> None:
    rows = np.ones((2, 3), np.float32)
    splits = {s: [Utterance(f"{s}_0", 1.0, rows, rows, ["a", "b"])] for s in ("train", "valid", "test")}
    made = [
        convert("own", splits, source={"file": "x"}, root=root, lengths=dict.fromkeys(("text", "audio", "vision"), n))
        for n in (20, 40, 20)
    ]
    assert made[0].sha256 == made[2].sha256 != made[1].sha256
    assert made[0].files == made[1].files


def test_emotions_in_another_order_are_another_corpus(root: Path) -> None:
    rows = np.ones((2, 3), np.float32)
    splits = {s: [Utterance(f"{s}_0", [0, 1], rows, rows, ["a", "b"])] for s in ("train", "valid", "test")}
    made = [
        convert("own", splits, source={"file": "x"}, root=root, emotions=names)
        for names in (["sad", "angry"], ["angry", "sad"])
    ]
    assert made[0].sha256 != made[1].sha256
    assert made[0].files == made[1].files


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["sad", "average"], "an emotion cannot be called 'average'"),
        (["sad", "sad"], "the emotion 'sad' has no name of its own"),
        (["sad", " "], "the emotion ' ' has no name of its own"),
    ],
)
def test_emotions_have_names_of_their_own(root: Path, names: list[str], said: str) -> None:
    rows = np.ones((2, 3), np.float32)
    splits = {s: [Utterance(f"{s}_0", [0, 1], rows, rows, ["a", "b"])] for s in ("train", "valid", "test")}
    with pytest.raises(UserError, match=said):
        convert("own", splits, source={"file": "x"}, root=root, emotions=names)
    convert("own", splits, source={"file": "x"}, root=root, emotions=["sad", "angry"])
    path = root / "own" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "emotions": names}))
    with pytest.raises(UserError, match=said):
        load("own", root)


@pytest.mark.parametrize("label", [[0, 2], [0.5, 1], [0, 1, 0], [1], 1])
def test_emotions_are_there_or_not(root: Path, label: object) -> None:
    rows = np.ones((2, 3), np.float32)
    splits = {s: [Utterance(f"{s}_0", [0, 1], rows, rows, ["a", "b"])] for s in ("train", "valid")}
    splits["test"] = [Utterance("test_0", label, rows, rows, ["a", "b"])]
    with pytest.raises(UserError, match=r"emotion labels of test must be 0 or 1, one per emotion of .'sad'"):
        convert("own", splits, source={"file": "x"}, root=root, emotions=["sad", "angry"])
    assert not (root / "own").exists()


def test_a_full_disk_and_a_file_in_the_way_change_nothing(
    root: Path, tmp_path: Path, write_pickle, monkeypatch
) -> None:
    import safetensors.numpy
    from safetensors import SafetensorError

    path = write_pickle(mag_content())
    import_corpus("mosi", path, root=root)
    before = listing(root)

    def full(arrays, file):
        Path(file).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", full)
        with pytest.raises(UserError, match=r"No space left.*nothing was changed"):
            import_corpus("mosi", path, root=root)
    assert listing(root) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to"):
        import_corpus("mosi", path, root=tmp_path / "file" / "below")


def test_the_old_corpus_comes_back_when_the_new_one_cannot_take_its_place(
    root: Path, write_pickle, monkeypatch
) -> None:
    import os

    path = write_pickle(mag_content())
    import_corpus("mosi", path, root=root)
    before = listing(root)
    rename, calls = os.rename, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", second_fails)
        with pytest.raises(UserError, match="Input/output error; nothing was changed"):
            import_corpus("mosi", path, root=root)
    assert listing(root) == before
    assert [p.name for p in root.iterdir()] == ["mosi"]


def test_odd_words_survive_as_utf8(root: Path, write_pickle) -> None:
    content = mag_content()
    (words, vision, audio), label, identity = content["train"][3]
    words[0], words[1] = "caf\u00e9\n\u4e2d", "half\ud83d"
    content["train"][3] = ((words, vision, audio), label, identity)
    import_corpus("mosi", write_pickle(content), root=root)
    assert load("mosi", root).splits["train"].words[3][:2] == ["caf\u00e9\n\u4e2d", "half?"]
    assert json.loads((root / "mosi" / "manifest.json").read_text(encoding="utf-8"))["name"] == "mosi"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "own: utterance 0 of valid has the id ''"),
        ({"id": " "}, "own: utterance 0 of valid has the id ' '"),
        ({"id": None}, "own: utterance 0 of valid has the id None"),
        ({"words": ["a", ""]}, r"own: word 1 of 'valid' \(valid\) is empty"),
        ({"words": ["\t", "b"]}, r"own: word 0 of 'valid' \(valid\) is empty"),
    ],
)
def test_ids_and_words_of_nothing_are_refused(root: Path, change: dict, reason: str) -> None:
    rows = np.ones((2, 3), dtype=np.float32)
    splits = {
        split: [Utterance(**{"id": split, "label": 1.0, "words": WORDS[:2], "audio": rows, "vision": rows})]
        for split in ("train", "valid", "test")
    }
    convert("own", splits, source={}, root=root)
    splits["valid"] = [Utterance(**{**vars(splits["valid"][0]), **change})]
    with pytest.raises(UserError, match=reason):
        convert("own", splits, source={}, root=root)
