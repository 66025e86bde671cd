"""Manifests: what a damaged, an older and a newer one end in; and what reading them does not import."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samples import mag_content, mult_content

from hycon.data import load, read_manifest
from hycon.data.importers import import_corpus
from hycon.data.importers.check import check
from hycon.data.manifest import LARGEST, decode_manifest, list_corpora
from hycon.errors import UserError

PUBLISHED = "81fe13b4fd4f8b8f7e3894b224255f4c2157a25b64c0ca747ac7d566bf8b9f2c"


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.fixture
def raw(root: Path, write_pickle) -> dict[str, Any]:
    """The manifest of a small corpus, as JSON."""
    import_corpus("own", write_pickle(mag_content()), root=root)
    return json.loads((root / "own" / "manifest.json").read_text(encoding="utf-8"))


def test_what_is_written_is_read(root: Path, write_pickle) -> None:
    for content in (mag_content(), mult_content(emotions=True)):
        manifest = import_corpus("own", write_pickle(content), root=root)
        assert read_manifest("own", root) == manifest
        text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False)
        assert (root / "own" / "manifest.json").read_text(encoding="utf-8") == text


def test_keys_of_other_versions(raw: dict[str, Any]) -> None:
    """A key that is not known here is ignored, one that came later has its default."""
    added = {key: raw.pop(key) for key in ("notes", "vectors", "emotions", "positives", "synthetic")}
    added["version"] = 1 if raw.pop("version") else None
    manifest = decode_manifest(json.dumps({**raw, "colour": [1, {}]}).encode(), "it")
    assert {key: getattr(manifest, key) for key in added} == added


def test_a_newer_version_is_refused_whatever_else_it_holds(root: Path, raw: dict[str, Any]) -> None:
    path = root / "own" / "manifest.json"
    path.write_text(json.dumps({**raw, "version": 3, "sizes": "otherwise"}))
    with pytest.raises(UserError, match=r"manifest\.json was written by a newer version of this suite \(format 3\)"):
        read_manifest("own", root)


def test_what_moves_a_number_is_in_the_identity(root: Path, raw: dict[str, Any]) -> None:
    manifest = read_manifest("own", root)
    assert manifest.version == 2
    changes: list[dict[str, Any]] = [
        {"files": {"corpus.safetensors": "0" * 64}},
        {"lengths": {**manifest.lengths, "text": 40}},
        {"aligned": "none"},
        {"emotions": ["sad", "happy"]},
        {"emotions": ["happy", "sad"]},
        {"task": "emotion"},
        {"source": {"format": "mult"}, "dims": {**manifest.dims, "text": 300}},
    ]
    found = {dataclasses.replace(manifest, **change).sha256 for change in [{}, *changes]}
    assert len(found) == len(changes) + 1
    same = dataclasses.replace(manifest, name="other", notes=["n"], source={"file": "elsewhere"})
    assert same.sha256 == manifest.sha256


def test_a_corpus_of_version_1_keeps_its_identity() -> None:
    """That of results/published, by which its runs go."""
    published = Path(__file__).parents[3] / "results/published/old_protocol/mosi_resampled"
    path = published / "corpora/mosi_resampled/manifest.json"
    manifest = decode_manifest(path.read_bytes(), str(path))
    assert manifest.version == 1
    assert manifest.sha256 == PUBLISHED
    longer = dataclasses.replace(manifest, lengths=dict.fromkeys(manifest.lengths, 20))
    assert longer.sha256 == PUBLISHED
    again = dataclasses.replace(manifest, version=2)
    assert again.sha256 != PUBLISHED
    assert again.files_sha256 == PUBLISHED


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"sizes": {"train": -1}}, r">= 0 - at `\$\.sizes\[\.\.\.\]`"),
        ({"sizes": {"train": 1.5}}, r"at `\$\.sizes\[\.\.\.\]`"),
        ({"dims": {"audio": True}}, r"at `\$\.dims\[\.\.\.\]`"),
        ({"lengths": None}, r"at `\$\.lengths`"),
        ({"nonfinite": {"train": 3}}, r"at `\$\.nonfinite\[\.\.\.\]`"),
        ({"files": {"a": 3}}, r"at `\$\.files\[\.\.\.\]`"),
        ({"notes": "one"}, r"at `\$\.notes`"),
        ({"notes": [1]}, r"at `\$\.notes\[0\]`"),
        ({"emotions": {"sad": 1}}, r"at `\$\.emotions`"),
        ({"task": "sarcasm"}, r"sentiment\|emotion.* - at `\$\.task`"),
        ({"aligned": "syllable"}, r"'syllable' - at `\$\.aligned`"),
        ({"vectors": [300]}, r"at `\$\.vectors`"),
        ({"version": "1"}, r"at `\$\.version`"),
        ({"name": 5}, r"at `\$\.name`"),
        ({"name": "../own"}, r"its name is '\.\./own'"),
        ({"sizes": {"train": 10**400}}, r"at `\$\.sizes\[\.\.\.\]`|out of range"),
        ({"vectors": {"dim": "300"}}, r"`int \| null`, got `str` - at `\$\.dim`"),
        ({"vectors": {"types": {"exact": []}}}, r"at `\$\.types\[\.\.\.\]`"),
        ({"source": {"file": [1]}}, r"at `\$\.file`"),
        ({"source": {"left_out": 5}}, r"at `\$\.left_out`"),
        ({"source": {"zeroed_vision": "x"}}, r"at `\$\.zeroed_vision`"),
        ({"source": {"counts": {"segments": "x"}}}, r"at `\$\.counts\[\.\.\.\]`"),
        ({"leaks": "one"}, r"at `\$\.leaks`"),
        ({"positives": {"train": [5]}}, "its positives exceed the utterances of train"),
        ({"positives": {"dev": [1]}}, "its positives exceed the utterances of dev"),
    ],
)
def test_a_field_of_another_kind_is_damage(root: Path, raw: dict[str, Any], change: dict, fault: str) -> None:
    (root / "own" / "manifest.json").write_text(json.dumps({**raw, **change}))
    with pytest.raises(UserError, match=rf"manifest\.json is damaged \(.*{fault}\): import the corpus again\.$"):
        read_manifest("own", root)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"sizes": {"train": 4, "valid": 2, "test": 2}}, r"test\.label has shape \(3,\), expected \(2,\)"),
        ({"sizes": {"train": 4, "valid": 2}}, r"test\.label has shape \(3,\)"),
        ({"dims": {"vision": 47}}, r"train\.audio has 74 features, not None"),
        ({"dims": {"audio": 74, "vision": 47, "text": 5}}, r"train\.text has None features, not 5"),
        ({"lengths": {"text": 50, "audio": 50}}, "no nominal length"),
        ({"lengths": {"text": 50, "audio": 50, "vision": 0}}, "no nominal length"),
        ({"emotions": ["sad", "happy"]}, r"its task is sentiment, its emotions are \['sad', 'happy'\]"),
        ({"emotions": ["sad", "happy"], "task": "emotion"}, r"train\.label has shape \(4,\), expected \(4, 2\)"),
        ({"task": "emotion"}, "its task is emotion, its emotions are None"),
    ],
)
@pytest.mark.parametrize("read", [load, check])
def test_a_manifest_of_other_data_is_damage(root: Path, raw: dict[str, Any], read, change: dict, fault: str) -> None:
    (root / "own" / "manifest.json").write_text(json.dumps({**raw, **change}))
    with pytest.raises(UserError, match=rf"own is damaged \(.*{fault}.*\): import the corpus again\.$"):
        read("own", root)


@pytest.mark.parametrize("key", ["name", "sizes", "files"])
def test_a_missing_field_is_damage(root: Path, raw: dict[str, Any], key: str) -> None:
    del raw[key]
    (root / "own" / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match=f"is damaged .*missing required field `{key}`"):
        load("own", root)


def test_listing_corpora_is_quick(root: Path, raw: dict[str, Any]) -> None:
    """Neither torch nor numpy, also not through other modules."""
    code = (
        f"import sys; from hycon.data.manifest import list_corpora; print(len(list_corpora({str(root)!r}))); "
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    assert run(code).stdout.splitlines() == ["1", "set()"]


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
    done = run(code)
    assert done.stdout == "2\n"
    said = done.stderr.splitlines()
    assert len(said) == 2
    assert "torn/manifest.json is damaged" in said[0]
    assert "wrong/manifest.json" in said[1]


def test_a_manifest_that_is_a_pipe_a_device_or_huge_is_damaged(tmp_path: Path) -> None:
    for name in ("pipe", "device", "huge"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "manifest.json")
    (tmp_path / "device" / "manifest.json").symlink_to("/dev/zero")
    with open(tmp_path / "huge" / "manifest.json", "wb") as handle:
        handle.truncate(LARGEST + 1)
    for name in ("pipe", "device", "huge"):
        with pytest.raises(UserError, match=r"manifest\.json is damaged \(no regular file of at most"):
            read_manifest(name, tmp_path)
    assert list_corpora(tmp_path) == []
