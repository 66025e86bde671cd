"""No test utterance moves what is trained: each format is imported with two test splits, and trained with both."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import run_spec
from csd_folder import VIDEOS, folder_of
from samples import mag_content, misa_folder, mmsa_content, mult_content, plain_folder

from hycon.data.importers import FORMATS, import_corpus
from hycon.data.importers.synthetic import SIZES, synthesize
from hycon.data.manifest import read_manifest
from hycon.errors import UserError
from studies.engines.one_run import execute

LENGTHS = (1, 60, 3, 12, 7)  # of the other test split's utterances: shorter than any, and beyond the nominal 50
OTHER_WORDS = ["unseen", "Movie", "words", "bad", "nowhere"]
# HyCon reads the nominal padding, TFN the mean of audio and vision; "standard" scales by the corpus's statistics
MODELS = {"glove": ("tfn", "hycon"), "features": ("tfn", "hycon"), "bert": ("hycon",)}


def noise(length: int, width: int, loud: float = 1e4) -> np.ndarray:
    return np.random.default_rng(length).normal(scale=loud, size=(length, width)).astype(np.float32)


def dirty(length: int, width: int) -> np.ndarray:
    """With what COVAREP leaves in audio, which becomes 0."""
    rows = noise(length, width)
    rows[0, :2] = -np.inf, np.nan
    return rows


def words(length: int) -> list[str]:
    return [OTHER_WORDS[k % len(OTHER_WORDS)] for k in range(length)]


def label(i: int) -> float:
    return (-2.8, 3.0, 0.0, -0.2, 1.6)[i % 5]


# ------------------------------------------------------------------ each format: (folder, other test split?) -> file


def other_items() -> list[Any]:
    """Utterances of MAG-BERT's form; their ids begin as those of train do."""
    return [
        ((words(n), noise(n, 47), dirty(n, 74)), np.array([[label(i)]], np.float32), f"train_{90 - i}")
        for i, n in enumerate(LENGTHS)
    ]


