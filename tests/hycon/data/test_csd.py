"""Computational sequences, written as the SDK writes them, read through mmsdk, averaged like its own alignment."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from csd_folder import SEGMENTS, VIDEOS, folder_of, frames, write_csd

from hycon.data import load
from hycon.data.importers import import_corpus
from hycon.data.importers.check import check, render
from hycon.data.importers.csd import average, import_mmsdk, standard_folds
from hycon.errors import UserError

h5py = pytest.importorskip("h5py")


def rows_of(corpus, split: str, modality: str, i: int) -> np.ndarray:
    ragged = getattr(corpus.splits[split], modality)
    return ragged.rows[int(ragged.starts[i]) : int(ragged.starts[i] + ragged.lengths[i])].numpy()


def test_csd(root: Path, tmp_path: Path, capsys) -> None:
    manifest = import_corpus("mosi", folder_of(tmp_path / "in"), root=root)
    assert capsys.readouterr().out == ""  # mmsdk's own chatter is kept off the screen
    assert manifest.source["sequences"] == {
        "words": "words.csd",
        "audio": "COVAREP.csd",
        "vision": "FACET_4.1.csd",
        "labels": "Opinion_Segment_Labels.csd",
    }
    assert manifest.source["counts"] == {
        "segments": 6,
        "videos without a fold": 1,
        "videos without words, audio or vision": 0,
        "segments without words": 0,
        "words without audio frames": 0,
        "words without vision frames": 0,
    }
    assert (manifest.aligned, manifest.dims, manifest.lengths["text"]) == ("word", {"audio": 74, "vision": 47}, 50)
    corpus = load("mosi", root)
    for k, (split, video) in enumerate(VIDEOS.items()):
        data = corpus.splits[split]
        assert data.ids == [f"{video}[0]", f"{video}[1]"]
        assert data.words == [["hello", "there"], ["good", "bye"]]
        np.testing.assert_allclose(data.label.numpy(), [2.5, -1.5])
        # "there", 0.5 to 1 s: audio frames 10..19 at 20 per second, vision frames 5..9 at 10 per second
        np.testing.assert_allclose(rows_of(corpus, split, "audio", 0)[1, :2], 1000 * k + np.array([14.5, 15.0]))
        np.testing.assert_allclose(rows_of(corpus, split, "vision", 0)[1, :2], -1000 * k + np.array([7.0, 7.5]))
        # "good", 2 to 2.4 s: 40..47 and 20..23
        np.testing.assert_allclose(rows_of(corpus, split, "audio", 1)[0, :2], 1000 * k + np.array([43.5, 44.0]))
        np.testing.assert_allclose(rows_of(corpus, split, "vision", 1)[0, 0], -1000 * k + 21.5)


def test_the_average_is_mmsdks(tmp_path: Path) -> None:
    """Random, overlapping, gappy frames: the same numbers as mmdataset.align with an averaging collapse function."""
    rng = np.random.default_rng(3)
    mmsdk = import_mmsdk()
    starts = np.sort(rng.uniform(0, 10, 60))
    intervals = np.stack([starts, starts + rng.uniform(0.0005, 0.6, 60)], 1).astype(np.float32)
    features = rng.normal(size=(60, 3)).astype(np.float32)
    edges = np.sort(rng.uniform(0, 12, 21)).astype(np.float32)
    words = np.stack([edges[:-1], edges[1:]], 1)
    words = words[words[:, 1] - words[:, 0] > 2e-3]
    write_csd(tmp_path / "w.csd", "words", {"v": (words, np.zeros((len(words), 1)))})
    write_csd(tmp_path / "a.csd", "audio", {"v": (intervals, features)})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        data = mmsdk.mmdataset({"words": str(tmp_path / "w.csd"), "audio": str(tmp_path / "a.csd")})
        for sequence in data.computational_sequences.values():  # numpy, not HDF5, as align() slices with masks
            sequence.data = {k: {n: np.asarray(d[n]) for n in d} for k, d in sequence.data.items()}
        data.align("words", collapse_functions=[lambda intervals, features: features.mean(0)])
    expected = data["audio"].data
    rows, empty = average(intervals.astype(np.float64), features, words.astype(np.float64))
    assert set(expected) == {f"v[{i}]" for i in np.flatnonzero(~empty)}
    assert 0 < empty.sum() < len(words)
    for i in np.flatnonzero(~empty):
        np.testing.assert_allclose(rows[i], np.asarray(expected[f"v[{i}]"]["features"])[0], rtol=1e-5, atol=1e-6)
    assert (rows[empty] == 0).all()


def test_the_standard_folds_have_the_papers_sizes() -> None:
    folds = standard_folds(import_mmsdk(), "mosi")
    assert [list(folds.values()).count(split) for split in ("train", "valid", "test")] == [52, 10, 31]


def test_a_video_of_two_standard_folds_is_refused() -> None:
    """It could be trained on and tested on."""

    def folds(train: list[str], valid: list[str], test: list[str]) -> SimpleNamespace:
        own = {"standard_train_fold": train, "standard_valid_fold": valid, "standard_test_fold": test}
        return SimpleNamespace(cmu_mosi=SimpleNamespace(standard_folds=SimpleNamespace(**own)))

    assert standard_folds(folds(["a", "a"], ["b"], ["c"]), "mosi") == {"a": "train", "b": "valid", "c": "test"}
    for given, both in (
        ((["a"], ["b"], ["a"]), "train and in test"),
        ((["a"], ["b"], ["c", "b"]), "valid and in test"),
    ):
        with pytest.raises(UserError, match=f"standard folds of mosi have '[ab]' in {both}"):
            standard_folds(folds(*given), "mosi")


def test_what_is_left_out_and_filled_is_counted(root: Path, tmp_path: Path) -> None:
    train, valid = VIDEOS["train"], VIDEOS["valid"]

    def late(data):  # the first two seconds of train, and its first two words, have no frame
        intervals, features = data[train]
        return data | {train: (intervals[20:], features[20:])}

    def extra_segment(data):
        intervals, features = data[valid]
        return data | {valid: ([*intervals, (50.0, 51.0)], np.concatenate([features, [[1.0]]]))}

    def also_infinite(data):
        intervals, features = data[train]
        features = features.copy()
        features[45, 0] = -np.inf
        return data | {train: (intervals, features)}

    folder = folder_of(tmp_path / "in", FACET=lambda d: late(d), Opinion=extra_segment, COVAREP=also_infinite)
    manifest = import_corpus("mosi", folder, root=root)
    counts = manifest.source["counts"]
    assert counts["segments"] == 7
    assert counts["segments without words"] == 1
    assert counts["words without vision frames"] == 2
    assert counts["words without audio frames"] == 0
    assert manifest.nonfinite["train"] == {"audio": 1, "vision": 0}
    said = "videos without a fold (1), segments without words (1), words without vision frames (2)"
    assert f"Left out, or filled with zeros: {said}." in render(check("mosi", root)).splitlines()
    corpus = load("mosi", root)
    assert (rows_of(corpus, "train", "vision", 0) == 0).all()
    assert len(corpus.splits["valid"].ids) == 2


def test_seven_labels_and_unsorted_words(root: Path, tmp_path: Path) -> None:
    def seven(data):
        return {v: (t, np.concatenate([x, np.full((2, 6), 9.0)], 1)) for v, (t, x) in data.items()}

    def backwards(data):
        return {v: (t[::-1], x[::-1]) for v, (t, x) in data.items()}

    import_corpus("mosi", folder_of(tmp_path / "in", Opinion=seven, words=backwards), root=root)
    data = load("mosi", root).splits["test"]
    assert data.words == [["hello", "there"], ["good", "bye"]]
    np.testing.assert_allclose(data.label.numpy(), [2.5, -1.5])


def test_what_is_left_out_ends_nothing_and_segments_keep_their_place_in_the_file(root: Path, tmp_path: Path) -> None:
    """A video without a fold, one without words and a segment without words come first; silence is no word."""
    train = VIDEOS["train"]
    wordless = min(standard_folds(import_mmsdk(), "mosi"))
    assert wordless < train  # videos are read in this order

    def segments(data):
        intervals = [(50.0, 51.0), (1.8, 3.1), (0.0, 3.1), (0.0, 1.0)]
        own = (intervals, np.array([[1.0], [-1.5], [0.5], [2.5]], np.float32))
        return {"#none": own, wordless: own, **data, train: own}

    counts = import_corpus("mosi", folder_of(tmp_path / "in", Opinion=segments), root=root).source["counts"]
    split = load("mosi", root).splits["train"]
    assert list(split.ids) == [f"{train}[{k}]" for k in (1, 2, 3)]
    assert split.label.tolist() == [-1.5, 0.5, 2.5]
    assert split.words == [["good", "bye"], ["hello", "there", "good", "bye"], ["hello", "there"]]
    assert counts["videos without a fold"] == 2  # and `unknown_video`, the last
    assert counts["videos without words, audio or vision"] == counts["segments without words"] == 1


@pytest.mark.parametrize("skip", ["words", "COVAREP", "FACET 4.1", "Opinion Segment Labels"])
def test_a_missing_sequence_is_named(root: Path, tmp_path: Path, skip: str) -> None:
    role = {"words": "words", "COVAREP": "audio", "FACET 4.1": "vision"}.get(skip, "labels")
    with pytest.raises(UserError, match=f"one sequence of {role} .*none is there"):
        import_corpus("mosi", folder_of(tmp_path / "in", skip=skip), root=root)
    assert not root.exists()


def test_two_candidates_are_listed(root: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in")
    write_csd(folder / "of2.csd", "OpenFace_2", {v: frames(10, 8, 0) for v in VIDEOS.values()})
    with pytest.raises(UserError, match=r"of vision .*more than one is there: FACET_4\.1\.csd, of2\.csd"):
        import_corpus("mosi", folder, root=root)


def test_folds_by_metadata_then_name(root: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in")
    labels = {v: ([s[:2] for s in SEGMENTS], np.zeros((2, 1))) for v in VIDEOS.values()}
    write_csd(folder / "Opinion_Segment_Labels.csd", "Opinion Segment Labels", labels, dataset='"my corpus"')
    assert import_corpus("mosi_own", folder, root=root).source["folds"] == "mmsdk mosi"
    with pytest.raises(UserError, match="standard folds for mosei, mosi, pom, not for 'my corpus'"):
        import_corpus("own", folder, root=root)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "no metadata", "not a sequence"])
def test_damaged_files(root: Path, tmp_path: Path, damage: str) -> None:
    folder = folder_of(tmp_path / "in")
    path = folder / "COVAREP.csd"
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage in ("empty", "text"):
        path.write_bytes(b"" if damage == "empty" else b"<html>not found</html>")
    else:
        with h5py.File(path, "w") as handle:
            if damage == "no metadata":
                handle.create_group("COVAREP/data")
    with pytest.raises(UserError, match=r"COVAREP\.csd is not a readable computational sequence"):
        import_corpus("mosi", folder, root=root)
    assert not root.exists()


@pytest.mark.parametrize(
    ("title", "change", "reason"),
    [
        ("COVAREP", lambda t, x: (t, x[:-1]), r"COVAREP\.csd is not a readable"),
        ("COVAREP", lambda t, x: (t, x[:, 0]), r"COVAREP\.csd is not a readable"),
        ("COVAREP", lambda t, x: (np.full_like(t, np.nan), x), "intervals that are not finite"),
        ("COVAREP", lambda t, x: (t, np.full(x.shape, b"x")), "expected numbers"),
        ("COVAREP", lambda t, x: (t, x[:, :5]), r"has 5 features per row|had? 74"),
        ("FACET", lambda t, x: (t, np.full(x.shape, np.nan)), r"vision of utterance '.*\[0\]' \(test\) holds nan"),
        ("FACET", lambda t, x: (t, np.full(x.shape, np.inf)), r"vision of utterance '.*\[0\]' \(test\) holds inf"),
        ("Opinion", lambda t, x: (t, x * np.nan), r"label of '.*\[0\]' \(test\) is nan"),
        ("words", lambda t, x: (np.asarray(t) + 100, x), "test split is missing or empty"),
    ],
)
def test_damaged_videos(root: Path, tmp_path: Path, title: str, change, reason: str) -> None:
    def damage(data):
        return data | {VIDEOS["test"]: change(*data[VIDEOS["test"]])}

    with pytest.raises(UserError, match=reason):
        import_corpus("mosi", folder_of(tmp_path / "in", **{title: damage}), root=root)
    assert not root.exists()


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.string_dtype("ascii"), h5py.string_dtype("utf-8", 12)])
def test_words_may_be_strings_of_any_length(root: Path, tmp_path: Path, dtype) -> None:
    def as_strings(data):
        return {v: (t, np.array([[w[0].decode()] for w in x], object).astype(dtype)) for v, (t, x) in data.items()}

    import_corpus("mosi", folder_of(tmp_path / "in", words=as_strings), root=root)
    assert load("mosi", root).splits["train"].words == [["hello", "there"], ["good", "bye"]]


def test_references_to_one_long_text_are_not_followed_without_end(root: Path, tmp_path: Path) -> None:
    """2,000 references of 16 bytes to one text of 40,000 are 80 MB of words in a file of 0.1 MB."""
    folder = folder_of(tmp_path / "in")
    path, count = folder / "words.csd", 2000
    with h5py.File(path, "r+") as handle:
        group = handle["words"]["data"][VIDEOS["train"]]
        del group["features"], group["intervals"]
        group.create_dataset("intervals", data=np.tile([[0.0, 0.5]], (count, 1)))
        texts = group.create_dataset("features", (count, 1), dtype=h5py.string_dtype())
        texts[0, 0] = "x" * 40_000
        texts[1, 0] = "y"
        start = texts.id.get_offset()
    content = bytearray(path.read_bytes())
    content[start : start + 16 * count] = content[start : start + 16] * count
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"words\.csd declares over .* bytes of data, 200 times its size; not read"):
        import_corpus("mosi", folder, root=root)


def references(group, path: Path) -> None:
    del group["features"]
    group.create_dataset("features", (5, 1), dtype=h5py.ref_dtype)[0, 0] = group.ref


def ragged(group, path: Path) -> None:
    del group["features"]
    group.create_dataset("features", (5, 1), dtype=h5py.vlen_dtype(np.float32))


def wide(group, path: Path) -> None:
    del group["features"]
    group.create_dataset("features", (5, 100), dtype=h5py.string_dtype())


def numbered(group, path: Path) -> None:
    del group["features"]
    group.create_dataset("features", data=np.arange(5)[:, None])


def external(group, path: Path) -> None:
    secret = path.parent.parent / "secret.txt"
    secret.write_bytes(b"password" * 4)
    del group["features"]
    group.create_dataset("features", (4, 1), "S8", external=[(str(secret), 0, 32)])


def virtual(group, path: Path) -> None:
    del group["features"]
    layout = h5py.VirtualLayout((4, 1), "S8")
    layout[:] = h5py.VirtualSource(str(path.parent.parent / "other.h5"), "x", (4, 1))
    group.create_virtual_dataset("features", layout)


def outside(group, path: Path) -> None:
    del group["features"]
    group["features"] = h5py.ExternalLink(str(path.parent.parent / "other.h5"), "/x")


def soft(group, path: Path) -> None:
    group["again"] = h5py.SoftLink("/words")


def huge(group, path: Path) -> None:
    del group["features"]
    group.create_dataset("features", (10**9, 4), "S8", chunks=(1000, 4))


def within_itself(group, path: Path) -> None:
    group["again"] = group.file["words"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (external, "'features' takes its data from another file"),
        (virtual, "'features' takes its data from another file"),
        (outside, "'features' is a link, which is not followed"),
        (soft, "'again' is a link, which is not followed"),
        (huge, "declares over .* bytes of data, 200 times its size"),
        (references, "'features' has neither numbers nor a column of texts"),
        (ragged, "'features' has neither numbers nor a column of texts"),
        (wide, "'features' has neither numbers nor a column of texts"),
        (numbered, "has words of int64; expected texts"),
        (within_itself, "lies deeper than a computational sequence has groups"),
    ],
)
def test_a_file_that_leads_elsewhere_or_declares_too_much_is_not_read(root: Path, tmp_path: Path, change, said) -> None:
    folder = folder_of(tmp_path / "csd")
    path = folder / "words.csd"
    with h5py.File(path, "r+") as handle:
        change(handle["words"]["data"][VIDEOS["train"]], path)
    with pytest.raises(UserError, match=said):
        import_corpus("mosi", folder, root=root)
    assert not (root / "mosi").exists()
