"""Nothing in a results folder is read or written through a link; no pipe, device or giant file is read at all."""

import dataclasses
import hashlib
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from builders import fill, manifest, spec
from fake_execute import executed
from fake_execute import spec as fake
from queued import EXECUTE

from hycon.errors import UserError
from studies.cli import main
from studies.engines import queue
from studies.engines.child import _append, _redirect_output, attempt
from studies.engines.tensorboard import Follower
from studies.lookup import known_manifest
from studies.search.ledger import write_ledger
from studies.store import leases
from studies.store.arrays import npz_bytes
from studies.store.inside import LARGEST, SHARED, Unfit, make_folder
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.study import load_studies, remember_corpus, save_study
from studies.trust.archive import export, import_results
from studies.trust.doctor import examine, repair


@pytest.fixture
def store(tmp_path):
    made = RunStore(tmp_path / "results")
    fill(made, [0.1, 0.2], trials=2)
    return made


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.json").write_text('{"secret": 1}')
    yield folder
    assert [path.name for path in folder.iterdir()] == ["secret.json"]


def run(*command, root) -> int:
    return main([*command, "--results", str(root), "--data", str(root / "none")])


@pytest.mark.parametrize("name", SHARED)
def test_a_folder_that_is_a_link_is_refused_by_every_command(store, outside, capsys, name):
    if (store.root / name).exists():
        shutil.rmtree(store.root / name)
    (store.root / name).symlink_to(outside)
    for command in (
        ["table", "table1"], ["doctor", "--repair"], ["list", "runs"], ["figure", "dots"], ["report"],
        ["run", "table1", "--profile", "demo"], ["worker", "--idle", "0"],
    ):  # fmt: skip
        assert run(*command, root=store.root) == 2
        assert f"{store.root / name} is a link, which is not followed" in capsys.readouterr().err


def test_the_results_folder_itself_may_be_a_link(store, tmp_path):
    (tmp_path / "short").symlink_to(store.root)
    linked = RunStore(tmp_path / "short")
    assert list(linked.records()) == list(store.records())
    assert linked.claim("x" * 16) is not None
    assert examine(linked) == examine(store)


@pytest.mark.parametrize("name", ["leases", "queue", "studies", "corpora", "quarantine", "runs"])
def test_a_folder_that_becomes_a_link_is_not_written_through(store, outside, name):
    study = load_studies(store)[0]
    given = spec(99)
    shutil.rmtree(store.root / name, ignore_errors=True)
    (store.root / name).symlink_to(outside)
    write = {
        "leases": lambda: store.claim("a" * 16),
        "queue": lambda: queue.publish(store, [queue.Entry(given, 0, "x:y", "data")]),
        "studies": lambda: save_study(store, study),
        "corpora": lambda: remember_corpus(store, manifest()),
        "quarantine": lambda: repair(store, [dataclasses.replace(examine_one(store), action="quarantine")]),
        "runs": lambda: store.put_failed(given, "x"),
    }[name]
    with pytest.raises(UserError, match="is a link, which is not followed"):
        write()
    if name == "studies":
        with pytest.raises(UserError, match="is a link"):
            write_ledger(store, study, [0.1, 0.2])


def examine_one(store):
    record = next(store.records())
    (store.folder(record.id) / "record.json").write_text("{")
    return next(finding for finding in examine(store) if finding.path == f"runs/{record.id}")


def test_a_run_that_is_a_link_is_not_done_and_is_set_aside(store, tmp_path):
    record = next(store.records())
    shutil.move(store.folder(record.id), tmp_path / "elsewhere")
    old = tmp_path / "elsewhere" / ".record.json.tmp"
    old.write_text("")
    os.utime(old, (0, 0))
    store.folder(record.id).symlink_to(tmp_path / "elsewhere")
    assert store.get(record.id) is None
    assert "is a link" in store.damage(record.id).reason
    found = [finding for finding in examine(store) if finding.path.startswith(f"runs/{record.id}")]
    assert [(finding.kind, finding.action) for finding in found] == [("damaged", "quarantine")]
    repair(store, found)
    assert (store.root / "quarantine" / "runs" / record.id).is_symlink()
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == [
        ".record.json.tmp", "predictions.npz", "record.json",
    ]  # fmt: skip


def as_link(path):
    path.symlink_to("/dev/zero")


def as_pipe(path):
    os.mkfifo(path)


def as_folder(path):
    path.mkdir()


def as_giant(path):
    with open(path, "wb") as handle:
        handle.truncate(LARGEST[path.suffix] + 1)


@pytest.mark.parametrize("harm", [as_link, as_pipe, as_folder, as_giant])
@pytest.mark.parametrize("name", ["record.json", "predictions.npz"])
def test_a_file_of_a_run_that_is_none_is_damage(store, harm, name):
    record = next(store.records())
    (store.folder(record.id) / name).unlink()
    harm(store.folder(record.id) / name)
    if name == "record.json":
        assert store.get(record.id) is None
        assert store.damage(record.id) is not None
    else:
        with pytest.raises(UserError, match="Cannot read"):
            store.predictions(record.id)
    found = [finding for finding in examine(store) if finding.path.startswith(f"runs/{record.id}")]
    assert [finding.action for finding in found] == ["quarantine"]
    repair(store, found)
    assert not store.folder(record.id).exists()