def pickled(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


def mag(folder: Path, other: bool) -> Path:
    content = mag_content()
    return pickled(folder / "mosi.pkl", content | {"test": other_items()} if other else content)


def misa(folder: Path, other: bool) -> Path:
    misa_folder(folder)
    if other:
        items = [((np.arange(len(w)), v, a, w), y, name) for (w, v, a), y, name in other_items()]
        pickled(folder / "test.pkl", items)
    return folder


def padded_otherwise(split: dict[str, Any], front: bool) -> dict[str, Any]:
    """Five utterances of other lengths, none beyond the file's padded length, and another order of magnitude."""
    changed: dict[str, Any] = {}
    for modality in ("text", "audio", "vision"):
        steps, width = split[modality].shape[1:]
        arrays = np.zeros((len(LENGTHS), steps, width), np.float32)
        for row, n in zip(arrays, LENGTHS, strict=True):
            n = min(n, steps)
            row[steps - n if front else 0 :][:n] = noise(n, width)
        changed[modality] = arrays
    return changed


def mult(folder: Path, other: bool, aligned: bool = True) -> Path:
    """With MOSEI's ids: video, start and end; one video has segments in train and in the other test split."""
    content = mult_content(aligned=aligned)
    for split, arrays in content.items():
        arrays["id"] = np.array([[f"{split}clip{i // 2}", f"{i}.0", f"{i}.9"] for i in range(len(arrays["labels"]))])
    if other:
        ids = np.array([["trainclip0", f"-{i + 1}.0", f"-{i}.5"] for i in range(len(LENGTHS))])
        labels = np.array([[[label(i)]] for i in range(len(LENGTHS))])
        content["test"] = {**padded_otherwise(content["test"], front=True), "labels": labels, "id": ids}
    return pickled(folder / "mult.pkl", content)


def mult_unaligned(folder: Path, other: bool) -> Path:
    return mult(folder, other, aligned=False)


def mmsa(folder: Path, other: bool, aligned: bool = True) -> Path:
    content = mmsa_content(aligned)
    if other:
        steps = {m: content["test"][m].shape[1] for m in ("text", "audio", "vision")}
        counts = {m: [min(n, steps[m]) for n in LENGTHS] for m in steps}
        mask = np.arange(steps["text"]) < np.array(counts["text"])[:, None]
        test: dict[str, Any] = padded_otherwise(content["test"], front=False)
        test["text_bert"] = np.stack([mask * 9, mask, mask * 0], 1).astype(np.float32)
        test["raw_text"] = np.array([" ".join(words(n)) for n in LENGTHS])
        test["id"] = [f"train$_${90 + i}" for i in range(len(LENGTHS))]
        test["regression_labels"] = np.array([label(i) for i in range(len(LENGTHS))], np.float32)
        if not aligned:
            test |= {f"{m}_lengths": np.array(counts[m]) for m in ("audio", "vision")}
        content["test"] = test
    return pickled(folder / "mmsa.pkl", content)


def mmsa_unaligned(folder: Path, other: bool) -> Path:
    return mmsa(folder, other, aligned=False)


def csd(folder: Path, other: bool) -> Path:
    pytest.importorskip("h5py")
    if not other:
        return folder_of(folder / "csd")
    edges = np.arange(61) / 20
    times = np.stack([edges[:-1], edges[1:]], 1)
    segments = np.array([(0.0, 3.0), (0.1, 0.15), (1.0, 2.0)])

    def change(new: tuple[np.ndarray, np.ndarray]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda data: data | {VIDEOS["test"]: new}

    return folder_of(
        folder / "csd",
        words=change((times, np.array([[word.encode()] for word in words(60)]))),
        COVAREP=change((times, dirty(60, 74))),
        FACET=change((times, noise(60, 47))),
        Opinion=change((segments, np.array([[label(i)] for i in range(3)], np.float32))),
    )


def plain(folder: Path, other: bool, stretch: int = 1, text_vectors: bool = False, split: str = "test") -> Path:
    """stretch: rows of vision to a word, and 70 in an utterance of train; 1: word-aligned.  split: the one replaced."""
    plain_folder(folder, packed=False, text_vectors=text_vectors)
    if stretch > 1:
        for file in (folder / "vision").iterdir():
            np.save(file, np.repeat(np.load(file), stretch, 0))
        np.save(folder / "vision" / "train_0.npy", noise(70, 6, loud=10))
    if other:
        with open(folder / "utterances.csv", newline="", encoding="utf-8") as handle:
            rows = [row for row in csv.DictReader(handle) if row["split"] != split]
        for i, n in enumerate(LENGTHS):
            name = f"{split}_{90 - i}"
            rows.append({"id": name, "split": split, "label": label(i), "text": " ".join(words(n))})
            np.save(folder / "audio" / f"{name}.npy", dirty(n, 6))
            np.save(folder / "vision" / f"{name}.npy", noise(n * stretch, 6))
            if text_vectors:
                np.save(folder / "text" / f"{name}.npy", noise(n, 6))
        with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def plain_unaligned(folder: Path, other: bool) -> Path:
    return plain(folder, other, stretch=2)


def plain_vectors(folder: Path, other: bool) -> Path:
    return plain(folder, other, text_vectors=True)


CASES: dict[str, tuple[Callable[[Path, bool], Path], tuple[str, ...]]] = {  # what writes it, its front-ends
    "mag": (mag, ("glove", "bert")),
    "misa": (misa, ("glove", "bert")),
    "mult": (mult, ("glove",)),  # its own vectors are GloVe's; it has no words
    "mult-unaligned": (mult_unaligned, ("glove",)),
    "mmsa": (mmsa, ("glove", "features", "bert")),
    "mmsa-unaligned": (mmsa_unaligned, ("glove", "features", "bert")),
    "csd": (csd, ("glove", "bert")),
    "plain": (plain, ("glove", "bert")),
    "plain-unaligned": (plain_unaligned, ("glove", "bert")),
    "plain-vectors": (plain_vectors, ("features",)),
}
RUNS = [
    pytest.param(case, text, model, id=f"{case}-{text}-{model}")
    for case, (_, texts) in CASES.items()
    for text in texts
    for model in (*MODELS[text], *(["hffn"] if case == "mult" else []))  # HFFN reads videos, which share ids there
]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(case, other test split?) -> the data folder with the corpus `own`; each is imported once."""
    found: dict[tuple[str, bool], Path] = {}

    def make(case: str, other: bool) -> Path:
        if (case, other) not in found:
            folder = tmp_path_factory.mktemp(f"{case}-{other}")
            vectors = None
            if case.partition("-")[0] != "mult":
                vectors = glove_file(folder / "glove.txt")
            (folder / "in").mkdir()
            file = CASES[case][0](folder / "in", other)
            import_corpus("own", file, format=case.partition("-")[0], root=folder / "data", text_vectors=vectors)
            found[case, other] = folder / "data"
        return found[case, other]

    return make


def glove_file(path: Path) -> Path:
    """Vectors of some words of train, and of some that only the other test split has."""
    known = ["good", "movie", "bad", "hello", "there", "unseen", "words"]
    rng = np.random.default_rng(5)
    path.write_text("".join(f"{word} {' '.join(f'{x:.3f}' for x in rng.normal(size=6))}\n" for word in known))
    return path


def trained(root: Path, model: str, text: str, corpus: str = "own") -> tuple[Any, dict[str, np.ndarray]]:
    options = {"epochs": 3, "batch_size": 2, "lr": 1e-3, "scale": "standard"}
    return execute(run_spec(root, model, text, corpus, **options), data_root=str(root))


def check_same_training(one: Path, two: Path, model: str, text: str, corpus: str = "own") -> None:
    assert read_manifest(corpus, one).sha256 != read_manifest(corpus, two).sha256
    (first, arrays), (second, others) = (trained(root, model, text, corpus) for root in (one, two))
    assert first.weights_sha256 == second.weights_sha256
    assert first.best_epoch == second.best_epoch
    assert first.valid_loss == second.valid_loss
    assert first.curve == second.curve
    assert first.metrics["valid"] == second.metrics["valid"]
    np.testing.assert_array_equal(arrays["valid_prediction"], others["valid_prediction"])
    assert arrays["test_id"].tolist() != others["test_id"].tolist()


def test_every_format_has_a_case() -> None:
    assert {case.partition("-")[0] for case in CASES} == set(FORMATS)


@pytest.mark.parametrize(("case", "text", "model"), RUNS)
def test_the_test_split_moves_no_weight(imported, case: str, text: str, model: str) -> None:
    check_same_training(imported(case, False), imported(case, True), model, text)


@pytest.mark.parametrize("text", ["glove", "bert"])
def test_the_size_of_a_synthetic_test_split_moves_no_weight(tmp_path: Path, text: str) -> None:
    for name, test in (("one", 6), ("two", 20)):
        synthesize("own", tmp_path / name, sizes=SIZES | {"train": 12, "valid": 6, "test": test})
    check_same_training(tmp_path / "one", tmp_path / "two", "hycon", text)


@pytest.mark.parametrize("stretch", [1, 2], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("text", ["glove", "bert"])
def test_longer_validation_utterances_move_no_training_loss(tmp_path: Path, stretch: int, text: str) -> None:
    """`plain` takes nominal lengths from its data: from train alone. (Validation chooses the epoch, as it should.)"""
    curves = []
    for other in (False, True):
        folder = plain(tmp_path / f"in-{other}", other, stretch, split="valid")
        glove = glove_file(tmp_path / "glove.txt")
        manifest = import_corpus("own", folder, root=tmp_path / str(other), text_vectors=glove)
        assert manifest.lengths == {"text": 50, "audio": 50, "vision": 50 if stretch == 1 else 70}
        curves.append([epoch["train_loss"] for epoch in trained(tmp_path / str(other), "hycon", text)[0].curve])
    assert curves[0] == curves[1]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_an_unaligned_utterance_elsewhere_does_not_unalign_train(tmp_path: Path, split: str) -> None:
    """Word pieces would lose the rows of their words in train, too, so a token front-end refuses the corpus."""
    folder = plain_folder(tmp_path / "in", packed=False)
    np.save(folder / "vision" / f"{split}_1.npy", noise(77, 6))
    import_corpus("own", folder, root=tmp_path / "data", text_vectors=glove_file(tmp_path / "glove.txt"))
    with pytest.raises(UserError, match=rf"one row per word in train but not in '{split}_1' \({split}\), so bert can"):
        trained(tmp_path / "data", "hycon", "bert")
    (aligned, _), (odd, _) = (
        trained(root, "hycon", "glove") for root in (tmp_path / "data", unchanged(tmp_path / "whole"))
    )
    assert [e["train_loss"] for e in aligned.curve] == [e["train_loss"] for e in odd.curve]


def unchanged(folder: Path) -> Path:
    plain_folder(folder / "in", packed=False)
    import_corpus("own", folder / "in", root=folder / "data", text_vectors=glove_file(folder / "glove.txt"))
    return folder / "data"
