"""MAG-BERT's and MISA's pickles: values land where they belong; damage ends in one sentence and changes nothing."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from samples import SIZES, assert_aligned_corpus, listing, mag_content, misa_folder, rows_of

from hycon.data import load
from hycon.data.importers import import_corpus
from hycon.errors import UserError


@pytest.mark.parametrize("format", ["auto", "mag"])
def test_mag(root: Path, write_pickle, format: str) -> None:
    path = write_pickle(mag_content(), "mosi.pkl")
    manifest = import_corpus("mosi", path, format=format, root=root, notes=["a note"])
    assert manifest.source == {
        "file": "mosi.pkl",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": "mag",
    }
    assert (manifest.sizes, manifest.dims) == (SIZES, {"audio": 74, "vision": 47})
    assert (manifest.aligned, manifest.task, manifest.notes) == ("word", "sentiment", ["a note"])
    assert manifest.lengths == {"text": 50, "audio": 50, "vision": 50}
    assert_aligned_corpus(load("mosi", root))


def test_covareps_infinities_become_zero_and_are_counted(root: Path, write_pickle) -> None:
    content = mag_content()
    audio = content["dev"][1][0][2]
    audio[0, :3] = [-np.inf, np.nan, -np.inf]
    manifest = import_corpus("mosi", write_pickle(content), root=root)
    assert manifest.nonfinite["valid"] == {"audio": 3, "vision": 0}
    assert manifest.nonfinite["train"] == {"audio": 0, "vision": 0}
    rows = rows_of(load("mosi", root), "valid", "audio", 1)
    assert (rows[0, :3] == 0).all()
    assert rows[0, 3] == 2010


@pytest.mark.parametrize(
    ("which", "modality", "value"), [(2, "audio", np.inf), (1, "vision", np.nan), (1, "vision", -np.inf)]
)
def test_other_non_finite_values_are_named(root: Path, write_pickle, which: int, modality: str, value: float) -> None:
    content = mag_content()
    content["test"][2][0][which][-1, 4] = value
    with pytest.raises(UserError, match=rf"corpus\.pkl: {modality} of utterance 'test_2' \(test\) holds {value}"):
        import_corpus("mosi", write_pickle(content), root=root)


def change(content: dict, how: str) -> dict:
    """Damage to a MAG file, by name."""
    item = content["dev"][1]
    (words, vision, audio), label, identity = item
    if how == "swapped":
        content = {k: [((w, a, v), y, s) for (w, v, a), y, s in items] for k, items in content.items()}
    elif how == "duplicate":
        content["dev"][1] = ((words, vision, audio), label, "train_0")
    elif how == "twice in a split":
        content["dev"][1] = content["dev"][0]
    elif how == "nan label":
        content["dev"][1] = ((words, vision, audio), np.array([[np.nan]]), identity)
    elif how == "large label":
        content["dev"][1] = ((words, vision, audio), np.array([[4.0]]), identity)
    elif how == "text label":
        content["dev"][1] = ((words, vision, audio), "happy", identity)
    elif how == "rows":
        content["dev"][1] = ((words, vision, audio[:-1]), label, identity)
    elif how == "width":
        content["dev"][1] = ((words, vision[:, :-1], audio), label, identity)
    elif how == "flat":
        content["dev"][1] = ((words, vision[:, 0], audio), label, identity)
    elif how == "objects":
        content["dev"][1] = ((words, vision.astype(object), audio), label, identity)
    elif how == "no words":
        content["dev"][1] = (([], vision[:0], audio[:0]), label, identity)
    elif how == "no id":
        content["dev"][1] = ((words, vision, audio), label, None)
    elif how == "empty id":
        content["dev"][1] = ((words, vision, audio), label, b"")
    elif how == "empty word":
        content["dev"][1] = (([*words[:-1], ""], vision, audio), label, identity)
    elif how == "word ids":
        content["dev"][1] = ((np.arange(len(words)), vision, audio), label, identity)
    elif how == "short item":
        content["dev"][1] = ((words, vision), label)
    elif how == "not an item":
        content["dev"][1] = None
    elif how == "empty split":
        content["dev"] = []
    elif how == "no split":
        del content["dev"]
    return content


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("swapped", r"(audio|vision) has \d+ features per row, but mosi in the paper has"),
        ("duplicate", "'train_0' is in train and again in valid"),
        ("twice in a split", "'valid_0' is in valid and again in valid"),
        ("nan label", r"label of 'valid_1' \(valid\) is nan"),
        ("large label", r"label of 'valid_1' \(valid\) is 4\.0"),
        ("text label", "label of 'valid_1'.*expected one number"),
        ("rows", "'valid_1' has 2 words but 1 audio and 2 vision rows"),
        ("width", r"vision of 'valid_1' \(valid\) has 46 features per row"),
        ("flat", "item 1 of dev in corpus.pkl: vision of 'valid_1'.*2 dimension"),
        ("objects", "vision of 'valid_1'.*of object"),
        ("no words", "valid_1"),
        ("no id", r"item 1 of dev in corpus\.pkl has a NoneType where its id should be"),
        ("empty id", r"item 1 of dev in corpus\.pkl has an empty id"),
        ("empty word", r"word 1 of 'valid_1' \(valid\) is empty"),
        ("word ids", r"item 1 of dev in corpus\.pkl has no list of words"),
        ("short item", r"item 1 of dev in corpus\.pkl is not"),
        ("not an item", r"item 1 of dev in corpus\.pkl is not"),
        ("empty split", "valid split is missing or empty"),
        ("no split", "not in the mag format.*keys train, test"),
    ],
)
def test_a_damaged_mag_file_changes_nothing(root: Path, write_pickle, how: str, reason: str) -> None:
    import_corpus("mosi", write_pickle(mag_content()), root=root)
    before = listing(root)
    with pytest.raises(UserError, match=reason) as caught:
        import_corpus("mosi", write_pickle(change(mag_content(), how)), format="mag", root=root)
    assert "\n" not in str(caught.value)
    assert listing(root) == before
    with pytest.raises(UserError):
        import_corpus("mosi_new", write_pickle({"x": 1}), root=root)
    assert [p.name for p in root.iterdir()] == ["mosi"]


def test_a_malicious_file_writes_nothing(root: Path, tmp_path: Path, write_pickle) -> None:
    import os

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    content = mag_content()
    content["dev"].append(Evil())
    with pytest.raises(UserError, match=r"corpus\.pkl holds posix\.system"):
        import_corpus("mosi", write_pickle(content), root=root)
    assert not (tmp_path / "executed").exists()
    assert not root.exists()


@pytest.mark.parametrize("format", ["auto", "misa"])
def test_misa(root: Path, tmp_path: Path, format: str) -> None:
    manifest = import_corpus("mosi", misa_folder(tmp_path / "MOSI"), format=format, root=root)
    assert (manifest.source["file"], manifest.source["format"], manifest.aligned) == ("MOSI", "misa", "word")
    assert len(manifest.source["sha256"]) == 64
    assert_aligned_corpus(load("mosi", root))


def test_misa_moseis_seven_labels(root: Path, tmp_path: Path) -> None:
    folder = misa_folder(tmp_path / "in", label=lambda y: np.concatenate([y, np.full((1, 6), 2.5)], 1))
    import_corpus("own", folder, root=root)
    assert_aligned_corpus(load("own", root))


def test_misa_without_words_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"item 0 of train\.pkl has no list of words; expected \(\(word ids, vision, audio, words\)"
    ):
        import_corpus("mosi", misa_folder(tmp_path / "in", with_words=False), root=root)


def test_misa_with_a_file_missing_or_damaged(root: Path, tmp_path: Path) -> None:
    folder = misa_folder(tmp_path / "in")
    whole = (folder / "dev.pkl").read_bytes()
    for data, reason in (
        (whole[:-20], "dev.pkl is not a readable pickle"),
        (pickle.dumps({}), "expected a list"),
        (b"", "empty"),
    ):
        (folder / "dev.pkl").write_bytes(data)
        with pytest.raises(UserError, match=reason):
            import_corpus("mosi", folder, root=root)
    (folder / "dev.pkl").unlink()
    with pytest.raises(UserError, match=r"not in the misa format.*dev\.pkl"):
        import_corpus("mosi", folder, format="misa", root=root)
    with pytest.raises(UserError, match="no known format"):
        import_corpus("mosi", folder, root=root)
    assert not root.exists()