@pytest.mark.parametrize("harm", [as_link, as_pipe, as_folder, as_giant])
def test_a_study_that_is_none_is_skipped_and_set_aside(store, harm):
    path = next((store.root / "studies").glob("*.json"))
    path.unlink()
    harm(path)
    assert load_studies(store) == []
    (found,) = (finding for finding in examine(store) if finding.kind == "study")
    assert repair(store, [found]) == []
    assert not os.path.lexists(path)


@pytest.mark.parametrize("harm", [as_link, as_pipe, as_giant])
def test_journals_manifests_leases_and_entries_that_are_none(store, harm):
    journal = next((store.root / "studies").glob("*.json")).with_suffix(".journal")
    corpus = store.root / "corpora" / "mosi" / "manifest.json"
    lease, entry = store.root / "leases" / f"{'a' * 16}.0.json", store.root / "queue" / f"{'b' * 16}.json"
    corpus.unlink()
    for path in (journal, corpus, lease, entry):
        path.parent.mkdir(exist_ok=True)
        harm(path)
    assert known_manifest("mosi", store.root / "none", store.root) is None
    assert store.claim("a" * 16) is None  # as one that is being written; it is stale when it is old
    assert queue.read(store, "b" * 16) is None
    named = {finding.path for finding in examine(store)}
    assert {path.relative_to(store.root).as_posix() for path in (journal, corpus, entry)} <= named
    os.utime(lease, (0, 0), follow_symlinks=False)
    assert store.claim("a" * 16) is not None


def test_a_corpus_of_a_record_leads_nowhere_else(store, outside, monkeypatch):
    """With --log tensorboard its name is that of a folder; records come from others."""
    given = spec(8, corpus="../../outside")
    store.put(RunRecord(given, "done", curve=[{"epoch": 1, "train_loss": 1.0, "valid_loss": 1.0}]), {})
    monkeypatch.setattr("studies.engines.tensorboard.events", lambda epochs: b"")
    with Follower(store, lambda spec: "EF-LSTM-GloVe"):
        pass
    for path in ("../outside", "runs/../../outside"):
        with pytest.raises(Unfit, match="leads out of it"):
            make_folder(store.root, store.root / path)


def test_nothing_is_trained_whose_folder_is_a_link(store, outside, tmp_path):
    """Its weights would be written before its record is refused."""
    given = fake(7)
    store.folder(given.id).symlink_to(outside)
    with pytest.raises(UserError, match="is a link, which is not followed"):
        attempt(given, store, EXECUTE, str(tmp_path), "cpu")
    assert executed(tmp_path) == []


def test_a_log_that_is_a_pipe_or_in_a_linked_folder_is_left_alone(tmp_path, outside):
    os.mkfifo(tmp_path / "log.txt")
    (tmp_path / "run").symlink_to(outside)
    for log in (tmp_path / "log.txt", tmp_path / "run" / "log.txt"):
        _append(log, "traceback")
        _redirect_output(log)


@pytest.mark.parametrize("file", ["journal", "manifest", "record", "predictions"])
def test_nothing_is_exported_through_a_link(store, outside, tmp_path, file):
    record = next(store.records())
    journal = next((store.root / "studies").glob("*.json")).with_suffix(".journal")
    path = {
        "journal": journal,
        "manifest": store.root / "corpora" / "mosi" / "manifest.json",
        "record": store.folder(record.id) / "record.json",
        "predictions": store.folder(record.id) / "predictions.npz",
    }[file]
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "secret.json")
    with pytest.raises(UserError, match=r"is a link|Cannot read"):
        export(store, tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


def test_predictions_that_unpack_to_gigabytes_are_refused_unread(store, monkeypatch):
    record = next(store.records())
    path = store.folder(record.id) / "predictions.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test_prediction.npy", bytes(2**21))
    digest = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    raw = json.loads((path.parent / "record.json").read_text())
    (path.parent / "record.json").write_text(json.dumps({**raw, "predictions": digest}))
    monkeypatch.setattr("studies.store.arrays.LARGEST_ARRAYS", 2**20)
    with pytest.raises(UserError, match="it unpacks to 2097152 bytes"):
        store.predictions(record.id)
    assert any(finding.kind == "predictions" for finding in examine(store))


def test_an_archive_with_a_giant_record_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    store = RunStore(tmp_path / "a")
    arrays = {"test_prediction": np.zeros(3)}
    store.put(RunRecord(spec(1), "done", metrics={"test": {"paper": {"mae": 1.0}}}, notes=["x" * 2**20]), arrays)
    export(store, tmp_path / "x.tar.gz")
    monkeypatch.setitem(LARGEST, ".json", 2**20)
    with pytest.raises(UserError, match=r"it declares 'runs/.*/record\.json' of \d+ bytes, beyond what is unpacked"):
        import_results(tmp_path / "x.tar.gz", RunStore(tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    assert len(npz_bytes(arrays)) < LARGEST[".npz"]


@pytest.mark.parametrize("ttl", ["1e400", "9" * 400, "true", '"x"', "-1", "null"])
def test_a_lease_with_any_ttl_ends(tmp_path, ttl):
    path = tmp_path / "a.0.json"
    path.write_text(f'{{"machine": "another", "pid": 1, "start": 1, "ttl": {ttl}}}')
    os.utime(path, (1e9, 1e9))
    assert leases.claim(tmp_path, "a") is not None
