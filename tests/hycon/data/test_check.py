"""`check`: counts that can be verified by hand, the paper's beside them, and what differs in words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import mag_content, mult_content

from hycon.data.importers import import_corpus
from hycon.data.importers.check import check, render
from hycon.errors import UserError


def test_report_and_text(root: Path, tmp_path: Path, write_pickle) -> None:
    content = mag_content()
    content["train"][0][0][2][0, :5] = -np.inf
    for (_, label, _), value in zip(content["train"], [0.0, 0.5, -2.5, 3.0], strict=True):
        label[0, 0] = value
    vectors = tmp_path / "v.txt"
    vectors.write_text("good 1 2\nmovie 3 4\n")
    import_corpus("mosi", write_pickle(content), root=root, text_vectors=vectors, notes=["made up"])
    report = json.loads(json.dumps(check("mosi", root)))
    assert report["sizes"] == {"train": 4, "valid": 2, "test": 3}
    # 0.5 and -2.5 round to even: 0 and -2
    assert report["labels"]["train"] == {"-3": 0, "-2": 1, "-1": 0, "0": 2, "+1": 0, "+2": 0, "+3": 1, "zero": 1}
    assert report["nonfinite"]["train"] == {"audio": 5, "vision": 0}
    assert report["lengths"]["train"]["words"] == [1, 3, 4, 4]  # of 1, 2, 3, 4
    assert report["paper"]["sizes"] == {"train": 1284, "valid": 229, "test": 686}
    assert report["differences"] == [
        "train has 4 utterances, 1280 fewer than the paper's 1284.",
        "valid has 2 utterances, 227 fewer than the paper's 229.",
        "test has 3 utterances, 683 fewer than the paper's 686.",
        "The word vectors have 2 dimensions, the paper's text has 768 or 300.",
    ]
    text = render(report)
    lines = [line.split() for line in text.splitlines()]
    assert ["train", "4", "1284", "5"] in lines
    assert ["vision", "47", "47", "50"] in lines
    assert ["train", "0", "1", "0", "2", "0", "0", "1", "1"] in lines
    assert "Note: made up" in text
    assert "types: 1 exact, 1 lower, 0 stripped, 3 missing (60.0 % unknown" in text


def test_a_corpus_of_ones_own(root: Path, write_pickle) -> None:
    import_corpus("own", write_pickle(mag_content(vision=3)), root=root)
    report = check("own", root)
    assert report["paper"] is None
    assert report["differences"] == [
        "The paper has no corpus called own, and it is not named after one (mosi_...); "
        "the paper's are mosi, mosei, iemocap."
    ]
    text = render(report)
    assert "Word vectors: none" in text
    assert ["split", "utterances", "zeroed", "audio", "values"] in [line.split() for line in text.splitlines()]
    assert "are the same" not in text


def test_labels_that_are_all_the_same_are_said(root: Path, write_pickle) -> None:
    content = mag_content()
    for _, label, _ in content["test"]:
        label[:] = 1.0
    import_corpus("own", write_pickle(content), root=root)
    assert check("own", root)["same_label"] == ["test"]
    assert "All labels of test are the same: nothing can be learned or measured by them." in render(check("own", root))


@pytest.mark.parametrize(("largest", "given", "said"), [(1.0, None, True), (1.0, 1.0, False), (1.5, None, False)])
def test_labels_that_look_narrow_are_said(root: Path, write_pickle, largest, given, said) -> None:
    content = mag_content()
    for utterances in content.values():
        for _, label, _ in utterances:
            label[:] = -0.5
    content["train"][0][1][:] = largest
    import_corpus("own", write_pickle(content), root=root, label_range=given)
    assert ("If 1 is the most, import with --label-range 1." in render(check("own", root))) == said


@pytest.mark.parametrize(
    ("name", "corpus"),
    [("mosi_resampled", "mosi"), ("mosei-2024", "mosei"), ("mosei_mosi", "mosei"), ("mosi", "mosi"), ("mosix", None),
     ("my_mosi", None)],
)  # fmt: skip
def test_a_corpus_named_after_one_of_the_papers_is_put_beside_it(root: Path, write_pickle, name, corpus) -> None:
    import_corpus(name, write_pickle(mag_content(audio=5) if name != "mosi" else mag_content()), root=root)
    report = check(name, root)
    sizes = {"mosi": 1284, "mosei": 16265}
    if corpus is None:
        assert report["paper"] is None
        return
    assert report["paper"]["corpus"] == corpus
    assert f"Beside the paper's {corpus}:\n" in render(report)
    assert any(f"than the paper's {sizes[corpus]}." in sentence for sentence in report["differences"])
    assert ("audio has 5 features per row, the paper's has 74." in report["differences"]) == (name != "mosi")


def test_changed_or_missing_files_are_errors(root: Path, write_pickle) -> None:
    import_corpus("mosi", write_pickle(mag_content()), root=root)
    path = root / "mosi" / "corpus.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="does not have the sha256 of its manifest"):
        check("mosi", root)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        check("mosi", root)
    with pytest.raises(UserError, match=r"No corpus 'mosy'.*nearest: mosi"):
        check("mosy", root)


def test_emotions(root: Path, write_pickle) -> None:
    import_corpus("emo", write_pickle(mult_content(emotions=True)), root=root)
    assert check("emo", root)["labels"]["train"] == {"neutral": 2, "happy": 2, "sad": 0, "angry": 0}


def test_no_torch_is_needed(root: Path, write_pickle) -> None:
    """Importing, checking and rendering a pickle stay free of torch's start-up time."""
    path = write_pickle(mag_content())
    code = (
        "import sys; from hycon.data.importers import import_corpus\n"
        "from hycon.data.importers.check import check, render\n"
        f"import_corpus('mosi', {str(path)!r}, root={str(root)!r}); render(check('mosi', {str(root)!r}))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_rule_of_the_identity_is_said(root: Path, write_pickle) -> None:
    manifest = import_corpus("own", write_pickle(mag_content()), root=root)
    assert f"Identity: {manifest.sha256} (of its files, nominal lengths" in render(check("own", root))
    path = root / "own" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    assert f"Identity: {manifest.files_sha256} (of its files alone, an earlier rule" in render(check("own", root))
