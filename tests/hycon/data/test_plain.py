"""Someone's own data: the table, the arrays beside it, and every way in which they disagree."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import assert_aligned_corpus, count, plain_folder, rows_of, sequence

from hycon.data import load
from hycon.data.importers import import_corpus, plain
from hycon.data.prepare import prepare
from hycon.errors import UserError


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("format", ["auto", "plain"])
def test_plain(root: Path, tmp_path: Path, packed: bool, format: str) -> None:
    manifest = import_corpus("own", plain_folder(tmp_path / "in", packed), format=format, root=root)
    assert (manifest.aligned, manifest.source["format"]) == ("word", "plain")
    assert manifest.lengths == {"text": 50, "audio": 50, "vision": 50}
    assert_aligned_corpus(load("own", root))


def test_plain_emotions_text_vectors_and_no_words(root: Path, tmp_path: Path) -> None:
    def columns(row, i):
        return {"id": row["id"], "split": row["split"], "emotion:calm": i % 2, "emotion:loud": 1, "speaker": "x"}

    manifest = import_corpus("own", plain_folder(tmp_path / "in", columns=columns, text_vectors=True), root=root)
    assert (manifest.emotions, manifest.aligned, manifest.dims["text"]) == (["calm", "loud"], "step", 6)
    corpus = load("own", root)
    np.testing.assert_array_equal(corpus.splits["test"].label.numpy(), [[0, 1], [1, 1], [0, 1]])
    assert corpus.splits["test"].words is None
    np.testing.assert_array_equal(rows_of(corpus, "test", "text", 2), sequence(2, count("test", 2), 6, 3000))


def test_plain_takes_the_nominal_length_from_the_longest_training_utterance(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in", packed=False, text_vectors=True)
    np.save(folder / "vision" / "train_1.npy", np.zeros((77, 6)))
    for split in ("valid", "test"):
        np.save(folder / "vision" / f"{split}_1.npy", sequence(1, 99, 6, 1000))
    manifest = import_corpus("own", folder, root=root)
    assert (manifest.lengths, manifest.aligned) == ({"text": 50, "audio": 50, "vision": 77}, "none")
    corpus = load("own", root)
    batches = prepare(corpus, "features")
    for split in ("valid", "test"):
        assert len(rows_of(corpus, split, "vision", 1)) == 99  # the corpus keeps all; a model reads the first 77
        assert batches[split].vision.lengths[1] == 77
        np.testing.assert_array_equal(batches[split].vision.padded()[1], sequence(1, 77, 6, 1000))


def emotional(row: dict[str, Any], cell: str) -> dict[str, Any]:
    return {"id": row["id"], "split": row["split"], "emotion:calm": cell, "text": row["text"]}


def test_plain_emotions_may_have_a_decimal_point(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in", columns=lambda row, i: emotional(row, ["1.0", "0.0"][i % 2]))
    import_corpus("own", folder, root=root)
    np.testing.assert_array_equal(load("own", root).splits["test"].label.numpy(), [[1], [0], [1]])


def test_a_column_twice_is_refused(root: Path, tmp_path: Path) -> None:
    table = plain_folder(tmp_path / "in") / "utterances.csv"
    header, rest = table.read_text().split("\n", 1)
    table.write_text(header.replace("text", "label") + "\n" + rest)
    with pytest.raises(UserError, match=r"utterances\.csv has the column 'label' more than once"):
        import_corpus("own", table.parent, root=root)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda r, i: {**r, "split": "training"}, "line 2: split is 'training'"),
        (lambda r, i: {**r, "label": "?"}, r"label of 'train_0' is '\?', which is not a number; expected a number\."),
        (lambda r, i: {**r, "label": "nan"}, r"label of 'train_0' \(train\) is nan"),
        (lambda r, i: {**r, "emotion:x": 1}, "either a column label or columns emotion:NAME"),
        (lambda r, i: {"id": r["id"], "split": r["split"], "text": "a"}, "either a column label"),
        (lambda r, i: {"id": r["id"], "label": 0, "text": "a"}, "needs the columns id and split; it has id, label"),
        (lambda r, i: {**r, "id": "../secret"}, "no array for utterance"),
        (lambda r, i: {**r, "id": "train_0"}, "'train_0' is in train and again in train"),
        (lambda r, i: {**r, "id": ""}, "line 2 has an empty id"),
        (lambda r, i: emotional(r, "maybe"), "calm of 'train_0' is 'maybe', which is not a number; expected 0 or 1"),
        (lambda r, i: emotional(r, "0.5"), "line 2: calm of 'train_0' is '0.5'; expected 0 or 1"),
        (lambda r, i: emotional(r, "nan"), "line 2: calm of 'train_0' is 'nan'; expected 0 or 1"),
        (lambda r, i: {**r, "text": ""}, "'train_0' .train. has no words"),
        (lambda r, i: {k: v for k, v in r.items() if k != "text"}, "neither words nor text vectors"),
    ],
)  # fmt: skip
def test_damaged_plain_tables(root: Path, tmp_path: Path, edit, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        import_corpus("own", plain_folder(tmp_path / "in", columns=edit), root=root)
    assert not root.exists()


def test_plain_ids_do_not_leave_the_folder(root: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "secret.npy", np.zeros((2, 6)))
    folder = plain_folder(tmp_path / "in", packed=False, columns=lambda r, i: {**r, "id": "../../secret"})
    with pytest.raises(UserError, match="cannot name a file"):
        import_corpus("own", folder, root=root)


def test_plain_an_utterance_without_its_array_is_named(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in", packed=False)
    (folder / "audio" / "train_0.npy").unlink()
    with pytest.raises(UserError, match=r"audio/train_0\.npy is missing: utterance 'train_0' has no audio"):
        import_corpus("own", folder, root=root)


def test_plain_a_folder_without_a_table_has_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no utterances\.csv; see docs/using-a-model\.md"):
        plain.read_unlabelled(tmp_path)


def test_plain_arrays_missing_damaged_or_pickled(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in")
    whole = (folder / "audio.npz").read_bytes()
    evil = {"train_0": np.array([{"a": 1}], dtype=object)}
    for data, reason in (
        (whole[: len(whole) // 2], "audio.npz is not a readable"),
        (b"", "audio.npz is not a readable"),
        (pickle.dumps([1]), "audio.npz is not a readable"),
    ):
        (folder / "audio.npz").write_bytes(data)
        with pytest.raises(UserError, match=reason):
            import_corpus("own", folder, root=root)
    np.savez(folder / "audio.npz", **evil)
    with pytest.raises(UserError, match="array of 'train_0' is damaged or not numeric"):
        import_corpus("own", folder, root=root)
    (folder / "audio.npz").unlink()
    with pytest.raises(UserError, match=r"has no audio\.npz: for a modality .* one row of one zero"):
        import_corpus("own", folder, root=root)
    (folder / "utterances.csv").write_bytes(b"id,split\xff\n")
    with pytest.raises(UserError, match="UTF-8"):
        import_corpus("own", folder, root=root)
    (folder / "utterances.csv").write_text("id,split,label,text\na,train,1\n")
    with pytest.raises(UserError, match="line 2 has 3 columns, the header has 4"):
        import_corpus("own", folder, root=root)
    assert not root.exists()


def test_an_array_beyond_the_memory_is_one_sentence(root: Path, tmp_path: Path, monkeypatch) -> None:
    """A zip of 4 MB can hold an array of 4 GiB of zeros."""

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(plain, "read_npy", full)
    with pytest.raises(UserError, match="in needs more memory than there is, or is damaged; nothing was imported"):
        import_corpus("own", plain_folder(tmp_path / "in"), root=root)
    assert not root.exists()


def test_a_zip_that_unpacks_to_far_more_than_it_is(root: Path, tmp_path: Path, monkeypatch) -> None:
    folder = plain_folder(tmp_path / "in")
    ids = [line.split(",")[0] for line in (folder / "utterances.csv").read_text().splitlines()[1:]]
    np.savez_compressed(folder / "audio.npz", **{id: np.zeros((4, 100_000)) for id in ids})
    import_corpus("own", folder, root=root)  # few in all
    monkeypatch.setattr(plain, "SPARE", 2**20)
    with pytest.raises(
        UserError, match=r"audio\.npz unpacks to over \d+ bytes, more than 200 times its size; not read"
    ):
        import_corpus("own", folder, root=root)
    with pytest.raises(UserError, match=r"audio\.npz unpacks to over"):
        plain.read_unlabelled(folder)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("id;split;label;text\na;train;1;fine\n", "it has id;split;label;text: put commas in place of ';'"),
        ('id,split,label,text\na,train,1,"oops\n', "a quotation mark is not closed"),
        (
            "id,split,label,text\na,train,1,well, fine\n",
            "line 2 has 5 columns, the header has 4: put a text with commas",
        ),
        (
            "id,split,label,text\na,train,1,caf\u00e9\n".encode("latin-1"),
            r"not a readable UTF-8 .*\): save it as UTF-8",
        ),
    ],
)
def test_what_spreadsheets_write_is_told(root: Path, tmp_path: Path, table, said) -> None:
    folder = plain_folder(tmp_path / "in")
    (folder / "utterances.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(UserError, match=said):
        import_corpus("own", folder, root=root)


def test_one_array_for_all_utterances_is_told(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in")
    np.savez(folder / "audio.npz", features=np.zeros((9, 6)), ids=np.zeros(9))
    with pytest.raises(UserError, match="no array for utterance 'train_0'; it holds 'features', 'ids'"):
        import_corpus("own", folder, root=root)


def test_an_array_of_another_form_is_told_what_is_expected(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in", packed=False)
    np.save(folder / "audio" / "train_0.npy", np.zeros(5))
    with pytest.raises(UserError, match=r"expected numbers in 2 dimensions, \(rows, features\): .* array\[None\]"):
        import_corpus("own", folder, root=root)
