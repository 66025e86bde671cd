"""Features that repeat are counted at import, remembered beside the corpus, and said in words; identities stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hycon.data import Utterance, convert, read_manifest
from hycon.data.importers.check import check, render
from hycon.data.importers.repeats import PHRASE, count_repeats
from hycon.data.importers.synthetic import synthesize
from hycon.data.repeats import in_words, remarks

SIZES = {"train": 30, "valid": 10, "test": 20}
Splits = dict[str, list[Utterance]]


def distinct(seed: int = 0, text: bool = False, words: bool = True, rows: int = 4) -> Splits:
    """Utterances of 4 rows each, no two of which are equal."""
    rng = np.random.default_rng(seed)

    def one(split: str, i: int) -> Utterance:
        audio, vision, vectors = (rng.normal(size=(rows, d)).astype(np.float32) for d in (5, 3, 6))
        said = [f"{split}{i}w{k}" for k in range(rows)] if words else None
        return Utterance(f"{split}{i}[0]", 1.0, audio, vision, said, vectors if text else None)

    return {split: [one(split, i) for i in range(n)] for split, n in SIZES.items()}


def put(splits: Splits, root: Path) -> Any:
    return convert("own", splits, source={"file": "x"}, root=root)


def replaced(given: Utterance, **changes: Any) -> Utterance:
    return Utterance(**{**vars(given), **changes})


def test_a_clean_corpus_says_nothing(root: Path) -> None:
    found = put(distinct(), root)
    assert found.repeats["audio"]["test"] == {
        "rows": 80, "rows_constant": 0, "rows_again": 0, "rows_elsewhere": 0,
        "utterances": 20, "utterances_constant": 0, "utterances_again": 0, "utterances_elsewhere": 0,
    }  # fmt: skip
    assert in_words(found.repeats) == []
    assert "No features repeat across utterances or splits, and none are constant." in render(check("own", root))


def test_the_demo_corpora_say_nothing(root: Path) -> None:
    assert in_words(synthesize("synthetic", root).repeats) == []
    assert in_words(synthesize("synthetic_emotions", root, emotions=True).repeats) == []


def test_rows_of_other_splits_are_counted_and_said(root: Path) -> None:
    splits = distinct()
    pool = np.concatenate([u.audio for u in splits["valid"]])  # (40, 5)
    rng = np.random.default_rng(1)
    splits["test"] = [replaced(u, audio=pool[rng.choice(40, 4, replace=False)]) for u in splits["test"]]
    found = put(splits, root)
    assert found.repeats["audio"]["test"]["rows_elsewhere"] == 80
    assert found.repeats["audio"]["train"]["rows_elsewhere"] == 0
    assert found.repeats["vision"]["test"]["rows_elsewhere"] == 0
    said = "features repeat: 100 % of the test split's audio also stands in other splits"
    assert in_words(found.repeats) == [said]
    assert f"Captions say: {said}." in render(check("own", root))


@pytest.mark.parametrize(("share", "said"), [(0.0, []), (0.08, []), (0.4, ["40 %"]), (1.0, ["100 %"])])
def test_audio_that_was_not_finite_is_said(root: Path, share: float, said: list[str]) -> None:
    splits, values = distinct(), SIZES["test"] * 4 * 5
    audio = np.concatenate([u.audio for u in splits["test"]])
    audio.reshape(-1)[: round(share * values)] = -np.inf
    splits["test"] = [replaced(u, audio=rows) for u, rows in zip(splits["test"], np.split(audio, 20), strict=True)]
    found = [phrase for phrase in remarks(put(splits, root)) if "NaN" in phrase]
    assert found == [f"{part} of the test split's audio was -inf or NaN and became 0" for part in said]


def test_a_copied_utterance_is_counted_as_a_whole(root: Path) -> None:
    splits = distinct()
    splits["test"][3] = replaced(splits["test"][3], vision=splits["train"][7].vision)
    splits["train"][1] = replaced(splits["train"][1], audio=splits["train"][0].audio)
    splits["train"][2] = replaced(splits["train"][2], audio=splits["train"][3].audio[::-1].copy())  # other order: rows
    found = put(splits, root).repeats
    assert found["vision"]["test"]["utterances_elsewhere"] == 1
    assert found["vision"]["train"]["utterances_elsewhere"] == 1
    assert found["audio"]["train"]["utterances_again"] == 2
    assert found["audio"]["train"]["rows_again"] == 16
    said = (
        "5 % of the test split's vision also stands in other splits; "
        "13 % of the train split's audio stands in several utterances"
    )
    assert in_words(found) == [f"features repeat: {said}"]


def test_a_repeat_below_the_share_is_counted_and_not_said(root: Path) -> None:
    splits = distinct(rows=20)
    audio = splits["test"][0].audio.copy()
    audio[0] = splits["train"][0].audio[0]
    splits["test"][0] = replaced(splits["test"][0], audio=audio)
    found = put(splits, root)
    assert found.repeats["audio"]["test"]["rows_elsewhere"] == 1
    assert in_words(found.repeats) == []
    assert "no caption mentions it" in render(check("own", root))


def test_rows_without_a_face_are_no_repeats_until_they_are_many(root: Path) -> None:
    splits = distinct()
    splits["test"][0] = replaced(splits["test"][0], vision=np.zeros((4, 3), np.float32))
    found = put(splits, root)
    assert found.repeats["vision"]["test"]["rows_constant"] == 4
    assert found.repeats["vision"]["test"]["utterances_constant"] == 1
    assert in_words(found.repeats) == []
    splits = {split: [replaced(u, audio=np.full((4, 5), 0.5, np.float32)) for u in us] for split, us in splits.items()}
    assert in_words(put(splits, root).repeats) == ["features repeat: audio is constant in 100 % of the utterances"]


def test_what_stands_for_nothing_after_standardising_is_no_repeat(root: Path) -> None:
    """A zero row becomes (-mean / sd): other values, the same everywhere."""
    splits = distinct(rows=50)
    nothing = np.array([-0.4, 1.2, 0.1], np.float32)
    for us in splits.values():
        for u in us:
            u.vision[:3] = nothing
    found = put(splits, root)
    assert found.repeats["vision"]["test"]["rows_constant"] == 60
    assert in_words(found.repeats) == []


def test_one_row_tiled_over_an_utterance_is_no_repeat_of_another(root: Path) -> None:
    splits = distinct()
    splits = {s: [replaced(u, audio=np.repeat(u.audio[:1], 4, 0)) for u in us] for s, us in splits.items()}
    assert in_words(put(splits, root).repeats) == []


def test_minus_zero_is_zero(root: Path) -> None:
    splits = distinct()
    row = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]] * 4, np.float32)
    splits["train"][0] = replaced(splits["train"][0], audio=row)
    splits["test"][0] = replaced(splits["test"][0], audio=row * np.array([-1, 1, 1, 1, 1], np.float32))
    assert put(splits, root).repeats["audio"]["test"]["utterances_elsewhere"] == 1


def test_words_recur_and_vectors_of_other_words_do_not(root: Path) -> None:
    splits = distinct(text=True)
    same = splits["train"][0]
    splits["test"][0] = replaced(splits["test"][0], text=same.text, words=same.words)  # the same sentence twice
    found = put(splits, root)
    assert found.repeats["text"]["test"]["utterances_elsewhere"] == 0
    splits["test"][0] = replaced(splits["test"][0], words=["it", "is", "not", "that"])
    found = put(splits, root)
    assert found.repeats["text"]["test"]["utterances_elsewhere"] == 1
    assert found.repeats["text"]["test"]["rows_elsewhere"] == 0  # single words are not looked at


@pytest.mark.parametrize(("rows", "counted"), [(PHRASE - 1, 0), (PHRASE, 1)])
def test_without_words_a_long_sentence_is_counted(root: Path, rows: int, counted: int) -> None:
    splits = distinct(text=True, words=False, rows=rows)
    splits["test"][0] = replaced(splits["test"][0], text=splits["train"][0].text)
    assert put(splits, root).repeats["text"]["test"]["utterances_elsewhere"] == counted


def test_blocks_do_not_matter(root: Path, monkeypatch) -> None:
    from hycon.data.corpus import read_arrays

    splits = distinct()
    splits["test"] = [replaced(u, audio=splits["train"][i].audio) for i, u in enumerate(splits["test"])]
    put(splits, root)
    arrays = read_arrays("own", root)[1]
    whole = count_repeats(arrays)
    monkeypatch.setattr("hycon.data.importers.repeats.BLOCK", 12)  # values: two rows of audio
    assert count_repeats(arrays) == whole


def test_check_adds_the_counts_to_an_older_manifest_and_keeps_everything_else(root: Path) -> None:
    first = put(distinct(), root)
    path = root / "own" / "manifest.json"
    older = json.loads(path.read_text())
    older |= {"note of a later version": "kept"}
    del older["repeats"]
    path.write_text(json.dumps(older))
    found = read_manifest("own", root)
    assert found.repeats is None
    assert in_words(found.repeats) == []
    assert found.sha256 == first.sha256
    check("own", root)
    now = json.loads(path.read_text())
    assert now.pop("repeats") == first.repeats
    assert now == older
    assert read_manifest("own", root).sha256 == first.sha256
    assert sorted(p.name for p in path.parent.iterdir()) == ["corpus.safetensors", "manifest.json"]


def test_check_writes_nothing_into_a_corpus_that_took_the_place(root: Path, monkeypatch) -> None:
    put(distinct(), root)
    path = root / "own" / "manifest.json"
    older = json.loads(path.read_text())
    del older["repeats"]
    path.write_text(json.dumps(older))

    def meanwhile(arrays: Any) -> Any:
        shutil.rmtree(root / "own")
        convert("own", distinct(seed=9), source={"file": "y"}, root=root)
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "repeats"}))
        return count_repeats(arrays)

    monkeypatch.setattr("hycon.data.importers.check.count_repeats", meanwhile)
    check("own", root)
    assert read_manifest("own", root).repeats is None
