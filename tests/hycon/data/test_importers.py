"""Telling formats apart, and writing: all or nothing."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import WORDS, mag_content

from hycon.data import Utterance, convert, load, read_manifest
from hycon.data.importers import import_corpus
from hycon.data.importers.common import describe
from hycon.data.manifest import list_corpora
from hycon.errors import UserError


def listing(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


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


def test_same_file_same_corpus(root: Path, write_pickle) -> None:
    path = write_pickle(mag_content())
    first = import_corpus("mosi", path, root=root)
    assert import_corpus("other", path, root=root).sha256 == first.sha256
    changed = copy.deepcopy(mag_content())
    changed["train"][0][0][2][0, 0] += 1
    assert import_corpus("mosi", write_pickle(changed), root=root).sha256 != first.sha256
    assert sorted(p.name for p in root.iterdir()) == ["mosi", "other"]


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


def test_a_bad_folder_hides_no_corpus(root: Path, write_pickle) -> None:
    for name in ("mosi", "own", "torn", "wrong"):
        import_corpus(name, write_pickle(mag_content()), root=root)
    manifest = (root / "mosi" / "manifest.json").read_bytes()
    for leftover in (".mosi.abcd1234", "Foo"):
        (root / leftover).mkdir()
        (root / leftover / "manifest.json").write_bytes(manifest)
    (root / "torn" / "manifest.json").write_bytes(manifest[:40])
    (root / "wrong" / "manifest.json").write_text(json.dumps({**json.loads(manifest), "sizes": [1, 2, 3]}))
    assert [m.name for m in list_corpora(root)] == ["mosi", "own"]
    for name in ("torn", "wrong"):
        with pytest.raises(UserError, match=rf"{name}/manifest\.json is damaged"):
            read_manifest(name, root)
    with pytest.raises(UserError, match=r"No corpus 'xyz'.*nearest: mosi, own, torn, wrong\)"):
        read_manifest("xyz", root)
    code = f"from hycon.data.manifest import list_corpora; print(len(list_corpora({str(root)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    said = done.stderr.splitlines()
    assert len(said) == 2 and "torn/manifest.json is damaged" in said[0] and "wrong/manifest.json" in said[1]


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


def test_articles() -> None:
    assert [describe(value) for value in (3, 1.5, np.uint8(1), object())] == [
        "an int",
        "a float",
        "a uint8",
        "an object",
    ]
